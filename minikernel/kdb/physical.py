"""Commands about frames of RAM: page, rmap, frame-history, pageflags, phys, v2p, p2v."""

from typing import TYPE_CHECKING, Final

from emu.paging import walk_steps
from emu.x86 import PAGE_MASK, PAGE_SHIFT, Pfn, VirtAddr
from minikernel.kdb.command import CommandError, command
from minikernel.report.frame_history import frame_lives
from minikernel.report.framemap import flag_counts, map_by_owner, map_by_use
from minikernel.report.frames import count_words, describe, page_flags, who_maps
from minikernel.report.table import Column, grouped, hexadecimal
from minikernel.report.words import entry_flags, plural, size_words

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "kernel"
_MIN_WIDTH: Final = 32
_ROWS: Final = 32
_ZOOM_ROWS: Final = 16


@command("page PFN", group=_GROUP)
def page(session: "Session", arguments: str) -> None:
    """One frame of RAM: its flags, counts, owner, and who maps it.  pfn(ADDRESS) is the frame behind an address.

    What it backs is told by name: a page of a file, anonymous memory, a page table and its addresses, objects of a
    cache of the kernel, a task's kernel stack, free.
    """
    pfn = pfn_argument(session, arguments)
    node = session.kernel.node
    rows = {
        "frame": f"{pfn:#x}, physical address {pfn << PAGE_SHIFT:#x}, zone {node.zone_of(Pfn(pfn)).name}",
        "is": describe(session.kernel, pfn),
        "flags": page_flags(node.mem_map.flags[pfn]) or "none",
        "counts": count_words(session.kernel, pfn),
    }
    for label, words in rows.items():
        session.print(f"{label:<8}{words}")
    session.tell(
        pfn=pfn, refcount=node.mem_map.refcount[pfn], mapcount=node.mem_map.mapcount[pfn], use=rows["is"],
        flags=page_flags(node.mem_map.flags[pfn]).split(), zone=node.zone_of(Pfn(pfn)).name,
    )  # fmt: skip
    _show_rmap(session, pfn)


@command("rmap PFN|ADDRESS", group=_GROUP)
def rmap(session: "Session", arguments: str) -> None:
    """Every page-table entry that maps a frame: process, address, entry.  rmap PFN, or an ADDRESS that is mapped.

    A number that is a frame of RAM is taken as one; any other is an address of the program.
    """
    pfn = pfn_argument(session, arguments, or_address=True)
    if not _show_rmap(session, pfn):
        session.print(f"No entry that the reverse map knows maps frame {pfn:#x}: {describe(session.kernel, pfn)}.")


def _show_rmap(session: "Session", pfn: int) -> int:
    found = who_maps(session.kernel, pfn)
    mode = session.kernel.node.layout.mode
    for one in found:
        entry, name = int(str(one["entry"])), f" ({one['mapping']})" if one["mapping"] else ""
        flags = entry_flags(entry, mode)
        session.print(f"mapped  by process {one['processes']} at {int(str(one['address'])):#x}{name}: {flags}")
    session.tell(mapped_by=found)
    return len(found)


@command("frame-history PFN|ADDRESS", group=_GROUP)
def frame_history(session: "Session", arguments: str) -> None:
    """What a frame was used for since boot: allocated by whom, mapped where, shared by fork, copied, swapped, freed.

    Pages that come along with a fault next to them (fault-around) are not told one by one; `page` shows who maps the
    frame now.
    """
    pfn = pfn_argument(session, arguments, or_address=True)
    lives = frame_lives(session.frame_log, session.explanations, session.events, pfn)
    session.print(f"frame {pfn:#x}, zone {session.kernel.node.zone_of(Pfn(pfn)).name}")
    if session.frame_log.forgotten_before:
        session.print(f"  what was before instruction {session.frame_log.forgotten_before:,} is forgotten")
    if session.explanations and session.explanations[0].number > 1:
        session.print(f"  faults before number {session.explanations[0].number:,} are not kept")
    told = []
    for life in lives:
        if life.begun is None:
            session.print(
                f"{'boot':>14}       {'in use, or free, since boot' if not life.between else 'in use since boot'}"
            )
        for icount, pid, words in life.rows():
            session.print(f"{icount:>14,} {pid:>5} {words}")
            told.append({"icount": icount, "pid": pid, "what": words})
    session.print(f"{'now':>14}       {describe(session.kernel, pfn)}")
    session.tell(pfn=pfn, history=told)


@command("pageflags [PFN]", group=_GROUP)
def pageflags(session: "Session", arguments: str) -> None:
    """The flags of one frame in words; without PFN, how many frames have which flags (as page-types(1) counts them)."""
    if arguments:
        pfn = pfn_argument(session, arguments)
        flags = session.kernel.node.mem_map.flags[pfn]
        session.print(f"frame {pfn:#x}: {flags:#x} {page_flags(flags) or 'none'}")
        session.tell(pfn=pfn, flags=page_flags(flags).split())
        return
    rows = [
        {"frames": count, "size": size_words(count << PAGE_SHIFT), "value": flags, "flags": page_flags(flags) or "none"}
        for flags, count in flag_counts(session.kernel)
    ]
    session.table(
        (
            Column("frames", "FRAMES", right=True, form=grouped),
            Column("size", "SIZE", right=True),
            Column("value", "VALUE", right=True, form=hexadecimal),
            Column("flags", "FLAGS"),
        ),
        rows,
    )


