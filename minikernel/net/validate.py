"""Invariants of the sockets, as a function that asserts them."""

from collections import Counter
from collections.abc import Iterator

from minikernel.fs.file import OpenFile
from minikernel.mm.filemap import PageCache
from minikernel.net.inet_sock import InetSock
from minikernel.net.net import Net
from minikernel.net.skb import Skb
from minikernel.net.sock import TCP_CLOSE, TCP_LISTEN, Sock
from minikernel.net.tcp import TcpSock
from minikernel.net.unix import UnixSock
from minikernel.net.unix_conn import UnixConn


def messages(net: Net) -> Iterator[Skb]:
    """Every message in a queue."""
    for sock in net.socks:
        yield from sock.messages()


def caches_in_flight(net: Net) -> list[PageCache]:
    """The page caches of files that only a message refers to."""
    return [file.inode.mapping for file in net.in_flight if file.inode.mapping is not None]


def validate_net(net: Net) -> None:
    """Assert what Net, Sock and Skb promise."""
    charged: Counter[int] = Counter()
    carried: Counter[OpenFile] = Counter()
    for skb in messages(net):
        assert 0 <= skb.start <= len(skb.data), "validate_net: a message is read beyond its end"
        if skb.charged is not None:
            charged[id(skb.charged)] += skb.truesize
        if skb.scm is not None:
            carried.update(skb.scm.files)
    assert dict(carried) == net.in_flight, f"validate_net: {carried} in flight, {net.in_flight} are counted"
    for sock in net.socks:
        where = f"validate_net: {sock}"
        assert sock.is_alive(), f"{where} is known and destroyed"
        held = sum(skb.truesize for skb in sock.queue)
        assert sock.rmem == held, f"{where} has rmem {sock.rmem}, its queue {held}"
        assert sock.wmem == charged[id(sock)], f"{where} has wmem {sock.wmem}, {charged[id(sock)]} are on their way"
        assert sock.file is None or sock.file.sock is sock, f"{where} is another's"
        if isinstance(sock, UnixSock):
            _validate_unix(net, sock)
        elif isinstance(sock, InetSock):
            held = sum(holder is sock for holder in sock.ports.holders(sock.local.port))
            assert held == sock.hashed, f"{where} stands {held} times at port {sock.local.port}"
            if isinstance(sock, TcpSock):
                _validate_tcp(sock)
    if net.unix_used:
        named: list[Sock] = [*net.unix.paths.values(), *net.unix.abstract.values()]
        assert all(sock in net.socks for sock in named), "validate_net: a name of a socket that is gone"


def _validate_tcp(sock: TcpSock) -> None:
    where = f"validate_net: {sock} in state {sock.state}"
    waiting = sum(map(len, sock.queue))
    assert sock.copied + waiting == sock.rcv_nxt, f"{where} has {waiting} bytes, {sock.rcv_nxt - sock.copied} by number"
    assert sock.peer is None or sock.peer.peer is sock, f"{where} has a peer that is another's"
    assert sock.peer is not None or not sock.write_queue or sock.state != TCP_CLOSE, f"{where} has bytes for nobody"
    assert not sock.orphan or sock.file is None, f"{where} is an orphan with a descriptor"
    assert all(child.file is None for child in sock.pending), f"{where} has accepted a connection, and keeps it"


def _validate_unix(net: Net, sock: UnixSock) -> None:
    where = f"validate_net: {sock}"
    assert (sock.file is None) == sock.embryo, f"{where} has no descriptor, and is not to be accepted"
    assert all(client.peer is sock for client in sock.clients), f"{where} has a client that is another's"
    if sock.inode is not None:
        assert net.unix.paths[sock.inode] is sock, f"{where} is bound where another is"
        assert sock.inode.open_count > 0, f"{where} does not hold its inode"
    if isinstance(sock, UnixConn) and sock.pending:
        assert sock.state == TCP_LISTEN, f"{where} has connections and does not listen"
        assert all(embryo.embryo for embryo in sock.pending), f"{where} has accepted a connection, and keeps it"
