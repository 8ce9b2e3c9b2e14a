"""/proc/net.  Linux: net/unix/af_unix.c (unix_seq_show)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from minikernel.kernel import Kernel
from minikernel.procfs.net_inet import FILES
from minikernel.procfs.node import ProcDir, ProcFs, ProcText, fixed_dir

if TYPE_CHECKING:
    from minikernel.net.unix import UnixSock

_INO: Final = 0xF020_0000


def net_dir(sb: ProcFs, kernel: Kernel) -> ProcDir:
    """The directory /proc/PID/net, the same for all: there is one network."""
    makers: dict[bytes, Callable[[Kernel], bytes]] = {b"unix": _unix, **FILES}
    texts = {
        name: ProcText(sb, _INO + number, lambda make=make: make(kernel))  # type: ignore[misc]
        for number, (name, make) in enumerate(sorted(makers.items()), 1)
    }
    return fixed_dir(sb, _INO, texts)


def _unix(kernel: Kernel) -> bytes:
    """One line for each socket, in the order in which they were made; kernel addresses are hidden."""
    width = 16 if kernel.cpu.long_mode else 8
    text = b"Num       RefCount Protocol Flags    Type St Inode Path\n"
    if "net" not in vars(kernel):
        return text
    from minikernel.net.unix import UnixSock

    return text + b"".join(_unix_line(sock, width) for sock in kernel.net.socks if isinstance(sock, UnixSock))


def _unix_line(sock: "UnixSock", width: int) -> bytes:
    connected = sock.state == 1
    if sock.file is not None:
        state, ino = (3 if connected else 1), sock.file.ino
    else:
        state, ino = (2 if connected else 4), 0
    references = 2 + (sock.peer is not None)
    flags = 0x10000 if sock.is_listening else 0
    line = b"%0*d: %08X %08X %08X %04X %02X %5d" % (width, 0, references, 0, flags, sock.kind, state, ino)
    if sock.address is None:
        return line + b"\n"
    name = sock.address[2:]
    shown = b"@" + name[1:].replace(b"\0", b"@") if name[:1] == b"\0" else name.partition(b"\0")[0]
    return line + b" " + shown + b"\n"
