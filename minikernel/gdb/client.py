"""What the client has said so far: whom it is attached to, what is to stop them, which features it knows.

Ids only, no objects of the kernel: this is the user's state, and goes along when the machine goes back in time.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from minikernel.gdb.text import ALL, ANY, ThreadId


class PointKind(IntEnum):
    """The numbers of ``Z`` packets."""

    SOFTWARE = 0
    HARDWARE = 1
    WRITE = 2
    READ = 3
    ACCESS = 4

    @property
    def is_code(self) -> bool:
        """A breakpoint; otherwise a watchpoint."""
        return self in {PointKind.SOFTWARE, PointKind.HARDWARE}


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One ``Z`` point: *size* is in bytes for watchpoints, and the target's own business for breakpoints."""

    kind: PointKind
    address: int
    size: int


@dataclass(slots=True)
class Inferior:
    """A process that the client is attached to."""

    pid: int
    attached: bool = False  # by vAttach or a new connection; otherwise the client started it, or saw it forked
    points: set[Point] = field(default_factory=set)
    catches: frozenset[int] | None = None  # numbers of system calls that stop it; empty: all; None: none does

    def fork(self, pid: int) -> "Inferior":
        """A child, which begins with what stops its parent."""
        return Inferior(pid, points=set(self.points), catches=self.catches)


EVERYONE: Final = ThreadId(ALL, ALL)
ANYONE: Final = ThreadId(ANY, ANY)


@dataclass(frozen=True, slots=True)
class Action:
    """What ``vCont`` wants of some threads: to go on (c), one instruction (s), or until outside of [start, end) (r)."""

    kind: str
    signal: int = 0  # gdb's number of the signal to deliver; 0: none
    start: int = 0
    end: int = 0
    threads: ThreadId = EVERYONE

    def is_for(self, pid: int, tid: int) -> bool:
        """Whether the thread is meant."""
        return self.threads.pid in {ALL, ANY, pid} and self.threads.tid in {ALL, ANY, tid}


@dataclass(slots=True)
class Client:
    """One client, from connection to connection."""

    inferiors: dict[int, Inferior] = field(default_factory=dict)  # by process id
    features: frozenset[str] = frozenset()  # of qSupported, as "fork-events"
    pass_signals: frozenset[int] = frozenset()  # gdb's numbers: delivered without a stop
    general: ThreadId = ANYONE  # Hg: whom other packets are about
    step: ThreadId = EVERYONE  # Hc
    extended: bool = False
    thread_events: bool = False
    open_files: dict[int, tuple[int, bytes]] = field(default_factory=dict)  # vFile: from whose root, under which name
    fs_pid: int = 0  # whose root directory names are looked up from; 0: the current process's
