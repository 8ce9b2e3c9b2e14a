"""One emulated machine with one program, driven by a program of the host.

Everything a machine does is deterministic, so a checkpoint is a place in its run: to go back, the machine boots again
and runs there, and what the driver changed on the way is changed again.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

from emu.cpu import MachineError
from emu.native import NativeMissingError
from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import LinuxError
from minikernel.api import views
from minikernel.api.errors import BadAddressError, CannotStartError, NoTaskError, StuckError, UnknownSymbolError
from minikernel.api.streams import OwnStreams
from minikernel.api.views import Fault, Mapping, Occurrence, Registers, Syscall, TableEntry, TaskView
from minikernel.boot import System
from minikernel.config import Bind, Config, Swap
from minikernel.events import Event, MmFaultFailed, MmFaultResolved, Tracer
from minikernel.kdb.machine import Machine as Driver
from minikernel.kdb.machine import Position, Why
from minikernel.kdb.poke import poke
from minikernel.report.explain import Explainer
from minikernel.report.peek import peek
from minikernel.report.place import locate
from minikernel.report.symbols import Symbols
from minikernel.runner import find_program
from minikernel.task.task import Task
from minikernel.trace.codec import TraceError
from minikernel.trace.replay import Replay
from minikernel.trace.trace import Trace

DEFAULT_ENV: Final = {"PATH": "/usr/bin:/bin", "LANG": "C"}
_UNITS: Final = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_STRING_LIMIT: Final = 4096

Callback = Callable[[Occurrence], None]
What = str | type[Event] | None
"""Which events: by name, by class, or all of them."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place in the run of one machine; *changes*: how much its driver had changed by then."""

    position: Position
    changes: int


