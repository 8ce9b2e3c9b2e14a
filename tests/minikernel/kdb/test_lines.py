"""step, next, until, finish and list by source lines, in programs of both architectures."""

from collections.abc import Callable
from pathlib import Path

import pytest

from minikernel.kdb.lines import is_statement, line_of
from minikernel.kdb.session import Session
from tests.minikernel.kdb.conftest import HERE, build
from tests.minikernel.kdb.test_sessions import session

SOURCE = (HERE / "story.c").read_text().splitlines()
After = Callable[[str], str]


def line_number(text: str) -> int:
    return next(number for number, line in enumerate(SOURCE, 1) if text in line)


def commands_of(it: Session, printed: list[str]) -> After:
    def after(command: str) -> str:
        printed.clear()
        assert it.execute(command), printed
        return "".join(printed)

    return after


def shown(text: str) -> str:
    """A line of story.c as the debugger shows it."""
    number = line_number(text)
    return f"{number}\t{SOURCE[number - 1]}\n"


def test_lines_are_stepped_into_and_over(story: Path) -> None:
    with session(story.parent, program=story.name) as (it, printed):
        after = commands_of(it, printed)
        after(f"tbreak story.c:{line_number('int sum = middle(4)')}")
        assert shown("int sum = middle(4)") in after("run")
        assert after("step") == f"middle (n=4) at story.c:{line_number('int sum = 0')}\n" + shown("int sum = 0")
        assert after("next") == shown("for (int i")
        assert after("next") == shown("sum += leaf(i)")
        assert after("step") == f"leaf (n=1) at story.c:{line_number('counter += n')}\n" + shown("counter += n")
        frames = after("backtrace").splitlines()
        assert frames[0].split(maxsplit=1)[1] == f"leaf (n=1) at story.c:{line_number('counter += n')}"
        assert frames[1].endswith(f"in middle (n=4) at story.c:{line_number('sum += leaf(i)')}")
        assert " in main (argc=1, argv=0x" in frames[2]
        finished = after("finish")
        assert "Run till exit from #0 " in finished
        assert finished.endswith("Value returned is $1 = 1\n")
        assert after("next") == shown("for (int i")
        assert after("until") == shown("return sum")
        after("next 2")
        assert after("frame").startswith("#0  main (argc=1")
        assert not it.execute("finish")


def test_signals_threads_and_jumps_do_not_confuse_a_step(arch: str) -> None:
    program = build(arch, "calls", level="-O0", kind="static")
    with session(Path("/"), program=str(program)[1:]) as (it, printed):
        after = commands_of(it, printed)
        after("handle SIGUSR1 nostop")
        after("tbreak interrupted")
        assert "raise(SIGUSR1)" in after("run")
        assert "total++" in after("next")
        assert "main (argc=1" in after("advance halfway")
        after("tbreak halfway")
        after("continue")
        assert "setjmp(back)" in after("finish")
        assert "jump(1)" in after("next")
        assert "pthread_create" in after("next")
        assert "pthread_join" in after("next")
        assert "leave(numbers" in after("next")
        assert "leave (status=0)" in after("step")
        after("next")
        assert "exited normally" in after("next")


def test_recursion_is_gone_over_as_a_whole(arch: str) -> None:
    program = build(arch, "calls", level="-O0", kind="static")
    with session(Path("/"), program=str(program)[1:]) as (it, printed):
        after = commands_of(it, printed)
        after("tbreak fibonacci")
        assert "fibonacci (n=3)" in after("run")
        assert "return fibonacci(n - 1)" in after("next")
        assert "fibonacci (n=2)" in after("step")
        after("next")
        assert after("next") == "29\t}\n" or "}" in printed[-1]
        assert "fibonacci (n=3)" in after("finish") or "Value returned is $1 = 1" in "".join(printed)


def test_a_library_function_with_lines_is_entered_through_the_plt(arch: str, tmp_path: Path) -> None:
    pieces = build(arch, "calls", level="-O0", kind="dynamic")
    with session(Path("/"), program=str(pieces)[1:]) as (it, printed):
        after = commands_of(it, printed)
        after("tbreak variable")
        assert "alloca(size)" in after("run")
        assert "memset" in after("next")
        assert "room[size / 2]" in after("step")  # memset of libc has none
        assert "fibonacci (n=2)" in after("step")


def test_without_line_numbers_a_message_says_so(story: Path) -> None:
    with session(story.parent, program=story.name) as (it, printed):
        it.execute("starti")
        assert not it.execute("step")
        assert "no line numbers" in "".join(printed)


def test_statements_and_their_stretches(story: Path) -> None:
    with session(story.parent, program=story.name) as (it, _):
        it.execute("tbreak leaf")
        it.execute("run")
        pc = it.registers()[16]
        stretch = line_of(it, pc)
        assert stretch is not None
        assert (stretch.start, stretch.line.line) == (pc, line_number("counter += n"))
        assert is_statement(it, pc)
        assert not is_statement(it, pc + 1)
        assert line_of(it, 0) is None


def test_source_is_listed_around_a_place_and_on(story: Path) -> None:
    def numbers(text: str) -> list[int]:
        return [int(line.split("\t")[0]) for line in text.splitlines()]

    with session(story.parent, program=story.name) as (it, printed):
        after = commands_of(it, printed)
        here = line_number("int middle(int n)") + 1
        assert numbers(after("list middle")) == list(range(here - 5, here + 5))
        assert numbers(after("list")) == list(range(here + 5, here + 15))
        assert numbers(after("list -")) == list(range(here - 5, here + 5))
        assert numbers(after("list 3,5")) == [3, 4, 5]
        assert numbers(after("list story.c:20,")) == list(range(20, 30))
        assert after("list 17,17") == f"17\t{SOURCE[16]}\n"
        for wrong in ("list 9000", "list nowhere", "list elsewhere.c:1"):
            assert not it.execute(wrong)


def test_source_that_has_moved_is_found_in_another_directory(arch: str, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    (tmp_path / "moved.c").write_text("int main(void)\n{\n    return 7;\n}\n")
    import subprocess

    from guest.toolchain import compiler_for

    program = tmp_path / "moved"
    command = [*compiler_for(arch).command, "-g", "-static", "-o", str(program), str(tmp_path / "moved.c")]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "moved.c").rename(tmp_path / "away/moved.c")
    with session(tmp_path, program="moved") as (it, printed):
        after = commands_of(it, printed)
        after("tbreak main")
        assert "3\tmoved.c: No such file or directory." in after("run")
        assert not it.execute("list")
        after(f"directory {tmp_path / 'away'}")
        assert "3\t    return 7;\n" in after("list")
        assert "Located in" in after("info source")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("info line leaf", 'Line 12 of "story.c" starts at address 0x'),
        ("info line 6", 'Line 6 of "story.c" is at address 0x'),
        ("info functions ^lea", "11:\tint leaf(int);"),
        ("info variables ^counter", "8:\tint counter;"),
        ("info address leaf", 'Symbol "leaf" is a function at address 0x'),
        ("info address counter", 'Symbol "counter" is static storage at address 0x'),
        ("info address n", 'Symbol "n" is a variable at address 0x'),
    ],
)
def test_what_the_program_says_about_names(command: str, expected: str) -> None:
    story = build("x86-64", "story")
    with session(story.parent, program=story.name) as (it, printed):
        after = commands_of(it, printed)
        after("tbreak leaf")
        after("run")
        assert expected in after(command)
