"""The kernel's half of every address space, and the identity map of the CPU driver (Linux: arch/x86/mm/init.c).

Built once at boot and shared: an address space copies the kernel's entries of the root table, and the tables below are
the same frames for all.  Everything is supervisor only, so a user access is a protection fault, as on Linux.
"""

from array import array
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
    PTE_US,
    PTE_XD,
    Pfn,
    PhysAddr,
    VirtAddr,
    pfn_to_phys,
)
from minikernel.mm.gfp import GFP_DMA, GFP_KERNEL, GFP_ZERO
from minikernel.mm.layout import KernelLayout
from minikernel.mm.page import PG_kernel, PG_table
from minikernel.mm.page_alloc import Node
from minikernel.mm.pte_lanes import TableLanes
from minikernel.mm.vmalloc import Vmalloc

TABLE_FLAGS: Final = PTE_P | PTE_RW | PTE_US | PTE_A
"""Of an entry that points to a table: the leaf decides about the rights (Linux: _PAGE_TABLE)."""

# A and D are set beforehand, so that the hardware never writes to these tables.
_KERNEL_RW: Final = PTE_P | PTE_RW | PTE_A | PTE_D
_KERNEL_RX: Final = PTE_P | PTE_A | PTE_D
_USER_RX: Final = PTE_P | PTE_US | PTE_A | PTE_D


def root_table_flags(mode: PagingMode) -> int:
    """TABLE_FLAGS for an entry of the root: PAE's PDPTEs have no rights, the bits are reserved (SDM vol. 3A, 4.4.1)."""
    return TABLE_FLAGS if mode.levels[0].has_rights else PTE_P


