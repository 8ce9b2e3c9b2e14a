"""``vFile``: the machine's files for gdb, which so finds programs, libraries and /proc without a copy of its own.

Reading only: what would change a file is answered with EROFS.  Source: the gdb manual, "Host I/O Packets", "File-I/O
Remote Protocol Extension" (numbers of flags and errors, struct stat).
"""

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.gdb.packet import PACKET_SIZE, escaped_prefix
from minikernel.gdb.text import BadPacket, number, unhex
from minikernel.gdb.tree import OpenedFile, find, read_link

if TYPE_CHECKING:
    from minikernel.fs.namei import FsStruct
    from minikernel.gdb.stub import Stub

_MAX_FILES: Final = 256
_O_ACCMODE: Final = 3
_O_CHANGES: Final = 0x8 | 0x200 | 0x400  # APPEND CREAT TRUNC
_UNKNOWN: Final = 9999
_ERRORS: Final = {
    **{int(e): int(e) for e in (Errno.EPERM, Errno.ENOENT, Errno.EINTR, Errno.EBADF, Errno.EACCES, Errno.EFAULT)},
    **{int(e): int(e) for e in (Errno.EBUSY, Errno.EEXIST, Errno.ENODEV, Errno.ENOTDIR, Errno.EISDIR, Errno.EINVAL)},
    **{int(e): int(e) for e in (Errno.ENFILE, Errno.EMFILE, Errno.EFBIG, Errno.ENOSPC, Errno.ESPIPE, Errno.EROFS)},
    int(Errno.ENOSYS): 88,
    int(Errno.ENAMETOOLONG): 91,
}
_STAT: Final = Struct(">7I3Q3I")  # dev ino mode nlink uid gid rdev, size blksize blocks, atime mtime ctime
_MASK32: Final = 0xFFFF_FFFF
_MAX_OFFSET: Final = (1 << 63) - 1
_SECOND: Final = 1_000_000_000


class Files:
    """What one client has open, in this copy of the machine; the client's own state has the names."""

    def __init__(self) -> None:
        self._open: dict[int, OpenedFile] = {}

    def handle(self, stub: "Stub", text: bytes) -> bytes:
        """The answer to ``vFile:`` *text*."""
        operation, _, rest = text.partition(b":")
        handler = _OPERATIONS.get(operation)
        if handler is None:
            return b""
        try:
            return handler(self, stub, rest.split(b","))
        except LinuxError as error:
            return _failure(error.errno)
        except (BadPacket, ValueError):
            return _failure(Errno.EINVAL)

    def _fs(self, stub: "Stub", pid: int) -> "FsStruct":
        """The root directory of process *pid*, 0: of the current one."""
        task = stub.control.kernel.tasks.get(pid) if pid else stub.control.someone()
        if task is None or not task.has_mm:
            task = stub.control.kernel.init
        if task is None or not task.has_mm:
            raise LinuxError(Errno.ESRCH, "no process to look from")
        return task.fs

    def _file(self, stub: "Stub", text: bytes) -> OpenedFile:
        """An open file; in a copy of the machine from another time it is opened again."""
        fd = number(text)
        if fd not in stub.client.open_files:
            raise LinuxError(Errno.EBADF, "not open")
        if fd not in self._open:
            pid, name = stub.client.open_files[fd]
            self._open[fd] = OpenedFile(find(self._fs(stub, pid), name))
        return self._open[fd]

    def _op_open(self, stub: "Stub", words: list[bytes]) -> bytes:
        name, flags, _mode = words
        bits = number(flags)
        if bits & _O_ACCMODE or bits & _O_CHANGES:
            raise LinuxError(Errno.EROFS, "a debugger changes no files")
        names = stub.client.open_files
        free = next((fd for fd in range(_MAX_FILES) if fd not in names), None)
        if free is None:
            raise LinuxError(Errno.EMFILE, "too many files")
        pid = stub.client.fs_pid
        self._open[free] = OpenedFile(find(self._fs(stub, pid), unhex(name)))
        names[free] = pid, unhex(name)
        return b"F%x" % free

    def _op_close(self, stub: "Stub", words: list[bytes]) -> bytes:
        (fd,) = words
        if stub.client.open_files.pop(number(fd), None) is None:
            raise LinuxError(Errno.EBADF, "not open")
        self._open.pop(number(fd), None)
        return b"F0"

    def _op_pread(self, stub: "Stub", words: list[bytes]) -> bytes:
        fd, count, offset = words
        at = number(offset)
        if at > _MAX_OFFSET:
            raise LinuxError(Errno.EINVAL, "a negative offset")
        return _answer(self._file(stub, fd).pread(min(number(count), PACKET_SIZE), at))

    def _op_fstat(self, stub: "Stub", words: list[bytes]) -> bytes:
        (fd,) = words
        st = self._file(stub, fd).stat()
        small = (st.dev, st.ino, st.mode, st.nlink, st.uid, st.gid, st.rdev)
        times = (st.atime // _SECOND, st.mtime // _SECOND, st.ctime // _SECOND)
        fields = [value & _MASK32 for value in small]
        return _answer(_STAT.pack(*fields, st.size, 4096, st.blocks, *(value & _MASK32 for value in times)))

    def _op_readlink(self, stub: "Stub", words: list[bytes]) -> bytes:
        (name,) = words
        return _answer(read_link(find(self._fs(stub, stub.client.fs_pid), unhex(name), follow=False)))

    def _op_setfs(self, stub: "Stub", words: list[bytes]) -> bytes:
        (pid,) = words
        chosen = number(pid)
        if chosen and chosen not in stub.control.kernel.tasks:
            raise LinuxError(Errno.EINVAL, "no such process")
        stub.client.fs_pid = chosen
        return b"F0"

    def _op_change(self, _stub: "Stub", _words: list[bytes]) -> bytes:
        raise LinuxError(Errno.EROFS, "a debugger changes no files")


def _answer(data: bytes) -> bytes:
    """*data* as an attachment; what does not fit is left out, and asked for again."""
    piece, used = escaped_prefix(data, PACKET_SIZE - 32)
    return b"F%x;%b" % (used, piece)


def _failure(errno: int) -> bytes:
    return b"F-1,%x" % _ERRORS.get(int(errno), _UNKNOWN)


_OPERATIONS: Final[dict[bytes, Callable[[Files, "Stub", list[bytes]], bytes]]] = {
    b"open": Files._op_open,
    b"close": Files._op_close,
    b"pread": Files._op_pread,
    b"fstat": Files._op_fstat,
    b"readlink": Files._op_readlink,
    b"setfs": Files._op_setfs,
    b"pwrite": Files._op_change,
    b"unlink": Files._op_change,
}
