"""GFP flags: where a frame may come from, and what may be done to get it (Linux: include/linux/gfp_types.h).

Plain ints: the allocator tests them once per page.
"""

from typing import Final

# Zone modifiers: which zone is the highest that will do.  They index the zonelists.
GFP_DMA: Final = 0x01  # below 16 MiB
GFP_HIGHMEM: Final = 0x02  # need not be in the direct map
GFP_DMA32: Final = 0x04  # below 4 GiB
GFP_MOVABLE: Final = 0x08  # may be migrated
GFP_ZONEMASK: Final = 0x0F

# Mobility: with GFP_MOVABLE, which pageblocks the frame should come from.
GFP_RECLAIMABLE: Final = 0x10  # a shrinker can give it back
GFP_MOBILITY_MASK: Final = GFP_MOVABLE | GFP_RECLAIMABLE

# Action modifiers.
GFP_HIGH: Final = 0x20  # high priority: may use half of the min watermark
GFP_IO: Final = 0x40  # reclaim may start I/O
GFP_FS: Final = 0x80  # reclaim may call into file systems
GFP_ZERO: Final = 0x100  # the frame is zero-filled
GFP_DIRECT_RECLAIM: Final = 0x400  # the caller may reclaim
GFP_KSWAPD_RECLAIM: Final = 0x800  # kswapd may be woken
GFP_NORETRY: Final = 0x10000  # give up rather than try hard
GFP_MEMALLOC: Final = 0x20000  # reclaim's own and a dying task's: no watermark holds it back

GFP_ATOMIC: Final = GFP_HIGH | GFP_KSWAPD_RECLAIM
GFP_NOWAIT: Final = GFP_KSWAPD_RECLAIM
GFP_KERNEL: Final = GFP_DIRECT_RECLAIM | GFP_KSWAPD_RECLAIM | GFP_IO | GFP_FS
GFP_USER: Final = GFP_KERNEL  # Linux adds __GFP_HARDWALL, which is about cpusets
GFP_HIGHUSER: Final = GFP_USER | GFP_HIGHMEM
GFP_HIGHUSER_MOVABLE: Final = GFP_HIGHUSER | GFP_MOVABLE
