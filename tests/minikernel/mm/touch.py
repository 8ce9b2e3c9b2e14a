"""A machine without a CPU: RAM, an address space, and a stand-in for the hardware.

``touch`` walks the page table as the paging hardware would and calls ``handle_mm_fault`` where it would fault; the
guest tests tell the same stories on the emulated CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from emu.exits import CpuException, PageFault
from emu.paging import walk
from emu.physmem import PhysMem
from emu.x86 import PAGE_SIZE, PF_I, PF_U, PF_W, Pfn, PhysAddr, VirtAddr
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE
from minikernel.abi.resource import RLIM_INFINITY, default_rlimits
from minikernel.events import Event, Tracer
from minikernel.mm.address_layout import (
    TASK_SIZE_I386,
    TASK_SIZE_X86_64,
    AddressLayout,
    address_layout,
)
from minikernel.mm.dup import dup_mm
from minikernel.mm.fault import FaultOutcome, Served, handle_mm_fault
from minikernel.mm.filemap import PageCache
from minikernel.mm.kernel_half import build_kernel_half
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.mapped_file import BackingStore, MappedFile
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import do_mmap
from minikernel.mm.page_alloc import Node
from minikernel.mm.swap_area import make_header
from minikernel.mm.validate import validate_node
from minikernel.mm.vmscan import Vmscan

READ = PF_U
WRITE = PF_U | PF_W
FETCH = PF_U | PF_I
RW = PROT_READ | PROT_WRITE
ANON = MAP_PRIVATE | MAP_ANONYMOUS
SHARED_ANON = MAP_SHARED | MAP_ANONYMOUS
LAYOUTS = (X86_64_LAYOUT, I386_PAE_LAYOUT, I386_2LEVEL_LAYOUT)
BASE = 0x1000_0000  # where tests map things: user space in every mode


class Machine:
    """RAM and a node, the address spaces made of it, and the page caches of its files."""

    def __init__(self, layout: KernelLayout = X86_64_LAYOUT, *, ram: int = 16 << 20) -> None:
        self.tracer = Tracer()
        self.node = Node(PhysMem(ram), layout, self.tracer)
        self.kernel_half = build_kernel_half(self.node, layout)
        self.rlimits = default_rlimits()
        self.mms: list[MmStruct] = []
        self.caches: list[PageCache] = []
        self.held: dict[Pfn, int] = {}

    def mm(self) -> MmStruct:
        """A new, empty address space."""
        made = MmStruct(self.node, self.kernel_half, self.address_layout(), self.tracer, self.rlimits)
        self.mms.append(made)
        return made

    def fork(self, mm: MmStruct) -> MmStruct:
        """A copy of *mm*.  Errors: ENOMEM."""
        child = dup_mm(mm)
        self.mms.append(child)
        return child

    def address_layout(self) -> AddressLayout:
        """That of a native program of the machine."""
        if self.node.layout.mode.va_bits > 32:
            return address_layout(TASK_SIZE_X86_64, stack_limit=8 << 20)
        return address_layout(TASK_SIZE_I386, stack_limit=8 << 20, machine_64bit=False)

    def file(self, size: int = 0, store: "Store | None" = None, *, writable: bool = True) -> "File":
        """An open file: shared memory, or with *store* one that has its pages from there."""
        cache = PageCache(self.node, store, size if store is None else len(store.data))
        self.caches.append(cache)
        return File(cache, writable=writable)

    def swapon(self, pages: int, priority: int | None = None) -> "RamSwap":
        """Reclaim, with an area of *pages* slots."""
        vmscan = Vmscan(self.node)
        self.node.reclaim = vmscan.try_to_free_pages
        self.node.reclaim_pages = vmscan.reclaim_pages
        self.node.drop_pagecache = vmscan.drop_pagecache
        store = RamSwap(pages + 1)
        self.node.swap.swapon(b"ram", store, pages + 1, priority)
        return store

    def unused_frames(self) -> int:
        """Frames that are free, or hold the kernel's own objects, of which a few more or less are nobody's loss."""
        slab = self.node.slab
        slab.shrink()
        return self.node.nr_free + slab.nr_unreclaimable + slab.nr_reclaimable

    def validate(self) -> None:
        """Everything that can be checked."""
        validate_node(self.node, self.mms, self.caches, self.held)

    def destroy(self, mm: MmStruct) -> None:
        """End of an address space."""
        mm.destroy()
        self.mms.remove(mm)

    @contextmanager
    def events(self) -> Iterator[list[Event]]:
        """What the kernel tells meanwhile."""
        told: list[Event] = []
        self.tracer.sink = lambda _icount, _pid, event: told.append(event)
        try:
            yield told
        finally:
            self.tracer.sink = None


class Store:
    """A backing store in host memory; *fail* makes every access an I/O error."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.fail = False
        self.reads: list[int] = []
        self.writes: list[int] = []

    def read_page(self, index: int) -> bytes:
        if self.fail:
            raise LinuxError(Errno.EIO, "the disk is broken")
        self.reads.append(index)
        return bytes(self.data[index * PAGE_SIZE : (index + 1) * PAGE_SIZE])

    def write_page(self, index: int, data: bytes) -> None:
        if self.fail:
            raise LinuxError(Errno.EIO, "the disk is broken")
        self.writes.append(index)
        end = index * PAGE_SIZE + len(data)
        self.data.extend(bytes(max(end - len(self.data), 0)))
        self.data[index * PAGE_SIZE : end] = data


