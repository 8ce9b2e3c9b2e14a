"""/proc/vmstat and /proc/swaps: what reclaim and swap have done.  Linux: mm/vmstat.c, mm/swapfile.c (swap_show)."""

from minikernel.kernel import Kernel
from minikernel.mm.page import PG_dirty, PG_swapbacked

_PAGE_KIB = 4

# Counts of events, in the order and by the names of vmstat_text[]; what never happened is 0.
_EVENTS = (  # noqa: SIM905 - so many words are read as text
    "pgpgin pgpgout pswpin pswpout allocstall_dma allocstall_dma32 allocstall_normal allocstall_movable "
    "pgactivate pgdeactivate pglazyfree pgfault pgmajfault pglazyfreed pgrefill pgreuse pgsteal_kswapd "
    "pgsteal_direct pgscan_kswapd pgscan_direct pgscan_direct_throttle pgscan_anon pgscan_file pgsteal_anon "
    "pgsteal_file pginodesteal slabs_scanned kswapd_inodesteal kswapd_low_wmark_hit_quickly "
    "kswapd_high_wmark_hit_quickly pageoutrun pgrotated drop_pagecache drop_slab oom_kill htlb_buddy_alloc_success "
    "htlb_buddy_alloc_fail unevictable_pgs_culled "
    "unevictable_pgs_scanned unevictable_pgs_rescued unevictable_pgs_mlocked unevictable_pgs_munlocked "
    "unevictable_pgs_cleared unevictable_pgs_stranded thp_fault_alloc thp_fault_fallback "
    "thp_collapse_alloc thp_collapse_alloc_failed thp_split_pmd thp_zero_page_alloc thp_zero_page_alloc_failed "
    "swap_ra swap_ra_hit"
).split()
_NODE_EVENTS = (  # noqa: SIM905 - as above
    "workingset_refault_anon workingset_refault_file workingset_activate_anon workingset_activate_file "
    "workingset_restore_anon workingset_restore_file nr_vmscan_write"
).split()


def node_counters(kernel: Kernel) -> tuple[tuple[bytes, int], ...]:
    """Pages as they are now, and events of the node: what /proc/zoneinfo shows too."""
    node = kernel.node
    inactive_anon, active_anon, inactive_file, active_file, unevictable = node.lru.lists()
    return (
        (b"nr_inactive_anon", inactive_anon),
        (b"nr_active_anon", active_anon),
        (b"nr_inactive_file", inactive_file),
        (b"nr_active_file", active_file),
        (b"nr_unevictable", unevictable),
        *((name.encode(), node.vmstat[name]) for name in _NODE_EVENTS),
        (b"nr_swapcached", len(node.swap.cache)),
    )


def vm_events(kernel: Kernel) -> tuple[tuple[bytes, int], ...]:
    """Events since boot (vm_event_states)."""
    spaces = kernel.address_spaces()
    counts = dict(kernel.node.vmstat)
    counts["pgfault"] = counts.get("pgfault", 0) + sum(mm.min_flt + mm.maj_flt for mm in spaces)
    counts["pgmajfault"] = counts.get("pgmajfault", 0) + sum(mm.maj_flt for mm in spaces)
    counts["pgpgin"] = counts.get("pswpin", 0) * _PAGE_KIB
    counts["pgpgout"] = (counts.get("pswpout", 0) + counts.get("nr_vmscan_write", 0)) * _PAGE_KIB
    return tuple((name.encode(), counts.get(name, 0)) for name in _EVENTS)


def dirty_pages(kernel: Kernel) -> int:
    """Pages of files that are newer than their store."""
    return sum(1 for flags in kernel.node.mem_map.flags if flags & (PG_dirty | PG_swapbacked) == PG_dirty)


def swaps(kernel: Kernel) -> bytes:
    """/proc/swaps."""
    lines = [b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"]
    for area in kernel.node.swap.order:
        kind = b"partition" if area.name.startswith(b"/dev/") else b"file\t"
        size, used = area.nr_slots * _PAGE_KIB, area.nr_used * _PAGE_KIB
        lines.append(
            b"%s%s\t%d\t%s%d\t%s%d\n"
            % (
                area.name.ljust(40),
                kind,
                size,
                b"\t" if size < 10_000_000 else b"",
                used,
                b"\t" if used < 10_000_000 else b"",
                area.priority,
            )
        )
    return b"".join(lines)
