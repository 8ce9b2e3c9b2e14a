"""Checks every fault of a run as it happens: it is explained, as it was foreseen, by a function that exists."""

import importlib
from collections import Counter
from functools import cache
from pathlib import Path

from emu.x86 import PF_I, PF_W
from guest.builder import ROOT
from minikernel.events import Event, FaultKind, MmFaultFailed, MmFaultResolved, PageFaultUser
from minikernel.kernel import Kernel
from minikernel.report.explain import Explainer
from minikernel.report.explanation import Explanation
from minikernel.report.foresee import Foreseen, foresee

LEAST_LINES = 8  # of a whole story


@cache
def exists(decided_by: str) -> bool:
    """``do_wp_page (minikernel/mm/wp_fault.py)``: the file is in our tree and defines that function."""
    function, _, path = decided_by.rstrip(")").partition(" (")
    if not (Path(ROOT) / path).is_file():
        return False
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    found = getattr(module, function, None)
    return callable(found) and found.__module__ == module.__name__


class Auditor:
    """A sink; *problems* is empty if all is well, *ends* counts the ends that were seen."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._explainer = Explainer(kernel)
        self._arrived: tuple[PageFaultUser, Foreseen] | None = None
        self.problems: list[str] = []
        self.stories: list[Explanation] = []
        self.ends: Counter[str] = Counter()

    def __call__(self, icount: int, pid: int, event: Event) -> None:
        """Hear *event*."""
        story = self._explainer.feed(icount, pid, event)
        if isinstance(event, PageFaultUser):
            if self._arrived is not None:
                self._wrong(f"no end was told of {self._arrived[0].text()}")
            self._arrived = event, foresee(self._kernel.tasks[pid].mm, event.address, access_of(event))
        if story is not None:
            self.stories.append(story)
            self._check(story, event)
        elif isinstance(event, MmFaultFailed) or (
            isinstance(event, MmFaultResolved) and event.kind is not FaultKind.STACK_GROWTH
        ):
            self._wrong(f"not explained: {event.text()}")

    def _check(self, story: Explanation, event: Event) -> None:
        assert isinstance(event, MmFaultResolved | MmFaultFailed)
        self.ends[story.kind.value if story.kind is not None else f"signal {story.signal}"] += 1
        name = f"fault {story.number} ({event.text()})"
        if story.fault.address != event.address:
            self._wrong(f"{name}: the explanation is of {story.fault.address:#x}")
        if story.kind is not (event.kind if isinstance(event, MmFaultResolved) else None):
            self._wrong(f"{name}: explained as {story.kind}")
        if not exists(story.decided_by):
            self._wrong(f"{name}: decided by {story.decided_by!r}, which does not exist")
        if not story.short or not story.why or story.text().count("\n") < LEAST_LINES:
            self._wrong(f"{name}: says too little")
        if story.fault.error_code is None:
            return
        arrived, self._arrived = self._arrived, None
        if arrived is None or arrived[0].address != story.fault.address:
            self._wrong(f"{name}: nobody saw it arrive")
        elif not as_foreseen(story, arrived[1]):
            self._wrong(f"{name}, decided by {story.decided_by}: foreseen was {arrived[1]}")

    def _wrong(self, problem: str) -> None:
        self.problems.append(problem)


def access_of(event: PageFaultUser) -> int:
    """PF_W, PF_I or 0; without NX a fetch looks like a read."""
    return event.error_code & PF_W or (PF_I if event.address == event.ip else event.error_code & PF_I)


def as_foreseen(story: Explanation, told: Foreseen) -> bool:
    """Whether it went as was foretold: the same end, by the same function.

    What cannot be foretold: whether memory suffices, and whether a stack's limits let it grow.
    """
    out_of_memory = story.kind is None and not story.signal
    if out_of_memory or (story.cost is not None and story.cost.scanned):
        return True
    if told.kind is FaultKind.STACK_GROWTH:
        return bool(story.grown) or story.kind is None
    if (story.kind, story.signal, story.code) != (told.kind, told.signal, told.code):
        return False
    return story.decided_by == told.decided_by
