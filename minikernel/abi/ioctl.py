"""ioctl request numbers of files and terminals, and struct termios.

Source: include/uapi/asm-generic/ioctls.h, termbits.h; include/uapi/linux/fs.h.
"""

from typing import Final

TCGETS: Final = 0x5401
TCSETS: Final = 0x5402
TCSETSW: Final = 0x5403
TCSETSF: Final = 0x5404
TCGETA: Final = 0x5405
TCSBRK: Final = 0x5409
TCXONC: Final = 0x540A
TCFLSH: Final = 0x540B
TIOCSCTTY: Final = 0x540E
TIOCGPGRP: Final = 0x540F
TIOCSPGRP: Final = 0x5410
TIOCOUTQ: Final = 0x5411
TIOCGWINSZ: Final = 0x5413
TIOCSWINSZ: Final = 0x5414
FIONREAD: Final = 0x541B
FIONBIO: Final = 0x5421
TIOCNOTTY: Final = 0x5422
TIOCGSID: Final = 0x5429
FIONCLEX: Final = 0x5450
FIOCLEX: Final = 0x5451
FIOASYNC: Final = 0x5452
FIOQSIZE: Final = 0x5460
FIFREEZE: Final = 0xC0045877
FICLONE: Final = 0x40049409
FICLONERANGE: Final = 0x4020940D
FS_IOC_FIEMAP: Final = 0xC020660B
RNDGETENTCNT: Final = 0x80045200

TERMIOS_SIZE: Final = 36  # struct termios of the kernel: four flag words, c_line, 19 control characters
WINSIZE_SIZE: Final = 8
