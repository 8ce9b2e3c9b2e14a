"""Sockets that only messages in each other's queues refer to: nobody will ever read them.

Linux: net/unix/garbage.c (unix_gc).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minikernel.fs.file import OpenFile
from minikernel.net.sock import Sock, SocketFile
from minikernel.net.unix_conn import UnixConn

if TYPE_CHECKING:
    from minikernel.net.net import Net


def _carried(sock: Sock) -> Iterator[OpenFile]:
    """The files in the queue of *sock*, and in those of connections that it has not accepted."""
    for skb in sock.queue:
        if skb.scm is not None:
            yield from skb.scm.files
    if isinstance(sock, UnixConn):
        for embryo in sock.pending:
            yield from _carried(embryo)


def collect(net: "Net") -> None:
    """Empty the queues of sockets that no descriptor leads to: their files are closed, and so are they."""
    sockets = {file: count for file, count in net.in_flight.items() if isinstance(file, SocketFile)}
    # What a descriptor, or a call that runs, refers to as well is alive, and so is what its queue leads to.
    alive = [sock for sock in net.socks if sock.file is not None and sockets.get(sock.file, 0) < sock.file.refs]
    seen = set(map(id, alive))
    while alive:
        for file in _carried(alive.pop()):
            if isinstance(file, SocketFile) and id(file.sock) not in seen:
                seen.add(id(file.sock))
                alive.append(file.sock)
    dead = [file for file in sockets if isinstance(file, SocketFile) and id(file.sock) not in seen]
    for file in dead:  # a reference of each, so that none is released while another's queue is emptied
        file.get_file()
    for file in dead:
        assert isinstance(file, SocketFile), "collect: no socket"
        file.sock.purge()
        if isinstance(file.sock, UnixConn):
            for embryo in file.sock.pending:
                embryo.purge()
    for file in dead:
        file.put_file()
