"""One swap area: its header, its slots and its backing file.  Linux: mm/swapfile.c, include/linux/swap.h.

The file has the format of mkswap(8), version 1: a page of header, whose last ten bytes are SWAPSPACE2, then a page for
each slot.  Contents go through a ``SwapStore``; every page written is remembered by its checksum, so that a damaged one
is noticed when it is read, and costs the process that needs it a signal instead of giving it another's bytes.
"""

import struct
from array import array
from typing import Final, Protocol
from zlib import crc32

from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.swap_entry import MAX_OFFSET

MAGIC: Final = b"SWAPSPACE2"
_VERSION: Final = 1
_HEADER: Final = struct.Struct("<1024xIII16s16s")  # boot block, version, last_page, nr_badpages, uuid, label
_BAD_PAGES: Final = 1024 + 12 + 32 + 117 * 4  # where the list of bad pages starts
_MAX_BAD_PAGES: Final = (PAGE_SIZE - len(MAGIC) - _BAD_PAGES) // 4
_MIN_PAGES: Final = 10  # mkswap(8) makes none smaller


class SwapStore(Protocol):
    """Where a swap area's bytes are.  *index* is in pages."""

    def read_page(self, index: int) -> bytes:
        """PAGE_SIZE bytes; fewer is a short read, and an error to whoever needs the page.

        Errors:
            EIO: it cannot be read.
        """
        ...

    def write_page(self, index: int, data: bytes) -> None:
        """Store a page.

        Errors:
            EIO, ENOSPC: it cannot be written.
        """
        ...

    def close(self) -> None:
        """The area is off: give back what was held."""
        ...


def make_header(nr_pages: int, *, label: bytes = b"", uuid: bytes = bytes(16)) -> bytes:
    """The first page of an area of *nr_pages* pages in all, as mkswap(8) writes it.

    Errors:
        EINVAL: too small for one slot, or larger than an entry can name.
    """
    if not _MIN_PAGES <= nr_pages <= MAX_OFFSET + 1:
        raise LinuxError(Errno.EINVAL, f"a swap area has from {_MIN_PAGES} to {MAX_OFFSET + 1} pages, not {nr_pages}")
    page = _HEADER.pack(_VERSION, nr_pages - 1, 0, uuid, label[:16])
    return page.ljust(PAGE_SIZE - len(MAGIC), b"\0") + MAGIC


def parse_header(page: bytes, file_pages: int) -> tuple[int, list[int]]:
    """The number of pages, header included, and the bad ones, of an area whose first page is *page*.

    Linux: mm/swapfile.c, read_swap_header.

    Errors:
        EINVAL: no swap header, of another version or byte order, or larger than the file.
    """
    if len(page) < PAGE_SIZE or not page.endswith(MAGIC):
        raise LinuxError(Errno.EINVAL, "there is no swap header")
    version, last_page, nr_bad, _, _ = _HEADER.unpack_from(page)
    if version != _VERSION:
        raise LinuxError(Errno.EINVAL, f"a swap header of version {version}, not {_VERSION}")
    if not last_page:
        raise LinuxError(Errno.EINVAL, "an empty swap area")
    if last_page + 1 > file_pages:
        raise LinuxError(Errno.EINVAL, f"the swap area has {last_page + 1} pages, its file {file_pages}")
    if nr_bad > _MAX_BAD_PAGES:
        raise LinuxError(Errno.EINVAL, f"the swap header lists {nr_bad} bad pages, it has room for {_MAX_BAD_PAGES}")
    bad = list(struct.unpack_from(f"<{nr_bad}I", page, _BAD_PAGES))
    if any(not 0 < index <= last_page for index in bad):
        raise LinuxError(Errno.EINVAL, "the swap header lists a bad page that the area does not have")
    return min(last_page, MAX_OFFSET) + 1, bad


class SwapArea:
    """Slots of one area, by page number; 0 is the header.

    *count* has, by slot, how many page-table entries and shared-memory pages refer to it; a slot that nobody refers to
    may still be taken, by the swap cache.

    Invariants, checked by validate():
        - a slot is taken if it is the header, bad, referred to, or in the swap cache (SwapSpace knows that);
        - nr_free equals the slots that are not taken.
    """

    __slots__ = (
        "_cluster_next", "_taken", "bad", "checksums", "count", "index", "name", "nr_free", "nr_pages", "priority",
        "store",
    )  # fmt: skip

    def __init__(self, index: int, name: bytes, store: SwapStore, nr_pages: int, bad: list[int], priority: int) -> None:
        self.index = index  # the type in its entries
        self.name = name
        self.store = store
        self.nr_pages = nr_pages  # the header included
        self.priority = priority
        self.bad = frozenset(bad)
        self.count = array("i", bytes(4 * nr_pages))
        self.checksums = array("I", bytes(4 * nr_pages))
        self._taken = bytearray(nr_pages)
        for slot in (0, *self.bad):
            self._taken[slot] = 1
        self.nr_free = nr_pages - 1 - len(self.bad)
        self._cluster_next = 1

    @property
    def nr_slots(self) -> int:
        """Usable pages: what /proc/swaps shows as Size."""
        return self.nr_pages - 1 - len(self.bad)

    @property
    def nr_used(self) -> int:
        """Slots taken."""
        return self.nr_slots - self.nr_free

    def take(self) -> int:
        """A free slot, behind the one taken last where possible, so that what goes out together lies together; or 0."""
        slot = self._taken.find(0, self._cluster_next)
        if slot < 0:
            slot = self._taken.find(0)
            if slot < 0:
                return 0
        self._taken[slot] = 1
        self.nr_free -= 1
        self._cluster_next = slot + 1
        return slot

    def release(self, slot: int) -> None:
        """Nobody has *slot* any more."""
        assert self._taken[slot], f"SwapArea.release: slot {slot} is free"
        assert not self.count[slot], f"SwapArea.release: slot {slot} is referred to {self.count[slot]} times"
        self._taken[slot] = 0
        self.nr_free += 1

    def is_taken(self, slot: int) -> bool:
        """Whether *slot* holds, or is about to hold, a page."""
        return bool(self._taken[slot]) and slot != 0 and slot not in self.bad

    def write(self, slot: int, data: bytes) -> None:
        """Store a page.

        Errors:
            EIO, ENOSPC: of the backing file.
        """
        self.store.write_page(slot, data)
        self.checksums[slot] = crc32(data)

    def read(self, slot: int) -> bytes:
        """The page in *slot*.

        Errors:
            EIO: the backing file cannot be read, is too short, or has other bytes than were written.
        """
        data = self.store.read_page(slot)
        if len(data) != PAGE_SIZE:
            raise LinuxError(Errno.EIO, f"a short read of swap: {len(data)} bytes of page {slot}")
        if crc32(data) != self.checksums[slot]:
            raise LinuxError(Errno.EIO, f"page {slot} of swap is damaged")
        return data

    def validate(self) -> None:
        """Assert the class's invariants that need no swap cache."""
        free = self._taken.count(0)
        assert free == self.nr_free, f"SwapArea.validate: {free} slots are free, {self.nr_free} counted"
        for slot, count in enumerate(self.count):
            assert not count or self.is_taken(slot), f"SwapArea.validate: slot {slot} is referred to and free"
            assert count >= 0, f"SwapArea.validate: slot {slot} has {count} references"
