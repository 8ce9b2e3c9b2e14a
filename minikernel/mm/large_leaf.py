"""Large leaves of a page table: entries that map 2 MiB (4 MiB in the 2-level mode).  Linux: mm/huge_memory.c.

A *large leaf* is an entry of the last level but one that maps a block of frames by itself.  To callers of PageTable it
is an abbreviation: ``get`` and ``entries`` give the 4 KiB entries it is equivalent to, and whoever changes one of them
gets a table of them all first (split_large).  That never fails, as the table is there all the time, empty and unlinked,
beneath the leaf (Linux: pgtable_trans_huge_deposit).
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable
from typing import Final

from emu.paging import PagingMode
from emu.x86 import (
    PAGE_SHIFT,
    PAGE_SIZE,
    PTE_A,
    PTE_ADDR,
    PTE_D,
    PTE_P,
    PTE_PS,
    PTE_RW,
    PTE_SOFT1,
    Pfn,
    VirtAddr,
)
from minikernel.mm.kernel_half import TABLE_FLAGS, root_table_flags
from minikernel.mm.page import PG_table
from minikernel.mm.page_alloc import Node

PTE_SPECIAL: Final = PTE_SOFT1  # maps a frame without reference or mapcount: the zero page (Linux: _PAGE_SPECIAL)

_ZEROES: Final = bytes(PAGE_SIZE)


class LargeLeaves(ABC):
    """The part of PageTable that knows large leaves; the rest of it is in pgtable.py.

    *large* has the keys of ``_leaf``, the dict of tables of 4 KiB entries, and names the table beneath each large leaf;
    it is false if there is none.

    Invariants, checked by PageTable.validate(): RAM has exactly these leaves, and the tables beneath are empty.
    """

    __slots__ = ()

    node: Node
    mode: PagingMode
    large: dict[int, int]
    _entry_shift: int
    _index_mask: int
    _leaf: dict[int, int]
    _leaf_shift: int
    _tables: tuple[dict[int, int], ...]
    _view: "memoryview[int]"

    @abstractmethod
    def _descend(self, address: int, depth: int) -> int | None: ...

    @abstractmethod
    def _free_table(self, depth: int, key: int) -> None: ...

    @abstractmethod
    def _items(self, region: int, start: int, end: int) -> "zip[tuple[VirtAddr, int]]": ...

    @property
    def large_size(self) -> int:
        """What a large leaf maps, in bytes."""
        return 1 << self._leaf_shift

    def get_large(self, address: int) -> int:
        """The large leaf that maps *address*, as in RAM; 0 if none does."""
        key = address >> self._leaf_shift
        return self._view[self._large_slot(key)] if key in self.large else 0

    def is_last_of_leaf(self, address: int) -> bool:
        """Whether no large leaf maps both the page at *address* and the one behind it."""
        return not ~address & (self.large_size - PAGE_SIZE) or not self.get_large(address)

    def has_table(self, address: int) -> bool:
        """Whether there is a table of 4 KiB entries, empty or not, for *address* (Linux: not pmd_none)."""
        return address >> self._leaf_shift in self._leaf

    def set_large(self, address: int, pte: int) -> bool:
        """Map the aligned range at *address* by one large leaf with the bits of *pte*, whose frame is aligned as well.

        There is a large leaf already, or no entry at all.  False: no memory for a table.
        """
        key = address >> self._leaf_shift
        assert not (address | (pte & PTE_ADDR)) & ((1 << self._leaf_shift) - 1), f"set_large: {pte:#x} at {address:#x}"
        if key not in self.large:
            if key not in self._leaf and self._descend(address, len(self._tables) - 1) is None:
                return False
            mapped = any(entry for _, entry in self._items(key, address, address + self.large_size))
            assert not mapped, f"set_large: pages are mapped at {address:#x}"
            self.large[key] = self._leaf.pop(key)
        self._view[self._large_slot(key)] = pte | PTE_PS
        return True

    def clear_large(self, address: int) -> int:
        """Remove the large leaf at *address*, and the table beneath it; what it was."""
        key = address >> self._leaf_shift
        slot = self._large_slot(key)
        old = self._view[slot]
        self._leaf[key] = self.large.pop(key)
        self._free_table(len(self._tables) - 1, key)
        return old

    def split_large(self, address: int) -> bool:
        """Put a table of entries in the place of the large leaf that maps *address*; False if there is none.

        Linux: __split_huge_pmd.  Every page keeps its frame, its rights and its accessed and dirty bits.
        """
        key = address >> self._leaf_shift
        if key not in self.large:
            return False
        ptes = self._large_ptes(key)
        slot = self._large_slot(key)
        base = self._leaf[key] = self.large.pop(key)
        self._view[base : base + len(ptes)] = memoryview(ptes)
        flags = TABLE_FLAGS if len(self._tables) > 2 else root_table_flags(self.mode)
        self._view[slot] = base << self._entry_shift | flags
        self.node.vmstat["thp_split_pmd"] += 1
        return True

    def split_at(self, address: int) -> None:
        """Split a large leaf that *address* lies inside of, not at the start: a mapping is to begin or end there."""
        if self.large and address & (self.large_size - 1):
            self.split_large(address)

    def large_leaves(self, start: int, end: int) -> list[tuple[VirtAddr, int]]:
        """Addresses and entries of the large leaves that lie in [start, end) as a whole, in order."""
        if not self.large:
            return []
        shift = self._leaf_shift
        keys = sorted(key for key in self.large if start <= key << shift and (key + 1) << shift <= end)
        return [(VirtAddr(key << shift), self._view[self._large_slot(key)]) for key in keys]

    def _large_slot(self, key: int) -> int:
        """Index in the view of the entry that is, or links, what *key* names in _leaf and _large."""
        above = self.mode.levels[-2]
        return self._tables[-2][key >> above.bits] + (key & ((1 << above.bits) - 1))

    def _large_ptes(self, key: int) -> "array[int]":
        """The 4 KiB entries that a large leaf is equivalent to; those of the huge zero page show the zero page."""
        leaf = self._view[self._large_slot(key)] & ~PTE_PS
        count = self._index_mask + 1
        code = "Q" if self._entry_shift == 3 else "I"
        if leaf & PTE_SPECIAL:
            return array(code, [leaf & ~PTE_ADDR | self.node.zero_pfn << PAGE_SHIFT]) * count
        return array(code, range(leaf, leaf + (count << PAGE_SHIFT), PAGE_SIZE))

    def _get_in_large(self, address: int) -> int:
        """get(), where there is no table."""
        key = address >> self._leaf_shift
        if key not in self.large:
            return 0
        leaf = self._view[self._large_slot(key)] & ~PTE_PS
        if leaf & PTE_SPECIAL:
            return leaf & ~PTE_ADDR | self.node.zero_pfn << PAGE_SHIFT
        return leaf + (address >> PAGE_SHIFT & self._index_mask) * PAGE_SIZE

    def _set_in_large(self, address: int, pte: int) -> bool:
        """set(), where there is no table: whether that was all.  Otherwise the leaf, if there is one, is split.

        A leaf has one accessed and one dirty bit for all its pages.  A is a hint, and may come and go with any page;
        D may come, as too many dirty pages do no harm, but not go.
        """
        key = address >> self._leaf_shift
        if key not in self.large:
            return False
        changed = self._get_in_large(address) ^ pte
        if changed & ~PTE_A and (changed & ~(PTE_A | PTE_D) or not pte & PTE_D):
            self.split_large(address)
            self._view[self._leaf[key] + (address >> PAGE_SHIFT & self._index_mask)] = pte
        else:
            self._view[self._large_slot(key)] ^= changed
        return True

    def _clear_in_large(self, key: int, start: int, end: int, found: list[tuple[VirtAddr, int]]) -> bool:
        """clear_range() of a region with a large leaf: done if it goes as a whole, otherwise split."""
        address = key << self._leaf_shift
        if start > address or end < address + self.large_size:
            self.split_large(address)
            return False
        found += self._items(key, start, end)
        self.clear_large(address)
        return True

    def _fork_large(self, dst: "LargeLeaves", key: int, start: int, end: int, *, wrprotect: bool) -> Iterable[Pfn]:
        """copy_range() of one large leaf; the frames that need another reference (Linux: copy_huge_pmd)."""
        address = key << self._leaf_shift
        assert start <= address <= address + self.large_size <= end, f"copy_range: half of a large leaf at {address:#x}"
        slot = self._large_slot(key)
        leaf = self._view[slot]
        if wrprotect:
            leaf &= ~PTE_RW
            self._view[slot] = leaf
        made = dst.set_large(address, leaf & ~(PTE_A if wrprotect else PTE_A | PTE_D))
        assert made, "copy_range: the table beneath a large leaf is gone"
        if leaf & PTE_SPECIAL:
            return ()
        first = (leaf & PTE_ADDR) >> PAGE_SHIFT
        return range(first, first + self._index_mask + 1)  # type: ignore[return-value]  # ints of a range of Pfn

    def _validate_large(self, key: int) -> None:
        """Assert that a large leaf in RAM is a listed one, and that there is an empty table of ours beneath it."""
        where = f"PageTable.validate: the large leaf at {key << self._leaf_shift:#x}"
        assert key in self.large, f"{where} is not listed"
        assert key not in self._leaf, f"{where} has a table as well"
        entry = self._view[self._large_slot(key)]
        assert entry & PTE_P, f"{where} is not present"
        assert not entry & PTE_ADDR & (self.large_size - 1), f"{where} maps a block that is not aligned: {entry:#x}"
        phys = self.large[key] << self._entry_shift
        pfn = phys >> PAGE_SHIFT
        mem_map = self.node.mem_map
        assert mem_map.flags[pfn] & PG_table, f"{where}: frame {pfn:#x} beneath is no table"
        assert mem_map.owner[pfn] is self, f"{where}: the table beneath is of another"
        assert mem_map.refcount[pfn] == 1, f"{where}: the table beneath has {mem_map.refcount[pfn]} references"
        assert self.node.physmem.ram[phys : phys + PAGE_SIZE] == _ZEROES, f"{where}: the table beneath is not empty"
