"""``minikernel run --gdb``: the program in front of its first instruction, and gdb at the other end of a connection."""

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from emu.cpu import MachineError
from emu.native import NativeMissingError
from minikernel.abi.errno import LinuxError
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Event, Sink, Tracer
from minikernel.fs.outside import CopyableOutside
from minikernel.gdb.server import AddressError, Server, complain, listen, parse_address
from minikernel.gdb.service import KIND, handler, prepare
from minikernel.kdb.front import Front, MachineGoneError
from minikernel.kdb.session import Session
from minikernel.kdb.wire import CannotStartError
from minikernel.report.sinks import combine
from minikernel.runner import EXIT_FAILURE, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Listeners, find_program

if TYPE_CHECKING:
    from minikernel.kdb.server import Console
    from minikernel.kernel import Kernel

_INTERRUPTED = 130


def remote_command(config: Config, options: argparse.Namespace) -> int:
    """Serve gdb at the address of *options*; the exit status is the program's, as without gdb."""
    try:
        address = parse_address(options.gdb)
        listener = listen(address) if address is not None else None
    except AddressError as error:
        return _fail(f"--gdb: {error}")
    except OSError as error:
        return _fail(f"--gdb {options.gdb}: {error.strerror}")
    pipes = _take_standard_streams() if address is None else None
    factory = _Factory(config, options)
    front = Front(sys.stderr.write)
    try:
        front.start(factory.make, {KIND: handler})
        server = Server(front, listener)
        if pipes is not None:
            return server.serve_pipes(*pipes)
        assert listener is not None, "remote_command: neither pipes nor a socket"
        host, port = listener.getsockname()[:2]
        complain(f"gdb: listening on {host}:{port}")
        return server.serve_clients()
    except CannotStartError as error:
        return _fail(error.message, error.status)
    except MachineGoneError as error:
        sys.stderr.write(str(error))
        return EXIT_FAILURE
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        front.close()
        if listener is not None:
            listener.close()


class _Factory:
    """Makes the session in the machine's process, and its machine again when gdb wants to run the program anew."""

    def __init__(self, config: Config, options: argparse.Namespace) -> None:
        self._config = config
        self.argv = config.argv
        self._options = options
        self._printed: list[str] = []
        self._session: Session | None = None

    def _launch(self, listen: "Callable[[Kernel], Sink]") -> System:
        config = replace(self._config, argv=self.argv)
        system = System(config, Tracer(), outside=CopyableOutside())
        kernel = system.kernel
        Listeners(system, self._options)
        others = kernel.tracer.sink
        ours = listen(kernel)
        kernel.tracer.sink = combine(self._once(others), ours) if others is not None else ours
        interrupt = signal.getsignal(signal.SIGINT)
        system.__enter__()
        signal.signal(signal.SIGINT, interrupt)  # it is how the front end stops the machine
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            system.exec_init(find_program(system, config.argv[0]))
        except LinuxError:
            system.__exit__(None, None, None)
            kernel.cpu.close()
            raise
        return system

    def _once(self, sink: Sink) -> Sink:
        """*sink*, which is told nothing again when the machine goes over its past."""

        def tell(icount: int, pid: int, event: Event) -> None:
            if self._session is None or not self._session.machine.undisturbed:
                sink(icount, pid, event)

        return tell

    def make(self, _console: "Console") -> Session:
        """A session with the program loaded.  Raises CannotStartError."""
        try:
            session = Session(self._launch, self._printed.append)
        except (ValueError, MachineError, NativeMissingError) as error:
            raise CannotStartError(str(error), EXIT_FAILURE) from None
        except OSError as error:
            raise CannotStartError(f"{error.filename!r}: {error.strerror}", EXIT_FAILURE) from None
        except LinuxError as error:
            status = EXIT_NOT_FOUND if error.errno.name in {"ENOENT", "ENOTDIR"} else EXIT_NOT_EXECUTABLE
            message = f"{os.fsdecode(self.argv[0])}: {os.strerror(error.errno)}"
            raise CannotStartError(message, status) from None
        prepare(session, self._printed, self)
        self._session = session
        gc.freeze()  # what is there by now stays: looking through it would only unshare it from the copies
        gc.enable()
        return session


def _take_standard_streams() -> tuple[int, int]:
    """Standard input and output are the connection; the program reads nothing, and writes to standard error."""
    streams = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return streams


def _fail(message: str, status: int = EXIT_FAILURE) -> int:
    sys.stderr.write(f"minikernel: {message}\n")
    return status
