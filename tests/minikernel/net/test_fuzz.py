"""Random socket calls, seeded: whatever the numbers, the answer is a result or an errno, and the books balance."""

import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from minikernel.abi.abi import ABIS, Abi
from minikernel.abi.socket import INT, UCRED, msghdr_struct
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.net.validate import validate_net
from minikernel.syscalls import socket
from minikernel.syscalls.decode import signature
from minikernel.syscalls.table import advance
from minikernel.wait import Wait
from tests.minikernel.net.machine import Sockets

CALLS = 1500
NAMES = (b"\1\0", b"\1\0/dev/shm/a", b"\1\0/dev/shm/b", b"\1\0\0one", b"\1\0\0two", b"\0\0", b"\2\0" + bytes(14), b"",
         b"\2\0\x1f\x90\x7f\0\0\1" + bytes(8), b"\2\0\0\0\x7f\0\0\1" + bytes(8), b"\2\0\x1f\x91\0\0\0\0" + bytes(8),
         b"\x0a\0\x1f\x90" + bytes(19) + b"\1" + bytes(4), b"\x0a\0\0\0" + bytes(24),
         b"\x10\0\0\0" + bytes(8))  # fmt: skip
OTHERS = ("close", "close", "dup", "poll", "read", "write", "ioctl", "epoll_ctl", "epoll_wait")
USEFUL = ("socket", "socket", "socketpair", "sendmsg", "recvmsg", "sendto", "recvfrom", "connect", "bind", "accept4")


