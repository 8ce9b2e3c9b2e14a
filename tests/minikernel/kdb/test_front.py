"""The front end and the process that holds the machine: what passes between them, and that nobody is left behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minikernel.kdb import wire
from tests.minikernel.kdb.conftest import build_bare

COMMAND = [sys.executable, "-m", "minikernel", "debug", "--ram", "16M"]
PATIENCE = 20.0  # seconds


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that never ends."""
    return build_bare(tmp_path_factory.mktemp("loop"), ".globl _start\n_start: nop\nround: jmp round\n")


def descendants(pid: int) -> list[int]:
    children = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [further for child in children for further in descendants(child)]


def wait_until_gone(pids: list[int]) -> None:
    end = time.monotonic() + PATIENCE
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < end, f"still there: {alive}"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("running", [False, True])
def test_nobody_outlives_a_front_end_that_is_killed(loop: str, running: bool) -> None:
    with subprocess.Popen([*COMMAND, loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as front:
        assert front.stdin is not None
        assert front.stdout is not None
        front.stdin.write(b"print 1\n")
        front.stdin.flush()
        while front.stdout.readline() != b"$1 = 1\n":
            pass
        if running:
            front.stdin.write(b"continue\n")
            front.stdin.flush()
        family = descendants(front.pid)
        assert len(family) == 3, "a keeper, a machine and its first checkpoint"
        front.send_signal(signal.SIGKILL)
    wait_until_gone(family)


@pytest.mark.slow
def test_a_signal_to_the_front_end_alone_stops_the_program(loop: str) -> None:
    with subprocess.Popen(
        [*COMMAND, loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as front:
        assert front.stdin is not None
        assert front.stdout is not None
        front.stdin.write(b"print 1\ncontinue\nprint 2\nquit\n")
        front.stdin.flush()
        while front.stdout.readline() != b"$1 = 1\n":
            pass
        family = descendants(front.pid)
        time.sleep(0.3)
        front.send_signal(signal.SIGINT)
        text = front.stdout.read()
        assert b"Program received signal SIGINT, Interrupt." in text
        assert b"$2 = 2\n" in text
        assert front.wait() == 0
        assert not [pid for pid in family if Path(f"/proc/{pid}").exists()]


def test_messages_pass_whole_and_the_end_is_told() -> None:
    ours, theirs = (wire.Channel(end) for end in socket.socketpair())
    message = wire.Request("execute", "x" * 100_000)
    pid = os.fork()
    if not pid:
        ours.send(message)
        os._exit(0)
    ours.close()
    assert theirs.receive() == message
    os.waitpid(pid, 0)
    with pytest.raises(wire.GoneError):
        theirs.receive()
    with pytest.raises(wire.GoneError):
        theirs.send(message)
    theirs.close()


@pytest.mark.slow
def test_ctrl_c_ends_a_search_through_the_past_and_checkpoints_are_bounded(loop: str) -> None:
    with subprocess.Popen(
        [*COMMAND, loop], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as front:
        assert front.stdin is not None
        assert front.stdout is not None
        front.stdin.write(b"goto 350000000\ninfo checkpoints\nprint 1\nreverse-continue\nwhen\nquit\n")
        front.stdin.flush()
        rows = 0
        while (line := front.stdout.readline()) != b"$1 = 1\n":
            rows += line.count(b",") > 0
        time.sleep(0.3)
        front.send_signal(signal.SIGINT)
        text = front.stdout.read().decode()
    assert 16 <= rows <= 33
    assert "Quit: the program is where it was.\n350,000,000 instructions" in text
