"""Handlers: poll and select.  Linux: fs/select.c."""

from collections.abc import Callable, Coroutine
from functools import reduce
from operator import or_
from typing import Any, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.poll import POLLERR, POLLEX_SET, POLLFD, POLLHUP, POLLIN_SET, POLLNVAL, POLLOUT_SET
from minikernel.abi.resource import RLIMIT_NOFILE
from minikernel.abi.time import (
    NSEC_PER_SEC,
    NSEC_PER_USEC,
    pack_timespec,
    pack_timespec64,
    pack_timeval,
    pair_size,
    timespec_ns,
    unpack_timespec,
    unpack_timespec64,
    unpack_timeval,
)
from minikernel.fs.file import OpenFile
from minikernel.fs.poll import wait_for_files
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.syscalls.args import (
    Int,
    PollFds,
    Ptr,
    SigsetIn,
    Size,
    Timespec64In,
    TimespecIn,
    TimevalIn,
    UInt,
)
from minikernel.syscalls.entry_types import Entry, Result, full
from minikernel.syscalls.file_common import abi_of
from minikernel.syscalls.sigaction import check_sigset_size, read_sigset
from minikernel.task.signal import set_blocked
from minikernel.task.task import Task
from minikernel.wait import Interrupted

_NS_PER_MS: Final = 1_000_000


class _Timeout:
    """A timeout in user memory: where it is, how it is written, and when it ends."""

    __slots__ = ("address", "deadline", "kernel", "style")

    def __init__(self, kernel: Kernel, task: Task, address: int, style: str) -> None:
        """*style*: "spec", "spec64" or "val".  No address: wait for ever.  Errors: EINVAL, EFAULT."""
        self.kernel = kernel
        self.address = address
        self.style = style
        self.deadline: int | None = None
        if address:
            self.deadline = kernel.clock.now_ns() + self._read(task)

    def _read(self, task: Task) -> int:
        abi = abi_of(task)
        if self.style == "spec64":
            return timespec_ns(*unpack_timespec64(abi, copy_from_user(task.mm, self.address, 16)))
        data = copy_from_user(task.mm, self.address, pair_size(abi))
        if self.style == "spec":
            return timespec_ns(*unpack_timespec(abi, data))
        # select takes more than a second of microseconds (kern_select normalizes).
        seconds, microseconds = unpack_timeval(abi, data)
        if seconds < 0 or microseconds < 0:
            raise LinuxError(Errno.EINVAL, "a negative timeout")
        more, microseconds = divmod(microseconds, 1_000_000)
        return (seconds + more) * NSEC_PER_SEC + microseconds * NSEC_PER_USEC

    def tell(self, task: Task) -> None:
        """Store what is left (poll_select_finish); a bad address is not an error there."""
        if self.deadline is None:
            return
        left = max(self.deadline - self.kernel.clock.now_ns(), 0)
        abi = abi_of(task)
        if self.style == "spec64":
            data = pack_timespec64(left)
        else:
            data = pack_timespec(abi, left) if self.style == "spec" else pack_timeval(abi, left)
        try:
            copy_to_user(task.mm, self.address, data)
        except LinuxError:
            return


async def _finish(task: Task, call: Coroutine[Any, Any, int], limit: _Timeout | None, mask: int | None) -> int:
    """Run *call* with *mask* blocked; put the old mask back, behind a handler if one comes to run."""
    if mask is not None:
        task.saved_sigmask = task.blocked
        set_blocked(task, mask)
    try:
        result = await call
    except Interrupted:
        if limit is not None:
            limit.tell(task)
        return -int(Errno.ERESTARTNOHAND)
    except BaseException:
        _restore_mask(task, mask)
        raise
    if limit is not None:
        limit.tell(task)
    _restore_mask(task, mask)
    return result


def _restore_mask(task: Task, mask: int | None) -> None:
    if mask is not None and task.saved_sigmask is not None:
        set_blocked(task, task.saved_sigmask)
        task.saved_sigmask = None


# ---- poll


