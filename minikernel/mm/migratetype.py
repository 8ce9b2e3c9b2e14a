"""Migrate types: frames of one kind of use are kept together.  Linux: include/linux/mmzone.h, include/linux/gfp.h.

RAM is cut into pageblocks, as large as a large page.  A pageblock has a type, and free blocks lie on the lists of the
type of theirs.  Movable frames (user memory, page caches) can be put elsewhere later; others cannot, and one of them
in each pageblock would be enough to make large blocks impossible for good.
"""

from typing import Final

from minikernel.mm.gfp import GFP_MOBILITY_MASK, GFP_MOVABLE, GFP_RECLAIMABLE

MIGRATE_UNMOVABLE: Final = 0
MIGRATE_MOVABLE: Final = 1
MIGRATE_RECLAIMABLE: Final = 2
MIGRATE_PCPTYPES: Final = 3  # how many types there are; Linux has more, for high-order reserves, CMA and isolation
MIGRATE_TYPES: Final = 5  # as Linux without CMA counts them: what grouping costs a small machine

MIGRATETYPE_NAMES: Final = ("Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate")
"""Of /proc/pagetypeinfo; nothing is ever of the last two."""

FALLBACKS: Final = (
    (MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE),
    (MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE),
    (MIGRATE_UNMOVABLE, MIGRATE_MOVABLE),
)
"""By type: whose free blocks are taken, in this order, when its own are used up (Linux: fallbacks[])."""

_SHIFT: Final = 3  # GFP_MOVABLE_SHIFT


def gfp_migratetype(gfp: int) -> int:
    """The type of what *gfp* asks for (Linux: same name)."""
    return (gfp & GFP_MOBILITY_MASK) >> _SHIFT


assert gfp_migratetype(GFP_MOVABLE) == MIGRATE_MOVABLE
assert gfp_migratetype(GFP_RECLAIMABLE) == MIGRATE_RECLAIMABLE
