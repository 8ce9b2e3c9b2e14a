"""``minikernel run --gdb``: the program in front of its first instruction, and gdb at the other end of a connection."""

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from emu.cpu import MachineError
from emu.native import NativeMissingError
from minikernel.abi.errno import LinuxError
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Sink, Tracer
from minikernel.fs.outside import CopyableOutside
from minikernel.gdb.server import AddressError, Server, complain, listen, parse_address
from minikernel.gdb.service import KIND, make_service
from minikernel.kdb.front import Front, MachineGoneError
from minikernel.kdb.session import Session
from minikernel.kdb.wire import CannotStartError
from minikernel.report.sinks import combine
from minikernel.runner import EXIT_FAILURE, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, Listeners, find_program

if TYPE_CHECKING:
    from minikernel.gdb.stub import Restart
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
        front.start(factory.make, {KIND: make_service(factory.printed, factory.restarter)})
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
        self.config = config
        self.options = options
        self.printed: list[str] = []

    def _launch(self, listen: "Callable[[Kernel], Sink]") -> System:
        config = self.config
        system = System(config, Tracer(), outside=CopyableOutside())
        kernel = system.kernel
        Listeners(system, self.options)
        others = kernel.tracer.sink
        ours = listen(kernel)
        kernel.tracer.sink = combine(others, ours) if others is not None else ours
        interrupt = signal.getsignal(signal.SIGINT)
        system.__enter__()
        signal.signal(signal.SIGINT, interrupt)  # it is how the front end stops the machine
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        system.exec_init(find_program(system, config.argv[0]))
        return system

    def make(self, _console: "Console") -> Session:
        """A session with the program loaded.  Raises CannotStartError."""
        try:
            session = Session(self._launch, self.printed.append)
        except (ValueError, MachineError, NativeMissingError) as error:
            raise CannotStartError(str(error), EXIT_FAILURE) from None
        except OSError as error:
            raise CannotStartError(f"{error.filename!r}: {error.strerror}", EXIT_FAILURE) from None
        except LinuxError as error:
            status = EXIT_NOT_FOUND if error.errno.name in {"ENOENT", "ENOTDIR"} else EXIT_NOT_EXECUTABLE
            message = f"{os.fsdecode(self.config.argv[0])}: {os.strerror(error.errno)}"
            raise CannotStartError(message, status) from None
        gc.freeze()
        gc.enable()
        return session

    def restarter(self, session: Session) -> "Restart":
        """What boots the machine of *session* anew."""

        def restart(argv: Sequence[bytes]) -> None:
            before = self.config
            words = tuple(argv)
            if words:
                self.config = replace(before, argv=(words[0] or before.argv[0], *words[1:]))
            session.close()
            try:
                session.start()
            except (LinuxError, OSError):
                self.config = before  # the program that was there; what was asked for is not
                session.start()
                raise

        return restart


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
