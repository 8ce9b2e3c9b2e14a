"""Commands that look into the kernel's own memory: caches of objects, the vmalloc area, free blocks."""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT
from minikernel.kdb.command import CommandError, command
from minikernel.mm.slab_validate import validate_slab
from minikernel.procfs import buddyinfo as texts
from minikernel.procfs.slabinfo import vmallocinfo
from minikernel.report.leaks import usage
from minikernel.report.words import plural

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.mm.kmem_cache import KmemCache, Slab

_GROUP: Final = "kernel"


@command("leaks", group=_GROUP)
def leaks(session: "Session", arguments: str) -> None:
    """Who holds frames, mappings, swap slots and objects, and which frames nobody knows any more."""
    del arguments
    for text in usage(session.kernel):
        session.print(text)


@command("slab [CACHE | ADDRESS]", group=_GROUP)
def slab_(session: "Session", arguments: str) -> None:
    """The caches of the kernel's objects that have frames; with CACHE its slabs, with ADDRESS the object there."""
    slab = session.kernel.node.slab
    validate_slab(slab)
    if arguments in slab.caches:
        _show_cache(session, slab.caches[arguments])
        return
    if arguments:
        _show_object(session, session.evaluate(arguments))
        return
    session.print(f"{'CACHE':<18} {'SIZE':>6} {'IN USE':>7} {'OBJECTS':>7} {'SLABS':>6} {'FRAMES':>6}")
    for cache in slab.caches.values():
        if cache.slabs:
            session.print(
                f"{cache.name:<18} {cache.layout.size:>6} {cache.nr_in_use:>7} {cache.total_objects:>7} "
                f"{len(cache.slabs):>6} {cache.nr_pages:>6}"
            )
            session.tell_more("caches", [{
                "name": cache.name, "size": cache.layout.size, "in_use": cache.nr_in_use,
                "objects": cache.total_objects, "slabs": len(cache.slabs), "frames": cache.nr_pages,
            }])  # fmt: skip
    reclaimable = plural(slab.nr_reclaimable, "frame")
    session.print(f"{plural(slab.nr_unreclaimable, 'frame')} for good, {reclaimable} that a shrinker can free")


def _show_cache(session: "Session", cache: "KmemCache") -> None:
    layout = cache.layout
    session.print(
        f"{cache.name}: objects of {layout.object_size} bytes every {layout.size}, {layout.objects} in a slab of "
        f"{plural(1 << layout.order, 'frame')}; {len(cache.freelist)} in hand"
    )
    for slab in cache.slabs.values():
        free = len(slab.free)
        session.print(f"  slab at frame {slab.pfn:#x}, order {slab.order}: {slab.objects} objects, {free} free")
    session.print(f"  made {plural(cache.nr_slabs_made, 'slab')}, gave {cache.nr_slabs_freed} back")


def _show_object(session: "Session", address: int) -> None:
    slab = session.kernel.node.slab
    pfn = (address - slab.page_offset) >> PAGE_SHIFT
    owner = session.kernel.node.mem_map.owner[pfn] if 0 <= pfn < session.kernel.physmem.nr_frames else None
    found = next((one for cache in slab.caches.values() for one in cache.slabs.values() if one is owner), None)
    if found is None:
        raise CommandError(f"There is no cache of that name, and no object at {address:#x}.")
    layout = found.cache.layout
    first = slab.page_offset + (found.pfn << PAGE_SHIFT) + layout.red_left
    index = (address - first) // layout.size
    start = first + index * layout.size
    session.print(f"{address:#x}: {address - start:#x} into object {index} of {found.cache.name} at {start:#x}")
    session.print(f"  {_state(found, start)}; slab at frame {found.pfn:#x}")
    session.print(f"  {slab.read(start, min(layout.object_size, 32)).hex(' ')}")


def _state(slab: "Slab", address: int) -> str:
    if address in slab.free or address in slab.cache.freelist:
        return "free"
    debug = slab.cache.debug
    return "in use" if debug is None else f"in use, allocated in {debug.taken.get(address, '?')}"


@command("vmalloc", group=_GROUP)
def vmalloc(session: "Session", arguments: str) -> None:
    """The vmalloc area: every range, who asked for it, and its frames."""
    del arguments
    area = session.kernel.kernel_half.vmalloc
    text = vmallocinfo(session.kernel).decode().rstrip("\n")
    session.print(text or "Nothing is mapped there.")
    session.print(f"{plural(area.nr_pages, 'frame')} of vmalloc, from {area.start:#x} to {area.end:#x}")


@command("buddyinfo", group=_GROUP)
def buddyinfo(session: "Session", arguments: str) -> None:
    """Free blocks of each zone by order, by migrate type, and how fragmented they are.

    Two indices, for each order: why an allocation of it would fail (-1: it would not; towards 0 for want of memory,
    towards 1 for fragmentation), and which part of the free memory is of no use to it.
    """
    del arguments
    parts = (
        texts.buddyinfo(session.kernel),
        b"\n" + texts.pagetypeinfo(session.kernel),
        b"\nFragmentation index:\n" + texts.extfrag_index(session.kernel),
        b"\nUnusable index:\n" + texts.unusable_index(session.kernel),
    )
    session.print(b"".join(parts).decode().rstrip("\n"))
