"""Memory whose accesses stop the CPU: data breakpoints, as many and as long as one likes.  See native/watch.c."""

import ctypes
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from emu.x86 import VirtAddr

READ: Final = 1
WRITE: Final = 2


class WatchKind(Enum):
    """What a watch's address means."""

    LINEAR = 0  # linear addresses, under one root of page tables
    PHYSICAL = 1  # physical addresses, whichever linear ones they are reached by
    ENTRY = 2  # physical address of an entry of a page table; the walk's writes of A and D count


class Watch(NamedTuple):
    """*size* bytes at *address*; *access* is READ, WRITE or both (an ENTRY's is WRITE)."""

    kind: WatchKind
    address: int
    size: int
    access: int
    root: int = 0  # of LINEAR


class Hit(NamedTuple):
    """An access of *size* bytes at the linear *address* that touched *watch*; of an ENTRY, the page that was walked to.

    *old* is what was there before, eight bytes at most.  A load that is not aligned to its size counts as the two
    aligned ones that it lies in: the engine asks no closer.
    """

    watch: Watch
    access: int  # READ or WRITE
    address: VirtAddr
    size: int
    old: int


class _Watch(ctypes.Structure):
    """struct machine_watch (native/machine.h)."""

    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("access", ctypes.c_uint32),
        ("root", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("old", ctypes.c_uint64),
    )


class _Hit(ctypes.Structure):
    """struct watch_hit."""

    _fields_ = (
        ("watch", ctypes.c_uint32),
        ("access", ctypes.c_uint32),
        ("address", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
        ("old", ctypes.c_uint64),
    )


def pack(watches: Sequence[Watch]) -> Any:
    """An array of struct machine_watch."""
    return (_Watch * len(watches))(*(_Watch(w.kind.value, w.access, w.root, w.address, w.size, 0) for w in watches))


def unpack(address: int, number: int, watches: Sequence[Watch]) -> list[Hit]:
    """The *number* structs watch_hit at *address* of the host's memory."""
    raw = (_Hit * number).from_address(address)
    return [Hit(watches[hit.watch], hit.access, VirtAddr(hit.address), hit.size, hit.old) for hit in raw]
