"""``q`` and ``Q`` packets: what there is, who there is, what the client and we can do.

Source: the gdb manual, "General Query Packets".
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.gdb import memory, tls
from minikernel.gdb.libraries import load_bias
from minikernel.gdb.monitor import run_monitor
from minikernel.gdb.packet import PACKET_SIZE
from minikernel.gdb.stops import thread_name
from minikernel.gdb.text import ALL, BadPacket, number, pair, thread_id, to_hex, unhex
from minikernel.gdb.transfers import OBJECTS, transfer

if TYPE_CHECKING:
    from minikernel.gdb.stub import Stub

_OURS: Final = (
    f"PacketSize={PACKET_SIZE:x}",
    *("multiprocess+", "QStartNoAckMode+", "swbreak+", "hwbreak+", "vContSupported+", "no-resumed+"),
    *("fork-events+", "vfork-events+", "exec-events+", "QThreadEvents+", "QPassSignals+", "QCatchSyscalls+"),
    *("binary-upload+", "augmented-libraries-svr4-read+", "QNonStop-", "ConditionalBreakpoints-"),
    *(f"qXfer:{name}+" for name in OBJECTS),
)
_MAX_FEATURES: Final = 256
_MAX_SYSCALLS: Final = 4096


def query(stub: "Stub", payload: bytes) -> bytes:
    """The answer to a ``q`` packet; empty: we do not know it."""
    for name, handler in _QUERIES:
        if payload.startswith(name) and payload[len(name) : len(name) + 1] in {b"", b":", b",", b";"}:
            return handler(stub, payload[len(name) + 1 :])
    return b""


def setting(stub: "Stub", payload: bytes) -> bytes:
    """The answer to a ``Q`` packet."""
    name, _, rest = payload.partition(b":")
    handler = _SETTINGS.get(name)
    return handler(stub, rest) if handler is not None else b""


def _supported(stub: "Stub", rest: bytes) -> bytes:
    words = [word.decode("ascii", "replace") for word in rest.split(b";")[:_MAX_FEATURES]]
    stub.client.features = frozenset(word[:-1] for word in words if word.endswith("+"))
    return ";".join((*_OURS, *stub.extra_features)).encode()


def _threads(stub: "Stub", _rest: bytes) -> bytes:
    names = [thread_name(task.tgid, task.pid, multiprocess=stub.multiprocess) for task in stub.control.all_threads()]
    return f"m{','.join(names)}".encode() if names else b"l"


def _no_more_threads(_stub: "Stub", _rest: bytes) -> bytes:
    return b"l"


def _current(stub: "Stub", _rest: bytes) -> bytes:
    task = stub.control.someone()
    return f"QC{thread_name(task.tgid, task.pid, multiprocess=stub.multiprocess)}".encode() if task is not None else b""


def _attached(stub: "Stub", rest: bytes) -> bytes:
    inferiors = stub.client.inferiors
    if rest:
        inferior = inferiors.get(number(rest))
        if inferior is None:
            raise LinuxError(Errno.ESRCH, "not attached to it")
        return b"1" if inferior.attached else b"0"
    return b"1" if any(inferior.attached for inferior in inferiors.values()) else b"0"


def _extra_info(stub: "Stub", rest: bytes) -> bytes:
    task = stub.find(thread_id(rest))
    state = "running" if task is stub.control.kernel.current else task.state.name.lower()
    call = " in a system call" if task.blocked_call is not None else ""
    return to_hex(f"{task.comm.decode('utf-8', 'replace')}: {state}{call}".encode())


def _offsets(stub: "Stub", _rest: bytes) -> bytes:
    bias = load_bias(stub.mm, stub.task.abi)
    return b"Text=%x;Data=%x;Bss=%x" % (bias, bias, bias)


def _crc(stub: "Stub", rest: bytes) -> bytes:
    address, length = pair(rest)
    crc = memory.crc32(stub.mm, address, length)
    if crc is None:
        raise LinuxError(Errno.EFAULT, "not all of it can be read")
    return b"C%x" % crc


def _search(stub: "Stub", rest: bytes) -> bytes:
    kind, _, rest = rest.partition(b":")
    if kind != b"memory":
        return b""
    address, _, rest = rest.partition(b";")
    length, _, pattern = rest.partition(b";")
    if not pattern:
        raise BadPacket("nothing to look for")
    found = memory.search(stub.mm, number(address), number(length), pattern)
    return b"0" if found is None else b"1,%x" % found


def _tls_address(stub: "Stub", rest: bytes) -> bytes:
    """Where a thread has its copy of a thread-local variable: at an offset in the block of a module."""
    who, _, place = rest.partition(b",")
    offset, module = pair(place)
    task = stub.find(thread_id(who))
    return b"%x" % (tls.block(stub.session, task, module) + offset & task.abi.mask)


def _monitor(stub: "Stub", rest: bytes) -> bytes:
    return to_hex(run_monitor(stub, unhex(rest).decode("utf-8", "replace")).encode()) or b"OK"


def _symbol(_stub: "Stub", _rest: bytes) -> bytes:
    return b"OK"  # there is none that we want to know


def _pass_signals(stub: "Stub", rest: bytes) -> bytes:
    stub.client.pass_signals = frozenset(number(word) for word in rest.split(b";")[:_MAX_FEATURES] if word)
    return b"OK"


def _catch_syscalls(stub: "Stub", rest: bytes) -> bytes:
    on, *numbers = rest.split(b";")[:_MAX_SYSCALLS]
    inferior = stub.client.inferiors.get(stub.task.tgid)
    if inferior is None or on not in {b"0", b"1"}:
        raise BadPacket("QCatchSyscalls:0 or :1")
    inferior.catches = frozenset(number(word) for word in numbers) if on == b"1" else None
    return b"OK"


def _thread_events(stub: "Stub", rest: bytes) -> bytes:
    if rest not in {b"0", b"1"}:
        raise BadPacket("0 or 1")
    stub.client.thread_events = rest == b"1"
    return b"OK"


def _non_stop(_stub: "Stub", rest: bytes) -> bytes:
    if rest != b"0":
        raise LinuxError(Errno.EINVAL, "the machine stops as a whole")
    return b"OK"


def parse_thread(stub: "Stub", text: bytes) -> bool:
    """Whether the thread that ``T`` asks about lives."""
    wanted = thread_id(text)
    if wanted.tid == ALL:
        raise BadPacket("T wants one thread")
    return any(task.pid == wanted.tid for task in stub.control.all_threads())


_Handler = Callable[["Stub", bytes], bytes]
# Names of which one begins another are told apart by what follows.
_QUERIES: Final[tuple[tuple[bytes, _Handler], ...]] = (
    (b"qSupported", _supported),
    (b"qXfer", transfer),
    (b"qfThreadInfo", _threads),
    (b"qsThreadInfo", _no_more_threads),
    (b"qThreadExtraInfo", _extra_info),
    (b"qC", _current),
    (b"qAttached", _attached),
    (b"qOffsets", _offsets),
    (b"qCRC", _crc),
    (b"qSearch", _search),
    (b"qGetTLSAddr", _tls_address),
    (b"qRcmd", _monitor),
    (b"qSymbol", _symbol),
)
_SETTINGS: Final[dict[bytes, _Handler]] = {
    b"QPassSignals": _pass_signals,
    b"QCatchSyscalls": _catch_syscalls,
    b"QThreadEvents": _thread_events,
    b"QNonStop": _non_stop,
}
