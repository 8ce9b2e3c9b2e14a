"""The host's files as a run saw them: directory entries, metadata, links and contents, kept and shown again.

``RecordingDoor`` asks the host and writes down what is new; ``RecordedDoor`` answers from what was written.  An
answer is ``[door, question, path, call, answer]``: the same question about the same path may be answered otherwise
later, and ``call`` says from which time on.
"""

import os
from typing import Any, Final, Protocol

from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.hostdoor import HostDoor, HostNode
from minikernel.trace.codec import TraceError

STAT_FIELDS: Final = (
    *("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size"),
    *("st_atime_ns", "st_mtime_ns", "st_ctime_ns", "st_blocks", "st_blksize", "st_rdev"),
)
_STATVFS_FIELDS: Final = (
    *("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_flag"),
    *("f_namemax", "f_fsid"),
)
_ERROR: Final = "errno"
_NOTHING: Final = object()


def stat_to_json(st: os.stat_result) -> list[int]:
    """The numbers of STAT_FIELDS."""
    return [getattr(st, name) for name in STAT_FIELDS]


def stat_from_json(value: Any) -> os.stat_result:
    """What ``stat_to_json`` made.

    Raises:
        TraceError: it did not.
    """
    if not isinstance(value, list) or len(value) != len(STAT_FIELDS) or not all(type(n) is int for n in value):
        raise TraceError("what the trace says about a file is damaged")
    known = dict(zip(STAT_FIELDS, value, strict=True))
    seconds = [known[f"st_{which}time_ns"] // 10**9 for which in "amc"]
    try:
        return os.stat_result((*(known[name] for name in STAT_FIELDS[:2]), *value[2:7], *seconds), known)
    except (TypeError, ValueError, OverflowError):
        raise TraceError("what the trace says about a file is damaged") from None


def is_host_text(text: str) -> bool:
    """Whether *text* is what os.fsdecode makes of a name of the host's."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def is_answer(value: Any) -> bool:
    """Whether *value* is ``[door, question, path, call, answer]``, and the answer one that the question can have."""
    if not isinstance(value, list) or [type(part) for part in value[:4]] != [int, str, str, int] or len(value) != 5:
        return False
    question, answer = value[1], value[4]
    if not is_host_text(value[2]):
        return False
    if isinstance(answer, dict) and set(answer) == {_ERROR}:
        return answer[_ERROR] in Errno._value2member_map_
    numbers = isinstance(answer, list) and all(type(number) is int for number in answer)
    match question:
        case "root" | "stat":
            return (numbers and len(answer) == len(STAT_FIELDS)) or (answer is None and question == "stat")
        case "link" | "tree":
            return isinstance(answer, str) and is_host_text(answer)
        case "list":
            return _is_table(answer, [str, int, int])
        case "mounts":
            return _is_table(answer, [int, str])
        case "statvfs":
            return numbers and len(answer) == len(_STATVFS_FIELDS)
        case "file" | "stream":
            return isinstance(answer, dict) and _is_content(answer)
        case "bind":
            parts = answer if isinstance(answer, list) else []
            names = all(is_host_text(part) for part in parts if isinstance(part, str))
            return names and [type(part) for part in parts] in ([str, str], [str, type(None)])
        case "swap":
            return isinstance(answer, dict) and {name: type(part) for name, part in answer.items()} == {
                "pages": int,
                "header": str,
            }
        case _:
            return False


def other_answers(first: list[list[Any]], second: list[list[Any]]) -> list[str]:
    """What the host said in one run and not in another, in words: about which path, and what."""
    ours, theirs = ({tuple(answer[:4]): answer[4] for answer in answers} for answers in (first, second))
    words = []
    for key in sorted(ours.keys() & theirs.keys()):
        if ours[key] != theirs[key]:
            _, question, path, _ = key
            words.append(f"{path or '/'}: {_other_words(question, ours[key], theirs[key])}")
    return words


def _other_words(question: str, ours: Any, theirs: Any) -> str:
    if question in {"stat", "root"} and isinstance(ours, list) and isinstance(theirs, list):
        pairs = zip(STAT_FIELDS, ours, theirs, strict=True)
        return ", ".join(f"{name} {a} and {b}" for name, a, b in pairs if a != b)
    if question == "file" and isinstance(ours, dict) and isinstance(theirs, dict):
        return f"other contents, {ours.get('size')} and {theirs.get('size')} bytes"
    return f"another answer ({question})"


def _is_table(value: Any, row: list[type]) -> bool:
    return isinstance(value, list) and all(
        isinstance(entry, list)
        and [type(part) for part in entry] == row
        and all(is_host_text(part) for part in entry if isinstance(part, str))
        for entry in value
    )


def _is_content(value: dict[str, Any]) -> bool:
    kinds = {name: type(part) for name, part in value.items()}
    return kinds in ({"sha256": str, "size": int}, {"sha256": str, "size": int, "content": int})


class DoorLog:
    """What the host said about its files, as far as it was new."""

    def __init__(self) -> None:
        self.answers: list[list[Any]] = []  # not yet written to the trace
        self._calls: dict[tuple[int, str, bytes], int] = {}
        self._last: dict[tuple[int, str, bytes], Any] = {}

    def note(self, door: int, question: str, path: bytes, answer: Any) -> None:
        """*answer* was heard."""
        key = door, question, path
        self._calls[key] = call = self._calls.get(key, 0) + 1
        if self._last.get(key, _NOTHING) != answer:
            self._last[key] = answer
            self.answers.append([door, question, os.fsdecode(path), call, answer])


class RecordingDoor(HostDoor):
    """The host's door number *number*, overheard."""

    __slots__ = ("_log", "number")

    def __init__(self, root: bytes, number: int, log: DoorLog) -> None:
        super().__init__(root)
        self.number = number
        self._log = log

    def _note(self, question: str, path: bytes, answer: Any) -> None:
        self._log.note(self.number, question, path, answer)

    def lstat(self, parent: HostNode, name: bytes) -> os.stat_result | None:
        """What entry *name* of *parent* is; None if there is none."""
        path = parent.path() + b"/" + name
        try:
            st = super().lstat(parent, name)
        except LinuxError as error:
            self._note("stat", path, {_ERROR: int(error.errno)})
            raise
        self._note("stat", path, None if st is None else stat_to_json(st))
        return st

    def root_stat(self) -> os.stat_result:
        """What the root is."""
        st = super().root_stat()
        self._note("root", b"", stat_to_json(st))
        return st

    def readlink(self, parent: HostNode, name: bytes) -> bytes:
        """The text of symbolic link *name*."""
        path = parent.path() + b"/" + name
        try:
            text = super().readlink(parent, name)
        except LinuxError as error:
            self._note("link", path, {_ERROR: int(error.errno)})
            raise
        self._note("link", path, os.fsdecode(text))
        return text

    def entries(self, node: HostNode) -> list[tuple[bytes, int, int]]:
        """Name, inode number and st_mode's type of the entries of directory *node*."""
        try:
            found = super().entries(node)
        except LinuxError as error:
            self._note("list", node.path(), {_ERROR: int(error.errno)})
            raise
        self._note("list", node.path(), [[os.fsdecode(name), ino, kind] for name, ino, kind in found])
        return found

    def pread(self, node: HostNode, count: int, offset: int) -> bytes:
        """Up to *count* bytes of regular file *node* at *offset*.  Errors: EIO."""
        try:
            return super().pread(node, count, offset)
        except LinuxError as error:
            self._note("read", node.path(), {_ERROR: int(error.errno)})
            raise

    def statvfs(self) -> os.statvfs_result:
        """Sizes of the file system that holds the root."""
        found = super().statvfs()
        self._note("statvfs", b"", [getattr(found, name) for name in _STATVFS_FIELDS])
        return found

    def mounts(self) -> list[tuple[int, bytes]]:
        """Device number and type of every file system that the host has mounted."""
        found = super().mounts()
        self._log.note(self.number, "mounts", b"", [[dev, os.fsdecode(fstype)] for dev, fstype in found])
        return found


class Contents(Protocol):
    """Where the bytes of files come from, when the host that had them is not there."""

    def read(self, door: int, path: bytes, known: dict[str, Any], count: int, offset: int) -> bytes:
        """Up to *count* bytes at *offset* of the file *path* behind *door*; *known*: its size, hash and number."""
        ...


class RecordedDoor:
    """Answers as the host's door number *number* did.

    What nobody asked in the recorded run is not there: ENOENT, and its path goes into *missing*.
    """

    __slots__ = ("_answers", "_calls", "_contents", "_missing", "number", "opened", "root")

    def __init__(self, number: int, answers: list[list[Any]], contents: Contents, missing: list[bytes]) -> None:
        """Raises TraceError: the answers are damaged."""
        self.number = number
        self._answers: dict[tuple[str, bytes], list[tuple[int, Any]]] = {}
        self._calls: dict[tuple[str, bytes], int] = {}
        self._contents = contents
        self._missing = missing
        for door, question, path, call, answer in answers:
            if door == number:
                self._answers.setdefault((question, os.fsencode(path)), []).append((call, answer))
        st = self.root_stat()
        self._calls.clear()
        self.root = HostNode(None, b"", st.st_dev, st.st_ino)
        self.opened: dict[HostNode, None] = {}

    def _ask(self, question: str, path: bytes) -> Any:
        """The answer that this call was given.  Errors: what the host's was; ENOENT: it was not asked."""
        key = question, path
        answers = self._answers.get(key)
        if answers is None:
            self._missing.append(path)
            raise LinuxError(Errno.ENOENT, "not in the trace")
        self._calls[key] = call = self._calls.get(key, 0) + 1
        while len(answers) > 1 and answers[1][0] <= call:
            answers.pop(0)
        answer = answers[0][1]
        if isinstance(answer, dict) and _ERROR in answer:
            raise LinuxError(Errno(answer[_ERROR]), "as it was recorded")
        return answer

    def root_stat(self) -> os.stat_result:
        """What the root was."""
        try:
            return stat_from_json(self._ask("root", b""))
        except LinuxError:
            raise TraceError(f"the trace says nothing about directory {self.number} of the host") from None

    def lstat(self, parent: HostNode, name: bytes) -> os.stat_result | None:
        """What entry *name* of *parent* was; None if there was none."""
        answer = self._ask("stat", parent.path() + b"/" + name)
        return None if answer is None else stat_from_json(answer)

    def readlink(self, parent: HostNode, name: bytes) -> bytes:
        """The text of symbolic link *name*."""
        return os.fsencode(self._ask("link", parent.path() + b"/" + name))

    def entries(self, node: HostNode) -> list[tuple[bytes, int, int]]:
        """Name, inode number and st_mode's type of the entries of directory *node*."""
        return [(os.fsencode(name), ino, kind) for name, ino, kind in self._ask("list", node.path())]

    def pread(self, node: HostNode, count: int, offset: int) -> bytes:
        """Up to *count* bytes of regular file *node* at *offset*."""
        path = node.path()
        if ("read", path) in self._answers:
            self._ask("read", path)
        self.opened[node] = None
        known = self._ask("file", path)
        return self._contents.read(self.number, path, known, count, offset)

    def statvfs(self) -> os.statvfs_result:
        """Sizes of the file system that held the root."""
        *numbers, fsid = self._ask("statvfs", b"")
        return os.statvfs_result((*numbers, fsid))

    def mounts(self) -> list[tuple[int, bytes]]:
        """Device number and type of every file system that the host had mounted."""
        return [(dev, os.fsencode(fstype)) for dev, fstype in self._ask("mounts", b"")]

    def close(self) -> None:
        """Nothing is open."""
