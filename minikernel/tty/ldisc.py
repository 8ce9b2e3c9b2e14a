"""The line discipline: from keys to lines, with echo, editing, signals and flow control.

Linux: drivers/tty/n_tty.c (n_tty_receive_char_special, eraser, canon_copy_from_read_buf, n_tty_set_termios).

Bytes that were typed wait in a buffer of 4096 until they are read.  In canonical mode a reader gets those of complete
lines only, a line at a time; what follows the last complete line can still be edited.
"""

from collections import deque
from typing import Final, Protocol, TypeAlias

from minikernel.abi import termios as t
from minikernel.abi.signal import SIGINT, SIGQUIT, SIGTSTP
from minikernel.abi.termios import Termios
from minikernel.tty.output import Output, is_continuation, is_control

N_TTY_BUF_SIZE: Final = 4096
_NL: Final = 10
_CR: Final = 13
_TAB: Final = 9
_ECHO_COMMIT: Final = 256  # ECHO_COMMIT_WATERMARK: operations after which the echo of a long piece is shown
_SIGNALS: Final = ((t.VINTR, SIGINT), (t.VQUIT, SIGQUIT), (t.VSUSP, SIGTSTP))


# What echo consists of (ECHO_OP_*), and its operand.
_Echo: TypeAlias = tuple[int, int]
_RAW: Final = 0
_CARET: Final = 1
_BEGIN: Final = 2  # the line that is typed begins here
_ERASE_TAB: Final = 3
_ERASE_TAB_AFTER_TAB: Final = 4


class Device(Protocol):
    """What the line discipline works for."""

    @property
    def termios(self) -> Termios:
        """The modes."""
        ...

    def translated(self, char: int) -> bytes:
        """What the device is given for *char*, which is shown there."""
        ...

    def put(self, data: bytes) -> None:
        """Echo: to the device, whether it has room or not."""
        ...

    def signal(self, sig: int) -> None:
        """A key means *sig* for the foreground process group."""
        ...

    def flush_output(self) -> None:
        """Forget what was written and has not been taken yet."""
        ...

    def input_flushed(self) -> None:
        """What was typed is forgotten."""
        ...

    def readable(self) -> None:
        """There is something to read."""
        ...

    def set_stopped(self, *, stopped: bool) -> None:
        """Hold the output back, or let it go on."""
        ...

    @property
    def stopped(self) -> bool:
        """Whether output is held back."""
        ...


