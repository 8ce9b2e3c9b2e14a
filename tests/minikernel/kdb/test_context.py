"""The panes of `context` and the source lines between instructions, of a program that has some."""

from pathlib import Path

from tests.minikernel.kdb.test_lines import SOURCE, line_number
from tests.minikernel.kdb.test_sessions import session


def test_the_source_pane_shows_the_lines_around(story: Path) -> None:
    with session(story.parent, program=story.name) as (it, printed):
        line = line_number("int sum = middle(4)")
        it.execute(f"break story.c:{line}")
        it.execute("run")
        printed.clear()
        assert it.execute("context source trace")
        text = "".join(printed)
        assert f"=> {line:>5} {SOURCE[line - 1]}\n" in text
        assert f"   {line - 1:>5} {SOURCE[line - 2]}\n" in text
        assert "main (" in text
        assert (it.data["file"].rsplit("/", 1)[-1], it.data["line"]) == ("story.c", line)


def test_disassemble_shows_each_line_above_its_code(story: Path) -> None:
    with session(story.parent, program=story.name) as (it, printed):
        assert it.execute("disassemble /s leaf")
        text = "".join(printed)
        assert text.count("story.c:\n") == 1
        line = line_number("counter += n")
        assert f"\n{line}\t{SOURCE[line - 1]}\n   0x" in text
        assert it.data["instructions"][0]["address"] == it.explainer.symbols.addresses(it.mm, "leaf")[0]
