"""The host's streams and signals: a task that waits for them sleeps, the others run, and Ctrl-C is heard."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

RUN = (sys.executable, "-m", "minikernel", "run")
PATIENCE = 30.0
TRAP = "trap 'echo trapped' INT; echo ready; read x; echo got $x; cat | tr a-z A-Z"


class Terminal:
    """The emulator as the child of a terminal, and we are the user."""

    def __init__(self, *arguments: str) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execv(RUN[0], (*RUN, *arguments))
        self.screen = b""

    def wait_for(self, text: bytes) -> None:
        """Read until *text* has been shown since the last time."""
        end = time.monotonic() + PATIENCE
        while text not in self.screen:
            assert time.monotonic() < end, self.screen
            self._read(0.1)
        self.screen = self.screen.partition(text)[2]

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def end(self) -> int:
        """The exit status, after all has been shown."""
        end = time.monotonic() + PATIENCE
        while self._read(0.1):
            assert time.monotonic() < end, self.screen
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def _read(self, patience: float) -> bool:
        if not select.select([self._fd], [], [], patience)[0]:
            return True
        try:
            data = os.read(self._fd, 4096)
        except OSError:  # EIO: the last user of the terminal is gone
            return False
        self.screen += data
        return bool(data)

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    made: list[Terminal] = []
    yield made
    for terminal in made:
        terminal.close()


def start(terminals: list[Terminal], *arguments: str) -> Terminal:
    terminals.append(Terminal(*arguments))
    return terminals[-1]


@pytest.mark.slow
def test_control_c_ends_a_shell_and_what_it_waits_for(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "--clock", "host", "sh", "-c", "echo ready; sleep 100; echo no")
    terminal.wait_for(b"ready")
    time.sleep(0.2)
    terminal.type(b"\x03")
    assert terminal.end() == 130
    assert b"no" not in terminal.screen


@pytest.mark.slow
def test_control_c_ends_a_program_that_reads(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "sh", "-c", "echo ready; exec cat")
    terminal.wait_for(b"ready")
    terminal.type(b"hello\n")
    terminal.wait_for(b"hello\r\nhello")
    terminal.type(b"\x03")
    assert terminal.end() == 130


@pytest.mark.slow
def test_control_c_ends_a_program_that_computes(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "sh", "-c", "echo ready; while :; do :; done")
    terminal.wait_for(b"ready")
    terminal.type(b"\x03")
    assert terminal.end() == 130


@pytest.mark.slow
def test_a_handler_in_the_guest_sees_control_c(terminals: list[Terminal]) -> None:
    terminal = start(terminals, "sh", "-c", TRAP)
    terminal.wait_for(b"ready")
    time.sleep(0.2)
    terminal.type(b"\x03")
    terminal.wait_for(b"trapped")
    terminal.wait_for(b"got")
    terminal.type(b"def\n")
    terminal.wait_for(b"DEF")
    terminal.type(b"\x04")
    assert terminal.end() == 0


@pytest.mark.slow
def test_an_interactive_shell_has_job_control(terminals: list[Terminal]) -> None:
    """Ctrl-C is for the foreground job, not for the shell."""
    if not Path("/bin/bash").exists():
        pytest.skip("no bash here")
    terminal = start(terminals, "--env", "PS1=> ", "bash", "--norc", "-i")
    terminal.wait_for(b"> ")
    terminal.type(b"cat; echo status $?\n")
    time.sleep(1)
    terminal.type(b"\x03")
    terminal.wait_for(b"> ")
    terminal.type(b"echo status $?; exit 5\n")
    terminal.wait_for(b"status 130")
    assert terminal.end() == 5


@pytest.mark.slow
@pytest.mark.parametrize(("sig", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_emulator_is_the_guests(sig: signal.Signals, status: int) -> None:
    command = [*RUN, "--clock", "host", "sh", "-c", "echo ready; sleep 100; echo no"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        process.send_signal(sig)
        assert process.wait(PATIENCE) == status
        assert process.stdout.read() == b""


@pytest.mark.slow
def test_others_run_while_one_waits_for_standard_input() -> None:
    """The writer is us: we write only when the background job has told us that it runs."""
    script = "exec 3<&0; (read x <&3; echo got $x) & i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; echo counted; wait"
    with subprocess.Popen([*RUN, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"counted\n"
        process.stdin.write(b"input\n")
        process.stdin.close()
        assert process.stdout.read() == b"got input\n"
        assert process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_a_reader_hears_of_input_while_another_task_never_sleeps() -> None:
    script = "(while :; do :; done) & read x; echo got $x; kill $!"
    with subprocess.Popen([*RUN, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        time.sleep(0.5)
        process.stdin.write(b"input\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got input\n"
        assert process.wait(PATIENCE) == 0


@pytest.mark.slow
def test_output_that_the_host_does_not_take_stops_its_writer_alone() -> None:
    """The background job goes on, until it can say so on standard error, with standard output full."""
    script = "yes | head -c 1000000 & i=0; while [ $i -lt 300 ]; do i=$((i+1)); done; echo counted >&2; wait"
    with subprocess.Popen(
        [*RUN, "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.readline() == b"counted\n"
        assert len(process.stdout.read()) == 1_000_000
        assert process.wait(PATIENCE) == 0


def limited(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*RUN, *arguments], capture_output=True, check=False, timeout=PATIENCE)


@pytest.mark.slow
@pytest.mark.parametrize("clock", ["virtual", "host"])
def test_a_run_that_takes_too_long_is_ended(clock: str) -> None:
    ended = limited("--timeout", "0.5", "--clock", clock, "sh", "-c", "echo before; while :; do :; done")
    assert (ended.returncode, ended.stdout, ended.stderr) == (124, b"before\n", b"minikernel: timed out after 0.5 s\n")


@pytest.mark.slow
def test_sleeping_takes_time_too() -> None:
    assert limited("--timeout", "0.5", "--clock", "host", "sleep", "20").returncode == 124


@pytest.mark.slow
def test_no_more_processes_than_allowed() -> None:
    ended = limited("--max-processes", "2", "sh", "-c", "echo one; (echo two); (echo two | cat) || echo no more")
    assert ended.stdout.startswith(b"one\ntwo\n")
    assert b"fork" in ended.stderr


@pytest.mark.slow
def test_no_more_memory_than_allowed() -> None:
    program = "import sys; b = []\nwhile 1: b.append(bytes(1 << 20) + b'x')"
    ended = limited("--max-memory", "48M", sys.executable, "-S", "-c", program)
    assert ended.returncode in {1, 137}, ended
    assert b"Traceback" not in ended.stderr or b"MemoryError" in ended.stderr


@pytest.mark.slow
def test_a_schedule_seed_changes_the_order_and_not_the_result() -> None:
    script = "for i in 1 2 3; do (j=0; while [ $j -lt 100 ]; do j=$((j+1)); done; echo $i) & done; wait"

    def run(seed: str) -> bytes:
        ended = limited("--schedule-seed", seed, "sh", "-c", script)
        assert ended.returncode == 0
        return ended.stdout

    assert run("1") == run("1")
    assert len({run(str(seed)) for seed in range(2, 6)}) > 1
    assert sorted(run("1")) == sorted(run("2"))


@pytest.mark.parametrize(
    "arguments",
    [("--timeout", "0"), ("--timeout", "soon"), ("--max-processes", "0"), ("--max-memory", "much")],
)
def test_limits_that_make_no_sense_are_refused(arguments: tuple[str, str]) -> None:
    ended = limited(*arguments, "true")
    assert ended.returncode == 125
    assert ended.stderr.count(b"\n") == 1
