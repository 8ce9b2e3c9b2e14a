"""One run from the command line: boot, attach what listens, run, say how it ended."""

import argparse
import gc
import os
import sys
from typing import TYPE_CHECKING, Final

from emu.cpu import MachineError
from emu.native import NativeMissingError
from minikernel.abi import signal as s
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.boot import System
from minikernel.config import Config
from minikernel.entry import Deadlock, InstructionLimit, RunCpu, TimeLimit
from minikernel.events import Sink, Tracer
from minikernel.fs.open import open_exec
from minikernel.fs.outside import Outside
from minikernel.task.oom import KernelPanic
from minikernel.task.task import Task

if TYPE_CHECKING:
    from minikernel.report.leaks import Baseline
    from minikernel.trace.outside import RecordingOutside

EXIT_TIMED_OUT: Final = 124  # as timeout(1)
EXIT_FAILURE: Final = 125
EXIT_NOT_EXECUTABLE: Final = 126
EXIT_NOT_FOUND: Final = 127
_DEFAULT_PATH: Final = b"/usr/local/bin:/usr/bin:/bin"


def run_command(config: Config, options: argparse.Namespace) -> int:
    """Run the program of *config*; the exit status of the process."""
    kernel = None
    try:
        outside = _recorded_outside(config, options)
        system = boot(config, slab_debug=options.leaks, outside=outside)
        if isinstance(system, int):
            return system
        kernel = system.kernel
        with system:
            return _run_program(system, options, outside)
    except Exception as error:  # noqa: BLE001 - the one place where our own bugs end: a panic, not a traceback
        from minikernel.report.panic import panic_report

        sys.stderr.write(panic_report(kernel, error))
        return EXIT_FAILURE


def _recorded_outside(config: Config, options: argparse.Namespace) -> "RecordingOutside | None":
    """Who listens to the host, if the run is to be recorded."""
    if getattr(options, "output", None) is None:
        return None
    from minikernel.trace.outside import RecordingOutside

    return RecordingOutside(config)


def boot(config: Config, *, slab_debug: bool = False, outside: Outside | None = None) -> System | int:
    """The machine, or the status to end with, after a line that says why there is none."""
    try:
        return System(config, Tracer(), slab_debug=slab_debug, outside=outside)
    except (ValueError, MachineError, NativeMissingError) as error:
        return _complain(str(error), EXIT_FAILURE)
    except OSError as error:
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        return _complain(f"{name}: {error.strerror}", EXIT_FAILURE)
    except LinuxError as error:
        return _complain(f"{os.fsdecode(config.cwd)}: {_text(error)}", EXIT_FAILURE)


def _run_program(system: System, options: argparse.Namespace, outside: "RecordingOutside | None") -> int:
    listeners = Listeners(system, options, outside)
    leaks = None
    if options.leaks:
        from minikernel.report.leaks import Baseline

        leaks = Baseline.of(system.kernel)
        system.kernel.node.track_allocations()
    program = load(system)
    if isinstance(program, int):
        return program
    try:
        listeners.start(program)
    except OSError as error:
        return _complain(f"{options.output}: {error.strerror}", EXIT_FAILURE)
    gc.freeze()
    gc.enable()
    status = listeners.finish(run_to_status(system, listeners.run_cpu))
    if leaks is not None:
        _tell_leaks(system, leaks)
    return status


def _tell_leaks(system: System, boot: "Baseline") -> None:
    """What the machine holds when all its tasks are gone."""
    from minikernel.mm.shrinker import shrink_slab
    from minikernel.report.leaks import left_over

    system.power_off()
    system.kernel.stacks.free_cached()
    shrink_slab(system.kernel.node, 0)
    lines, count = left_over(system.kernel, boot)
    verdict = f"{count} things are lost" if count else "nothing is lost"
    sys.stderr.write("\n".join(["memory after the end", *lines, verdict]) + "\n")


def load(system: System) -> bytes | int:
    """Load the program: its path, or the status to end with, after a line that says why."""
    name = system.kernel.config.argv[0]
    try:
        program = find_program(system, name)
        system.exec_init(program)
    except LinuxError as error:
        status = EXIT_NOT_FOUND if error.errno in {Errno.ENOENT, Errno.ENOTDIR} else EXIT_NOT_EXECUTABLE
        return _complain(f"{os.fsdecode(name)}: {_text(error)}", status)
    return program


def run_to_status(system: System, run_cpu: RunCpu | None = None) -> int:
    """Run the loaded program to its end, or until it may not go on; the exit status of a process of ours."""
    try:
        code = system.run(run_cpu)
    except Deadlock as error:
        return _complain(str(error), EXIT_FAILURE)
    except (InstructionLimit, KernelPanic) as error:
        return _complain(str(error), EXIT_FAILURE)
    except TimeLimit:
        return _complain(f"timed out after {system.kernel.config.timeout:g} s", EXIT_TIMED_OUT)
    return 128 + (code & 0x7F) if code & 0x7F else code >> 8


