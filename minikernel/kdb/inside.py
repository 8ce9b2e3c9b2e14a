"""Commands that look into the kernel: its tasks, address spaces, page tables, frames, caches, events, decisions."""

from typing import TYPE_CHECKING, Final

from emu.paging import walk_steps
from emu.x86 import PAGE_MASK, PAGE_SHIFT, PF_I, PF_W, PTE_P, Pfn, VirtAddr
from minikernel.fs.validate import page_caches
from minikernel.kdb.command import CommandError, command
from minikernel.mm.rmap import rmap_walk
from minikernel.procfs.zoneinfo import zoneinfo
from minikernel.report.explain import header, line
from minikernel.report.foresee import foresee
from minikernel.report.frames import SIGNS, describe, frame_use, page_flags
from minikernel.report.place import display_name, locate, neighbour_words
from minikernel.report.words import entry_flags, entry_words, plural, rights, slot_words
from minikernel.task.task import TaskState

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.task.task import Task

_GROUP: Final = "kernel"
_DEFAULT_LINES: Final = 20
_WIDTH: Final = 64


# ---- tasks


@command("ps", "info inferiors", group=_GROUP)
def ps(session: "Session", arguments: str) -> None:
    """Every process: its parent, state, memory, threads and what it sleeps in.  `*` is in the CPU."""
    del arguments
    session.print(f"  {'PID':>5} {'PPID':>5} {'S':1} {'RSS':>8} {'THR':>3}  {'COMMAND':<16} CALL")
    for task in _leaders(session):
        mark = "*" if session.kernel.current is not None and task.tgid == session.kernel.current.tgid else " "
        parent = task.process.parent.pid if task.process.parent is not None else 0
        rss = f"{task.mm.rss * 4}K" if task.has_mm else "-"
        name = task.comm.decode(errors="backslashreplace")
        session.print(
            f"{mark} {task.tgid:>5} {parent:>5} {task.state.value} {rss:>8} {len(task.process.threads):>3}  "
            f"{name:<16} {_call(session, task)}".rstrip()
        )


def _leaders(session: "Session") -> "list[Task]":
    return [task for task in session.kernel.tasks.values() if task.pid == task.tgid]


def _call(session: "Session", task: "Task") -> str:
    """The system call that a sleeping task is in."""
    del session
    if task.state is not TaskState.SLEEPING or task.in_call is None:
        return ""
    from minikernel.syscalls.table import TABLES

    return TABLES[task.in_call.name].name(task.orig_ax & 0xFFFF_FFFF)


@command("threads", "info threads", group=_GROUP)
def threads(session: "Session", arguments: str) -> None:
    """Every task, threads included, and where each stands.  `*` is the one that commands are about."""
    del arguments
    chosen = session.selected or session.kernel.current
    kept = session.selected
    for task in list(session.kernel.tasks.values()):
        where = "(no memory)"
        if task.has_mm:
            session.selected = task
            where = session.place_words(session.registers()[16])
        mark = "*" if task is chosen else " "
        name = task.comm.decode(errors="backslashreplace")
        session.print(f"{mark} {task.pid:>5} {task.tgid:>5} {task.state.value} {name:<16} {where}")
    session.selected = kept


@command("task [PID]", "thread", "inferior", group=_GROUP)
def task_(session: "Session", arguments: str) -> None:
    """Say what the kernel knows about the current task; with PID, make that one the task that commands are about.

    Going on makes the task in the CPU current again.
    """
    if arguments:
        chosen = session.kernel.tasks.get(session.evaluate(arguments))
        if chosen is None:
            raise CommandError(f"There is no task {arguments}.")
        session.selected = chosen
    task = session.task
    kernel = session.kernel
    process = task.process
    cpu = "in the CPU" if kernel.current is task else "not in the CPU"
    rows = [
        ("task", f"{task.pid} of process {task.tgid}, {task.comm.decode(errors='backslashreplace')}, {cpu}"),
        ("abi", task.abi.name),
        ("state", f"{task.state.name.lower()} {_call(session, task)}".rstrip()),
        ("parent", str(process.parent.pid) if process.parent is not None else "none"),
        ("group", f"{process.pgrp}, session {process.session}"),
        ("children", " ".join(str(child.pid) for child in process.children) or "none"),
        ("threads", " ".join(str(thread.pid) for thread in process.threads)),
        ("signals", f"blocked {task.blocked:#x}, pending {task.pending.mask | process.shared_pending.mask:#x}"),
        ("memory", f"{plural(task.mm.rss, 'page')} resident, {plural(task.mm.total_vm, 'page')} mapped"),
        ("tables", f"{plural(task.mm.pgtable.nr_tables, 'table')}, root {task.mm.pgtable.root:#x}"),
        ("faults", f"{task.mm.min_flt:,} minor, {task.mm.maj_flt:,} major"),
    ]
    for label, words in rows:
        session.print(f"{label:<10}{words}")