class Machine:
    """A machine that has booted, and stands in front of its program's first instruction.

    *program*, *args*: a path in the guest (or a name that is looked for in the guest's PATH), and its arguments.
    *stdin*: what the guest can read.  *env*: its environment; by default PATH and LANG alone.
    *root*, *cwd*, *binds*: the host directory that is /, the working directory, host paths by their path in the guest.
    *ram*, *swap*: bytes, or text such as ``"64M"``.  *explain*: ``faults`` come with their explanations.
    *more*: every further field of minikernel.config.Config (cpu, paging, seed, aslr, max_instructions, uid ...).

    Use it as a context manager, or call ``close``.

    Raises:
        CannotStartError: no such machine, or no such program.
    """

    def __init__(
        self,
        program: str | os.PathLike[str],
        *args: str | os.PathLike[str],
        stdin: bytes = b"",
        env: dict[str, str] | None = None,
        root: str | os.PathLike[str] = "/",
        cwd: str | os.PathLike[str] = "/",
        binds: dict[str, str] | None = None,
        ram: int | str = "256M",
        swap: int | str = 0,
        explain: bool = False,
        **more: Any,
    ) -> None:
        variables = DEFAULT_ENV if env is None else env
        size = _size(swap)
        try:
            config = Config(
                argv=tuple(os.fsencode(word) for word in (program, *args)),
                env=tuple(os.fsencode(f"{name}={value}") for name, value in variables.items()),
                root=os.fsencode(root),
                cwd=os.fsencode(cwd),
                binds=tuple(
                    Bind(host=os.fsencode(host), guest=os.fsencode(guest)) for guest, host in (binds or {}).items()
                ),
                ram=_size(ram),
                swap=(Swap(size=size),) if size else (),
                **more,
            )
        except TypeError as error:
            raise CannotStartError(f"no such machine: {error}") from None
        self._replay: Replay | None = None
        self._begin(config, partial(OwnStreams, config, stdin), explain=explain)

    @classmethod
    def replay(cls, path: str | os.PathLike[str], *, explain: bool = False) -> Self:
        """The machine of a recorded run: what the host said comes from the trace at *path*.

        Raises:
            CannotStartError: the trace is damaged, or needs files that are not here.
        """
        machine = cls.__new__(cls)
        try:
            trace = Trace(os.fspath(path))
            machine._replay = replay = Replay(trace, output=lambda fd, data: machine._written[fd].append(data))
        except TraceError as error:
            raise CannotStartError(str(error)) from None
        machine._begin(replay.config, replay.outside, explain=explain)
        return machine

    def _begin(self, config: Config, outside: Callable[[], Any], *, explain: bool) -> None:
        self._config = config
        self._make_outside = outside
        self._explain = explain
        self._callbacks: list[tuple[What, Callback]] = []
        self._changes: list[tuple[Position, Callable[[], None]]] = []
        self._quiet = False  # the run goes where it has been: nobody is told
        self._stopping = False
        self._closed = False
        self._boot()

    def _boot(self) -> None:
        """From the start."""
        self._events: list[Occurrence] = []
        self._faults: list[Fault] = []
        self._written: dict[int, list[bytes]] = {1: [], 2: [], 0: []}
        self._outside = self._make_outside()
        try:
            self._system = System(self._config, Tracer(), outside=self._outside)
        except (ValueError, MachineError, NativeMissingError, LinuxError) as error:
            raise CannotStartError(str(error)) from None
        except OSError as error:
            raise CannotStartError(f"{error.filename}: {error.strerror}") from None
        kernel = self._system.kernel
        self._explainer = Explainer(kernel) if self._explain else None
        listen = self._hear if self._replay is None else self._replay.listen(kernel, self._hear)
        kernel.tracer.sink = listen
        try:
            self._system.exec_init(find_program(self._system, self._config.argv[0]))
        except LinuxError as error:
            self._shut_down()
            raise CannotStartError(f"{os.fsdecode(self._config.argv[0])}: {os.strerror(error.errno)}") from None
        self._driver = Driver(self._system)
        self._symbols = Symbols(kernel.vdso)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give everything back.  What was printed and told can still be read."""
        if not self._closed:
            self._closed = True
            self._shut_down()
            if self._replay is not None:
                self._replay.__exit__()
                self._replay.trace.__exit__()

    def _shut_down(self) -> None:
        self._system.kernel.tracer.sink = None
        self._system.close()
        self._system.kernel.cpu.close()
        self._outside.close()

    # ---- listening

    def on(self, what: What, callback: Callback) -> Callable[[], None]:
        """Call *callback* with every Occurrence of *what*; the answer, called, ends that.

        It is called in the middle of the kernel's work: it may look at everything, and call ``stop``.
        """
        entry = (what, callback)
        self._callbacks.append(entry)
        return lambda: self._callbacks.remove(entry)

    def stop(self) -> None:
        """End the run that is going on, as soon as what the kernel does is done.  For callbacks."""
        self._stopping = True
        self._driver.ask_stop()

    def _hear(self, icount: int, pid: int, event: Event) -> None:
        told = Occurrence(icount, pid, event)
        self._events.append(told)
        explained = self._explainer.feed(icount, pid, event) if self._explainer is not None else None
        if isinstance(event, MmFaultResolved | MmFaultFailed):
            words = f"{explained.short}: {explained.why}" if explained is not None else ""
            self._faults.append(views.fault_of(told, words))
        if self._quiet:
            return
        for what, callback in list(self._callbacks):
            if what is None or (event.name == what if isinstance(what, str) else isinstance(event, what)):
                callback(told)

    # ---- going on

    @property
    def done(self) -> bool:
        """The program has ended."""
        return self._system.kernel.exit_code is not None

    @property
    def status(self) -> int | None:
        """The program's exit status, as the shell's $?: 128 + N if signal N killed it; None before its end."""
        code = self._system.kernel.exit_code
        if code is None:
            return None
        return 128 + (code & 0x7F) if code & 0x7F else code >> 8

    @property
    def icount(self) -> int:
        """Instructions retired since boot."""
        return self._system.kernel.cpu.icount

    def run(self) -> int | None:
        """Run to the end; the status.  None: a callback called ``stop``.

        Raises:
            StuckError: the program cannot end.
        """
        self._go()
        return self.status

    def step(self, count: int = 1) -> None:
        """Let the task in the CPU retire *count* instructions, with all that the kernel does for them.

        Raises:
            StuckError: it cannot go on.
        """
        for _ in range(count):
            if self.done:
                return
            self._check(self._driver.step().why, "")

    def run_until(
        self,
        *,
        icount: int | None = None,
        address: int | str | None = None,
        event: What = None,
        condition: Callable[[Occurrence], bool] | None = None,
    ) -> bool:
        """Run until the first of some things happens; False: the program ended before.

        *icount* instructions are retired; the program stands in front of *address*, a number or a symbol; an *event*
        was told for which *condition* holds.

        Raises:
            StuckError: the program cannot go on.
            UnknownSymbolError: no such *address*.
        """
        where = self.symbol(address) if isinstance(address, str) else address
        reached = []

        def check(told: Occurrence) -> None:
            if condition is None or condition(told):
                reached.append(told)
                self.stop()

        cancel = self.on(event, check) if event is not None or condition is not None else None
        try:
            self._driver.arm({where} if where is not None else set())
            why = self._go(icount)
        finally:
            self._driver.arm(set())
            if cancel is not None:
                cancel()
        return why in {Why.BREAK, Why.COUNTED} or bool(reached)

    def _go(self, until: int | None = None) -> Why:
        """Run until something pauses the machine that is of interest."""
        self._stopping = False
        while True:
            pause = self._driver.run(until=until)
            self._check(pause.why, pause.text)
            if pause.why is not Why.ASKED or self._stopping:
                return pause.why

    @staticmethod
    def _check(why: Why, text: str) -> None:
        if why is Why.STUCK:
            raise StuckError(text or "the program cannot go on")

    # ---- going back

    def checkpoint(self) -> Checkpoint:
        """A name for this place in the run, to come back to."""
        return Checkpoint(self._driver.position, len(self._changes))

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back (or forward) to *checkpoint*: the machine boots again and runs there, which takes as long as it did.

        What was changed before the checkpoint is changed again, what was changed after it is forgotten.  Callbacks
        stay, and hear nothing on the way.
        """
        changes = self._changes[: checkpoint.changes]
        self._shut_down()
        self._quiet = True
        try:
            self._boot()
            for position, change in changes:
                self._driver.run(to=position)
                change()
            self._driver.run(to=checkpoint.position)
        finally:
            self._quiet = False
        self._changes = changes

    def _change(self, change: Callable[[], None]) -> None:
        change()
        self._changes.append((self._driver.position, change))

    # ---- looking and changing

    def _task(self, pid: int | None = None) -> Task:
        kernel = self._system.kernel
        task = kernel.current if pid is None else kernel.tasks.get(pid)
        if task is None or not task.has_mm or self.done or self._closed:
            raise NoTaskError("the program has ended" if pid is None else f"there is no task {pid} with memory")
        return task

    @property
    def registers(self) -> dict[str, int]:
        """The registers of the task in the CPU, by name (rax ..., or eax ... for an i386 program)."""
        found = Registers(self._system.kernel, self._task())
        return {name: found[name] for name in found}

    def set_register(self, name: str, value: int) -> None:
        """Change a register of the task in the CPU.

        Raises:
            BadRegisterError: there is none of that name.
        """

        def change() -> None:
            Registers(self._system.kernel, self._task())[name] = value

        self._change(change)

    def read(self, address: int, size: int, *, pid: int | None = None) -> bytes:
        """*size* bytes of the memory of task *pid* (None: the one in the CPU), read without touching it.

        Raises:
            BadAddressError: they are not all there.
        """
        data = peek(self._task(pid).mm, address, size)
        if len(data) < size:
            raise BadAddressError(address + len(data), "no memory is there")
        return data

    def read_string(self, address: int, *, limit: int = _STRING_LIMIT, pid: int | None = None) -> bytes:
        """The bytes at *address* up to the first NUL, or *limit* of them.

        Raises:
            BadAddressError: the memory ends before.
        """
        data = peek(self._task(pid).mm, address, limit)
        text, end, _ = data.partition(b"\0")
        if not end and len(data) < limit:
            raise BadAddressError(address + len(data), "no memory is there")
        return text

    def write(self, address: int, data: bytes) -> None:
        """Change memory of the task in the CPU; code and constants, too, as a debugger may.

        Raises:
            BadAddressError: nothing is mapped there, or it is shared and read-only.
        """

        def change() -> None:
            try:
                poke(self._task().mm, address, data)
            except LinuxError as error:
                raise BadAddressError(address, error.why) from None

        self._change(change)

    def walk(self, address: int, *, pid: int | None = None) -> list[TableEntry]:
        """The page-table entries that translate *address*, from the root to the one that ends the walk."""
        return views.walk(self._task(pid), address)

    def phys(self, address: int, *, pid: int | None = None) -> int | None:
        """The physical address behind *address*; None: no page is there now."""
        entry = self._task(pid).mm.pgtable.get(address)
        walked = views.walk(self._task(pid), address)
        if not walked or not walked[-1].leaf or not entry & 1:
            return None
        return (entry & 0x000F_FFFF_FFFF_F000) | address % PAGE_SIZE

    def mappings(self, *, pid: int | None = None) -> list[Mapping]:
        """What /proc/PID/maps shows."""
        return views.mappings(self._task(pid))

    @property
    def tasks(self) -> list[TaskView]:
        """All tasks, in the order of their ids."""
        return [views.task_view(task) for _, task in sorted(self._system.kernel.tasks.items()) if task.pid]

    @property
    def current(self) -> TaskView:
        """The task in the CPU.  Raises NoTaskError."""
        return views.task_view(self._task())

    def symbol(self, name: str) -> int:
        """The address of *name* in the task in the CPU.

        Raises:
            UnknownSymbolError: its program and libraries have none.
        """
        found = self._symbols.addresses(self._task().mm, name)
        if not found:
            raise UnknownSymbolError(f"no symbol {name!r} in {self.current.name}")
        return found[0]

    def where(self, address: int | None = None) -> str:
        """Function, source line, and file with offset of *address* (None: the next instruction)."""
        task = self._task()
        at = self._system.kernel.cpu.regs[16] & task.abi.mask if address is None else address
        place = locate(task.mm, self._symbols, at)
        return ", ".join([str(part) for part in (place.symbol, place.line) if part is not None] + [place.exact])

    # ---- what happened so far

    @property
    def stdout(self) -> bytes:
        """What the guest wrote to standard output."""
        return self._output(1)

    @property
    def stderr(self) -> bytes:
        """What it wrote to standard error."""
        return self._output(2)

    def _output(self, fd: int) -> bytes:
        taps = getattr(self._outside, "taps", None)
        return bytes(taps[fd].output()) if taps is not None else b"".join(self._written[fd])

    @property
    def peak_memory(self) -> int:
        """Bytes: the most that the first process had in RAM at one time, as getrusage(2) counts."""
        init = self._system.kernel.init
        assert init is not None, "Machine.peak_memory: nothing is booted"
        living = max(init.mm.hiwater_rss, init.mm.rss) if init.has_mm else 0
        return max(init.process.dead_usage.maxrss << 10, living * PAGE_SIZE)

    @property
    def events(self) -> list[Occurrence]:
        """What the kernel told (minikernel.events)."""
        return list(self._events)

    @property
    def syscalls(self) -> list[Syscall]:
        """The system calls, in the order of their starts."""
        return views.calls_of(self._events)

    @property
    def faults(self) -> list[Fault]:
        """How each page fault ended."""
        return list(self._faults)


def _size(value: int | str) -> int:
    """Bytes of ``64M``."""
    if isinstance(value, int):
        return value
    unit = _UNITS.get(value[-1:].upper(), 0)
    digits = value[:-1] if unit else value
    if not digits.isdecimal():
        raise CannotStartError(f"{value!r} is not a size like 64M")
    return int(digits) * (unit or 1)
