"""A stub in this process, and a client that says one packet after another."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from minikernel.abi.errno import LinuxError
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Sink, Tracer
from minikernel.gdb.stub import Stub
from minikernel.kdb.session import Session
from minikernel.kernel import Kernel
from tests.minikernel.gdb.conftest import build
from tests.minikernel.kdb.test_machine import nowhere

FEATURES = (
    b"qSupported:multiprocess+;swbreak+;hwbreak+;fork-events+;vfork-events+;exec-events+;no-resumed+;vContSupported+"
)


class Talk:
    """Packets to a stub, and what it answers."""

    def __init__(self, stub: Stub, program: Path) -> None:
        self.stub = stub
        self.program = program

    def __call__(self, payload: bytes | str) -> str:
        """The reply to *payload*: what comes last."""
        return self.replies(payload)[-1]

    def replies(self, payload: bytes | str) -> list[str]:
        """All that comes."""
        data = payload.encode() if isinstance(payload, str) else payload
        return [answer.decode("latin-1") for answer in self.stub.handle(data)]

    @property
    def kernel(self) -> Kernel:
        """The machine's."""
        return self.stub.control.kernel

    def symbol(self, name: str) -> int:
        """The address of *name*."""
        found = self.stub.session.symbol(name)
        assert found is not None
        return found

    def at(self, name: str) -> None:
        """Let it run to function *name*."""
        place = f"0,{self.symbol(name):x},1"
        assert self(f"Z{place}") == "OK"
        reply = self("vCont;c")
        assert "swbreak:;" in reply, reply
        assert self(f"z{place}") == "OK"


class Line:
    """The command line of the machines that are launched."""

    def __init__(self, argv: tuple[bytes, ...]) -> None:
        self.argv = argv

    def launch(self, listen: Callable[[Kernel], Sink]) -> System:
        """A machine whose program is loaded."""
        config = Config(argv=self.argv, env=(b"LANG=C",), ram=16 << 20)
        system = System(config, Tracer())
        system.kernel.tracer.sink = listen(system.kernel)
        system.__enter__()
        try:
            system.exec_init(config.argv[0])
        except LinuxError:
            system.__exit__(None, None, None)
            system.kernel.cpu.close()
            raise
        return system


@contextmanager
def talk(arch: str, *arguments: str, program: str = "story") -> Iterator[Talk]:
    """A stub whose program, a static one, stands in front of its first instruction."""
    path = build(arch, program)
    line = Line((bytes(path), *(word.encode() for word in arguments)))
    printed: list[str] = []
    with nowhere():
        session = Session(line.launch, printed.append)
        stub = Stub(session, printed, line)
        stub.connected()
        try:
            client = Talk(stub, path)
            client(FEATURES)
            yield client
        finally:
            session.close()
