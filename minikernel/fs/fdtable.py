"""Descriptors.

Linux: struct files_struct, struct fdtable (include/linux/fdtable.h), fs/file.c.
"""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_PATH
from minikernel.fs.file import OpenFile
from minikernel.mm.kmem_cache import KmemCache

NR_OPEN: Final = 1024 * 1024  # sysctl_nr_open


class FdTable:
    """Descriptor -> open file: struct files_struct.  *users* counts the tasks that share it (CLONE_FILES).

    Invariants:
        - an entry holds one reference of its file;
        - every descriptor below ``_lowest_free`` is taken.
    """

    __slots__ = ("_lowest_free", "address", "cache", "cloexec", "fds", "users")

    def __init__(self, cache: KmemCache | None = None, address: int = 0) -> None:
        """*cache* is where its object comes from (files_cache); *address*: it was taken already.

        Errors:
            ENOMEM: there is no object.
        """
        self.cache = cache
        self.address = cache.alloc() if cache is not None and not address else address
        self.fds: list[OpenFile | None] = []
        self.cloexec: set[int] = set()
        self.users = 1
        self._lowest_free = 0

    def get(self, fd: int) -> OpenFile:
        """The file of *fd*.  Errors: EBADF, also for one opened with O_PATH (fget)."""
        if 0 <= fd < len(self.fds):
            file = self.fds[fd]
            if file is not None and not file.flags & O_PATH:
                return file
        raise LinuxError(Errno.EBADF, f"descriptor {fd}")

    def get_raw(self, fd: int) -> OpenFile:
        """The file of *fd*, O_PATH or not (fget_raw).  Errors: EBADF."""
        if 0 <= fd < len(self.fds):
            file = self.fds[fd]
            if file is not None:
                return file
        raise LinuxError(Errno.EBADF, f"descriptor {fd}")

    def open_fds(self) -> list[int]:
        """The descriptors in use, ascending."""
        return [fd for fd, file in enumerate(self.fds) if file is not None]

    def find_free(self, limit: int, minimum: int = 0) -> int:
        """The lowest free descriptor from *minimum* on (alloc_fd).  Errors: EMFILE at *limit* (RLIMIT_NOFILE)."""
        fds = self.fds
        fd = max(minimum, self._lowest_free)
        while fd < len(fds) and fds[fd] is not None:
            fd += 1
        if fd >= limit:
            raise LinuxError(Errno.EMFILE, f"RLIMIT_NOFILE is {limit}")
        if minimum <= self._lowest_free:
            self._lowest_free = fd
        return fd

    def install(self, fd: int, file: OpenFile, *, cloexec: bool) -> None:
        """Put *file*, whose reference is handed over, at *fd*, which is free (fd_install)."""
        if fd >= len(self.fds):
            self.fds.extend([None] * (fd + 1 - len(self.fds)))
        assert self.fds[fd] is None, f"install: descriptor {fd} is taken"
        self.fds[fd] = file
        if cloexec:
            self.cloexec.add(fd)
        else:
            self.cloexec.discard(fd)

    def add(self, file: OpenFile, limit: int, *, cloexec: bool = False, minimum: int = 0) -> int:
        """Put *file* at the lowest free descriptor.  On EMFILE the file is released."""
        try:
            fd = self.find_free(limit, minimum)
        except LinuxError:
            file.put_file()
            raise
        self.install(fd, file, cloexec=cloexec)
        return fd

    def replace(self, fd: int, file: OpenFile, *, cloexec: bool) -> None:
        """Put a new reference of *file* at *fd*, closing what is there (do_dup2)."""
        file.get_file()
        if 0 <= fd < len(self.fds) and self.fds[fd] is not None:
            self.close(fd)
        self.install(fd, file, cloexec=cloexec)

    def close(self, fd: int) -> None:
        """Close *fd*: its POSIX locks go, and with the last reference the file.  Errors: EBADF."""
        if not 0 <= fd < len(self.fds):
            raise LinuxError(Errno.EBADF, f"descriptor {fd}")
        file = self.fds[fd]
        if file is None:
            raise LinuxError(Errno.EBADF, f"descriptor {fd}")
        self.fds[fd] = None
        self._lowest_free = min(self._lowest_free, fd)
        self.cloexec.discard(fd)
        if file.inode.locks is not None:
            file.inode.locks.drop_owner(self)
        file.put_file()

    def copy(self, address: int = 0) -> "FdTable":
        """The same descriptors in a table of their own (dup_fd).

        Errors:
            ENOMEM: no object for it, unless *address* is one.
        """
        other = FdTable(self.cache, address)
        other.fds = self.fds[:]
        for file in other.fds:
            if file is not None:
                file.get_file()
        other.cloexec = set(self.cloexec)
        other._lowest_free = self._lowest_free
        return other

    def close_on_exec(self) -> None:
        """What execve closes (do_close_on_exec)."""
        for fd in sorted(self.cloexec):
            self.close(fd)

    def put(self) -> None:
        """One task fewer uses the table; the last one closes everything (put_files_struct)."""
        self.users -= 1
        if not self.users:
            self.close_all()
            if self.cache is not None:
                self.cache.free(self.address)

    def close_all(self) -> None:
        """Close every descriptor, in ascending order."""
        for fd in self.open_fds():
            self.close(fd)
