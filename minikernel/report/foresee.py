"""What an access would lead to if it were made now: the decisions of mm/fault.py, asked and not taken."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from emu.x86 import PAGE_SHIFT, PF_I, PF_W, PTE_P, PTE_RW, PTE_XD, Pfn
from minikernel.abi.signal import BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR, SIGBUS, SIGSEGV
from minikernel.events import FaultKind
from minikernel.mm.hugetlb import HugetlbCache, cache_of
from minikernel.mm.hugetlb_pool import huge_pfn
from minikernel.mm.page import PG_anon, PG_exec, PG_swapcache
from minikernel.mm.pgtable import PTE_SPECIAL, pte_pfn
from minikernel.mm.rmap import rmap_walk
from minikernel.mm.thp import is_exclusive, is_huge_candidate, thp_vma_allowable
from minikernel.mm.vma import VM_ACCESS_FLAGS, VM_EXEC, VM_GROWSDOWN, VM_HUGETLB, VM_SHARED, VM_WRITE
from minikernel.report.decisions import function_of, where
from minikernel.report.place import NEAR_STACK, neighbours
from minikernel.report.words import slot_words

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What would come: a fault of *kind*, or *signal* with *code*, or, with neither, no fault at all."""

    kind: FaultKind | None
    signal: int
    code: int
    words: str
    decided_by: str = ""  # the function of minikernel/mm that would decide; "": the hardware alone


def foresee(mm: "MmStruct", address: int, access: int) -> Foreseen:
    """What user code would meet that makes *access* (PF_W, PF_I or 0, a read) to *address* now."""
    coming = _foresee(mm, address, access)
    function = _decider(mm, address, access, coming)
    return replace(coming, decided_by=where(function)) if function else coming


def _decider(mm: "MmStruct", address: int, access: int, coming: Foreseen) -> str:
    """The function that would tell of *coming*; "" for none."""
    vma = mm.vmas.find(address)
    large = address < mm.layout.task_size and bool(mm.pgtable.get_large(address))
    if coming.signal == SIGSEGV:
        return "_access_error" if coming.code == SEGV_ACCERR else "_bad_address"
    if coming.signal:
        assert vma is not None, "_decider: SIGBUS without a mapping"
        return "do_fault" if not vma.flags & VM_HUGETLB else "hugetlb_wp" if large else "hugetlb_no_page"
    if coming.kind is None:
        return ""
    pte = mm.pgtable.get(address) if address < mm.layout.task_size else 0
    return function_of(coming.kind, vma, present=bool(pte & PTE_P), large=large, write=bool(access & PF_W))


def _foresee(mm: "MmStruct", address: int, access: int) -> Foreseen:
    if address >= mm.layout.task_size:
        return Foreseen(None, SIGSEGV, SEGV_MAPERR, "SIGSEGV: the address is not a user's")
    vma = mm.vmas.find(address)
    if vma is None:
        return _unmapped(mm, address)
    flags = vma.flags
    refused = not flags & VM_WRITE if access & PF_W else not flags & (VM_EXEC if access & PF_I else VM_ACCESS_FLAGS)
    if refused:
        return Foreseen(None, SIGSEGV, SEGV_ACCERR, "SIGSEGV (SEGV_ACCERR): the mapping forbids it")
    if flags & VM_HUGETLB:
        return _of_the_pool(mm, vma, address, access)
    pte = mm.pgtable.get(address)
    if pte & PTE_P:
        leaf = mm.pgtable.get_large(address)
        huge = _write_to_huge(mm, vma, leaf) if leaf and access & PF_W and not pte & PTE_RW else None
        return huge or _present(mm, vma, pte, access)
    if pte:
        return _swapped(mm, pte, access)
    return _absent(mm, vma, address, access)


