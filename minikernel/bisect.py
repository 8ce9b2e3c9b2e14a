"""``minikernel bisect A B``: the first instruction at which two recorded runs differ.

Digests say where the runs were still the same, events where they cannot be any more; between the two both programs
run again, side by side, and are compared at 64 places; between the last equal and the first other place again, until
the places are neighbours: one instruction.
"""

from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from minikernel.abi.errno import LinuxError
from minikernel.events import Tracer
from minikernel.kdb.machine import Machine, Why
from minikernel.runner import find_program
from minikernel.trace.codec import TraceError
from minikernel.trace.compare import Divergence, compare_events
from minikernel.trace.inputs import TraceOver
from minikernel.trace.replay import Replay
from minikernel.trace.states import memory_words, ram_differs, register_words, registers, where_words
from minikernel.trace.trace import Trace

if TYPE_CHECKING:
    from minikernel.boot import System

_PLACES: Final = 64
_ENDED: Final = frozenset({Why.EXITED, Why.STUCK})


@dataclass
class Findings:
    """What bisecting found."""

    divergence: Divergence | None = None  # of the events
    equal_digests: int = 0
    at: int | None = None  # the instruction count before the first instruction that differs
    at_start: bool = False  # the memories differ from the first instruction on, so only registers were compared
    words: list[str] = field(default_factory=list)  # what differs behind it
    where: tuple[str, str] = ("", "")  # what each run is about to do at ``at``


class _Runs:
    """Both programs, running again as far as they are asked to.  A context manager: the machines are closed."""

    def __init__(self, replays: tuple[Replay, Replay]) -> None:
        self.systems: list[System] = []
        self._machines: list[Machine] = []
        for replay in replays:
            system = replay.boot(Tracer())
            self.systems.append(system)
            system.kernel.tracer.sink = replay.listen(system.kernel)
            try:
                system.exec_init(find_program(system, replay.config.argv[0]))
            except LinuxError as error:
                raise TraceError(f"{replay.trace.path}: the program cannot be run again: {error}") from None
            self._machines.append(Machine(system))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        for system in self.systems:
            system.close()
            system.kernel.cpu.close()

    def go_to(self, icount: int) -> tuple[bool, bool]:
        """Run both to behind instruction number *icount*; whether each has ended before."""
        return self._go(self._machines[0], icount), self._go(self._machines[1], icount)

    @staticmethod
    def _go(machine: Machine, icount: int) -> bool:
        while machine.icount < icount:
            try:
                pause = machine.run(until=icount)
            except TraceOver:
                return True
            if pause.why in _ENDED:
                return True
        return False

    def differ(self, *, memory: bool) -> bool:
        """Whether the machines are not in the same state; *memory*: RAM counts, too."""
        first, second = (system.kernel for system in self.systems)
        if registers(first) != registers(second) or first.cpu.icount != second.cpu.icount:
            return True
        return first.cpu.fxsave() != second.cpu.fxsave() or (memory and ram_differs(first, second))

    def words(self) -> list[str]:
        """What differs."""
        first, second = (system.kernel for system in self.systems)
        words = register_words(registers(first), registers(second))
        if first.cpu.fxsave() != second.cpu.fxsave():
            words.append("the FPU's and SSE registers")
        return [*words, *memory_words(first, second)]

    def where(self) -> tuple[str, str]:
        """What each is about to do."""
        first, second = (where_words(system.kernel) for system in self.systems)
        return first, second


def bisect(first: Trace, second: Trace) -> Findings:
    """Find where the runs of two traces part.

    Raises:
        TraceError: a trace is damaged, or its program cannot be run again.
    """
    found = Findings()
    low = 0
    high: int | None = None
    for ours, theirs in zip(first.digests(), second.digests(), strict=False):
        if ours.after != theirs.after or ours.icount != theirs.icount or ours.differences(theirs):
            high = min(ours.icount, theirs.icount)
            break
        low, found.equal_digests = ours.icount, found.equal_digests + 1
    _, found.divergence = compare_events(first.events(start=low), second.events(start=low))
    if found.divergence is not None:
        counts = [told[0] for told in (found.divergence.first, found.divergence.second) if told is not None]
        high = min([*counts, *([high] if high is not None else [])])
    if high is None:
        return found
    with Replay(first) as one, Replay(second) as other:
        _narrow(found, (one, other), low, high + 1)
    return found


def _narrow(found: Findings, replays: tuple[Replay, Replay], low: int, high: int) -> None:
    """Set what *found* says about the first instruction in (low, high] behind which the machines differ."""
    with _Runs(replays) as runs:
        low = max(low, *(system.kernel.cpu.icount for system in runs.systems))
        runs.go_to(low)
        if runs.differ(memory=True):
            found.at_start = True
            found.words = runs.words()
        if runs.differ(memory=False):
            found.at, found.where = low, runs.where()
            return
    memory = not found.at_start
    while high - low > 1:
        with _Runs(replays) as runs:
            narrowed = _first_place(runs, low, high, memory=memory)
        if narrowed is None:
            return  # nothing differs up to there: the events did not come from these programs
        low, high = narrowed
    with _Runs(replays) as runs:
        runs.go_to(low)
        found.at, found.where = low, runs.where()
        runs.go_to(high)
        found.words = runs.words()


def _first_place(runs: _Runs, low: int, high: int, *, memory: bool) -> tuple[int, int] | None:
    """The last place at which the machines are the same, and the next one; None: they always are."""
    step = max((high - low) // _PLACES, 1)
    runs.go_to(low)
    while low < high:
        after = min(low + step, high)
        ended = runs.go_to(after)
        if any(ended) or runs.differ(memory=memory):
            return low, after
        low = after
    return None
