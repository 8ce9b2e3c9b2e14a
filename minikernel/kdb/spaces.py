"""Commands about address spaces: vmmap, maps, pagewalk, pte, wset."""

import re
from typing import TYPE_CHECKING, Final

from emu.paging import walk_steps
from emu.x86 import PAGE_SHIFT, PTE_A, PTE_D, PTE_P, PTE_RW, VirtAddr
from minikernel.kdb.command import CommandError, command
from minikernel.mm.vma import VM_EXEC, VM_SHARED, VM_WRITE
from minikernel.report.frames import describe, kernel_words
from minikernel.report.place import display_name, locate, neighbour_words
from minikernel.report.table import Column, grouped
from minikernel.report.tables import effective_rights
from minikernel.report.words import entry_flags, entry_words, rights, slot_words

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma

_GROUP: Final = "kernel"
_RIGHTS: Final = re.compile(r"[r-][w-]([x-][sp]?)?")
_HEAD: Final = re.compile(rb"[0-9a-f]+-[0-9a-f]+ ")  # of a mapping's lines
_WANTED: Final = {"-w": VM_WRITE, "-x": VM_EXEC, "-s": VM_SHARED}


@command("vmmap [ADDRESS|NAME|RIGHTS]", "info proc mappings", group=_GROUP)
def vmmap(session: "Session", arguments: str) -> None:
    """The mappings of the task: range, rights, pages present of all, offset, name.

    vmmap ADDRESS shows the one that contains it, vmmap NAME those whose name contains NAME, vmmap rw-p those with these
    rights; vmmap -w, -x, -s those that may be written, run, are shared.  Colours: code, stack, heap, other data.
    """
    mm = session.mm
    rows, address = _chosen(session, mm, arguments.strip())
    if not rows:
        if address is None:
            raise CommandError(f"No mapping is like {arguments}.")
        if address >= mm.layout.task_size:
            session.print(f"{address:#x}: {kernel_words(session.kernel, address)}")
            return
        place = locate(mm, session.explainer.symbols, address)
        session.print(f"{address:#x} is not mapped: {neighbour_words(place.below, 'below')};")
        session.print(f"{neighbour_words(place.above, 'above')}.")
        return
    digits = 2 + (12 if session.word == 8 else 8)
    session.print(f"{'START':<{digits}} {'END':<{digits}} PERM  {'PRESENT':>13} {'OFFSET':>8}  NAME")
    for vma in rows:
        present = sum(1 for _, pte in mm.pgtable.entries(vma.start, vma.end) if pte & PTE_P)
        offset = f"{vma.pgoff << PAGE_SHIFT:x}" if vma.mapping is not None else "-"
        name = display_name(mm, vma)
        text = (
            f"{vma.start:#0{digits}x} {vma.end:#0{digits}x} {rights(vma.flags)} {present:>6}/{vma.nr_pages:<6} "
            f"{offset:>8}  {name}"
        )
        session.print(session.paint(text, *_colours(vma, name)))
        session.tell_more("mappings", [{
            "start": vma.start, "end": vma.end, "rights": rights(vma.flags), "present": present,
            "pages": vma.nr_pages, "offset": vma.pgoff << PAGE_SHIFT if vma.mapping is not None else None, "name": name,
        }])  # fmt: skip


def _chosen(session: "Session", mm: "MmStruct", word: str) -> "tuple[list[Vma], int | None]":
    """The mappings that *word* chooses, and the address if it is one."""
    items = list(mm.vmas.items)
    if not word:
        return items, None
    if word in _WANTED:
        return [vma for vma in items if vma.flags & _WANTED[word]], None
    if _RIGHTS.fullmatch(word):
        return [vma for vma in items if rights(vma.flags).startswith(word)], None
    if not word[0].isdecimal() and word[0] not in "$*(":
        named = [vma for vma in items if word in display_name(mm, vma)]
        if named:
            return named, None
    address = session.evaluate(word) & session.task.abi.mask
    return [vma for vma in items if vma.start <= address < vma.end], address


def _colours(vma: "Vma", name: str) -> tuple[str, ...]:
    if vma.flags & VM_EXEC:
        return ("red", "bold") if vma.flags & VM_WRITE else ("red",)
    if not vma.flags & VM_WRITE:
        return ()
    return {"[stack]": ("yellow",), "[heap]": ("blue",)}.get(name, ("magenta",))


