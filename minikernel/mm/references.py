"""Who refers to each frame and each swap slot, counted afresh from what there is.

``validate_node`` holds the counters of the machine against it, the leak report looks for what it does not explain.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from emu.x86 import PTE_P
from minikernel.mm.filemap import PageCache
from minikernel.mm.hugetlb import HugetlbCache
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_tail
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import PTE_SPECIAL, pte_pfn


@dataclass(frozen=True, slots=True)
class References:
    """*mapped* and *cached*: by frame number, a huge page by its first; *swapped*: by swap entry; *caches*: all."""

    mapped: Counter[int]
    cached: Counter[int]
    swapped: Counter[int]
    caches: list[PageCache]


def count_references(node: Node, mms: Iterable[MmStruct], page_caches: Iterable[PageCache]) -> References:
    """Those of page tables, page caches, the swap cache and the pool of huge pages.

    *mms* are all address spaces, *page_caches* all caches that no mapping leads to (others may be among them).
    """
    mapped: Counter[int] = Counter()
    cached: Counter[int] = Counter(node.swap.cache.values())
    cached.update(node.hugetlb.free)
    swapped: Counter[int] = Counter()
    caches = {id(cache): cache for cache in page_caches}
    flags = node.mem_map.flags
    for mm in mms:
        caches.update((id(vma.mapping), vma.mapping) for vma in mm.vmas if vma.mapping is not None)
        for _, pte in mm.pgtable.entries(0, mm.layout.task_size):
            if not pte & PTE_P:
                swapped[pte] += 1
            elif not pte & PTE_SPECIAL and not flags[pte_pfn(pte)] & PG_tail:
                mapped[pte_pfn(pte)] += 1
    for cache in caches.values():
        cached.update(cache.pages.values())
        if isinstance(cache, HugetlbCache):
            cached.update(cache.huge.values())
        swapped.update(cache.swapped.values())
    return References(mapped, cached, swapped, list(caches.values()))
