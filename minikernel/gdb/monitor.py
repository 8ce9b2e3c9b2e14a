"""``monitor COMMAND``: the commands of our own debugger that gdb has not, about the kernel and the machine."""

from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import CommandError, find

if TYPE_CHECKING:
    from minikernel.gdb.stub import Stub

_GDBS_OWN: Final = frozenset({"running", "stops"})  # groups of commands that would let gdb's idea of things go stale


def run_monitor(stub: "Stub", line: str) -> str:
    """What the command *line* prints; a line that says why where it cannot be done."""
    from minikernel.kdb.shell import ROOMS  # the commands announce themselves

    assert ROOMS, "run_monitor: no commands"
    session = stub.session
    try:
        command, _ = find(line)
    except CommandError as error:
        return f"{error}\n"
    if command.group in _GDBS_OWN or command.name == "quit":
        return f"`{command.name}` is gdb's own business here: use its commands.\n"
    try:
        session.selected = stub.task
    except LookupError:
        session.selected = None
    stub.printed.clear()
    session.execute(line)
    text = "".join(stub.printed)
    stub.printed.clear()
    return text
