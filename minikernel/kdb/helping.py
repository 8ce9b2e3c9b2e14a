"""help: every command's docstring, by groups."""

from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import COMMANDS, command, find

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUPS: Final = {
    "running": "Running the program",
    "stops": "What stops it",
    "program": "Looking at the program",
    "kernel": "Looking into the kernel",
    "help": "Help",
}


@command("help [COMMAND]", "h", group="help")
def help_(session: "Session", arguments: str) -> None:
    """List the commands, or explain one."""
    if arguments:
        found, _ = find(arguments)
        session.print(found.usage + (f"   (also: {', '.join(found.aliases)})" if found.aliases else ""))
        session.print(found.help)
        return
    for group, title in _GROUPS.items():
        session.print(session.paint(title, "bold"))
        for each in COMMANDS.values():
            if each.group == group:
                session.print(f"  {each.name:<18}{each.summary}")
    session.print('"help COMMAND" says more.  Beginnings of names are enough; Ctrl-C stops a running program.')
