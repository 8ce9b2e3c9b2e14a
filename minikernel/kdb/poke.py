"""Writing a process's memory as ptrace writes it: a breakpoint or a patch may go into read-only private memory.

Linux: mm/memory.c, access_process_vm with FOLL_FORCE: such a page is copied first.
"""

from typing import TYPE_CHECKING

from emu.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, PTE_P, PTE_RW
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.fault import Served, handle_mm_fault
from minikernel.mm.icache import note_kernel_write
from minikernel.mm.page import PG_anon, PG_exec
from minikernel.mm.pgtable import PTE_SPECIAL, pte_pfn
from minikernel.mm.uaccess import copy_to_user
from minikernel.mm.vma import VM_SHARED, VM_WRITE
from minikernel.mm.wp_fault import do_wp_page

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma


def poke(mm: "MmStruct", address: int, data: bytes) -> None:
    """Store *data* at *address*, as a debugger may.

    Errors:
        EFAULT: unmapped, PROT_NONE, or shared and read-only; bytes before that may be stored.
    """
    done = 0
    while done < len(data):
        at = address + done
        piece = data[done : done + PAGE_SIZE - (at & PAGE_MASK)]
        vma = mm.vmas.find(at)
        if vma is None or (vma.flags & VM_SHARED and not vma.flags & VM_WRITE):
            raise LinuxError(Errno.EFAULT, f"{at:#x} is not mapped, or shared and read-only")
        if vma.flags & VM_WRITE:
            copy_to_user(mm, at, piece)
        else:
            _poke_private(mm, vma, at, piece)
        done += len(piece)


def _poke_private(mm: "MmStruct", vma: "Vma", address: int, data: bytes) -> None:
    """Into a page of a read-only private mapping, which becomes a copy of its own and stays read-only."""
    if not mm.pgtable.get(address) & PTE_P:
        _serve(handle_mm_fault(mm, address, 0), address)
    pte = mm.pgtable.get(address)
    mem_map, pfn = mm.mem_map, pte_pfn(pte)
    if pte & PTE_SPECIAL or not mem_map.flags[pfn] & PG_anon or mem_map.refcount[pfn] != 1:
        _serve(do_wp_page(mm, vma, address, pte), address)
        pte = mm.pgtable.get(address)
        pfn = pte_pfn(pte)
    if pte & PTE_RW:
        mm.pgtable.set(address, pte & ~PTE_RW)
        mm.tlb_dirty = True
    if mem_map.flags[pfn] & PG_exec:
        note_kernel_write(mm.node, pfn)
    phys = (pfn << PAGE_SHIFT) + (address & PAGE_MASK)
    mm.ram[phys : phys + len(data)] = data


def _serve(outcome: object, address: int) -> None:
    if not isinstance(outcome, Served):
        raise LinuxError(Errno.EFAULT, f"{address:#x}: {outcome}")
