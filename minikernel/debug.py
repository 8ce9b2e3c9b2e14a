"""``minikernel debug``: the program in front of its first instruction, and a prompt."""

import argparse
import gc
import os
import signal
import sys
import termios
from typing import TYPE_CHECKING

from emu.cpu import MachineError
from emu.native import NativeMissingError
from minikernel.abi.errno import LinuxError
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Sink
from minikernel.kdb.front import Front, MachineGoneError
from minikernel.kdb.pager import Pager, plain_pager
from minikernel.kdb.session import Session
from minikernel.kdb.settings import Settings
from minikernel.kdb.shell import Interrupts, ask, interact, run_script
from minikernel.kdb.wire import CannotStartError
from minikernel.report.paint import Paint
from minikernel.runner import EXIT_FAILURE, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND
from minikernel.saving import Launcher

if TYPE_CHECKING:
    from collections.abc import Callable

    from minikernel.kdb.server import Console
    from minikernel.kernel import Kernel
    from minikernel.trace.replay import Replay


class _Once:
    """What a replayed program writes is shown, but not again where the debugger has been before."""

    def __init__(self, write: "Callable[[int, bytes], None]") -> None:
        self._write = write
        self.session: Session | None = None

    def __call__(self, fd: int, data: bytes) -> None:
        """The program writes *data*."""
        timeline = self.session.timeline if self.session is not None else None
        if timeline is None:
            self._write(fd, data)
        else:
            timeline.journal.ask("output", lambda: self._write(fd, data))


def debug_command(
    config: Config, options: argparse.Namespace, replay: "Replay | None" = None, once: _Once | None = None
) -> int:
    """Debug the program of *config*; the exit status of the process: 0, or 1 if a command of a batch failed.

    *replay*: the host's part is played by a trace, and *once* hears what is written.
    """
    pager = _json_pager() if options.json else plain_pager(Settings(), ask)
    front = Front(pager.write)
    front.sources = not options.json  # there a file has one answer
    interrupts = Interrupts(front)
    old = signal.signal(signal.SIGINT, interrupts)
    modes = termios.tcgetattr(0) if os.isatty(0) else None
    try:
        front.start(session_maker(config, json=options.json, replay=replay, once=once))
        return _serve(front, interrupts, pager, options)
    except CannotStartError as error:
        return _complain(error.message, error.status)
    except MachineGoneError as error:
        sys.stderr.write(str(error))
        return EXIT_FAILURE
    finally:
        front.close()
        signal.signal(signal.SIGINT, old)
        if modes is not None:  # the machine that changed them may have gone back to before it did
            termios.tcsetattr(0, termios.TCSADRAIN, modes)


def debug_replay(options: argparse.Namespace) -> int:
    """Debug the run of the trace that *options* names."""
    from minikernel.trace.codec import TraceError
    from minikernel.trace.replay import Replay, write_out
    from minikernel.trace.trace import Trace

    if options.argv:
        return _complain("--replay TRACE runs the program of TRACE, and no other", EXIT_FAILURE)
    try:
        once = _Once(write_out)
        with Trace(options.replay) as trace, Replay(trace, output=once) as replay:
            return debug_command(replay.config, options, replay, once)
    except TraceError as error:
        return _complain(str(error), EXIT_FAILURE)


def debug_saved(options: argparse.Namespace) -> int:
    """Debug the run that was saved in the file that *options* names, from there on."""
    from minikernel.kdb.command import CommandError
    from minikernel.saving import config_of

    if options.argv:
        return _complain("--load FILE goes on with the program of FILE, and no other", EXIT_FAILURE)
    try:
        config = config_of(options.load)
    except CommandError as error:
        return _complain(str(error).removesuffix("."), EXIT_FAILURE)
    options.commands.insert(0, ("command", f"load {options.load}"))
    return debug_command(config, options)


def session_maker(
    config: Config, *, json: bool = False, replay: "Replay | None" = None, once: _Once | None = None
) -> "Callable[[Console], Session]":
    """What boots *config* for ``Front.start``, with the program loaded; *json*: it answers with objects.

    *replay*: the host's part is played by a trace.
    """
    launcher = Launcher(config, replay)

    def launch(listen: "Callable[[Kernel], Sink]") -> System:
        system = launcher.boot(listen)
        ours = signal.getsignal(signal.SIGINT)
        system.__enter__()
        signal.signal(signal.SIGINT, ours)  # Ctrl-C is for the debugger, not for the guest
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        launcher.exec_init(system)
        return system

    def make(console: "Console") -> Session:
        try:
            session = Session(launch, console.write, Paint(sys.stdout))
        except (ValueError, MachineError, NativeMissingError) as error:
            raise CannotStartError(str(error), EXIT_FAILURE) from None
        except OSError as error:
            raise CannotStartError(f"{error.filename!r}: {error.strerror}", EXIT_FAILURE) from None
        except LinuxError as error:
            status = EXIT_NOT_FOUND if error.errno.name in {"ENOENT", "ENOTDIR"} else EXIT_NOT_EXECUTABLE
            message = f"{os.fsdecode(config.argv[0])}: {os.strerror(error.errno)}"
            raise CannotStartError(message, status) from None
        session.settings.json = json
        session.keeper = launcher
        if once is not None:
            once.session = session
        gc.freeze()  # what is there by now stays: looking through it would only unshare it from the copies
        gc.enable()
        return session

    return make


def _serve(front: Front, interrupts: Interrupts, pager: Pager, options: argparse.Namespace) -> int:
    good = True
    for kind, text in options.commands:
        try:
            lines = [text] if kind == "command" else _lines(text)
        except OSError as error:
            return _complain(f"{text}: {error.strerror}", EXIT_FAILURE)
        good = run_script(front, lines) and good
    if not options.batch and not front.done:
        front.execute("x/i $pc")
        interact(front, interrupts, pager)
    return 0 if good else 1


def _lines(name: str) -> list[str]:
    with open(name, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as elsewhere
        return file.read().splitlines()


def _json_pager() -> Pager:
    """Standard output for our objects alone; what the program writes there goes to standard error."""
    ours = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)

    def write(text: str) -> None:
        ours.write(text)
        ours.flush()

    return Pager(Settings(pagination=False), write, ask)


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"minikernel: {message}\n")
    return status
