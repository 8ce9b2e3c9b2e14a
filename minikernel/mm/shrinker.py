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


def drop_slab(node: "Node") -> int:
    """Give every unused object back, and the frames of empty slabs; how many frames (Linux: same name)."""
    before = node.nr_free
    while sum(shrinker.scan_objects(shrinker.count_objects()) for shrinker in node.shrinkers) > _ENOUGH:
        pass
    node.slab.shrink()
    return node.nr_free - before
