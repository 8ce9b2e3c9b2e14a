"""Lines like strace(1)'s, from the events of system calls and signals.

What a call is given is shown as it was when the call began, what it answers as it is when the call ends.  When
another task speaks in between, the line is broken as strace breaks it: ``<unfinished ...>``, ``resumed``.
"""

import os
from collections.abc import Callable
from typing import Final

from emu.x86 import PAGE_SHIFT
from minikernel.abi import signal as s
from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.errno import Errno
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.events import Event, SchedProcessExit, SignalDeliver, SysEnter, SysExit
from minikernel.syscalls.args import LONG, ULONG, Kind
from minikernel.syscalls.decode import cast_register, signature
from minikernel.syscalls.strace_format import Memory, View, pointer, show_argument
from minikernel.syscalls.strace_names import open_flags
from minikernel.syscalls.table import TABLES

_COLUMN: Final = 39  # where the result begins
_ADDRESS_RESULTS: Final = frozenset(("mmap", "mmap2", "brk", "mremap", "shmat", "personality"))
_OCTAL_RESULTS: Final = frozenset(("umask",))
_NO_RETURN: Final = frozenset(("exit", "exit_group"))
_SIGRETURNS: Final = frozenset(("sigreturn", "rt_sigreturn"))
_RESTARTS: Final = {
    int(Errno.ERESTARTSYS): "To be restarted if SA_RESTART is set",
    int(Errno.ERESTARTNOINTR): "To be restarted",
    int(Errno.ERESTARTNOHAND): "To be restarted if no handler",
    int(Errno.ERESTART_RESTARTBLOCK): "Interrupted by signal",
}
_O_CREAT: Final = 0o100
_O_TMPFILE: Final = 0o20200000
_FCNTL_NO_ARG: Final = frozenset((1, 3, 9, 11, 1025, 1032, 1034))  # F_GETFD and the other questions
_FUTEX_ARGS: Final = {0: 4, 1: 3, 9: 6, 10: 6}  # wait, wake, wait_bitset, wake_bitset
_ABIS: Final = {abi.name: abi for abi in (X86_64, I386)}


_COUNTS: Final = frozenset(("vlen", "iovcnt", "count", "size", "length", "len", "maxnode"))
_PRCTL_ARGS: Final = {1: ("signal",), 3: (), 4: ("dec",), 7: (), 8: ("dec",), 15: ("str",), 16: ("str",), 23: ("dec",),
                      30: ()}  # fmt: skip
_FCNTL_ARG: Final = {0: "dec", 1030: "dec", 2: "FD_", 4: "O_"}  # F_DUPFD, F_DUPFD_CLOEXEC, F_SETFD, F_SETFL


class _Argument:
    """One argument: its value, how it is shown, and whether it is shown when the call returns."""

    __slots__ = ("name", "out", "show", "value")

    def __init__(self, name: str, kind: Kind, value: int) -> None:
        self.name = name.lstrip("_")
        self.value = value
        self.out = kind.out
        self.show = "dec" if kind.show == "hex" and self.name in _COUNTS else kind.show


def _join_halves(arguments: list[_Argument]) -> list[_Argument]:
    """A 64-bit number that i386 passes in two registers is one argument, as its prototype has it."""
    joined: list[_Argument] = []
    for argument in arguments:
        before = joined[-1] if joined else None
        if before is not None and before.name.endswith("low") and argument.name.endswith("high"):
            low, high = before.value, argument.value
        elif before is not None and before.name.endswith("high") and argument.name.endswith("low"):
            low, high = argument.value, before.value
        else:
            joined.append(argument)
            continue
        assert before is not None, "_join_halves: half a number"
        before.value = cast_register(X86_64, LONG, low | high << 32)
        before.show, before.name = "dec", "whole"
    return joined


def _arguments(name: str, parameters: tuple[tuple[str, Kind], ...], values: list[int]) -> list[_Argument]:
    """The arguments as their types show them, but for the few whose meaning hangs on another."""
    arguments = [_Argument(label, kind, value) for (label, kind), value in zip(parameters, values, strict=True)]
    arguments = _join_halves(arguments)
    if name in {"fcntl", "fcntl64"} and values[1] in _FCNTL_ARG:
        arguments[2].show = _FCNTL_ARG[values[1]]
    elif name in {"pipe2", "dup3"}:
        arguments[-1].show = "pipe_flags"
    elif name == "mmap2":
        arguments[-1].value <<= PAGE_SHIFT
    elif name == "_llseek":
        arguments[2].show, arguments[2].out = "loff_at", True
    elif name == "prctl" and values[0] in _PRCTL_ARGS:
        shows = _PRCTL_ARGS[values[0]]
        arguments[1].out = values[0] == 16  # PR_GET_NAME
        for argument, show in zip(arguments[1:], shows, strict=False):
            argument.show = show
        del arguments[1 + len(shows) :]
    return arguments


