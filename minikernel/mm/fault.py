"""The page fault: what to do about an access that the page table refused.

Linux's names in Linux's order: arch/x86/mm/fault.c, do_user_addr_fault; mm/memory.c, handle_mm_fault and its do_*.

    handle_mm_fault -> no mapping: the stack grows, or SIGSEGV (MAPERR)
                    -> the mapping forbids it: SIGSEGV (ACCERR)
                    -> no entry:  do_anonymous_page | do_read_fault | do_cow_fault | do_shared_fault
                    -> write to a read-only entry:  do_wp_page
                    -> code_fault, spurious
    (huge pages: do_huge_pmd_anonymous_page, do_huge_pmd_wp_page, tried first; thp.py)

Every end is told as one MmFaultResolved or MmFaultFailed, if anybody listens.
"""

from typing import Final

from emu.x86 import (
    PAGE_SHIFT,
    PF_I,
    PF_P,
    PF_U,
    PF_W,
    PTE_A,
    PTE_D,
    PTE_P,
    PTE_RW,
    PTE_US,
    PTE_XD,
    Pfn,
    VirtAddr,
)
from minikernel.events import FaultKind, MmFaultResolved
from minikernel.mm.file_fault import do_fault, do_special_fault
from minikernel.mm.gfp import GFP_HIGHUSER_MOVABLE, GFP_ZERO
from minikernel.mm.hugetlb_fault import hugetlb_code_fault
from minikernel.mm.icache import note_exec
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.outcome import (
    BUS_ADRERR,
    SEGV_ACCERR,
    SEGV_MAPERR,
    SERVED_ANON,
    BusError,
    FaultOutcome,
    OutOfMemory,
    Segv,
    Served,
    oom,
    segv,
    served,
)
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.rmap import PFN_MASK, anon_vma_prepare
from minikernel.mm.set_pte import ANON_FLAGS
from minikernel.mm.stack import expand_stack
from minikernel.mm.swap_fault import do_swap_page
from minikernel.mm.thp import do_huge_pmd_anonymous_page
from minikernel.mm.vma import VM_ACCESS_FLAGS, VM_EXEC, VM_HUGETLB, VM_WRITE, Vma
from minikernel.mm.wp_fault import do_wp_page

__all__ = [
    "BUS_ADRERR",
    "SEGV_ACCERR",
    "SEGV_MAPERR",
    "BusError",
    "FaultOutcome",
    "OutOfMemory",
    "Segv",
    "Served",
    "handle_mm_fault",
    "user_error_code",
]

_GFP_ANON_ZERO: Final = GFP_HIGHUSER_MOVABLE | GFP_ZERO


def handle_mm_fault(mm: MmStruct, address: int, error_code: int) -> FaultOutcome:
    """Make the page at *address* usable for the access in *error_code* (PF_*; PF_U or not makes no difference)."""
    vma = mm.vmas.cached
    if not vma.start <= address < vma.end:
        found = mm.vmas.find(address) or _bad_address(mm, address)
        if isinstance(found, Segv):
            return found
        vma = found
    if error_code & PF_W:
        if not vma.flags & VM_WRITE:
            return _access_error(mm, vma, address, error_code)
    elif not vma.flags & VM_ACCESS_FLAGS or (error_code & PF_I and not vma.flags & VM_EXEC):
        return _access_error(mm, vma, address, error_code)

    pte = mm.pgtable.get(address)
    if not pte:
        if vma.mapping is None:
            if vma.special is not None:
                return do_special_fault(mm, vma, address, error_code)
            return do_anonymous_page(mm, vma, address, error_code)
        return do_fault(mm, vma, address, error_code)
    if not pte & PTE_P:
        return do_swap_page(mm, vma, address, pte, error_code)
    if error_code & PF_W and not pte & PTE_RW:
        return do_wp_page(mm, vma, address, pte)
    if error_code & PF_I and pte & PTE_XD:
        return _code_fault(mm, vma, address, pte)
    mm.min_flt += 1
    return served(mm, FaultKind.SPURIOUS, address, pte >> PAGE_SHIFT & PFN_MASK)


