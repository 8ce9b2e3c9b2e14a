"""A terminal of its own for the debugger: what a person would type, and what they would see."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

COMMAND = [sys.executable, "-m", "minikernel", "debug", "--ram", "16M"]
PATIENCE = 60.0  # seconds
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][0-9A-Z]?")


class Terminal:
    """The debugger in a terminal of its own."""

    def __init__(
        self, program: str, home: Path, *options: str, term: str = "xterm", colours: bool = False, rows: int = 24
    ) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.environ.update(TERM=term, HOME=str(home))
            os.environ.pop("NO_COLOR", None)
            if not colours:
                os.environ["NO_COLOR"] = "1"
            os.execv(sys.executable, [*COMMAND, *options, program])
        self.resize(rows, 100)
        self.seen = ""
        self.all = ""
        self._asked = 0

    def resize(self, rows: int, columns: int) -> None:
        """The window changes; whoever stands in front is told by SIGWINCH."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def expect(self, text: str, *, press: str = "") -> str:
        """Wait until *text* has been printed, behind what was waited for before; until then *press*, now and again.

        What is typed while the editor gives the terminal back is lost, for a person as for us.  Gives what came before
        it, without escape sequences.
        """
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < end, f"{text!r} is not in {self.seen!r}"
            if not select.select([self.fd], [], [], 0.5)[0]:
                self.type(press)
                continue
            try:
                data = os.read(self.fd, 1 << 16)
            except OSError:
                raise AssertionError(f"it has ended: {self.all[-2000:]!r}") from None
            if b"\x1b[6n" in data:  # the editor asks where the cursor is
                os.write(self.fd, b"\x1b[1;1R")
            self.seen += data.decode(errors="replace")
            self.all += data.decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return ESCAPES.sub("", before)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self.fd, text.encode())

    def run(self, line: str) -> str:
        """Execute *line*; what it shows, with the editor's own noise."""
        self.type(f"{line}\r")
        return self.settle()

    def settle(self) -> str:
        """Wait until the prompt is back and works; what was shown until then."""
        self._asked += 1
        mark = 7000 + self._asked
        self.type(f"print {mark}-0\r")
        shown = self.expect(f"= {mark}\r", press=f"print {mark}-0\r")
        self.expect("(kdb)")
        return shown

    def close(self) -> int:
        """Wait for the debugger's end; its exit status."""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while os.read(self.fd, 1 << 16):
                pass
        os.close(self.fd)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextlib.contextmanager
def terminal(program: str, home: Path, *options: str, term: str = "xterm", colours: bool = False,
             rows: int = 24) -> Iterator[Terminal]:  # fmt: skip
    """A terminal that is left with ``quit``, which must be possible."""
    made = Terminal(program, home, *options, term=term, colours=colours, rows=rows)
    try:
        made.expect("(kdb)")
        yield made
        made.settle()
        made.type("quit\r")
    except BaseException:
        os.kill(made.pid, signal.SIGKILL)
        made.close()
        raise
    assert made.close() == 0
