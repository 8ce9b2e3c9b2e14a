"""``minikernel debug``: the program in front of its first instruction, and a prompt."""

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING

from emu.cpu import MachineError
from emu.native import NativeMissingError
from minikernel.abi.errno import LinuxError
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Sink, Tracer
from minikernel.kdb.session import Session
from minikernel.kdb.shell import Interrupts, interact, run_script
from minikernel.report.paint import Paint
from minikernel.report.panic import panic_report
from minikernel.runner import EXIT_FAILURE, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, find_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from minikernel.kernel import Kernel


def debug_command(config: Config, options: argparse.Namespace) -> int:
    """Debug the program of *config*; the exit status of the process: 0, or 1 if a command of a batch failed."""
    interrupts = Interrupts()
    old = signal.signal(signal.SIGINT, interrupts)

    def launch(listen: "Callable[[Kernel], Sink]") -> System:
        system = System(config, Tracer())
        system.kernel.tracer.sink = listen(system.kernel)
        system.__enter__()
        signal.signal(signal.SIGINT, interrupts)  # Ctrl-C is for us, not for the guest
        system.exec_init(find_program(system, config.argv[0]))
        return system

    try:
        session = Session(launch, _write, Paint(sys.stdout))
    except (ValueError, MachineError, NativeMissingError) as error:
        return _complain(str(error), EXIT_FAILURE)
    except OSError as error:
        return _complain(f"{error.filename!r}: {error.strerror}", EXIT_FAILURE)
    except LinuxError as error:
        status = EXIT_NOT_FOUND if error.errno.name in {"ENOENT", "ENOTDIR"} else EXIT_NOT_EXECUTABLE
        return _complain(f"{os.fsdecode(config.argv[0])}: {os.strerror(error.errno)}", status)
    interrupts.session = session
    try:
        return _serve(session, interrupts, options)
    except Exception as error:  # noqa: BLE001 - our own bugs end here: a panic, not a traceback
        sys.stderr.write(panic_report(session.kernel, error))
        return EXIT_FAILURE
    finally:
        session.close()
        signal.signal(signal.SIGINT, old)


def _serve(session: Session, interrupts: Interrupts, options: argparse.Namespace) -> int:
    good = True
    for kind, text in options.commands:
        try:
            lines = [text] if kind == "command" else _lines(text)
        except OSError as error:
            return _complain(f"{text}: {error.strerror}", EXIT_FAILURE)
        good = run_script(session, lines) and good
    if not options.batch and not session.done:
        session.execute("x/i $pc")
        interact(session, interrupts)
    return 0 if good else 1


def _lines(name: str) -> list[str]:
    with open(name, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - as elsewhere
        return file.read().splitlines()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _complain(message: str, status: int) -> int:
    sys.stderr.write(f"minikernel: {message}\n")
    return status
