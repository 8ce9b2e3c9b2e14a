"""``monitor COMMAND``: the commands of our own debugger that gdb has not, about the kernel and the machine."""

from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import LinuxError
from minikernel.kdb.command import CommandError, find

if TYPE_CHECKING:
    from minikernel.gdb.stub import Stub

# What looks and does nothing else.  The client may be anybody who reaches the port: no command here changes the machine
# behind gdb's back, goes elsewhere in time, or touches the host's files and programs.
_GROUPS: Final = frozenset({"kernel", "help", "program"})
_BUT: Final = frozenset({"dump memory", "restore", "generate-core-file"})
_AND: Final = frozenset({"checkpoint", "info checkpoints", "delete checkpoint", "last-write", "pt-diff"})


def run_monitor(stub: "Stub", line: str) -> str:
    """What the command *line* prints; a line that says why where it cannot be done."""
    from minikernel.kdb.shell import ROOMS  # the commands announce themselves

    assert ROOMS, "run_monitor: no commands"
    session = stub.session
    try:
        command, _ = find(line)
    except CommandError as error:
        return f"{error}\n"
    if command.name not in _AND and (command.group not in _GROUPS or command.name in _BUT):
        return f"`{command.name}` is not for monitor: use gdb's own commands.\n"
    try:
        session.selected = stub.task
    except LinuxError:  # the program has ended: the kernel is still there
        session.selected = None
    stub.printed.clear()
    session.execute(line)
    text = "".join(stub.printed)
    stub.printed.clear()
    return text
