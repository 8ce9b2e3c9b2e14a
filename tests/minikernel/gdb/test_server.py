"""The server: one client after another, acknowledgements, interrupts, and clients that mean no good."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from guest.builder import ROOT
from minikernel.gdb.packet import Decoder, Mark, Packet, encode
from minikernel.gdb.server import AddressError, parse_address
from tests.minikernel.gdb.conftest import build, minikernel

PATIENCE = 60.0  # seconds


def test_addresses() -> None:
    assert parse_address("-") is None
    assert parse_address("1234") == ("127.0.0.1", 1234)
    assert parse_address(":1234") == ("127.0.0.1", 1234)
    assert parse_address("0.0.0.0:1") == ("0.0.0.0", 1)
    assert parse_address("[::1]:22") == ("::1", 22)
    for wrong in ("", "x", "1:x", "70000", "-1"):
        with pytest.raises(AddressError):
            parse_address(wrong)


class Client:
    """A client of the protocol, which says what the tests want."""

    every: ClassVar[list["Client"]] = []

    def __init__(self, port: int) -> None:
        self.every.append(self)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self._decoder = Decoder()
        self._items: list[Packet | Mark] = []

    def receive(self) -> Packet | Mark:
        while not self._items:
            data = self.socket.recv(1 << 16)
            assert data, "the server has closed the connection"
            self._items += self._decoder.feed(data)
        return self._items.pop(0)

    def ask(self, payload: bytes) -> bytes:
        """The reply to *payload*, acknowledged both ways."""
        self.socket.sendall(encode(payload))
        assert self.receive() is Mark.ACK
        return self.reply()

    def reply(self) -> bytes:
        item = self.receive()
        assert isinstance(item, Packet)
        self.socket.sendall(b"+")
        return item.payload

    def close(self) -> None:
        self.socket.close()


@contextlib.contextmanager
def served(*arguments: str, arch: str = "x86-64") -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """A server in a process of its own, at a port of the system's choice."""
    command = [*minikernel("--ram", "16M", "--gdb", "0"), str(build(arch, "story")), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stderr is not None
            found = re.search(r"listening on 127\.0\.0\.1:(\d+)", process.stderr.readline())
            assert found is not None
            yield int(found[1]), process
        finally:
            process.kill()
            while Client.every:
                Client.every.pop().close()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit status and output."""
    output, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, output


@pytest.mark.slow
def test_the_exit_status_is_the_programs() -> None:
    with served() as (port, process):
        client = Client(port)
        assert client.ask(b"vCont;c") == b"W02"
        client.close()
        assert ended(process) == (2, "library: counter 2, guarded 12\n")


@pytest.mark.slow
def test_packets_are_acknowledged_and_repeated_on_request() -> None:
    with served() as (port, process):
        client = Client(port)
        assert client.ask(b"qC") == b"QC2"
        client.socket.sendall(b"-")
        assert client.reply() == b"QC2"
        client.socket.sendall(b"$qC#00")
        assert client.receive() is Mark.NAK
        assert client.ask(b"QStartNoAckMode") == b"OK"
        client.socket.sendall(encode(b"qC"))
        assert client.receive() == Packet(b"QC2")
        client.socket.sendall(encode(b"k"))
        client.close()
        assert ended(process)[0] == 128 + 9


@pytest.mark.slow
def test_an_interrupt_stops_a_program_that_runs_for_ever_even_at_once() -> None:
    with served("forever") as (port, process):
        client = Client(port)
        for pause in (0.3, 0.0):
            client.socket.sendall(encode(b"vCont;c"))
            assert client.receive() is Mark.ACK
            time.sleep(pause)
            client.socket.sendall(b"\x03")
            assert client.reply().startswith(b"T02")
        client.socket.sendall(b"\x03" + encode(b"vKill;2"))
        assert client.receive() is Mark.ACK
        assert client.reply() == b"OK"
        client.close()
        assert ended(process)[0] == 128 + 9


@pytest.mark.slow
def test_a_client_that_detaches_leaves_the_program_running_and_another_finds_it() -> None:
    with served("forever") as (port, process):
        first = Client(port)
        counter = int(subprocess.run(
            ["nm", str(build("x86-64", "story"))], capture_output=True, text=True, check=True
        ).stdout.partition(" B counter")[0].rpartition("\n")[2].split()[0], 16)  # fmt: skip
        assert first.ask(b"D;2") == b"OK"
        first.close()
        time.sleep(0.5)
        second = Client(port)
        assert second.ask(b"?").startswith(b"T05")
        assert second.ask(b"qAttached") == b"1"
        assert int.from_bytes(bytes.fromhex(second.ask(b"m%x,4" % counter).decode()), "little") > 1000
        second.close()  # and this one does not even say good-bye: the program stands still
        third = Client(port)
        before = third.ask(b"m%x,4" % counter)
        time.sleep(0.2)
        assert third.ask(b"m%x,4" % counter) == before
        third.socket.sendall(encode(b"k"))
        assert ended(process)[0] == 128 + 9


@pytest.mark.slow
def test_a_client_that_breaks_the_connection_while_the_program_runs_does_no_harm() -> None:
    with served("forever") as (port, process):
        first = Client(port)
        first.socket.sendall(encode(b"vCont;c"))
        time.sleep(0.2)
        first.close()
        second = Client(port)
        assert second.ask(b"?").startswith(b"T")
        second.close()
        third = Client(port)
        third.socket.sendall(b"\xff\x00$" + b"z" * 300_000 + b"#00" + b"$}#7d$*#2a$m#6d" + b"\x03" * 5000)
        third.close()
        fourth = Client(port)
        assert fourth.ask(b"vMustReplyEmpty") == b""
        fourth.socket.sendall(encode(b"k"))
        assert ended(process)[0] == 128 + 9


@pytest.mark.slow
def test_a_port_that_is_taken_is_told_in_a_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*minikernel("--gdb", str(port)), str(build("x86-64", "story"))]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr == f"minikernel: --gdb {port}: Address already in use\n"


@pytest.mark.slow
def test_what_is_not_there_is_not_served(tmp_path: Path) -> None:
    for words, status in ((("--gdb", "0", str(tmp_path / "nothing")), 127), (("--gdb", "nonsense", "true"), 125)):
        done = subprocess.run(
            minikernel(*words), capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert done.returncode == status
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_ctrl_c_while_nobody_is_connected_ends_it() -> None:
    with served() as (_port, process):
        process.send_signal(signal.SIGINT)
        assert ended(process)[0] == 130
