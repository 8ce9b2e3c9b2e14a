"""Swap: the areas, who refers to a slot, and the swap cache.  Linux: mm/swapfile.c, mm/swap_state.c.

A page that leaves RAM gets a slot; what mapped it says where (``swap_entry.py``), and each of those counts.  A page
that was read back for one of several users, or ahead of time, is in the swap cache: the frame and its slot at once,
until the last reference to the slot goes or the frame is taken again (for free, if nobody wrote to it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, Pfn
from minikernel.abi.errno import Errno, LinuxError
from minikernel.events import MmSwapOut
from minikernel.mm.page import PG_dirty, PG_swapcache
from minikernel.mm.swap_entry import MAX_SWAPFILES, entry_area, entry_offset, make_entry

if TYPE_CHECKING:
    from minikernel.mm.filemap import PageCache
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.page_alloc import Node
    from minikernel.mm.swap_area import SwapArea, SwapStore

SWAP_FLAG_PREFER: Final = 0x8000
_FIRST_PRIORITY: Final = -2  # of areas that did not ask for one: -2, -3, ...


class SwapSpace:
    """All swap of a machine.

    *cache* leads from an entry to its frame, *entry_of* back; such a frame has PG_swapcache and one reference of ours.
    *mms* are the address spaces that have entries, *shmem* the page caches: swapoff looks there (Linux: mmlist,
    shmem_swaplist).

    Invariants: validate(), and validate.validate_swap(), which recounts the references.
    """

    __slots__ = (
        "_node", "areas", "cache", "entry_of", "mms", "order", "page_cluster", "ra_hits", "ra_last_offset", "ra_pages",
        "ra_previous", "shadows", "shmem",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self._node = node
        self.areas: list[SwapArea | None] = []
        self.order: list[SwapArea] = []  # areas in use, from the highest priority; equals take turns
        self.cache: dict[int, Pfn] = {}
        self.entry_of: dict[Pfn, int] = {}
        self.mms: dict[MmStruct, None] = {}
        self.shmem: dict[PageCache, None] = {}
        self.shadows: dict[int, object] = {}  # by entry: what the policy wants to know when the page comes back
        self.page_cluster = 3  # vm.page-cluster: at most 2**n pages are read at once
        self.ra_pages: dict[Pfn, None] = {}  # read ahead and not needed yet
        self.ra_hits = 4  # of the last window; some trust to begin with
        self.ra_last_offset = 0
        self.ra_previous = 1

    # ---- figures

    @property
    def total_pages(self) -> int:
        """SwapTotal (Linux: total_swap_pages)."""
        return sum(area.nr_slots for area in self.order)

    @property
    def nr_free(self) -> int:
        """SwapFree."""
        return sum(area.nr_free for area in self.order)

    @property
    def has_room(self) -> bool:
        """Some slot is free."""
        return any(area.nr_free for area in self.order)

    @property
    def is_half_full(self) -> bool:
        """More than half is in use: a page that was read back gives its slot up at once (vm_swap_full)."""
        return self.nr_free * 2 < self.total_pages

    # ---- areas

    def swapon(self, name: bytes, store: SwapStore, file_pages: int, priority: int | None = None) -> SwapArea:
        """Use the area in *store*, whose header is read and checked (sys_swapon).

        Errors:
            EINVAL: no valid header.  EPERM: too many areas.  EIO: the header cannot be read.
        """
        from minikernel.mm.swap_area import SwapArea, parse_header  # most machines have no swap

        nr_pages, bad = parse_header(store.read_page(0), file_pages)
        if None not in self.areas:
            if len(self.areas) == MAX_SWAPFILES:
                raise LinuxError(Errno.EPERM, "swapon: too many areas")
            self.areas.append(None)
        index = self.areas.index(None)
        if priority is None:
            lowest = min((area.priority for area in self.order), default=0)
            priority = min(lowest - 1, _FIRST_PRIORITY)
        area = SwapArea(index, name, store, nr_pages, bad, priority)
        self.areas[index] = area
        self._enlist(area)
        return area

    def _enlist(self, area: SwapArea) -> None:
        self.order.append(area)
        self.order.sort(key=lambda each: -each.priority)
        self._node.vm_sysctl.total_swap_pages = self.total_pages

    def retire(self, area: SwapArea) -> None:
        """No new page goes to *area* (the first step of swapoff)."""
        self.order.remove(area)
        self._node.vm_sysctl.total_swap_pages = self.total_pages

    def reinstate(self, area: SwapArea) -> None:
        """Swapoff failed: *area* is in use again."""
        self._enlist(area)

    def remove(self, area: SwapArea) -> None:
        """*area* is empty and goes."""
        assert not area.nr_used, f"SwapSpace.remove: {area.nr_used} slots are taken"
        area.store.close()
        self.areas[area.index] = None

    def area_of(self, entry: int) -> SwapArea:
        """The area that *entry* is in."""
        area = self.areas[entry_area(entry)]
        assert area is not None, f"area_of: entry {entry:#x} is of no area"
        return area

    def close(self) -> None:
        """The machine is off: the backing files are given back."""
        for area in self.areas:
            if area is not None:
                area.store.close()

    # ---- slots

    def get_swap_page(self) -> int:
        """An entry for a page that is to go out; 0: swap is full (folio_alloc_swap).  Nobody refers to it yet."""
        for at, area in enumerate(self.order):
            slot = area.take()
            if slot:
                # Areas of one priority take turns: this one goes behind its equals.
                end = at + 1
                while end < len(self.order) and self.order[end].priority == area.priority:
                    end += 1
                if end > at + 1:
                    self.order.insert(end, area)
                    del self.order[at]
                return make_entry(area.index, slot)
        return 0

    def duplicate(self, entry: int) -> None:
        """One more user of *entry* (swap_duplicate)."""
        self.area_of(entry).count[entry_offset(entry)] += 1

    def swap_count(self, entry: int) -> int:
        """Page-table entries and shared-memory pages that refer to *entry*."""
        return self.area_of(entry).count[entry_offset(entry)]

    def free(self, entry: int) -> None:
        """One user of *entry* less; the last one frees the slot, and a cached page that nobody maps (swap_free)."""
        area, slot = self.area_of(entry), entry_offset(entry)
        area.count[slot] -= 1
        assert area.count[slot] >= 0, f"SwapSpace.free: nobody refers to {entry:#x}"
        if area.count[slot]:
            return
        pfn = self.cache.get(entry)
        if pfn is None:
            self._release(area, slot, entry)
        elif not self._node.mem_map.mapcount[pfn]:
            self.delete_from_cache(pfn)

    def release(self, entry: int) -> None:
        """*entry* was taken and is not wanted: nobody refers to it."""
        self._release(self.area_of(entry), entry_offset(entry), entry)

    def _release(self, area: SwapArea, slot: int, entry: int) -> None:
        self.shadows.pop(entry, None)
        area.release(slot)

    # ---- the swap cache

    def add_to_cache(self, pfn: Pfn, entry: int) -> None:
        """Frame *pfn* holds what *entry* does; the cache takes a reference (add_to_swap_cache)."""
        assert entry not in self.cache, f"add_to_cache: {entry:#x} is cached"
        mem_map = self._node.mem_map
        mem_map.refcount[pfn] += 1
        mem_map.flags[pfn] |= PG_swapcache
        self.cache[entry] = pfn
        self.entry_of[pfn] = entry

    def delete_from_cache(self, pfn: Pfn) -> None:
        """Forget the slot of *pfn*; it is freed if nobody refers to it, and so is the frame."""
        entry = self.entry_of.pop(pfn)
        del self.cache[entry]
        self.ra_pages.pop(pfn, None)
        node = self._node
        # The frame may be newer than the slot ever was: it has to be written if it goes out again.
        node.mem_map.flags[pfn] = node.mem_map.flags[pfn] & ~PG_swapcache | PG_dirty
        area, slot = self.area_of(entry), entry_offset(entry)
        if not area.count[slot]:
            self._release(area, slot, entry)
        node.put_page(pfn)

    def free_unused(self, pfn: Pfn) -> None:
        """*pfn* lost a mapping: if it was the last and its slot has no user, the cache lets go (free_swap_cache)."""
        if not self._node.mem_map.mapcount[pfn] and not self.swap_count(self.entry_of[pfn]):
            self.delete_from_cache(pfn)

    # ---- contents

    def write_page(self, pfn: Pfn, entry: int) -> None:
        """Write frame *pfn* to the slot of *entry* (swap_writepage).

        Errors:
            EIO, ENOSPC.
        """
        node = self._node
        phys = pfn << PAGE_SHIFT
        data = node.physmem.ram[phys : phys + PAGE_SIZE]
        self.area_of(entry).write(entry_offset(entry), data)
        node.vmstat["pswpout"] += 1
        if node.tracer.sink is not None:
            node.tracer.emit(MmSwapOut(pfn, entry))
        node.spend_io()

    def read_page(self, pfn: Pfn, entry: int) -> None:
        """Fill frame *pfn* from the slot of *entry* (swap_read_folio).

        Errors:
            EIO.
        """
        data = self.area_of(entry).read(entry_offset(entry))
        phys = pfn << PAGE_SHIFT
        node = self._node
        node.physmem.ram[phys : phys + PAGE_SIZE] = data
        node.vmstat["pswpin"] += 1
        node.spend_io()

    def validate(self) -> None:
        """Assert that slots, the cache and the frames agree."""
        mem_map = self._node.mem_map
        cached = {area: 0 for area in self.areas if area is not None}
        assert len(self.cache) == len(self.entry_of), "SwapSpace.validate: the two ways of the cache differ"
        for entry, pfn in self.cache.items():
            where = f"SwapSpace.validate: entry {entry:#x}, frame {pfn:#x}"
            assert self.entry_of.get(pfn) == entry, f"{where}: no way back"
            assert mem_map.flags[pfn] & PG_swapcache, f"{where}: flags {mem_map.flags[pfn]:#x}"
            cached[self.area_of(entry)] += not self.swap_count(entry)
        for area, unreferenced in cached.items():
            area.validate()
            used = sum(1 for count in area.count if count) + unreferenced
            assert used == area.nr_used, f"SwapSpace.validate: {area.nr_used} slots are taken, {used} are used"
