"""What a machine says about itself: struct utsname in its three ages, struct sysinfo.

Source: include/uapi/linux/utsname.h, include/uapi/linux/sysinfo.h.
"""

from struct import Struct
from typing import Final, NamedTuple

from minikernel.abi.abi import Abi

KERNEL_RELEASE: Final = b"6.18.0"  # the Linux whose behaviour this is
KERNEL_VERSION: Final = b"#1 minikernel"

UTS_LEN: Final = 64  # __NEW_UTS_LEN
OLD_UTS_LEN: Final = 8  # __OLD_UTS_LEN


class Utsname(NamedTuple):
    """The names of a system."""

    sysname: bytes
    nodename: bytes
    release: bytes
    version: bytes
    machine: bytes
    domainname: bytes

    def _pack(self, width: int, *fields: bytes) -> bytes:
        return b"".join([field[:width].ljust(width + 1, b"\0") for field in fields])

    def pack(self) -> bytes:
        """A struct new_utsname: 390 bytes."""
        return self.pack_old() + self._pack(UTS_LEN, self.domainname)

    def pack_old(self) -> bytes:
        """A struct old_utsname (i386 uname): 325 bytes."""
        return self._pack(UTS_LEN, self.sysname, self.nodename, self.release, self.version, self.machine)

    def pack_oldold(self) -> bytes:
        """A struct oldold_utsname (i386 olduname): 45 bytes."""
        return self._pack(OLD_UTS_LEN, self.sysname, self.nodename, self.release, self.version, self.machine)


_SYSINFO = {8: Struct("<q9QHHxxxxQQIxxxx"), 4: Struct("<i9IHHIII8x")}


class Sysinfo(NamedTuple):
    """Memory in bytes, uptime in seconds, load averages in units of 1/65536."""

    uptime: int
    loads: tuple[int, int, int]
    totalram: int
    freeram: int
    sharedram: int
    bufferram: int
    totalswap: int
    freeswap: int
    procs: int
    totalhigh: int
    freehigh: int

    def pack(self, abi: Abi) -> bytes:
        """A struct sysinfo: 112 or 64 bytes.

        Up to 4 GiB minus one of memory and swap, i386 counts bytes as x86-64 does; above, pages
        (COMPAT_SYSCALL_DEFINE1(sysinfo), kernel/sys.c).
        """
        memory = (self.totalram, self.freeram, self.sharedram, self.bufferram, self.totalswap, self.freeswap)
        high = (self.totalhigh, self.freehigh)
        unit = 1
        if abi.word == 4 and (self.totalram >> 32 or self.totalswap >> 32):
            unit = 4096
        scaled = [amount // unit for amount in memory]
        return _SYSINFO[abi.word].pack(
            self.uptime, *self.loads, *scaled, self.procs & 0xFFFF, 0, *[amount // unit for amount in high], unit
        )
