"""step and next by source lines, backtraces and breakpoints by line, in a program with line numbers."""

import re
from pathlib import Path

from tests.minikernel.kdb.test_sessions import session

SOURCE = (Path(__file__).parent / "story.c").read_text().splitlines()


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(SOURCE, 1) if text in line)


def test_lines_are_stepped_into_and_over(story: Path) -> None:
    with session(story.parent, program=story.name) as (it, printed):

        def after(command: str) -> str:
            printed.clear()
            assert it.execute(command), printed
            return "".join(printed)

        after(f"tbreak story.c:{line_of('int sum = middle(4)')}")
        assert f"story.c:{line_of('int sum = middle(4)')}" in after("run")
        assert "middle ()" in after("step")
        into = after(f"tbreak story.c:{line_of('sum += leaf(i)')}") + after("continue")
        assert "Temporary breakpoint" in into
        assert "leaf ()" in after("step")
        frames = re.findall(r"#\d+ .*? in (\w+) \(\)(?: at (\S+))?", after("backtrace"))
        assert frames[:3] == [
            ("leaf", f"story.c:{line_of('int leaf') + 1}"),
            ("middle", f"story.c:{line_of('sum += leaf(i)')}"),
            ("main", f"story.c:{line_of('int sum = middle(4)')}"),
        ]
        assert "<middle+" in after("finish")
        over = after("next")
        assert f"middle () at story.c:{line_of('for (int i')}" in over
        assert f"story.c:{line_of('sum += leaf(i)')}" in after("next")
        assert f"middle () at story.c:{line_of('for (int i')}" in after("next")
        printed.clear()
        it.execute("handle SIGUSR1 nostop")
        it.execute(f"until story.c:{line_of('return 3')}")
        assert "exited" not in "".join(printed)
        assert "stepped" not in after("next 2")


def test_without_line_numbers_a_message_says_so(story: Path) -> None:
    with session(story.parent, program=story.name) as (it, printed):
        it.execute("starti")
        assert not it.execute("step")
        assert "no line numbers" in "".join(printed)
