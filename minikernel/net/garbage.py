"""Sockets that only messages in each other's queues refer to: nobody will ever read them.

Linux: net/unix/garbage.c (unix_gc).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from minikernel.fs.file import OpenFile
from minikernel.net.sock import Sock, SocketFile
from minikernel.net.unix import UnixSock
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
    if net.collecting:
        return
    net.collecting = True
    try:
        while dead := _unreachable(net):
            _empty(dead)
    finally:
        net.collecting = False


def _unreachable(net: "Net") -> list[SocketFile]:
    """Sockets in flight that neither a descriptor, nor a call that runs, nor a queue of one that is alive leads to."""
    sockets = [(file, count) for file, count in net.in_flight.items() if isinstance(file, SocketFile)]
    held = {id(file.sock) for file, count in sockets if count == file.refs}
    # One without a file is on its way out, unless it is waiting to be accepted; what its queue holds goes next.
    alive = [sock for sock in net.socks if id(sock) not in held and not (isinstance(sock, UnixSock) and sock.embryo)]
    seen = set(map(id, alive))
    while alive:
        for file in _carried(alive.pop()):
            if isinstance(file, SocketFile) and id(file.sock) not in seen:
                seen.add(id(file.sock))
                alive.append(file.sock)
    return [file for file, _ in sockets if id(file.sock) not in seen]


def _empty(dead: list[SocketFile]) -> None:
    """Throw away what *dead* and their unaccepted connections hold; a reference keeps each until all are empty."""
    for file in dead:
        file.get_file()
    for file in dead:
        file.sock.purge()
        if isinstance(file.sock, UnixConn):
            for embryo in file.sock.pending:
                embryo.purge()
    for file in dead:
        file.put_file()
