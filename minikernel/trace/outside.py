"""The host of a recorded run: the real one, overheard, or its record in its place (minikernel/fs/outside.py)."""

import base64
import os
import stat
from collections.abc import Callable
from typing import Any, Final

from minikernel.clock import VIRTUAL_EPOCH_NS
from minikernel.config import Config
from minikernel.fs.anon import DetachedFs
from minikernel.fs.hostdoor import HostDoor
from minikernel.fs.hostfs import Door
from minikernel.fs.hostio import HostInode
from minikernel.fs.outside import CopyableOutside, Outside, Stream
from minikernel.fs.swapstore import HostSwapStore, PrivateSwapStore
from minikernel.trace.codec import TraceError
from minikernel.trace.contents import hash_of
from minikernel.trace.doors import Contents, DoorLog, RecordedDoor, RecordingDoor, stat_from_json, stat_to_json
from minikernel.trace.inputs import Entry, Script
from minikernel.trace.taps import (
    BellPlayer,
    BellRecorder,
    Output,
    StreamPlayer,
    StreamRecorder,
    TimePlayer,
    TimeRecorder,
)

NO_DOOR: Final = -1
"""In place of a door's number: what was asked of the host itself."""

_FIRST_INO: Final = 100
_DEVICES: Final = frozenset({"/dev/null", "/dev/zero", "/dev/full"})
_PAGE: Final = 4096


class RecordingOutside(Outside):
    """The host, and a log of all it says.

    Attributes:
        doors: the trees that the guest can see.
        log: what they said.
        inputs: what came in otherwise.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self._config = config
        self.log = DoorLog()
        self.doors: list[RecordingDoor] = []
        self.inputs: list[Entry] = []
        self.time = TimeRecorder(self.inputs, self.time)
        self.bell = self.bell_recorder = BellRecorder(self.inputs)
        self.found: dict[int, Stream] = {}

    def tree(self, root: bytes) -> Door:
        """A door that is overheard."""
        door = RecordingDoor(root, len(self.doors), self.log)
        self.doors.append(door)
        self.log.note(door.number, "tree", b"", os.fsdecode(os.path.realpath(root)))
        return door

    def locate(self, path: bytes) -> tuple[bytes, bytes | None]:
        """Where --bind's *path* leads to."""
        directory, name = super().locate(path)
        answer = [os.fsdecode(directory), None if name is None else os.fsdecode(name)]
        self.log.note(NO_DOOR, "bind", path, answer)
        return directory, name

    def swap_file(self, path: bytes) -> HostSwapStore | PrivateSwapStore:
        """A swap file, whose size and first page are noted: nothing else of it is looked at before it is written."""
        store = super().swap_file(path)
        header = base64.b85encode(store.read_page(0)).decode()
        self.log.note(NO_DOOR, "swap", path, {"pages": store.nr_pages, "header": header})
        return store

    def streams(self, sb: DetachedFs) -> dict[int, Stream]:
        """The standard streams; what they say about themselves stays the same from now on."""
        self.found = super().streams(sb)
        pin_streams(sb.dev, self.found, self._config.uid, self._config.gid)
        for fd, stream in self.found.items():
            if stream.inode.tap is None:  # a terminal may be several of them
                stream.inode.tap = StreamRecorder(self.inputs, fd, stream.inode)
        return self.found


def pin_streams(dev: int, streams: dict[int, Stream], uid: int, gid: int) -> None:
    """What stat(2) says about *streams* does not change any more; pipes and sockets say the same in every run."""
    first: dict[tuple[int, int], int] = {}  # by what they are on the host: two descriptors may be one pipe
    for fd, stream in streams.items():
        st = os.fstat(stream.inode.host_fd)
        if stat.S_ISFIFO(st.st_mode) or stat.S_ISSOCK(st.st_mode):
            ino = _FIRST_INO + first.setdefault((st.st_dev, st.st_ino), fd)
            times = (VIRTUAL_EPOCH_NS,) * 3
            numbers = (st.st_mode, ino, dev, 1, uid, gid, 0)
            st = stat_from_json([*numbers, *times, 0, st.st_blksize, 0])
        stream.inode.pin(st)


def stream_kind(inode: HostInode) -> str:
    """What a stream is on the host."""
    kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFREG: "file", stat.S_IFCHR: "device"}
    return "terminal" if inode.is_tty else kinds.get(stat.S_IFMT(inode.mode), "other")


def streams_to_json(streams: dict[int, Stream]) -> dict[str, dict[str, Any]]:
    """What the streams are, by number: for the header."""
    found = {}
    for fd, (inode, host_fd, flags) in streams.items():
        st = inode.pinned or os.fstat(host_fd)
        entry = {
            "kind": stream_kind(inode),
            "name": os.fsdecode(inode.name()),
            "flags": flags,
            "offset": _offset(host_fd),
            "stat": stat_to_json(st),
        }
        if entry["kind"] == "file" and flags & os.O_ACCMODE == os.O_RDONLY:  # what is read is logged in any case
            entry["sha256"], entry["size"] = hash_of(host_fd)
        found[str(fd)] = entry
    return found


