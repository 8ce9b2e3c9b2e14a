"""Commands that look at memory pressure: the lists that reclaim looks at, swap, and what has been done so far."""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT
from minikernel.kdb.command import CommandError, command
from minikernel.mm.policy.base import NR_LISTS, list_of
from minikernel.mm.swap_entry import entry_area, make_entry
from minikernel.mm.zone import WMARK_LOW, WMARK_MIN
from minikernel.report.frames import describe
from minikernel.report.words import plural, size_words

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "kernel"
LISTS: Final = ("inactive_anon", "active_anon", "inactive_file", "active_file")
_SHOWN: Final = 16


@command("lru [LIST]", group=_GROUP)
def lru(session: "Session", arguments: str) -> None:
    """The lists of the reclaim policy.  With LIST, the pages that would be looked at first."""
    lists = session.kernel.node.lru
    sizes = lists.lists()
    if not arguments:
        session.print(f"policy {lists.policy.name}: {lists.policy.summary}")
        for name, size in zip((*LISTS, "unevictable"), sizes, strict=True):
            session.print(f"{name:<14} {plural(size, 'page'):>14}  {size_words(size << PAGE_SHIFT)}")
            session.tell(**{name: size})
        return
    if arguments not in LISTS:
        raise CommandError(f"No list {arguments}: there are {', '.join(LISTS)}.")
    which = LISTS.index(arguments)
    assert which < NR_LISTS, "lru: a list that the policies do not have"
    flags = session.kernel.node.mem_map.flags
    pages = [pfn for pfn in lists.policy.pages() if list_of(flags[pfn]) == which]
    for pfn in pages[:_SHOWN]:
        session.print(describe(session.kernel, pfn))
    if len(pages) > _SHOWN:
        session.print(f"... and {plural(len(pages) - _SHOWN, 'page')} more")


@command("swap [AREA]", group=_GROUP)
def swap(session: "Session", arguments: str) -> None:
    """The swap areas and the swap cache.  With AREA (its number), the slots that are in use, and by how many."""
    space = session.kernel.node.swap
    if not arguments:
        if not space.order:
            session.print("There is no swap: start with --swap SIZE.")
            return
        for area in space.order:
            session.print(
                f"area {area.index}: {area.name.decode(errors='backslashreplace')}, priority {area.priority}, "
                f"{area.nr_used:,} of {plural(area.nr_slots, 'slot')} in use"
            )
            session.tell_more("areas", [{
                "name": area.name, "priority": area.priority, "used": area.nr_used, "slots": area.nr_slots,
            }])  # fmt: skip
        stat = session.kernel.node.vmstat
        session.print(f"{plural(len(space.cache), 'page')} in RAM and in swap at once (the swap cache)")
        session.print(f"{plural(stat['pswpout'], 'page')} written, {stat['pswpin']:,} read back")
        return
    area_of = {str(area.index): area for area in space.order}
    if arguments not in area_of:
        raise CommandError(f"No swap area {arguments}: there are {', '.join(area_of) or 'none'}.")
    chosen = area_of[arguments]
    shown = 0
    for slot in range(1, chosen.nr_pages):
        if not chosen.is_taken(slot):
            continue
        shown += 1
        if shown > _SHOWN:
            session.print(f"... and {plural(chosen.nr_used - _SHOWN, 'slot')} more")
            return
        entry = make_entry(chosen.index, slot)
        assert entry_area(entry) == chosen.index, "swap: an entry of another area"
        cached = f", cached in frame {space.cache[entry]:#x}" if entry in space.cache else ""
        session.print(f"slot {slot:,}: {plural(chosen.count[slot], 'reference')}{cached}")
    if not shown:
        session.print("No slot is in use.")


@command("pressure", group=_GROUP)
def pressure(session: "Session", arguments: str) -> None:
    """How short memory is, zone by zone, and what reclaim has done about it so far."""
    del arguments
    node = session.kernel.node
    for zone in node.zones:
        if zone.managed_pages:
            marks = zone.watermark
            state = "fine"
            if zone.nr_free <= marks[WMARK_MIN]:
                state = "below min: requests reclaim for themselves"
            elif zone.nr_free <= marks[WMARK_LOW]:
                state = "below low: kswapd is woken"
            session.print(f"zone {zone.name:<8} {plural(zone.nr_free, 'free frame')}: {state}")
    for name in ("pgscan", "pgsteal"):
        counts = ", ".join(f"{node.vmstat[f'{name}_{who}']:,} by {who}" for who in ("kswapd", "direct"))
        session.print(f"pages {'looked at' if name == 'pgscan' else 'taken'}: {counts}")
    refaults = sum(node.vmstat[f"workingset_refault_{kind}"] for kind in ("anon", "file"))
    session.print(f"pages that came back after they were taken: {refaults:,}")
    session.print(f"processes killed: {node.vmstat['oom_kill']}")
