"""Caches of objects that can be given back when memory is short.  Linux: mm/shrinker.c, include/linux/shrinker.h."""

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

SHRINK_BATCH: Final = 128  # objects that a shrinker is asked for at a time
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


def shrink_slab(node: "Node", nr_to_scan: int) -> int:
    """Ask every shrinker for up to *nr_to_scan* objects, a batch at a time; how many came back.

    The frames follow when a slab is empty: ``node.slab.shrink()`` gives back those that wait for the next objects.
    """
    freed = 0
    for shrinker in node.shrinkers:
        left = min(nr_to_scan, shrinker.count_objects())
        while left > 0:
            got = shrinker.scan_objects(min(left, SHRINK_BATCH))
            freed += got
            left -= SHRINK_BATCH
            if not got:
                break
    return freed


def drop_slab(node: "Node") -> int:
    """Give every unused object back, and the frames of empty slabs; how many frames (Linux: same name)."""
    while sum(shrinker.scan_objects(shrinker.count_objects()) for shrinker in node.shrinkers) > _ENOUGH:
        pass
    return node.slab.shrink()