@command("files", group=_GROUP)
def files(session: "Session", arguments: str) -> None:
    """The open files of the task: descriptor, position, flags, references, path."""
    del arguments
    table = session.task.files
    session.print(f"{'FD':>4} {'POS':>10} {'FLAGS':>9} {'REFS':>4}  FILE")
    for fd in table.open_fds():
        file = table.get_raw(fd)
        close = " (close-on-exec)" if fd in table.cloexec else ""
        path = file.path.decode(errors="backslashreplace")
        session.print(f"{fd:>4} {file.pos:>10} {f'0{file.flags:o}':>9} {file.refs:>4}  {path}{close}")


# ---- address spaces


@command("vmmap [ADDRESS]", "info proc mappings", group=_GROUP)
def vmmap(session: "Session", arguments: str) -> None:
    """The mappings of the task: range, rights, pages present of all, offset, name.  With ADDRESS, the one of it."""
    mm = session.mm
    chosen = session.evaluate(arguments) if arguments else None
    rows = [vma for vma in mm.vmas.items if chosen is None or vma.start <= chosen < vma.end]
    if not rows:
        assert chosen is not None, "vmmap: a program without mappings"
        place = locate(mm, session.explainer.symbols, chosen)
        session.print(f"{chosen:#x} is not mapped: {neighbour_words(place.below, 'below')};")
        session.print(f"{neighbour_words(place.above, 'above')}.")
        return
    digits = 2 + (12 if session.word == 8 else 8)
    session.print(f"{'START':<{digits}} {'END':<{digits}} PERM  {'PRESENT':>13} {'OFFSET':>8}  NAME")
    for vma in rows:
        present = sum(1 for _, pte in mm.pgtable.entries(vma.start, vma.end) if pte & PTE_P)
        offset = f"{vma.pgoff << PAGE_SHIFT:x}" if vma.mapping is not None else "-"
        session.print(
            f"{vma.start:#0{digits}x} {vma.end:#0{digits}x} {rights(vma.flags)} {present:>6}/{vma.nr_pages:<6} "
            f"{offset:>8}  {display_name(mm, vma)}"
        )


@command("pagewalk ADDRESS", "pw", group=_GROUP)
def pagewalk(session: "Session", arguments: str) -> None:
    """Walk the page tables as the hardware does: each entry's address, its raw value, and what it says."""
    address = _address(session, arguments)
    mm = session.mm
    mode = mm.pgtable.mode
    steps = walk_steps(session.kernel.physmem, mode, mm.pgtable.root, VirtAddr(address))
    session.print(f"{address:#x}: CR3 {mm.pgtable.root:#x}, {mode.name} paging")
    if not steps:
        session.print("the address is not canonical: there is no walk")
        return
    for step in steps:
        name = f"{step.level.name}[{step.index}]"
        raw = f"{step.raw:0{mode.entry_size * 2}x}"
        session.print(f"{name:<11} at {step.entry_phys:#x}: {raw}  {entry_words(step, mode)}")
    phys = session.physical(address)
    session.print(f"physical address {phys:#x}" if phys is not None else "the walk ends here: a page fault")


@command("pte ADDRESS", group=_GROUP)
def pte_(session: "Session", arguments: str) -> None:
    """The page-table entry of an address, its flags in words, and the frame behind it."""
    address = _address(session, arguments)
    mm = session.mm
    entry = mm.pgtable.get(address) if address < mm.layout.task_size else 0
    if not entry & PTE_P:
        what = "empty" if not entry else f"{entry:#x}  not present: {slot_words(mm.node, entry)}"
        session.print(f"{address:#x}: {what}")
        return
    phys = session.physical(address)
    assert phys is not None, "pte: the entry is present, the walk says otherwise"
    session.print(f"{address:#x}: {entry:#x}  {entry_flags(entry, mm.pgtable.mode)}")
    session.print(describe(session.kernel, phys >> PAGE_SHIFT))


