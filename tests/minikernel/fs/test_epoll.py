"""epoll on files alone: what is reported, when, and what a wait costs."""

from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikernel.abi.epoll import EPOLLET, EPOLLEXCLUSIVE, EPOLLONESHOT
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_NONBLOCK
from minikernel.abi.poll import POLLIN, POLLOUT
from minikernel.fs.epoll import EpollFile
from minikernel.fs.file import OpenFile
from minikernel.fs.vfs import Vfs
from tests.minikernel.fs.conftest import MakeVfs
from tests.minikernel.fs.fake import FakeServices

ONE = (1).to_bytes(8, "little")


class Sleeper:
    """A task in a wait queue."""

    def __init__(self) -> None:
        self.woken = 0

    def wake_up(self) -> None:
        self.woken += 1


@pytest.fixture
def vfs(make_vfs: MakeVfs) -> Vfs:
    return make_vfs()


def epoll(vfs: Vfs) -> EpollFile:
    ep = vfs.epoll()
    assert isinstance(ep, EpollFile)
    return ep


def counter(vfs: Vfs) -> OpenFile:
    return vfs.eventfd(0, O_NONBLOCK, semaphore=False)


def reported(ep: EpollFile, limit: int = 64) -> list[tuple[int, int]]:
    """What a wait would give: (events, data)."""
    found: list[tuple[int, int]] = []
    ep.send_events(limit, lambda events, data: found.append((events, data)))
    return found


def errno_of(call: Callable[[], object]) -> Errno:
    with pytest.raises(LinuxError) as caught:
        call()
    return caught.value.errno


def test_a_wait_looks_at_what_is_ready_and_at_nothing_else(vfs: Vfs) -> None:
    """Of 1,000 watched files one has something to say: one is polled, however often it is."""
    ep = epoll(vfs)
    files = [counter(vfs) for _ in range(1000)]
    for fd, file in enumerate(files):
        ep.add(file, fd, POLLIN, fd)
    files[617].write(ONE)
    assert list(ep.ready) == [ep.items[files[617], 617]]
    assert reported(ep) == [(POLLIN, 617)]
    files[617].read(8)
    assert reported(ep) == []
    assert ep.ready == deque()


def test_level_triggered_files_take_turns(vfs: Vfs) -> None:
    ep = epoll(vfs)
    for fd in range(3):
        file = counter(vfs)
        ep.add(file, fd, POLLIN, fd)
        file.write(ONE)
    assert [reported(ep, 1)[0][1] for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_an_exclusive_event_wakes_one_epoll_that_somebody_waits_on(vfs: Vfs) -> None:
    file = counter(vfs)
    eps = [epoll(vfs) for _ in range(3)]
    sleepers = [Sleeper() for _ in eps]
    for number, (ep, sleeper) in enumerate(zip(eps, sleepers, strict=True)):
        ep.add(file, 5, POLLIN | EPOLLEXCLUSIVE, 0)
        if number:
            ep.queue.waiters.append(sleeper)
    file.write(ONE)
    assert [sleeper.woken for sleeper in sleepers] == [0, 1, 0]


def test_one_event_wakes_one_of_those_who_wait_on_one_epoll(vfs: Vfs) -> None:
    file, ep = counter(vfs), epoll(vfs)
    ep.add(file, 5, POLLIN, 0)
    sleepers = [Sleeper(), Sleeper()]
    ep.queue.waiters.extend(sleepers)
    file.write(ONE)
    assert [sleeper.woken for sleeper in sleepers] == [1, 0]


def test_the_last_reference_of_a_file_takes_it_out_of_every_epoll(vfs: Vfs) -> None:
    file, one, other = counter(vfs), epoll(vfs), epoll(vfs)
    one.add(file, 5, POLLIN, 0)
    other.add(file, 6, POLLOUT, 0)
    file.get_file()
    file.put_file()
    assert one.items
    file.put_file()
    assert not one.items
    assert not other.items
    assert not other.ready


def test_a_closed_epoll_leaves_the_files_alone(vfs: Vfs) -> None:
    reader, writer = vfs.pipe(0)
    ep = epoll(vfs)
    ep.add(reader, 3, POLLIN, 0)
    ep.add(writer, 4, POLLOUT, 0)
    ep.put_file()
    assert not reader.epitems
    assert not any(queue.watchers for queue in (*reader.poll_queues(), *writer.poll_queues()))


def test_circles_and_deep_nesting_are_refused(vfs: Vfs) -> None:
    chain = [epoll(vfs) for _ in range(6)]
    for upper, lower in zip(chain[1:5], chain[:4], strict=True):
        upper.add(lower, 1, POLLIN, 0)
    assert errno_of(lambda: chain[5].add(chain[4], 1, POLLIN, 0)) == Errno.ELOOP
    assert errno_of(lambda: chain[0].add(chain[3], 1, POLLIN, 0)) == Errno.ELOOP
    assert errno_of(lambda: chain[1].add(chain[0], 1, POLLIN, 0)) == Errno.EEXIST


def test_too_many_chains_to_one_file_are_refused(vfs: Vfs) -> None:
    """500 ways of two steps may lead to a file, one more may not; what failed leaves no trace."""
    file = counter(vfs)
    inner = epoll(vfs)
    inner.add(file, 1, POLLIN, 0)
    outer = [epoll(vfs) for _ in range(501)]
    for ep in outer[:500]:
        ep.add(inner, 1, POLLIN, 0)
    assert errno_of(lambda: outer[500].add(inner, 1, POLLIN, 0)) == Errno.EINVAL
    assert not outer[500].items


@given(
    steps=st.lists(st.tuples(st.sampled_from(["write", "read", "wait", "mod"]), st.integers(0, 3)), max_size=40),
    flags=st.lists(st.sampled_from([0, EPOLLET, EPOLLONESHOT]), min_size=4, max_size=4),
)
def test_nothing_that_is_ready_is_ever_forgotten(steps: list[tuple[str, int]], flags: list[int]) -> None:
    """Against a model: level tells what is, edge what has happened since, one-shot once until it is armed again."""
    vfs = Vfs(FakeServices(4 << 20), b"/")
    ep = epoll(vfs)
    files = [counter(vfs) for _ in range(4)]
    for fd, file in enumerate(files):
        ep.add(file, fd, POLLIN | flags[fd], fd)
    count, news, armed = [0] * 4, [False] * 4, [True] * 4
    for what, fd in steps:
        if what == "write":
            files[fd].write(ONE)
            count[fd] += 1
            news[fd] = True
        elif what == "read" and count[fd]:
            files[fd].read(8)
            count[fd] = 0
        elif what == "mod":
            ep.modify(files[fd], fd, POLLIN | flags[fd], fd)
            armed[fd], news[fd] = True, True
        elif what == "wait":
            expected = {
                n for n in range(4) if count[n] and ({0: True, EPOLLET: news[n], EPOLLONESHOT: armed[n]}[flags[n]])
            }
            assert {data for _, data in reported(ep)} == expected
            for n in range(4):
                news[n] = False
                armed[n] = armed[n] and n not in expected
    for file in (*files, ep):
        file.put_file()
    vfs.shutdown()
