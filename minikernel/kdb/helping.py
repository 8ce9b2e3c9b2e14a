"""help and apropos: every command's docstring, by name, by group, by words in it."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from minikernel.kdb.command import BY_WORD, COMMANDS, Command, CommandError, command, find

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUPS: Final = {
    "running": "Running the program",
    "stops": "What stops it",
    "time": "Back and forth in time",
    "program": "Looking at the program",
    "kernel": "Looking into the kernel",
    "settings": "The debugger's own settings",
    "help": "Help",
}
_NAME_WIDTH: Final = 20
_CLAUSE: Final = re.compile(r"(?: \(|[:;] )")  # where a sentence may be left
_PHRASE: Final = re.compile(r", ")
_FIRST_STEPS: Final = """\
Beginnings of names are enough, <TAB> completes, an empty line goes on where the last command ended.  Ctrl-C stops a
running program.  "help COMMAND" says more, "help GROUP" lists a group, "apropos WORD" searches.
For a start: break main, continue, context, explain, vmmap, pagewalk $sp, phys."""


def groups() -> dict[str, str]:
    """Every group that has a command, with its title; those not listed above come last."""
    found = dict.fromkeys(sorted(each.group for each in COMMANDS.values()))
    known = {group: title for group, title in _GROUPS.items() if group in found}
    return known | {group: group.capitalize() for group in found if group not in known}


def _of(group: str) -> list[Command]:
    """The commands of *group*, by name."""
    return sorted((each for each in COMMANDS.values() if each.group == group), key=lambda each: each.name)


@command("help [COMMAND]", "h", group="help")
def help_(session: "Session", arguments: str) -> None:
    """List the commands, or explain one: help [COMMAND | GROUP | all].

    Without arguments, every command in a line.  With a group's name, or with a first word such as `info`, its
    commands; with `all`, the whole text of every command.
    """
    if arguments in {"", "all"}:
        for group, title in groups().items():
            _list(session, f"{title} ({group})", _of(group))
        if arguments:
            for _, each in sorted(COMMANDS.items()):
                session.print()
                _explain(session, each)
            return
        session.print(_FIRST_STEPS)
        return
    if arguments in groups():
        _list(session, groups()[arguments], _of(arguments))
        if arguments not in BY_WORD:
            return
    if arguments in session.workbench.defined:
        session.print(session.workbench.defined[arguments].help)
        return
    below = {word: each for word, each in sorted(BY_WORD.items()) if word.startswith(f"{arguments} ")}
    if below and arguments not in BY_WORD:
        _list(session, f"Commands that begin with `{arguments}`", below.values(), list(below))
        return
    found, _ = find(arguments)
    _explain(session, found)
    if below:
        _list(session, "See also", below.values(), list(below))


def _list(session: "Session", title: str, commands: Iterable[Command], names: list[str] | None = None) -> None:
    """Name and summary of each; *names*: those by which they are called here."""
    found = list(commands)
    rows = [
        {"name": name, "group": each.group, "summary": each.summary}
        for name, each in zip(names or [each.name for each in found], found, strict=True)
    ]
    session.print(session.paint(title, "bold"))
    for row in rows:
        session.print(f"  {row['name']:<{_NAME_WIDTH}}{_short(session, row['summary'])}")
    session.tell_more("commands", rows)


def _short(session: "Session", summary: str) -> str:
    """As much of the first sentence of *summary* as there is room for on a line: whole clauses, or some words."""
    sentence = summary.partition(".  ")[0].rstrip(".:")
    room = (session.settings.columns() or len(sentence) + _NAME_WIDTH + 3) - _NAME_WIDTH - 3
    if len(sentence) <= room:
        return f"{sentence}."
    for pattern in (_CLAUSE, _PHRASE):
        ends = [match.start() for match in pattern.finditer(sentence) if match.start() <= room]
        if ends:
            return f"{sentence[: ends[-1]]}."
    return sentence[: max(room - 2, 8)].rpartition(" ")[0] + " .."


def _explain(session: "Session", found: Command) -> None:
    """Usage, other names, and the whole text."""
    session.print(
        session.paint(found.usage, "bold") + (f"   (also: {', '.join(found.aliases)})" if found.aliases else "")
    )
    session.print(found.help)
    one = {"name": found.name, "usage": found.usage, "aliases": list(found.aliases), "group": found.group}
    session.tell_more("commands", [{**one, "help": found.help}])


@command("apropos WORD", group="help")
def apropos(session: "Session", arguments: str) -> None:
    """Search names and help texts: apropos WORD, a regular expression; capitals make no difference."""
    if not arguments:
        raise CommandError("apropos wants a word to look for.")
    try:
        pattern = re.compile(arguments, re.IGNORECASE)
    except re.error as error:
        raise CommandError(f"{arguments}: {error}.") from None
    found = [
        each for _, each in sorted(COMMANDS.items()) if pattern.search(" ".join((each.usage, *each.aliases, each.help)))
    ]  # fmt: skip
    if not found:
        raise CommandError(f"No command says anything about {arguments}.")
    for each in found:
        session.print(f"  {each.name:<{_NAME_WIDTH}}{_short(session, each.summary)}")
    session.tell_more("commands", [{"name": each.name, "summary": each.summary} for each in found])
