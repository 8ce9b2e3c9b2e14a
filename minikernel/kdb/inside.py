"""Commands that look into the kernel as a whole: zone, pagecache, meminfo, vmstat."""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT
from minikernel.kdb.command import CommandError, command
from minikernel.procfs.system import meminfo as meminfo_text
from minikernel.procfs.system import vmstat as page_counters
from minikernel.procfs.vmstat import vm_events
from minikernel.procfs.zoneinfo import zoneinfo
from minikernel.report.backing import all_caches, file_names
from minikernel.report.ranges import index_ranges
from minikernel.report.table import Column, grouped
from minikernel.report.words import plural

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.mm.filemap import PageCache

_GROUP: Final = "kernel"


@command("zone [ZONE]", group=_GROUP)
def zone_(session: "Session", arguments: str) -> None:
    """The zones: free and managed frames, watermarks.  With ZONE, as /proc/zoneinfo shows it."""
    zones = session.kernel.node.zones
    if not arguments:
        session.print(f"{'ZONE':<8} {'FRAMES':<21} {'MANAGED':>9} {'FREE':>9} {'MIN':>6} {'LOW':>6} {'HIGH':>6}")
        for zone in zones:
            low, middle, high = zone.watermark
            frames = f"{zone.start_pfn:#x}-{zone.end_pfn:#x}"
            counts = f"{zone.managed_pages:>9,} {zone.nr_free:>9,}"
            session.print(f"{zone.name:<8} {frames:<21} {counts} {low:>6} {middle:>6} {high:>6}")
            session.tell_more("zones", [{
                "name": zone.name, "start": zone.start_pfn, "end": zone.end_pfn, "managed": zone.managed_pages,
                "free": zone.nr_free, "min": low, "low": middle, "high": high,
            }])  # fmt: skip
        return
    blocks = zoneinfo(session.kernel, ()).decode().split("Node 0, zone ")
    chosen = [block for block in blocks if block.split("\n")[0].strip().lower() == arguments.lower()]
    if not chosen:
        raise CommandError(f"No zone {arguments}: there are {', '.join(zone.name for zone in zones)}.")
    session.print("zone " + chosen[0].strip())


@command("pagecache [FILE | all]", group=_GROUP)
def pagecache(session: "Session", arguments: str) -> None:
    """The files whose pages are in memory; with FILE (a part of its path) its pages: in which frames, how often mapped.

    Shared memory, System V segments and files whose name is gone are among them.  With `all`, also files of which no
    page is cached.
    """
    names = file_names(session.kernel)
    caches = [cache for cache in all_caches(session.kernel) if cache.pages or cache.swapped or arguments == "all"]
    rows = [(names.get(id(cache), "(without a name)"), cache) for cache in caches]
    if arguments != "all":
        rows = [(name, cache) for name, cache in rows if arguments in name]
    if not rows:
        raise CommandError("No file in the page cache is called that." if arguments else "The page cache is empty.")
    detail = bool(arguments) and arguments != "all"
    told = []
    for name, cache in sorted(rows, key=lambda row: row[0]):
        told.append(_cache_values(session, name, cache))
        if detail:
            total = -(-cache.size >> PAGE_SHIFT)
            session.print(f"{len(cache.pages):>6} of {plural(total, 'page')} of {name}")
            _show_pages(session, cache)
    if detail:
        session.tell(files=told)
        return
    columns = [
        Column(key, key.upper(), right=True, form=grouped) for key in ("cached", "pages", "dirty", "mapped", "swapped")
    ]
    session.table((*columns, Column("name", "FILE")), told, key="files")


def _cache_values(session: "Session", name: str, cache: "PageCache") -> dict[str, object]:
    mapcount = session.kernel.node.mem_map.mapcount
    return {
        "name": name,
        "cached": len(cache.pages),
        "pages": -(-cache.size >> PAGE_SHIFT),
        "dirty": len(cache.dirty),
        "mapped": sum(1 for pfn in cache.pages.values() if mapcount[pfn]),
        "swapped": len(cache.swapped),
        "size": cache.size,
    }


def _show_pages(session: "Session", cache: "PageCache") -> None:
    """Which pages are where; rows of pages in a row of frames are one line."""
    mem_map = session.kernel.node.mem_map
    rows = [
        (index, int(pfn), mem_map.mapcount[pfn], index in cache.dirty) for index, pfn in sorted(cache.pages.items())
    ]
    for first, last, pfn, mapped, dirty in index_ranges(rows):
        pages = f"page {first:>5}" if first == last else f"pages {first}-{last}"
        frames = f"frame {pfn:#x}" if first == last else f"frames {pfn:#x}-{pfn + last - first:#x}"
        words = f"mapped {mapped} times" if mapped > 1 else "mapped once" if mapped else "not mapped"
        session.print(f"       {pages} in {frames}, {words}{', dirty' if dirty else ''}")
    for index in sorted(cache.swapped):
        session.print(f"       page {index:>5} in swap")


@command("meminfo [WORD]", group=_GROUP)
def meminfo(session: "Session", arguments: str) -> None:
    """/proc/meminfo as the machine would show it now; with WORD, the lines that contain it."""
    lines = meminfo_text(session.kernel).decode().splitlines()
    chosen = [line for line in lines if arguments.lower() in line.lower()]
    if not chosen:
        raise CommandError(f"Nothing of meminfo is called {arguments}.")
    for line in chosen:
        session.print(line)
        name, _, rest = line.partition(":")
        session.tell(**{name: int(rest.split()[0])})


@command("vmstat [WORD | all]", group=_GROUP)
def vmstat(session: "Session", arguments: str) -> None:
    """The counters of /proc/vmstat that are not 0, and by how much each has changed since they were shown last.

    With WORD, those whose name contains it; with `all`, those that are 0, too.
    """
    kernel = session.kernel
    counters = {name.decode(): value for name, value in (*page_counters(kernel), *vm_events(kernel))}
    before, session.shown_counters = session.shown_counters, counters
    wanted = "" if arguments == "all" else arguments
    chosen = {name: value for name, value in counters.items() if wanted in name}
    if not chosen:
        raise CommandError(f"No counter is called {arguments}.")
    for name, value in chosen.items():
        change = value - before.get(name, value)
        if value or change or arguments:
            session.print(f"{name:<28} {value:>12,}{f'  {change:+,}' if change else ''}")
            session.tell(**{name: value})
