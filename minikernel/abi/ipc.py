"""System V IPC as programs see it: commands, modes, and struct ipc64_perm.

Source: include/uapi/linux/ipc.h, include/uapi/asm-generic/ipcbuf.h, arch/x86/include/uapi/asm/ipcbuf.h.
"""

from struct import Struct
from typing import Final, NamedTuple

from minikernel.abi.abi import Abi

IPC_PRIVATE: Final = 0

# semget, shmget, msgget: beside the mode
IPC_CREAT: Final = 0o1000
IPC_EXCL: Final = 0o2000
IPC_NOWAIT: Final = 0o4000

# semctl, shmctl, msgctl
IPC_RMID: Final = 0
IPC_SET: Final = 1
IPC_STAT: Final = 2
IPC_INFO: Final = 3

IPC_64: Final = 0x0100  # i386's ipc(2): the structures are the wide ones

# i386's ipc(2): the calls it stands for, in the low 16 bits of its first argument
SEMOP: Final = 1
SEMGET: Final = 2
SEMCTL: Final = 3
SEMTIMEDOP: Final = 4
MSGSND: Final = 11
MSGRCV: Final = 12
MSGGET: Final = 13
MSGCTL: Final = 14
SHMAT: Final = 21
SHMDT: Final = 22
SHMGET: Final = 23
SHMCTL: Final = 24

_PERM64: Final = {8: Struct("<iIIIIIHHxxxxQQ"), 4: Struct("<iIIIIHHHHII")}
_PERM_OLD: Final = Struct("<iHHHHHH")
_ID16_OVERFLOW: Final = 65534  # fs_overflowuid: an id that 16 bits cannot show


class Ipc64Perm(NamedTuple):
    """Who owns an object and who may do what: struct ipc64_perm."""

    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    seq: int

    def pack(self, abi: Abi) -> bytes:
        """The structure: 48 bytes on x86-64, 36 on i386."""
        ids = (self.key, self.uid, self.gid, self.cuid, self.cgid)
        if abi.word == 8:
            return _PERM64[8].pack(*ids, self.mode, self.seq, 0, 0, 0)
        return _PERM64[4].pack(*ids, self.mode & 0xFFFF, 0, self.seq, 0, 0, 0)

    def pack_old(self) -> bytes:
        """A struct ipc_perm, i386 only: 16 bytes."""
        ids = [_narrow(value) for value in (self.uid, self.gid, self.cuid, self.cgid)]
        return _PERM_OLD.pack(self.key, *ids, self.mode & 0xFFFF, self.seq)


def _narrow(value: int) -> int:
    return value if value <= 0xFFFF else _ID16_OVERFLOW


def perm_size(abi: Abi) -> int:
    """Bytes of a struct ipc64_perm."""
    return _PERM64[abi.word].size


def unpack_perm(abi: Abi, data: bytes) -> tuple[int, int, int]:
    """What IPC_SET takes from a struct ipc64_perm: user, group, mode."""
    fields = _PERM64[abi.word].unpack_from(data)
    return fields[1], fields[2], fields[5]


def unpack_perm_old(data: bytes) -> tuple[int, int, int]:
    """The same from a struct ipc_perm; ids have 16 bits, and none of them means -1 (get_compat_ipc_perm)."""
    _, uid, gid, _, _, mode, _ = _PERM_OLD.unpack_from(data)
    return uid, gid, mode
