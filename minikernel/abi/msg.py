"""System V message queues as programs see them.

Source: include/uapi/linux/msg.h, include/uapi/asm-generic/msgbuf.h, include/linux/compat.h (compat_msqid64_ds).
"""

from struct import Struct
from typing import Final, NamedTuple

from minikernel.abi.abi import Abi
from minikernel.abi.ipc import Ipc64Perm

MSGMNI: Final = 32000  # queues
MSGMAX: Final = 8192  # bytes of a message
MSGMNB: Final = 16384  # bytes in a queue
MSGPOOL: Final = MSGMNI * MSGMNB // 1024
_MSGSSZ: Final = 16
_MSGSEG: Final = 0xFFFF

# msgrcv: beside IPC_NOWAIT
MSG_NOERROR: Final = 0o10000
MSG_EXCEPT: Final = 0o20000
MSG_COPY: Final = 0o40000

# msgctl: beside IPC_*
MSG_STAT: Final = 11
MSG_INFO: Final = 12
MSG_STAT_ANY: Final = 13

_REST: Final = {8: Struct("<QQQQQQii16x"), 4: Struct("<QQQIIIii8x")}
_REST_OLD: Final = Struct("<8xIIIIIHHHHHxx")
_INFO: Final = Struct("<7iHxx")


class MsqidDs(NamedTuple):
    """What IPC_STAT tells of a queue: struct msqid64_ds.  Times in seconds."""

    perm: Ipc64Perm
    stime: int
    rtime: int
    ctime: int
    cbytes: int
    qnum: int
    qbytes: int
    lspid: int
    lrpid: int

    def pack(self, abi: Abi) -> bytes:
        """The structure: 120 bytes on x86-64, 88 on i386."""
        return self.perm.pack(abi) + _REST[abi.word].pack(*self[1:])

    def pack_old(self) -> bytes:
        """A struct msqid_ds, i386 only: 56 bytes."""
        times = (self.stime & 0xFFFF_FFFF, self.rtime & 0xFFFF_FFFF, self.ctime & 0xFFFF_FFFF)
        small = [min(value, 0xFFFF) for value in (self.cbytes, self.qnum, self.qbytes)]
        pids = (self.lspid & 0xFFFF, self.lrpid & 0xFFFF)
        return self.perm.pack_old() + _REST_OLD.pack(*times, self.cbytes, self.qbytes, *small, *pids)


def msqid_ds_size(abi: Abi, perm_size: int, *, old: bool) -> int:
    """Bytes of the structure."""
    return 16 + _REST_OLD.size if old else perm_size + _REST[abi.word].size


def unpack_qbytes(abi: Abi, data: bytes, perm_size: int, *, old: bool) -> int:
    """What IPC_SET takes besides the permissions: the most bytes that the queue may hold."""
    if old:
        fields = _REST_OLD.unpack_from(data, 16)
        return int(fields[7]) or int(fields[4])
    return int(_REST[abi.word].unpack_from(data, perm_size)[5])


def pack_msginfo(pool: int, mapped: int, limits: tuple[int, int, int], total: int) -> bytes:
    """Struct msginfo; *limits*: msgmax, msgmnb, msgmni."""
    return _INFO.pack(pool, mapped, *limits, _MSGSSZ, total, _MSGSEG)
