"""Options of wait4(2) and waitid(2).  Source: include/uapi/linux/wait.h."""

from typing import Final

WNOHANG: Final = 0x1
WUNTRACED: Final = 0x2
WSTOPPED: Final = WUNTRACED
WEXITED: Final = 0x4
WCONTINUED: Final = 0x8
WNOWAIT: Final = 0x0100_0000
W_NOTHREAD: Final = 0x2000_0000  # __WNOTHREAD
W_ALL: Final = 0x4000_0000  # __WALL
W_CLONE: Final = 0x8000_0000  # __WCLONE

P_ALL: Final = 0
P_PID: Final = 1
P_PGID: Final = 2
P_PIDFD: Final = 3
