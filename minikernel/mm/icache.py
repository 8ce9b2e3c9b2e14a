"""Coherence of code: when the CPU has to forget what it translated.

A processor with an instruction cache needs to be told when memory that it executed changes; x86 hardware needs not, but
the emulated one does (Linux has the same duty on other machines: flush_icache_range, PG_dcache_clean).  It keeps
translated code by physical frame and sees three kinds of change by itself: a store through an executable entry; the
first store through a TLB entry that was filled while the frame had translations; and nothing else.  So a kernel write,
a frame that gets a new owner, and a second store through a writable, non-executable alias leave stale code behind.

Every frame is in one of two states:

    data   PG_exec clear: no executable entry maps it, and nothing of it is translated.
    code   PG_exec set: it may be translated, and no writable entry maps it that is not executable as well.

    data -> code   note_exec(): an executable entry is about to be set.  Writable, non-executable aliases lose PTE_RW,
                   so that the next store through them faults.
    code -> data   note_write(): a writable, non-executable entry is about to be set.  Executable aliases get PTE_XD, so
                   that the next fetch through them faults, and the frame's translations are dropped.
    code           note_kernel_write(): the kernel changes the contents.  The translations are dropped.
    code -> free   Node.put_page drops the translations of a frame with PG_exec (so there is no function here).

Dropping means: the frame's number goes on ``node.stale_code``, which the run loop hands to the CPU before the guest
runs again.  A program that writes code through one mapping and runs it through another, as some JITs do, so pays two
faults for each round (FaultKind.CODE) and never runs stale code.  Without NX in the paging mode every entry is
executable, the CPU watches all stores, and only the kernel's writes and freed frames are left to care for.

What the fault path and mprotect have to do, before they store a present entry of user space:

    if not pte & PTE_XD:                    note_exec(node, pfn)     (always so without NX)
    elif pte & PTE_RW and flags[pfn] & PG_exec:    note_write(node, pfn)

and a fault on a present entry whose VMA allows the access, but the entry does not, is answered the same way: make the
entry anew with the VMA's rights, call the function, store it.
"""

from emu.x86 import PTE_P, PTE_RW, PTE_US, PTE_XD, Pfn
from minikernel.mm.page import MemMap, PG_exec
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import pte_pfn
from minikernel.mm.rmap import rmap_walk


def note_exec(node: Node, pfn: Pfn) -> bool:
    """An executable entry for *pfn* is about to be set; whether another mapping lost its write right for it."""
    mem_map = node.mem_map
    if mem_map.flags[pfn] & PG_exec:
        return False
    mem_map.flags[pfn] |= PG_exec
    if not mem_map.mapcount[pfn] or not node.layout.mode.has_nx:
        return False
    moved = False
    for mm, address in rmap_walk(mem_map, pfn):
        pte = mm.pgtable.get(address)
        if pte & PTE_RW:  # and not executable, as the frame was data
            mm.pgtable.set(address, pte & ~PTE_RW)
            mm.tlb_dirty = moved = True
    return moved


def note_write(node: Node, pfn: Pfn) -> bool:
    """A writable, non-executable entry for *pfn* is about to be set; whether another mapping lost execution for it."""
    mem_map = node.mem_map
    if not mem_map.flags[pfn] & PG_exec:
        return False
    mem_map.flags[pfn] &= ~PG_exec
    node.stale_code.append(pfn)
    moved = False
    for mm, address in rmap_walk(mem_map, pfn):
        pte = mm.pgtable.get(address)
        if not pte & PTE_XD:
            mm.pgtable.set(address, pte | PTE_XD)
            mm.tlb_dirty = moved = True
    return moved


def note_kernel_write(node: Node, pfn: Pfn) -> None:
    """The kernel writes to *pfn*: a system call's result, file data, a breakpoint."""
    if node.mem_map.flags[pfn] & PG_exec:
        node.stale_code.append(pfn)


def validate_pte(mem_map: MemMap, pte: int, *, has_nx: bool) -> None:
    """Assert that the rights in a user entry agree with the state of its frame."""
    if not pte & PTE_P or not pte & PTE_US:
        return
    pfn = pte_pfn(pte)
    is_code = bool(mem_map.flags[pfn] & PG_exec)
    if not pte & PTE_XD:
        assert is_code, f"icache.validate_pte: {pte:#x} is executable, frame {pfn:#x} is data"
    elif has_nx and pte & PTE_RW:
        assert not is_code, f"icache.validate_pte: {pte:#x} is writable, frame {pfn:#x} is code"
