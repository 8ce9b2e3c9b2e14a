"""A machine that a program drives: it is run, stopped, looked at, changed, and taken back."""

import subprocess
import sys
from pathlib import Path

import pytest

from guest.toolchain import compiler_for
from minikernel.api import (
    BadAddressError,
    BadRegisterError,
    CannotStartError,
    Machine,
    NoTaskError,
    Occurrence,
    StuckError,
    UnknownSymbolError,
)
from minikernel.events import FaultKind, SysEnter
from minikernel.testing import Guest
from tests.minikernel.trace.test_verify import record

SOURCE = """
#include <stdio.h>
#include <string.h>
#include <unistd.h>
char word[16] = "hello";
int number = 7;
__attribute__((noinline)) int twice(int x) { return 2 * x; }
int main(int argc, char **argv) {
    char line[16] = "";
    int got = twice(number);
    if (read(0, line, 15) < 0) return 1;
    printf("%s %d %s", word, got, line);
    fprintf(stderr, "%d words\\n", argc);
    return got;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It prints a word, a number and a line that it reads."""
    return Guest(tmp_path_factory.mktemp("api")).compile(SOURCE)


def test_a_program_runs_to_its_end(program: Path) -> None:
    with Machine(program, "one", stdin=b"line\n") as machine:
        assert not machine.done
        assert machine.run() == 14
    assert (machine.status, machine.stdout, machine.stderr) == (14, b"hello 14 line\n", b"2 words\n")
    assert [call.ret for call in machine.syscalls if call.name == "read"] == [5]
    assert machine.syscalls[-1].name == "exit_group"


def test_it_stops_where_it_is_told_to(program: Path) -> None:
    with Machine(program) as machine:
        assert machine.run_until(address="twice")
        assert machine.registers["rdi"] == 7
        assert machine.where().startswith("twice, guest1.c:7")
        here = machine.icount
        machine.step(3)
        assert machine.icount == here + 3
        assert machine.run_until(icount=here + 1000)
        assert machine.icount == here + 1000
        assert machine.run_until(event=SysEnter, condition=lambda told: told.event.nr == 1)  # type: ignore[attr-defined]
        assert not machine.run_until(address="twice")
        assert machine.done
        with pytest.raises(NoTaskError):
            _ = machine.registers


def test_memory_and_registers_are_changed(program: Path) -> None:
    with Machine(program) as machine:
        machine.run_until(address="main")
        machine.write(machine.symbol("word"), b"other\0")
        assert machine.read_string(machine.symbol("word")) == b"other"
        machine.run_until(address="twice")
        machine.set_register("rdi", 21)
        assert machine.run() == 42
    assert machine.stdout == b"other 42 "


def test_code_is_patched(program: Path) -> None:
    """``twice`` becomes: lea eax, [rdi + 99]; ret."""
    with Machine(program) as machine:
        machine.write(machine.symbol("twice"), b"\x8d\x47\x63\xc3")
        assert machine.run() == 106


def test_a_checkpoint_is_come_back_to(program: Path) -> None:
    with Machine(program, stdin=b"x\n") as machine:
        machine.run_until(address="main")
        machine.write(machine.symbol("number"), (5).to_bytes(4, "little"))
        machine.run_until(address="twice")
        place = machine.checkpoint()
        before = machine.registers, machine.icount
        machine.set_register("rdi", 100)
        assert machine.run() == 200
        machine.restore(place)
        assert (machine.registers, machine.icount) == before
        assert machine.stdout == b""
        assert machine.read(machine.symbol("number"), 1) == b"\5"
        assert machine.run() == 10
        machine.restore(place)
        assert machine.run() == 10


def test_callbacks_hear_what_they_asked_for(program: Path) -> None:
    heard: list[Occurrence] = []
    with Machine(program) as machine:
        stop_hearing = machine.on("mmap_region", heard.append)
        everything: list[Occurrence] = []
        machine.on(None, everything.append)
        before = len(machine.events)
        machine.on("sys_exit", lambda told: machine.stop() if told.event.nr == 0 else None)  # type: ignore[attr-defined]
        assert machine.run() is None
        assert not machine.done
        count = len(heard)
        assert count == sum(told.event.name == "mmap_region" for told in machine.events[before:])
        stop_hearing()
        assert machine.run() == 14
        assert len(heard) == count
        assert everything == machine.events[before:]


