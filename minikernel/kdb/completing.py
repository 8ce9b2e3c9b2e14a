"""What may follow what has been typed: names of commands, then whatever the command's usage asks for.

A word in capitals in a command's usage says what stands there; PROVIDERS knows the candidates for it.  So a new command
is completed by its usage alone.
"""

import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from emu.cpu import GPR_NAMES
from minikernel.abi.signal import NAMES as SIGNALS
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.kdb import catches as c
from minikernel.kdb.command import BY_WORD, COMMANDS, Command, CommandError, find
from minikernel.kdb.context import PANES
from minikernel.kdb.pressure import LISTS
from minikernel.kdb.registers import REGISTER_GROUPS
from minikernel.report.backing import all_caches, file_names
from minikernel.report.place import base_name, display_name
from minikernel.report.words import rights

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

Provider = Callable[["Session", str], Iterable[str]]
"""Called with the word that has been begun."""

MAX_COMPLETIONS: Final = 500
_SYMBOL: Final = re.compile(r"[\w.$@]*$")
_PLAIN: Final = re.compile(r"[^\s]*$")
_USAGE_WORD: Final = re.compile(r"[A-Za-z_-]+")
_FUNCTIONS: Final = ("phys(", "pfn(")
_SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs")


def complete(session: "Session", text: str) -> tuple[int, list[str]]:
    """What may follow *text*: how many of its last characters are replaced, and by which words."""
    stripped = text.lstrip()
    words = stripped.split(" ")
    if len(words) == 1 and "/" not in stripped:
        return len(stripped), _first_words(stripped)
    below = _second_words(words[0], words[1]) if len(words) == 2 else []
    try:
        found, rest = find(stripped)
    except CommandError:
        return (len(words[-1]), below) if below else (0, [])
    if below and found.name not in {words[0], f"{words[0]} {words[1]}"}:
        return len(words[1]), below
    start, wanted = _argument(session, found, rest, typed=stripped)
    return (start, wanted) if wanted or not below else (len(words[1]), below)


def _first_words(word: str) -> list[str]:
    return sorted({name.partition(" ")[0] for name in COMMANDS if name.startswith(word)})


def _second_words(first: str, second: str) -> list[str]:
    """The second words of the commands that begin with *first*."""
    pairs = [name.split(" ") for name in BY_WORD if " " in name]
    return sorted({pair[1] for pair in pairs if pair[0] == first and pair[1].startswith(second)})


def _argument(session: "Session", found: Command, rest: str, *, typed: str) -> tuple[int, list[str]]:
    """The candidates for the last word of *rest*, the arguments so far."""
    if typed.endswith(" ") and rest:
        rest += " "
    kinds = [kind for word in found.placeholders for kind in _USAGE_WORD.findall(word)]
    candidates: dict[str, None] = {}
    word = match_of(_PLAIN, rest)
    start = len(word)
    for kind in sorted(_wanted(found, kinds, rest), key=lambda kind: PROVIDERS.get(kind) is _expressions):
        provider = PROVIDERS.get(f"{found.name} {kind}") or PROVIDERS.get(kind)
        if provider is None:
            if kind.islower():
                candidates.update(dict.fromkeys([kind] if kind.startswith(word) else []))
            continue
        begun = match_of(_SYMBOL, rest) if provider is _expressions else word
        if begun != word and candidates:
            continue  # the whole word is something else already, such as `[stack]`
        try:
            offered = [name for name in provider(session, begun) if name.startswith(begun)]
        except CommandError:
            continue
        if offered:
            start = len(begun)
            candidates.update(dict.fromkeys(offered))
    return start, sorted(candidates)[:MAX_COMPLETIONS]


def _wanted(found: Command, kinds: list[str], rest: str) -> list[str]:
    """The kinds that the word at the end of *rest* may be of."""
    if found.name in {"catch", "tcatch"}:
        what = rest.split(" ", maxsplit=1)[0]
        return (
            [{"syscall": "SYSCALL", "signal": "SIGNAL", "fault": "KIND", "event": "EVENT"}.get(what, "")]
            if (" " in rest)
            else ["WHAT"]
        )
    if " if " in f" {rest}" and "CONDITION" in kinds:
        return ["CONDITION"]
    return kinds


