"""Free blocks: /proc/buddyinfo, /proc/pagetypeinfo, and the two indices of debugfs' extfrag.  Linux: mm/vmstat.c."""

from collections.abc import Callable

from minikernel.kernel import Kernel
from minikernel.mm.buddy import MAX_PAGE_ORDER
from minikernel.mm.migratetype import MIGRATETYPE_NAMES
from minikernel.mm.zone import Zone

_ORDERS = range(MAX_PAGE_ORDER + 1)


def buddyinfo(kernel: Kernel) -> bytes:
    """Free blocks by order (frag_show)."""
    lines = []
    for zone in kernel.node.zones:
        counts = b"".join(b"%6d " % len(zone.buddy.free_area[order]) for order in _ORDERS)
        lines.append(b"Node 0, zone %8s %s\n" % (zone.name.encode(), counts))
    return b"".join(lines)


def pagetypeinfo(kernel: Kernel) -> bytes:
    """Free blocks by migrate type and order, and how many pageblocks are of each type (pagetypeinfo_show)."""
    from minikernel.mm.fragmentation import block_counts  # not needed to start a machine

    node = kernel.node
    block_order = node.mem_map.block_order
    text = f"Page block order: {block_order}\nPages per block:  {1 << block_order}\n\n"
    text += f"{'Free pages count per migrate type at order':<43} " + "".join(f"{order:6} " for order in _ORDERS) + "\n"
    zones = [zone for zone in node.zones if zone.managed_pages]
    for zone in zones:
        for migratetype, name in enumerate(MIGRATETYPE_NAMES):
            counts = "".join(f"{_free(zone, migratetype, order):6} " for order in _ORDERS)
            text += f"Node {0:4}, zone {zone.name:>8}, type {name:>12} {counts}\n"
    text += f"\n{'Number of blocks type ':<23}" + "".join(f"{name:>12} " for name in MIGRATETYPE_NAMES) + "\n"
    for zone in zones:
        blocks = [*block_counts(zone), 0, 0]
        text += f"Node 0, zone {zone.name:>8} " + "".join(f"{count:12} " for count in blocks) + "\n"
    return text.encode()


def _free(zone: Zone, migratetype: int, order: int) -> int:
    lists = zone.buddy.lists
    return len(lists[migratetype][order]) if migratetype < len(lists) else 0


def extfrag_index(kernel: Kernel) -> bytes:
    """Why an allocation of each order would fail (extfrag_show_print)."""
    from minikernel.mm.fragmentation import fragmentation_index

    return _indices(kernel, fragmentation_index, 2)


def unusable_index(kernel: Kernel) -> bytes:
    """Which part of free memory is of no use to each order (unusable_show_print)."""
    from minikernel.mm.fragmentation import unusable_free_index

    return _indices(kernel, unusable_free_index, 1)


def _indices(kernel: Kernel, index: Callable[[Zone, int], int], width: int) -> bytes:
    text = ""
    for zone in kernel.node.zones:
        if zone.managed_pages:
            values = [index(zone, order) for order in _ORDERS]
            numbers = "".join(f"{int(value / 1000):{width}}.{abs(value) % 1000:03} " for value in values)
            text += f"Node 0, zone {zone.name:>8} {numbers}\n"
    return text.encode()