class Fuzzer:
    """Draws calls and arguments; a call that waits is kept, and goes on when its queue was woken, or is interrupted."""

    def __init__(self, abi: Abi, root: Path, seed: int) -> None:
        self.draw = random.Random(seed)
        self.sockets = Sockets(root, abi)
        self.abi = abi
        self.sockets.put(bytes(60 << 10))
        self.before = self.sockets.held()
        self.sockets.call("epoll_create1", 0)
        self.waiting: list[Coroutine[Any, Any, int]] = []
        ours = {entry.name: entry.handler for entry in socket.ENTRIES if entry.abi in {None, abi.name}}
        self.handlers: dict[str, Callable[..., Any] | None] = {
            name: handler for name, handler in ours.items() if name in NUMBERS[abi.name]
        }
        self.names = [*sorted(self.handlers), *(name for name in USEFUL if name in self.handlers), *OTHERS]

    def memory(self, data: bytes) -> int:
        """*data* somewhere in the task's memory."""
        return self.sockets.put(data, self.draw.randrange(15) * 4096)

    def message(self) -> int:
        """A struct msghdr."""
        draw, abi = self.draw, self.abi
        name = draw.choice(NAMES)
        head = 16 if abi.word == 8 else 12
        control = b""
        if draw.random() < 0.5:
            data = draw.choice(
                (INT.pack(draw.randrange(10)), UCRED.pack(1, 0, 0), INT.pack(draw.randrange(10)) * 3, b"")
            )
            length = draw.choice((head + len(data), head, 3, 1 << 20)) if draw.random() < 0.1 else head + len(data)
            control = abi.pack_word(length) + INT.pack(draw.choice((1, 1, 1, 9))) + INT.pack(draw.choice((1, 1, 2, 5)))
            control += data + bytes(-len(data) % abi.word)
        iov = abi.pack_words(self.memory(b"text"), draw.choice((0, 1, 100, 9000, 60000)))
        return self.memory(
            msghdr_struct(abi).pack(
                self.memory(name) if draw.random() < 0.4 else 0,
                len(name),
                self.memory(iov),
                draw.choice((0, 1, 1, 1)),
                self.memory(control) if control else 0,
                len(control),
                0,
            )
        )

    def argument(self, show: str, name: str) -> int:
        """A value that may mean something to parameter *name*, shown as *show*."""
        draw = self.draw
        if draw.random() < 0.03:
            return draw.choice((0, -1, 8, 1 << 31, (1 << 64) - 1, 1 << 47))
        match name:
            case "fd" | "epfd":
                known = self.sockets.task.files.open_fds()
                return draw.choice([*known, *known, *known, -1, 999, 3])
            case "family":
                return draw.choice((1, 1, 1, 2, 2, 10, 16))
            case "kind":
                return draw.choice((1, 1, 2, 2, 5, 3)) | draw.choice((0, 0o4000, 0o4000, 0o2000000))
            case "protocol" | "how" | "backlog":
                return draw.choice((0, 0, 1, 2, 6, 17))
            case "msg" | "mmsg":
                return self.message()
            case "addr" if show == "ptr" and draw.random() < 0.5:
                return 0
            case "addr":
                return self.memory(draw.choice(NAMES) + bytes(20))
            case "addrlen" | "optlen" if show == "dec":
                return draw.choice((0, 2, 4, 8, 9, 13, 16, 28))
            case "flags":
                return draw.choice((0, 0x40, 0x40, 0x42, 0x140, 0x4000, 1, 0x41, 1 << draw.randrange(32)))
            case "level":
                return draw.choice((1, 1, 1, 6, 0, 41, 270))
            case "optname" | "vlen" | "count":
                return draw.choice((draw.randrange(70), draw.randrange(10), 5000, 1))
            case "call":
                return draw.randrange(1, 22)
            case "args":
                return self.memory(self.abi.pack_words(*(draw.choice((0, 1, 2, 3, 5, 64)) for _ in range(6))))
        return self.memory(draw.choice((INT.pack(draw.choice((0, 1, 4, 16, 100000))), bytes(64))))

    def other(self, name: str) -> list[int]:
        """Arguments of a call that is no socket's."""
        draw, fd = self.draw, self.argument("", "fd")
        if name == "ioctl":
            return [fd, draw.choice((0x541B, 0x5411, 0x8905, 0x5421, 0x8901, 0x8912, 0x8913)), self.memory(bytes(64))]
        if name == "poll":
            return [self.memory(b"".join(INT.pack(at) + b"\xff\xff\0\0" for at in range(8))), 8, 0]
        if name == "epoll_ctl":
            return [fd, draw.choice((1, 2, 3)), self.argument("", "fd"), self.memory(bytes([draw.randrange(256)] * 12))]
        if name == "epoll_wait":
            return [fd, self.memory(bytes(96)), 8, 0]
        return [fd, self.memory(b"data"), draw.choice((0, 1, 100, 9000))]

    def step(self) -> None:
        """One call, or one that waited."""
        if self.waiting and (self.draw.random() < 0.3 or len(self.waiting) > 10):
            call = self.waiting.pop(self.draw.randrange(len(self.waiting)))
            stop = self.draw.random() < 0.5
            self.ended(advance(call, interrupt=True) if stop else advance(call, woken=True), call)
            return
        name = self.draw.choice(self.names)
        handler = self.handlers.get(name)
        if handler is None:
            args = self.other(name)
        else:
            args = [self.argument(kind.show, parameter) for parameter, kind in signature(handler)]
        result = self.sockets.caller.start(name, *args)
        if isinstance(result, int):
            assert -4096 < result < 1 << 64, name
            return
        self.ended(advance(result), result)

    def ended(self, result: Wait | int, call: Coroutine[Any, Any, int]) -> None:
        """The call gave a number, or waits."""
        if isinstance(result, Wait):
            self.waiting.append(call)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("abi", ABIS)
def test_random_calls_keep_the_books(tmp_path: Path, abi: Abi, seed: int) -> None:
    fuzzer = Fuzzer(abi, tmp_path, seed)
    for number in range(CALLS):
        fuzzer.step()
        if number % 16 == 0:
            validate_net(fuzzer.sockets.kernel.net)
    for call in fuzzer.waiting:
        for _ in range(20):
            if isinstance(advance(call, interrupt=True), int):
                break
        else:
            raise AssertionError("a call cannot be interrupted")
    fuzzer.sockets.close_all()

    assert not fuzzer.sockets.kernel.net.socks
    assert not fuzzer.sockets.kernel.net.in_flight
    assert fuzzer.sockets.held() == fuzzer.before