def _offset(fd: int) -> int:
    """Where the next byte is read or written; 0 where there is no such place."""
    try:
        return os.lseek(fd, 0, os.SEEK_CUR)
    except OSError:
        return 0


class RecordedOutside(CopyableOutside):
    """What a trace knows about its host.  *output* hears what the guest writes to its streams.

    Attributes:
        missing: paths that this run asked for and the recorded one did not.
    """

    def __init__(
        self,
        streams: dict[int, dict[str, Any]],
        script: Script,
        *,
        stdin: Callable[[dict[str, Any]], int],
        output: Output | None = None,
        answers: list[list[Any]] | None = None,
        contents: Contents | None = None,
    ) -> None:
        """*stdin* gives a descriptor of a file that was a stream; without *answers* the host's trees are real."""
        super().__init__()
        self._streams = streams
        self._script = script
        self._stdin = stdin
        self._output = output
        self._answers = answers
        self._contents = contents
        self._doors = 0
        self._fds: list[int] = []
        self.missing: list[bytes] = []
        self.time = TimePlayer(script)
        self.bell = BellPlayer(script)

    def close(self) -> None:
        """Close what is open of the host's: after the machine."""
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()

    def tree(self, root: bytes) -> Door:
        """A recorded door, in the same order as they were opened."""
        if self._answers is None:
            return super().tree(root)
        assert self._contents is not None, "RecordedOutside: answers without contents"
        self._doors += 1
        return RecordedDoor(self._doors - 1, self._answers, self._contents, self.missing)

    def writable_tree(self, root: bytes) -> HostDoor:
        """None: nobody said so this time, and the trace may be a stranger's."""
        raise TraceError(f"the program could write to the host's {os.fsdecode(root)}, so it is not run again")

    def _of_host(self, question: str, path: bytes) -> Any:
        for door, asked, where, _, answer in self._answers or ():
            if (door, asked, os.fsencode(where)) == (NO_DOOR, question, path):
                return answer
        raise TraceError(f"the trace says nothing about the host's {os.fsdecode(path)}")

    def locate(self, path: bytes) -> tuple[bytes, bytes | None]:
        """Where --bind's *path* led to."""
        if self._answers is None:
            return super().locate(path)
        directory, name = self._of_host("bind", path)
        return os.fsencode(directory), None if name is None else os.fsencode(name)

    def swap_file(self, path: bytes) -> PrivateSwapStore:
        """As large, and with the same first page; in memory, so that the machine can be copied."""
        if self._answers is None:
            return super().swap_file(path)
        known = self._of_host("swap", path)
        store = PrivateSwapStore(known["pages"] * _PAGE)
        store.write_page(0, base64.b85decode(known["header"]).ljust(_PAGE, b"\0")[:_PAGE])
        return store

    def streams(self, sb: DetachedFs) -> dict[int, Stream]:
        """Streams of the same kind as the recorded ones."""
        found: dict[int, Stream] = {}
        for fd, entry in sorted(self._streams.items()):
            st = stat_from_json(entry["stat"])
            same = [
                stream.inode
                for stream in found.values()
                if entry["kind"] == "terminal" == stream_kind(stream.inode)
                and (stream.inode.dev, stream.inode.ino) == (st.st_dev, st.st_ino)
            ]
            if same:
                found[fd] = Stream(same[0], same[0].host_fd, entry["flags"])
                continue
            host_fd = self._descriptor(entry)
            inode = HostInode(sb, host_fd)
            inode.is_tty = entry["kind"] == "terminal"
            inode.can_wait = entry["kind"] in {"pipe", "socket", "terminal"} or (
                entry["kind"] == "device" and entry["name"] not in _DEVICES
            )
            inode.pin(st)
            inode.shown_name = os.fsencode(entry["name"])
            inode.tap = StreamPlayer(self._script, fd, inode, self._output, real=entry["kind"] == "file")
            found[fd] = Stream(inode, host_fd, entry["flags"])
        return found

    def _descriptor(self, entry: dict[str, Any]) -> int:
        """A descriptor of the host that behaves like the recorded one where the record itself does not answer."""
        kind, name = entry["kind"], entry["name"]
        if kind == "file":
            fd = self._stdin(entry)
        elif kind == "device" and name in _DEVICES:
            fd = os.open(name, os.O_RDWR | os.O_CLOEXEC)
        elif kind == "socket":
            import socket

            ours, theirs = socket.socketpair()
            fd = ours.detach()
            self._fds.append(theirs.detach())
        else:  # a pipe, or what cannot be sought in like one
            ends = os.pipe2(os.O_CLOEXEC)
            reads = entry["flags"] & os.O_ACCMODE == os.O_RDONLY
            fd, other = ends if reads else ends[::-1]
            self._fds.append(other)
        self._fds.append(fd)
        return fd
