"""Reading back a siginfo_t that a debugger has changed: every layout, unlike what system calls take.

Linux: kernel/signal.c, copy_siginfo_from_user32; the inverse of ``Siginfo.pack``.
"""

from struct import unpack_from
from typing import TYPE_CHECKING

from minikernel.abi.siginfo import Layout, Siginfo, siginfo_layout, unpack_siginfo

if TYPE_CHECKING:
    from minikernel.abi.abi import Abi


def unpack(abi: "Abi", data: bytes) -> Siginfo:
    """The siginfo_t in *data*, which has 128 bytes."""
    signo, errno, code = unpack_from("<iii", data)
    at, word, gap = (16, "Q", "4x") if abi.word == 8 else (12, "I", "")
    match siginfo_layout(signo, code):
        case Layout.FAULT:
            return Siginfo(signo, code, errno, addr=unpack_from(f"<{word}", data, at)[0])
        case Layout.CHLD:
            pid, uid, status, utime, stime = unpack_from(f"<iIi{gap}{word}{word}", data, at)
            return Siginfo(signo, code, errno, pid=pid, uid=uid, status=status, utime=utime, stime=stime)
        case Layout.POLL:
            band, fd = unpack_from(f"<{word}i", data, at)
            return Siginfo(signo, code, errno, band=band, fd=fd)
        case Layout.SYS:
            addr, syscall, arch = unpack_from(f"<{word}iI", data, at)
            return Siginfo(signo, code, errno, addr=addr, syscall=syscall, arch=arch)
        case _:
            return unpack_siginfo(abi, data)
