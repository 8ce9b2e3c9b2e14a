"""/proc/PID/mem and pagemap.  Linux: fs/proc/base.c (mem_rw), fs/proc/task_mmu.c (pagemap_read)."""

from typing import Final

from emu.x86 import PAGE_SHIFT, PTE_P
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import SEEK_CUR, SEEK_SET
from minikernel.abi.stat import S_IFREG
from minikernel.fs.dentry import Path
from minikernel.fs.file import OpenFile
from minikernel.fs.inode import SuperBlock
from minikernel.mm.page import PG_anon
from minikernel.mm.uaccess import copy_from_user_partial, copy_to_user_partial
from minikernel.procfs.access import check_access
from minikernel.procfs.node import ProcInode
from minikernel.task.task import Task

_FRAME: Final = (1 << 40) - 1
_PM_FILE: Final = 1 << 61
_PM_PRESENT: Final = 1 << 63
_PM_PFN: Final = (1 << 55) - 1
_U64_MASK: Final = (1 << 64) - 1


class _PositionFile(OpenFile):
    """A file whose position is an address: any 64-bit number (mem_lseek)."""

    __slots__ = ("task",)

    seekable = True

    def __init__(self, path: Path, flags: int, task: Task) -> None:
        super().__init__(path, flags)
        self.task = task

    def read(self, count: int) -> bytes:
        """At the position."""
        data = self.pread(count, self.pos)
        self.pos += len(data)
        return data

    def seek(self, offset: int, whence: int) -> int:
        """SEEK_SET and SEEK_CUR."""
        if whence not in {SEEK_SET, SEEK_CUR}:
            raise LinuxError(Errno.EINVAL, f"whence {whence}")
        self.pos = (offset + (self.pos if whence == SEEK_CUR else 0)) & _U64_MASK
        return self.pos


class MemFile(_PositionFile):
    """The memory of a process."""

    __slots__ = ()

    def pread(self, count: int, offset: int) -> bytes:
        """Bytes of memory.  Errors: EIO where none is."""
        if not self.task.has_mm:
            return b""
        with self.task.kernel.oom.pin(self.task.mm):
            data = copy_from_user_partial(self.task.mm, offset, count)
        if not data and count:
            raise LinuxError(Errno.EIO, f"{offset:#x} is not mapped")
        return data

    def write(self, data: bytes) -> int:
        """At the position."""
        done = self.pwrite(data, self.pos)
        self.pos += done
        return done

    def pwrite(self, data: bytes, offset: int) -> int:
        """Change memory, where the process itself could."""
        if not self.task.has_mm:
            return 0
        with self.task.kernel.oom.pin(self.task.mm):
            done = copy_to_user_partial(self.task.mm, offset, data)
        if not done and data:
            raise LinuxError(Errno.EIO, f"{offset:#x} cannot be written")
        return done


class PagemapFile(_PositionFile):
    """Eight bytes for each page of the address space."""

    __slots__ = ()

    def pread(self, count: int, offset: int) -> bytes:
        """Entries.  Errors: EINVAL unless offset and count are multiples of 8."""
        if offset % 8 or count % 8:
            raise LinuxError(Errno.EINVAL, "pagemap entries have 8 bytes")
        if not self.task.has_mm:
            return b""
        mm = self.task.mm
        first = offset // 8
        last = min(first + count // 8, mm.layout.task_size >> PAGE_SHIFT)
        if first >= last:
            return b""
        entries = [0] * (last - first)
        for address, pte in mm.pgtable.entries(first << PAGE_SHIFT, last << PAGE_SHIFT):
            if pte & PTE_P:
                pfn = pte >> PAGE_SHIFT & _FRAME
                anon = mm.mem_map.flags[pfn] & PG_anon
                entries[(address >> PAGE_SHIFT) - first] = pfn & _PM_PFN | _PM_PRESENT | (0 if anon else _PM_FILE)
        return b"".join(entry.to_bytes(8, "little") for entry in entries)


class ProcPidMem(ProcInode):
    """The inode of mem (writable) or pagemap."""

    __slots__ = ("_is_pagemap", "_task")

    def __init__(self, sb: SuperBlock, ino: int, task: Task, owner: tuple[int, int], *, pagemap: bool) -> None:
        super().__init__(sb, ino, S_IFREG | (0o400 if pagemap else 0o600), *owner)
        self._task = task
        self._is_pagemap = pagemap

    def open(self, path: Path, flags: int) -> OpenFile:
        """The memory, or its map.  Errors: EACCES."""
        check_access(self._task)
        return (PagemapFile if self._is_pagemap else MemFile)(path, flags, self._task)
