"""Crash reports, in every state a dying process can be in."""

import pytest

from emu.cpu import RAX, RCX, RIP, RSP
from emu.x86 import PF_P, VEC_BP, VEC_DE, VEC_GP, VEC_PF, VEC_UD
from minikernel.abi import signal as s
from minikernel.abi.mman import MAP_GROWSDOWN, MAP_PRIVATE, PROT_EXEC, PROT_READ
from minikernel.abi.resource import RLIMIT_STACK
from minikernel.abi.siginfo import Siginfo
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT
from minikernel.report.crash import crash_report
from tests.minikernel.mm.touch import ANON, BASE, FETCH, READ, RW, WRITE, Store, map_fixed, touch
from tests.minikernel.report.stage import CODE, PAGE, Stage, check_golden


def report(stage: Stage, info: Siginfo, *, trap: int = VEC_PF, error_code: int = 0, cr2: int = 0) -> str:
    """The report on the program that *info* is about to kill."""
    task = stage.fake.task
    task.trap_nr, task.error_code, task.cr2 = trap, error_code, cr2 or info.addr
    return crash_report(stage.kernel, stage.task, info)


def segv(stage: Stage, address: int, access: int, code: int = s.SEGV_MAPERR) -> str:
    return report(stage, Siginfo(s.SIGSEGV, code, addr=address), error_code=access)


def why(text: str) -> str:
    """The row that says why, unwrapped."""
    lines = text.splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("  why"))
    rows = [lines[at][9:]]
    for line in lines[at + 1 :]:
        if not line.startswith("         "):
            break
        rows.append(line.strip())
    return " ".join(rows)


def test_null_pointer_golden() -> None:
    stage = Stage()
    touch(stage.mm, CODE, FETCH)
    check_golden("crash_null", segv(stage, 0x10, WRITE))


def test_null_pointer_golden_on_i386() -> None:
    stage = Stage(I386_PAE_LAYOUT)
    check_golden("crash_null_i386", segv(stage, 0x10, WRITE))


def test_call_through_null_has_no_code_to_show() -> None:
    stage = Stage()
    stage.fake.cpu.regs[RIP] = 0
    text = segv(stage, 0, FETCH)
    assert why(text) == "the program jumped to 0x0: a call or a return through a NULL pointer"
    assert "no instruction at 0x0 can be read" in text


def test_jump_without_nx_is_known_by_its_address() -> None:
    stage = Stage(I386_2LEVEL_LAYOUT)
    stage.fake.cpu.regs[RIP] = 0x5555_0000
    assert why(segv(stage, 0x5555_0000, READ)) == "the program jumped to 0x55550000, where nothing is mapped"


def test_negative_offset_from_null() -> None:
    assert "a NULL pointer minus 8" in why(segv(Stage(), (1 << 64) - 8, READ))


def test_write_to_read_only_file() -> None:
    text = segv(Stage(), CODE + 1, WRITE | PF_P, s.SEGV_ACCERR)
    assert why(text).startswith("write to read-only mapping of /bin/prog")
    assert "the page is present, its rights forbid it" in text


def test_execution_of_the_stack() -> None:
    stage = Stage()
    map_fixed(stage.mm, BASE, 4, RW, ANON | MAP_GROWSDOWN)
    stage.fake.cpu.regs[RIP] = BASE + 8
    assert why(segv(stage, BASE + 8, FETCH | PF_P, s.SEGV_ACCERR)).startswith(
        "execution of non-executable [stack] memory"
    )


def test_stack_overflow_beyond_its_limit() -> None:
    stage = Stage()
    stage.machine.rlimits[RLIMIT_STACK] = [4 * PAGE, 4 * PAGE]
    map_fixed(stage.mm, BASE, 4, RW, ANON | MAP_GROWSDOWN)
    text = why(segv(stage, BASE - 16, WRITE))
    assert text == (
        "stack overflow: 16 bytes below [stack], which has 16 KiB and may not grow beyond "
        "its limit of 16 KiB (RLIMIT_STACK)"
    )


def test_handler_without_a_stack() -> None:
    stage = Stage()
    stage.machine.rlimits[RLIMIT_STACK] = [4 * PAGE, 4 * PAGE]
    map_fixed(stage.mm, BASE, 4, RW, ANON | MAP_GROWSDOWN)
    text = report(stage, Siginfo(s.SIGSEGV, s.SI_KERNEL), error_code=WRITE, cr2=BASE - 16)
    assert "a signal frame could not be written" in text
    assert "stack overflow" in text


def test_bus_error_beyond_the_end_of_a_file() -> None:
    stage = Stage()
    map_fixed(stage.mm, BASE, 4, PROT_READ, MAP_PRIVATE, stage.machine.file(store=Store(bytes(PAGE))))
    info = Siginfo(s.SIGBUS, s.BUS_ADRERR, addr=BASE + PAGE + 8)
    assert why(report(stage, info, error_code=READ)).startswith("8 bytes beyond the end of /tmp/file, which has 4 KiB")


