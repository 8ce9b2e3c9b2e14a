"""Commands about what happened so far: syscalls, events, when."""

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from minikernel import events as kinds
from minikernel.kdb.command import CommandError, command
from minikernel.kdb.explaining import line_count
from minikernel.report.words import plural

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "kernel"


@command("syscalls [N | SYSCALL... | pid PID | failed]", group=_GROUP)
def syscalls(session: "Session", arguments: str) -> None:
    """The last system calls, decoded as strace shows them: syscalls [N] [NAMES...] [pid PID] [failed].

    N of them, those with these names (a part of the name is enough), of one task, those that failed.
    """
    words = arguments.split()
    pid, failed, count = None, False, ""
    names = []
    while words:
        word = words.pop(0)
        if word == "pid":
            if not words:
                raise CommandError("`pid` wants a number.")
            pid = session.evaluate(words.pop(0))
        elif word == "failed":
            failed = True
        elif word[0].isdecimal():
            count = word
        else:
            names.append(word)
    limit = line_count(session, count)
    found = []
    for caller, text in session.calls:
        name = text.partition("(")[0].split()[-1] if "(" in text else text  # a signal, or the rest of a call
        if pid is not None and caller != pid:
            continue
        if names and not any(wanted in name for wanted in names):
            continue
        if failed and " = -1 " not in text:
            continue
        found.append((caller, text.rstrip("\n")))
    if not found:
        session.print("No system call is like that." if arguments else "There was no system call yet.")
        return
    for caller, text in found[-limit:]:
        session.print(text)
        session.tell_more("syscalls", [{"pid": caller, "text": text}])


@command("events [N | EVENT... | pid PID]", group=_GROUP)
def events(session: "Session", arguments: str) -> None:
    """The last events of the kernel: instruction count, process, name and fields: events [N] [NAMES...] [pid PID].

    N of them, those with these names (a part of the name is enough), those of one task.
    """
    words = arguments.split()
    pid, count = None, ""
    names = []
    while words:
        word = words.pop(0)
        if word == "pid":
            if not words:
                raise CommandError("`pid` wants a number.")
            pid = session.evaluate(words.pop(0))
        elif word[0].isdecimal():
            count = word
        else:
            names.append(word)
    known = [kind.name for kind in vars(kinds).values() if isinstance(kind, type) and issubclass(kind, kinds.Event)]
    for name in names:
        if not any(name in one for one in known):
            close = get_close_matches(name, known, n=2)
            meant = f"Did you mean {' or '.join(close)}?" if close else "<TAB> lists them."
            raise CommandError(f"No event is called {name}.  {meant}")
    limit = line_count(session, count)
    found = []
    for icount, who, event in reversed(session.events):
        if (pid is None or who == pid) and (not names or any(name in event.name for name in names)):
            found.append((icount, who, event))
            if len(found) == limit:
                break
    if not found:
        session.print("No event is like that.")
    for icount, who, event in reversed(found):
        text = event.text()
        session.print(f"{icount:>12,} {who:>5}  {text}")
        session.tell_more("events", [{"icount": icount, "pid": who, "name": event.name, "text": text}])


@command("when", group=_GROUP)
def when(session: "Session", arguments: str) -> None:
    """Where the run is: instructions, services of the kernel (which no instruction counts), virtual time, events.

    `goto` takes the number of instructions, and that of the last event.
    """
    del arguments
    kernel = session.kernel
    icount, services = session.machine.position
    now = 0 if kernel.clock.is_host else kernel.clock.now_ns()  # a record's times are the program's, not ours to take
    session.tell(instructions=icount, services=services, ns=now, events=session.nr_events)
    session.print(
        f"{icount:,} instructions, {services:,} services, {now:,} ns of virtual time, "
        f"{session.nr_events:,} events, {plural(session.explainer.count, 'fault')}, "
        f"{plural(kernel.nr_syscalls, 'system call')}"
    )
