"""Directory entries as getdents gives them.

Source: include/linux/dirent.h, fs/readdir.c (struct linux_dirent, compat_linux_dirent, linux_dirent64).
"""

from struct import Struct
from typing import Final

DT_UNKNOWN: Final = 0
DT_FIFO: Final = 1
DT_CHR: Final = 2
DT_DIR: Final = 4
DT_BLK: Final = 6
DT_REG: Final = 8
DT_LNK: Final = 10
DT_SOCK: Final = 12

_HEAD64: Final = Struct("<QqHB")
_HEAD_X86_64: Final = Struct("<QQH")
_HEAD_I386: Final = Struct("<IIH")


def pack_dirent64(ino: int, offset: int, kind: int, name: bytes) -> bytes:
    """Packed struct linux_dirent64; *offset* is where the next entry is found."""
    length = (19 + len(name) + 1 + 7) & ~7
    return _HEAD64.pack(ino, offset, length, kind) + name.ljust(length - 19, b"\0")


def pack_dirent(ino: int, offset: int, kind: int, name: bytes, word: int) -> bytes:
    """Packed struct linux_dirent for a *word* of 4 or 8 bytes: the type is the record's last byte."""
    head = 2 * word + 2
    length = (head + len(name) + 2 + word - 1) & ~(word - 1)
    packer = _HEAD_X86_64 if word == 8 else _HEAD_I386
    return packer.pack(ino, offset, length) + name.ljust(length - head - 1, b"\0") + bytes((kind,))
