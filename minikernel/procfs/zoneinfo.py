"""/proc/zoneinfo: the zones, their watermarks and reserves.  Linux: mm/vmstat.c (zoneinfo_show_print)."""

from collections.abc import Iterable

from minikernel.kernel import Kernel
from minikernel.mm.zone import Zone


def zoneinfo(kernel: Kernel, counters: Iterable[tuple[bytes, int]]) -> bytes:
    """The text; *counters* are the node's, shown in its first zone."""
    parts = []
    for zone in kernel.node.zones:
        parts.append(b"Node 0, zone %8s\n" % zone.name.encode())
        if zone.index == 0:
            parts.append(b"  per-node stats\n")
            parts.extend(b"      %-12s %d\n" % row for row in counters)
        parts.append(_zone(zone))
    return b"".join(parts)


def _zone(zone: Zone) -> bytes:
    low, middle, high = zone.watermark
    spanned = zone.end_pfn - zone.start_pfn
    protection = b", ".join(b"%d" % pages for pages in zone.lowmem_reserve)
    rows = (
        (b"  pages free     %d\n", zone.buddy.nr_free),
        (b"        boost    %d\n", 0),
        (b"        min      %d\n", low),
        (b"        low      %d\n", middle),
        (b"        high     %d\n", high),
        (b"        spanned  %d\n", spanned),
        (b"        present  %d\n", spanned),
        (b"        managed  %d\n", zone.managed_pages),
        (b"        cma      %d\n", 0),
    )
    text = b"".join(form % value for form, value in rows) + b"        protection: (%s)\n" % protection
    text += b"      nr_free_pages %d\n" % zone.buddy.nr_free
    text += b"  pagesets\n    cpu: 0\n"
    text += b"              count:    %d\n              high:     %d\n              batch:    %d\n" % (
        sum(map(len, zone.pcps)), zone.pcp_high, zone.batch,
    )  # fmt: skip
    return text + b"  node_unreclaimable:  0\n  start_pfn:           %d\n" % zone.start_pfn
