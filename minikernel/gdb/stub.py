"""The stub: a payload in, payloads out.  No sockets, no acknowledgements, no terminal: those are server.py's.

Source: the gdb manual, appendix "gdb Remote Serial Protocol", section "Packets".
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from minikernel.abi import signal as s
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.events import Event
from minikernel.gdb import access, registers
from minikernel.gdb.client import ANYONE, EVERYONE, Action, Client, Inferior
from minikernel.gdb.files import Files
from minikernel.gdb.queries import parse_thread, query, setting
from minikernel.gdb.resume import Control
from minikernel.gdb.stops import End, Outcome, Stop, reply
from minikernel.gdb.text import ALL, ANY, BadPacket, ThreadId, number, pair, thread_id, to_hex, unhex
from minikernel.report.sinks import combine
from minikernel.task.signal import send_signal

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.task.task import Task

_MAX_ACTIONS: Final = 4096


class CommandLine(Protocol):
    """What the session's machine is started with."""

    argv: tuple[bytes, ...]


class Stub:
    """One client's view of one machine.  *printed* is where the session's output goes."""

    def __init__(self, session: "Session", printed: list[str], line: CommandLine) -> None:
        self.session = session
        self.printed = printed
        self.client = Client()
        self.control: Control
        self.files = Files()
        self.last: Outcome
        self.killed = False  # by `k`, which wants no answer
        self.extra_features: tuple[str, ...] = ()
        self._line = line
        self.begin()

    # ---- the machine

    def begin(self) -> None:
        """A machine that has just been started: the client is attached to its first process."""
        for sig in range(1, s.NSIG + 1):
            self.session.stopping[s.signal_name(sig)] = False  # stopping is ours, not the session's
        self.control = Control(self.session.machine, self.client)
        tracer = self.control.kernel.tracer
        assert tracer.sink is not None, "Stub: the session listens"
        tracer.sink = combine(tracer.sink, self._hear)
        self._attach_init(attached=False)

    def adopt(self, client: Client) -> None:
        """The machine is another copy of itself, at another time: the client's state stays."""
        tasks = self.session.kernel.tasks
        client.inferiors = {pid: inferior for pid, inferior in client.inferiors.items() if pid in tasks}
        self.client = client
        self.files = Files()  # the client has them open under the same numbers; they are opened again when asked for
        self.control = Control(self.session.machine, client)

    def connected(self) -> None:
        """A new client: nothing of the last one's is left but whom it was attached to."""
        client = self.client
        client.features, client.pass_signals = frozenset(), frozenset()
        client.general, client.step = ANYONE, EVERYONE
        client.extended = client.thread_events = self.killed = False
        client.open_files, client.fs_pid = {}, 0
        self.files = Files()
        for inferior in client.inferiors.values():
            inferior.points.clear()
            inferior.catches = None
        if not client.inferiors and self.is_alive:
            self._attach_init(attached=True)

    @property
    def is_alive(self) -> bool:
        """The machine has not come to its end."""
        return self.control.kernel.exit_code is None

    def interrupt(self) -> None:
        """The client wants a stop (the byte 3)."""
        self.session.machine.interrupt()

    def _attach_init(self, *, attached: bool) -> None:
        init = self.control.kernel.init
        assert init is not None, "Stub: nothing is booted"
        self.client.inferiors = {init.tgid: Inferior(init.tgid, attached=attached)}
        task = self.control.someone() or init
        self.last = Stop(task.tgid, task.pid)

    def _hear(self, icount: int, pid: int, event: Event) -> None:
        self.control.hear(icount, pid, event)

    # ---- whom packets are about

    @property
    def multiprocess(self) -> bool:
        """Threads are named with their processes."""
        return "multiprocess" in self.client.features

    def find(self, wanted: ThreadId) -> "Task":
        """The thread that *wanted* means.

        Errors:
            ESRCH: there is none.
        """
        threads = self.control.all_threads()
        fitting = [t for t in threads if wanted.pid in {ALL, ANY, t.tgid} and wanted.tid in {ALL, ANY, t.pid}]
        if not fitting:
            raise LinuxError(Errno.ESRCH, f"no thread {wanted}")
        preferred = (self.last.tid if isinstance(self.last, Stop) else 0, getattr(self.control.someone(), "pid", 0))
        return next((task for tid in preferred for task in fitting if task.pid == tid), fitting[0])

    @property
    def task(self) -> "Task":
        """The general thread (Hg).  Errors: ESRCH."""
        task = self.find(self.client.general)
        if not registers.is_readable(task):
            raise LinuxError(Errno.ESRCH, "the thread has no program")
        return task

    @property
    def mm(self) -> "MmStruct":
        """Its memory."""
        return self.task.mm

    def pc(self, task: "Task") -> int:
        """The program counter of a thread."""
        value = registers.read(self.session.machine, task, [registers.program_counter(task.abi).number])[0]
        return int.from_bytes(value, "little")

    # ---- packets

    def handle(self, payload: bytes) -> list[bytes]:
        """The answers to one packet, in their order; the last one is the reply, and only ``k`` has none."""
        try:
            return self._dispatch(payload)
        except BadPacket:
            return [b"E01"]
        except LinuxError as error:
            return [b"E%02x" % (int(error.errno) & 0xFF)]

    def _dispatch(self, payload: bytes) -> list[bytes]:
        letter, rest = payload[:1], payload[1:]
        if letter in _RESUMING:
            return self._resume(self._old_actions(letter, rest))
        if letter == b"v":
            return self._v_packet(payload)
        if letter == b"k":
            self._kill(0)
            self.killed = True
            return []
        if letter == b"?":
            return [self._why()]
        handler = _PACKETS.get(letter)
        return [handler(self, rest) if handler is not None else b""]

    def _why(self) -> bytes:
        if not self.client.inferiors:
            return reply(self.session.machine, self.client, self.last) if isinstance(self.last, End) else b"W00"
        if not isinstance(self.last, Stop) or self.last.tid not in self.control.kernel.tasks:
            task = self.control.someone()
            assert task is not None, "Stub: attached to a process without threads"
            self.last = Stop(task.tgid, task.pid)
        return reply(self.session.machine, self.client, self.last)

    def _v_packet(self, payload: bytes) -> list[bytes]:
        name, separator, rest = payload.partition(b":" if payload.startswith(b"vFile") else b";")
        match name:
            case b"vFile":
                return [self.files.handle(self, rest)]
            case b"vCont?":
                return [b"vCont;c;C;s;S;r"]
            case b"vCont" if separator:
                return self._resume(tuple(_action(text) for text in rest.split(b";")[:_MAX_ACTIONS]))
            case b"vKill":
                self._kill(number(rest))
                return [b"OK"]
            case b"vAttach":
                return [self._attach(number(rest))]
            case b"vRun":
                return [self._run([unhex(word) for word in rest.split(b";")])]
        return [b""]

    # ---- running

    def _resume(self, actions: tuple[Action, ...]) -> list[bytes]:
        if not self.client.inferiors:
            raise LinuxError(Errno.ESRCH, "there is no process")
        return self.report(self.control.resume(actions))

    def report(self, outcome: Outcome) -> list[bytes]:
        """The packets that tell of a stop."""
        self.last = outcome
        if isinstance(outcome, Stop):
            self.client.general = ThreadId(outcome.pid, outcome.tid)
        console = [b"O" + to_hex(outcome.words.encode())] if outcome.words else []
        return [*console, reply(self.session.machine, self.client, outcome)]

    def _old_actions(self, letter: bytes, rest: bytes) -> tuple[Action, ...]:
        """c, s, C and S: one thread or all, from where they are or from an address."""
        sig = 0
        if letter in {b"C", b"S"}:
            text, _, rest = rest.partition(b";")
            sig = number(text)
        one = self.client.step if self.client.step.tid > 0 else None
        task = self.find(one or EVERYONE)
        if rest:
            access.set_pc(self, task, number(rest))
        named = ThreadId(task.tgid, task.pid)
        first = Action(letter.lower().decode(), sig, threads=named)
        return (first,) if one is not None else (first, Action("c"))

    def _run(self, argv: list[bytes]) -> bytes:
        """vRun: the machine anew, with another command line if one is given."""
        before = self._line.argv
        if any(argv):
            self._line.argv = (argv[0] or before[0], *argv[1:])
        self.session.close()
        try:
            self.session.start()
        except LinuxError:
            self._line.argv = before  # the program that was there; what was asked for is not
            self.session.start()
            raise
        finally:
            self.begin()
        return self._why()

    def _attach(self, pid: int) -> bytes:
        leader = self.control.kernel.tasks.get(pid)
        if leader is None or not leader.has_mm or leader.tgid != pid or pid in self.client.inferiors:
            raise LinuxError(Errno.ESRCH, "no such process, or attached to already")
        self.client.inferiors[pid] = Inferior(pid, attached=True)
        self.last = Stop(pid, pid, 0)
        return reply(self.session.machine, self.client, self.last)

    def _detach(self, rest: bytes) -> bytes:
        pid = number(rest[1:]) if rest[:1] == b";" else 0
        if pid and pid not in self.client.inferiors:
            raise LinuxError(Errno.ESRCH, "not attached to it")
        for one in [pid] if pid else list(self.client.inferiors):
            self.control.delivery.let_pass(one)
            del self.client.inferiors[one]
        return b"OK"

    def _kill(self, pid: int) -> None:
        """Kill a process the client is attached to, or all: the machine ends with its first."""
        kernel = self.control.kernel
        if pid and pid not in self.client.inferiors:
            raise LinuxError(Errno.ESRCH, "not attached to it")
        for one in [pid] if pid else list(self.client.inferiors):
            del self.client.inferiors[one]
            leader = kernel.tasks.get(one)
            if kernel.init is not None and one == kernel.init.tgid:
                kernel.exit_code = s.SIGKILL if kernel.exit_code is None else kernel.exit_code
            elif leader is not None and leader.process.threads:
                self.control.changed = True
                send_signal(leader.process.threads[0], Siginfo(s.SIGKILL), group=True)
            self.last = End(one, s.SIGKILL)

    def _extended(self, _rest: bytes) -> bytes:
        self.client.extended = True
        return b"OK"

    # ---- threads

    def _select(self, rest: bytes) -> bytes:
        """H: whom the packets that follow are about."""
        wanted = thread_id(rest[1:])
        if rest[:1] == b"c":
            self.client.step = wanted
            return b"OK"
        if rest[:1] != b"g" or wanted.tid == ALL:
            raise BadPacket("Hg or Hc")
        if self.client.inferiors:
            self.find(wanted)
        self.client.general = wanted
        return b"OK"

    def _is_alive(self, rest: bytes) -> bytes:
        return b"OK" if parse_thread(self, rest) else b"E%02x" % Errno.ESRCH


