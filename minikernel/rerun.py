"""A trace's program runs again, to be seen (``replay``) or to be compared (``verify``)."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from minikernel.abi.errno import LinuxError
from minikernel.boot import System
from minikernel.config import Config
from minikernel.entry import Deadlock, InstructionLimit, TimeLimit
from minikernel.events import Event
from minikernel.runner import EXIT_FAILURE, EXIT_TIMED_OUT, find_program
from minikernel.task.oom import KernelPanic
from minikernel.trace.codec import TraceError
from minikernel.trace.compare import Comparer, DigestChecker, Diverged, Divergence
from minikernel.trace.header import changes, host_files
from minikernel.trace.inputs import TraceOver
from minikernel.trace.replay import Replay
from minikernel.trace.taps import Output
from minikernel.trace.trace import Trace

if TYPE_CHECKING:
    from minikernel.kernel import Kernel


class Watcher(Protocol):
    """Who looks on while a program runs again."""

    events: int  # so far
    digests: int  # the same
    divergence: Divergence | None

    def finish(self) -> None:
        """The run is over."""
        ...


class Rerun:
    """What came of running a trace's program again."""

    def __init__(self) -> None:
        self.watcher: Watcher | None = None
        self.status: int | None = None  # None: the run was ended by the comparison
        self.changed: list[str] = []  # what is not what it was, in words
        self.state: list[str] = []  # what differs between the recorded machine and this one, in words

    @property
    def same(self) -> bool:
        """Nothing differs."""
        return self.watcher is not None and self.watcher.divergence is None


def verify_trace(trace: Trace, *, live: bool | None = None, config: Config | None = None) -> Rerun:
    """Run the program of *trace* again, and compare every event and digest while it runs.

    *live*: with the host's files as they are now (None: if the trace does not hold them).
    *config*: run this instead.

    Raises:
        TraceError: it cannot be run again.
    """
    _check_events(trace)
    live = not trace.packed if live is None else live
    with Replay(trace, live=live, config=config) as replay:
        return _rerun(replay, lambda system: Comparer(system.kernel, trace, open_end=replay.has_open_end), _beside)


def replay_trace(trace: Trace, output: Output | None, *, compare: bool = False) -> Rerun:
    """Run the program of *trace* again on what the trace knows; digests are compared, and with *compare* every event.

    Raises:
        TraceError: it cannot be run again.
    """
    if compare:
        _check_events(trace)
    with Replay(trace, output=output) as replay:
        if not trace.has_all_events:
            return _rerun(replay, lambda _: Unwatched())
        kind = Comparer if compare else DigestChecker
        return _rerun(replay, lambda system: kind(system.kernel, trace, open_end=replay.has_open_end))


def _check_events(trace: Trace) -> None:
    if not trace.has_all_events:
        raise TraceError(f"{trace.path}: only some events were recorded, so there is not enough to compare")


class Unwatched:
    """Nothing is compared: digests say behind which event they were taken, and not all events were recorded."""

    events = digests = 0
    divergence: Divergence | None = None

    def finish(self) -> None:
        """The run is over."""


def _rerun(
    replay: Replay,
    make: Callable[[System], Watcher],
    explain: Callable[[Trace, "Kernel", Divergence], list[str]] | None = None,
) -> Rerun:
    trace, found = replay.trace, Rerun()
    system = replay.boot()
    kernel = system.kernel
    watcher = found.watcher = make(system)
    try:
        kernel.tracer.sink = replay.listen(kernel, watcher if callable(watcher) else None)
        system.exec_init(find_program(system, replay.config.argv[0]))
        found.status = run_to_end(system)
        watcher.finish()
    except LinuxError as error:
        name = os.fsdecode(replay.config.argv[0])
        raise TraceError(f"{trace.path}: {name} cannot be run again: {error}") from None
    except Diverged:
        assert watcher.divergence is not None, "_rerun: nobody says how it diverged"
        if explain is not None:
            found.state = explain(trace, kernel, watcher.divergence)
    except TraceOver:
        pass
    finally:
        kernel.tracer.sink = None
        found.changed = changes(trace.header, trace.notes, replay.config, host_files(kernel))
        system.close()
    return found


class _ReachedError(Exception):
    """Ends a run at an event that was waited for."""


def _beside(trace: Trace, kernel: "Kernel", divergence: Divergence) -> list[str]:
    """The recorded machine is made again, as far as the divergence, and looked at beside *kernel*."""
    from minikernel.trace.states import memory_words, register_words, registers

    try:
        with Replay(trace) as replay:
            system = replay.boot()
            try:
                _run_to_event(replay, system, divergence)
                recorded = system.kernel
                return [*register_words(registers(recorded), registers(kernel)), *memory_words(recorded, kernel)]
            finally:
                system.kernel.tracer.sink = None
                system.close()
                system.kernel.cpu.close()
    except (TraceError, LinuxError) as error:
        return [f"nothing more can be said: the recorded machine cannot be made again ({error})"]


def _run_to_event(replay: Replay, system: System, divergence: Divergence) -> None:
    """Run until the event at which the divergence is.  Raises TraceError: it does not come as it was recorded."""
    count = 0

    def sink(icount: int, pid: int, event: Event) -> None:
        nonlocal count
        count += 1
        if count == divergence.number:
            if (icount, pid, event) != divergence.first:
                raise TraceError("our kernel goes another way than the one that recorded it")
            raise _ReachedError

    system.kernel.tracer.sink = replay.listen(system.kernel, sink)
    try:
        system.exec_init(find_program(system, replay.config.argv[0]))
        run_to_end(system)
    except _ReachedError:
        return
    raise TraceError("the run ends before")


def run_to_end(system: System) -> int:
    """Run; the exit status as ``minikernel run`` has it, without its words."""
    try:
        code = system.run()
    except (Deadlock, InstructionLimit, KernelPanic):
        return EXIT_FAILURE
    except TimeLimit:
        return EXIT_TIMED_OUT
    return 128 + (code & 0x7F) if code & 0x7F else code >> 8
