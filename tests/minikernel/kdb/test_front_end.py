"""``minikernel debug`` as a person or a script meets it: a command line, a pipe, a terminal."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from guest.toolchain import compiler_for
from tests.minikernel.kdb.terminal import COMMAND, Terminal

BARE = ("-static", "-nostdlib", "-nostartfiles", "-no-pie")


def build(folder: Path, source: str) -> str:
    (folder / "it.S").write_text(source)
    command = [*compiler_for("x86-64").command, *BARE, "-o", str(folder / "it"), str(folder / "it.S")]
    subprocess.run(command, check=True, capture_output=True)
    return str(folder / "it")


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that never ends."""
    return build(tmp_path_factory.mktemp("loop"), ".globl _start\n_start: nop\nround: jmp round\n")


@pytest.fixture(scope="module")
def leave(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that ends at once, with status 0."""
    text = ".globl _start\n_start: mov $60, %eax\nxor %edi, %edi\nlast: syscall\n"
    return build(tmp_path_factory.mktemp("leave"), text)


def debug(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], input=stdin, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_commands_from_files_and_the_command_line_run_in_their_order(leave: str, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("# a comment\nprint 2\n\nprint 3\n")

    done = debug("-ex", "print 1", "-x", str(script), "-ex", "run", "--batch", "--", leave)

    assert done.stdout == "$1 = 1\n$2 = 2\n$3 = 3\n[Inferior 1 (process 2) exited normally]\n"
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_a_batch_whose_command_fails_says_so(leave: str) -> None:
    done = debug("--batch", "-ex", "nonsense", "-ex", "print 1", leave)

    assert (done.returncode, done.stdout) == (1, 'Undefined command: "nonsense".  Try "help".\n$1 = 1\n')


@pytest.mark.slow
def test_commands_come_from_a_pipe(leave: str) -> None:
    done = debug(leave, stdin="tbreak last\nrun\nstepi\n\nprint 5\n")

    assert "Temporary breakpoint 1" in done.stdout
    assert "exited normally" in done.stdout
    assert done.stdout.endswith("$1 = 5\n\n")
    assert done.returncode == 0


@pytest.mark.slow
def test_what_is_not_there_is_not_debugged(leave: str, tmp_path: Path) -> None:
    assert debug("--batch", str(tmp_path / "nothing")).returncode == 127
    assert debug("--batch", str(tmp_path)).returncode == 126
    assert debug("--batch", "-x", str(tmp_path / "nothing"), leave).returncode == 125
    assert debug().returncode == 125


@pytest.mark.slow
def test_ctrl_c_stops_a_running_program_and_the_line_editor_completes(loop: str, tmp_path: Path) -> None:
    terminal = Terminal(loop, tmp_path)
    try:
        terminal.expect("(kdb)")
        terminal.type("print 40+\x03")  # Ctrl-C gives the line up
        terminal.expect("Quit")
        terminal.expect("(kdb)")
        terminal.type("continue\r")
        terminal.expect("Program received signal SIGINT, Interrupt.", press="\x03")
        terminal.expect("<round>")
        terminal.expect("(kdb)")
        terminal.type("pagew\t $pc\r")
        terminal.expect("4-level paging")
        terminal.expect("(kdb)")
        terminal.type("print 6*7\r")
        terminal.expect("= 42")
        terminal.expect("(kdb)")
        terminal.type("continue\r")
        terminal.expect("Interrupt.", press="\x03")
        terminal.expect("(kdb)")
        terminal.type("run\r")  # a new machine
        terminal.expect("Interrupt.", press="\x03")
        terminal.expect("(kdb)")
        terminal.type("quit\r")
    except BaseException:
        os.kill(terminal.pid, signal.SIGKILL)
        raise
    finally:
        code = terminal.close()
    assert code == 0


@pytest.mark.slow
def test_ctrl_c_stops_a_program_that_waits_for_input(tmp_path: Path) -> None:
    terminal = Terminal("/bin/cat", tmp_path)
    try:
        terminal.expect("(kdb)")
        terminal.type("run\r")
        terminal.expect("Interrupt.", press="\x03")
        terminal.expect("(kdb)")
        terminal.type("ps\r")
        terminal.expect("S ")
        terminal.expect("read")
        terminal.expect("(kdb)")
        terminal.type("quit\r")
    except BaseException:
        os.kill(terminal.pid, signal.SIGKILL)
        raise
    finally:
        code = terminal.close()
    assert code == 0


@pytest.mark.slow
def test_answers_for_programs_are_not_mixed_with_the_output_of_the_guest(tmp_path: Path) -> None:
    done = debug("--json", "--batch", "-ex", "run", "-ex", "nonsense", "--", "/bin/echo", "guest")

    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["ok"] for answer in answers] == [True, False]
    assert answers[0]["position"] is None
    assert done.stderr == "guest\n"
    assert done.returncode == 1