def test_page_tables_mappings_and_tasks_are_shown(program: Path) -> None:
    with Machine(program) as machine:
        machine.run_until(address="main")
        code = machine.walk(machine.symbol("main"))
        assert [entry.level for entry in code] == ["PML4E", "PDPTE", "PDE", "PTE"]
        assert code[-1].leaf
        assert code[-1].executable
        assert not code[-1].writable
        phys = machine.phys(machine.symbol("main"))
        assert phys is not None
        assert phys % 4096 == machine.symbol("main") % 4096
        assert machine.phys(0x1000) is None
        assert any(m.name == "[stack]" and m.rights == "rw-p" for m in machine.mappings())
        assert [(task.pid, task.name, task.state) for task in machine.tasks if task.pid == 2] == [(2, "guest1", "R")]
        assert machine.current.pid == 2


def test_faults_come_with_their_explanations(program: Path) -> None:
    with Machine(program, explain=True) as machine:
        machine.run()
        kinds = {fault.kind for fault in machine.faults}
        assert {FaultKind.FILE_READ, FaultKind.ANON} <= kinds
        assert all(fault.explanation for fault in machine.faults)
    with Machine(program) as machine:
        machine.run()
        assert {fault.explanation for fault in machine.faults} == {""}


def test_a_fault_that_kills_is_seen(guest: Guest) -> None:
    wild = guest.compile("int main(void) { return *(volatile int *)0x1234; }")
    with Machine(wild) as machine:
        assert machine.run_until(event="mm_fault_failed")
        assert machine.faults[-1].address == 0x1234
        assert machine.faults[-1].signal == 11
        assert machine.run() == 128 + 11


def test_i386_programs_have_their_own_registers(guest: Guest) -> None:
    program = guest.compile("int main(void) { return 3; }", cc=compiler_for("i386").command)
    with Machine(program, cpu="i386") as machine:
        machine.run_until(address="main")
        assert machine.registers["eip"] == machine.symbol("main")
        assert "rax" not in machine.registers
        assert len(machine.walk(machine.symbol("main"))) == 3
        assert machine.run() == 3


def test_a_recorded_run_is_driven_like_any_other(tmp_path: Path, program: Path) -> None:
    trace = record(tmp_path / "t", "--pack", "--", str(program), "one", stdin=b"typed\n")
    with Machine.replay(trace) as machine:
        machine.run_until(address="twice")
        place = machine.checkpoint()
        assert machine.run() == 14
        assert machine.stdout == b"hello 14 typed\n"
        machine.restore(place)
        assert machine.stdout == b""
        assert machine.run() == 14
    with pytest.raises(CannotStartError, match="No such file"):
        Machine.replay(tmp_path / "none")


def test_several_machines_live_side_by_side(program: Path) -> None:
    with Machine(program) as first, Machine(program, ram="64M") as second:
        first.run_until(address="twice")
        second.run_until(address="main")
        first.set_register("rdi", 1)
        assert (second.run(), first.run()) == (14, 2)


def test_mistakes_are_exceptions_of_one_line(program: Path, guest: Guest) -> None:
    with pytest.raises(CannotStartError, match=r"^/no/such: No such file or directory$"):
        Machine("/no/such")
    with pytest.raises(CannotStartError, match="not a size"):
        Machine(program, ram="lots")
    with pytest.raises(CannotStartError, match="no such machine"):
        Machine(program, colour="blue")
    with pytest.raises(CannotStartError):
        Machine(program, root="/no/such")
    with Machine(program) as machine:
        with pytest.raises(BadAddressError, match=r"^0x10: "):
            machine.read(0x10, 1)
        with pytest.raises(BadAddressError):
            machine.write(0x10, b"x")
        with pytest.raises(BadRegisterError, match="no register 'eax' here: rax, rcx"):
            machine.set_register("eax", 1)
        with pytest.raises(UnknownSymbolError, match="no symbol 'nothing'"):
            machine.run_until(address="nothing")
        assert machine.run() == 14
    asleep = guest.compile("#include <unistd.h>\nint main(void) { pause(); return 0; }")
    with Machine(asleep) as machine, pytest.raises(StuckError, match="every task sleeps"):
        machine.run()
    with Machine(program, max_instructions=100) as machine, pytest.raises(StuckError, match="100 instructions"):
        machine.run()


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    loaded = "'minikernel.api' in sys.modules"
    code = f"import sys, minikernel; assert not ({loaded}); minikernel.Machine; assert {loaded}"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = __import__("minikernel").Nothing
