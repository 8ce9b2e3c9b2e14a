"""A kernel with one task, no CPU, and a directory of the host for its files: enough to make socket calls."""

from pathlib import Path

from minikernel.abi.abi import X86_64, Abi
from minikernel.abi.socket import INT, msghdr_struct
from minikernel.net.validate import validate_net
from tests.minikernel.syscalls.calls import Caller
from tests.minikernel.syscalls.file_calls import Emulated

MADE: list["Sockets"] = []  # in this test; conftest.py closes what they have open on the host


class Sockets:
    """Socket calls by name, with the books checked behind each."""

    def __init__(self, root: Path, abi: Abi = X86_64) -> None:
        MADE.append(self)
        self.side = Emulated(abi, bytes(root))
        self.caller: Caller = self.side.caller
        self.kernel = self.caller.kernel
        self.task = self.caller.task

    def call(self, name: str, *args: int) -> int:
        """A call that does not wait."""
        result = self.caller.call(name, *args)
        validate_net(self.kernel.net)
        return result

    def put(self, data: bytes, at: int = 0) -> int:
        """Bytes in the task's memory; their address."""
        return self.caller.put(data, at)

    def socket(self, family: int, kind: int, protocol: int = 0) -> int:
        """A new socket's descriptor."""
        fd = self.call("socket", family, kind, protocol)
        assert fd >= 0, fd
        return fd

    def pair(self, kind: int) -> tuple[int, int]:
        """Two connected sockets of AF_UNIX."""
        assert self.call("socketpair", 1, kind, 0, self.caller.scratch) == 0
        first, second = self.caller.words(2)
        return first, second

    def send(self, fd: int, data: bytes, flags: int = 0) -> int:
        """Send *data*."""
        return self.call("sendto", fd, self.put(data, 4096), len(data), flags, 0, 0)

    def receive(self, fd: int, size: int, flags: int = 0) -> bytes | int:
        """What recv(2) stores, or -errno."""
        got = self.call("recvfrom", fd, self.caller.scratch + 8192, size, flags, 0, 0)
        return self.caller.get(got, 8192) if got >= 0 else got

    def send_files(self, fd: int, fds: list[int]) -> int:
        """Send one byte and descriptors."""
        abi = self.caller.abi
        head = 16 if abi.word == 8 else 12
        control = abi.pack_word(head + 4 * len(fds)) + INT.pack(1) + INT.pack(1) + b"".join(map(INT.pack, fds))
        at = self.put(control, 1024)
        iov = self.put(abi.pack_words(self.put(b"!", 2048), 1), 512)
        message = msghdr_struct(abi).pack(0, 0, iov, 1, at, len(control), 0)
        return self.call("sendmsg", fd, self.put(message), 0)

    def option(self, fd: int, level: int, name: int) -> int:
        """An option that is a number, or -errno."""
        length = self.put(INT.pack(4), 128)
        result = self.call("getsockopt", fd, level, name, self.caller.scratch, length)
        value: int = INT.unpack(self.caller.get(4))[0]
        return value if result == 0 else result

    def close_all(self) -> None:
        """Close every descriptor."""
        self.task.files.close_all()

    def held(self) -> dict[str, int]:
        """Kernel memory that sockets and files hold."""
        in_use = self.kernel.node.slab.in_use()
        return {
            name: count for name, count in in_use.items() if name == "filp" or name.startswith(("kmalloc", "inode_cac"))
        }