def _swapped(mm: "MmStruct", entry: int, access: int) -> Foreseen:
    """The page is in swap; a write to one that others refer to, or map, needs a copy as well."""
    swap = mm.node.swap
    pfn = swap.cache.get(entry)
    cached = ", which the swap cache has in RAM" if pfn is not None else ""
    words = f"the page in {slot_words(mm.node, entry)}{cached}"
    alone = swap.swap_count(entry) == 1 and (pfn is None or not mm.mem_map.mapcount[pfn])
    if access & PF_W and not alone:
        return Foreseen(FaultKind.COW_COPY, 0, 0, f"{words}, and a copy of it, as others have it too")
    return Foreseen(FaultKind.SWAP_IN, 0, 0, words)


def _takes_code(mm: "MmStruct", pte: int) -> bool:
    """Whether making *pte* writable takes the right to run its frame from another entry (icache.note_write)."""
    pfn = pte_pfn(pte)
    if not pte & PTE_XD or not mm.mem_map.flags[pfn] & PG_exec:
        return False
    return any(not other.pgtable.get(address) & PTE_XD for other, address in rmap_walk(mm.mem_map, pfn))


def _is_last_user(mm: "MmStruct", pfn: Pfn) -> bool:
    """Whether nobody but the entry has the page, apart from a slot in swap that nobody refers to (folio_free_swap)."""
    users = mm.mem_map.refcount[pfn]
    swap = mm.node.swap
    if mm.mem_map.flags[pfn] & PG_swapcache and users == 2:
        return not swap.swap_count(swap.entry_of[pfn])
    return users == 1


def _unmapped(mm: "MmStruct", address: int) -> Foreseen:
    _, above = neighbours(mm, address)
    if above is not None and above.vma.flags & VM_GROWSDOWN and above.distance <= NEAR_STACK:
        return Foreseen(
            FaultKind.STACK_GROWTH, 0, 0, f"{above.name} grows down to it, if its limits and the gap below it allow"
        )
    return Foreseen(None, SIGSEGV, SEGV_MAPERR, "SIGSEGV (SEGV_MAPERR): nothing is mapped there")


def _present(mm: "MmStruct", vma: "Vma", pte: int, access: int) -> Foreseen:
    """The entry is there; a write or a fetch may still need more than it grants."""
    if access & PF_I and pte & PTE_XD:
        return Foreseen(FaultKind.CODE, 0, 0, "a fault: the frame was data, and becomes code")
    if not access & PF_W or pte & PTE_RW:
        return Foreseen(None, 0, 0, "no fault: the entry allows it")
    if pte & PTE_SPECIAL:
        return Foreseen(FaultKind.COW_COPY, 0, 0, "a copy of the shared zero page")
    if vma.flags & VM_SHARED:
        kind = FaultKind.CODE if _takes_code(mm, pte) else FaultKind.FILE_SHARED
        return Foreseen(kind, 0, 0, "the file's page becomes writable, and dirty")
    pfn = pte_pfn(pte)
    if not mm.mem_map.flags[pfn] & PG_anon:
        return Foreseen(FaultKind.FILE_COW, 0, 0, "a private copy of the file's page")
    if _is_last_user(mm, pfn):
        if _takes_code(mm, pte):
            return Foreseen(FaultKind.CODE, 0, 0, "made writable; an alias of it loses the right to be run")
        return Foreseen(FaultKind.COW_REUSE, 0, 0, "made writable: nobody else has the page any more")
    mapped = mm.mem_map.mapcount[pfn]
    others = f"{mapped} entries map it" if mapped > 1 else "somebody else has it, too"
    return Foreseen(FaultKind.COW_COPY, 0, 0, f"a copy of the page: {others}")


def _write_to_huge(mm: "MmStruct", vma: "Vma", leaf: int) -> Foreseen | None:
    """A write to a read-only transparent huge page; None: it is split first."""
    if leaf & PTE_SPECIAL and thp_vma_allowable(mm, vma):
        return Foreseen(FaultKind.HUGE_ANON, 0, 0, "a new huge page of zeroes, if a block of frames is free")
    if leaf & PTE_SPECIAL or not is_exclusive(mm, leaf):
        return None
    return Foreseen(FaultKind.COW_REUSE, 0, 0, "made writable: nobody else has any of the huge page")


