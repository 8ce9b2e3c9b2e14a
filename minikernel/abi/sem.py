"""System V semaphores as programs see them.

Source: include/uapi/linux/sem.h, arch/x86/include/uapi/asm/sembuf.h, include/linux/compat.h (compat_semid64_ds).
"""

from struct import Struct
from typing import Final, NamedTuple

from minikernel.abi.abi import Abi
from minikernel.abi.ipc import Ipc64Perm

SEMMNI: Final = 32000  # sets
SEMMSL: Final = 32000  # semaphores of a set
SEMMNS: Final = SEMMNI * SEMMSL
SEMOPM: Final = 500  # operations of a call
SEMVMX: Final = 32767  # the largest value
SEMAEM: Final = SEMVMX  # the largest adjustment at exit
_SEMUSZ: Final = 20

SEM_UNDO: Final = 0x1000  # of a sembuf: taken back at the end of the process

# semctl: beside IPC_*
GETPID: Final = 11
GETVAL: Final = 12
GETALL: Final = 13
GETNCNT: Final = 14
GETZCNT: Final = 15
SETVAL: Final = 16
SETALL: Final = 17
SEM_STAT: Final = 18
SEM_INFO: Final = 19
SEM_STAT_ANY: Final = 20

SEMBUF: Final = Struct("<Hhh")
_REST: Final = {8: Struct("<QxxxxxxxxQxxxxxxxxQ16x"), 4: Struct("<QQI8x")}
_REST_OLD: Final = Struct("<II16xHxx")
_INFO: Final = Struct("<10i")


class Sembuf(NamedTuple):
    """One operation on one semaphore: struct sembuf."""

    number: int
    operation: int
    flags: int


class SemidDs(NamedTuple):
    """What IPC_STAT tells of a set: struct semid64_ds.  Times in seconds."""

    perm: Ipc64Perm
    otime: int
    ctime: int
    nsems: int

    def pack(self, abi: Abi) -> bytes:
        """The structure: 104 bytes on x86-64, 64 on i386."""
        return self.perm.pack(abi) + _REST[abi.word].pack(*self[1:])

    def pack_old(self) -> bytes:
        """A struct semid_ds, i386 only: 44 bytes."""
        times = (self.otime & 0xFFFF_FFFF, self.ctime & 0xFFFF_FFFF)
        return self.perm.pack_old() + _REST_OLD.pack(*times, min(self.nsems, 0xFFFF))


def semid_ds_size(abi: Abi, perm_size: int, *, old: bool) -> int:
    """Bytes of the structure."""
    return 16 + _REST_OLD.size if old else perm_size + _REST[abi.word].size


def pack_seminfo(sets: int | None, semaphores: int, limits: tuple[int, int, int, int]) -> bytes:
    """Struct seminfo; *limits*: semmsl, semmns, semopm, semmni.  *sets*: those in use (SEM_INFO), None: limits only."""
    msl, mns, opm, mni = limits
    size, adjust = (_SEMUSZ, SEMAEM) if sets is None else (sets, semaphores)
    return _INFO.pack(mns, mni, mns, mns, msl, opm, SEMOPM, size, SEMVMX, adjust)
