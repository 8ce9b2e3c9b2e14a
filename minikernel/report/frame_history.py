"""The lives of a frame of RAM: allocated, mapped, shared, copied from, swapped out, freed, and again.

Put together from the allocator's notes (frame_log.py), the explained faults, and the events of the kernel.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_MASK, PTE_P
from minikernel.events import Event, FaultKind, MmapRegion, MmSwapOut, SchedProcessExec, SchedProcessExit
from minikernel.mm.pgtable import pte_pfn
from minikernel.report.frame_log import ALLOCATED, FREED, FrameLog

if TYPE_CHECKING:
    from minikernel.report.explanation import Explanation

_COPIES: Final = frozenset({FaultKind.COW_COPY, FaultKind.FILE_COW})
_UNMAPS: Final = frozenset({"munmap", "brk"})

Happened = tuple[int, int, str]
"""Instruction count, process, words."""


@dataclass(slots=True)
class Life:
    """From an allocation to the free; *start* and *end* are instruction counts."""

    start: int
    begun: Happened | None  # None: before anybody took notes
    end: int | None = None
    ended: Happened | None = None
    between: list[Happened] = field(default_factory=list)

    def rows(self) -> Iterator[Happened]:
        """Everything in its order."""
        if self.begun is not None:
            yield self.begun
        yield from sorted(self.between, key=lambda row: row[0])
        if self.ended is not None:
            yield self.ended


def frame_lives(
    log: FrameLog, explanations: "Sequence[Explanation]", events: Iterable[tuple[int, int, Event]], pfn: int
) -> list[Life]:
    """The lives of frame *pfn*, oldest first."""
    lives = _lives(log, pfn)
    maps: list[tuple[int, int, int]] = []  # where it was mapped: icount, pid, address
    for story in explanations:
        row = _of_fault(story, pfn)
        if row is None:
            continue
        _life_at(lives, row[0]).between.append(row)
        if story.pfn == pfn:
            maps.append((story.fault.icount, story.fault.pid, story.fault.address & ~PAGE_MASK))
    for row in _of_events(events, maps, pfn):
        _life_at(lives, row[0]).between.append(row)
    return lives


def _lives(log: FrameLog, pfn: int) -> list[Life]:
    """The lives by the allocator's notes alone."""
    lives: list[Life] = []
    for note in log.of(pfn):
        row = (note.icount, note.pid, "")
        if note.what == ALLOCATED:
            lives.append(Life(note.icount, (*row[:2], f"allocated by {note.site}")))
        elif note.what == FREED:
            if not lives or lives[-1].end is not None:
                lives.append(Life(0, None))
            lives[-1].end, lives[-1].ended = note.icount, (*row[:2], f"freed, the last user gone: {note.site}")
        else:
            if not lives or lives[-1].end is not None:
                lives.append(Life(0, None))
            lives[-1].between.append((*row[:2], f"one more process maps it: {note.site}"))
    return lives or [Life(0, None)]


def _life_at(lives: list[Life], icount: int) -> Life:
    """The life that *icount* falls into; the later one where two touch."""
    for life in reversed(lives):
        if life.start <= icount and (life.end is None or icount <= life.end):
            return life
    return lives[0]


def _of_fault(story: "Explanation", pfn: int) -> Happened | None:
    """What a fault did to the frame."""
    fault = story.fault
    if story.pfn == pfn:
        address = fault.address & ~PAGE_MASK
        return fault.icount, fault.pid, f"mapped at {address:#x} (fault {story.number}: {story.short})"
    left = story.kind in _COPIES and fault.pte & PTE_P and pte_pfn(fault.pte) == pfn
    if left:
        address = fault.address & ~PAGE_MASK
        words = f"left by a write to {address:#x} (fault {story.number}: copied to frame {story.pfn:#x})"
        return fault.icount, fault.pid, words
    return None


def _of_events(
    events: Iterable[tuple[int, int, Event]], maps: list[tuple[int, int, int]], pfn: int
) -> Iterator[Happened]:
    """What the kernel told of it: swapped out, and the mappings that were taken away."""
    alive = list(maps)
    for icount, pid, event in events:
        if isinstance(event, MmSwapOut) and event.pfn == pfn:
            yield icount, pid, "written to swap"
            continue
        if not isinstance(event, MmapRegion | SchedProcessExit | SchedProcessExec):
            continue
        # What execve maps for the new program comes before its event, and no instruction is between.
        until = icount if isinstance(event, SchedProcessExec) else icount + 1
        for mapped in [row for row in alive if row[1] == pid and row[0] < until]:
            words = _end_of(event, mapped[2])
            if words:
                alive.remove(mapped)
                yield icount, pid, words


def _end_of(event: Event, address: int) -> str:
    """How *event* takes a mapping at *address* away; "" if it does not."""
    if isinstance(event, SchedProcessExec):
        return f"unmapped from {address:#x}: execve"
    if isinstance(event, SchedProcessExit):
        return f"unmapped from {address:#x}: the process ends"
    if isinstance(event, MmapRegion) and event.op in _UNMAPS and event.start <= address < event.end:
        return f"unmapped from {address:#x}: {event.op}"
    return ""