def test_protected_page() -> None:
    stage = Stage()
    map_fixed(stage.mm, BASE, 1, 0)
    assert "PROT_NONE" in why(segv(stage, BASE, READ | PF_P, s.SEGV_ACCERR))


def test_kernel_address() -> None:
    stage = Stage()
    assert "the kernel's half" in why(segv(stage, stage.machine.node.layout.page_offset, READ | PF_P))


@pytest.mark.parametrize(
    ("divisor", "words"), [(0, "division by zero: ecx is 0"), (3, "the quotient of a division by ecx, which is 0x3")]
)
def test_division(divisor: int, words: str) -> None:
    stage = Stage()
    stage.code.cache.write(0, bytes.fromhex("f7f9"))  # idiv ecx
    stage.fake.cpu.regs[RCX] = divisor | 7 << 32
    info = Siginfo(s.SIGFPE, s.FPE_INTDIV, addr=CODE)
    assert why(report(stage, info, trap=VEC_DE)).startswith(words)


def test_division_by_memory_is_told_in_general() -> None:
    stage = Stage()
    stage.code.cache.write(0, bytes.fromhex("f738"))  # idiv dword ptr [rax]
    info = Siginfo(s.SIGFPE, s.FPE_INTDIV, addr=CODE)
    assert "divided by zero, or the quotient does not fit" in why(report(stage, info, trap=VEC_DE))


def test_illegal_instruction_shows_its_bytes() -> None:
    stage = Stage()
    stage.code.cache.write(0, bytes.fromhex("0f0b"))
    text = report(stage, Siginfo(s.SIGILL, s.ILL_ILLOPN, addr=CODE), trap=VEC_UD)
    assert "0f 0b 01 90" in why(text)
    assert "ud2" in text


def test_general_protection_names_the_wild_register() -> None:
    stage = Stage()
    stage.fake.cpu.regs[RAX] = 0x4141_4141_4141_4141
    assert why(report(stage, Siginfo(s.SIGSEGV, s.SI_KERNEL), trap=VEC_GP)).endswith("no canonical address: rax")


def test_general_protection_without_a_wild_register() -> None:
    assert "not canonical" in why(report(Stage(), Siginfo(s.SIGSEGV, s.SI_KERNEL), trap=VEC_GP))
    assert "limit" in why(report(Stage(I386_PAE_LAYOUT), Siginfo(s.SIGSEGV, s.SI_KERNEL), trap=VEC_GP))


def test_breakpoint() -> None:
    assert "int3" in why(report(Stage(), Siginfo(s.SIGTRAP, s.SI_KERNEL), trap=VEC_BP))


def test_abort() -> None:
    text = report(Stage(), Siginfo(s.SIGABRT, s.SI_TKILL, pid=7, uid=1000))
    assert "abort(3)" in why(text)
    assert "by process 7 of user 1000" in text


def test_signal_from_outside_has_no_why() -> None:
    text = report(Stage(), Siginfo(s.SIGQUIT, s.SI_USER, pid=3))
    assert "(Quit)" in text
    assert "\n  why" not in text


def test_return_addresses_on_the_stack() -> None:
    """Only words behind a CALL in a function with a name; the page here has no names, so there is no row."""
    stage = Stage()
    map_fixed(stage.mm, BASE, 1)
    touch(stage.mm, BASE, WRITE)
    assert "\n  stack" not in segv(stage, 0, READ)


def test_task_that_is_not_in_the_cpu() -> None:
    stage = Stage()
    stage.fake.current = None
    stage.fake.task.context = b"".join((0x100 + index).to_bytes(8, "little") for index in range(17)) + b"rest"
    text = segv(stage, 0, READ)
    assert "rax 0000000000000100" in text
    assert "rflags" not in text
    stage.fake.task.context = b""
    assert "rax 0000000000000000" in segv(stage, 0, READ)


def test_task_without_memory() -> None:
    stage = Stage()
    stage.fake.task.has_mm = False
    assert segv(stage, 0, READ).count("\n") == 2


@pytest.mark.parametrize("ip", [0, 1, CODE, CODE + PAGE - 1, BASE, (1 << 47) - 1, 1 << 63, (1 << 64) - 1])
@pytest.mark.parametrize("sp", [0, 3, BASE + PAGE - 4, (1 << 64) - 8])
def test_no_state_is_too_broken(ip: int, sp: int) -> None:
    stage = Stage()
    map_fixed(stage.mm, BASE, 1, PROT_READ | PROT_EXEC)
    stage.fake.cpu.regs[RIP] = ip
    stage.fake.cpu.regs[RSP] = sp
    for address in (0, ip, sp, CODE, 1 << 62):
        assert segv(stage, address, READ).endswith("\n")


def test_unreadable_code_of_a_broken_file() -> None:
    stage = Stage()
    store = stage.code.cache.backing
    assert isinstance(store, Store)
    store.fail = True
    assert "can be read" in segv(stage, 0, READ)