def _of_the_pool(mm: "MmStruct", vma: "Vma", address: int, access: int) -> Foreseen:
    """A mapping of huge pages of the pool (hugetlb_fault.py)."""
    cache = cache_of(vma)
    leaf, index = mm.pgtable.get_large(address), cache.huge_index(vma, address)
    shared = vma.flags & VM_SHARED
    if not leaf and shared and index in cache.huge:
        kind = FaultKind.FILE_SHARED if access & PF_W else FaultKind.FILE_READ
        return Foreseen(kind, 0, 0, "the huge page that others have already")
    if not leaf:
        promised = index in cache.promised and cache.owner in {None, mm}
        return _taken(cache, FaultKind.HUGE_ANON, "a huge page of the pool, cleared", promised=promised)
    if access & PF_I and leaf & PTE_XD:
        return Foreseen(FaultKind.CODE, 0, 0, "a fault: the huge page was data, and becomes code")
    if not access & PF_W or leaf & PTE_RW:
        return Foreseen(None, 0, 0, "no fault: the entry allows it")
    if shared:
        return Foreseen(FaultKind.FILE_SHARED, 0, 0, "the huge page becomes writable")
    if mm.mem_map.refcount[huge_pfn(leaf)] == 1:
        return Foreseen(FaultKind.COW_REUSE, 0, 0, "made writable: nobody else has the huge page any more")
    if cache.owner is mm and not cache.pool.has_unpromised:
        return Foreseen(FaultKind.COW_REUSE, 0, 0, "made writable: none is left for a copy, so the children lose it")
    return _taken(cache, FaultKind.COW_COPY, "a copy, in another huge page of the pool", promised=False)


def _taken(cache: HugetlbCache, kind: FaultKind, words: str, *, promised: bool) -> Foreseen:
    """A page from the pool, if one may be had."""
    if promised or cache.pool.has_unpromised:
        return Foreseen(kind, 0, 0, words)
    return Foreseen(None, SIGBUS, BUS_ADRERR, "SIGBUS (BUS_ADRERR): no huge page is left in the pool")


def _absent_huge(mm: "MmStruct", access: int) -> Foreseen:
    """First touch of a range that may have a huge page, if a block is free."""
    if access & PF_W or not mm.node.vm_sysctl.thp.use_zero_page:
        return Foreseen(FaultKind.HUGE_ANON, 0, 0, "a new huge page of zeroes, if a block of frames is free")
    return Foreseen(FaultKind.HUGE_ZERO_PAGE, 0, 0, "the huge zero page")


def _absent(mm: "MmStruct", vma: "Vma", address: int, access: int) -> Foreseen:
    """First touch."""
    if vma.special is not None:
        return Foreseen(FaultKind.FILE_READ, 0, 0, f"the kernel's own page of {vma.special.name}")
    if vma.mapping is None:
        if is_huge_candidate(mm, vma, address):
            return _absent_huge(mm, access)
        if access & PF_W:
            return Foreseen(FaultKind.ANON, 0, 0, "a new page of zeroes")
        return Foreseen(FaultKind.ZERO_PAGE, 0, 0, "the shared zero page")
    index = vma.index(address)
    if index << PAGE_SHIFT >= vma.mapping.size:
        return Foreseen(None, SIGBUS, BUS_ADRERR, "SIGBUS (BUS_ADRERR): the file ends before it")
    cached = "in the page cache already" if index in vma.mapping.pages else "read from the file first"
    if index in vma.mapping.swapped:
        cached = "read back from swap first"
    if not access & PF_W:
        return Foreseen(FaultKind.FILE_READ, 0, 0, f"the file's page {index:,}, {cached}")
    if vma.flags & VM_SHARED:
        return Foreseen(FaultKind.FILE_SHARED, 0, 0, f"the file's page {index:,}, {cached}, which becomes dirty")
    return Foreseen(FaultKind.FILE_COW, 0, 0, f"a private copy of the file's page {index:,}, {cached}")
