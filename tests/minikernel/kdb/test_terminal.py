"""The prompt in a real terminal: editing, completion, history, paging, resizing, colours, and a dumb terminal."""

from pathlib import Path

import pytest

from minikernel.kdb.pager import MORE
from tests.minikernel.kdb.terminal import terminal
from tests.minikernel.kdb.test_front_end import build


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that never ends."""
    return build(tmp_path_factory.mktemp("loop"), ".globl _start\n_start: nop\nround: jmp round\n")


@pytest.mark.slow
def test_the_editor_completes_remembers_and_searches(loop: str, tmp_path: Path) -> None:
    with terminal(loop, tmp_path) as it:
        assert "4-level paging" in it.run("pagew\t$pc")
        assert "<round>" in it.run("print ro\t+0")  # a symbol of the program
        assert "<_start>" in it.run("info reg\trip")
        it.type("info \t\t")
        assert "registers" in it.expect("symbol")
        assert "= 111" in it.run("\x03print 100+11")
        assert "= 111" in it.run("\x1b[A\x1b[A")  # up, by the line that settles
        it.expect("<round>", press="\x12round\r\r")  # Ctrl-R: search back, take it, execute it
    assert "+print 100+11" in (tmp_path / ".minikernel_history").read_text().splitlines()


@pytest.mark.slow
def test_long_output_pauses_and_the_window_may_change(loop: str, tmp_path: Path) -> None:
    with terminal(loop, tmp_path, rows=10) as it:
        it.type("help\r")
        it.expect("Running the program")
        assert 4 < it.expect(MORE).count("\n") <= 9  # some lines take two rows
        it.type("\r")
        assert it.expect(MORE).count("\n") <= 11
        it.type("q\r")
        it.expect("Quit")
        it.settle()
        it.resize(40, 100)
        assert "info registers" in it.run("help info")
        it.resize(6, 100)
        it.type("help kernel\r")
        it.expect("Looking into")
        assert it.expect(MORE).count("\n") <= 5
        it.type("c\r")
        assert "free and managed frames" in it.settle()
        it.run("set pagination off")
        assert "buddyinfo" in it.run("help kernel")


@pytest.mark.slow
def test_a_dumb_terminal_gets_plain_lines(loop: str, tmp_path: Path) -> None:
    with terminal(loop, tmp_path, term="dumb", colours=True) as it:
        it.type("print 1+")
        it.expect("Quit", press="\x03")  # Ctrl-C gives the line up
        it.type("help\r")
        it.expect(MORE)
        it.type("q\r")
        it.settle()
        it.type("continue\r")
        it.expect("received signal SIGINT, Interrupt.", press="\x03")
        it.settle()
        it.type("stepi\r")
        it.expect("jmp")
        it.type("\r")  # again
        it.expect("jmp")
    assert "\x1b" not in it.all


@pytest.mark.slow
def test_colours_are_for_terminals_that_want_them(loop: str, tmp_path: Path) -> None:
    with terminal(loop, tmp_path, colours=True) as it:
        it.run("help help")
    assert "\x1b[1mhelp [COMMAND]\x1b[0m" in it.all
    with terminal(loop, tmp_path) as it:
        it.run("help help")
    assert "help [COMMAND]   (also: h)" in it.all
    assert "\x1b[1mhelp [COMMAND]" not in it.all