def _nr_shown(name: str, args: list[int]) -> int:
    """How many arguments mean something: some depend on others."""
    if name in {"open", "openat"}:
        flags = args[-2]
        return len(args) if flags & _O_CREAT or flags & _O_TMPFILE == _O_TMPFILE else len(args) - 1
    if name in {"fcntl", "fcntl64"} and args[1] in _FCNTL_NO_ARG:
        return 2
    if name == "mremap" and not args[3] & 6:
        return 4
    if name in {"futex", "futex_time64"}:
        return _FUTEX_ARGS.get(args[1] & 0x7F, len(args))
    return len(args)


class _Call:
    """A call that has begun: its text so far, and what is still to be shown."""

    __slots__ = ("arguments", "broken", "shown", "text", "view")

    def __init__(self, view: View, arguments: list[_Argument]) -> None:
        self.view = view
        self.arguments = arguments
        self.shown = 0  # arguments shown on the way in
        self.text = ""
        self.broken = False  # the first part of the line has been printed

    def show(self, count: int) -> str:
        """Arguments from the first not yet shown up to *count*."""
        parts = []
        view = self.view
        failed = view.ret is not None and view.ret < 0
        for view.index in range(self.shown, count):
            argument = self.arguments[view.index]
            as_address = argument.out and failed
            value = argument.value
            parts.append(pointer(value) if as_address else show_argument(argument.show, value, view))
        self.shown = max(self.shown, count)
        return ", ".join(parts)


def enter_call(abi: Abi, nr: int, raw: tuple[int, ...], memory: Memory) -> _Call:
    """The call *nr* with the arguments *raw*, shown as far as its way in allows."""
    table = TABLES[abi.name]
    entry = table.entries.get(nr)
    name = table.name(nr)
    if entry is None or entry.handler is None:
        call = _Call(View(name, abi, memory, list(raw)), [])
        shown = ", ".join([hex(cast_register(abi, ULONG, value)) for value in raw])
        call.text = f"{name}({shown}"
        return call
    parameters = signature(entry.handler)
    values = [cast_register(abi, kind.width, value) for (_, kind), value in zip(parameters, raw, strict=False)]
    arguments = _arguments(name, parameters, values)
    del arguments[_nr_shown(name, values) :]
    call = _Call(View(name, abi, memory, [argument.value for argument in arguments]), arguments)
    first_out = next((index for index, argument in enumerate(arguments) if argument.out), len(arguments))
    call.text = f"{name}({call.show(first_out)}"
    return call


def leave_call(call: _Call, ret: int) -> str:
    """The rest of the arguments, closing parenthesis included."""
    call.view.ret = ret
    before = call.shown
    rest = call.show(len(call.arguments))
    return f"{', ' if before and rest else ''}{rest})"


def show_result(name: str, ret: int, args: list[int]) -> str:
    """What stands behind the equals sign."""
    if -ret in _RESTARTS:
        return f"? {Errno(-ret).name} ({_RESTARTS[-ret]})"
    if -4096 < ret < 0 and name not in _SIGRETURNS:
        known = -ret in Errno._value2member_map_
        label = Errno(-ret).name if known else f"ERRNO_{-ret}"
        return f"-1 {label} ({os.strerror(-ret)})"
    if name in _ADDRESS_RESULTS:
        return hex(ret) if ret else "0"
    if name in _OCTAL_RESULTS:
        return f"0{ret:o}" if ret else "000"
    if name in {"fcntl", "fcntl64"} and args[1] == 3:
        return f"{ret:#x} (flags {open_flags(ret)})"
    if name in {"fcntl", "fcntl64"} and args[1] == 1:
        return f"{ret:#x} (flags FD_CLOEXEC)" if ret else "0"
    return str(ret)


