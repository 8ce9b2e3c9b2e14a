"""What a terminal does to the bytes that are written to it.  Linux: drivers/tty/n_tty.c (do_output_char)."""

from typing import Final

from minikernel.abi.termios import IUTF8, OCRNL, OLCUC, ONLCR, ONLRET, ONOCR, OPOST, TABDLY, XTABS, Termios

_NL: Final = 10
_CR: Final = 13
_TAB: Final = 9
_BS: Final = 8
_DEL: Final = 0x7F
_TAB_STOP: Final = 8


def is_control(char: int) -> bool:
    """A control character of ASCII (iscntrl)."""
    return char < 0x20 or char == _DEL


def is_continuation(char: int, termios: Termios) -> bool:
    """A further byte of a UTF-8 character, where the terminal knows of UTF-8."""
    return bool(termios.iflag & IUTF8) and char & 0xC0 == 0x80


class Output:
    """The column that the cursor is in, and the translation of what is written.

    *canon_column* is where the line that is being typed begins, for erasing tabs.
    """

    __slots__ = ("canon_column", "column")

    def __init__(self) -> None:
        self.column = 0
        self.canon_column = 0

    def process(self, char: int, termios: Termios) -> bytes:
        """The bytes that go to the device for *char*."""
        oflag = termios.oflag
        if not oflag & OPOST:
            return bytes((char,))
        if char == _NL:
            if oflag & ONLRET:
                self.column = 0
            if oflag & ONLCR:
                self.column = self.canon_column = 0
                return b"\r\n"
            self.canon_column = self.column
        elif char == _CR:
            return self._carriage_return(oflag)
        elif char == _TAB:
            return self._tab(oflag)
        elif char == _BS:
            self.column = max(self.column - 1, 0)
        elif not is_control(char):
            if oflag & OLCUC and ord("a") <= char <= ord("z"):
                char -= 0x20
            if not is_continuation(char, termios):
                self.column += 1
        return bytes((char,))

    def _carriage_return(self, oflag: int) -> bytes:
        if oflag & ONOCR and not self.column:
            return b""
        if oflag & OCRNL:
            if oflag & ONLRET:
                self.column = self.canon_column = 0
            return b"\n"
        self.column = self.canon_column = 0
        return b"\r"

    def _tab(self, oflag: int) -> bytes:
        spaces = _TAB_STOP - self.column % _TAB_STOP
        self.column += spaces
        return b" " * spaces if oflag & TABDLY == XTABS else b"\t"

    def caret(self, char: int) -> bytes:
        """A control character as ``^X``."""
        self.column += 2
        return bytes((ord("^"), char ^ 0x40))

    def erase_tab(self, length: int, *, after_tab: bool) -> bytes:
        """Back over a tab, in front of which *length* columns of the line stand since its start or another tab."""
        if not after_tab:
            length += self.canon_column
        steps = _TAB_STOP - length % _TAB_STOP
        self.column = max(self.column - steps, 0)
        return b"\b" * steps
