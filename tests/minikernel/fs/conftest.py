"""A machine's files without a machine: RAM, frames, a clock that stands where it is put."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from emu.physmem import PhysMem
from minikernel.events import Tracer
from minikernel.fs.vfs import Bind, Vfs
from minikernel.mm.layout import X86_64_LAYOUT
from minikernel.mm.page_alloc import Node
from minikernel.prng import Prng

START_NS = 1_600_000_000_000_000_000


class FakeClock:
    """A clock that moves by a microsecond with every look, so that later stamps are larger."""

    def __init__(self) -> None:
        self.now = START_NS

    def realtime_ns(self) -> int:
        self.now += 1000
        return self.now


class FakeServices:
    """As much of a kernel as files need."""

    def __init__(self, ram: int = 32 << 20) -> None:
        self.node = Node(PhysMem(ram), X86_64_LAYOUT, Tracer())
        self.clock = FakeClock()
        self.random = Prng(1)


MakeVfs = Callable[..., Vfs]


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
def make_vfs(services: FakeServices, tmp_path: Path) -> Iterator[MakeVfs]:
    """A Vfs over a host directory (by default tmp_path/root, which is made)."""
    made: list[Vfs] = []

    def make(root: Path | None = None, binds: tuple[Bind, ...] = ()) -> Vfs:
        if root is None:
            root = tmp_path / "root"
            root.mkdir(exist_ok=True)
        vfs = Vfs(services, bytes(root), binds)
        made.append(vfs)
        return vfs

    yield make
    for vfs in made:
        vfs.shutdown()
