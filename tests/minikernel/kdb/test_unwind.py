"""The caller is found from every instruction: compared with a shadow stack that is kept by stepping."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from emu.cpu import RIP, RSP
from minikernel.kdb.machine import Why
from minikernel.kdb.session import Session
from minikernel.kdb.unwind import Found, Frame
from tests.minikernel.kdb.conftest import build
from tests.minikernel.kdb.test_sessions import session

MAX_STEPS = 9000
CALLEE_SAVED = {8: (3, 5, 12, 13, 14, 15), 4: (3, 5, 6, 7)}
# What changes a register that belongs to the caller, and tells nobody: __x86.get_pc_thunk.bx and its like.
THUNKS = b"\x8b\x1c\x24\xc3", b"\x8b\x34\x24\xc3", b"\x8b\x3c\x24\xc3", b"\x8b\x2c\x24\xc3"

# memcpy of glibc for i386: it keeps ESI and EDI in registers, pushes EAX, and its call-frame information knows nothing.
SECRET = bytes.fromhex("50 89c8 c1e902")


@dataclass
class Call:
    """A call that has not returned."""

    back: int
    sp: int
    registers: tuple[int, ...]


def all_frames(it: Session) -> list[Frame]:
    frames: list[Frame] = []
    while (frame := it.view.at(len(frames))) is not None:
        frames.append(frame)
    return frames


def in_thunk(it: Session, pc: int) -> bool:
    return any(thunk in it.read(pc - 3, 7) for thunk in THUNKS)


def in_secret(it: Session, pc: int) -> bool:
    return it.word == 4 and SECRET in it.read(pc - 101, 202)


def walk(it: Session) -> tuple[int, list[str]]:
    """Step through main; how many instructions, and what was wrong where."""
    calls: list[Call] = []
    wrong: list[str] = []
    task, start = it.task, it.machine.icount
    end = it.symbol("halfway")
    while it.machine.icount - start < MAX_STEPS:
        registers = it.registers()
        pc, sp = registers[RIP], registers[RSP]
        frames = all_frames(it)
        if not any(frame.signal for frame in frames) and not in_secret(it, pc):
            found = [frame.pc for frame in frames[1:]]
            saved = in_thunk(it, pc) or all(
                frame.registers[at] == call.registers[at]
                for frame, call in zip(frames[1:], reversed(calls), strict=False)
                for at in CALLEE_SAVED[it.word]
            )
            if found != [call.back for call in reversed(calls)] or not saved or any(f.guessed for f in frames):
                wrong.append(f"{pc:#x} {it.name_of(pc)} {[it.name_of(at) for at in found]} {saved}")
        [insn] = it.disassemble(pc, 1)
        if it.machine.step().why is not Why.STEPPED:
            break
        if it.kernel.current is not task and it.machine.run_to_task(task).why is not Why.SWITCHED:
            break
        after = it.registers()
        if insn.mnemonic == "call" and after[RSP] == sp - it.word:
            calls.append(Call(pc + insn.size, sp, registers))
        while calls and after[RSP] >= calls[-1].sp:
            calls.pop()
        if after[RIP] == end:
            break
    return it.machine.icount - start, wrong


@pytest.mark.slow
@pytest.mark.parametrize(("level", "kind"), [("-O0", "static"), ("-O2", "dynamic")])
def test_from_every_instruction_the_callers_and_their_registers_are_found(arch: str, level: str, kind: str) -> None:
    """Prologues, epilogues, PLT stubs, the dynamic linker, alloca, libc's callbacks, a system call's entry."""
    program = build(arch, "calls", level=level, kind=kind)
    with session(Path("/"), program=str(program)[1:]) as (it, _):
        it.execute("handle SIGUSR1 nostop")
        it.execute("tbreak main")
        it.execute("run")
        steps, wrong = walk(it)
    assert steps > 2000
    assert wrong == []


def names(it: Session) -> list[str]:
    it.execute("handle SIGUSR1 nostop")
    found = []
    for frame in all_frames(it):
        symbol = it.explainer.symbols.find(it.mm, frame.lookup)
        name = symbol.symbol.name.partition(".")[0] if symbol is not None and symbol.symbol is not None else "??"
        found.append("<signal>" if frame.signal else name)
    return found


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_signal_handler_was_called_by_what_it_interrupted(arch: str, kind: str) -> None:
    program = build(arch, "calls", level="-O0", kind=kind)
    with session(Path("/"), program=str(program)[1:]) as (it, printed):
        it.execute("handle SIGUSR1 nostop")
        it.execute("tbreak on_signal")
        it.execute("run")
        found = names(it)
        assert found[:2] == ["on_signal", "<signal>"]
        assert found[-2:] == ["interrupted", "main"]
        it.execute("tbreak fibonacci")
        it.execute("continue")
        assert names(it)[:3] == ["fibonacci", "on_signal", "<signal>"]
        signal = it.view.at(2)
        assert signal is not None
        assert signal.signal
        interrupted = it.view.at(3)
        assert interrupted is not None
        assert interrupted.found is Found.SIGNAL
        assert interrupted.exact
        printed.clear()
        it.execute("backtrace")
        assert "<signal handler called>" in "".join(printed)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_a_thread_begins_in_clone(arch: str, kind: str) -> None:
    program = build(arch, "calls", level="-O0", kind=kind)
    with session(Path("/"), program=str(program)[1:]) as (it, _):
        it.execute("handle SIGUSR1 nostop")
        it.execute("tbreak work")
        it.execute("run")
        frames = all_frames(it)
        assert names(it)[0] == "work"
        assert not any(frame.guessed for frame in frames)
        assert 3 <= len(frames) <= 4


def test_a_call_that_never_returns_is_not_mistaken_for_what_follows_it(arch: str) -> None:
    program = build(arch, "calls", level="-O2", kind="static")
    with session(Path("/"), program=str(program)[1:]) as (it, _):
        it.execute("handle SIGUSR1 nostop")
        it.execute("tbreak _exit")
        it.execute("run")
        assert names(it)[-2:] == ["leave", "main"]


def test_frames_are_chosen_until_the_program_goes_on(arch: str) -> None:
    program = build(arch, "calls", level="-O0", kind="static")
    with session(Path("/"), program=str(program)[1:]) as (it, printed):
        it.execute("break fibonacci if $icount")
        it.execute("run")
        it.execute("continue")

        def after(command: str, *, works: bool = True) -> str:
            printed.clear()
            assert it.execute(command) is works, printed
            return "".join(printed)

        inner, outer = it.view.at(0), it.view.at(1)
        assert inner is not None
        assert outer is not None
        assert after("up").startswith("#1 ")
        assert after("print $pc").split()[2] == f"{outer.pc:#x}"
        assert after("print $sp").split()[2] == f"{outer.registers[RSP]:#x}"
        assert f"caller of frame at {inner.cfa:#x}" in after("info frame")
        assert after("frame function main").startswith("#2 ")
        assert "can't go up" in after("up", works=False)
        assert after("down 2").startswith("#0 ")
        assert "can't go down" in after("down", works=False)
        assert "No frame at level 9" in after("frame 9", works=False)
        assert after("backtrace 1").count("\n") == 2
        assert after("backtrace -1").startswith("#2 ")
        assert "_start" in after("backtrace -past-main")
        after("up")
        after("stepi")
        assert after("frame").startswith("#0 ")
