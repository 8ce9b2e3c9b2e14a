"""``qXfer``: the documents and blocks that a client reads piece by piece.

Source: the gdb manual, "General Query Packets" (qXfer), "Thread List Format", "Memory Map Format", "Operating System
Information".
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import SIGINFO_SIZE, Siginfo
from minikernel.abi.signal import SIGTRAP
from minikernel.gdb.features import target_xml
from minikernel.gdb.libraries import library_list
from minikernel.gdb.packet import PACKET_SIZE, escaped_prefix
from minikernel.gdb.siginfo import unpack
from minikernel.gdb.stops import Stop, thread_name
from minikernel.gdb.text import BadPacket, number, pair
from minikernel.gdb.xml import escape

if TYPE_CHECKING:
    from minikernel.gdb.stub import Stub
    from minikernel.task.task import Task

_MAX_LENGTH: Final = PACKET_SIZE - 16
OBJECTS: Final = (
    *("features:read", "auxv:read", "exec-file:read", "libraries-svr4:read", "memory-map:read", "osdata:read"),
    *("siginfo:read", "siginfo:write", "threads:read"),
)


def transfer(stub: "Stub", text: bytes) -> bytes:
    """The answer to ``qXfer:`` *text*: OBJECT:read:ANNEX:OFFSET,LENGTH or OBJECT:write:ANNEX:OFFSET:DATA."""
    name, _, rest = text.partition(b":")
    operation, _, rest = rest.partition(b":")
    if f"{name.decode('ascii', 'replace')}:{operation.decode('ascii', 'replace')}" not in OBJECTS:
        return b""
    if operation == b"write":
        return _write(stub, rest)
    annex, _, place = rest.rpartition(b":")
    offset, length = pair(place)
    data = _READ[name](stub, annex)
    piece, used = escaped_prefix(data[offset : offset + length], _MAX_LENGTH)
    return (b"m" if offset + used < len(data) else b"l") + piece


def _features(stub: "Stub", annex: bytes) -> bytes:
    if annex != b"target.xml":
        raise LinuxError(Errno.ENOENT, "there is one document")
    return target_xml(stub.task.abi)


def _auxv(stub: "Stub", annex: bytes) -> bytes:
    del annex
    return stub.mm.saved_auxv


def _exec_file(stub: "Stub", annex: bytes) -> bytes:
    task = stub.control.kernel.tasks.get(number(annex)) if annex else stub.task
    if task is None or not task.has_mm or task.mm.exe_file is None:
        raise LinuxError(Errno.ESRCH, "no such process, or it has no program")
    return task.mm.exe_file.path


def _libraries(stub: "Stub", annex: bytes) -> bytes:
    return library_list(stub.mm, stub.task.abi, annex)


def _memory_map(stub: "Stub", annex: bytes) -> bytes:
    """User space as a whole: a client asks once, and keeps what it is told, whatever is mapped later."""
    del annex
    end = min(stub.mm.layout.task_size, stub.task.abi.mask + 1)
    head = '<!DOCTYPE memory-map PUBLIC "+//IDN gnu.org//DTD GDB Memory Map V1.0//EN" "gdb-memory-map.dtd">'
    return f'{head}\n<memory-map><memory type="ram" start="0x0" length="{end:#x}"/></memory-map>'.encode()


def _threads(stub: "Stub", annex: bytes) -> bytes:
    del annex
    lines = ['<?xml version="1.0"?>', "<threads>"]
    for task in stub.control.all_threads():
        name = thread_name(task.tgid, task.pid, multiprocess=stub.multiprocess)
        lines.append(f'<thread id="{name}" core="0" name="{escape(task.comm)}"/>')
    lines.append("</threads>")
    return "\n".join(lines).encode()


def _osdata(stub: "Stub", annex: bytes) -> bytes:
    """What there is to look at, or one of its tables."""
    kernel = stub.control.kernel
    tasks = [task for task in kernel.tasks.values() if task.has_mm]
    match annex:
        case b"":
            rows = [
                (("Type", "processes"), ("Description", "Listing of all processes"), ("Title", "Processes")),
                (("Type", "threads"), ("Description", "Listing of all threads"), ("Title", "Threads")),
            ]
            return _osdata_xml("types", rows)
        case b"processes":
            leaders = [task for task in tasks if task.pid == task.tgid]
            return _osdata_xml("processes", [_process_row(task) for task in leaders])
        case b"threads":
            return _osdata_xml("threads", [(*_process_row(task), ("tid", str(task.pid))) for task in tasks])
    raise LinuxError(Errno.ENOENT, "no such table")


def _process_row(task: "Task") -> tuple[tuple[str, str], ...]:
    command = task.comm.decode("utf-8", "replace")
    return (("pid", str(task.tgid)), ("user", str(task.cred.uid)), ("command", command), ("cores", "0"))


def _osdata_xml(kind: str, rows: Sequence[tuple[tuple[str, str], ...]]) -> bytes:
    lines = ['<?xml version="1.0"?>', '<!DOCTYPE target SYSTEM "osdata.dtd">', f'<osdata type="{kind}">']
    for row in rows:
        columns = "".join(f'<column name="{name}">{escape(value)}</column>' for name, value in row)
        lines.append(f"<item>{columns}</item>")
    lines.append("</osdata>")
    return "\n".join(lines).encode()


def _siginfo(stub: "Stub", annex: bytes) -> bytes:
    del annex
    task = stub.task
    held = stub.control.delivery.held.get(task)
    if held is not None:
        return held[1].pack(task.abi)
    last = stub.last
    if isinstance(last, Stop) and last.tid == task.pid and last.code:
        return Siginfo(SIGTRAP, last.code, addr=stub.pc(task)).pack(task.abi)
    raise LinuxError(Errno.ENODATA, "the thread was not stopped by a signal")


def _write(stub: "Stub", rest: bytes) -> bytes:
    """``siginfo``, the one object that is written: its annex is empty."""
    _, _, rest = rest.partition(b":")
    offset_text, _, data = rest.partition(b":")
    offset, task = number(offset_text), stub.task
    if task not in stub.control.delivery.held:
        raise LinuxError(Errno.ENODATA, "the thread was not stopped by a signal")
    if offset + len(data) > SIGINFO_SIZE:
        raise BadPacket("beyond the end of siginfo_t")
    whole = bytearray(stub.control.delivery.held[task][1].pack(task.abi))
    whole[offset : offset + len(data)] = data
    stub.control.delivery.replace(task, unpack(task.abi, bytes(whole)))
    return b"%x" % len(data)


_READ: Final[dict[bytes, Callable[["Stub", bytes], bytes]]] = {
    b"features": _features,
    b"auxv": _auxv,
    b"exec-file": _exec_file,
    b"libraries-svr4": _libraries,
    b"memory-map": _memory_map,
    b"osdata": _osdata,
    b"siginfo": _siginfo,
    b"threads": _threads,
}
