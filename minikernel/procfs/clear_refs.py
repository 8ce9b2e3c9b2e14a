"""/proc/PID/clear_refs: what has been used is forgotten, to see what will be.  Linux: fs/proc/task_mmu.c."""

from typing import Final

from emu.x86 import PAGE_SHIFT, PTE_A, PTE_P
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_referenced
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.rmap import PFN_MASK
from minikernel.mm.vma import VM_PFNMAP, Vma
from minikernel.task.task import Task

CLEAR_REFS_ALL: Final = 1
CLEAR_REFS_ANON: Final = 2
CLEAR_REFS_MAPPED: Final = 3
CLEAR_REFS_SOFT_DIRTY: Final = 4  # nothing to do: as with CONFIG_MEM_SOFT_DIRTY off
CLEAR_REFS_MM_HIWATER_RSS: Final = 5


def read_refused(_task: Task) -> bytes:
    """It can only be written."""
    raise LinuxError(Errno.EINVAL, "clear_refs has nothing to read")


def clear_refs(task: Task, data: bytes) -> None:
    """Do what the number in *data* says: clear_refs_write.

    Errors:
        EINVAL: none of the five.
    """
    text = data.strip(b" \t\n\0")
    kind = int(text) if text.isdigit() else 0
    if not CLEAR_REFS_ALL <= kind <= CLEAR_REFS_MM_HIWATER_RSS:
        raise LinuxError(Errno.EINVAL, f"clear_refs {data!r}")
    if not task.has_mm or kind == CLEAR_REFS_SOFT_DIRTY:
        return
    mm = task.mm
    if kind == CLEAR_REFS_MM_HIWATER_RSS:
        mm.hiwater_rss = mm.rss
        return
    for vma in mm.vmas:
        wanted = kind == CLEAR_REFS_ALL or (vma.file is None) == (kind == CLEAR_REFS_ANON)
        if wanted and not vma.flags & VM_PFNMAP:
            _clear_range(mm, vma)
    mm.tlb_dirty = True  # the CPU sets the bit only when it walks


def _clear_range(mm: MmStruct, vma: Vma) -> None:
    """clear_refs_pte_range."""
    pgtable, flags = mm.pgtable, mm.mem_map.flags
    for address, pte in list(pgtable.entries(vma.start, vma.end)):
        if not pte & PTE_P or pte & PTE_SPECIAL:
            continue
        if pte & PTE_A:
            pgtable.set(address, pte & ~PTE_A)
        flags[pte >> PAGE_SHIFT & PFN_MASK] &= ~PG_referenced