@command("explain [last | N | ADDRESS]", group=_GROUP)
def explain(session: "Session", arguments: str) -> None:
    """Why a fault happened and what the kernel decided: the last one, number N of the run, or at an address.

    For an ADDRESS: where it is, how it is mapped now, and what a read, a write and a fetch would lead to.
    """
    known = session.explanations
    if arguments in {"", "last"}:
        if not known:
            raise CommandError("There was no fault yet.")
        session.print(known[-1].text(session.paint).rstrip("\n"))
        return
    if arguments.isdecimal() and len(arguments) < 8 and 0 < int(arguments) <= len(known):
        session.print(known[int(arguments) - 1].text(session.paint).rstrip("\n"))
        return
    address = _address(session, arguments)
    _explain_address(session, address)


def _explain_address(session: "Session", address: int) -> None:
    mm = session.mm
    place = locate(mm, session.explainer.symbols, address)
    name = f" {place.symbol}" if place.symbol is not None else ""
    session.print(f"{address:#x}: {place.short}{name}")
    if place.vma is None:
        session.print(f"  {neighbour_words(place.below, 'below')}")
        session.print(f"  {neighbour_words(place.above, 'above')}")
    else:
        vma = place.vma
        session.print(f"  mapping {vma.start:#x}-{vma.end:#x} {rights(vma.flags)} {place.name}")
    pagewalk(session, hex(address))
    for word, access in (("read", 0), ("write", PF_W), ("fetch", PF_I)):
        session.print(f"  a {word:<6}{foresee(mm, address, access).words}")
    page = address & ~PAGE_MASK
    past = [e for e in session.explanations if e.fault.address & ~PAGE_MASK == page and e.fault.root == mm.pgtable.root]
    for explanation in past[-3:]:
        then = explanation.fault.place.name or "no mapping"
        session.print(f"  fault {explanation.number} was here, in {then}: {explanation.access}, {explanation.short}")


@command("faults [N]", group=_GROUP)
def faults(session: "Session", arguments: str) -> None:
    """The last page faults of the run, one line each; with N, that many."""
    shown = session.explanations[-_lines(session, arguments) :]
    if not shown:
        session.print("There was no fault yet.")
        return
    session.print(header())
    for explanation in shown:
        session.print(line(explanation, session.paint))


# ---- frames


@command("page PFN", group=_GROUP)
def page(session: "Session", arguments: str) -> None:
    """One frame of RAM: its flags, counts, owner, and who maps it.  pfn(ADDRESS) is the frame behind an address."""
    pfn = _pfn(session, arguments)
    mem_map, zone = session.kernel.node.mem_map, session.kernel.node.zone_of(Pfn(pfn))
    rows = [
        ("frame", f"{pfn:#x}, physical address {pfn << PAGE_SHIFT:#x}, zone {zone.name}"),
        ("is", describe(session.kernel, pfn)),
        ("flags", page_flags(mem_map.flags[pfn]) or "none"),
        ("counts", f"refcount {mem_map.refcount[pfn]}, mapcount {mem_map.mapcount[pfn]}"),
    ]
    for label, words in rows:
        session.print(f"{label:<8}{words}")
    _show_rmap(session, pfn)


@command("rmap PFN", group=_GROUP)
def rmap(session: "Session", arguments: str) -> None:
    """Every page-table entry that maps a frame: process, address, entry."""
    pfn = _pfn(session, arguments)
    if not _show_rmap(session, pfn):
        session.print(f"No entry that the reverse map knows maps frame {pfn:#x}: {describe(session.kernel, pfn)}.")


def _show_rmap(session: "Session", pfn: int) -> int:
    owners: dict[int, list[int]] = {}
    for task in session.kernel.tasks.values():
        if task.has_mm:
            owners.setdefault(id(task.mm), []).append(task.tgid)
    found = rmap_walk(session.kernel.node.mem_map, Pfn(pfn))
    for mm, address in found:
        entry = mm.pgtable.get(address)
        pids = ", ".join(str(pid) for pid in dict.fromkeys(owners.get(id(mm), [])))
        session.print(f"mapped  by process {pids or '?'} at {address:#x}: {entry_flags(entry, mm.pgtable.mode)}")
    return len(found)


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
        return
    blocks = zoneinfo(session.kernel, ()).decode().split("Node 0, zone ")
    chosen = [block for block in blocks if block.split("\n")[0].strip().lower() == arguments.lower()]
    if not chosen:
        raise CommandError(f"No zone {arguments}: there are {', '.join(zone.name for zone in zones)}.")
    session.print("zone " + chosen[0].strip())