class LineDiscipline:
    """N_TTY of one terminal.

    Invariants:
        - ``_ends`` rises, and none of its offsets is beyond ``len(_buffer)``; the last one is ``_canon``;
        - the buffer holds at most N_TTY_BUF_SIZE bytes.
    """

    __slots__ = ("_buffer", "_canon", "_device", "_echoes", "_ends", "_erasing", "_eofs", "_lnext", "output")

    def __init__(self, device: Device) -> None:
        self._device = device
        self.output = Output()
        self._buffer = bytearray()  # typed and not yet read
        self._ends: deque[int] = deque()  # where lines end in it
        self._eofs: set[int] = set()  # those of them that end with EOF, which is no part of the line
        self._canon = 0  # the end of the last complete line: what is behind it may be edited
        self._erasing = False  # ECHOPRT: in the middle of \.../
        self._lnext = False  # the next character has no meaning
        self._echoes: list[_Echo] = []  # of what has just been typed, or while output is stopped

    # ---- reading

    def available(self, least: int = 1) -> bool:
        """Whether a reader who wants *least* bytes would get something (input_available_p)."""
        if self._is_canonical:
            return bool(self._ends)
        return len(self._buffer) >= max(least, 1)

    @property
    def nr_readable(self) -> int:
        """Bytes that a reader could have: FIONREAD (inq_canon)."""
        return self._canon - len(self._eofs) if self._is_canonical else len(self._buffer)

    def read(self, count: int) -> bytes:
        """Take up to *count* bytes, in canonical mode of one line."""
        if not self._is_canonical:
            return self._take(min(count, len(self._buffer)))
        if not self._ends:
            return b""
        end = self._ends[0]
        is_eof = end in self._eofs
        if is_eof and count >= end - 1:
            return self._take(end)[:-1]
        return self._take(min(count, end))

    def _take(self, count: int) -> bytes:
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        self._ends = deque(end - count for end in self._ends if end > count)
        self._eofs = {end - count for end in self._eofs if end > count}
        self._canon = max(self._canon - count, 0)
        return data

    def flush(self) -> None:
        """Forget what was typed (reset_buffer_flags)."""
        self._buffer.clear()
        self._ends.clear()
        self._eofs.clear()
        self._canon = 0
        self._lnext = self._erasing = False
        self._device.input_flushed()

    def modes_changed(self, old: Termios) -> None:
        """Another termios is in force: what was typed under the old one is readable now (n_tty_set_termios)."""
        changed = (old.lflag ^ self._device.termios.lflag) & (t.ICANON | t.EXTPROC)
        if changed:
            self._ends.clear()
            self._eofs.clear()
            self._canon = len(self._buffer) if self._is_canonical else 0
            if self._canon:
                self._ends.append(self._canon)
            self._erasing = self._lnext = False
            if self._buffer:
                self._device.readable()
        if old.iflag & t.IXON and not self._device.termios.iflag & t.IXON and self._device.stopped:
            self._device.set_stopped(stopped=False)

    @property
    def _is_canonical(self) -> bool:
        return bool(self._device.termios.lflag & t.ICANON)

    # ---- typing

    def room(self) -> int:
        """How many more bytes can be typed now (receive_room)."""
        left = N_TTY_BUF_SIZE - 1 - len(self._buffer)
        if left <= 0 and self._is_canonical and not self._ends:
            return 1  # a line that is too long: its end replaces the last byte, or nobody could ever go on
        return left

    def receive(self, data: bytes) -> int:
        """*data* was typed; how much of it was taken before the buffer was full."""
        for number, char in enumerate(data):
            if self.room() <= 0:
                self._show_echoes()
                return number
            self._receive(char)
            if len(self._echoes) >= _ECHO_COMMIT:
                self._show_echoes()
        self._show_echoes()
        return len(data)

    def _receive(self, char: int) -> None:
        device = self._device
        termios = device.termios
        iflag, lflag = termios.iflag, termios.lflag
        if iflag & t.ISTRIP:
            char &= 0x7F
        if iflag & t.IUCLC and lflag & t.IEXTEN and ord("A") <= char <= ord("Z"):
            char += 0x20
        if lflag & t.EXTPROC:
            self._put(char)
        elif self._lnext:
            self._lnext = False
            self._plain(char, termios)
        elif not self._is_special(char, termios):
            self._plain(self._translated(char, iflag), termios, original=char)

    def _translated(self, char: int, iflag: int) -> int:
        """CR and NL as the modes want them; -1: it is dropped."""
        if char == _CR:
            if iflag & t.IGNCR:
                return -1
            return _NL if iflag & t.ICRNL else char
        if char == _NL and iflag & t.INLCR:
            return _CR
        return char

    def _is_special(self, char: int, termios: Termios) -> bool:
        """Flow control and signals: whether *char* was one of these keys, and all is done."""
        device = self._device
        cc = termios.cc
        if char != t.DISABLED_CHAR:
            if termios.iflag & t.IXON and char in {cc[t.VSTART], cc[t.VSTOP]}:
                device.set_stopped(stopped=char != cc[t.VSTART])
                return True
            if termios.lflag & t.ISIG:
                for index, sig in _SIGNALS:
                    if char == cc[index]:
                        self._signal(char, sig, termios)
                        return True
        if device.stopped and termios.iflag & t.IXON and termios.iflag & t.IXANY:
            device.set_stopped(stopped=False)
        return False

    def _signal(self, char: int, sig: int, termios: Termios) -> None:
        """n_tty_receive_signal_char, isig."""
        device = self._device
        device.signal(sig)
        if not termios.lflag & t.NOFLSH:
            self._echoes.clear()
            device.flush_output()
            self.flush()
        if termios.iflag & t.IXON:
            device.set_stopped(stopped=False)
        if termios.lflag & t.ECHO:
            self._echo(char)

    def _plain(self, char: int, termios: Termios, *, original: int = -1) -> None:
        """A character of the text, or one that edits it; *original*: as typed, -1 if it has lost its meaning."""
        if char < 0:
            return
        lflag = termios.lflag
        if lflag & t.ICANON and original >= 0 and self._edits(char, termios):
            return
        if lflag & t.ECHO:
            self._finish_erasing()
            if char == _NL and original == _CR:
                self._echo_raw(_NL)
            else:
                self._begin_echo()
                self._echo(char)
        if termios.iflag & t.PARMRK and char == 0xFF:
            self._put(char)
        self._put(char)
        if not lflag & t.ICANON:
            self._device.readable()

    def _edits(self, char: int, termios: Termios) -> bool:
        """The keys of canonical mode (n_tty_receive_char_canon); whether *char* was one."""
        lflag, cc = termios.lflag, termios.cc
        extended = lflag & t.IEXTEN
        if char == _NL:
            if lflag & (t.ECHO | t.ECHONL):
                self._echo_raw(_NL)
            self._end_line(_NL)
            return True
        if char == t.DISABLED_CHAR:
            return False
        if char in {cc[t.VERASE], cc[t.VKILL]} or (extended and char == cc[t.VWERASE]):
            self._erase(char, termios)
        elif extended and char == cc[t.VLNEXT]:
            self._lnext = True
            if lflag & t.ECHO:
                self._finish_erasing()
                if lflag & t.ECHOCTL:
                    self._echo_raw(ord("^"))
                    self._echo_raw(ord("\b"))
        elif extended and lflag & t.ECHO and char == cc[t.VREPRINT]:
            self._reprint(char)
        elif char == cc[t.VEOF]:
            self._end_line(t.DISABLED_CHAR, eof=True)
        elif char == cc[t.VEOL] or (extended and char == cc[t.VEOL2]):
            if lflag & t.ECHO:
                self._begin_echo()
                self._echo(char)
            if termios.iflag & t.PARMRK and char == 0xFF:
                self._put(char)
            self._end_line(char)
        else:
            return False
        return True

    def _reprint(self, char: int) -> None:
        self._finish_erasing()
        self._echo(char)
        self._echo_raw(_NL)
        for typed in self._buffer[self._canon :]:
            self._echo(typed)

    def _end_line(self, char: int, *, eof: bool = False) -> None:
        """A line is complete."""
        self._put(char)
        self._canon = len(self._buffer)
        self._ends.append(self._canon)
        if eof:
            self._eofs.add(self._canon)
        self._device.readable()

    def _put(self, char: int) -> None:
        if len(self._buffer) >= N_TTY_BUF_SIZE:
            del self._buffer[-1]
        self._buffer.append(char)
        if self._device.termios.lflag & t.EXTPROC:
            self._device.readable()

    # ---- erasing

    def _erase(self, key: int, termios: Termios) -> None:
        """Take back a character, a word or the line (eraser)."""
        buffer, lflag, cc = self._buffer, termios.lflag, termios.cc
        if len(buffer) == self._canon:
            return
        kills = key == cc[t.VKILL] and key != cc[t.VERASE]
        if kills and not lflag & t.ECHO:
            del buffer[self._canon :]
            return
        if kills and lflag & (t.ECHOK | t.ECHOKE | t.ECHOE) != t.ECHOK | t.ECHOKE | t.ECHOE:
            del buffer[self._canon :]
            self._finish_erasing()
            self._echo(key)
            if lflag & t.ECHOK:
                self._echo_raw(_NL)
            return
        by_word = not kills and key != cc[t.VERASE]
        seen_word = False
        while len(buffer) > self._canon:
            start = self._last_character(termios)
            if start < 0:
                break
            char = buffer[start]
            if by_word:
                is_word = (chr(char).isalnum() and char < 0x80) or char == ord("_") or char >= 0xC0
                if seen_word and not is_word:
                    break
                seen_word |= is_word
            erased = bytes(buffer[start:])
            del buffer[start:]
            if lflag & t.ECHO:
                self._show_erased(erased, key, termios, simple=not kills and not by_word)
            if not kills and not by_word:
                break
        if len(buffer) == self._canon and lflag & t.ECHO:
            self._finish_erasing()

    def _last_character(self, termios: Termios) -> int:
        """Where the last character of the line begins; -1: there are only further bytes of one."""
        start = len(self._buffer) - 1
        while is_continuation(self._buffer[start], termios) and start > self._canon:
            start -= 1
        return -1 if is_continuation(self._buffer[start], termios) else start

    def _show_erased(self, erased: bytes, key: int, termios: Termios, *, simple: bool) -> None:
        """Make *erased*, one character, disappear from the screen."""
        lflag, char = termios.lflag, erased[0]
        if lflag & t.ECHOPRT:
            if not self._erasing:
                self._echo_raw(ord("\\"))
                self._erasing = True
            self._echo(char)
            for byte in erased[1:]:
                self._echo_raw(byte)
        elif simple and not lflag & t.ECHOE:
            self._echo(key)
        elif char == _TAB:
            length, after_tab = self._columns_before(termios)
            self._echoes.append((_ERASE_TAB_AFTER_TAB if after_tab else _ERASE_TAB, length))
        else:
            width = (2 if lflag & t.ECHOCTL else 0) if is_control(char) else 1
            for _ in range(width):
                for byte in b"\b \b":
                    self._echo_raw(byte)

    def _columns_before(self, termios: Termios) -> tuple[int, bool]:
        """Columns of the line back to a tab or its start, and whether it was a tab."""
        columns = 0
        for char in reversed(self._buffer[self._canon :]):
            if char == _TAB:
                return columns, True
            if is_control(char):
                columns += 2 if termios.lflag & t.ECHOCTL else 0
            elif not is_continuation(char, termios):
                columns += 1
        return columns, False

    def _finish_erasing(self) -> None:
        if self._erasing:
            self._erasing = False
            self._echo_raw(ord("/"))

    # ---- echo

    def _begin_echo(self) -> None:
        """The cursor is where the line begins, if nothing of it was typed yet."""
        if self._canon == len(self._buffer):
            self._echoes.append((_BEGIN, 0))

    def _echo(self, char: int) -> None:
        """Show *char*, a control character as ``^X`` (echo_char)."""
        is_caret = self._device.termios.lflag & t.ECHOCTL and is_control(char) and char != _TAB
        self._echoes.append((_CARET if is_caret else _RAW, char))

    def _echo_raw(self, char: int) -> None:
        self._echoes.append((_RAW, char))

    def _show_echoes(self) -> None:
        """Give the echo to the device, once a piece of input: what a signal forgets is never seen (flush_echoes)."""
        if self._device.stopped or not self._echoes:
            return
        output = self.output
        out = bytearray()
        for kind, operand in self._echoes:
            if kind == _RAW:
                out += self._device.translated(operand)
            elif kind == _CARET:
                out += output.caret(operand)
            elif kind == _BEGIN:
                output.canon_column = output.column
            else:
                out += output.erase_tab(operand, after_tab=kind == _ERASE_TAB_AFTER_TAB)
        self._echoes.clear()
        self._device.put(bytes(out))

    def output_goes_on(self) -> None:
        """Output is no longer stopped: what was typed meanwhile is shown (process_echoes)."""
        self._show_echoes()

    def validate(self) -> None:
        """Check the invariants above."""
        assert len(self._buffer) <= N_TTY_BUF_SIZE, "LineDiscipline: too many bytes"
        assert list(self._ends) == sorted(set(self._ends)), "LineDiscipline: line ends out of order"
        assert not self._ends or self._ends[-1] == self._canon, "LineDiscipline: a line without end"
        assert self._canon <= len(self._buffer), "LineDiscipline: a line that is not there"
        assert self._eofs <= set(self._ends), "LineDiscipline: an EOF that ends no line"