def find_program(system: System, name: bytes) -> bytes:
    """Where *name* is: a name without a slash is looked for in the guest's PATH, as execvp(3) does.

    Errors:
        LinuxError: nowhere, or only where it cannot be executed.
    """
    if b"/" in name:
        return name
    task = system.kernel.init
    assert task is not None, "find_program: nothing is booted"
    path = next((v[5:] for v in system.kernel.config.env if v.startswith(b"PATH=")), _DEFAULT_PATH)
    failure = LinuxError(Errno.ENOENT, "not in PATH")
    for directory in path.split(b":"):
        candidate = (directory or b".") + b"/" + name
        try:
            open_exec(task.fs, task.cred, candidate).put_file()
        except LinuxError as error:
            if error.errno not in {Errno.ENOENT, Errno.ENOTDIR}:
                failure = error
        else:
            return candidate
    raise failure


class Listeners:
    """Who hears the events of the run, and what they print at the end."""

    def __init__(self, system: System, options: argparse.Namespace, outside: "RecordingOutside | None" = None) -> None:
        kernel = system.kernel
        self._kernel = kernel
        self._stats_file: str | None = options.stats
        self._stats = None
        sinks: list[Sink] = []
        if options.stats:
            from minikernel.report.stats import Stats

            self._stats = Stats(kernel)
            sinks.append(self._stats)
        if options.strace:
            from minikernel.report.strace import strace_sink

            sinks.append(strace_sink(kernel, sys.stderr))
        if options.explain:
            from minikernel.report.explain import ExplainSink

            sinks.append(ExplainSink(kernel, sys.stderr))
        self._recorder = None
        self._trace_file: str | None = getattr(options, "output", None)
        if outside is not None:
            from minikernel.trace.record import Recorder

            chosen = {"level": options.level, "selection": options.selection}
            self._recorder = Recorder(kernel, outside, pack=options.pack, **chosen)
            sinks.append(self._recorder.sink)
        if sinks:
            from minikernel.report.sinks import combine

            kernel.tracer.sink = combine(*sinks)
        kernel.on_fatal = self._report_crash

    def _report_crash(self, task: Task, info: Siginfo) -> None:
        if s.sigmask(info.signo) & s.DUMPS_CORE:
            from minikernel.report.crash import crash_report

            sys.stderr.write(crash_report(self._kernel, task, info))
        elif info.signo == s.SIGKILL and info.code == s.SI_KERNEL:
            name = task.comm.decode(errors="backslashreplace")
            ram = self._kernel.physmem.size >> 20
            _complain(
                f"{name} (process {task.pid}) was killed: out of memory (the machine has {ram} MiB, see --ram)", 0
            )

    @property
    def run_cpu(self) -> RunCpu | None:
        """Who runs the CPU while a trace is made of what it runs."""
        return self._recorder.run_cpu if self._recorder is not None else None

    def start(self, program: bytes) -> None:
        """*program* is loaded.  Raises OSError: the trace cannot be written."""
        if self._recorder is not None:
            assert self._trace_file is not None, "Listeners.start: a recorder without a file"
            self._recorder.start(self._trace_file, program)

    def finish(self, status: int) -> int:
        """Write what was asked for; *status*, or 125 if that fails."""
        if self._recorder is not None:
            self._recorder.finish(status)
            if (failure := self._recorder.failure) is not None:
                words = f"{failure.strerror}: the trace ends after {self._recorder.events} events"
                status = _complain(f"{self._trace_file}: {words}", EXIT_FAILURE)
        if self._stats is None:
            return status
        if self._stats_file == "-":
            sys.stderr.write(self._stats.text(self._kernel))
            return status
        import json

        assert self._stats_file is not None, "Listeners.finish: statistics without a place for them"
        try:
            with open(self._stats_file, "w", encoding="utf-8") as file:  # noqa: PTH123 - no pathlib in a plain run
                json.dump(self._stats.as_json(self._kernel), file, indent=1)
                file.write("\n")
        except OSError as error:
            return _complain(f"{self._stats_file}: {error.strerror}", EXIT_FAILURE)
        return status


_WORDS: Final = {Errno.ENOENT: "not found", Errno.EACCES: "permission denied", Errno.ENOEXEC: "not executable"}


def _text(error: LinuxError) -> str:
    words = _WORDS.get(error.errno) or os.strerror(error.errno)
    # The path walk's reason is the component it stopped at, as bytes: the name is in the message already.
    is_component = error.why.startswith(("b'", 'b"'))
    return words if is_component or not error.why else f"{words} ({error.why})"


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"minikernel: {message}\n")
    return status