@command("pagecache [FILE]", group=_GROUP)
def pagecache(session: "Session", arguments: str) -> None:
    """The files whose pages are in memory; with FILE (a part of its path), which pages and in which frames."""
    tables = [task.files for task in session.kernel.tasks.values() if task.state is not TaskState.ZOMBIE]
    caches = {id(cache): cache for cache in page_caches(session.kernel.vfs, tables) if cache.pages}
    names: dict[int, str] = {}
    for task in session.kernel.tasks.values():
        for vma in task.mm.vmas.items if task.has_mm else ():
            if vma.mapping is not None and vma.file is not None:
                names[id(vma.mapping)] = vma.file.path.decode(errors="backslashreplace")
    rows = [(names.get(key, "(not mapped)"), cache) for key, cache in caches.items()]
    rows = [(name, cache) for name, cache in rows if arguments in name]
    if not rows:
        raise CommandError("No file in the page cache is called that." if arguments else "The page cache is empty.")
    for name, cache in sorted(rows, key=lambda row: row[0]):
        total = -(-cache.size >> PAGE_SHIFT)
        session.print(f"{len(cache.pages):>6} of {plural(total, 'page')} of {name}")
        if arguments:
            for index, pfn in sorted(cache.pages.items()):
                count = session.kernel.node.mem_map.mapcount[pfn]
                session.print(f"       page {index:>5} in frame {pfn:#x}, mapped {count} times")


@command("phys [PFN]", group=_GROUP)
def phys(session: "Session", arguments: str) -> None:
    """A map of all frames, or of the 64 x 16 frames from PFN on: one sign a frame, or for several the busiest."""
    kernel = session.kernel
    nr_frames = kernel.physmem.nr_frames
    first = _pfn(session, arguments) if arguments else 0
    scale = 1 if arguments else max(1, -(-nr_frames // (_WIDTH * 32)))
    last = min(first + _WIDTH * 16, nr_frames) if arguments else nr_frames
    for row in range(first, last, _WIDTH * scale):
        cells = []
        for start in range(row, min(row + _WIDTH * scale, last), scale):
            uses = [frame_use(kernel, pfn) for pfn in range(start, min(start + scale, last))]
            use = min(uses, key=list(SIGNS).index)
            sign, colour = SIGNS[use]
            cells.append(session.paint(sign, colour))
        session.print(f"{row:#08x} {''.join(cells)}")
    legend = "  ".join(f"{session.paint(sign, colour)} {use}" for use, (sign, colour) in SIGNS.items())
    session.print(f"{plural(scale, 'frame')} a sign: {legend}")


# ---- what happened


@command("syscalls [N]", group=_GROUP)
def syscalls(session: "Session", arguments: str) -> None:
    """The last system calls, decoded as strace shows them; with N, that many."""
    count = _lines(session, arguments)
    for text in list(session.calls)[-count:]:
        session.print(text.rstrip("\n"))


@command("events [N]", group=_GROUP)
def events(session: "Session", arguments: str) -> None:
    """The last events of the kernel: instruction count, process, name and fields; with N, that many."""
    count = _lines(session, arguments)
    for icount, pid, event in list(session.events)[-count:]:
        session.print(f"{icount:>12,} {pid:>5}  {event.text()}")


@command("when", group=_GROUP)
def when(session: "Session", arguments: str) -> None:
    """Where the run is: instructions, services of the kernel (which no instruction counts), virtual time, events.

    `goto` takes the number of instructions, and that of the last event.
    """
    del arguments
    kernel = session.kernel
    icount, services = session.machine.position
    now = kernel.clock.now_ns()
    session.tell(instructions=icount, services=services, ns=now, events=session.nr_events)
    session.print(
        f"{icount:,} instructions, {services:,} services, {now:,} ns of virtual time, "
        f"{session.nr_events:,} events, {plural(len(session.explanations), 'fault')}, "
        f"{plural(kernel.nr_syscalls, 'system call')}"
    )


# ---- arguments


def _address(session: "Session", arguments: str) -> int:
    if not arguments:
        raise CommandError("An address is missing.")
    return session.evaluate(arguments) & session.task.abi.mask


def _pfn(session: "Session", arguments: str) -> int:
    if not arguments:
        raise CommandError("A frame number is missing; pfn(ADDRESS) is the frame behind an address.")
    pfn = session.evaluate(arguments)
    if not 0 <= pfn < session.kernel.physmem.nr_frames:
        raise CommandError(f"There are frames 0 to {session.kernel.physmem.nr_frames - 1:#x}.")
    return pfn


def _lines(session: "Session", arguments: str) -> int:
    count = session.evaluate(arguments) if arguments else _DEFAULT_LINES
    if not 0 < count < 1 << 20:
        raise CommandError("How many?  A number from 1 on.")
    return count