class _PollSet:
    """The array of struct pollfd of one call: do_sys_poll."""

    __slots__ = ("_address", "_entries", "_files", "_task")

    def __init__(self, task: Task, address: int, count: int) -> None:
        """Errors: EINVAL: more than RLIMIT_NOFILE; EFAULT."""
        if count > task.rlimits[RLIMIT_NOFILE][0]:
            raise LinuxError(Errno.EINVAL, f"{count} descriptors")
        data = copy_from_user(task.mm, address, count * POLLFD.size)
        self._task = task
        self._address = address
        self._entries = [(fd, events) for fd, events, _ in POLLFD.iter_unpack(data)]
        self._files: list[OpenFile | None] = [self._find(fd) for fd, _ in self._entries]

    def _find(self, fd: int) -> OpenFile | None:
        try:
            return self._task.files.get(fd)
        except LinuxError:
            return None

    def files(self) -> list[tuple[OpenFile, int]]:
        """The files to wait for, and for what."""
        return [
            (file, events) for (_, events), file in zip(self._entries, self._files, strict=True) if file is not None
        ]

    def _revents(self, number: int) -> int:
        fd, events = self._entries[number]
        if fd < 0:
            return 0
        file = self._files[number]
        return POLLNVAL if file is None else file.poll() & (events | POLLERR | POLLHUP)

    def ready(self) -> int:
        """How many descriptors have something to tell."""
        return sum(bool(self._revents(number)) for number in range(len(self._entries)))

    def store(self) -> int:
        """Write every revents; how many are not 0.  Errors: EFAULT."""
        count = 0
        for number in range(len(self._entries)):
            revents = self._revents(number)
            count += bool(revents)
            at = self._address + number * POLLFD.size + 6
            copy_to_user(self._task.mm, at, revents.to_bytes(2, "little"))
        return count

    async def wait(self, deadline: int | None) -> int:
        """Wait until some descriptor is ready."""
        await wait_for_files(self.files(), self.ready, deadline, self._task.kernel.clock.now_ns)
        return self.store()


def sys_poll(kernel: Kernel, task: Task, fds: PollFds, nfds: UInt, timeout: Int) -> Result:
    """Wait for one of many descriptors, *timeout* in ms: poll(2)."""
    polled = _PollSet(task, fds, nfds)
    if timeout == 0 or polled.ready():
        return polled.store()
    deadline = None if timeout < 0 else kernel.clock.now_ns() + timeout * _NS_PER_MS
    return _poll(task, polled, deadline, lambda: _PollSet(task, fds, nfds))


async def _poll(task: Task, polled: _PollSet, deadline: int | None, again: Callable[[], _PollSet]) -> int:
    """Wait until *deadline*, also when restart_syscall(2) goes on after a stop (do_restart_poll)."""
    try:
        return await polled.wait(deadline)
    except Interrupted:
        task.restart = lambda: _poll(task, again(), deadline, again)
        raise LinuxError(Errno.ERESTART_RESTARTBLOCK, "interrupted poll") from None


def _ppoll(kernel: Kernel, task: Task, fds: int, nfds: int, timeout: _Timeout, mask_at: int, size: int) -> Result:
    del kernel
    mask = None
    if mask_at:
        check_sigset_size(size)
        mask = read_sigset(task, mask_at)
    polled = _PollSet(task, fds, nfds)
    return _finish(task, polled.wait(timeout.deadline), timeout, mask)


def sys_ppoll(
    kernel: Kernel, task: Task, fds: PollFds, nfds: UInt, timeout: TimespecIn, mask: SigsetIn, size: Size
) -> Result:
    """The same with a timespec and a signal mask: ppoll(2)."""
    return _ppoll(kernel, task, fds, nfds, _Timeout(kernel, task, timeout, "spec"), mask, size)


def sys_ppoll_time64(
    kernel: Kernel, task: Task, fds: PollFds, nfds: UInt, timeout: Timespec64In, mask: SigsetIn, size: Size
) -> Result:
    """The same with 64-bit seconds: ppoll_time64(2) of i386."""
    return _ppoll(kernel, task, fds, nfds, _Timeout(kernel, task, timeout, "spec64"), mask, size)


# ---- select


