"""A machine in this process: boot it, run a program of the guest on it, and look at what is left."""

import fcntl
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from minikernel.abi.fcntl import F_SETPIPE_SZ
from minikernel.boot import System
from minikernel.config import Config
from minikernel.report.audit import assert_nothing_left, table_frames, validate_machine

_ROOM = 1 << 20


@dataclass
class Ended:
    """How a run ended: exit code in wait(2)'s form, and what was written."""

    code: int
    stdout: bytes
    stderr: bytes


@contextmanager
def streams(stdin: bytes) -> Iterator[tuple[int, int]]:
    """Standard input, output and error are pipes of ours; gives the ends to read output and error from."""
    kept = [os.dup(fd) for fd in (0, 1, 2)]
    pipes = [os.pipe() for _ in range(3)]
    for _, writer in pipes:
        fcntl.fcntl(writer, F_SETPIPE_SZ, _ROOM)
    try:
        os.write(pipes[0][1], stdin)
        os.close(pipes[0][1])
        for fd, end in enumerate((pipes[0][0], pipes[1][1], pipes[2][1])):
            os.dup2(end, fd)
            os.close(end)
        yield pipes[1][0], pipes[2][0]
    finally:
        for fd, copy in enumerate(kept):
            os.dup2(copy, fd)
            os.close(copy)
        for reader, _ in pipes[1:]:
            os.close(reader)


def output_of(fd: int) -> bytes:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, _ROOM)
    except BlockingIOError:
        return b""


def run_and_audit(
    config: Config, program: bytes | None = None, *, stdin: bytes = b"", slab_debug: bool = False
) -> Ended:
    """Run *config* to its end, with the books checked there, and again after the power is off."""
    with streams(stdin) as (out, err):
        with System(config, slab_debug=slab_debug) as system:
            kernel = system.kernel
            tables = table_frames(kernel)
            system.exec_init(program)
            validate_machine(kernel)
            code = system.run()
            validate_machine(kernel)
            system.power_off()
            assert_nothing_left(kernel, tables)
        system.kernel.cpu.close()
        return Ended(code, output_of(out), output_of(err))


@contextmanager
def few_objects() -> Iterator[None]:
    """The collector, and the books of many runs that ask it, look at what is made from now on only."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def shell(script: str, cwd: Path, **options: object) -> Config:
    """The host's /bin/sh runs *script*."""
    return Config(
        argv=(b"/bin/sh", b"-c", script.encode()),
        env=(b"PATH=/usr/bin:/bin", b"LANG=C"),
        cwd=bytes(cwd),
        **options,  # type: ignore[arg-type]
    )