def _bad_address(mm: MmStruct, address: int) -> Vma | Segv:
    """No mapping contains *address*: the stack grows to it, or the access is wrong (lock_mm_and_find_vma)."""
    if address >= mm.layout.task_size:
        return segv(mm, address, SEGV_MAPERR, "the address is the kernel's, not a user's")
    grown = expand_stack(mm, address)
    if isinstance(grown, str):
        return segv(mm, address, SEGV_MAPERR, grown)
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultResolved(VirtAddr(address), FaultKind.STACK_GROWTH, Pfn(0)))
    return grown


def _access_error(mm: MmStruct, vma: Vma, address: int, error_code: int) -> Segv:
    """The mapping does not allow it: arch/x86/mm/fault.c, access_error."""
    access = "write" if error_code & PF_W else "fetch" if error_code & PF_I else "read"
    flags = vma.flags
    rights = "".join(letter if flags >> bit & 1 else "-" for bit, letter in enumerate("rwx"))
    return segv(mm, address, SEGV_ACCERR, f"{access} of a mapping whose rights are {rights}")


def _code_fault(mm: MmStruct, vma: Vma, address: int, pte: int) -> FaultOutcome:
    """A fetch through an entry that lost its execute right to a writable alias of the frame: it gets it back."""
    if vma.flags & VM_HUGETLB:
        return hugetlb_code_fault(mm, vma, address)
    pfn = Pfn(pte >> PAGE_SHIFT & PFN_MASK)
    pte = pte & ~PTE_XD | PTE_A
    note_exec(mm.node, pfn)
    mm.pgtable.set(address, pte)
    mm.min_flt += 1
    return served(mm, FaultKind.CODE, address, pfn)


def user_error_code(mm: MmStruct, address: int, error_code: int) -> int:
    """*error_code* as a signal frame shows it: arch/x86/mm/fault.c, set_signal_archinfo.

    Kernel addresses look mapped, so that nothing about them leaks.  A page of a PROT_NONE mapping looks absent: Linux
    takes its P bit away, we take its U/S bit.
    """
    error_code |= PF_U
    if address >= mm.node.layout.task_size:
        return error_code | PF_P
    if mm.pgtable.get(address) & (PTE_P | PTE_US) == PTE_P:
        return error_code & ~PF_P
    return error_code


def do_anonymous_page(mm: MmStruct, vma: Vma, address: int, error_code: int) -> FaultOutcome:
    """First touch: the shared zero page for a read, a zeroed page for a write.  mm/memory.c, same name."""
    node = mm.node
    if vma.flags & node.thp_mask:
        huge = do_huge_pmd_anonymous_page(mm, vma, address, error_code)
        if huge is not None:
            return huge
        vma = mm.vmas.find(address) or vma  # it may have an owner for its pages by now
    if not error_code & PF_W:
        pfn = node.zero_pfn
        pte = pfn << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_SPECIAL | PTE_A
        if not pte & PTE_XD:
            note_exec(node, pfn)
        if not mm.pgtable.set(address, pte):
            return oom(mm, address)
        mm.min_flt += 1
        return served(mm, FaultKind.ZERO_PAGE, address, pfn)
    if vma.anon_vma is None:
        prepared = anon_vma_prepare(mm, vma)
        if prepared is None:
            return oom(mm, address)
        vma = prepared
    new = node.alloc_page(_GFP_ANON_ZERO)
    if new is None:
        return oom(mm, address)
    pte = new << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | (PTE_RW | PTE_A | PTE_D)
    if not mm.pgtable.set(address, pte):
        node.put_page(new)
        return oom(mm, address)
    mem_map = mm.mem_map
    mem_map.owner[new] = vma.anon_vma
    mem_map.index[new] = vma.pgoff + ((address - vma.start) >> PAGE_SHIFT)
    mem_map.flags[new] = ANON_FLAGS
    node.lru.note(new)
    if not pte & PTE_XD:
        note_exec(node, new)
    mem_map.mapcount[new] = 1
    mm.rss_anon += 1
    mm.min_flt += 1
    if mm.tracer.sink is not None:
        return served(mm, FaultKind.ANON, address, new)
    return SERVED_ANON
