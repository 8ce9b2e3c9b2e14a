"""TCP and UDP below the system calls: what the loopback does that a program on the host cannot be compared in."""

from pathlib import Path

import pytest

from minikernel.abi.errno import Errno
from minikernel.abi.poll import POLLERR, POLLOUT
from minikernel.abi.socket import (
    AF_INET,
    AF_INET6,
    MSG_DONTWAIT,
    SO_ERROR,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
)
from minikernel.net.inet import ANY4, ANY6, FIRST_PORT, LOOPBACK4, LOOPBACK6, Endpoint, pack_endpoint
from minikernel.net.inet_sock import InetSock
from minikernel.net.tcp_conn import TcpConn
from minikernel.net.tcp_wait import TIMEWAIT_NS
from minikernel.syscalls.table import advance
from tests.minikernel.net.machine import Sockets

ELSEWHERE = b"\0" * 10 + b"\xff\xff" + bytes([192, 0, 2, 1])


@pytest.fixture
def sockets(tmp_path: Path) -> Sockets:
    return Sockets(tmp_path)


def name(ip: bytes, port: int, family: int = AF_INET) -> bytes:
    """A sockaddr."""
    return pack_endpoint(family, Endpoint(ip, port))


def with_name(sockets: Sockets, call: str, fd: int, address: bytes) -> int:
    """The call bind or connect."""
    return sockets.call(call, fd, sockets.put(address), len(address))


def sock_of(sockets: Sockets, fd: int) -> InetSock:
    """The socket behind a descriptor."""
    sock = sockets.task.files.get(fd).sock  # type: ignore[attr-defined]
    assert isinstance(sock, InetSock)
    return sock


def listener(sockets: Sockets, port: int = 8080, backlog: int = 5) -> int:
    """A TCP socket that listens on the loopback."""
    fd = sockets.socket(AF_INET, SOCK_STREAM)
    assert with_name(sockets, "bind", fd, name(LOOPBACK4, port)) == 0
    assert sockets.call("listen", fd, backlog) == 0
    return fd


def connection(sockets: Sockets) -> tuple[int, int]:
    """Both ends of a TCP connection."""
    listening = listener(sockets)
    client = sockets.socket(AF_INET, SOCK_STREAM)
    assert with_name(sockets, "connect", client, name(LOOPBACK4, 8080)) == 0
    server = sockets.call("accept", listening, 0, 0)
    assert sockets.call("close", listening) == 0
    return client, server


def pass_time(sockets: Sockets, nanoseconds: int) -> None:
    """The machine idles until *nanoseconds* later."""
    clock = sockets.kernel.clock
    end = clock.now_ns() + nanoseconds
    while (deadline := clock.next_deadline()) is not None and deadline <= end:
        clock.skip_to(deadline)
        clock.run_expired()
    clock.skip_to(end)


def test_ports_are_given_in_order(sockets: Sockets) -> None:
    """The same run gives the same ports: Linux chooses at random."""
    ports = []
    for kind in (SOCK_STREAM, SOCK_STREAM, SOCK_DGRAM):
        fd = sockets.socket(AF_INET, kind)
        assert with_name(sockets, "bind", fd, name(ANY4, 0)) == 0
        ports.append(sock_of(sockets, fd).local.port)

    assert ports == [FIRST_PORT, FIRST_PORT + 1, FIRST_PORT]


@pytest.mark.parametrize("kind", [SOCK_STREAM, SOCK_DGRAM])
def test_nothing_but_the_loopback_can_be_reached(sockets: Sockets, kind: int) -> None:
    fd = sockets.socket(AF_INET, kind)
    assert with_name(sockets, "connect", fd, name(ELSEWHERE, 80)) == -Errno.ENETUNREACH
    assert with_name(sockets, "bind", fd, name(ELSEWHERE, 80)) == -Errno.EADDRNOTAVAIL
    six = sockets.socket(AF_INET6, kind)
    assert with_name(sockets, "connect", six, name(b"\x20\1" + bytes(14), 80, AF_INET6)) == -Errno.ENETUNREACH


def test_low_ports_are_for_the_privileged(sockets: Sockets) -> None:
    fd = sockets.socket(AF_INET, SOCK_STREAM)
    sockets.task.cred.cap_effective = 0
    assert with_name(sockets, "bind", fd, name(LOOPBACK4, 80)) == -Errno.EACCES
    assert sockets.call("socket", AF_INET, 3, 1) == -Errno.EPERM


def test_a_port_is_free_a_minute_after_its_connection(sockets: Sockets) -> None:
    client, server = connection(sockets)
    again = sockets.socket(AF_INET, SOCK_STREAM)
    sockets.call("close", server)
    sockets.call("close", client)
    assert with_name(sockets, "bind", again, name(LOOPBACK4, 8080)) == -Errno.EADDRINUSE
    pass_time(sockets, TIMEWAIT_NS - 1)
    assert with_name(sockets, "bind", again, name(LOOPBACK4, 8080)) == -Errno.EADDRINUSE
    pass_time(sockets, 1)

    assert with_name(sockets, "bind", again, name(LOOPBACK4, 8080)) == 0


def test_who_closes_second_waits_for_nothing(sockets: Sockets) -> None:
    client, server = connection(sockets)
    sockets.call("close", client)
    sockets.call("close", server)
    again = sockets.socket(AF_INET, SOCK_STREAM)

    assert with_name(sockets, "bind", again, name(LOOPBACK4, 8080)) == 0