class KernelHalf:
    """What all address spaces have in common.

    *root_entries* are the entries of the root table from index *first_root_index* on.
    *entry_pfn* is the kernel's entry frame, at *entry_address*, the one executable page of the kernel: room for the
    GDT and for the few instructions that the CPU needs at CPL 0.
    *identity_root* is a root table that maps all of RAM at its own physical address, readable and executable at CPL 3:
    with it in CR3 a frame's translated code can be dropped by physical address, whoever mapped it where.
    *roots* are all root tables that copied the entries (Linux: pgd_list).  Where a kernel mapping takes a new entry in
    the root, which happens with 2-level paging only, they all get it at once (Linux: arch_sync_kernel_mappings).
    *vmalloc* hands out the part of the kernel half that is no direct map.
    """

    __slots__ = (
        "entry_address",
        "entry_pfn",
        "first_root_index",
        "identity_root",
        "lanes",
        "layout",
        "mode",
        "nr_tables",
        "node",
        "root_entries",
        "roots",
        "vmalloc",
    )

    def __init__(self, node: Node, layout: KernelLayout) -> None:
        mode = layout.mode
        root_level = mode.levels[0]
        self.node = node
        self.layout = layout
        self.mode = mode
        self.lanes = TableLanes(mode.entry_size)
        self.first_root_index = layout.page_offset >> root_level.shift & ((1 << root_level.bits) - 1)
        if mode.va_bits > 32:
            self.first_root_index = 1 << (root_level.bits - 1)  # the upper half, vmalloc and all
        self.nr_tables = 0

        entry_pfn = node.alloc_page(GFP_DMA | GFP_KERNEL | GFP_ZERO)
        assert entry_pfn is not None, "KernelHalf: no frame for the entry code"
        node.mem_map.flags[entry_pfn] |= PG_kernel
        self.entry_pfn = entry_pfn
        self.entry_address = layout.kernel_address(pfn_to_phys(entry_pfn))

        root = self._alloc_table(node)
        self._map_direct(node, root)
        self.identity_root = root
        self.roots: dict[PhysAddr, None] = {root: None}
        self.root_entries = array("Q")
        if mode.va_bits > 32:
            # One entry of the root for all of vmalloc, so that it need never change (preallocate_vmalloc_pages).
            made = self._descend(root, layout.vmalloc_start, 1)
            assert made is not None, "KernelHalf: no frame for vmalloc's first table"
        view, base = _table(node, mode, root)
        end = base + (1 << root_level.bits)
        self.root_entries = array(view.format, view[base + self.first_root_index : end])
        self._map(node, root, VirtAddr(0), PhysAddr(0), node.physmem.size, _USER_RX)
        self.vmalloc = Vmalloc(self)

    def _map_direct(self, node: Node, root: PhysAddr) -> None:
        """Map lowmem at page_offset: writable and never executable, but for the entry frame (a page of its own)."""
        layout = self.layout
        nx = PTE_XD if self.mode.has_nx else 0
        size = min(node.physmem.size, layout.lowmem_size)
        entry = pfn_to_phys(self.entry_pfn)
        behind = PhysAddr(entry + PAGE_SIZE)
        self._map(node, root, layout.page_offset, PhysAddr(0), entry, _KERNEL_RW | nx)
        self._map(node, root, self.entry_address, entry, PAGE_SIZE, _KERNEL_RW)
        self._map(node, root, layout.kernel_address(behind), behind, size - behind, _KERNEL_RW | nx)

    def _map(self, node: Node, root: PhysAddr, address: VirtAddr, phys: PhysAddr, size: int, flags: int) -> None:
        """Map [phys, phys + size) at *address*, with 2 or 4 MiB pages wherever they fit."""
        large = self.mode.levels[-2].shift
        end = phys + size
        while phys < end:
            shift = PAGE_SHIFT
            if phys % (1 << large) == 0 and end - phys >= 1 << large:
                shift = large
            self._map_one(node, root, address, phys | flags, shift)
            address = VirtAddr(address + (1 << shift))
            phys = PhysAddr(phys + (1 << shift))

    def _map_one(self, node: Node, root: PhysAddr, address: VirtAddr, entry: int, shift: int) -> None:
        """Set the leaf for *address* at the level with *shift*, making the tables on the way."""
        mode = self.mode
        table = root
        for level in mode.levels:
            view, base = _table(node, mode, table)
            slot = base + (address >> level.shift & ((1 << level.bits) - 1))
            if level.shift == shift:
                view[slot] = entry | (PTE_PS if shift != PAGE_SHIFT else 0)
                return
            if not view[slot]:
                flags = root_table_flags(mode) if table == root else TABLE_FLAGS
                view[slot] = self._alloc_table(node) | flags
            table = PhysAddr(view[slot] >> PAGE_SHIFT << PAGE_SHIFT)
        raise AssertionError(f"KernelHalf._map_one: no level of {mode.name} has pages of 2**{shift} bytes")

    # ---- single pages, after boot

    def kernel_pte(self, address: int) -> int:
        """The entry of a page in the vmalloc area; 0 if there is none."""
        table, entry = self.identity_root, 0
        for level in self.mode.levels:
            view, base = _table(self.node, self.mode, table)
            entry = view[base + (address >> level.shift & ((1 << level.bits) - 1))]
            if not entry:
                return 0
            table = PhysAddr(entry & PTE_ADDR)
        return entry

    def set_kernel_pte(self, address: int, pfn: Pfn | None) -> bool:
        """Map *pfn*, writable and not executable, at a page of the vmalloc area, or nothing; False: no memory."""
        table = self._descend(self.identity_root, address, len(self.mode.levels) - 1)
        if table is None:
            return False
        view, base = _table(self.node, self.mode, table)
        entry = 0
        if pfn is not None:
            entry = pfn << PAGE_SHIFT | _KERNEL_RW | (PTE_XD if self.mode.has_nx else 0)
        view[base + (address >> PAGE_SHIFT & ((1 << self.mode.levels[-1].bits) - 1))] = entry
        return True

    def _descend(self, root: PhysAddr, address: int, depth: int) -> PhysAddr | None:
        """The table at *depth* that serves *address*, made if missing; None: no memory.  Tables stay, as on Linux."""
        table = root
        for level in self.mode.levels[:depth]:
            view, base = _table(self.node, self.mode, table)
            index = address >> level.shift & ((1 << level.bits) - 1)
            if not view[base + index]:
                child = self._try_table(self.node)
                if child is None:
                    return None
                entry = child | (root_table_flags(self.mode) if table == root else TABLE_FLAGS)
                view[base + index] = entry
                if table == root:
                    self._sync(index, entry)
            table = PhysAddr(view[base + index] & PTE_ADDR)
        return table

    def _sync(self, index: int, entry: int) -> None:
        """Root entry *index* is *entry* from now on, in every address space."""
        if not self.root_entries:
            return  # the first root is still being built
        self.root_entries[index - self.first_root_index] = entry
        for root in self.roots:
            view, base = _table(self.node, self.mode, root)
            view[base + index] = entry

    def _alloc_table(self, node: Node) -> PhysAddr:
        table = self._try_table(node)
        assert table is not None, "KernelHalf: no frame for a table"
        return table

    def _try_table(self, node: Node) -> PhysAddr | None:
        pfn = node.alloc_page(GFP_KERNEL | GFP_ZERO)
        if pfn is None:
            return None
        node.mem_map.flags[pfn] |= PG_table | PG_kernel
        node.mem_map.owner[pfn] = self
        self.nr_tables += 1
        return pfn_to_phys(pfn)


def _table(node: Node, mode: PagingMode, phys: PhysAddr) -> tuple[memoryview, int]:
    """The view of RAM in entries of *mode*, and the index of the first entry of the table at *phys*."""
    if mode.entry_size == 8:
        return node.physmem.view64, phys >> 3
    return node.physmem.view32, phys >> 2


def build_kernel_half(node: Node, layout: KernelLayout) -> KernelHalf:
    """Build the kernel's tables; they take the first frames after boot and are never freed."""
    return KernelHalf(node, layout)
