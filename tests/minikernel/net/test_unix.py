"""AF_UNIX below the system calls: names, who is told what, memory, descriptors in flight."""

from pathlib import Path

import pytest

from minikernel.abi.abi import ABIS, Abi
from minikernel.abi.errno import Errno
from minikernel.abi.poll import POLLIN, POLLOUT
from minikernel.abi.socket import AF_UNIX, MSG_DONTWAIT, SO_SNDBUF, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, SOL_SOCKET
from minikernel.syscalls.table import advance
from tests.minikernel.net.machine import Sockets


@pytest.fixture
def sockets(tmp_path: Path) -> Sockets:
    return Sockets(tmp_path)


def bind(sockets: Sockets, fd: int, name: bytes) -> int:
    """Bind *fd* to a path, or with a NUL in front to an abstract name."""
    address = b"\1\0" + name
    return sockets.call("bind", fd, sockets.put(address), len(address))


def connect(sockets: Sockets, fd: int, name: bytes) -> int:
    """Connect *fd* to a name."""
    address = b"\1\0" + name
    return sockets.call("connect", fd, sockets.put(address), len(address))


def test_names_given_by_the_kernel_are_counted(sockets: Sockets) -> None:
    """The same run gives the same names: Linux begins at random."""
    fds = [sockets.socket(AF_UNIX, SOCK_DGRAM) for _ in range(2)]
    for fd in fds:
        assert bind(sockets, fd, b"") == 0

    names = [address for address, _ in sockets.kernel.net.unix.abstract]
    assert names == [b"\1\0\x0000000", b"\1\0\x0000001"]


def test_an_abstract_name_is_free_when_its_socket_is_closed(sockets: Sockets) -> None:
    fd = sockets.socket(AF_UNIX, SOCK_STREAM)
    assert bind(sockets, fd, b"\0name") == 0
    other = sockets.socket(AF_UNIX, SOCK_STREAM)
    assert bind(sockets, other, b"\0name") == -Errno.EADDRINUSE
    sockets.call("close", fd)

    assert bind(sockets, other, b"\0name") == 0


def test_a_path_that_is_unlinked_keeps_its_inode_as_long_as_the_socket_lives(sockets: Sockets) -> None:
    sockets.put(bytes(1))
    before = sockets.held()
    fd = sockets.socket(AF_UNIX, SOCK_STREAM)
    assert bind(sockets, fd, b"/dev/shm/s") == 0
    assert sockets.call("unlink", sockets.put(b"/dev/shm/s\0")) == 0
    inode = next(iter(sockets.kernel.net.unix.paths))
    assert inode.address
    sockets.call("close", fd)

    assert not inode.address
    assert sockets.held() == before


@pytest.mark.parametrize("kind", [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET])
def test_what_is_not_read_is_given_back(sockets: Sockets, kind: int) -> None:
    before = sockets.held()
    frames = []
    for _ in range(2):  # the slabs of the first round stay
        first, _ = sockets.pair(kind)
        for size in (1, 1000, 20000, 40000):
            assert sockets.send(first, bytes(size)) == size
        sockets.close_all()
        frames.append(sockets.kernel.node.nr_free)

    assert sockets.held() == before
    assert frames[0] == frames[1]


def test_a_full_buffer_wakes_its_writer_when_a_quarter_is_left(sockets: Sockets) -> None:
    first, second = sockets.pair(SOCK_STREAM)
    sent = 0
    while sockets.send(first, b"x", MSG_DONTWAIT) == 1:
        sent += 1
    file = sockets.task.files.get(first)
    call, wait = sockets.caller.block("sendto", first, sockets.put(b"y"), 1, 0, 0, 0)
    assert wait.queue in file.poll_queues()
    assert not file.poll() & POLLOUT
    while not file.poll() & POLLOUT:
        assert sockets.receive(second, 1) == b"x"
        sent -= 1

    assert sent * 768 * 4 <= sockets.option(first, SOL_SOCKET, SO_SNDBUF)
    assert advance(call, woken=True) == 1


def test_a_listener_that_closes_resets_those_who_wait(sockets: Sockets) -> None:
    listener = sockets.socket(AF_UNIX, SOCK_STREAM)
    assert bind(sockets, listener, b"\0l") == 0
    assert sockets.call("listen", listener, 5) == 0
    client = sockets.socket(AF_UNIX, SOCK_STREAM)
    assert connect(sockets, client, b"\0l") == 0
    assert sockets.task.files.get(listener).poll() & POLLIN
    sockets.call("close", listener)

    assert sockets.receive(client, 1) == -Errno.ECONNRESET
    assert sockets.receive(client, 1) == b""


def test_a_socket_that_carries_itself_is_garbage(sockets: Sockets) -> None:
    before = sockets.held()
    first, second = sockets.pair(SOCK_STREAM)
    assert sockets.send_files(first, [first, second]) == 1
    assert sockets.send_files(second, [second]) == 1
    sockets.call("close", first)
    assert sockets.kernel.net.in_flight
    sockets.call("close", second)

    assert not sockets.kernel.net.in_flight
    assert sockets.held() == before


def test_a_socket_in_flight_to_a_live_one_is_kept(sockets: Sockets) -> None:
    first, second = sockets.pair(SOCK_STREAM)
    third, fourth = sockets.pair(SOCK_STREAM)
    assert sockets.send_files(third, [fourth]) == 1  # a circle, as long as nobody holds the third
    assert sockets.send_files(first, [third, fourth]) == 1
    sockets.call("close", third)
    sockets.call("close", fourth)
    assert len(sockets.kernel.net.in_flight) == 2
    sockets.call("close", second)
    sockets.call("close", first)

    assert not sockets.kernel.net.in_flight
    assert not sockets.kernel.net.socks


@pytest.mark.parametrize("abi", ABIS)
def test_an_unaccepted_connection_carries_files_too(tmp_path: Path, abi: Abi) -> None:
    sockets = Sockets(tmp_path, abi)
    listener = sockets.socket(AF_UNIX, SOCK_STREAM)
    assert bind(sockets, listener, b"\0l") == 0
    assert sockets.call("listen", listener, 5) == 0
    client = sockets.socket(AF_UNIX, SOCK_STREAM)
    assert connect(sockets, client, b"\0l") == 0
    assert sockets.send_files(client, [listener]) == 1
    sockets.call("close", client)
    sockets.call("close", listener)

    assert not sockets.kernel.net.socks


@pytest.mark.parametrize("n", range(12))
def test_whichever_allocation_fails_nothing_is_lost(sockets: Sockets, n: int) -> None:
    sockets.put(bytes(8192))  # the memory for arguments is there
    before = sockets.held()
    sockets.kernel.node.slab.fail_allocation(n)
    listener = sockets.call("socket", AF_UNIX, SOCK_STREAM, 0)
    bind(sockets, listener, b"\0l")
    sockets.call("listen", listener, 5)
    client = sockets.call("socket", AF_UNIX, SOCK_STREAM, 0)
    if connect(sockets, client, b"\0l") == 0:
        sockets.send_files(client, [0])
        sockets.call("accept", listener, 0, 0)
    sockets.call("socketpair", AF_UNIX, SOCK_DGRAM, 0, sockets.caller.scratch)
    sockets.kernel.node.slab.fail_allocation(None)
    sockets.close_all()

    assert not sockets.kernel.net.socks
    assert sockets.held() == before
