"""Kernel memory that is contiguous in addresses, not in frames.  Linux: mm/vmalloc.c.

The vmalloc area is the part of the kernel half where single frames are mapped one behind the other.  Its tables are the
kernel's own and shared by all address spaces, so a mapping is there for all of them at once.  A page without a mapping
ends every area: running over the end of one faults (VM_NO_GUARD is unknown here).

The emulated CPU uses these addresses no more than the direct map's: the kernel is in Python.  What it stores there goes
through ``write`` and ``read``, frame by frame.
"""

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Pfn, PhysAddr, VirtAddr, page_align
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.gfp import GFP_HIGHMEM, GFP_KERNEL
from minikernel.mm.page import PG_kernel

if TYPE_CHECKING:
    from minikernel.mm.kernel_half import KernelHalf

# Flags of an area: include/linux/vmalloc.h.
VM_ALLOC: Final = 0x02  # vmalloc: the frames are the area's
VM_MAP: Final = 0x04  # vmap: they are the caller's


class VmArea:
    """A range of kernel addresses and the frames that it shows: struct vm_struct, struct vmap_area.

    *size* counts the guard page.  *caller* is who asked, for /proc/vmallocinfo.
    """

    __slots__ = ("address", "caller", "flags", "handle", "pages", "size")

    def __init__(self, address: VirtAddr, size: int, flags: int, pages: list[Pfn], caller: str) -> None:
        self.address = address
        self.size = size
        self.flags = flags
        self.pages = pages
        self.caller = caller
        self.handle = 0  # its object of the cache vmap_area


