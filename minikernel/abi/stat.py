"""File modes, device numbers and the stat family's structs.

Source: include/uapi/linux/stat.h, arch/x86/include/uapi/asm/stat.h, arch/x86/include/asm/compat.h,
fs/stat.c (cp_new_stat, cp_new_stat64, cp_statx), fs/compat.c (cp_compat_stat).
"""

from struct import Struct
from typing import Final

from minikernel.abi.errno import Errno, LinuxError

S_IFMT: Final = 0o170000
S_IFSOCK: Final = 0o140000
S_IFLNK: Final = 0o120000
S_IFREG: Final = 0o100000
S_IFBLK: Final = 0o060000
S_IFDIR: Final = 0o040000
S_IFCHR: Final = 0o020000
S_IFIFO: Final = 0o010000
S_ISUID: Final = 0o4000
S_ISGID: Final = 0o2000
S_ISVTX: Final = 0o1000
S_IXGRP: Final = 0o010
S_IALLUGO: Final = 0o7777
S_IRWXUGO: Final = 0o777

# statx(2): stx_mask and stx_attributes.
STATX_BASIC_STATS: Final = 0x7FF
STATX_BTIME: Final = 0x800
STATX_MNT_ID: Final = 0x1000
STATX_RESERVED: Final = 0x8000_0000
STATX_ATTR_MOUNT_ROOT: Final = 0x2000

NSEC_PER_SEC: Final = 1_000_000_000
MAX_NON_LFS: Final = (1 << 31) - 1  # the largest file an off_t of 32 bits can address

_STAT_X86_64: Final = Struct("<QQQIIIIQqqqqQqQqQ24x")
_STAT_I386: Final = Struct("<IIHHHHIIIIIIIIII8x")
_STAT64_I386: Final = Struct("<Q4xIIIIIQ4xqIQIIIIIIQ")
_OLD_STAT_I386: Final = Struct("<HHHHHHHxxIIII")
_STATX: Final = Struct("<IIQIIIHxxQQQQqIxxxxqIxxxxqIxxxxqIxxxxIIIIQ104x")


def makedev(major: int, minor: int) -> int:
    """The device number as user space sees it: new_encode_dev (include/linux/kdev_t.h)."""
    return (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)


def dev_major(dev: int) -> int:
    """Major number of *dev*."""
    return (dev >> 8) & 0xFFF


def dev_minor(dev: int) -> int:
    """Minor number of *dev*."""
    return (dev & 0xFF) | ((dev >> 12) & 0xFFF00)


class Kstat:
    """What stat(2) tells about an inode: struct kstat.  Times in ns since the epoch, *blocks* of 512 bytes."""

    __slots__ = (
        "atime",
        "blksize",
        "blocks",
        "btime",
        "ctime",
        "dev",
        "gid",
        "ino",
        "mnt_id",
        "mode",
        "mtime",
        "nlink",
        "rdev",
        "root",
        "size",
        "uid",
    )

    def __init__(self, *, dev: int, ino: int, mode: int, nlink: int, uid: int, gid: int, rdev: int, size: int) -> None:
        self.dev = dev
        self.ino = ino
        self.mode = mode
        self.nlink = nlink
        self.uid = uid
        self.gid = gid
        self.rdev = rdev
        self.size = size
        self.blksize = 4096
        self.blocks = 0
        self.atime = 0
        self.mtime = 0
        self.ctime = 0
        self.btime: int | None = None
        self.mnt_id = 0
        self.root = False


def pack_stat_x86_64(st: Kstat) -> bytes:
    """Packed struct stat of x86-64: 144 bytes."""
    return _STAT_X86_64.pack(
        st.dev,
        st.ino,
        st.nlink,
        st.mode,
        st.uid,
        st.gid,
        0,
        st.rdev,
        st.size,
        st.blksize,
        st.blocks,
        *_split(st.atime),
        *_split(st.mtime),
        *_split(st.ctime),
    )


def pack_stat_i386(st: Kstat) -> bytes:
    """Packed struct stat of i386: 64 bytes.

    Errors:
        EOVERFLOW: inode number, link count or size does not fit.
    """
    if st.ino > 0xFFFF_FFFF or st.nlink > 0xFFFF or st.size > MAX_NON_LFS:
        raise LinuxError(Errno.EOVERFLOW, "the file does not fit struct stat of 32 bits")
    return _STAT_I386.pack(
        st.dev,
        st.ino,
        st.mode,
        st.nlink,
        high2lowid(st.uid),
        high2lowid(st.gid),
        st.rdev,
        st.size,
        st.blksize,
        st.blocks & 0xFFFF_FFFF,
        *_split32(st.atime),
        *_split32(st.mtime),
        *_split32(st.ctime),
    )


def pack_stat64_i386(st: Kstat) -> bytes:
    """Packed struct stat64 of i386: 96 bytes."""
    return _STAT64_I386.pack(
        st.dev,
        st.ino & 0xFFFF_FFFF,
        st.mode,
        st.nlink & 0xFFFF_FFFF,
        st.uid,
        st.gid,
        st.rdev,
        st.size,
        st.blksize,
        st.blocks,
        *_split32(st.atime),
        *_split32(st.mtime),
        *_split32(st.ctime),
        st.ino,
    )


def pack_old_stat(st: Kstat) -> bytes:
    """Packed struct __old_kernel_stat of i386: 32 bytes.  Errors: EOVERFLOW."""
    if st.ino > 0xFFFF or st.nlink > 0xFFFF or st.size > MAX_NON_LFS:
        raise LinuxError(Errno.EOVERFLOW, "the file does not fit struct __old_kernel_stat")
    return _OLD_STAT_I386.pack(
        st.dev & 0xFFFF,
        st.ino,
        st.mode,
        st.nlink,
        high2lowid(st.uid),
        high2lowid(st.gid),
        st.rdev & 0xFFFF,
        st.size,
        st.atime // NSEC_PER_SEC & 0xFFFF_FFFF,
        st.mtime // NSEC_PER_SEC & 0xFFFF_FFFF,
        st.ctime // NSEC_PER_SEC & 0xFFFF_FFFF,
    )


def pack_statx(st: Kstat) -> bytes:
    """Packed struct statx: 256 bytes, the same on both ABIs."""
    btime = 0 if st.btime is None else st.btime
    return _STATX.pack(
        STATX_BASIC_STATS | STATX_MNT_ID | (0 if st.btime is None else STATX_BTIME),
        st.blksize,
        STATX_ATTR_MOUNT_ROOT if st.root else 0,
        st.nlink & 0xFFFF_FFFF,
        st.uid,
        st.gid,
        st.mode,
        st.ino,
        st.size,
        st.blocks,
        STATX_ATTR_MOUNT_ROOT,
        *_split(st.atime),
        *_split(btime),
        *_split(st.ctime),
        *_split(st.mtime),
        dev_major(st.rdev),
        dev_minor(st.rdev),
        dev_major(st.dev),
        dev_minor(st.dev),
        st.mnt_id,
    )


def high2lowid(value: int) -> int:
    """A user or group number as 16 bits; 65534 if it does not fit (include/linux/highuid.h)."""
    return value if value <= 0xFFFF else 65534


def _split(time_ns: int) -> tuple[int, int]:
    return divmod(time_ns, NSEC_PER_SEC)


def _split32(time_ns: int) -> tuple[int, int]:
    seconds, nanoseconds = divmod(time_ns, NSEC_PER_SEC)
    return seconds & 0xFFFF_FFFF, nanoseconds
