"""What becomes of signals: the commands handle and info signals."""

import re
from typing import TYPE_CHECKING, Final

from minikernel.abi import signal as s
from minikernel.kdb.command import CommandError, command
from minikernel.task.signal import dequeue_signal, next_signal

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.task.task import Task

_GROUP: Final = "stops"
NO_STOP: Final = frozenset(
    {"SIGALRM", "SIGCHLD", "SIGURG", "SIGIO", "SIGVTALRM", "SIGPROF", "SIGWINCH", "SIGCONT", "SIGKILL"}
)
"""Signals that do not stop a program by themselves: gdb's list, as far as Linux has them (SIGKILL cannot wait)."""
_ACTIONS: Final = {
    "stop": {"stop": True, "print": True},
    "nostop": {"stop": False},
    "print": {"print": True},
    "noprint": {"print": False, "stop": False},
    "pass": {"pass": True},
    "noignore": {"pass": True},
    "nopass": {"pass": False},
    "ignore": {"pass": False},
}
_DEBUGGERS_OWN: Final = ("SIGTRAP", "SIGINT")  # `all` leaves them alone
_HEADER: Final = "Signal        Stop\tPrint\tPass to program\tDescription"


def names_of(word: str) -> list[str]:
    """The signals that *word* means: a name, a number from 1 to 15, a range of them, ``all``.

    Raises:
        CommandError.
    """
    if word == "all":
        return [name for name in s.NAMES[1:] if name not in _DEBUGGERS_OWN]
    numbers = re.fullmatch(r"(\d{1,2})(?:-(\d{1,2}))?", word)
    if numbers is not None:
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        if not 1 <= first <= last <= 15:
            raise CommandError('Only signals 1-15 are valid as numeric signals.\nUse "info signals" for a list.')
        return s.NAMES[first : last + 1]
    realtime = re.fullmatch(r"SIG(\d\d)", word)
    if word in s.NAMES[1:] or (realtime is not None and s.SIGRTMIN <= int(realtime[1]) <= s.SIGRTMAX):
        return [word]
    raise CommandError(f'Unrecognized or ambiguous flag word: "{word}".')


def stops(session: "Session", name: str) -> bool:
    """Whether the signal stops the program."""
    return session.stopping.get(name, True)


def prints(session: "Session", name: str) -> bool:
    """Whether it is told."""
    return session.workbench.printing.get(name, stops(session, name))


def passes(session: "Session", name: str) -> bool:
    """Whether the program gets it."""
    return session.workbench.passing.get(name, True)


def is_told(session: "Session", name: str) -> bool:
    """Whether anything is to be said when it is sent."""
    return stops(session, name) or prints(session, name)


def _row(session: "Session", name: str) -> str:
    words = ["Yes" if told else "No" for told in (stops(session, name), prints(session, name), passes(session, name))]
    number = s.NAMES.index(name) if name in s.NAMES else 0
    description = s.DESCRIPTIONS.get(number, f"Real-time event {name[3:]}")
    return f"{name:<14}{words[0]}\t{words[1]}\t{words[2]}\t\t{description}"


@command("handle SIGNAL... [stop|nostop|print|noprint|pass|nopass...]", group=_GROUP)
def handle(session: "Session", arguments: str) -> None:
    """Say what becomes of signals: handle SIGNAL... ACTION...

    SIGNAL is a name, a number from 1 to 15, a range of them, or `all`.  stop: the program stops when it is sent;
    print: that is told; pass: the program gets it.  Each has an opposite with `no`; ignore is nopass.
    """
    words = arguments.split()
    names = [name for word in words if word not in _ACTIONS for name in names_of(word)]
    actions = [_ACTIONS[word] for word in words if word in _ACTIONS]
    if not names:
        raise CommandError("Argument required (signal to handle).")
    for name in names:
        for action in actions:
            for what, on in action.items():
                table = {"stop": session.stopping, "print": session.workbench.printing}
                table.get(what, session.workbench.passing)[name] = on
    session.print(_HEADER)
    for name in dict.fromkeys(names):
        session.print(_row(session, name))


@command("info signals [SIGNAL]", "info handle", group=_GROUP)
def info_signals(session: "Session", arguments: str) -> None:
    """What becomes of signals: whether they stop the program, are told, and reach it."""
    names = names_of(arguments) if arguments else s.NAMES[1:]
    session.print(_HEADER)
    for name in names:
        session.print(_row(session, name))
    if not arguments:
        session.print('\nUse the "handle" command to change these tables.')


def arm(session: "Session") -> None:
    """Have signals that are not to be passed kept back, if there are any."""
    if not all(session.workbench.passing.values()) and not session.machine.has_gate:
        session.machine.set_gate(Sieve(session))


class Sieve:
    """Keeps the signals that are not to be passed from the program: a gate of the machine's."""

    def __init__(self, session: "Session") -> None:
        self._session = session

    def holds_call(self, task: "Task") -> bool:
        """Never."""
        del task
        return False

    def holds_signal(self, task: "Task") -> bool:
        """Never; but what is not to be passed is gone."""
        while (found := next_signal(task)) is not None and not passes(self._session, s.signal_name(found[1].signo)):
            dequeue_signal(task, 1 << (found[1].signo - 1))
        return False
