"""What the file systems need of the kernel that holds them; ``Kernel`` satisfies it, and so does a test's stub."""

from typing import Protocol

from minikernel.mm.page_alloc import Node


class Clock(Protocol):
    """The machine's clock."""

    def realtime_ns(self) -> int:
        """CLOCK_REALTIME, ns since the epoch."""
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
    def random(self) -> RandomSource:
        """/dev/urandom."""
        ...
