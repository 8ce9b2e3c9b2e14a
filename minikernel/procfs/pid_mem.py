"""/proc/PID/mem and pagemap.  Linux: fs/proc/base.c (mem_rw), fs/proc/task_mmu.c (pagemap_read)."""

from array import array
from typing import Final

from emu.x86 import PAGE_SHIFT, PTE_P
from minikernel.abi.capability import CAP_SYS_ADMIN
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import S_IFREG
from minikernel.fs.dentry import Path
from minikernel.fs.file import OpenFile
from minikernel.fs.inode import SuperBlock
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_anon
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.rmap import PFN_MASK
from minikernel.mm.uaccess import copy_from_user_partial, copy_to_user_partial
from minikernel.procfs.access import check_access
from minikernel.procfs.node import PositionFile, ProcInode
from minikernel.task.task import Task

# Documentation/admin-guide/mm/pagemap.rst.  Bit 55 (soft-dirty) is never set: as with CONFIG_MEM_SOFT_DIRTY off.
PM_MMAP_EXCLUSIVE: Final = 1 << 56
PM_FILE: Final = 1 << 61  # a file's page, or shared memory
PM_SWAP: Final = 1 << 62
PM_PRESENT: Final = 1 << 63
_PM_PFN: Final = (1 << 55) - 1  # a frame; of a page in swap, bits 0-4 are the type and the others the offset
_PM_SWAP_OFFSET_SHIFT: Final = 5
# Where the two stand in an entry that is not present.
_SWP_TYPE_SHIFT: Final = 1
_SWP_TYPE_MASK: Final = 31
_SWP_OFFSET_SHIFT: Final = 8


class _TaskFile(PositionFile):
    """A file about the memory of a task."""

    __slots__ = ("task",)

    def __init__(self, path: Path, flags: int, task: Task) -> None:
        super().__init__(path, flags)
        self.task = task


class MemFile(_TaskFile):
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


class PagemapFile(_TaskFile):
    """Eight bytes for each page of the address space; frames are shown to those who opened it with CAP_SYS_ADMIN."""

    __slots__ = ("show_pfn",)

    def __init__(self, path: Path, flags: int, task: Task) -> None:
        super().__init__(path, flags, task)
        reader = task.kernel.current
        self.show_pfn = reader is None or reader.cred.capable(CAP_SYS_ADMIN)

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
        entries = array("Q", bytes(8 * (last - first)))
        mask = -1 if self.show_pfn else ~_PM_PFN
        for address, pte in mm.pgtable.entries(first << PAGE_SHIFT, last << PAGE_SHIFT):
            entries[(address >> PAGE_SHIFT) - first] = pagemap_entry(mm, pte) & mask
        return entries.tobytes()


def pagemap_entry(mm: MmStruct, pte: int) -> int:
    """What pagemap shows of the page-table entry *pte*: pte_to_pagemap_entry."""
    if not pte:
        return 0
    if not pte & PTE_P:
        entry = PM_SWAP | pte >> _SWP_TYPE_SHIFT & _SWP_TYPE_MASK | pte >> _SWP_OFFSET_SHIFT << _PM_SWAP_OFFSET_SHIFT
        return entry & (PM_SWAP | _PM_PFN)
    pfn = pte >> PAGE_SHIFT & PFN_MASK
    entry = pfn & _PM_PFN | PM_PRESENT
    if pte & PTE_SPECIAL:  # the zero page is nobody's
        return entry
    if not mm.mem_map.flags[pfn] & PG_anon:
        entry |= PM_FILE
    return entry | PM_MMAP_EXCLUSIVE if mm.mem_map.mapcount[pfn] == 1 else entry


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
