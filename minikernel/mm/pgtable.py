"""The page table of one address space: tables in guest RAM that the CPU walks (Linux: mm/memory.c, pgtable.h).

One code for the 2-level, PAE, 4-level and 5-level modes, driven by the levels of a PagingMode.  RAM is the truth;
beside it a dict per level remembers which tables exist, so that reading or writing an entry is one look-up and
one access to RAM, and nothing ever has to be walked.

Programs without large leaves (large_leaf.py) pay nothing for them: what asks about them stands behind the look-up that
finds no table.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from emu.x86 import (
    PAGE_SHIFT,
    PAGE_SIZE,
    PTE_ADDR,
    PTE_P,
    PTE_PS,
    PTE_RW,
    PTE_SOFT3,
    PTE_US,
    PTE_XD,
    Pfn,
    PhysAddr,
    VirtAddr,
    pfn_to_phys,
)
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.gfp import GFP_KERNEL, GFP_ZERO
from minikernel.mm.kernel_half import TABLE_FLAGS, KernelHalf, build_kernel_half, root_table_flags
from minikernel.mm.large_leaf import PTE_SPECIAL, LargeLeaves
from minikernel.mm.page import PG_table
from minikernel.mm.page_alloc import Node

__all__ = ["PTE_SOFT_DIRTY", "PTE_SPECIAL", "KernelHalf", "PageTable", "build_kernel_half", "pte_pfn"]

PTE_SOFT_DIRTY: Final = PTE_SOFT3  # written since clear_refs (Linux: _PAGE_SOFT_DIRTY); nobody's yet


_ZEROES: Final = bytes(PAGE_SIZE)


def pte_pfn(pte: int) -> Pfn:
    """The frame that a present entry maps, in every mode."""
    return Pfn((pte & PTE_ADDR) >> PAGE_SHIFT)


class PageTable(LargeLeaves):
    """The user half of one address space, and the copy of the kernel's entries in its root.

    An entry is a raw int as in RAM: 0 is none, with PTE_P it maps a page, and a non-zero one without PTE_P is a swap
    entry.  Whoever takes rights away has to flush the TLB afterwards; this class never does.

    Invariants, checked by validate():
        - the dicts list exactly the tables that RAM links from the root, and the large leaves that it has;
        - a table's frame has PG_table, this owner, and one reference;
        - the table beneath a large leaf is empty.
    """

    __slots__ = (
        "_entry_shift",
        "_fixed_depth",
        "_index_mask",
        "_lanes",
        "large",
        "_leaf",
        "_leaf_shift",
        "_nx",
        "_tables",
        "_view",
        "kernel_half",
        "mode",
        "node",
        "nr_tables",
        "root",
    )

    def __init__(self, node: Node, kernel_half: KernelHalf) -> None:
        """Build an empty table.  Errors: ENOMEM."""
        mode = kernel_half.mode
        self.node = node
        self.kernel_half = kernel_half
        self.mode = mode
        self.nr_tables = 0  # without the root: what VmPTE counts
        self._entry_shift = 3 if mode.entry_size == 8 else 2
        self._view = node.physmem.view64 if mode.entry_size == 8 else node.physmem.view32
        self._lanes = kernel_half.lanes
        self._nx = PTE_XD if mode.has_nx else 0
        self._leaf_shift = mode.levels[-2].shift
        self._index_mask = (1 << mode.levels[-1].bits) - 1
        # By depth, 0 is the root: {address >> (bits that the table spans): index of its first entry in the view}.
        self._tables: tuple[dict[int, int], ...] = tuple({} for _ in mode.levels)
        self._leaf = self._tables[-1]
        self.large: dict[int, int] = {}  # by the keys of _leaf: the table beneath each large leaf; false if none
        self._fixed_depth = 0 if mode.levels[0].has_rights else 1  # tables down to here live as long as the root
        base = self._alloc_table(0, 0)
        if base is None:
            raise LinuxError(Errno.ENOMEM, "no frame for the root of a page table")
        self.root: PhysAddr = PhysAddr(base << self._entry_shift)
        first = base + kernel_half.first_root_index
        self._view[first : first + len(kernel_half.root_entries)] = kernel_half.root_entries
        kernel_half.roots[self.root] = None
        if self._fixed_depth:
            self._alloc_page_directories()

    def _alloc_page_directories(self) -> None:
        """Fill all user PDPTEs at once: the CPU reads them when CR3 is written (Linux: preallocate_pmds)."""
        shift = self.mode.levels[0].shift
        for index in range(self.kernel_half.first_root_index):
            if self._descend(index << shift, 1) is None:
                self.destroy()
                raise LinuxError(Errno.ENOMEM, "no frame for a page directory")

    # ---- one entry

    def get(self, address: int) -> int:
        """The entry of the page at *address*; 0 if there is none."""
        base = self._leaf.get(address >> self._leaf_shift)
        if base is None:
            return self._get_in_large(address) if self.large else 0
        return self._view[base + (address >> PAGE_SHIFT & self._index_mask)]

    def set(self, address: int, pte: int) -> bool:
        """Store *pte* for the page at *address*; False if there is no memory for a table."""
        base = self._leaf.get(address >> self._leaf_shift)
        if base is None:
            if self.large and self._set_in_large(address, pte):
                return True
            base = self._descend(address, len(self._tables) - 1)
            if base is None:
                return False
        self._view[base + (address >> PAGE_SHIFT & self._index_mask)] = pte
        return True

    def clear(self, address: int) -> int:
        """Remove the entry of the page at *address*; what it was."""
        if self.large:
            self.split_large(address)
        base = self._leaf.get(address >> self._leaf_shift)
        if base is None:
            return 0
        slot = base + (address >> PAGE_SHIFT & self._index_mask)
        old = self._view[slot]
        if old:
            self._view[slot] = 0
        return old

    def update(self, address: int, *, set: int = 0, clear: int = 0) -> int:  # noqa: A002 - a local word
        """Clear and then set bits of the entry at *address*, if it is not 0; what it was."""
        if self.large:
            self.split_large(address)
        base = self._leaf.get(address >> self._leaf_shift)
        if base is None:
            return 0
        slot = base + (address >> PAGE_SHIFT & self._index_mask)
        old = self._view[slot]
        if old:
            self._view[slot] = old & ~clear | set
        return old

    def prot_bits(self, *, write: bool, exec: bool, user: bool = True) -> int:  # noqa: A002 - PROT_EXEC's word
        """The bits of a present entry with these rights; without NX in the mode everything is executable."""
        bits = PTE_P
        if write:
            bits |= PTE_RW
        if user:
            bits |= PTE_US
        if not exec:
            bits |= self._nx
        return bits

    def make_pte(self, pfn: Pfn, *, write: bool, exec: bool, user: bool = True) -> int:  # noqa: A002 - as above
        """An entry that maps *pfn*; the hardware will set A and D."""
        return pfn << PAGE_SHIFT | self.prot_bits(write=write, exec=exec, user=user)

    # ---- ranges

    def entries(self, start: int, end: int, *, large: bool = True) -> Iterator[tuple[VirtAddr, int]]:
        """Addresses and entries in [start, end), those that are 0 left out, in order.

        Without *large* the pages of large leaves are left out too.
        The caller may change or clear what it was given: a table's entries are read when the first of them is due.
        """
        for region in self._regions(start, end):
            if not large and region in self.large:
                continue
            for item in self._items(region, start, end):
                if item[1]:
                    yield item

    def clear_range(self, start: int, end: int) -> list[tuple[VirtAddr, int]]:
        """Remove all entries in [start, end); what they were, as entries() gives them."""
        found: list[tuple[VirtAddr, int]] = []
        for region in self._regions(start, end):
            if region in self.large and self._clear_in_large(region, start, end, found):
                continue
            part = [item for item in self._items(region, start, end) if item[1]]
            if not part:
                continue
            low, high, _ = self._part(region, start, end)
            self.node.physmem.zero(PhysAddr(low << self._entry_shift), (high - low) << self._entry_shift)
            found += part
        return found

    def copy_range(self, dst: "PageTable", start: int, end: int, *, wrprotect: bool) -> list[Pfn] | None:
        """Copy the entries in [start, end) to *dst*, which has none there; the frames that need another reference.

        Linux: copy_pte_range.  *wrprotect* (a private mapping) takes the write right from both sides; otherwise the
        copy is clean.  The copy is old (A = 0).  Special entries are copied, but their frames not listed; a frame is
        listed once for each entry.  None, and no entry is copied, if there is no memory for dst's tables.
        """
        shift = self._entry_shift
        ram = self.node.physmem.ram
        lanes = self._lanes
        pfns: list[Pfn] = []
        # All tables first: making one may reclaim pages, and that changes the entries that are to be copied.
        parts: dict[int, tuple[int, int, int] | None] = {}
        for region in self._regions(start, end):
            part = parts[region] = None if region in self.large else self._part(region, start, end)
            if part is not None:
                low, high, _ = part
                if ram[low << shift : high << shift] == _ZEROES[: high - low << shift]:
                    continue
            if dst._descend(region << self._leaf_shift, len(dst._tables) - 1) is None:
                return None
        for region, part in parts.items():
            if region in self.large:
                pfns += self._fork_large(dst, region, start, end, wrprotect=wrprotect)
                continue
            low, high, address = part or self._part(region, start, end)  # a leaf may have been split meanwhile
            table = ram[low << shift : high << shift]
            forked = lanes.fork(table, wrprotect=wrprotect)
            if forked is None:
                continue
            base = dst._leaf[region]  # entries can only have gone while tables were made
            parent, child, mapped = forked
            if parent != table:
                ram[low << shift : high << shift] = parent
            phys = base + (address >> PAGE_SHIFT & self._index_mask) << shift
            ram[phys : phys + len(child)] = child
            pfns += mapped
        return pfns

    # ---- tables

    def free_pgtables(self, floor: int, ceiling: int) -> int:
        """Free the tables that lie wholly in [floor, ceiling), where nothing is mapped any more; how many.

        The bounds are the end of the mapping below the hole and the start of the one above it (Linux: same name).
        """
        freed = 0
        levels = self.mode.levels
        for depth in range(len(levels) - 1, self._fixed_depth, -1):
            shift = levels[depth - 1].shift
            first = -(-floor >> shift)
            last = (ceiling >> shift) if ceiling < self.kernel_half.layout.task_size else -(-ceiling >> shift)
            for key in self._keys(depth, first, last):
                self._free_table(depth, key)
                freed += 1
        return freed

    def destroy(self) -> None:
        """Free all tables and the root, whatever is in them; the object is dead then."""
        self.kernel_half.roots.pop(self.root, None)
        for tables in (self.large, *reversed(self._tables)):
            for base in tables.values():
                self._put_table(base)
            tables.clear()
        self.nr_tables = 0

    def validate(self) -> None:
        """Assert the class's invariants."""
        levels = self.mode.levels
        mem_map = self.node.mem_map
        large = 0
        expected: dict[int, int] = {0: self.root >> self._entry_shift}
        for depth, tables in enumerate(self._tables):
            assert tables == expected, f"PageTable.validate: depth {depth}: {tables} listed, {expected} linked"
            expected = {}
            for key, base in tables.items():
                pfn = base << self._entry_shift >> PAGE_SHIFT
                where = f"PageTable.validate: the table in frame {pfn:#x}"
                assert mem_map.flags[pfn] & PG_table, f"{where} has flags {mem_map.flags[pfn]:#x}"
                assert mem_map.owner[pfn] is self, f"{where} belongs to {mem_map.owner[pfn]}"
                assert mem_map.refcount[pfn] == 1, f"{where} has {mem_map.refcount[pfn]} references"
                if depth == len(levels) - 1:
                    continue
                count = 1 << levels[depth].bits if depth else self.kernel_half.first_root_index
                for index, entry in enumerate(self._view[base : base + count].tolist()):
                    if entry & PTE_PS:
                        self._validate_large(key << levels[depth].bits | index)
                        large += 1
                    elif entry:
                        expected[key << levels[depth].bits | index] = (entry & PTE_ADDR) >> self._entry_shift
        assert large == len(self.large), f"PageTable.validate: {large} large leaves, {len(self.large)} listed"
        count = sum(map(len, self._tables)) - 1 + large
        assert self.nr_tables == count, f"PageTable.validate: {self.nr_tables} tables counted, {count} listed"
        first = (self.root >> self._entry_shift) + self.kernel_half.first_root_index
        kernel = self.kernel_half.root_entries
        assert self._view[first : first + len(kernel)] == kernel, "PageTable.validate: the kernel's entries differ"

    def _keys(self, depth: int, first: int, last: int) -> list[int]:
        """Those of the tables at *depth* with first <= key < last, in order."""
        tables = self._tables[depth]
        if last - first < len(tables):
            return [key for key in range(first, last) if key in tables]
        return sorted(key for key in tables if first <= key < last)

    def _regions(self, start: int, end: int) -> list[int]:
        """Keys of the leaf tables and large leaves that [start, end) touches."""
        first, last = start >> self._leaf_shift, -(-end >> self._leaf_shift)
        keys = self._keys(len(self._tables) - 1, first, last)
        if self.large:
            keys = sorted([*keys, *(key for key in self.large if first <= key < last)])
        return keys

    def _items(self, region: int, start: int, end: int) -> "zip[tuple[VirtAddr, int]]":
        """Addresses and entries, 0 or not, of the part of a leaf table that lies in [start, end)."""
        if region in self.large:
            address = max(start & -PAGE_SIZE, region << self._leaf_shift)
            inside = self._large_ptes(region)[address >> PAGE_SHIFT & self._index_mask :]
            return zip(map(VirtAddr, range(address, end, PAGE_SIZE)), inside.tolist(), strict=False)
        low, high, address = self._part(region, start, end)
        addresses: Iterable[VirtAddr] = range(address, end, PAGE_SIZE)  # type: ignore[assignment]  # a call for each is slow
        return zip(addresses, self._view[low:high].tolist(), strict=False)

    def _part(self, region: int, start: int, end: int) -> tuple[int, int, int]:
        """The part of a leaf table that lies in [start, end): its indices in the view, and its first address."""
        address = max(start & -PAGE_SIZE, region << self._leaf_shift)
        behind = min(end, (region + 1) << self._leaf_shift)
        low = self._leaf[region] + (address >> PAGE_SHIFT & self._index_mask)
        return low, low + (-(-(behind - address) >> PAGE_SHIFT)), address

    def _descend(self, address: int, depth: int) -> int | None:
        """Index of the first entry of the table at *depth* that serves *address*, made if missing; None: no memory.

        Tables made on the way to a failure stay, as in Linux: free_pgtables or destroy takes them.
        """
        assert address < self.kernel_half.layout.task_size, f"PageTable: {address:#x} is not a user address"
        levels = self.mode.levels
        base = self._tables[0][0]
        for level in range(1, depth + 1):
            above = levels[level - 1]
            key = address >> above.shift
            child = self._tables[level].get(key)
            if child is None:
                child = self._alloc_table(level, key)
                if child is None:
                    return None
                flags = TABLE_FLAGS if level > 1 else root_table_flags(self.mode)
                self._view[base + (key & ((1 << above.bits) - 1))] = child << self._entry_shift | flags
                self.nr_tables += 1
            base = child
        return base

    def _alloc_table(self, depth: int, key: int) -> int | None:
        """A zeroed table, listed but not linked yet; the index of its first entry."""
        node = self.node
        pfn = node.alloc_page(GFP_KERNEL | GFP_ZERO)
        if pfn is None:
            return None
        node.mem_map.flags[pfn] |= PG_table
        node.mem_map.owner[pfn] = self
        base = pfn_to_phys(pfn) >> self._entry_shift
        self._tables[depth][key] = base
        return base

    def _free_table(self, depth: int, key: int) -> None:
        """Unlink and free an empty table."""
        base = self._tables[depth].pop(key)
        bits = self.mode.levels[depth - 1].bits
        self._view[self._tables[depth - 1][key >> bits] + (key & ((1 << bits) - 1))] = 0
        phys = base << self._entry_shift
        pfn = Pfn(phys >> PAGE_SHIFT)
        assert self.node.physmem.ram[phys : phys + PAGE_SIZE] == _ZEROES, f"PageTable: table {pfn:#x} is not empty"
        self.node.mem_map.flags[pfn] &= ~PG_table
        self.node.put_zeroed_page(pfn)
        self.nr_tables -= 1

    def _put_table(self, base: int) -> None:
        pfn = Pfn(base << self._entry_shift >> PAGE_SHIFT)
        self.node.mem_map.flags[pfn] &= ~PG_table
        self.node.put_page(pfn)
