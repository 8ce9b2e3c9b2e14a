"""Caches of objects that can be given back when memory is short.  Linux: mm/shrinker.c, include/linux/shrinker.h."""

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

_ENOUGH: Final = 10  # drop_slab: objects below which another round is not worth it


class Shrinker(Protocol):
    """Somebody who keeps objects that nobody uses now.  Registered in ``node.shrinkers`` by who owns the cache."""

    name: str

    def count_objects(self) -> int:
        """How many objects could be given back, at a guess."""
        ...

    def scan_objects(self, nr_to_scan: int) -> int:
        """Give up to *nr_to_scan* back; how many.  It allocates nothing."""
        ...


def shrink_slab(node: "Node", priority: int) -> int:
    """Ask every shrinker for 2**-*priority* of what it has, twice; how many frames came of it (do_shrink_slab)."""
    before = node.nr_free
    for shrinker in node.shrinkers:
        count = (shrinker.count_objects() >> priority) * 2 * node.vm_sysctl.vfs_cache_pressure // 100
        if count:
            shrinker.scan_objects(count)
    node.slab.shrink()
    return node.nr_free - before


def drop_slab(node: "Node") -> int:
    """Give every unused object back, and the frames of empty slabs; how many frames (Linux: same name)."""
    before = node.nr_free
    while sum(shrinker.scan_objects(shrinker.count_objects()) for shrinker in node.shrinkers) > _ENOUGH:
        pass
    node.slab.shrink()
    return node.nr_free - before