class RamSwap:
    """Swap in host memory; *fail* makes every access an I/O error."""

    def __init__(self, nr_pages: int) -> None:
        self.pages: dict[int, bytes] = {0: make_header(nr_pages)}
        self.nr_pages = nr_pages
        self.fail = False
        self.closed = False

    def read_page(self, index: int) -> bytes:
        if self.fail:
            raise LinuxError(Errno.EIO, "the disk is broken")
        return self.pages[index]

    def write_page(self, index: int, data: bytes) -> None:
        if self.fail:
            raise LinuxError(Errno.ENOSPC, "the disk is full")
        assert 0 < index < self.nr_pages, "a write outside the area"
        self.pages[index] = data

    def close(self) -> None:
        self.closed = True


class File:
    """An open file that counts its mappings."""

    def __init__(self, mapping: PageCache | None, *, writable: bool = True, readable: bool = True) -> None:
        self.mapping = mapping
        self.path = b"/tmp/file"
        self.ino = 17
        self.dev = 0x801
        self.readable = readable
        self.writable = writable
        self.users = 0

    @property
    def cache(self) -> PageCache:
        """Its pages; there are some."""
        assert self.mapping is not None
        return self.mapping

    def get_file(self) -> None:
        self.users += 1

    def put_file(self) -> None:
        self.users -= 1


_KEEPS_PROTOCOLS: tuple[type[MappedFile], type[BackingStore]] = (File, Store)


def access_fault(mm: MmStruct, address: int, access: int) -> PageFault | None:
    """The fault that the hardware raises for *access*, if any; otherwise it sets A and D."""
    walked = walk(mm.node.physmem, mm.pgtable.mode, mm.pgtable.root, VirtAddr(address), access)
    assert not isinstance(walked, CpuException)
    return walked if isinstance(walked, PageFault) else None


def touch(mm: MmStruct, address: int, access: int = READ) -> FaultOutcome | None:
    """Access one byte as a guest would; the outcome of the fault, or None if there was none."""
    fault = access_fault(mm, address, access)
    if fault is None:
        return None
    outcome = handle_mm_fault(mm, fault.address, fault.error_code)
    if isinstance(outcome, Served):
        assert access_fault(mm, address, access) is None, "a served fault must not come again"
    return outcome


def phys_of(mm: MmStruct, address: int) -> PhysAddr:
    """Where the byte at *address* is in RAM; it is mapped."""
    walked = walk(mm.node.physmem, mm.pgtable.mode, mm.pgtable.root, VirtAddr(address), 0, set_ad=False)
    assert not isinstance(walked, PageFault | CpuException)
    return walked.phys


def pfn_of(mm: MmStruct, address: int) -> Pfn:
    """The frame at *address*."""
    return Pfn(phys_of(mm, address) >> 12)


def peek(mm: MmStruct, address: int) -> int:
    """Read one byte as a guest would."""
    outcome = touch(mm, address, READ)
    assert outcome is None or isinstance(outcome, Served), outcome
    return mm.node.physmem.view8[phys_of(mm, address)]


def poke(mm: MmStruct, address: int, value: int) -> FaultOutcome | None:
    """Write one byte as a guest would; the outcome of the fault, if there was one."""
    outcome = touch(mm, address, WRITE)
    assert outcome is None or isinstance(outcome, Served), outcome
    mm.node.physmem.view8[phys_of(mm, address)] = value
    return outcome


def map_fixed(
    mm: MmStruct,
    address: int,
    pages: int,
    prot: int = RW,
    flags: int = ANON,
    file: MappedFile | None = None,
    pgoff: int = 0,
) -> int:
    """mmap at exactly *address*."""
    return do_mmap(mm, address, pages * PAGE_SIZE, prot, flags | MAP_FIXED, file, pgoff)


def shape(mm: MmStruct) -> list[tuple[int, int, str]]:
    """The mappings as (start, end, rights), in pages from BASE: what /proc/PID/maps shows first."""
    return [
        (
            (vma.start - BASE) // PAGE_SIZE,
            (vma.end - BASE) // PAGE_SIZE,
            "".join(letter if vma.flags >> bit & 1 else "-" for bit, letter in enumerate("rwx")),
        )
        for vma in mm.vmas
    ]


def unlimited(rlimits: list[list[int]], which: int) -> None:
    """Lift one limit."""
    rlimits[which] = [RLIM_INFINITY, RLIM_INFINITY]
