"""Packets that read and change registers, memory and points of the general thread and its process.

Source: the gdb manual, "Packets": g G p P m M x X Z z.
"""

from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.gdb import registers
from minikernel.gdb.client import Inferior, Point, PointKind
from minikernel.gdb.packet import PACKET_SIZE, escaped_prefix
from minikernel.gdb.text import BadPacket, number, pair, to_hex, unhex
from minikernel.kdb.poke import poke
from minikernel.report.peek import peek

if TYPE_CHECKING:
    from minikernel.gdb.stub import Stub
    from minikernel.task.task import Task

_MAX_POINTS: Final = 4096
_MAX_WATCHED: Final = 1 << 12  # bytes


def set_pc(stub: "Stub", task: "Task", address: int) -> None:
    """Let *task* go on at *address*."""
    register = registers.program_counter(task.abi)
    value = (address & task.abi.mask).to_bytes(register.size, "little")
    _set_registers(stub, task, [(register.number, value)])


# ---- registers


def read_registers(stub: "Stub", _rest: bytes) -> bytes:
    """g: all."""
    return to_hex(registers.read_all(stub.session.machine, stub.task))


def write_registers(stub: "Stub", rest: bytes) -> bytes:
    """G: all, or as many as the client knows."""
    data, task = unhex(rest), stub.task
    values, at = [], 0
    for register in registers.layout(task.abi):
        if at + register.size > len(data):
            break  # a client may know fewer
        values.append((register.number, data[at : at + register.size]))
        at += register.size
    _set_registers(stub, task, values)
    return b"OK"


def read_register(stub: "Stub", rest: bytes) -> bytes:
    """p: one."""
    return to_hex(registers.read(stub.session.machine, stub.task, [_register(stub, rest).number])[0])


def write_register(stub: "Stub", rest: bytes) -> bytes:
    """P: one."""
    name, _, text = rest.partition(b"=")
    register, value = _register(stub, name), unhex(text)
    if len(value) != register.size:
        raise BadPacket(f"{register.name} has {register.size} bytes")
    _set_registers(stub, stub.task, [(register.number, value)])
    return b"OK"


def _set_registers(stub: "Stub", task: "Task", values: list[tuple[int, bytes]]) -> None:
    stub.control.changed = True
    if task.blocked_call is not None:
        stub.control.leave_call(task)
    registers.write(stub.session.machine, task, values)


def _register(stub: "Stub", text: bytes) -> registers.Register:
    every, index = registers.layout(stub.task.abi), number(text)
    if index >= len(every):
        raise BadPacket(f"there is no register {index}")
    return every[index]


# ---- memory


def read_memory(stub: "Stub", rest: bytes) -> bytes:
    """m: as much as can be read, in hexadecimal."""
    return to_hex(_peek(stub, rest, PACKET_SIZE // 2 - 1))


def read_binary(stub: "Stub", rest: bytes) -> bytes:
    """x: the same, as it is."""
    return b"b" + escaped_prefix(_peek(stub, rest, PACKET_SIZE - 1), PACKET_SIZE - 1)[0]


def _peek(stub: "Stub", rest: bytes, limit: int) -> bytes:
    address, length = pair(rest)
    data = peek(stub.mm, address, min(length, limit))
    if length and not data:
        raise LinuxError(Errno.EFAULT, f"{address:#x}")
    return data


def write_memory(stub: "Stub", rest: bytes) -> bytes:
    """M: from hexadecimal."""
    place, _, text = rest.partition(b":")
    return _poke(stub, place, unhex(text))


def write_binary(stub: "Stub", rest: bytes) -> bytes:
    """X: from bytes as they are."""
    place, _, data = rest.partition(b":")
    return _poke(stub, place, data)


def _poke(stub: "Stub", place: bytes, data: bytes) -> bytes:
    address, length = pair(place)
    if length != len(data):
        raise BadPacket("another length than it says")
    stub.control.changed = True
    poke(stub.mm, address, data)
    return b"OK"


# ---- points


def insert(stub: "Stub", rest: bytes) -> bytes:
    """Z: conditions and commands, which follow a `;`, are not for us: the client evaluates them itself."""
    point, inferior = _point(stub, rest)
    if point is None:
        return b""
    if len(inferior.points) >= _MAX_POINTS:
        raise LinuxError(Errno.ENOSPC, "too many points")
    inferior.points.add(point)
    return b"OK"


def remove(stub: "Stub", rest: bytes) -> bytes:
    """z: no matter whether it is there."""
    point, inferior = _point(stub, rest)
    if point is None:
        return b""
    inferior.points.discard(point)
    return b"OK"


def _point(stub: "Stub", rest: bytes) -> tuple[Point | None, Inferior]:
    inferior = stub.client.inferiors.get(stub.task.tgid)
    if inferior is None:
        raise LinuxError(Errno.ESRCH, "not attached to it")
    kind, _, place = rest.partition(b";")[0].partition(b",")
    if kind not in {b"0", b"1", b"2", b"3", b"4"}:
        return None, inferior
    address, size = pair(place)
    point = Point(PointKind(int(kind)), address, size)
    if not point.kind.is_code and not 0 < size <= _MAX_WATCHED:
        raise BadPacket("nothing, or too much to watch")
    return point, inferior
