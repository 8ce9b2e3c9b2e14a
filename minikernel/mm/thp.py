"""Transparent huge pages: anonymous memory on large leaves of the page table.  Linux: mm/huge_memory.c.

A huge page here is a run of ordinary frames, HPAGE_PMD_NR of them, that one large leaf maps.  Each frame has its own
row: reference, mapcount, owner, index, place on the LRU.  So reverse maps, fork, reclaim, swap and the books need to
know nothing about it, and "splitting" is an affair of the page table alone (PageTable.split_large).  Linux keeps a
compound page with one set of counts, and splits that as well before swap takes a part of it.

    first write     do_huge_pmd_anonymous_page: a block, a leaf
    first read      a leaf that shows the huge zero page (huge_zero.py), marked PTE_SPECIAL
    fork            PageTable.copy_range: the leaf is copied, both sides lose R/W
    write then      do_huge_pmd_wp_page: ours alone again, or split, and one small page is copied
    a part changes  munmap, mprotect, madvise, mremap, swap: the leaf is split
    together again  collapse.py
"""

from array import array
from typing import Final

from emu.x86 import PAGE_SHIFT, PF_W, PTE_A, PTE_ADDR, PTE_RW, PTE_XD, Pfn
from minikernel.events import FaultKind
from minikernel.mm.gfp import GFP_DIRECT_RECLAIM, GFP_HIGHUSER_MOVABLE, GFP_KSWAPD_RECLAIM, GFP_NORETRY, GFP_ZERO
from minikernel.mm.icache import note_exec, note_write
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.outcome import FaultOutcome, served
from minikernel.mm.page import PG_exec
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import PTE_SPECIAL, pte_pfn
from minikernel.mm.rmap import anon_vma_prepare
from minikernel.mm.set_pte import ANON_FLAGS, YOUNG_DIRTY
from minikernel.mm.vma import (
    VM_ACCESS_FLAGS,
    VM_HUGEPAGE,
    VM_HUGETLB,
    VM_MAYREAD,
    VM_NOHUGEPAGE,
    VM_SPECIAL,
    VM_WRITE,
    Vma,
)

THP_DISABLED: Final = 1  # PR_SET_THP_DISABLE, as PR_GET_THP_DISABLE tells it
THP_EXCEPT_ADVISED: Final = 2  # with it: mappings with MADV_HUGEPAGE are excepted

_GFP_LIGHT: Final = GFP_HIGHUSER_MOVABLE & ~(
    GFP_DIRECT_RECLAIM | GFP_KSWAPD_RECLAIM
)  # GFP_TRANSHUGE_LIGHT: from what is free
# Linux goes on with small pages after one round of compaction and reclaim for so large a block (order > costly).
_GFP_DIRECT: Final = _GFP_LIGHT | GFP_DIRECT_RECLAIM | GFP_NORETRY
_GFP_KSWAPD: Final = _GFP_LIGHT | GFP_KSWAPD_RECLAIM


def set_enabled(node: Node, mode: str) -> None:
    """Set the knob *enabled*, to one of thp_knobs.ENABLED."""
    node.vm_sysctl.thp.enabled = mode
    # Every mapping has VM_MAYREAD.
    node.thp_mask = {"always": VM_MAYREAD, "madvise": VM_HUGEPAGE, "never": 0}[mode]


def hpage_order(node: Node) -> int:
    """log2 of HPAGE_PMD_NR, the frames of a huge page: 9, in the 2-level mode 10."""
    return node.layout.mode.levels[-2].shift - PAGE_SHIFT


def thp_vma_allowable(mm: MmStruct, vma: Vma, *, forced: bool = False) -> bool:
    """Whether huge pages may be used in *vma*; *forced* is MADV_COLLAPSE, which asks no knob.

    Linux: thp_vma_allowable_order, vma_thp_disabled; VM_NO_KHUGEPAGED.
    """
    flags = vma.flags
    if flags & (VM_NOHUGEPAGE | VM_SPECIAL | VM_HUGETLB) or not vma.is_anonymous:
        return False
    if mm.thp_disabled & THP_DISABLED:
        advised = mm.thp_disabled & THP_EXCEPT_ADVISED and (forced or flags & VM_HUGEPAGE)
        if not advised:
            return False
    return forced or bool(flags & mm.node.thp_mask)


