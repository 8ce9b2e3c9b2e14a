"""``--json``: what a command has to say as one JSON object on one line.

version   1; a change that breaks readers raises it
command   the line as it was given
name      the command that was found, or null
ok        whether it could be done; if not, *error* is one line that says why
output    the lines that a person would have seen, without colours
data      the same as values, for commands that have some: numbers as numbers, addresses too
position  where the program stands: instructions since boot, process, task, address of the next instruction;
          null when it has ended
done      true when the debugger is left
"""

import json
from typing import TYPE_CHECKING, Any, Final

from emu.cpu import RIP
from minikernel.kdb.command import CommandError, find

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

VERSION: Final = 1


def answer(session: "Session", line: str, ok: bool, error: str | None, lines: list[str]) -> str:
    """The object for *line*, which has just been executed."""
    try:
        name: str | None = find(line)[0].name
    except CommandError:
        name = None
    text = "".join(lines)
    reply = {
        "version": VERSION,
        "command": line,
        "name": name,
        "ok": ok,
        "error": error,
        "output": text.splitlines(),
        "data": session.data or None,
        "position": position(session),
        "done": session.done,
    }
    return json.dumps(reply, ensure_ascii=True, default=_plain) + "\n"


def _plain(value: object) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    raise TypeError(f"machine_readable: {type(value).__name__} is no plain data")


def position(session: "Session") -> dict[str, int] | None:
    """Where the task that commands are about stands."""
    try:
        task = session.task
    except CommandError:
        return None
    pc = session.registers()[RIP]
    return {"icount": session.machine.icount, "pid": task.tgid, "tid": task.pid, "pc": pc}
