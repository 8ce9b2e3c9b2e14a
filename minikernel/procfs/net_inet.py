"""/proc/net: internet sockets, and lo.

Linux: get_tcp4_sock (net/ipv4/tcp_ipv4.c), get_tcp6_sock, udp4_format_sock, ip6_dgram_sock_seq_show, dev_seq_show.
"""

from typing import TYPE_CHECKING, Final

from minikernel.abi.socket import AF_INET, AF_INET6
from minikernel.kernel import Kernel

if TYPE_CHECKING:
    from minikernel.net.inet import Endpoint
    from minikernel.net.inet_sock import InetSock
    from minikernel.net.net import Net

_TCP_WIDTH: Final = 149
_UDP_WIDTH: Final = 127
_COLUMNS: Final = "st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
_HEAD4: Final = f"  sl  local_address rem_address   {_COLUMNS}"
_HEAD6: Final = f"  sl  local_address                         remote_address                        {_COLUMNS}"
_TIME_WAIT: Final = 6


def _net_of(kernel: Kernel) -> "Net | None":
    """The network, if there ever was a socket."""
    return kernel.net if "net" in vars(kernel) else None


def _shown(endpoint: "Endpoint", family: int) -> str:
    """As words of network order, each read as the machine's."""
    raw = endpoint.ip[12:] if family == AF_INET else endpoint.ip
    words = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
    return "".join(f"{word:08X}" for word in words) + f":{endpoint.port:04X}"


def _pointer(kernel: Kernel) -> str:
    return "0" * (16 if kernel.cpu.long_mode else 8)


def tcp(kernel: Kernel, family: int) -> bytes:
    """Listeners and connections in the order in which they were made, then what is left of connections."""
    width = _TCP_WIDTH if family == AF_INET else 0
    lines = [(_HEAD4 if family == AF_INET else _HEAD6).ljust(width)]
    net = _net_of(kernel)
    if net is not None:
        from minikernel.net.tcp import TcpSock
        from minikernel.net.tcp_wait import TimeWait

        socks = [sock for sock in net.socks if isinstance(sock, TcpSock) and sock.family == family]
        for number, sock in enumerate([sock for sock in socks if sock.hashed]):
            waiting = len(sock.pending) if sock.is_listening else sock.rcv_nxt - sock.copied
            unsent = 0 if sock.is_listening else sock.outq()
            line = f"{_head(number, sock, unsent, waiting, 4)} {_pointer(kernel)} 100 0 0 10 0"
            lines.append(line.ljust(width))
        held = [one for group in net.inet.tcp.bound.values() for one in group if isinstance(one, TimeWait)]
        for number, one in enumerate([one for one in held if one.family == family], len(lines) - 1):
            ends = f"{_shown(one.local, family)} {_shown(one.remote, family)}"
            counters = f"{0:08X}:{0:08X} 03:{0:08X} {0:08X} {0:5d} {0:8d} 0 3 {_pointer(kernel)}"
            lines.append(f"{number:4d}: {ends} {_TIME_WAIT:02X} {counters}".ljust(width))
    return ("\n".join(lines) + "\n").encode()


def _head(number: int, sock: "InetSock", unsent: int, waiting: int, digits: int) -> str:
    ends = f"{_shown(sock.local, sock.family)} {_shown(sock.remote, sock.family)}"
    ino = sock.file.ino if sock.file is not None else 0
    timer = "00:00000000 00000000"
    return (
        f"{number:{digits}d}: {ends} {sock.state:02X} {unsent:08X}:{waiting:08X} {timer} {sock.uid:5d} {0:8d} {ino} "
        f"{1 + (sock.file is not None)}"
    )


def udp(kernel: Kernel, family: int) -> bytes:
    """Datagram sockets with a port, in the order in which they were made."""
    width = _UDP_WIDTH if family == AF_INET else 0
    lines = [((" " + _HEAD4 if family == AF_INET else _HEAD6) + " ref pointer drops").ljust(width)]
    net = _net_of(kernel)
    if net is not None:
        from minikernel.net.udp import UdpSock

        socks = [sock for sock in net.socks if isinstance(sock, UdpSock) and sock.family == family and sock.hashed]
        lines += [
            f"{_head(number, sock, sock.wmem, sock.rmem, 5)} {_pointer(kernel)} {sock.drops}".ljust(width)
            for number, sock in enumerate(socks)
        ]
    return ("\n".join(lines) + "\n").encode()


def dev(kernel: Kernel) -> bytes:
    """The counters of lo."""
    net = _net_of(kernel)
    size, packets = (net.lo_bytes, net.lo_packets) if net is not None else (0, 0)
    return (
        b"Inter-|   Receive                                                |  Transmit\n"
        b" face |bytes    packets errs drop fifo frame compressed multicast|"
        b"bytes    packets errs drop fifo colls carrier compressed\n"
        b"    lo: %7d %7d %4d %4d %4d %5d %10d %9d %8d %7d %4d %4d %4d %5d %7d %10d\n"
        % (size, packets, 0, 0, 0, 0, 0, 0, size, packets, 0, 0, 0, 0, 0, 0)
    )


def if_inet6(_kernel: Kernel) -> bytes:
    """::1, its interface, length, scope and flags."""
    return b"00000000000000000000000000000001 01 80 10 80       lo\n"


def route(_kernel: Kernel) -> bytes:
    """The main table has no routes: all are local."""
    head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
    return head.ljust(_UDP_WIDTH).encode() + b"\n"


FILES: Final = {
    b"dev": dev,
    b"if_inet6": if_inet6,
    b"route": route,
    b"tcp": lambda kernel: tcp(kernel, AF_INET),
    b"tcp6": lambda kernel: tcp(kernel, AF_INET6),
    b"udp": lambda kernel: udp(kernel, AF_INET),
    b"udp6": lambda kernel: udp(kernel, AF_INET6),
}
