"""One list of file calls, made on the host and in our kernel: what differs is wrong.

A step is a call's name and its arguments: numbers; bytes for a name (NUL-terminated); ``In`` for other bytes;
``Out`` for memory that the call fills; ``Ref`` for a descriptor that an earlier step saved; ``Off`` for a loff_t,
which is two words on i386.
"""

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from minikernel.abi.abi import I386, Abi
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.fs.vfs import Vfs
from tests.minikernel.syscalls.calls import Caller

_LIBC = ctypes.CDLL(None, use_errno=True)
_AREA = 60 << 10


@dataclass(frozen=True)
class In:
    """Bytes in memory; the argument is their address."""

    data: bytes


@dataclass(frozen=True)
class Out:
    """Memory of *size* bytes, compared after the call unless *loose*."""

    size: int
    loose: bool = False


@dataclass(frozen=True)
class Ref:
    """The result of the step that saved *name*."""

    name: str


@dataclass(frozen=True)
class Off:
    """A loff_t argument."""

    value: int


@dataclass(frozen=True)
class Step:
    """One call.  *save*: remember its result, of which only success is compared.  *only*: not on the other ABI."""

    name: str
    args: tuple[Any, ...]
    save: str = ""


def step(name: str, *args: Any, save: str = "") -> Step:
    """A step of a list."""
    return Step(name, args, save)


class Side(Protocol):
    """Who makes the calls."""

    word: int

    def memory(self) -> int: ...
    def put(self, data: bytes, offset: int = 0) -> int: ...
    def get(self, size: int, offset: int = 0) -> bytes: ...
    def call(self, name: str, *args: int) -> int: ...


class Native:
    """The host."""

    word = 8

    def __init__(self) -> None:
        self._buffer = ctypes.create_string_buffer(64 << 10)

    def memory(self) -> int:
        return ctypes.addressof(self._buffer)

    def put(self, data: bytes, offset: int = 0) -> int:
        ctypes.memmove(self.memory() + offset, data, len(data))
        return self.memory() + offset

    def get(self, size: int, offset: int = 0) -> bytes:
        return self._buffer.raw[offset : offset + size]

    def call(self, name: str, *args: int) -> int:
        number = NUMBERS["x86-64"][name]
        result: int = _LIBC.syscall(ctypes.c_long(number), *(ctypes.c_long(arg) for arg in args))
        return -ctypes.get_errno() if result == -1 else result


class Emulated:
    """Our kernel, over a directory of the host."""

    def __init__(self, abi: Abi, root: bytes, cwd: bytes = b"/") -> None:
        self.caller = Caller(abi)
        self.word = abi.word
        self.vfs = Vfs(self.caller.kernel, root)
        self.caller.kernel.vfs = self.vfs
        self.caller.task.fs = self.vfs.fs_struct(cwd)

    def memory(self) -> int:
        return self.caller.scratch

    def put(self, data: bytes, offset: int = 0) -> int:
        return self.caller.put(data, offset)

    def get(self, size: int, offset: int = 0) -> bytes:
        return self.caller.get(size, offset)

    def call(self, name: str, *args: int) -> int:
        return self.caller.call(name, *args)


def run(side: Side, steps: Sequence[Step]) -> list[tuple[str, Any, list[bytes]]]:
    """Make the calls; for each its name, its result, and what it stored."""
    saved: dict[str, int] = {}
    answers: list[tuple[str, Any, list[bytes]]] = []
    for number, one in enumerate(steps):
        side.put(bytes(_AREA))
        at = 0
        args: list[int] = []
        outs: list[tuple[int, int]] = []
        for arg in one.args:
            if isinstance(arg, Off):
                args += [arg.value] if side.word == 8 else [arg.value & 0xFFFF_FFFF, arg.value >> 32]
                continue
            if isinstance(arg, Ref):
                args.append(saved[arg.name])
                continue
            if isinstance(arg, int):
                args.append(arg)
                continue
            data = arg + b"\0" if isinstance(arg, bytes) else arg.data if isinstance(arg, In) else bytes(arg.size)
            if isinstance(arg, Out) and not arg.loose:
                outs.append((at, arg.size))
            args.append(side.put(data, at))
            at += (len(data) + 15) & ~15
        result = side.call(one.name, *args)
        if one.save:
            saved[one.name if not one.save else one.save] = result
        shown = min(result, 0) if one.save else result
        answers.append((f"{number}: {one.name}{one.args}", error_name(shown), [side.get(s, a) for a, s in outs]))
    return answers


def error_name(result: int) -> Any:
    """A result, errors by name."""
    return os.strerror(-result) if -4096 < result < 0 else result


__all__ = ["I386", "Emulated", "In", "Native", "Off", "Out", "Ref", "run", "step"]
