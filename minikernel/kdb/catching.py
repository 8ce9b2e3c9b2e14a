"""The command catch: stops where the kernel does something."""

import re
from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno
from minikernel.abi.signal import NAMES
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.kdb import catches as c
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.conditions import checked, split_if
from minikernel.syscalls.args import DirFd, Fd, PathPtr
from minikernel.syscalls.table import TABLES

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_MOST_WORDS: Final = 64
_GROUPS: Final = {
    "memory": {"mman", "numa", "process_vm", "swap"},
    "signal": {"sigaction", "sigsend", "signalfd"},
    "process": {"clone", "process"},
    "ipc": {"shm"},
    "time": {"time", "timerfd", "posix_timers", "itimer"},
}
"""Groups of system calls, by the module of ``syscalls`` that serves them; `file` and `descriptor` go by arguments."""


def call_group(name: str) -> frozenset[str]:
    """The system calls of a group: those that take a file's name, or a descriptor, or are about memory ...

    Raises:
        CommandError.
    """
    kinds = {"file": (PathPtr,), "descriptor": (Fd, DirFd)}.get(name)
    if kinds is None and name not in _GROUPS:
        raise CommandError(f"Unknown syscall group '{name}': there are {', '.join(['file', 'descriptor', *_GROUPS])}.")
    found = set()
    for entry in (entry for table in TABLES.values() for entry in table.entries.values()):
        if entry.handler is None:
            continue
        if kinds is not None:
            annotations = entry.handler.__annotations__.values()
            belongs = any(annotation == kind for annotation in annotations for kind in kinds)
        else:
            belongs = entry.handler.__module__.rpartition(".")[2] in _GROUPS[name]
        if belongs:
            found.add(entry.name)
    return frozenset(found)


def _syscall(words: list[str]) -> c.Catchpoint:
    known = {name for numbers in NUMBERS.values() for name in numbers}
    names: set[str] = set()
    errnos: set[int] = set()
    phases: set[str] = set()
    for word in words:
        group = re.fullmatch(r"g(?:roup)?:(\w*)", word)
        if word in {"entry", "return"}:
            phases.add(word)
        elif group is not None:
            names |= call_group(group[1])
        elif word in known or (word.isdecimal() and len(word) < 8):
            names.add(str(int(word)) if word.isdecimal() else word)
        elif word in Errno.__members__:
            errnos.add(int(Errno[word]))
        else:
            raise CommandError(f"Unknown syscall name '{word}'.")
    if errnos and phases == {"entry"}:
        raise CommandError("A system call has an error number when it returns.")
    return c.Catchpoint(
        number=0, what="", kind="syscall", only=frozenset(names), errnos=frozenset(errnos),
        phase=phases.pop() if len(phases) == 1 else "",
    )  # fmt: skip


def _signal(words: list[str]) -> c.Catchpoint:
    known = {*NAMES, *(name.removeprefix("SIG") for name in NAMES)}
    names = [word for word in words if word != "all"]
    for word in names:
        if word not in known:
            raise CommandError(f"Unknown signal name '{word}'.")
    return c.Catchpoint(number=0, what="", kind="signal", only=frozenset(names if len(names) == len(words) else ()))


def _fault(session: "Session", words: list[str]) -> c.Catchpoint:
    span = None
    if "at" in words:
        cut = words.index("at")
        words, place = words[:cut], " ".join(words[cut + 1 :])
        first, comma, last = place.partition(",")
        start = session.evaluate(first)
        span = start, session.evaluate(last) if comma else start + 1
        if span[0] >= span[1]:
            raise CommandError("No address is in that range.")
    for word in words:
        if word not in c.FAULT_WORDS:
            raise CommandError(f"Unknown fault name '{word}'.")
    return c.Catchpoint(number=0, what="", kind="fault", only=frozenset(words), span=span)


def _event(kind: str, words: list[str]) -> c.Catchpoint:
    filters = [word for word in words if any(sign in word for sign in "=<>")]
    names = [word for word in words if word not in filters]
    if kind != "event":
        if names:
            raise CommandError(f"catch {kind} takes no names, only FIELD=VALUE.")
        names = [c.SHORT_NAMES[kind]]
    if not names:
        raise CommandError("catch event wants the names of events.")
    for name in names:
        if name not in c.EVENTS:
            raise CommandError(f"Unknown event name '{name}'.")
    try:
        parsed = tuple(c.filter_of(c.EVENTS[name], word) for word in filters for name in names)
    except ValueError as error:
        raise CommandError(str(error)) from None
    return c.Catchpoint(number=0, what="", kind=kind, only=frozenset(names), filters=parsed)


def _load(words: list[str]) -> c.Catchpoint:
    pattern = " ".join(words)
    try:
        re.compile(pattern)
    except re.error as error:
        raise CommandError(f"Invalid regexp: {error}.") from None
    return c.Catchpoint(number=0, what="", kind="load", pattern=pattern)


def _made(session: "Session", kind: str, words: list[str]) -> c.Catchpoint:
    match kind:
        case "syscall":
            return _syscall(words)
        case "signal":
            return _signal(words)
        case "fault":
            return _fault(session, words)
        case "load":
            return _load(words)
        case "event":
            return _event(kind, words)
        case _ if kind in c.SHORT_NAMES:
            return _event(kind, words)
    if words:
        raise CommandError(f"catch {kind} takes no names.")
    return c.Catchpoint(number=0, what="", kind=kind)


@command("catch WHAT [SYSCALL|SIGNAL|KIND|EVENT...] [if CONDITION]", group="stops")
def catch(session: "Session", arguments: str) -> None:
    """Stop when the kernel does something.

    syscall [NAME|NUMBER|group:GROUP...] [entry|return] [ERRNO...]
                           a call, and its return; with errors' names, returns with one of these
    signal [NAME...]       a signal is sent or delivered
    fault [KIND...] [at ADDRESS[,END]]
                           a page fault has been served, or has failed: minor major segv bus oom, read write fetch,
                           zero anon file cow, or any kind as `events` names it
    exec exit fork vfork thread clone   processes and threads; clone: all of the last three but fork
    load [REGEX]           a file with code is mapped
    reclaim oom swap-out mmap switch [FIELD=VALUE...]
                           the kernel's memory and scheduler
    event NAME... [FIELD=VALUE...]      any event by its name; = != < > <= >=
    """
    _catch(session, arguments, temporary=False)


@command("tcatch WHAT [SYSCALL|SIGNAL|KIND|EVENT...] [if CONDITION]", group="stops")
def tcatch(session: "Session", arguments: str) -> None:
    """As catch, but it is deleted when it has stopped the program."""
    _catch(session, arguments, temporary=True)


def _catch(session: "Session", arguments: str, *, temporary: bool) -> None:
    text, condition = split_if(arguments)
    kind, *words = text.split()[:_MOST_WORDS] or [""]
    if kind not in c.CATCHES:
        raise CommandError(f"catch wants one of: {', '.join(c.CATCHES)}.")
    point = _made(session, kind, words)
    point.number, point.what, point.temporary = session.next_number, text, temporary
    point.condition = checked(session, condition)
    session.add(point)
    session.print(f"Catchpoint {point.number} ({text})")
