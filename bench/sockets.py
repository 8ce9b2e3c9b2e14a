"""The workloads of `make bench` that pass bytes through sockets: guest/bench programs of one or two processes."""

from typing import Final, NamedTuple


class SocketWorkload(NamedTuple):
    """One program, what a figure is for, and how many *times* it does it."""

    name: str
    per: str
    times: int


WORKLOADS: Final = (
    SocketWorkload("tcp_round_trip", "TCP round trip on the loopback", 5_000),
    SocketWorkload("tcp_stream", "64 KiB over TCP on the loopback", 1_024),
    SocketWorkload("unix_round_trip", "AF_UNIX round trip", 10_000),
    SocketWorkload("epoll_many", "write, epoll_wait on 1,000 descriptors, read", 5_000),
)
NAMES: Final = frozenset(workload.name for workload in WORKLOADS)