@command("maps [at ADDRESS]", group=_GROUP)
def maps(session: "Session", arguments: str) -> None:
    """The mappings as /proc/PID/maps has them; `maps at ADDRESS`: the one there, as /proc/PID/smaps tells of it."""
    from minikernel.procfs.maps import maps as all_text
    from minikernel.procfs.maps import smaps

    if not arguments:
        session.print(all_text(session.task).decode(errors="backslashreplace").rstrip("\n"))
        return
    word, _, place = arguments.partition(" ")
    if word != "at":
        raise CommandError("maps takes nothing, or `at` and an address.")
    address = address_argument(session, place)
    vma = session.mm.vmas.find(address)
    if vma is None:
        raise CommandError(f"{address:#x} is not mapped.")
    head = f"{vma.start:08x}-".encode()
    lines = smaps(session.task).splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(head))
    end = next((at for at in range(start + 1, len(lines)) if _HEAD.match(lines[at])), len(lines))
    for line in lines[start:end]:
        session.print(line.decode(errors="backslashreplace"))


@command("pagewalk ADDRESS", "pw", group=_GROUP)
def pagewalk(session: "Session", arguments: str) -> None:
    """Walk the page tables as the hardware does: each entry's address, its raw value, its flags, what it decided.

    At the end: what all levels together allow.  R/W and U/S count only if every level has them; XD in one is enough.
    """
    address = address_argument(session, arguments)
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
        session.tell_more("walk", [{
            "level": step.level.name, "index": step.index, "at": step.entry_phys, "entry": step.raw,
            "present": step.present, "leaf": step.leaf,
        }])  # fmt: skip
    allowed = effective_rights(steps, mode)
    session.print(f"together    {allowed.words}")
    physical = session.physical(address)
    session.print(f"physical address {physical:#x}" if physical is not None else "the walk ends here: a page fault")
    session.tell(address=address, physical=physical, writable=allowed.writable, user=allowed.user,
                 executable=allowed.executable)  # fmt: skip


@command("pte ADDRESS", group=_GROUP)
def pte_(session: "Session", arguments: str) -> None:
    """The page-table entry of an address, its flags in words, and the frame behind it."""
    address = address_argument(session, arguments)
    mm = session.mm
    entry = mm.pgtable.get(address) if address < mm.layout.task_size else 0
    session.tell(address=address, entry=entry)
    if not entry & PTE_P:
        what = "empty" if not entry else f"{entry:#x}  not present: {slot_words(mm.node, entry)}"
        session.print(f"{address:#x}: {what}")
        return
    physical = session.physical(address)
    assert physical is not None, "pte: the entry is present, the walk says otherwise"
    session.print(f"{address:#x}: {entry:#x}  {entry_flags(entry, mm.pgtable.mode)}")
    session.print(describe(session.kernel, physical >> PAGE_SHIFT))


@command("wset", group=_GROUP)
def wset(session: "Session", arguments: str) -> None:
    """The working set: of each mapping, pages present, accessed and dirty by the bits of their entries, and in swap.

    The hardware sets the bits; the kernel clears `accessed` when reclaim looks.  Without memory pressure it tells what
    was ever touched.
    """
    del arguments
    mm = session.mm
    rows = []
    for vma in mm.vmas.items:
        entries = [pte for _, pte in mm.pgtable.entries(vma.start, vma.end)]
        present = [pte for pte in entries if pte & PTE_P]
        if not entries:
            continue
        rows.append({
            "name": display_name(mm, vma), "start": vma.start, "pages": vma.nr_pages, "present": len(present),
            "accessed": sum(1 for pte in present if pte & PTE_A), "dirty": sum(1 for pte in present if pte & PTE_D),
            "writable": sum(1 for pte in present if pte & PTE_RW), "swapped": len(entries) - len(present),
        })  # fmt: skip
    names = ("pages", "present", "accessed", "dirty", "writable", "swapped")
    columns = [Column(name, name.upper(), right=True, form=grouped) for name in names]
    session.table((Column("start", "START", form=lambda at: f"{at:#x}"), *columns, Column("name", "NAME")), rows)
    sums = {name: sum(int(str(row[name])) for row in rows) for name in ("present", "accessed", "dirty", "swapped")}
    session.print(", ".join(f"{count:,} {name}" for name, count in sums.items()) + " in all")
    session.tell(**sums)


def address_argument(session: "Session", arguments: str) -> int:
    """An address of the program.

    Raises:
        CommandError.
    """
    if not arguments:
        raise CommandError("An address is missing.")
    return session.evaluate(arguments) & session.task.abi.mask
