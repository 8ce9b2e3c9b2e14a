"""Commands about tasks: ps, threads, task, files."""

from typing import TYPE_CHECKING, Any, Final

from minikernel.abi.signal import signal_name
from minikernel.kdb.command import CommandError, command
from minikernel.report.table import Column
from minikernel.report.words import plural
from minikernel.task.task import TaskState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from minikernel.kdb.session import Session
    from minikernel.task.task import Process, Task

_GROUP: Final = "kernel"


@command("ps", "info inferiors", group=_GROUP)
def ps(session: "Session", arguments: str) -> None:
    """Every process, as a tree: parent, state, memory, threads and what it sleeps in.  `*` is in the CPU."""
    del arguments
    current = session.kernel.current
    rows = []
    for depth, task in _tree(session):
        parent = task.process.parent
        rows.append({
            "current": current is not None and task.tgid == current.tgid,
            "pid": task.tgid,
            "ppid": parent.pid if parent is not None else 0,
            "state": task.state.value,
            "rss": task.mm.rss * 4 if task.has_mm else None,
            "threads": len(task.process.threads),
            "command": "  " * depth + task.comm.decode(errors="backslashreplace"),
            "call": call_of(task),
        })  # fmt: skip
    columns = (
        Column("current", " ", form=lambda now: "*" if now else ""),
        Column("pid", "PID", right=True, width=5),
        Column("ppid", "PPID", right=True, width=5),
        Column("state", "S"),
        Column("rss", "RSS", right=True, form=lambda size: f"{size}K", width=8),
        Column("threads", "THR", right=True),
        Column("command", " COMMAND", form=lambda name: f" {name}", width=17),
        Column("call", "CALL"),
    )
    session.table(columns, rows)


def _tree(session: "Session") -> "Iterator[tuple[int, Task]]":
    """The first task of each process and how deep it is below those whose parent is not shown."""
    leaders = [task for task in session.kernel.tasks.values() if task.pid == task.tgid]
    known = {id(task.process): task for task in leaders}

    def below(task: "Task", depth: int) -> "Iterator[tuple[int, Task]]":
        yield depth, task
        for child in task.process.children:
            if id(child) in known:
                yield from below(known[id(child)], depth + 1)

    for task in leaders:
        if task.process.parent is None or id(task.process.parent) not in known:
            yield from below(task, 0)


def call_of(task: "Task") -> str:
    """The system call that a sleeping task is in."""
    if task.state is not TaskState.SLEEPING or task.in_call is None:
        return ""
    from minikernel.syscalls.table import TABLES

    return TABLES[task.in_call.name].name(task.orig_ax & 0xFFFF_FFFF)


@command("threads", "info threads", group=_GROUP)
def threads(session: "Session", arguments: str) -> None:
    """Every task, threads included, and where each stands.  `*` is the one that commands are about."""
    del arguments
    chosen = session.selected or session.kernel.current
    kept = session.selected
    for task in list(session.kernel.tasks.values()):
        where = "(no memory)"
        if task.has_mm:
            session.selected = task
            where = session.place_words(session.registers()[16])
        mark = "*" if task is chosen else " "
        name = task.comm.decode(errors="backslashreplace")
        session.print(f"{mark} {task.pid:>5} {task.tgid:>5} {task.state.value} {name:<16} {where}")
        told: dict[str, Any] = {"tid": task.pid, "pid": task.tgid, "state": task.state.value, "name": name}
        session.tell_more("threads", [{**told, "where": where, "selected": task is chosen}])
    session.selected = kept


@command("task [PID]", "thread", "inferior", group=_GROUP)
def task_(session: "Session", arguments: str) -> None:
    """Say what the kernel knows about the current task; with PID, make that one the task that commands are about.

    Going on makes the task in the CPU current again.
    """
    if arguments:
        session.selected = _task(session, arguments)
    task = session.task
    process = task.process
    cpu = "in the CPU" if session.kernel.current is task else "not in the CPU"
    session.pairs({
        "task": f"{task.pid} of process {task.tgid}, {task.comm.decode(errors='backslashreplace')}, {cpu}",
        "abi": task.abi.name,
        "state": f"{task.state.name.lower()} {call_of(task)}".rstrip(),
        "parent": str(process.parent.pid) if process.parent is not None else "none",
        "group": f"{process.pgrp}, session {process.session}",
        "children": " ".join(str(child.pid) for child in process.children) or "none",
        "threads": " ".join(str(thread.pid) for thread in process.threads),
        "signals": f"blocked {_signals(task.blocked)}, pending {_pending(task, process)}",
        "memory": f"{plural(task.mm.rss, 'page')} resident, {plural(task.mm.total_vm, 'page')} mapped",
        "tables": f"{plural(task.mm.pgtable.nr_tables, 'table')}, root {task.mm.pgtable.root:#x}",
        "faults": f"{task.mm.min_flt:,} minor, {task.mm.maj_flt:,} major",
        "stack": f"{task.stack:#x}, in the kernel",
    })  # fmt: skip


def _pending(task: "Task", process: "Process") -> str:
    return _signals(task.pending.mask | process.shared_pending.mask)


def _signals(mask: int) -> str:
    """The signals of a set by their names; of more than half of all, those that are missing."""
    numbers = [number for number in range(1, 65) if mask >> (number - 1) & 1]
    if len(numbers) > 32:
        missing = [signal_name(number) for number in range(1, 65) if number not in numbers]
        return f"all but {' '.join(missing)}" if missing else "all"
    return " ".join(signal_name(number) for number in numbers) or "none"


@command("files [PID]", group=_GROUP)
def files(session: "Session", arguments: str) -> None:
    """The open files of the task, or of PID: descriptor, position, flags, references, path."""
    task = _task(session, arguments) if arguments else session.task
    if task.state is TaskState.ZOMBIE:
        raise CommandError(f"Process {task.pid} has ended: it has no files.")
    table = task.files
    rows = []
    for fd in table.open_fds():
        file = table.get_raw(fd)
        rows.append({
            "fd": fd, "pos": file.pos, "flags": file.flags, "refs": file.refs,
            "path": file.path.decode(errors="backslashreplace"), "cloexec": fd in table.cloexec,
        })  # fmt: skip
    session.print(f"{'FD':>4} {'POS':>10} {'FLAGS':>9} {'REFS':>4}  FILE")
    for row in rows:
        close = " (close-on-exec)" if row["cloexec"] else ""
        flags = f"0{row['flags']:o}"
        session.print(f"{row['fd']:>4} {row['pos']:>10} {flags:>9} {row['refs']:>4}  {row['path']}{close}")
    session.tell(files=rows)


def _task(session: "Session", arguments: str) -> "Task":
    """The task that *arguments* name.

    Raises:
        CommandError.
    """
    chosen = session.kernel.tasks.get(session.evaluate(arguments))
    if chosen is None:
        raise CommandError(f"There is no task {arguments}.")
    return chosen
