"""What memory management itself costs, without a CPU: microseconds of one operation, and how they grow with RAM.

The mm room runs on RAM and page tables alone, so its own time can be seen without the guest's.  Swap lies in host
memory here: the disk's time is the disk's.  Medians of several rounds.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from rich.console import Console
from rich.table import Table

from emu.physmem import PhysMem
from emu.x86 import PAGE_SIZE, PF_U, PF_W, PTE_A, Pfn
from minikernel.abi.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_NORESERVE, MAP_PRIVATE, PROT_READ, PROT_WRITE
from minikernel.abi.resource import default_rlimits
from minikernel.events import Tracer
from minikernel.mm.address_layout import TASK_SIZE_X86_64, address_layout
from minikernel.mm.dup import dup_mm
from minikernel.mm.fault import handle_mm_fault
from minikernel.mm.filemap import PageCache
from minikernel.mm.gfp import GFP_HIGHUSER, GFP_KERNEL
from minikernel.mm.kernel_half import build_kernel_half
from minikernel.mm.layout import X86_64_LAYOUT
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import do_mmap
from minikernel.mm.page_alloc import Node
from minikernel.mm.swap_area import make_header
from minikernel.mm.vmscan import Vmscan

_MIB: Final = 1 << 20
_BASE: Final = 0x1000_0000
_WRITE: Final = PF_U | PF_W
_ROUNDS: Final = 5
_CURVE: Final = (16, 32, 64, 128, 256, 512, 1024, 2048)  # MiB


class _Store:
    """Swap, or a file, in host memory."""

    def __init__(self, nr_pages: int) -> None:
        self.pages: dict[int, bytes] = {0: make_header(nr_pages)}

    def read_page(self, index: int) -> bytes:
        return self.pages.get(index) or bytes(PAGE_SIZE)

    def write_page(self, index: int, data: bytes) -> None:
        self.pages[index] = data

    def close(self) -> None:
        self.pages.clear()


class _Bench:
    """A machine of *ram* MiB with twice as much swap, and an address space."""

    def __init__(self, ram: int) -> None:
        self.node = Node(PhysMem(ram * _MIB), X86_64_LAYOUT, Tracer())
        kernel_half = build_kernel_half(self.node, X86_64_LAYOUT)
        self.vmscan = Vmscan(self.node)
        self.node.reclaim = self.vmscan.try_to_free_pages
        slots = 2 * ram * _MIB // PAGE_SIZE
        self.node.swap.swapon(b"memory", _Store(slots), slots)
        layout = address_layout(TASK_SIZE_X86_64, stack_limit=8 << 20)
        self.pages = 0
        self.mm = MmStruct(self.node, kernel_half, layout, self.node.tracer, default_rlimits())

    def fill(self, pages: int) -> None:
        """Write to *pages* pages of new memory."""
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE
        do_mmap(self.mm, _BASE, pages * PAGE_SIZE, PROT_READ | PROT_WRITE, flags, None, 0)
        self.pages = pages
        self.touch_all()

    def touch_all(self) -> None:
        """Write to every page, none of which is there."""
        for page in range(self.pages):
            handle_mm_fault(self.mm, _BASE + page * PAGE_SIZE, _WRITE)

    def frames(self, count: int) -> list[Pfn]:
        """Frames that hold the first *count* pages."""
        return [Pfn(self.mm.pgtable.get(_BASE + page * PAGE_SIZE) >> 12 & 0xFF_FFFF_FFFF) for page in range(count)]


def _per(count: int, action: Callable[[], object]) -> float:
    """Microseconds for one of the *count* things that *action* does."""
    start = time.perf_counter_ns()
    action()
    return (time.perf_counter_ns() - start) / 1000 / count


def _swap_out_and_in() -> Iterator[tuple[str, float]]:
    bench = _Bench(64)
    pages = 4000
    bench.fill(pages)
    frames = bench.frames(pages)
    yield "swap out a page", _per(pages, lambda: bench.vmscan.reclaim_pages(frames))
    yield "swap in, in order (read ahead)", _per(pages, bench.touch_all)
    bench.vmscan.reclaim_pages(bench.frames(pages))
    bench.node.swap.page_cluster = 0
    yield "swap in, one by one", _per(pages, bench.touch_all)


def _scan() -> Iterator[tuple[str, float]]:
    bench = _Bench(64)
    pages = 8000
    bench.fill(pages)
    bench.node.lru.drain()
    for page in range(pages):
        bench.mm.pgtable.update(_BASE + page * PAGE_SIZE, set=PTE_A)
    before = bench.node.vmstat["pgscan_direct"]
    start = time.perf_counter_ns()
    bench.vmscan.try_to_free_pages(0, GFP_HIGHUSER)
    elapsed = (time.perf_counter_ns() - start) / 1000
    yield "look at a page that is in use", elapsed / max(bench.node.vmstat["pgscan_direct"] - before, 1)


def _page_cache() -> Iterator[tuple[str, float]]:
    bench = _Bench(64)
    pages = 4000
    cache = PageCache(bench.node, _Store(pages), pages * PAGE_SIZE)

    def read() -> None:
        for index in range(pages):
            cache.read(index * PAGE_SIZE, PAGE_SIZE)

    yield "read a page of a file: miss", _per(pages, read)
    yield "read a page of a file: hit", _per(pages, read)
    bench.node.lru.drain()
    bench.vmscan.reclaim_pages(list(cache.pages.values()))
    yield "read a page of a file: refault", _per(pages, read)


def _allocators() -> Iterator[tuple[str, float]]:
    bench = _Bench(64)
    node = bench.node
    count = 4000
    held: list[Pfn] = []

    def take(order: int) -> None:
        for _ in range(count >> order):
            pfn = node.alloc_pages(order, GFP_KERNEL)
            assert pfn is not None, "bench: no memory"
            held.append(pfn)

    def give() -> None:
        while held:
            node.put_page(held.pop())

    for order in (0, 3):
        yield f"allocate 2**{order} frames", _per(count >> order, partial(take, order))
        yield f"free 2**{order} frames", _per(count >> order, give)


def _fork() -> Iterator[tuple[str, float]]:
    bench = _Bench(16)
    bench.fill(7000)

    def fork() -> None:
        for _ in range(20):
            dup_mm(bench.mm).destroy()

    yield "fork and exit, 7,000 pages, half in swap", _per(20, fork)


def _curve(ram: int) -> float:
    """Microseconds of reclaim for a page, where all of *ram* MiB is in use and nothing was used lately."""
    bench = _Bench(ram)
    bench.fill(ram * _MIB // PAGE_SIZE * 7 // 8)
    bench.node.lru.drain()
    for page in range(ram * _MIB // PAGE_SIZE * 7 // 8):
        bench.mm.pgtable.update(_BASE + page * PAGE_SIZE, clear=PTE_A)
    start = time.perf_counter_ns()
    taken = sum(bench.vmscan.try_to_free_pages(0, GFP_HIGHUSER) for _ in range(16))
    return (time.perf_counter_ns() - start) / 1000 / max(taken, 1)


def show(console: Console) -> None:
    """The two tables."""
    figures: dict[str, list[float]] = {}
    for _ in range(_ROUNDS):
        for part in (_swap_out_and_in, _scan, _page_cache, _allocators, _fork):
            for name, microseconds in part():
                figures.setdefault(name, []).append(microseconds)
    table = Table(title="memory management's own time: median us")
    table.add_column("operation")
    table.add_column("us", justify="right")
    for name, samples in figures.items():
        table.add_row(name, f"{statistics.median(samples):.2f}")
    console.print(table)
    curve = Table(title="reclaim of a page as RAM grows: median us")
    for ram in _CURVE:
        curve.add_column(f"{ram} MiB", justify="right")
    curve.add_row(*(f"{statistics.median(_curve(ram) for _ in range(3)):.2f}" for ram in _CURVE))
    console.print(curve)


if __name__ == "__main__":
    show(Console(width=120))
