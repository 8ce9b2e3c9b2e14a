"""Packed struct statfs and file system magic numbers.

Source: include/uapi/asm-generic/statfs.h, arch/x86/include/asm/compat.h, include/uapi/linux/magic.h.
"""

from struct import Struct
from typing import Final

from minikernel.abi.errno import Errno, LinuxError

TMPFS_MAGIC: Final = 0x01021994
PROC_SUPER_MAGIC: Final = 0x9FA0
PIPEFS_MAGIC: Final = 0x50495045
SOCKFS_MAGIC: Final = 0x534F434B
ANON_INODE_FS_MAGIC: Final = 0x09041934
EXT4_SUPER_MAGIC: Final = 0xEF53
SYSFS_MAGIC: Final = 0x62656572
DEVPTS_SUPER_MAGIC: Final = 0x1CD1

ST_RDONLY: Final = 0x0001
ST_NOSUID: Final = 0x0002
ST_NODEV: Final = 0x0004
ST_NOEXEC: Final = 0x0008
ST_VALID: Final = 0x0020
ST_NOATIME: Final = 0x0400
ST_RELATIME: Final = 0x1000

_STATFS_X86_64: Final = Struct("<qqQQQQQiiqqq32x")
_STATFS_I386: Final = Struct("<IIIIIIIiiIII16x")
_STATFS64_I386: Final = Struct("<IIQQQQQiiIII16x")


class Kstatfs:
    """What statfs(2) tells: struct kstatfs.  *blocks*, *bfree*, *bavail* are in units of *bsize* bytes."""

    __slots__ = ("bavail", "bfree", "blocks", "bsize", "ffree", "files", "flags", "fsid", "kind", "namelen")

    def __init__(self, kind: int, *, blocks: int = 0, bfree: int = 0, bavail: int = 0, fsid: int = 0) -> None:
        self.kind = kind
        self.bsize = 4096
        self.blocks = blocks
        self.bfree = bfree
        self.bavail = bavail
        self.files = 0
        self.ffree = 0
        self.fsid = fsid
        self.namelen = 255
        self.flags = 0


def pack_statfs_x86_64(st: Kstatfs) -> bytes:
    """Packed struct statfs of x86-64: 120 bytes."""
    return _STATFS_X86_64.pack(st.kind, *_common(st))


def pack_statfs_i386(st: Kstatfs) -> bytes:
    """Packed struct statfs of i386: 64 bytes.  Errors: EOVERFLOW if a count does not fit."""
    if (st.blocks | st.bfree | st.bavail) > 0xFFFF_FFFF or max(st.files, st.ffree) > 0xFFFF_FFFF:
        raise LinuxError(Errno.EOVERFLOW, "the file system does not fit struct statfs of 32 bits")
    return _STATFS_I386.pack(st.kind, *_common(st))


def pack_statfs64_i386(st: Kstatfs) -> bytes:
    """Packed struct statfs64 of i386: 84 bytes (packed)."""
    return _STATFS64_I386.pack(st.kind, *_common(st))


def _common(st: Kstatfs) -> tuple[int, ...]:
    low = st.fsid & 0xFFFF_FFFF
    high = st.fsid >> 32 & 0xFFFF_FFFF
    return (
        st.bsize,
        st.blocks,
        st.bfree,
        st.bavail,
        st.files,
        st.ffree,
        low - (low >> 31 << 32),
        high - (high >> 31 << 32),
        st.namelen,
        st.bsize,
        st.flags | ST_VALID,
    )
