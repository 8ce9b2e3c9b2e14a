"""A fault on a page that is in swap.  Linux: mm/memory.c, do_swap_page."""

from emu.x86 import PAGE_SHIFT, PF_W, PTE_A, PTE_D, PTE_RW
from minikernel.abi.errno import LinuxError
from minikernel.events import FaultKind
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.outcome import FaultOutcome, Served, failed, served_file
from minikernel.mm.page import PG_swapcache
from minikernel.mm.set_pte import note_pte
from minikernel.mm.swapin import swapin
from minikernel.mm.vma import VM_ACCESS_FLAGS, VM_LOCKED, VM_WRITE, Vma
from minikernel.mm.wp_fault import do_wp_page


def do_swap_page(mm: MmStruct, vma: Vma, address: int, entry: int, error_code: int) -> FaultOutcome:
    """Bring the page of *entry* back: from the swap cache (minor) or from the backing file (major).

    The page is ours alone if nobody else refers to its slot; then it may be written at once.  Its slot is kept as long
    as the page may be clean, so that it can leave for free again.
    """
    node = mm.node
    swap, mem_map = node.swap, mm.mem_map
    major = entry not in swap.cache
    try:
        pfn = swapin(node, entry)
    except LinuxError as error:
        return failed(mm, address, error)
    write = bool(error_code & PF_W)
    exclusive = swap.swap_count(entry) == 1 and not mem_map.mapcount[pfn]
    if not mem_map.mapcount[pfn]:
        owner = vma.anon_vma
        assert owner is not None, "do_swap_page: a private page of a mapping that owns none"
        # A page that others may map as well belongs to the ancestor that the whole family has.
        mem_map.owner[pfn] = owner if exclusive else owner.chain[-1]
        mem_map.index[pfn] = vma.index(address)
    mem_map.refcount[pfn] += 1
    mem_map.mapcount[pfn] += 1
    mm.swapents -= 1
    mm.rss_anon += 1
    pte = pfn << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_A
    if exclusive and vma.flags & VM_WRITE:
        pte |= PTE_RW | PTE_D if write else PTE_RW
    note_pte(mm, pfn, pte)
    mm.pgtable.set(address, pte)
    swap.free(entry)
    if mem_map.flags[pfn] & PG_swapcache and (
        swap.is_half_full or vma.flags & VM_LOCKED or (write and exclusive)
    ) and not swap.swap_count(entry):  # fmt: skip
        swap.delete_from_cache(pfn)
    if not write or exclusive:
        return served_file(mm, FaultKind.SWAP_IN, address, pfn, major=major)
    outcome = do_wp_page(mm, vma, address, pte)
    if major and isinstance(outcome, Served):  # one fault, a major one
        mm.min_flt -= 1
        mm.maj_flt += 1
    return outcome