def has_huge_range(mm: MmStruct, vma: Vma) -> bool:
    """Whether an aligned range of the size of a huge page lies in *vma* (thp_vma_suitable_order)."""
    size = mm.pgtable.large_size
    return (vma.start + size - 1 & -size) + size <= vma.end


def gfp_mask(node: Node, vma: Vma) -> int:
    """What may be done to get a block for *vma*, by the knob *defrag*: vma_thp_gfp_mask."""
    advised = bool(vma.flags & VM_HUGEPAGE)
    match node.vm_sysctl.thp.defrag:
        case "always":
            return _GFP_DIRECT
        case "defer":
            return _GFP_KSWAPD
        case "defer+madvise":
            return _GFP_DIRECT if advised else _GFP_KSWAPD
        case "madvise":
            return _GFP_DIRECT if advised else _GFP_LIGHT
    return _GFP_LIGHT


def alloc_huge(node: Node, gfp: int) -> Pfn | None:
    """The first of HPAGE_PMD_NR aligned frames, one reference each; None if there is no block (vma_alloc_folio)."""
    pfn = node.alloc_pages(hpage_order(node), gfp)
    if pfn is not None:
        node.split_page(pfn)
    return pfn


def free_huge(node: Node, pfn: Pfn) -> None:
    """Give back what alloc_huge gave and nobody has used."""
    for frame in range(pfn, pfn + (1 << hpage_order(node))):
        node.put_page(Pfn(frame))


def huge_leaf(mm: MmStruct, vma: Vma, pfn: Pfn) -> int:
    """The leaf that maps the block at *pfn*, young and dirty, writable if the mapping is."""
    leaf = pfn << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | YOUNG_DIRTY
    return leaf | PTE_RW if vma.flags & VM_WRITE else leaf


def adopt_block(mm: MmStruct, vma: Vma, start: int, leaf: int) -> None:
    """Fill in the rows of the frames that *leaf*, at *start*, maps from now on: map_anon_folio_pmd."""
    assert vma.anon_vma is not None, "adopt_block: the mapping owns no pages"
    node, mem_map = mm.node, mm.mem_map
    count = 1 << hpage_order(node)
    first = (leaf & PTE_ADDR) >> PAGE_SHIFT
    block = slice(first, first + count)
    index = vma.index(start)
    mem_map.owner[block] = [vma.anon_vma] * count
    mem_map.index[block] = array("Q", range(index, index + count))
    mem_map.flags[block] = array("Q", [ANON_FLAGS if leaf & PTE_XD else ANON_FLAGS | PG_exec]) * count
    mem_map.mapcount[block] = array("i", [1]) * count
    node.lru.pending += range(first, first + count)  # type: ignore[arg-type]  # ints of a range of Pfn
    mm.rss_anon += count


def is_huge_candidate(mm: MmStruct, vma: Vma, address: int) -> bool:
    """Whether a huge page would do at *address*, which has no entry.

    Not where there is a table of entries already, nor where the aligned range leaves the mapping.
    """
    pgtable = mm.pgtable
    start = address & -pgtable.large_size
    if pgtable.has_table(address) or start < vma.start or start + pgtable.large_size > vma.end:
        return False
    return thp_vma_allowable(mm, vma)


def do_huge_pmd_anonymous_page(mm: MmStruct, vma: Vma, address: int, error_code: int) -> FaultOutcome | None:
    """First touch where a huge page would do; None: it takes a small one.  Linux: same name."""
    if not is_huge_candidate(mm, vma, address):
        return None
    node, pgtable = mm.node, mm.pgtable
    start = address & -pgtable.large_size
    if not error_code & PF_W and node.vm_sysctl.thp.use_zero_page:
        return _set_huge_zero(mm, vma, address, start)
    prepared = vma if vma.anon_vma is not None else anon_vma_prepare(mm, vma)
    if prepared is None:
        return None
    vma = prepared
    new = alloc_huge(node, gfp_mask(node, vma) | GFP_ZERO)
    if new is None:
        node.vmstat["thp_fault_fallback"] += 1
        return None
    leaf = huge_leaf(mm, vma, new)
    if not pgtable.set_large(start, leaf):
        free_huge(node, new)
        return None
    return _finish(mm, vma, address, leaf)


