"""Terminals as programs see them: the modes, their structures, and the requests that are only a terminal's.

Source: include/uapi/asm-generic/termbits.h, termios.h, ioctls.h; include/linux/tty.h (INIT_C_CC).
"""

from struct import Struct
from typing import Final

# c_iflag
IGNBRK: Final = 0o1
ISTRIP: Final = 0o40
INLCR: Final = 0o100
IGNCR: Final = 0o200
ICRNL: Final = 0o400
IUCLC: Final = 0o1000
IXON: Final = 0o2000
IXANY: Final = 0o4000
IMAXBEL: Final = 0o20000
IUTF8: Final = 0o40000
PARMRK: Final = 0o10

# c_oflag
OPOST: Final = 0o1
OLCUC: Final = 0o2
ONLCR: Final = 0o4
OCRNL: Final = 0o10
ONOCR: Final = 0o20
ONLRET: Final = 0o40
TABDLY: Final = 0o14000
XTABS: Final = 0o14000

# c_cflag
B38400: Final = 0o17
CS8: Final = 0o60
CREAD: Final = 0o200
HUPCL: Final = 0o2000
CSIZE: Final = 0o60
PARENB: Final = 0o400

# c_lflag
ISIG: Final = 0o1
ICANON: Final = 0o2
ECHO: Final = 0o10
ECHOE: Final = 0o20
ECHOK: Final = 0o40
ECHONL: Final = 0o100
NOFLSH: Final = 0o200
TOSTOP: Final = 0o400
ECHOCTL: Final = 0o1000
ECHOPRT: Final = 0o2000
ECHOKE: Final = 0o4000
IEXTEN: Final = 0o100000
EXTPROC: Final = 0o200000

# Indices of c_cc
VINTR: Final = 0
VQUIT: Final = 1
VERASE: Final = 2
VKILL: Final = 3
VEOF: Final = 4
VTIME: Final = 5
VMIN: Final = 6
VSTART: Final = 8
VSTOP: Final = 9
VSUSP: Final = 10
VEOL: Final = 11
VREPRINT: Final = 12
VWERASE: Final = 14
VLNEXT: Final = 15
VEOL2: Final = 16
NCCS: Final = 19

DISABLED_CHAR: Final = 0  # _POSIX_VDISABLE: no key is this control character

# ioctl requests that only terminals have; the common ones are in abi/ioctl.py
TCSETA: Final = 0x5406
TCSETAW: Final = 0x5407
TCSETAF: Final = 0x5408
TIOCEXCL: Final = 0x540C
TIOCNXCL: Final = 0x540D
TIOCSTI: Final = 0x5412
TIOCPKT: Final = 0x5420
TIOCSETD: Final = 0x5423
TIOCGETD: Final = 0x5424
TCSBRKP: Final = 0x5425
TCGETS2: Final = 0x802C542A
TCSETS2: Final = 0x402C542B
TCSETSW2: Final = 0x402C542C
TCSETSF2: Final = 0x402C542D
TIOCGPTN: Final = 0x80045430
TIOCSPTLCK: Final = 0x40045431
TIOCSIG: Final = 0x40045436
TIOCVHANGUP: Final = 0x5437
TIOCGPKT: Final = 0x80045438
TIOCGPTLCK: Final = 0x80045439
TIOCGEXCL: Final = 0x80045440
TIOCGPTPEER: Final = 0x5441

# TCXONC's and TCFLSH's arguments
TCOOFF: Final = 0
TCOON: Final = 1
TCIOFF: Final = 2
TCION: Final = 3
TCIFLUSH: Final = 0
TCOFLUSH: Final = 1
TCIOFLUSH: Final = 2

# What a read of a master in packet mode begins with
TIOCPKT_DATA: Final = 0
TIOCPKT_FLUSHREAD: Final = 1
TIOCPKT_FLUSHWRITE: Final = 2
TIOCPKT_STOP: Final = 4
TIOCPKT_START: Final = 8
TIOCPKT_NOSTOP: Final = 16
TIOCPKT_DOSTOP: Final = 32
TIOCPKT_IOCTL: Final = 64

_TERMIOS: Final = Struct("<IIIIB19s")
_TERMIOS2: Final = Struct("<IIIIB19sII")
_TERMIO: Final = Struct("<HHHHB8sx")
_WINSIZE: Final = Struct("<HHHH")
_INIT_CC: Final = bytes((3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0))
_BAUD: Final = {0: 0, 9: 1200, 11: 2400, 12: 4800, 13: 9600, 14: 19200, 15: 38400, 0x1001: 57600, 0x1002: 115200}
_CBAUD: Final = 0o10017


class Termios:
    """The modes of a terminal: struct ktermios.  *cc* are the control characters, by V* index."""

    __slots__ = ("cc", "cflag", "iflag", "ispeed", "lflag", "line", "oflag", "ospeed")

    def __init__(self) -> None:
        self.iflag = ICRNL | IXON  # tty_std_termios
        self.oflag = OPOST | ONLCR
        self.cflag = B38400 | CS8 | CREAD
        self.lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN
        self.line = 0
        self.cc = _INIT_CC
        self.ispeed = self.ospeed = 38400

    def copy(self) -> "Termios":
        """The same modes, to be changed."""
        copy = Termios()
        for name in self.__slots__:
            setattr(copy, name, getattr(self, name))
        return copy

    def pack(self) -> bytes:
        """Struct termios, 36 bytes."""
        return _TERMIOS.pack(self.iflag, self.oflag, self.cflag, self.lflag, self.line, self.cc)

    def pack2(self) -> bytes:
        """Struct termios2, 44 bytes."""
        flags = self.iflag, self.oflag, self.cflag, self.lflag
        return _TERMIOS2.pack(*flags, self.line, self.cc, self.ispeed, self.ospeed)

    def pack_old(self) -> bytes:
        """Struct termio, 18 bytes: what System V had."""
        flags = (flag & 0xFFFF for flag in (self.iflag, self.oflag, self.cflag, self.lflag))
        return _TERMIO.pack(*flags, self.line, self.cc[:8])

    def with_new(self, data: bytes) -> "Termios":
        """The modes that *data* asks for: a termios, termios2 or termio structure, told apart by its size."""
        new = self.copy()
        if len(data) == _TERMIO.size:
            *flags, new.line, cc = _TERMIO.unpack(data)
            old = (self.iflag, self.oflag, self.cflag, self.lflag)
            both = [kept & ~0xFFFF | flag for kept, flag in zip(old, flags, strict=True)]
            new.iflag, new.oflag, new.cflag, new.lflag = both
            new.cc = cc + self.cc[8:]
        else:
            new.iflag, new.oflag, new.cflag, new.lflag, new.line, new.cc = _TERMIOS.unpack_from(data)
            if len(data) == _TERMIOS2.size:
                new.ispeed, new.ospeed = _TERMIOS2.unpack(data)[-2:]
                return new
        new.ispeed = new.ospeed = _BAUD.get(new.cflag & _CBAUD, self.ospeed)
        return new


TERMIO_SIZE: Final = _TERMIO.size
TERMIOS_SIZE: Final = _TERMIOS.size
TERMIOS2_SIZE: Final = _TERMIOS2.size


def pack_winsize(winsize: tuple[int, int, int, int]) -> bytes:
    """Struct winsize: rows, columns, and their pixels."""
    return _WINSIZE.pack(*winsize)


def unpack_winsize(data: bytes) -> tuple[int, int, int, int]:
    """The four numbers of a struct winsize."""
    rows, columns, x, y = _WINSIZE.unpack(data)
    return rows, columns, x, y
