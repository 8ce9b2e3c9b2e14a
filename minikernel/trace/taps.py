"""Who stands at the doors: taps that write down what the host says, and taps that say it again."""

from collections.abc import Callable
from typing import ClassVar, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.poll import READABLE, WRITABLE
from minikernel.clock import HostTime
from minikernel.fs.file import BrokenPipe, WouldBlock
from minikernel.fs.hostio import HostInode
from minikernel.trace.inputs import BELL, BROKEN, IOCTL, POLL, READ, TIME, WAIT, WRITE, Entry, Script

Output = Callable[[int, bytes], None]
"""Hears what the guest writes to a stream: descriptor, bytes."""

_READY: Final = READABLE | WRITABLE


class StreamRecorder:
    """Writes down what comes in through one stream."""

    def __init__(self, log: list[Entry], fd: int, inode: HostInode) -> None:
        self._log = log
        self._fd = fd
        self._inode = inode
        self._polls = self._writes = 0
        self._polled = (_READY, False)

    def _note(self, what: int, call: int, result: int, data: bytes = b"") -> None:
        self._log.append(Entry(what, self._fd, self._inode.announced, call, result, data))

    def read(self, count: int, host: Callable[[int], bytes]) -> bytes:
        """Ask the host."""
        try:
            data = host(count)
        except WouldBlock:
            self._note(READ, 0, WAIT)
            raise
        except LinuxError as error:
            self._note(READ, 0, -error.errno)
            raise
        self._note(READ, 0, len(data), data)
        return data

    def write(self, data: bytes, host: Callable[[bytes], int]) -> int:
        """Give it to the host; what is not taken whole is worth a note."""
        self._writes += 1
        announced = self._inode.announced
        try:
            taken = host(data)
        except WouldBlock:
            self._note(WRITE, self._writes, WAIT)
            raise
        except BrokenPipe:
            self._note(WRITE, self._writes, BROKEN)
            raise
        except LinuxError as error:
            self._note(WRITE, self._writes, -error.errno)
            raise
        if taken != len(data) or announced != self._inode.announced:
            self._note(WRITE, self._writes, taken)
        return taken

    def poll(self, host: Callable[[], int]) -> int:
        """Ask the host; another answer than the last one is worth a note."""
        self._polls += 1
        answer = (host(), self._inode.announced)
        if answer != self._polled:
            self._polled = answer
            self._note(POLL, self._polls, answer[0])
        return answer[0]

    def ioctl(self, request: int, data: bytes | int, host: Callable[[int, bytes | int], bytes]) -> bytes:
        """Ask the host."""
        try:
            answer = host(request, data)
        except LinuxError as error:
            self._note(IOCTL, 0, -error.errno)
            raise
        self._note(IOCTL, 0, 0, answer)
        return answer


class StreamPlayer:
    """Says what was written down.  *real*: the stream is a file of our own, which takes what is written, too."""

    def __init__(self, script: Script, fd: int, inode: HostInode, output: Output | None, *, real: bool) -> None:
        self._script = script
        self._fd = fd
        self._inode = inode
        self._output = output
        self._real = real
        self._polled = _READY

    def _raise(self, result: int) -> None:
        if result == BROKEN:
            raise BrokenPipe("nobody read our output")
        if result < 0:
            raise LinuxError(Errno(-result), "as it was recorded")

    def read(self, count: int, _host: Callable[[int], bytes]) -> bytes:
        """The next piece of the record; nothing behind its end."""
        entry = self._script.next(READ, self._fd)
        if entry is None:
            return b""
        self._inode.announced = bool(entry.flag)
        if entry.result == WAIT:
            raise WouldBlock(self._inode.queue, "it had to wait here")
        self._raise(entry.result)
        if len(entry.data) > count:  # another read than the one that was recorded
            self._script.give_back(entry._replace(data=entry.data[count:]))
        return entry.data[:count]

    def write(self, data: bytes, host: Callable[[bytes], int]) -> int:
        """Taken whole, if nothing else was noted."""
        taken = len(data)
        for entry in self._script.at_call(WRITE, self._fd):
            self._inode.announced = bool(entry.flag)
            if entry.result == WAIT:
                raise WouldBlock(self._inode.room, "it had to wait here")
            self._raise(entry.result)
            taken = min(entry.result, taken)
        data = data[:taken]
        if self._output is not None:
            self._output(self._fd, data)
        return host(data) if self._real else taken

    def poll(self, _host: Callable[[], int]) -> int:
        """The last answer that was noted."""
        for entry in self._script.at_call(POLL, self._fd):
            self._polled = entry.result
            self._inode.announced = bool(entry.flag)
        return self._polled

    def ioctl(self, _request: int, data: bytes | int, _host: Callable[[int, bytes | int], bytes]) -> bytes:
        """The next answer; behind the last: there is no such request."""
        entry = self._script.next(IOCTL, self._fd)
        self._raise(-Errno.ENOTTY if entry is None else entry.result)
        assert entry is not None, "StreamPlayer.ioctl: no answer was an error"
        return entry.data.ljust(len(data), b"\0") if isinstance(data, bytes) else entry.data


class BellRecorder:
    """Writes down which sleepers the host woke, and when."""

    def __init__(self, log: list[Entry]) -> None:
        self._log = log
        self._calls = 0
        self.on_idle: Callable[[], None] | None = None  # there is time to write things down

    def poll(self, host: Callable[[], list[tuple[int, int]]], *, idle: bool) -> list[tuple[int, int]]:
        """Ask the host."""
        self._calls += 1
        if idle and self.on_idle is not None:
            self.on_idle()
        ready = host()
        self._log += [Entry(BELL, place, 0, self._calls, events) for place, events in ready]
        return ready


class BellPlayer:
    """Wakes the same sleepers at the same calls."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def poll(self, _host: Callable[[], list[tuple[int, int]]], *, idle: bool) -> list[tuple[int, int]]:
        """What was noted of this call."""
        del idle
        return [(entry.fd, entry.result) for entry in self._script.at_call(BELL, 0)]


class TimeRecorder:
    """Writes down what the host's clocks show."""

    is_record: ClassVar[bool] = False

    def __init__(self, log: list[Entry], host: HostTime) -> None:
        self._log = log
        self._host = host

    def _note(self, clock: int, ns: int) -> int:
        self._log.append(Entry(TIME, clock, 0, 0, ns))
        return ns

    def time_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return self._note(0, self._host.time_ns())

    def monotonic_ns(self) -> int:
        """Nanoseconds since some moment."""
        return self._note(1, self._host.monotonic_ns())

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._host.sleep(seconds)


class TimePlayer:
    """Shows the same times."""

    is_record: ClassVar[bool] = True

    def __init__(self, script: Script) -> None:
        self._script = script
        self._last = [0, 0]

    def _read(self, clock: int) -> int:
        entry = self._script.next(TIME, clock)
        if entry is not None:
            self._last[clock] = entry.result
        return self._last[clock]

    def time_ns(self) -> int:
        """Nanoseconds since the epoch, when it was recorded."""
        return self._read(0)

    def monotonic_ns(self) -> int:
        """Nanoseconds since some moment before that."""
        return self._read(1)

    @staticmethod
    def sleep(seconds: float) -> None:
        """Nobody has to wait a second time."""
        del seconds
