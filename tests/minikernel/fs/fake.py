"""As much of a kernel as files need: RAM, frames, a clock that stands where it is put."""

from collections.abc import Callable

from emu.physmem import PhysMem
from minikernel.events import Tracer
from minikernel.fs.dentry import Path
from minikernel.fs.file import OpenFile
from minikernel.mm.layout import X86_64_LAYOUT
from minikernel.mm.page_alloc import Node
from minikernel.prng import Prng

START_NS = 1_600_000_000_000_000_000


class FakeClock:
    """A clock that moves by a microsecond with every look, so that later stamps are larger."""

    def __init__(self) -> None:
        self.now = START_NS
        self.timers: list[Callable[[], None]] = []

    def now_ns(self) -> int:
        return self.now - START_NS

    def add_timer(self, deadline: int, callback: Callable[[], None]) -> object:
        """Kept, and called by the test."""
        assert deadline > self.now_ns()
        self.timers.append(callback)
        return callback

    def realtime_ns(self) -> int:
        self.now += 1000
        return self.now


class FakeServices:
    """As much of a kernel as files need."""

    def __init__(self, ram: int = 32 << 20) -> None:
        self.node = Node(PhysMem(ram), X86_64_LAYOUT, Tracer())
        self.clock = FakeClock()
        self.random = Prng(1)
        self.chrdevs: dict[int, Callable[[Path, int], OpenFile]] = {}
