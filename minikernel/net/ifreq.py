"""ioctl requests about interfaces: SIOCGIF*.  Linux: net/core/dev_ioctl.c, net/ipv4/devinet.c (devinet_ioctl)."""

from typing import Any, Final

from minikernel.abi.capability import CAP_NET_ADMIN
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.inet import SOCKADDR_IN
from minikernel.abi.socket import AF_INET, INT
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.net.netlink import LO_FLAGS, LO_INDEX, LO_MTU

_SIOCGIFNAME: Final = 0x8910
_SIOCGIFCONF: Final = 0x8912
_NAME_BYTES: Final = 16
_ARPHRD_LOOPBACK: Final = 772
_FLAGS_MASK: Final = 0xFFFF
_GETTERS: Final = {
    0x8913: (LO_FLAGS & _FLAGS_MASK).to_bytes(2, "little"),  # SIOCGIFFLAGS
    0x8915: SOCKADDR_IN.pack(AF_INET, b"\0\0", b"\x7f\0\0\1"),  # SIOCGIFADDR
    0x8917: SOCKADDR_IN.pack(AF_INET, b"\0\0", b"\x7f\0\0\1"),  # SIOCGIFDSTADDR
    0x8919: SOCKADDR_IN.pack(AF_INET, b"\0\0", bytes(4)),  # SIOCGIFBRDADDR
    0x891B: SOCKADDR_IN.pack(AF_INET, b"\0\0", b"\xff\0\0\0"),  # SIOCGIFNETMASK
    0x891D: INT.pack(0),  # SIOCGIFMETRIC
    0x8921: INT.pack(LO_MTU),  # SIOCGIFMTU
    0x8927: _ARPHRD_LOOPBACK.to_bytes(2, "little") + bytes(14),  # SIOCGIFHWADDR
    0x8933: INT.pack(LO_INDEX),  # SIOCGIFINDEX
    0x8942: INT.pack(1000),  # SIOCGIFTXQLEN
}
_SETTERS: Final = frozenset((0x8914, 0x8916, 0x8918, 0x891A, 0x891C, 0x8922, 0x8924, 0x8943))


def interface_ioctl(task: Any, request: int, arg: int) -> int:
    """One request of *task*, with its struct ifreq at *arg*.

    Errors:
        ENOTTY: no such request; ENODEV: no such interface; EPERM: nothing can be changed; EFAULT.
    """
    word = (task.in_call or task.abi).word
    if request == _SIOCGIFCONF:
        return _ifconf(task, arg, word)
    if request == _SIOCGIFNAME:
        index = INT.unpack(copy_from_user(task.mm, arg + _NAME_BYTES, INT.size))[0]
        if index != LO_INDEX:
            raise LinuxError(Errno.ENODEV, f"interface {index}")
        copy_to_user(task.mm, arg, b"lo".ljust(_NAME_BYTES, b"\0"))
        return 0
    if request not in _GETTERS and request not in _SETTERS:
        raise LinuxError(Errno.ENOTTY, f"ioctl {request:#x}")
    name = copy_from_user(task.mm, arg, _NAME_BYTES).partition(b"\0")[0]
    if request in _SETTERS and not task.cred.capable(CAP_NET_ADMIN):
        raise LinuxError(Errno.EPERM, "the network cannot be changed")
    if name != b"lo":
        raise LinuxError(Errno.ENODEV, f"interface {name!r}")
    if request in _SETTERS:
        raise LinuxError(Errno.EPERM, "the network cannot be changed")
    copy_to_user(task.mm, arg + _NAME_BYTES, _GETTERS[request])
    return 0


def _ifconf(task: Any, arg: int, word: int) -> int:
    """SIOCGIFCONF: all interfaces with an IPv4 address, into as much room as there is."""
    size = 40 if word == 8 else 32
    room = INT.unpack(copy_from_user(task.mm, arg, INT.size))[0]
    buffer = int.from_bytes(copy_from_user(task.mm, arg + word, word), "little")
    entry = (b"lo".ljust(_NAME_BYTES, b"\0") + _GETTERS[0x8915]).ljust(size, b"\0")
    used = size if not buffer or room >= size else 0
    if buffer and used:
        copy_to_user(task.mm, buffer, entry)
    copy_to_user(task.mm, arg, INT.pack(used))
    return 0