class Strace:
    """A sink that turns events into lines.  *write* gets whole lines with their newline."""

    def __init__(self, write: Callable[[str], object], memory: Memory) -> None:
        self._write = write
        self._memory = memory
        self._calls: dict[int, _Call] = {}
        self._pids: set[int] = set()

    def __call__(self, icount: int, pid: int, event: Event) -> None:
        """Hear one event."""
        del icount
        if isinstance(event, SysEnter):
            self._enter(pid, event)
        elif isinstance(event, SysExit):
            self._exit(pid, event)
        elif isinstance(event, SignalDeliver):
            self._line(pid, f"--- {s.signal_name(event.sig)} {{si_signo={s.signal_name(event.sig)}, "
                            f"si_code={_code_name(event.sig, event.code)}}} ---")  # fmt: skip
        elif isinstance(event, SchedProcessExit):
            self._ended(pid, event.code)

    def _enter(self, pid: int, event: SysEnter) -> None:
        abi = _ABIS[event.abi]
        self._pids.add(pid)
        call = enter_call(abi, event.nr, event.args, self._memory)
        if call.view.name in _NO_RETURN:
            self._line(pid, _aligned(call.text + ")") + "?")
            return
        self._calls[pid] = call

    def _exit(self, pid: int, event: SysExit) -> None:
        call = self._calls.pop(pid, None)
        if call is None:
            return
        rest = leave_call(call, event.ret)
        head = f"<... {call.view.name} resumed>" if call.broken else call.text
        result = show_result(call.view.name, event.ret, call.view.args)
        self._line(pid, _aligned(head + rest) + result)

    def _ended(self, pid: int, code: int) -> None:
        self._calls.pop(pid, None)
        sig = code & 0x7F
        core = " (core dumped)" if code & 0x80 else ""
        text = f"+++ killed by {s.signal_name(sig)}{core} +++" if sig else f"+++ exited with {code >> 8 & 0xFF} +++"
        self._line(pid, text)

    def _line(self, pid: int, text: str) -> None:
        """Print a line of *pid*; the lines that others have begun are broken first."""
        for other, call in self._calls.items():
            if other != pid and not call.broken:
                call.broken = True
                self._write(f"{self._prefix(other)}{call.text} <unfinished ...>\n")
        self._write(f"{self._prefix(pid)}{text}\n")

    def _prefix(self, pid: int) -> str:
        return f"[pid {pid:>5}] " if len(self._pids) > 1 else ""


def _aligned(text: str) -> str:
    return f"{text:<{_COLUMN}} = "


_CODES: Final = {
    s.SIGSEGV: {s.SEGV_MAPERR: "SEGV_MAPERR", s.SEGV_ACCERR: "SEGV_ACCERR"},
    s.SIGBUS: {s.BUS_ADRALN: "BUS_ADRALN", s.BUS_ADRERR: "BUS_ADRERR", s.BUS_OBJERR: "BUS_OBJERR"},
    s.SIGFPE: {s.FPE_INTDIV: "FPE_INTDIV", s.FPE_FLTDIV: "FPE_FLTDIV", s.FPE_FLTINV: "FPE_FLTINV"},
    s.SIGILL: {s.ILL_ILLOPN: "ILL_ILLOPN", s.ILL_ILLOPC: "ILL_ILLOPC", s.ILL_PRVOPC: "ILL_PRVOPC"},
    s.SIGTRAP: {s.TRAP_BRKPT: "TRAP_BRKPT", s.TRAP_TRACE: "TRAP_TRACE", s.TRAP_HWBKPT: "TRAP_HWBKPT"},
    s.SIGCHLD: {s.CLD_EXITED: "CLD_EXITED", s.CLD_KILLED: "CLD_KILLED", s.CLD_DUMPED: "CLD_DUMPED",
                s.CLD_STOPPED: "CLD_STOPPED", s.CLD_CONTINUED: "CLD_CONTINUED"},
}  # fmt: skip
_ANY_SIGNAL: Final = {
    s.SI_USER: "SI_USER", s.SI_KERNEL: "SI_KERNEL", s.SI_QUEUE: "SI_QUEUE", s.SI_TIMER: "SI_TIMER",
    s.SI_TKILL: "SI_TKILL",
}  # fmt: skip


def _code_name(sig: int, code: int) -> str:
    return _CODES.get(sig, {}).get(code) or _ANY_SIGNAL.get(code) or str(code)


assert set(_ABIS) == set(NUMBERS), "strace: an ABI without a name"