@command("phys [owner] [PFN [COUNT]]", group=_GROUP)
def phys(session: "Session", arguments: str) -> None:
    """A map of all frames, a sign each, or of a part: phys [owner] [PFN [COUNT]].

    By what they are for; with `owner`, by which process maps them.  Where one sign stands for several frames, the
    rarest use of them shows: `phys PFN` looks closer, one sign a frame.
    """
    words = arguments.split()
    by_owner = bool(words) and "owner".startswith(words[0])
    words = words[1:] if by_owner else words
    nr_frames = session.kernel.physmem.nr_frames
    width = _map_width(session)
    if not words:
        first, last = 0, nr_frames
        scale = 1
        while -(-nr_frames // (width * scale)) > _ROWS:
            scale *= 2
    else:
        count = width * _ZOOM_ROWS
        if len(words) > 1 and words[-1].isdecimal():
            count = max(int(words.pop()[:7]), 1)
        first = pfn_argument(session, " ".join(words)) // width * width
        last, scale = min(first + count, nr_frames), 1
        while -(-count // (width * scale)) > 4 * _ROWS:
            scale *= 2
    chart = (map_by_owner if by_owner else map_by_use)(session.kernel, first, last, scale)
    for row, cells in chart.rows(width):
        session.print(f"{row:#08x} {''.join(session.paint(cell.sign, cell.colour) for cell in cells)}")
    legend = [
        f"{session.paint(cell.sign, cell.colour)} {name} {count:,}" for name, (cell, count) in chart.legend.items()
    ]
    session.print(f"{plural(scale, 'frame')} ({size_words(scale << PAGE_SHIFT)}) a sign: {'  '.join(legend)}")
    session.tell(
        first=first, last=last, scale=scale, cells="".join(cell.sign for cell in chart.cells),
        legend=[{"sign": cell.sign, "name": name, "frames": count} for name, (cell, count) in chart.legend.items()],
    )  # fmt: skip


def _map_width(session: "Session") -> int:
    """Signs in a row: a power of two that the screen has room for."""
    room = (session.settings.columns() or 80) - len("0x000000 ")
    width = _MIN_WIDTH
    while width * 2 <= room and width < 128:
        width *= 2
    return width


@command("v2p ADDRESS", group=_GROUP)
def v2p(session: "Session", arguments: str) -> None:
    """The physical address behind an address of the program, and the frame."""
    if not arguments:
        raise CommandError("An address is missing.")
    address = session.evaluate(arguments) & session.task.abi.mask
    physical = session.physical(address)
    if physical is None:
        raise CommandError(f"{address:#x}: no page is present; `pagewalk` shows where the walk ends.")
    session.print(f"{address:#x} -> {physical:#x}  {describe(session.kernel, physical >> PAGE_SHIFT)}")
    session.tell(address=address, physical=physical)


@command("p2v PHYSICAL", group=_GROUP)
def p2v(session: "Session", arguments: str) -> None:
    """Every address at which a physical address can be seen: in the kernel's direct map, and in processes."""
    if not arguments:
        raise CommandError("A physical address is missing.")
    physical = session.evaluate(arguments)
    if not 0 <= physical < session.kernel.physmem.size:
        raise CommandError(f"RAM ends at {session.kernel.physmem.size:#x}.")
    pfn, within = physical >> PAGE_SHIFT, physical & PAGE_MASK
    session.print(describe(session.kernel, pfn))
    seen: list[dict[str, object]] = []
    direct = session.kernel.node.layout.page_offset + physical
    mode, root = session.kernel.node.layout.mode, session.kernel.init_pgtable.root
    steps = walk_steps(session.kernel.physmem, mode, root, VirtAddr(direct)) if mode.is_canonical(direct) else ()
    if steps and steps[-1].leaf:  # on i386 it ends at 896 MiB
        session.print(f"kernel    {direct:#x}  direct map")
        seen.append({"process": None, "address": direct})
    for one in who_maps(session.kernel, pfn):
        address = int(str(one["address"])) + within
        session.print(f"process {one['processes']}  {address:#x}  {one['mapping']}")
        seen.append({"process": one["processes"], "address": address})
    session.tell(physical=physical, seen=seen)


def pfn_argument(session: "Session", arguments: str, *, or_address: bool = False) -> int:
    """The frame that *arguments* name; *or_address*: what is no frame's number may be an address that is mapped.

    Raises:
        CommandError.
    """
    if not arguments:
        raise CommandError("A frame number is missing; pfn(ADDRESS) is the frame behind an address.")
    pfn = session.evaluate(arguments)
    if not 0 <= pfn < session.kernel.physmem.nr_frames:
        physical = session.physical(pfn & session.task.abi.mask) if or_address else None
        if physical is None:
            raise CommandError(f"There are frames 0 to {session.kernel.physmem.nr_frames - 1:#x}.")
        return physical >> PAGE_SHIFT
    return pfn
