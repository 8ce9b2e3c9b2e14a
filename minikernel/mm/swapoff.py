"""Bringing everything back from a swap area.  Linux: mm/swapfile.c, try_to_unuse."""

from emu.x86 import PTE_P
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.outcome import BusError, OutOfMemory
from minikernel.mm.page_alloc import Node
from minikernel.mm.swap_area import SwapArea
from minikernel.mm.swap_entry import entry_area
from minikernel.mm.swap_fault import do_swap_page


def swapoff(node: Node, area: SwapArea) -> None:
    """Empty *area* and let it go; it stays in use if that fails.

    Errors:
        ENOMEM: RAM and the other areas have no room.  EIO: a page cannot be read.
    """
    swap = node.swap
    swap.retire(area)
    try:
        while area.nr_used:
            before = area.nr_used
            _unuse(node, area)
            assert area.nr_used < before, f"swapoff: {before} slots are in use and nobody has them"
    except LinuxError:
        swap.reinstate(area)
        raise
    swap.remove(area)


def _unuse(node: Node, area: SwapArea) -> None:
    swap = node.swap
    for mm in list(swap.mms):
        _unuse_mm(mm, area)
        if not mm.swapents:
            swap.mms.pop(mm, None)
    for cache in list(swap.shmem):
        for index, entry in list(cache.swapped.items()):
            if entry_area(entry) == area.index:
                cache.read_page(index)
    for entry, pfn in list(swap.cache.items()):
        if entry_area(entry) == area.index:
            swap.delete_from_cache(pfn)


def _unuse_mm(mm: MmStruct, area: SwapArea) -> None:
    """Every entry of *mm* that lies in *area* (unuse_mm)."""
    for address, _ in mm.pgtable.entries(0, mm.layout.task_size):
        pte = mm.pgtable.get(address)  # reclaim may have been here meanwhile
        if not pte or pte & PTE_P or entry_area(pte) != area.index:
            continue
        vma = mm.vmas.find(address)
        assert vma is not None, f"swapoff: {address:#x} has an entry and no mapping"
        outcome = do_swap_page(mm, vma, address, pte, 0)
        if isinstance(outcome, OutOfMemory):
            raise LinuxError(Errno.ENOMEM, "swapoff: no room for what is in the area")
        if isinstance(outcome, BusError):
            raise LinuxError(Errno.EIO, "swapoff: a page of the area cannot be read")
