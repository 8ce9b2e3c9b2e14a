"""Files as memory management sees them: where pages come from, and what mmap asks of an open file.

Linux: struct address_space_operations, struct file; the files behind shared memory are mm/shmem.c's.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from minikernel.mm.filemap import PageCache


class BackingStore(Protocol):
    """Where a page cache's pages come from and go to.  *index* is in pages."""

    def read_page(self, index: int) -> bytes:
        """Up to PAGE_SIZE bytes; what is missing reads as zeroes.

        Errors:
            EIO: the host cannot read it.
        """
        ...

    def write_page(self, index: int, data: bytes) -> None:
        """Store *data*, a page or, at the end of the file, less.

        Errors:
            EIO, ENOSPC: the host cannot write it.
        """
        ...


class MappedFile(Protocol):
    """An open file as mmap sees it: struct file.

    *mapping* is None for what cannot be mapped (ENODEV).  mm calls get_file() once for each mapping that refers to
    the file and put_file() when that mapping goes: the file lives at least as long as its mappings.
    """

    @property
    def mapping(self) -> "PageCache | None":
        """Its pages."""
        ...

    @property
    def path(self) -> bytes:
        """As /proc/PID/maps shows it."""
        ...

    @property
    def ino(self) -> int:
        """Inode number."""
        ...

    @property
    def dev(self) -> int:
        """Device number, st_dev."""
        ...

    @property
    def readable(self) -> bool:
        """FMODE_READ: opened for reading; no mapping without it."""
        ...

    @property
    def writable(self) -> bool:
        """FMODE_WRITE: opened for writing; a shared mapping may become writable."""
        ...

    def get_file(self) -> None:
        """One more mapping refers to it."""
        ...

    def put_file(self) -> None:
        """One mapping less refers to it."""
        ...


class ShmemFile:
    """The file behind a shared anonymous mapping: mm/shmem.c, shmem_zero_setup.  Its pages go with its last mapping."""

    __slots__ = ("dev", "ino", "mapping", "path", "readable", "users", "writable")

    def __init__(self, mapping: "PageCache", *, path: bytes = b"/dev/zero (deleted)", ino: int = 0) -> None:
        self.mapping = mapping
        self.path = path
        self.ino = ino
        self.dev = 1  # the kernel's own tmpfs mount
        self.readable = self.writable = True
        self.users = 0

    def get_file(self) -> None:
        """One more mapping."""
        self.users += 1

    def put_file(self) -> None:
        """One mapping less; the last one frees the pages."""
        self.users -= 1
        if not self.users:
            self.mapping.destroy()


class CountedFile(ShmemFile, ABC):
    """A file that is told of each mapping of it: struct vm_operations_struct with open and close.

    Its mappings carry VM_COUNTED, and no two of them ever become one: that would be an end nobody was told of.
    """

    __slots__ = ()

    @abstractmethod
    def vm_open(self) -> None:
        """A mapping came: mmap, fork, a split."""

    @abstractmethod
    def vm_close(self) -> None:
        """A mapping went; it is in no list any more."""
