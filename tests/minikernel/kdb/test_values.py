"""Variables and types, as gdb prints them: the same commands at the same places of the same program."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest.toolchain import ARCHES
from minikernel.kdb.session import Session
from tests.minikernel.kdb.conftest import HERE, build
from tests.minikernel.kdb.test_sessions import session

SOURCE = (HERE / "data.c").read_text().splitlines()
LAST_LOOK = next(number for number, line in enumerate(SOURCE, 1) if "return kept + here" in line)
QUESTIONS = (
    *("info args", "info locals", "print *all", "print all", "print all->list", "print *all->list->next"),
    *("print all->list->name", "print all->grid[1]", "print/x all->grid", "print &all->corner", "print all->operation"),
    *("print *all->operation", "print add", "print &add", "print table", "print table[1]@3", "print &table[2]"),
    *("print greeting", "print counts", "print operations", "print first", "print &first", "print matrix"),
    *("print matrix[1][2]", "print/x word", "print/d word", "print word[0]", "print *strings", "print kept"),
    *("print count + 3", "print -count", "print count / 2.0", "print ratio * 2", "print count > 3 && letter == 'x'"),
    *("print (char)65", "print (struct point *)all", "print *(struct point *)all", "print sizeof(struct all)"),
    *("print sizeof count", "print RED", "print (enum color)6", "print/c count", "print/t count", "print/x minus"),
    *("print/x value", "print all->bits", "print all->bits.middle", "print/x all->bits.high", "print all->nested"),
    *("print all->nested.first", "print all->nested.second", "print by_value", "print odd", "print both"),
    *("print odd_flags", "print none", "print strange", "print letters", "print length", "print nowhere", "print main"),
    *("whatis all", "whatis *all", "whatis all->list", "whatis matrix", "whatis &matrix", "whatis operations"),
    *("whatis all->operation", "whatis add", "whatis node_t", "whatis first", "whatis both", "whatis count + 1L"),
    *("whatis fixed", "ptype all", "ptype struct node", "ptype node_t", "ptype union both", "ptype struct bits"),
    *("ptype enum color", "ptype enum flags", "ptype size_t", "ptype add", "ptype operations", "ptype unsigned int"),
    *("ptype by_value", "up", "print where", "print *all.list", "backtrace"),
)
OPTIMISED = (
    *("info args", "print *all", "print all->list->name", "print/x all->grid", "print greeting", "print first"),
    *("print count", "print letter", "print ratio", "print by_value", "print byte", "print minus", "print kept"),
    *("ptype all", "whatis operations", "up", "print *all.list"),
)
FINISHED = (
    *("make_point", "make_pair", "make_big", "half", "third", "tenth", "name_of", "small", "next_color", "is_even"),
    *("wide", "nothing"),
)
STACK = re.compile(r"0x[0-9a-f]{8,}|0xff[0-9a-f]{6}")


def gdb(program: Path, commands: list[str]) -> list[str]:
    """What Debian's gdb answers to each command; the program runs on this machine's own Linux."""
    if shutil.which("gdb") is None:
        assert not os.environ.get("CI"), "gdb is a prerequisite"
        pytest.skip("gdb is not installed")
    settings = ["set pagination off", "set width 0", "set filename-display basename", "set startup-with-shell off"]
    words = ["-iex", "set auto-load libthread-db off", "-iex", "set debuginfod enabled off"]
    for command in settings:
        words += ["-ex", command]
    for command in commands:
        words += ["-ex", "echo <<<>>>", "-ex", command]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": "/nonexistent"}
    done = subprocess.run(
        ["gdb", "-nx", "-q", "-batch", *words, str(program)], capture_output=True, check=False, timeout=120,
        stdin=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    return [text.strip() for text in done.stdout.decode(errors="replace").split("<<<>>>")[1:]]


def ours(program: Path, commands: list[str]) -> Iterator[str]:
    with session(program.parent, program=program.name) as (it, printed):
        for command in commands:
            printed.clear()
            it.execute(command)
            yield "".join(printed).strip()


def alike(text: str) -> str:
    """Stacks are elsewhere, and `finish` says less where nobody watches."""
    text = STACK.sub("STACK", text)
    return "\n".join(line for line in text.splitlines() if not line.startswith(("Run till exit", "=> ")))


@pytest.mark.slow
@pytest.mark.parametrize(("level", "questions"), [("-O0", QUESTIONS), ("-O2", OPTIMISED)], ids=["-O0", "-O2"])
def test_values_and_types_are_shown_as_gdb_shows_them(arch: str, level: str, questions: tuple[str, ...]) -> None:
    program = build(arch, "data", level=level, kind="static")
    commands = [f"break data.c:{LAST_LOOK}", "run", *questions]
    theirs = gdb(program, commands)
    different = [
        (command, their, our)
        for command, their, our in zip(commands[2:], theirs[2:], list(ours(program, commands))[2:], strict=True)
        if alike(their) != alike(our)
    ]
    assert different == []


@pytest.mark.slow
def test_what_functions_return_is_shown_as_gdb_shows_it(arch: str) -> None:
    program = build(arch, "data", level="-O0", kind="static")
    commands: list[str] = []
    for name in FINISHED:
        commands += [f"tbreak {name}", "continue" if commands else "run", "finish"]
    theirs, mine = gdb(program, commands), list(ours(program, commands))
    for at in range(2, len(commands), 3):
        assert alike(theirs[at]).splitlines()[-1] == alike(mine[at]).splitlines()[-1], FINISHED[at // 3]


@pytest.fixture(params=ARCHES)
def looking(request: pytest.FixtureRequest) -> Iterator[tuple[Session, list[str]]]:
    """A session in ``look`` of data.c."""
    program = build(str(request.param), "data", level="-O0", kind="static")
    with session(program.parent, program=program.name) as (it, printed):
        it.execute("break nothing")
        it.execute(f"tbreak data.c:{LAST_LOOK}")
        it.execute("run")
        yield it, printed


def test_variables_are_set_where_they_are(looking: tuple[Session, list[str]]) -> None:
    it, printed = looking

    def ask(command: str) -> str:
        printed.clear()
        it.execute(command)
        return "".join(printed).partition(" = ")[2].strip()

    it.execute("set var here = 7 * 3")
    assert ask("print here") == "21"
    it.execute("set var all->bits.middle = -5")
    assert ask("print all->bits") == "{low = 5, middle = -5, high = 549755813888, set = true}"
    it.execute("set var single = 2.5")
    assert ask("print single") == "2.5"
    it.execute("set var all->list = 0")
    assert ask("print all->list") == "(node_t *) 0x0"
    it.execute("set var word[1] = 'a'")
    assert ask("print word") == "\"ward\", '\\000' <repeats 11 times>"
    it.execute("set var $rbx = 5" if it.word == 8 else "set var $ebx = 5")
    assert ask("print $rbx") == "5"
    it.execute("set var add = 1")
    assert "here = 21" in ask("info locals") or "here = 21" in "".join(printed)
    assert ask("print own") == "33"


def test_expressions_are_displayed_at_every_stop(looking: tuple[Session, list[str]]) -> None:
    it, printed = looking
    it.execute("display count")
    it.execute("display/x here")
    printed.clear()
    it.execute("next")
    assert "1: count = 21\n2: /x here = 0x2a\n" in "".join(printed)
    it.execute("undisplay 1")
    printed.clear()
    it.execute("info display")
    assert "2:   /x here" in "".join(printed)
    assert "1:" not in "".join(printed)
    assert not it.execute("undisplay 1")
    it.execute("undisplay")
    it.execute("next")
    assert "here = " not in "".join(printed[1:])


def test_a_condition_is_about_the_variables_of_its_place(arch: str) -> None:
    program = build(arch, "calls", level="-O0", kind="static")
    with session(Path("/"), program=str(program)[1:]) as (it, printed):
        it.execute("tbreak main")
        it.execute("run")
        assert it.execute("break fibonacci if n == 0"), printed
        assert not it.execute("break fibonacci if nowhere == 0")
        it.execute("continue")
        printed.clear()
        it.execute("print n")
        assert printed == ["$1 = 0\n"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("print nothing_like_it", "No symbol"),
        ("print all->nowhere", "There is no member named nowhere."),
        ("print count->x", "not a structure"),
        ("print *count->x", "not a structure"),
        ("print *(int *)8", "Cannot access memory at address 0x8"),
        ("print matrix[100000]", "Cannot access memory"),
        ("print &5", "5"),
        ("print &count + &here", ""),
        ("print odd + 1.5", ""),
        ("print table@0", "Invalid number of repetitions"),
        ("print table@", "ends too early"),
        ("print count@3@", "ends too early"),
        ("print (struct nowhere *)0", "No struct type named nowhere."),
        ("ptype struct nowhere", "No struct type named nowhere."),
        ("whatis", "history is empty"),
        ("set var 5 = 3", ""),
        ("set var here", "VARIABLE = EXPR"),
        ("set var *(int *)8 = 3", "Cannot access memory"),
        ("print count.", "member"),
        ("print all->", "ends too early"),
        ("print [", "does not belong"),
        ("print sizeof", "ends too early"),
    ],
)
def test_mistakes_are_told(looking: tuple[Session, list[str]], command: str, message: str) -> None:
    it, printed = looking
    printed.clear()
    it.execute(command)
    assert message in "".join(printed)
    assert len(printed) == 1


NAMES = (
    *("print", "ptype", "whatis", "set var", "display", "list", "info line", "info functions", "info variables"),
    *("info address", "frame", "up", "down", "backtrace", "info symbol", "tbreak", "x"),
)
ODD = (
    *(
        "",
        "0",
        "-1",
        "99999999999",
        "$",
        "*",
        "(",
        "all",
        "*all",
        "all.grid[1][1]",
        "struct all",
        "here = 5",
        "add = 1",
    ),
    *("table@5", "*add", "&all->bits.low", "~1.5", "odd + 1", "by_value == 1", "*by_value", "(struct point)1", "1e400"),
    *(
        "(long double)1",
        "extended + 1",
        "$1->x",
        "look,",
        "100,50",
        "data.c:100",
        "function main",
        "1.0/0",
        "matrix[1]@2",
    ),
    *("/x all", "/c odd", "/f here", "/a add", "both | A", "table[1]@3[0]", "a b c", "\x00", '"'),
)


@pytest.mark.slow
def test_no_argument_does_worse_than_a_message(looking: tuple[Session, list[str]]) -> None:
    it, _ = looking
    for name in NAMES:
        for odd in ODD:
            it.execute(f"{name} {odd}")
    it.execute("delete")
    assert it.execute("print count")
