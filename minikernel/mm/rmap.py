"""Reverse maps: from a frame to the page-table entries that map it.  Linux: mm/rmap.c.

A frame's row names its owner and its index there.  An owner, an ``AnonVma`` or a ``PageCache``, knows the mappings
its pages may appear in; the index then gives the one address in each.  Entries are not recorded one by one, so a
fault pays two stores for its reverse map, and a fork one entry per mapping.
"""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT, PTE_A, PTE_D, PTE_P, PTE_RW, Pfn, VirtAddr
from minikernel.abi.errno import LinuxError
from minikernel.mm.kmem_cache import KmemCache
from minikernel.mm.page import MemMap
from minikernel.mm.vma import Vma, is_mergeable_anon_vma

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct

PFN_MASK: Final = (1 << 40) - 1  # of a page-table entry shifted right by PAGE_SHIFT: drops XD and the ignored bits

MAX_CHAIN: Final = 8  # generations of a family of forks that get an AnonVma of their own


class AnonVma:
    """The owner of anonymous pages: struct anon_vma.

    A child's mapping gets its own for its new pages and stays listed with its parent's, where the shared pages
    belong: *chain* is the owner itself and its ancestors, youngest first (Linux: the list of anon_vma_chain).

    It holds an object of *cache*, which goes back when the last mapping is gone.

    Invariant: a Vma is a key of ``vmas`` of every member of its anon_vma's chain, and of no other.
    """

    __slots__ = ("address", "cache", "chain", "vmas")

    def __init__(self, cache: KmemCache, parent: "AnonVma | None" = None) -> None:
        """Errors: ENOMEM."""
        self.cache = cache
        self.address = cache.alloc()
        self.vmas: dict[Vma, MmStruct] = {}
        self.chain: tuple[AnonVma, ...] = (self,) if parent is None else (self, *parent.chain)

    def link(self, vma: Vma, mm: "MmStruct") -> None:
        """*vma* of *mm* may map our pages and our ancestors'."""
        for owner in self.chain:
            owner.vmas[vma] = mm

    def unlink(self, vma: Vma) -> None:
        """*vma* is gone."""
        for owner in self.chain:
            del owner.vmas[vma]
            if not owner.vmas:
                owner.cache.free(owner.address)
                owner.address = 0


def anon_vma_fork(parent: AnonVma) -> AnonVma:
    """The owner of a forked child's new pages.

    Linux keeps the family tree flat by taking over an ancestor that no mapping uses any more
    (anon_vma_clone); here the ninth generation and later ones share their parent's.

    Errors:
        ENOMEM.  The caller links the new one at once.
    """
    return AnonVma(parent.cache, parent) if len(parent.chain) < MAX_CHAIN else parent


def anon_vma_prepare(mm: "MmStruct", vma: Vma) -> Vma | None:
    """*vma* with an owner for its private pages; it replaces *vma* in *mm*.  None: no memory.

    A neighbour's owner is taken where the two could merge but for their protection, so that an mprotect back
    can merge them again (mm/mmap.c, find_mergeable_anon_vma).
    """
    assert vma.anon_vma is None, "anon_vma_prepare: it has an owner"
    at = mm.vmas.index_of(vma)
    items = mm.vmas.items
    owner = None
    if at + 1 < len(items):
        owner = _reusable(vma, items[at + 1])
    if owner is None and at:
        owner = _reusable(items[at - 1], vma)
    if owner is None:
        try:
            owner = AnonVma(mm.node.objects.anon_vma)
        except LinuxError:
            return None
    new = mm.with_anon_vma(vma, owner)
    mm.replace(at, at + 1, [new], merge=False)
    return new


def _reusable(left: Vma, right: Vma) -> AnonVma | None:
    """The one owner that two neighbours could share, mprotect-able flags apart."""
    owner = left.anon_vma or right.anon_vma
    if owner is None or not is_mergeable_anon_vma(left.anon_vma, right.anon_vma):
        return None
    access = 0x7
    if (left.flags ^ right.flags) & ~access or left.end != right.start:
        return None
    if left.file is not right.file or left.pgoff + left.nr_pages != right.pgoff:
        return None
    return owner


def rmap_entries(mem_map: MemMap, pfn: Pfn) -> list[tuple[Vma, "MmStruct", VirtAddr, int]]:
    """Every (mapping, address space, address, entry) whose present entry maps *pfn*; as many as its mapcount says.

    Not for the zero page and other frames without an owner: the list is empty.
    """
    owner = mem_map.owner[pfn]
    vmas: dict[Vma, MmStruct] | None = getattr(owner, "vmas", None)  # AnonVma and PageCache have it
    if vmas is None:
        return []
    index = mem_map.index[pfn]
    found = []
    for vma, mm in vmas.items():
        offset = index - vma.pgoff
        if not 0 <= offset < vma.nr_pages:
            continue
        address = VirtAddr(vma.start + (offset << PAGE_SHIFT))
        pte = mm.pgtable.get(address)
        if pte & PTE_P and pte >> PAGE_SHIFT & PFN_MASK == pfn:
            found.append((vma, mm, address, pte))
    return found


def rmap_walk(mem_map: MemMap, pfn: Pfn) -> list[tuple["MmStruct", VirtAddr]]:
    """Every (address space, address) whose present entry maps *pfn*, as rmap_entries finds them."""
    return [(mm, address) for _, mm, address, _ in rmap_entries(mem_map, pfn)]


def page_referenced(mem_map: MemMap, pfn: Pfn) -> int:
    """How many entries that map *pfn* have the hardware's accessed bit, which is cleared (folio_referenced).

    As on Linux the TLB is not flushed for it: a translation that the CPU still knows sets the bit again only after the
    next flush, at the end of a slice or at a task switch.

    The one accessed bit of a large leaf counts for each of its pages and goes with the last of them: they stand in a
    row on their list, so the scan that comes by again finds them used or not as a whole.
    """
    count = 0
    for _, mm, address, pte in rmap_entries(mem_map, pfn):
        if pte & PTE_A:
            count += 1
            if not mm.pgtable.large or mm.pgtable.is_last_of_leaf(address):
                mm.pgtable.set(address, pte & ~PTE_A)
    return count


def page_mkclean(mem_map: MemMap, pfn: Pfn) -> int:
    """Make every mapping of file page *pfn* clean and read-only, so that the next write faults; how many were not.

    Linux: mm/rmap.c, folio_mkclean.
    """
    cleaned = 0
    for mm, address in rmap_walk(mem_map, pfn):
        pte = mm.pgtable.get(address)
        if pte & (PTE_RW | PTE_D):
            mm.pgtable.set(address, pte & ~(PTE_RW | PTE_D))
            mm.tlb_dirty = True
            cleaned += 1
    return cleaned