def _action(text: bytes) -> Action:
    """One action of vCont."""
    what, colon, who = text.partition(b":")
    threads = thread_id(who) if colon else EVERYONE
    kind, rest = what[:1], what[1:]
    match kind:
        case b"c" | b"s" if not rest:
            return Action(kind.decode(), threads=threads)
        case b"C" | b"S":
            return Action(kind.lower().decode(), number(rest), threads=threads)
        case b"r":
            start, end = pair(rest)
            return Action("r", start=start, end=end, threads=threads)
    raise BadPacket(f"an action: {text[:32]!r}")


_RESUMING: Final = frozenset({b"c", b"C", b"s", b"S"})
_PACKETS: Final[dict[bytes, Callable[[Stub, bytes], bytes]]] = {
    b"!": Stub._extended,
    b"D": Stub._detach,
    b"G": access.write_registers,
    b"H": Stub._select,
    b"M": access.write_memory,
    b"P": access.write_register,
    b"Q": lambda stub, rest: setting(stub, b"Q" + rest),
    b"T": Stub._is_alive,
    b"X": access.write_binary,
    b"Z": access.insert,
    b"g": access.read_registers,
    b"m": access.read_memory,
    b"p": access.read_register,
    b"q": lambda stub, rest: query(stub, b"q" + rest),
    b"x": access.read_binary,
    b"z": access.remove,
}
