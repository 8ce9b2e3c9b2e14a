"""The commands of the debugger: a name, a function, and its docstring, which is the help text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import getdoc
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

Run: TypeAlias = "Callable[[Session, str], None]"


class CommandError(Exception):
    """A command cannot do what it was asked for; one line says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: *name* may have two words."""

    name: str
    usage: str
    aliases: tuple[str, ...]
    group: str
    run: Run

    @property
    def help(self) -> str:
        """All of the help text."""
        return getdoc(self.run) or ""

    @property
    def summary(self) -> str:
        """Its first line."""
        return self.help.partition("\n")[0]

    @property
    def placeholders(self) -> list[str]:
        """The words of the usage behind the name: what the arguments are."""
        return self.usage.split()[len(self.name.split()) :]


COMMANDS: dict[str, Command] = {}
"""By their names."""
BY_WORD: dict[str, Command] = {}
"""By names and aliases."""


def command(usage: str, *aliases: str, group: str) -> Callable[[Run], Run]:
    """Make the function below a command; *usage* is its name in lower case, then its arguments in upper case."""
    words = []
    for word in usage.split():
        if not word.replace("-", "").replace("_", "").isalnum() or not word.islower():
            break
        words.append(word)
    name = " ".join(words)

    def add(run: Run) -> Run:
        made = Command(name, usage, aliases, group, run)
        for word in (name, *aliases):
            assert word not in BY_WORD, f"command: there are two `{word}`"
            BY_WORD[word] = made
        COMMANDS[name] = made
        return run

    return add


def put_in_order(modules: Sequence[str]) -> None:
    """List commands in the order of their *modules*, whichever happened to be imported first."""
    rank = {name: index for index, name in enumerate(modules)}
    for table in (COMMANDS, BY_WORD):
        ordered = sorted(table.items(), key=lambda pair: rank.get(pair[1].run.__module__, len(rank)))
        table.clear()
        table.update(ordered)


def find(line: str) -> tuple[Command, str]:
    """The command that *line* begins with, and the rest of the line.  A unique beginning of a name is enough.

    Raises:
        CommandError.
    """
    first, _, rest = line.strip().partition(" ")
    # x/4i and p/x: the format belongs to the arguments.
    head, slash, form = first.partition("/")
    if slash:
        first, rest = head, f"/{form} {rest}"
    rest = rest.strip()
    second, _, more = rest.partition(" ")
    names = _matching(first)
    deeper = [name for word in names for name in _matching_below(word, second)]
    if second and deeper:
        return _one(f"{first} {second}", deeper), more.strip()
    whole = [name for name in names if name in BY_WORD]
    if not whole:
        raise CommandError(undefined(line))
    return _one(first, whole), rest


def _matching(word: str) -> list[str]:
    """First words of names that *word* may mean: itself, or everything it begins."""
    firsts = dict.fromkeys(name.partition(" ")[0] for name in BY_WORD)
    return [word] if word in firsts else [first for first in firsts if word and first.startswith(word)]


def _matching_below(first: str, second: str) -> list[str]:
    names = [name for name in BY_WORD if name.startswith(f"{first} ")]
    exact = [name for name in names if name == f"{first} {second}"]
    return exact or [name for name in names if second and name.startswith(f"{first} {second}")]


def _one(typed: str, names: list[str]) -> Command:
    found = {BY_WORD[name].name: BY_WORD[name] for name in names}
    if len(found) > 1:
        raise CommandError(f'Ambiguous command "{typed}": {", ".join(sorted(names))}.')
    return next(iter(found.values()))


def undefined(line: str) -> str:
    """The line to say about a command that does not exist: what may have been meant, if something is like it."""
    words = line.split() or [""]
    typed = " ".join(words[:2])
    if len(words) == 1 and any(name.startswith(f"{words[0]} ") for name in BY_WORD):
        return f'"{words[0]}" wants a second word.  Try "help {words[0]}".'
    close = get_close_matches(typed, [name for name in BY_WORD if " " in name], n=2, cutoff=0.75)
    if not any(name.partition(" ")[0] == words[0] for name in BY_WORD if " " in name):
        close = get_close_matches(words[0], list(BY_WORD), n=3, cutoff=0.6)
    elif not close:
        return f'Undefined command: "{typed[:40]}".  Try "help {words[0]}".'
    meant = f"Did you mean {' or '.join(f'`{name}`' for name in close)}?" if close else 'Try "help".'
    return f'Undefined command: "{line.strip()[:40]}".  {meant}'
