"""System V shared memory as programs see it: flags, commands, and the structures of shmctl(2).

Source: include/uapi/linux/shm.h, include/uapi/asm-generic/shmbuf.h, include/linux/compat.h (compat_shmid64_ds).
"""

from struct import Struct
from typing import Final, NamedTuple

from minikernel.abi.abi import Abi
from minikernel.abi.ipc import Ipc64Perm

SHMMIN: Final = 1
SHMMNI: Final = 4096
SHMLBA: Final = 4096  # what an address of shmat is rounded to: a page on x86

# shmget: beside IPC_CREAT, IPC_EXCL and the mode
SHM_HUGETLB: Final = 0o4000
SHM_NORESERVE: Final = 0o10000
SHM_HUGE_SHIFT: Final = 26
SHM_HUGE_MASK: Final = 0x3F

# shmat
SHM_RDONLY: Final = 0o10000
SHM_RND: Final = 0o20000
SHM_REMAP: Final = 0o40000
SHM_EXEC: Final = 0o100000

# shmctl: beside IPC_*
SHM_LOCK: Final = 11
SHM_UNLOCK: Final = 12
SHM_STAT: Final = 13
SHM_INFO: Final = 14
SHM_STAT_ANY: Final = 15

# Mode bits that IPC_STAT shows (include/linux/shm.h).
SHM_DEST: Final = 0o1000  # goes with its last mapping
SHM_LOCKED: Final = 0o2000  # is not swapped

_INT_MAX: Final = (1 << 31) - 1
_REST64: Final = {8: Struct("<QqqqIIQ16x"), 4: Struct("<IIIIIIIIII8x")}
_REST_OLD: Final = Struct("<IIIIHHH10x")
_INFO64: Final = {8: Struct("<5Q32x"), 4: Struct("<5I16x")}
_INFO_OLD: Final = Struct("<5i")
_SHM_INFO: Final = {8: Struct("<ixxxx5Q"), 4: Struct("<i5I")}


class Shmid64Ds(NamedTuple):
    """What IPC_STAT tells of a segment: struct shmid64_ds.  Times in seconds."""

    perm: Ipc64Perm
    segsz: int
    atime: int
    dtime: int
    ctime: int
    cpid: int
    lpid: int
    nattch: int

    def pack(self, abi: Abi) -> bytes:
        """The structure: 112 bytes on x86-64, 84 on i386."""
        perm = self.perm.pack(abi)
        if abi.word == 8:
            rest = (self.segsz, self.atime, self.dtime, self.ctime, self.cpid, self.lpid, self.nattch)
            return perm + _REST64[8].pack(*rest)
        times = [half for time in (self.atime, self.dtime, self.ctime) for half in (time & abi.mask, time >> 32)]
        return perm + _REST64[4].pack(self.segsz & abi.mask, *times, self.cpid, self.lpid, self.nattch)

    def pack_old(self) -> bytes:
        """A struct shmid_ds, i386 only: 48 bytes."""
        times = [time & 0xFFFF_FFFF for time in (self.atime, self.dtime, self.ctime)]
        pids = (self.cpid & 0xFFFF, self.lpid & 0xFFFF, self.nattch & 0xFFFF)
        return self.perm.pack_old() + _REST_OLD.pack(self.segsz & 0xFFFF_FFFF, *times, *pids)


def shmid_ds_size(abi: Abi, *, old: bool) -> int:
    """Bytes of a struct shmid64_ds, or of i386's old struct shmid_ds."""
    nothing = Shmid64Ds(Ipc64Perm(0, 0, 0, 0, 0, 0, 0), 0, 0, 0, 0, 0, 0, 0)
    return len(nothing.pack_old() if old else nothing.pack(abi))


class ShmLimits(NamedTuple):
    """What IPC_INFO tells: struct shminfo64."""

    shmmax: int
    shmmin: int
    shmmni: int
    shmseg: int
    shmall: int

    def pack(self, abi: Abi, *, compat: bool, old: bool) -> bytes:
        """The structure: 72 bytes on x86-64, 36 on i386, or i386's old one of 20.

        *compat*: an i386 program on an x86-64 kernel.  There, and in the old structure, shmmax is at most INT_MAX
        (copy_compat_shminfo_to_user, copy_shminfo_to_user).
        """
        shmmax = min(self.shmmax, _INT_MAX) if compat or old else self.shmmax
        words = [value & abi.mask for value in (shmmax, *self[1:])]
        if old:
            return _INFO_OLD.pack(*[(word ^ 1 << 31) - (1 << 31) for word in words])
        return _INFO64[abi.word].pack(*words)


class ShmUse(NamedTuple):
    """What SHM_INFO tells, in pages: struct shm_info."""

    used_ids: int
    shm_tot: int
    shm_rss: int
    shm_swp: int

    def pack(self, abi: Abi) -> bytes:
        """The structure: 48 bytes on x86-64, 24 on i386; its last two words were never filled."""
        words = [value & abi.mask for value in self[1:]]
        return _SHM_INFO[abi.word].pack(self.used_ids, *words, 0, 0)
