"""What comes from outside while a program runs, as entries of a log: written down in one run, given back in another.

An answer of the host is an entry: what a read gave, what poll(2) said, when a sleeper was woken.  Where the host nearly
always says the same (a write is taken whole, a stream is ready) only what is new is written, with the number of the
call that heard it.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final, NamedTuple

from minikernel.trace.codec import TraceError

READ, WRITE, POLL, IOCTL, BELL, TIME = range(6)
"""What was asked: a stream's read, write, poll, ioctl; which sleepers to wake; the host's clock."""

WAIT: Final = -1000
"""A result: the guest had to wait."""
BROKEN: Final = -1001
"""A result: nobody reads (EPIPE)."""

_HEAD: Final = Struct("<BBBxIqI")  # what, stream, flag, call, result, bytes that follow
_MAX_ENTRIES: Final = 1 << 20


class TraceOver(Exception):  # noqa: N818 - the name says it all
    """Ends a run when a trace without an end has nothing more to say."""


class Entry(NamedTuple):
    """One answer."""

    what: int
    fd: int  # of the stream; BELL: its place among them; TIME: which clock
    flag: int  # 1: watchers know that there is input (HostInode.announced), afterwards
    call: int  # number of the call, from 1, of this kind on this stream
    result: int  # what came of it; -errno, WAIT or BROKEN
    data: bytes = b""


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """The contents of an ``INPT`` chunk."""
    return b"".join(_HEAD.pack(*entry[:5], len(entry.data)) + entry.data for entry in entries)


def decode_entries(data: bytes) -> list[Entry]:
    """What ``encode_entries`` made.

    Raises:
        TraceError: it did not.
    """
    entries: list[Entry] = []
    at = 0
    while at < len(data):
        if len(data) - at < _HEAD.size or len(entries) >= _MAX_ENTRIES:
            raise TraceError("the input is cut off")
        what, fd, flag, call, result, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        if len(data) - at < size or what > TIME:
            raise TraceError("the input is damaged")
        entries.append(Entry(what, fd, flag, call, result, data[at : at + size]))
        at += size
    return entries


class Script:
    """The log of one run, to be read again in the same order.

    *open_end*: the log stops somewhere in the middle, so what is behind it ends the run (TraceOver).
    """

    def __init__(self, entries: Iterable[Entry], *, open_end: bool = False) -> None:
        self._queues: dict[tuple[int, int], deque[Entry]] = defaultdict(deque)
        self._calls: dict[tuple[int, int], int] = defaultdict(int)
        self._open_end = open_end
        for entry in entries:
            self._queues[entry.what, entry.fd if entry.what != BELL else 0].append(entry)

    def next(self, what: int, fd: int) -> Entry | None:
        """The next answer of a kind of which all are written down; None behind the last."""
        queue = self._queues[what, fd]
        if queue:
            return queue.popleft()
        if self._open_end:
            raise TraceOver
        return None

    def give_back(self, entry: Entry) -> None:
        """*entry* was more than was asked for: what it holds now comes next."""
        self._queues[entry.what, entry.fd].appendleft(entry)

    def at_call(self, what: int, fd: int) -> list[Entry]:
        """The answers that were new at this call, which is counted."""
        key = what, fd
        self._calls[key] = call = self._calls[key] + 1
        queue = self._queues[key]
        found = []
        while queue and queue[0].call <= call:
            found.append(queue.popleft())
        return found
