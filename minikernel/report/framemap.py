"""Maps of all frames: by what they are for, or by whose they are; one cell for a frame, or for several.

Whole RAM is looked at column by column with numpy: a machine of 3 GiB has 786,432 frames.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from emu.x86 import PTE_P
from minikernel.mm.pgtable import pte_pfn
from minikernel.report.frames import SIGNS, frame_use

if TYPE_CHECKING:
    from minikernel.kernel import Kernel

_PROCESS_SIGNS: Final = "123456789abcdefghijklmnopqrstuvwxyz"
_PROCESS_COLOURS: Final = ("green", "cyan", "yellow", "magenta", "blue", "red")
_OTHERS: Final = {"several": ("*", "bold"), "nobody": ("-", "dim"), "free": (".", "dim")}


@dataclass(frozen=True, slots=True)
class Cell:
    """One sign of the map."""

    name: str
    sign: str
    colour: str


@dataclass(frozen=True, slots=True)
class FrameMap:
    """*cells*, each for *scale* frames, from frame *first* on."""

    first: int
    scale: int
    cells: list[Cell]
    legend: dict[str, tuple[Cell, int]]  # and how many frames there are of each

    def rows(self, width: int) -> Iterator[tuple[int, list[Cell]]]:
        """The first frame of a row, and its cells."""
        for at in range(0, len(self.cells), width):
            yield self.first + at * self.scale, self.cells[at : at + width]


def map_by_use(kernel: "Kernel", first: int, last: int, scale: int) -> FrameMap:
    """What the frames are for; of several in one cell the rarest kind shows."""
    uses = [frame_use(kernel, pfn) for pfn in range(first, last)]
    order = list(SIGNS)
    cells = {use: Cell(use, *SIGNS[use]) for use in SIGNS}
    picked = [cells[min(uses[at : at + scale], key=order.index)] for at in range(0, len(uses), scale)]
    counts = Counter(uses)
    return FrameMap(first, scale, picked, {use: (cells[use], counts[use]) for use in SIGNS if counts[use]})


def map_by_owner(kernel: "Kernel", first: int, last: int, scale: int) -> FrameMap:
    """Which process maps the frames: a sign each, ``*`` for several, ``-`` for frames in use that nobody maps."""
    owners = _owners(kernel)
    cells: dict[str, Cell] = {}
    for number, pid in enumerate(dict.fromkeys(pid for pid in owners.values() if pid)):
        name = f"process {pid}"
        sign = _PROCESS_SIGNS[number % len(_PROCESS_SIGNS)]
        cells[name] = Cell(name, sign, _PROCESS_COLOURS[number % len(_PROCESS_COLOURS)])
    cells |= {name: Cell(name, *sign) for name, sign in _OTHERS.items()}
    refcount = kernel.node.mem_map.refcount
    names = []
    for pfn in range(first, last):
        owner = owners.get(pfn)
        if owner is not None:
            names.append(f"process {owner}" if owner else "several")
        else:
            names.append("nobody" if refcount[pfn] or frame_use(kernel, pfn) != "free" else "free")
    order = list(cells)
    picked = [cells[min(names[at : at + scale], key=order.index)] for at in range(0, len(names), scale)]
    counts = Counter(names)
    return FrameMap(first, scale, picked, {name: (cell, counts[name]) for name, cell in cells.items() if counts[name]})


def _owners(kernel: "Kernel") -> dict[int, int]:
    """By frame: the one process that maps it, or 0 for several."""
    owners: dict[int, int] = {}
    seen: set[int] = set()
    for task in kernel.tasks.values():
        if not task.has_mm or id(task.mm) in seen:
            continue
        seen.add(id(task.mm))
        for _, pte in task.mm.pgtable.entries(0, task.mm.layout.task_size):
            if pte & PTE_P:
                pfn = pte_pfn(pte)
                owners[pfn] = task.tgid if owners.get(pfn, task.tgid) == task.tgid else 0
    return owners


def flag_counts(kernel: "Kernel") -> list[tuple[int, int]]:
    """Each combination of flags that frames have, and how many have it, the most frequent first."""
    import numpy as np

    flags: Any = np.frombuffer(kernel.node.mem_map.flags, dtype=np.uint64)
    values, counts = np.unique(flags, return_counts=True)
    pairs = [(int(value), int(count)) for value, count in zip(values, counts, strict=True)]
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
