"""The commands of the debugger: a name, a function, and its docstring, which is the help text."""

from collections.abc import Callable
from dataclasses import dataclass
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


COMMANDS: dict[str, Command] = {}
_BY_WORD: dict[str, Command] = {}


def command(usage: str, *aliases: str, group: str) -> Callable[[Run], Run]:
    """Make the function below a command; *usage* is its name in lower case, then its arguments in upper case."""
    words = []
    for word in usage.split():
        if not word.replace("-", "").isalpha() or not word.islower():
            break
        words.append(word)
    name = " ".join(words)

    def add(run: Run) -> Run:
        made = Command(name, usage, aliases, group, run)
        for word in (name, *aliases):
            assert word not in _BY_WORD, f"command: there are two `{word}`"
            _BY_WORD[word] = made
        COMMANDS[name] = made
        return run

    return add


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
    whole = [name for name in names if name in _BY_WORD]
    if not whole:
        raise CommandError(f'Undefined command: "{line.strip()[:40]}".  Try "help".')
    return _one(first, whole), rest


def _matching(word: str) -> list[str]:
    """First words of names that *word* may mean: itself, or everything it begins."""
    firsts = dict.fromkeys(name.partition(" ")[0] for name in _BY_WORD)
    return [word] if word in firsts else [first for first in firsts if word and first.startswith(word)]


def _matching_below(first: str, second: str) -> list[str]:
    names = [name for name in _BY_WORD if name.startswith(f"{first} ")]
    exact = [name for name in names if name == f"{first} {second}"]
    return exact or [name for name in names if second and name.startswith(f"{first} {second}")]


def _one(typed: str, names: list[str]) -> Command:
    found = {_BY_WORD[name].name: _BY_WORD[name] for name in names}
    if len(found) > 1:
        raise CommandError(f'Ambiguous command "{typed}": {", ".join(sorted(names))}.')
    return next(iter(found.values()))