def _finish(mm: MmStruct, vma: Vma, address: int, leaf: int) -> FaultOutcome:
    """The books of a new huge page, whose leaf is in place."""
    assert vma.anon_vma is not None, "do_huge_pmd_anonymous_page: pages of nobody"
    adopt_block(mm, vma, address & -mm.pgtable.large_size, leaf)
    mm.node.vmstat["thp_fault_alloc"] += 1
    mm.min_flt += 1
    return served(mm, FaultKind.HUGE_ANON, address, pte_pfn(mm.pgtable.get(address)))


def _set_huge_zero(mm: MmStruct, vma: Vma, address: int, start: int) -> FaultOutcome | None:
    """A read: zeroes for all of the range (set_huge_zero_folio)."""
    node = mm.node
    bits = mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_SPECIAL | PTE_A
    pfn = node.huge_zero.get(mm, executable=not bits & PTE_XD)
    if pfn is None:
        node.vmstat["thp_fault_fallback"] += 1
        return None
    if not mm.pgtable.set_large(start, pfn << PAGE_SHIFT | bits):
        return None
    if not bits & PTE_XD:
        note_exec(node, node.zero_pfn)  # what the leaf is equivalent to
    mm.min_flt += 1
    return served(mm, FaultKind.HUGE_ZERO_PAGE, address, node.zero_pfn)


def do_huge_pmd_wp_page(mm: MmStruct, vma: Vma, address: int) -> FaultOutcome | None:
    """A write to a large leaf that is read-only; None: it was none, or is split now, and the small page is next.

    Linux: same name, do_huge_zero_wp_pmd.
    """
    pgtable, node = mm.pgtable, mm.node
    leaf = pgtable.get_large(address)
    if not leaf:
        return None
    start = address & -pgtable.large_size
    if leaf & PTE_SPECIAL:
        prepared = vma if vma.anon_vma is not None else anon_vma_prepare(mm, vma)
        if prepared is None:
            return None
        vma = prepared
        new = alloc_huge(node, gfp_mask(node, vma) | GFP_ZERO) if thp_vma_allowable(mm, vma) else None
        if new is None:
            node.vmstat["thp_fault_fallback"] += 1
            return None
        leaf = huge_leaf(mm, vma, new)
        pgtable.set_large(start, leaf)
        mm.tlb_dirty = True
        return _finish(mm, vma, address, leaf)
    if not is_exclusive(mm, leaf):
        pgtable.split_large(address)
        return None
    first = Pfn((leaf & PTE_ADDR) >> PAGE_SHIFT)
    assert vma.anon_vma is not None, "do_huge_pmd_wp_page: pages of nobody"
    count = 1 << hpage_order(node)
    mm.mem_map.owner[first : first + count] = [vma.anon_vma] * count  # page_move_anon_rmap
    change_large(mm, start, leaf | PTE_RW | YOUNG_DIRTY)
    mm.min_flt += 1
    return served(mm, FaultKind.COW_REUSE, address, first + ((address - start) >> PAGE_SHIFT))


def is_exclusive(mm: MmStruct, leaf: int) -> bool:
    """Whether nobody else has any frame of the block: not another address space, not an I/O in flight."""
    first = (leaf & PTE_ADDR) >> PAGE_SHIFT
    count = 1 << hpage_order(mm.node)
    return mm.mem_map.refcount[first : first + count].count(1) == count


def change_large(mm: MmStruct, start: int, leaf: int) -> None:
    """Give the large leaf at *start* the rights in *leaf*, and keep the code-coherence books (icache.py) of its frames.

    The right that the books would take from aliases is taken from the leaf itself first, or they would split it.
    """
    pgtable, node = mm.pgtable, mm.node
    if not leaf & PTE_SPECIAL:
        flags = mm.mem_map.flags
        first = (leaf & PTE_ADDR) >> PAGE_SHIFT
        frames = range(first, first + (1 << hpage_order(node)))
        pgtable.set_large(start, leaf & ~PTE_RW)
        for frame in frames:
            if not leaf & PTE_XD:
                note_exec(node, Pfn(frame))
            elif leaf & PTE_RW and flags[frame] & PG_exec:
                note_write(node, Pfn(frame))
    elif not leaf & PTE_XD:
        node.huge_zero.get(mm, executable=True)
        note_exec(node, node.zero_pfn)
    pgtable.set_large(start, leaf)
