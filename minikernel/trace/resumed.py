"""The host of a run that was saved and goes on: the record up to there, then the host that it is on."""

import os
from collections.abc import Callable
from typing import Any, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.anon import DetachedFs
from minikernel.fs.file import WouldBlock
from minikernel.fs.hostdoor import HostDoor, HostNode, from_host
from minikernel.fs.hostfs import Door
from minikernel.fs.hostio import HostInode
from minikernel.fs.outside import Stream
from minikernel.trace.doors import Contents, RecordedDoor
from minikernel.trace.inputs import Script
from minikernel.trace.outside import RecordedOutside
from minikernel.trace.taps import BellPlayer, StreamPlayer

_REAL_KINDS: Final = frozenset({"pipe", "socket", "terminal", "other"})


class ResumedOutside(RecordedOutside):
    """*is_live*: the program is behind what was recorded."""

    def __init__(self, *arguments: Any, is_live: Callable[[], bool], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.is_live = is_live
        self.bell = _Bell(self._script, is_live)

    def tree(self, root: bytes) -> Door:
        """A recorded door, and the host's behind it."""
        del root  # it is in the record
        assert self._contents is not None, "ResumedOutside: a record without contents"
        self._doors += 1
        return ResumedDoor(self._doors - 1, self._answers or [], self._contents, self.missing)

    def streams(self, sb: DetachedFs) -> dict[int, Stream]:
        """Streams like the recorded ones, which are ours when the record is over."""
        found = super().streams(sb)
        for fd, stream in found.items():
            stream.inode.tap = _Stream(self._script, fd, stream.inode, self.is_live)
        return found

    def _descriptor(self, entry: dict[str, Any]) -> int:
        """Our own descriptor, where the recorded one was something that is waited for."""
        if entry["kind"] not in _REAL_KINDS:
            return super()._descriptor(entry)
        fd = os.dup(0 if entry["flags"] & os.O_ACCMODE == os.O_RDONLY else 1)
        self._fds.append(fd)
        return fd


class _Bell(BellPlayer):
    """Asks the host when the record is over."""

    def __init__(self, script: Script, is_live: Callable[[], bool]) -> None:
        super().__init__(script)
        self._is_live = is_live

    def poll(self, host: Callable[[], list[tuple[int, int]]], *, idle: bool) -> list[tuple[int, int]]:
        """What was noted of this call, or the host's answer."""
        return host() if self._is_live() else super().poll(host, idle=idle)


class _Stream(StreamPlayer):
    """One of the guest's streams: the record, then our own descriptor of the same number."""

    def __init__(self, script: Script, fd: int, inode: HostInode, is_live: Callable[[], bool]) -> None:
        super().__init__(script, fd, inode, None, real=False)
        self._is_live = is_live
        self._number = fd

    def read(self, count: int, host: Callable[[int], bytes]) -> bytes:
        """The record, or what the host has."""
        return host(count) if self._is_live() else super().read(count, host)

    def write(self, data: bytes, host: Callable[[bytes], int]) -> int:
        """It was shown when it was recorded; now it is ours."""
        if not self._is_live():
            return super().write(data, host)
        try:
            return self._inode.ask("write", lambda: os.write(self._number, data))
        except BlockingIOError:
            raise WouldBlock(self._inode.room, "the host is not ready") from None
        except OSError as error:
            raise from_host(error) from None

    def poll(self, host: Callable[[], int]) -> int:
        """What was noted, or what the host says."""
        return host() if self._is_live() else super().poll(host)

    def ioctl(self, request: int, data: bytes | int, host: Callable[[int, bytes | int], bytes]) -> bytes:
        """What was noted, or what the host says."""
        return host(request, data) if self._is_live() else super().ioctl(request, data, host)


class ResumedDoor(RecordedDoor):
    """A recorded tree; what nobody asked when it was recorded is looked for in the host's tree of the same name."""

    __slots__ = ("_live", "_nodes", "_root")

    def __init__(self, number: int, answers: list[list[Any]], contents: Contents, missing: list[bytes]) -> None:
        super().__init__(number, answers, contents, missing)
        roots = [answer for door, question, _, _, answer in answers if (door, question) == (number, "tree")]
        self._root = os.fsencode(roots[0]) if roots else b"/"
        self._live: HostDoor | None = None
        self._nodes: dict[bytes, HostNode] = {}

    def _knows(self, question: str, path: bytes) -> bool:
        return (question, path) in self._answers

    def _host(self) -> HostDoor:
        """The host's tree.  Errors: ENOENT, there is none."""
        if self._live is None:
            try:
                self._live = HostDoor(self._root)
            except OSError:
                raise LinuxError(Errno.ENOENT, "this host has no such directory") from None
            self._nodes[b""] = self._live.root
        return self._live

    def _node(self, node: HostNode) -> HostNode:
        """What the host has at the path of *node*.  Errors: ENOENT."""
        live, path = self._host(), node.path()
        known = self._nodes.get(path)
        if known is None:
            assert node.parent is not None, "ResumedDoor._node: the root is known"
            parent = self._node(node.parent)
            st = live.lstat(parent, node.name)
            if st is None:
                raise LinuxError(Errno.ENOENT, "this host has no such file")
            known = self._nodes[path] = HostNode(parent, node.name, st.st_dev, st.st_ino)
        return known

    def lstat(self, parent: HostNode, name: bytes) -> os.stat_result | None:
        """What entry *name* of *parent* was, or is."""
        if self._knows("stat", parent.path() + b"/" + name):
            return super().lstat(parent, name)
        try:
            return self._host().lstat(self._node(parent), name)
        except LinuxError as error:
            if error.errno is Errno.ENOENT:
                return None
            raise

    def readlink(self, parent: HostNode, name: bytes) -> bytes:
        """The text of symbolic link *name*."""
        if self._knows("link", parent.path() + b"/" + name):
            return super().readlink(parent, name)
        return self._host().readlink(self._node(parent), name)

    def entries(self, node: HostNode) -> list[tuple[bytes, int, int]]:
        """The entries of directory *node*."""
        if self._knows("list", node.path()):
            return super().entries(node)
        return self._host().entries(self._node(node))

    def pread(self, node: HostNode, count: int, offset: int) -> bytes:
        """Up to *count* bytes of regular file *node* at *offset*."""
        if self._knows("file", node.path()):
            return super().pread(node, count, offset)
        return self._host().pread(self._node(node), count, offset)

    def close(self) -> None:
        """Let go of the host's tree."""
        if self._live is not None:
            self._live.close()
            self._live = None
