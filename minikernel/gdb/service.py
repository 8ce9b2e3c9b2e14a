"""The machine's side of the server: what its process answers the front end, which has the connection."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from minikernel.gdb.stub import Restart, Stub
from minikernel.kdb.machine import Why

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

KIND: Final = "packet"  # of the requests to Front


@dataclass(frozen=True, slots=True)
class Order:
    """What the front end asks for: *what* is "packet" (with its payload), "connected" or "free"."""

    what: str
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """Payloads to send; *status* is the exit status that the machine's end means, None while it lives."""

    payloads: tuple[bytes, ...] = ()
    status: int | None = None
    gone: bool = False  # the client has left the machine to itself
    extended: bool = False  # the client may start the program again
    words: str = ""  # for standard error


def make_service(
    printed: list[str], restart: "Callable[[Session], Restart]"
) -> "Callable[[Session], Callable[[Order], Answer]]":
    """What makes the handler of KIND for a session that prints into *printed*."""

    def make(session: "Session") -> Callable[[Order], Answer]:
        stub = Stub(session, printed, restart(session))

        def handle(order: Order) -> Answer:
            payloads: list[bytes] = []
            words = ""
            match order.what:
                case "packet":
                    payloads = stub.handle(order.payload)
                case "connected":
                    stub.connected()
                case "free":
                    pause = stub.control.run_free()
                    if pause.why is Why.STUCK:
                        words = pause.text
            return Answer(tuple(payloads), _status(stub, words), stub.gone, stub.client.extended, words)

        return handle

    return make


def _status(stub: Stub, words: str) -> int | None:
    """As ``minikernel run`` would end."""
    code = stub.control.kernel.exit_code
    if code is None:
        return 125 if words else None
    return 128 + (code & 0x7F) if code & 0x7F else os.WEXITSTATUS(code)