class Vmalloc:
    """Who has which part of [start, end).

    Invariants, checked by validate():
        - areas are page-aligned, disjoint, and sorted by address;
        - page i of an area maps its frame i; the guard page and every address between areas map nothing.
    """

    __slots__ = ("_areas", "_starts", "cache", "end", "half", "node", "nr_pages", "start")

    def __init__(self, half: "KernelHalf") -> None:
        self.half = half
        self.node = half.node
        self.start = half.layout.vmalloc_start
        self.end = half.layout.vmalloc_end
        word = 8 if half.mode.va_bits > 32 else 4
        self.cache = self.node.slab.create("vmap_area", 9 * word)
        self.nr_pages = 0  # frames of vmalloc: VmallocUsed
        self._starts: list[int] = []
        self._areas: dict[int, VmArea] = {}

    @property
    def areas(self) -> list[VmArea]:
        """All of them, by address."""
        return [self._areas[start] for start in self._starts]

    # ---- memory

    def vmalloc(self, size: int, caller: str, gfp: int = GFP_KERNEL) -> VirtAddr:
        """The address of *size* bytes, rounded up to pages, with frames from anywhere.

        Errors:
            ENOMEM: no frames, no room, or no memory for tables; nothing is left then.
        """
        nr_pages = page_align(size) >> PAGE_SHIFT
        if not 0 < nr_pages <= self.node.totalram_pages:
            raise LinuxError(Errno.ENOMEM, f"vmalloc: {size} bytes")
        pages = self._alloc_pages(nr_pages, gfp | GFP_HIGHMEM)
        try:
            area = self._map(pages, VM_ALLOC, caller)
        except LinuxError:
            self._put_pages(pages)
            raise
        self.nr_pages += nr_pages
        for pfn in pages:
            self.node.mem_map.owner[pfn] = area
        return area.address

    def vfree(self, address: int) -> None:
        """Give back what vmalloc gave."""
        area = self._areas.get(address)
        assert area is not None and area.flags & VM_ALLOC, f"vfree: {address:#x} was not allocated"  # noqa: PT018
        self._unmap(area)
        self.nr_pages -= len(area.pages)
        self._put_pages(area.pages)

    def _alloc_pages(self, nr_pages: int, gfp: int) -> list[Pfn]:
        """The frames of an area (vm_area_alloc_pages).  Errors: ENOMEM."""
        pages: list[Pfn] = []
        for _ in range(nr_pages):
            pfn = self.node.alloc_page(gfp)
            if pfn is None:
                self._put_pages(pages)
                raise LinuxError(Errno.ENOMEM, f"vmalloc: no {nr_pages} frames")
            self.node.mem_map.flags[pfn] |= PG_kernel
            pages.append(pfn)
        return pages

    def _put_pages(self, pages: list[Pfn]) -> None:
        for pfn in pages:
            self.node.put_page(pfn)

    def vmap(self, pages: list[Pfn], caller: str) -> VirtAddr:
        """Show the caller's frames, to each of which it holds a reference, one behind the other.

        Errors:
            ENOMEM: no room, or no memory for tables.
        """
        return self._map(list(pages), VM_MAP, caller).address

    def vunmap(self, address: int) -> None:
        """End a vmap; the frames stay the caller's."""
        area = self._areas.get(address)
        assert area is not None and area.flags & VM_MAP, f"vunmap: {address:#x} is not mapped"  # noqa: PT018
        self._unmap(area)

    # ---- bytes

    def find_area(self, address: int) -> VmArea | None:
        """The area that *address* lies in, its guard page not counted (find_vm_area)."""
        at = bisect_left(self._starts, address + 1) - 1
        if at < 0:
            return None
        area = self._areas[self._starts[at]]
        return area if address < area.address + area.size - PAGE_SIZE else None

    def vmalloc_to_page(self, address: int) -> Pfn:
        """The frame behind a vmalloc address, from the page tables (Linux: same name)."""
        entry = self.half.kernel_pte(address)
        assert entry, f"vmalloc_to_page: {address:#x} is not mapped"
        return Pfn((entry & ~PAGE_MASK) >> PAGE_SHIFT & ((1 << 40) - 1))

    def write(self, address: int, data: bytes) -> None:
        """Store *data* at a vmalloc address."""
        done = 0
        while done < len(data):
            pfn = self.vmalloc_to_page(address + done)
            offset = (address + done) & PAGE_MASK
            part = data[done : done + PAGE_SIZE - offset]
            self.node.physmem.write(PhysAddr((pfn << PAGE_SHIFT) + offset), part)
            done += len(part)

    def read(self, address: int, count: int) -> bytes:
        """*count* bytes at a vmalloc address."""
        parts = []
        while count:
            pfn = self.vmalloc_to_page(address)
            offset = address & PAGE_MASK
            size = min(count, PAGE_SIZE - offset)
            parts.append(self.node.physmem.read(PhysAddr((pfn << PAGE_SHIFT) + offset), size))
            address += size
            count -= size
        return b"".join(parts)

    # ---- areas

    def _map(self, pages: list[Pfn], flags: int, caller: str) -> VmArea:
        """A new area that shows *pages*.  Errors: ENOMEM."""
        size = (len(pages) + 1) << PAGE_SHIFT
        handle = self.cache.alloc()
        address = self._find_hole(size)
        if address is None:
            self.cache.free(handle)
            raise LinuxError(Errno.ENOMEM, f"vmalloc: no {size} bytes of addresses")
        for index, pfn in enumerate(pages):
            if not self.half.set_kernel_pte(address + (index << PAGE_SHIFT), pfn):
                for done in range(index):
                    self.half.set_kernel_pte(address + (done << PAGE_SHIFT), None)
                self.cache.free(handle)
                raise LinuxError(Errno.ENOMEM, "vmalloc: no memory for tables")
        area = VmArea(address, size, flags, pages, caller)
        area.handle = handle
        self._areas[address] = area
        insort(self._starts, address)
        return area

    def _unmap(self, area: VmArea) -> None:
        for index in range(len(area.pages)):
            self.half.set_kernel_pte(area.address + (index << PAGE_SHIFT), None)
        del self._areas[area.address]
        del self._starts[bisect_left(self._starts, area.address)]
        self.cache.free(area.handle)

    def _find_hole(self, size: int) -> VirtAddr | None:
        """The lowest address with *size* free bytes behind it (alloc_vmap_area)."""
        at = int(self.start)
        for start in self._starts:
            if start - at >= size:
                break
            at = start + self._areas[start].size
        return VirtAddr(at) if at + size <= self.end else None

    def validate(self) -> None:
        """Assert the class's invariants."""
        assert self._starts == sorted(self._areas), "Vmalloc.validate: the list of areas is wrong"
        behind = int(self.start)
        pages = 0
        for area in self.areas:
            where = f"Vmalloc.validate: area {area.address:#x}"
            assert area.address >= behind and not area.address & PAGE_MASK, f"{where} overlaps another"  # noqa: PT018
            behind = area.address + area.size
            assert area.size == (len(area.pages) + 1) << PAGE_SHIFT, f"{where} has no guard page"
            assert not self.half.kernel_pte(behind - PAGE_SIZE), f"{where}: its guard page is mapped"
            for index, pfn in enumerate(area.pages):
                mapped = self.vmalloc_to_page(area.address + (index << PAGE_SHIFT))
                assert mapped == pfn, f"{where}: page {index} is frame {mapped:#x}, not {pfn:#x}"
                assert self.node.mem_map.refcount[pfn] > 0, f"{where}: frame {pfn:#x} is free"
            if area.flags & VM_ALLOC:
                pages += len(area.pages)
                owners = {id(self.node.mem_map.owner[pfn]) for pfn in area.pages}
                assert owners == {id(area)}, f"{where}: a frame belongs to somebody else"
        assert behind <= self.end, "Vmalloc.validate: an area leaves vmalloc"
        assert pages == self.nr_pages, f"Vmalloc.validate: {self.nr_pages} frames counted, there are {pages}"
