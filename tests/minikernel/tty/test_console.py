"""The machine at a terminal: a shell with jobs, keys, sizes; and the terminal as it was, afterwards."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from guest.builder import ROOT

PATIENCE = 30.0  # seconds
SHELL = ("/bin/bash", "--norc", "--noediting", "-i")


class Terminal:
    """What a person has in front of them: *command* of the emulator runs there."""

    def __init__(self, *command: str) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.environ.update(TERM="xterm", PS1="$ ", PYTHONPATH=str(ROOT), HISTFILE="/dev/null")
            os.execv(sys.executable, [sys.executable, "-m", "minikernel", *command])
        self.resize(24, 80)
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes, expect: bytes) -> bytes:
        """Press *keys* and wait for *expect*; what was shown before it."""
        os.write(self.fd, keys)
        return self.expect(expect)

    def expect(self, text: bytes) -> bytes:
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} is not in {self.seen!r}"
            if select.select([self.fd], [], [], 0.5)[0]:
                try:
                    self.seen += os.read(self.fd, 1 << 16)
                except OSError:
                    raise AssertionError(f"it has ended: {self.seen!r}") from None
        before, _, self.seen = self.seen.partition(text)
        return before

    def status(self) -> int:
        """How it ended."""
        while select.select([self.fd], [], [], PATIENCE)[0]:
            try:
                if not os.read(self.fd, 1 << 16):
                    break
            except OSError:
                break
        _, status = os.waitpid(self.pid, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_a_shell_has_jobs_keys_and_a_window() -> None:
    it = Terminal("run", "--", *SHELL)
    it.expect(b"$ ")
    assert b"24 80" in it.type(b"stty size\n", b"$ ")
    assert b"\r\n42\r\n" in it.type(b"echo $((6 * 7))\n", b"$ ")
    it.type(b"cat\n", b"cat\r\n")
    assert b"mice\b \b" in it.type(b"mice\x7f\x7f\x7foon\n", b"moon\r\n")  # the echo, and what cat says
    assert b"Stopped" in it.type(b"\x1a", b"$ ")
    assert b"Stopped" in it.type(b"jobs\n", b"$ ")
    it.type(b"fg\n", b"cat\r\n")
    it.type(b"again\n", b"again\r\nagain\r\n")  # it has the terminal
    it.type(b"\x03", b"$ ")
    assert b"130\r\n" in it.type(b"echo $?\n", b"$ ")
    it.resize(30, 100)
    time.sleep(0.2)
    assert b"30 100" in it.type(b"stty size\n", b"$ ")
    it.type(b"exit 7\n", b"exit")
    assert it.status() == 7


def test_ctrl_c_ends_a_program_that_only_computes() -> None:
    it = Terminal("run", "--", "/bin/sh", "-c", "echo busy; while :; do :; done")
    it.expect(b"busy")
    it.type(b"\x03", b"^C")
    assert it.status() == 130


def test_who_ignores_everything_is_switched_off_by_three_escapes() -> None:
    it = Terminal("run", "--", "/bin/sh", "-c", "trap '' INT QUIT TSTP; echo deaf; while :; do :; done")
    it.expect(b"deaf")
    it.type(b"\x03\x1c\x1a", b"^Z")
    it.type(b"\x1d\x1d\x1d", b"^]")
    assert it.status() == 137


def test_the_host_s_terminal_is_as_it_was_afterwards(tmp_path: Path) -> None:
    script = tmp_path / "session"
    script.write_text(
        f"stty -a > {tmp_path}/before\n"
        f"{sys.executable} -m minikernel run -- /bin/sh -c 'stty raw; echo done'\n"
        f"stty -a > {tmp_path}/after\n"
    )
    pid, fd = pty.fork()
    if not pid:
        os.environ["PYTHONPATH"] = str(ROOT)
        os.execv("/bin/sh", ["/bin/sh", str(script)])
    while select.select([fd], [], [], PATIENCE)[0]:
        try:
            os.read(fd, 4096)
        except OSError:
            break
    os.waitpid(pid, 0)
    os.close(fd)
    assert (tmp_path / "before").read_text() == (tmp_path / "after").read_text() != ""


def test_a_session_is_recorded_and_replayed(tmp_path: Path) -> None:
    trace = tmp_path / "t.trace"
    it = Terminal("record", "-o", str(trace), "--", *SHELL)
    it.expect(b"$ ")
    it.type(b"cat\n", b"cat\r\n")
    it.type(b"here\n", b"here\r\nhere\r\n")
    it.type(b"\x1a", b"$ ")
    it.type(b"kill %1; echo $LINES\n", b"$ ")
    it.type(b"exit 4\n", b"exit")
    assert it.status() == 4
    command = [sys.executable, "-m", "minikernel", "verify", str(trace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.startswith("the same")


@pytest.mark.parametrize("name", ["/dev/tty", "/dev/stdin"])
def test_the_console_can_be_opened_by_name(name: str) -> None:
    it = Terminal("run", "--", "/bin/sh", "-c", f"read word <{name}; echo got $word >{name}; tty")
    it.type(b"hello\n", b"got hello\r\n")
    assert b"/dev/" in it.expect(b"\r\n")
    assert it.status() == 0