class _SelectSet:
    """The three sets of descriptors of one call: core_sys_select."""

    __slots__ = ("_addresses", "_answers", "_count", "_files", "_size", "_task", "_wanted")

    def __init__(self, task: Task, count: int, addresses: tuple[int, int, int]) -> None:
        """Errors: EINVAL: a negative count; EBADF: a descriptor in a set is not open; EFAULT."""
        if count < 0:
            raise LinuxError(Errno.EINVAL, f"{count} descriptors")
        self._task = task
        # No more than the table holds (max_select_fd); whole words, as fd_sets are arrays of longs.
        self._count = min(count, max(len(task.files.fds), 64))
        bits = 8 * abi_of(task).word
        self._size = (self._count + bits - 1) // bits * abi_of(task).word
        self._addresses = addresses
        limit = (1 << self._count) - 1
        self._wanted = [
            int.from_bytes(copy_from_user(task.mm, at, self._size), "little") & limit if at else 0 for at in addresses
        ]
        self._answers = [0, 0, 0]
        anything = self._wanted[0] | self._wanted[1] | self._wanted[2]
        self._files = {fd: task.files.get(fd) for fd in range(self._count) if anything >> fd & 1}

    def _events(self, fd: int) -> int:
        sets = zip(self._wanted, (POLLIN_SET, POLLOUT_SET, POLLEX_SET), strict=True)
        return reduce(or_, (events for wanted, events in sets if wanted >> fd & 1))

    def ready(self) -> int:
        """How many descriptors are ready, counted once for each set; keeps the answer sets."""
        answers = [0, 0, 0]
        count = 0
        for fd, file in self._files.items():
            mask = file.poll()
            for number, interesting in enumerate((POLLIN_SET, POLLOUT_SET, POLLEX_SET)):
                if self._wanted[number] >> fd & 1 and mask & interesting:
                    answers[number] |= 1 << fd
                    count += 1
        self._answers = answers
        return count

    async def wait(self, deadline: int | None) -> int:
        """Wait until some descriptor is ready, and store the answer."""
        files = [(file, self._events(fd)) for fd, file in self._files.items()]
        count = await wait_for_files(files, self.ready, deadline, self._task.kernel.clock.now_ns)
        for address, answer in zip(self._addresses, self._answers, strict=True):
            if address:
                copy_to_user(self._task.mm, address, answer.to_bytes(self._size, "little"))
        return count


def sys_select(kernel: Kernel, task: Task, n: Int, inp: Ptr, outp: Ptr, exp: Ptr, timeout: TimevalIn) -> Result:
    """Wait for descriptors in three sets: select(2)."""
    end = _Timeout(kernel, task, timeout, "val")
    return _finish(task, _SelectSet(task, n, (inp, outp, exp)).wait(end.deadline), end, None)


def sys_old_select(kernel: Kernel, task: Task, arguments: Ptr) -> Result:
    """The same with its arguments in memory: select(2) of i386's first kernels."""
    n, inp, outp, exp, timeout = abi_of(task).unpack_words(copy_from_user(task.mm, arguments, 20))
    return sys_select(kernel, task, n - (n >> 31 << 32), inp, outp, exp, timeout)


def _pselect(
    task: Task, n: int, sets: tuple[int, int, int], timeout: _Timeout, sigmask: int
) -> Coroutine[Any, Any, int]:
    """do_pselect; *sigmask* points to a pointer to the mask, and its size."""
    mask = None
    if sigmask:
        abi = abi_of(task)
        where, size = abi.unpack_words(copy_from_user(task.mm, sigmask, 2 * abi.word))
        if where:
            check_sigset_size(size)
            mask = read_sigset(task, where)
    return _finish(task, _SelectSet(task, n, sets).wait(timeout.deadline), timeout, mask)


def sys_pselect6(
    kernel: Kernel, task: Task, n: Int, inp: Ptr, outp: Ptr, exp: Ptr, timeout: TimespecIn, sigmask: Ptr
) -> Result:
    """The same with a timespec and a signal mask: pselect6(2)."""
    return _pselect(task, n, (inp, outp, exp), _Timeout(kernel, task, timeout, "spec"), sigmask)


def sys_pselect6_time64(
    kernel: Kernel, task: Task, n: Int, inp: Ptr, outp: Ptr, exp: Ptr, timeout: Timespec64In, sigmask: Ptr
) -> Result:
    """The same with 64-bit seconds: pselect6_time64(2) of i386."""
    return _pselect(task, n, (inp, outp, exp), _Timeout(kernel, task, timeout, "spec64"), sigmask)


ENTRIES: Final[tuple[Entry, ...]] = (
    full("poll", sys_poll),
    full("ppoll", sys_ppoll),
    full("ppoll_time64", sys_ppoll_time64, abi="i386"),
    full("select", sys_select, abi="x86-64"),
    full("select", sys_old_select, abi="i386"),
    full("_newselect", sys_select, abi="i386"),
    full("pselect6", sys_pselect6),
    full("pselect6_time64", sys_pselect6_time64, abi="i386"),
)