def test_connect_gives_up_after_two_minutes(sockets: Sockets) -> None:
    """A backlog that stays full: seven attempts, then ETIMEDOUT."""
    listener(sockets, backlog=0)
    first = sockets.socket(AF_INET, SOCK_STREAM)
    assert with_name(sockets, "connect", first, name(LOOPBACK4, 8080)) == 0
    second = sockets.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK)
    assert with_name(sockets, "connect", second, name(LOOPBACK4, 8080)) == -Errno.EINPROGRESS
    file = sockets.task.files.get(second)
    pass_time(sockets, 126_000_000_000)
    assert not file.poll() & POLLOUT
    pass_time(sockets, 2_000_000_000)

    assert file.poll() & POLLERR
    assert sockets.option(second, SOL_SOCKET, SO_ERROR) == Errno.ETIMEDOUT


def test_a_waiting_connect_ends_when_there_is_room(sockets: Sockets) -> None:
    listening = listener(sockets, backlog=0)
    first = sockets.socket(AF_INET, SOCK_STREAM)
    assert with_name(sockets, "connect", first, name(LOOPBACK4, 8080)) == 0
    second = sockets.socket(AF_INET, SOCK_STREAM)
    call, _ = sockets.caller.block("connect", second, sockets.put(name(LOOPBACK4, 8080)), 16)
    assert sockets.call("accept", listening, 0, 0) >= 0
    pass_time(sockets, 1_000_000_000)

    assert advance(call, woken=True) == 0


def test_a_closed_end_still_sends_what_it_has(sockets: Sockets) -> None:
    """An orphan lives until its last byte is read, and then its port waits."""
    client, server = connection(sockets)
    sent = sockets.send(client, bytes(40000))
    while (more := sockets.send(client, bytes(40000), MSG_DONTWAIT)) > 0:
        sent += more
    sockets.call("close", client)
    orphans = [sock for sock in sockets.kernel.net.socks if isinstance(sock, TcpConn) and sock.orphan]
    assert len(orphans) == 1
    received = 0
    while isinstance(data := sockets.receive(server, 40000), bytes) and data:
        received += len(data)

    assert received == sent
    sockets.call("close", server)
    assert not sockets.kernel.net.socks


def test_an_orphan_whose_reader_closes_is_reset(sockets: Sockets) -> None:
    before = sockets.held()
    client, server = connection(sockets)
    while sockets.send(client, bytes(40000), MSG_DONTWAIT) > 0:
        pass
    sockets.call("close", client)
    sockets.call("close", server)

    assert not sockets.kernel.net.socks
    assert sockets.held() == before


def test_an_orphan_waits_a_minute_for_the_other_fin(sockets: Sockets) -> None:
    client, server = connection(sockets)
    sockets.call("close", client)
    assert len(sockets.kernel.net.socks) == 2
    pass_time(sockets, 60_000_000_000)
    assert len(sockets.kernel.net.socks) == 1
    assert sockets.send(server, b"late") == 4
    assert sockets.send(server, b"late") == -Errno.EPIPE


def test_a_datagram_goes_to_the_narrowest(sockets: Sockets) -> None:
    wide = sockets.socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK)
    narrow = sockets.socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK)
    for fd, ip in ((wide, ANY6), (narrow, LOOPBACK6)):
        one = sockets.put((1).to_bytes(4, "little"))
        assert sockets.call("setsockopt", fd, SOL_SOCKET, 2, one, 4) == 0
        assert with_name(sockets, "bind", fd, name(ip, 9000, AF_INET6)) == 0
    sender = sockets.socket(AF_INET6, SOCK_DGRAM)
    to = name(LOOPBACK6, 9000, AF_INET6)
    assert sockets.call("sendto", sender, sockets.put(b"x"), 1, 0, sockets.put(to, 64), len(to)) == 1

    assert sockets.receive(wide, 9) == -Errno.EAGAIN
    assert sockets.receive(narrow, 9) == b"x"


@pytest.mark.parametrize("n", range(14))
def test_whichever_allocation_fails_nothing_is_lost(sockets: Sockets, n: int) -> None:
    sockets.put(bytes(16384))  # the memory for arguments is there
    before = sockets.held()
    sockets.kernel.node.slab.fail_allocation(n)
    listening = sockets.call("socket", AF_INET, SOCK_STREAM, 0)
    with_name(sockets, "bind", listening, name(LOOPBACK4, 8080))
    sockets.call("listen", listening, 5)
    client = sockets.call("socket", AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)
    with_name(sockets, "connect", client, name(LOOPBACK4, 8080))
    sockets.send(client, bytes(5000))
    if sockets.kernel.net.socks and any(isinstance(s, TcpConn) and s.pending for s in sockets.kernel.net.socks):
        sockets.call("accept", listening, 0, 0)
    sender = sockets.call("socket", AF_INET, SOCK_DGRAM, 0)
    to = name(LOOPBACK4, 9000)
    sockets.call("sendto", sender, sockets.put(b"x"), 1, 0, sockets.put(to, 64), len(to))
    sockets.kernel.node.slab.fail_allocation(None)
    sockets.close_all()

    assert not sockets.kernel.net.socks
    assert sockets.held() == before