def match_of(pattern: re.Pattern[str], text: str) -> str:
    """What *pattern*, which ends in ``$`` and matches everywhere, finds at the end of *text*."""
    match = pattern.search(text)
    assert match is not None, "match_of: the pattern may match nothing at all"
    return match[0]


# ---- what there is


def _expressions(session: "Session", begun: str) -> Iterable[str]:
    if begun.startswith("$"):
        return _registers(session)
    if begun.startswith("0x"):
        return [f"{vma.start:#x}" for vma in session.mm.vmas.items]
    return (*_FUNCTIONS, *session.explainer.symbols.names(session.mm)) if begun else ()


def _registers(session: "Session") -> list[str]:
    wide = session.word == 8
    names = [*GPR_NAMES, "rip", "rflags"] if wide else [*("e" + name[1:] for name in GPR_NAMES[:8]), "eip", "eflags"]
    xmm = [f"xmm{number}" for number in range(16 if wide else 8)]
    other = ["pc", "sp", "fp", "icount", "mxcsr", *(f"st{number}" for number in range(8))]
    return [f"${name}" for name in (*names, *_SEGMENTS, *xmm, *other)]


def _register_names(session: "Session", begun: str) -> list[str]:
    return [name if begun.startswith("$") else name[1:] for name in _registers(session)]


def _pids(session: "Session", _begun: str) -> list[str]:
    return [str(pid) for pid in session.kernel.tasks]


def _points(session: "Session", _begun: str) -> list[str]:
    return [str(number) for number in session.points]


def _calls(session: "Session", _begun: str) -> list[str]:
    return list(NUMBERS[session.task.abi.name])


def _events(_session: "Session", _begun: str) -> list[str]:
    return list(c.EVENTS)


def _host_files(_session: "Session", begun: str) -> list[str]:
    """Names of the host, directories with a slash behind them."""
    folder, base = os.path.split(begun)
    try:
        with os.scandir(os.path.expanduser(folder) or ".") as entries:  # noqa: PTH111 - a beginning of a name
            found = [entry.name + ("/" if entry.is_dir() else "") for entry in entries if entry.name.startswith(base)]
    except OSError:
        return []
    return [os.path.join(folder, name) for name in found]  # noqa: PTH118 - as it was typed


def _cached_files(session: "Session", _begun: str) -> list[str]:
    names = file_names(session.kernel)
    return ["all", *(names[id(cache)] for cache in all_caches(session.kernel) if cache.pages and id(cache) in names)]


def _mapping_names(session: "Session", _begun: str) -> list[str]:
    return [base_name(display_name(session.mm, vma)) for vma in session.mm.vmas.items]


def _commands(_session: "Session", _begun: str) -> list[str]:
    return sorted({*COMMANDS, *(each.group for each in COMMANDS.values())})


def _caches(session: "Session", _begun: str) -> list[str]:
    return list(session.kernel.node.slab.caches)


PROVIDERS: Final[dict[str, Provider]] = {
    **dict.fromkeys(("ADDRESS", "EXPR", "LOCATION", "FUNCTION", "CONDITION", "PFN", "PHYSICAL"), _expressions),
    "REGISTER": _register_names,
    "PID": _pids,
    "POINT": _points,
    "SYSCALL": _calls,
    "EVENT": _events,
    "SIGNAL": lambda _session, _begun: SIGNALS,
    "KIND": lambda _session, _begun: c.FAULT_WORDS,
    "WHAT": lambda _session, _begun: c.CATCHES,
    "FILE": _host_files,
    "pagecache FILE": _cached_files,
    "COMMAND": _commands,
    "info registers GROUP": lambda _session, _begun: REGISTER_GROUPS,
    "lru LIST": lambda _session, _begun: LISTS,
    "vmmap NAME": _mapping_names,
    "vmmap RIGHTS": lambda session, _begun: sorted({rights(vma.flags) for vma in session.mm.vmas.items}),
    "search NAME": _mapping_names,
    "swap AREA": lambda session, _begun: [str(area.index) for area in session.kernel.node.swap.order],
    "PANE": lambda _session, _begun: PANES,
    "CACHE": _caches,
    "ZONE": lambda session, _begun: [zone.name for zone in session.kernel.node.zones],
    "SETTING": lambda _session, _begun: [name[4:] for name in COMMANDS if name.startswith("set ")],
}
"""By the word in the usage; ``COMMAND WORD`` for one command alone."""
