"""Making pages present on somebody's behalf: MAP_POPULATE, mlock, MADV_POPULATE.  Linux: mm/gup.c."""

from emu.x86 import PAGE_SIZE, PF_W, PTE_P, PTE_RW, PTE_US
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.fault import OutOfMemory, Served, handle_mm_fault
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.vma import VM_LOCKONFAULT, VM_SHARED, VM_WRITE, Vma


def mm_populate(mm: MmStruct, start: int, end: int, *, ignore_errors: bool) -> None:
    """Fault in all of [*start*, *end*) that is mapped and accessible: __mm_populate.

    Errors (unless *ignore_errors*):
        EFAULT: a PROT_NONE mapping, or a page beyond the end of its file.
        ENOMEM: no memory, or a hole.
    """
    address = start
    while address < end:
        vma = mm.vmas.find_vma(address)
        if vma is None or vma.start >= end:
            break
        first = max(address, vma.start)
        address = min(end, vma.end)
        try:
            populate_vma_page_range(mm, vma, first, address)
        except LinuxError:
            if not ignore_errors:
                raise


def populate_vma_page_range(mm: MmStruct, vma: Vma, start: int, end: int) -> None:
    """Fault in [*start*, *end*) of *vma*; private writable pages as if written to: same name.

    Errors:
        EFAULT: PROT_NONE, or beyond the end of the file.  ENOMEM: no memory.
    """
    if vma.flags & VM_LOCKONFAULT:
        return
    if not vma.is_accessible:
        raise LinuxError(Errno.EFAULT, "populate: the mapping is PROT_NONE")
    faultin_page_range(mm, start, end, write=vma.flags & (VM_WRITE | VM_SHARED) == VM_WRITE)


def faultin_page_range(mm: MmStruct, start: int, end: int, *, write: bool) -> None:
    """Fault in every page of [*start*, *end*), all of it mapped with the rights asked for: same name.

    Errors:
        EFAULT: beyond the end of the file.  ENOMEM: no memory.
    """
    needed = PTE_P | PTE_US | PTE_RW if write else PTE_P | PTE_US
    access = PF_W if write else 0
    get = mm.pgtable.get
    for address in range(start, end, PAGE_SIZE):
        if get(address) & needed == needed:
            continue
        outcome = handle_mm_fault(mm, address, access)
        if isinstance(outcome, OutOfMemory):
            raise LinuxError(Errno.ENOMEM, "populate: out of memory")
        if not isinstance(outcome, Served):
            raise LinuxError(Errno.EFAULT, f"populate: {outcome.reason}")
