"""What the file systems need of the kernel that holds them; ``Kernel`` satisfies it, and so does a test's stub."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from minikernel.mm.page_alloc import Node

if TYPE_CHECKING:
    from minikernel.fs.dentry import Path
    from minikernel.fs.file import OpenFile


class Clock(Protocol):
    """The machine's clock."""

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME, ns since the epoch."""
        ...

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC, ns since boot."""
        ...

    def add_timer(self, deadline: int, callback: Callable[[], None]) -> object:
        """Call *callback* once, when CLOCK_MONOTONIC has reached *deadline* ns."""
        ...


class RandomSource(Protocol):
    """The machine's seeded randomness."""

    def randbytes(self, n: int, /) -> bytes:
        """*n* random bytes."""
        ...


class KernelServices(Protocol):
    """The kernel, as far as files look at it."""

    @property
    def node(self) -> Node:
        """Where the frames of the page cache come from."""
        ...

    @property
    def clock(self) -> Clock:
        """Time stamps."""
        ...

    @property
    def chrdevs(self) -> "dict[int, Callable[[Path, int], OpenFile]]":
        """Who opens a character device, by its number as st_rdev shows it; besides the memory devices."""
        ...

    @property
    def random(self) -> RandomSource:
        """/dev/urandom."""
        ...
