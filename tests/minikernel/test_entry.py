"""The way into the kernel and out: system calls, restarts, pending signals, faults that cannot be served."""

from collections.abc import Iterator
from typing import Final

import pytest

from emu.cpu import RAX, RBP, RIP, RSP
from emu.exits import CpuException, PageFault, SyscallInsn
from emu.x86 import PF_P, PF_U, PF_W, VEC_UD, VirtAddr
from minikernel.abi import signal as s
from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.errno import Errno
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import Sigaction, sigmask
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.entry import do_syscall, exc_other, exc_page_fault, exit_to_user_mode, finish_syscall
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.task.exec import do_execve
from minikernel.task.signal import force_signal, send_signal
from minikernel.task.task import NO_SYSCALL, Task, TaskState
from tests.minikernel.task.programs import BASE, Machine, program

HANDLER: Final = 0x40_1234
ABIS = pytest.mark.parametrize("abi", [X86_64, I386], ids=["x86-64", "i386"])
RESTARTS: Final = (
    # errno, what the way out does: without a handler, with one, with one that has SA_RESTART
    (Errno.ERESTARTSYS, "again", "EINTR", "again"),
    (Errno.ERESTARTNOINTR, "again", "again", "again"),
    (Errno.ERESTARTNOHAND, "again", "EINTR", "EINTR"),
    (Errno.ERESTART_RESTARTBLOCK, "restart_syscall", "EINTR", "EINTR"),
)


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("root"))
    for abi in (X86_64, I386):
        made.write(abi.name, program(abi))
    yield made
    made.close()


def begin(machine: Machine, abi: Abi) -> Task:
    do_execve(machine.task, f"/{abi.name}".encode(), [b"x"], [])
    return machine.task


def act(flags: int = 0) -> Sigaction:
    return Sigaction(HANDLER, s.SA_RESTORER | flags, 0x40_5678)


@ABIS
@pytest.mark.parametrize("case", range(3), ids=["no handler", "handler", "SA_RESTART"])
@pytest.mark.parametrize("row", RESTARTS, ids=lambda row: row[0].name)
def test_interrupted_calls_end_or_run_again(
    machine: Machine, abi: Abi, case: int, row: tuple[Errno, str, str, str]
) -> None:
    """arch_do_signal_or_restart and handle_signal, as a table."""
    errno = row[0]
    wanted = (row[1], row[2], row[3])[case]
    task = begin(machine, abi)
    regs = machine.kernel.cpu.regs
    number = NUMBERS[abi.name]["read"]
    behind = BASE[abi] + 0x1010
    regs[RIP], task.in_call, task.orig_ax = behind, abi, number
    finish_syscall(machine.kernel, task, -int(errno))
    assert task.sigpending
    if case:
        task.process.actions[s.SIGUSR1] = act(s.SA_RESTART if case == 2 else 0)
        send_signal(task, Siginfo(s.SIGUSR1), group=False)
    sp = regs[RSP]

    exit_to_user_mode(machine.kernel, task)

    if case:
        assert regs[RIP] == HANDLER
        at = {X86_64: (40 + 8, 8), I386: (8, 4)}[abi]  # struct sigcontext: in ucontext, and in the plain frame
        context = regs[RSP] + at[0]
        order = (13, 16) if abi is X86_64 else (11, 14)  # ax and ip
        ax, ip = (
            int.from_bytes(copy_from_user(task.mm, VirtAddr(context + index * abi.word), abi.word), "little")
            for index in order
        )
    else:
        ax, ip = regs[RAX], regs[RIP]
        assert regs[RSP] == sp
    expected = {
        "again": (number, behind - 2),
        "restart_syscall": (NUMBERS[abi.name]["restart_syscall"], behind - 2),
        "EINTR": (-int(Errno.EINTR) & abi.mask, behind),
    }[wanted]
    assert (ax, ip) == expected
    assert task.orig_ax == NO_SYSCALL
    assert not task.sigpending


@ABIS
def test_a_result_fills_the_register_of_the_abi(machine: Machine, abi: Abi) -> None:
    task = begin(machine, abi)
    task.in_call, task.orig_ax = abi, 1
    finish_syscall(machine.kernel, task, -int(Errno.EFAULT))

    assert machine.kernel.cpu.regs[RAX] == -int(Errno.EFAULT) & abi.mask
    assert task.orig_ax == NO_SYSCALL


@ABIS
def test_an_unknown_call_is_enosys(machine: Machine, abi: Abi) -> None:
    task = begin(machine, abi)
    regs = machine.kernel.cpu.regs
    regs[RAX] = 0xFFFF
    do_syscall(machine.kernel, task, SyscallInsn.SYSCALL if abi is X86_64 else SyscallInsn.INT80)

    assert regs[RAX] == -int(Errno.ENOSYS) & abi.mask


def test_only_the_low_half_of_rax_is_the_number(machine: Machine) -> None:
    task = begin(machine, X86_64)
    regs = machine.kernel.cpu.regs
    regs[RAX] = 0xDEAD_BEEF_0000_0000 | NUMBERS["x86-64"]["getpid"]
    do_syscall(machine.kernel, task, SyscallInsn.SYSCALL)

    assert regs[RAX] == task.pid


def test_sysenter_lands_in_the_vdso_with_its_sixth_argument(machine: Machine) -> None:
    task = begin(machine, I386)
    regs = machine.kernel.cpu.regs
    stack = VirtAddr(regs[RSP] - 64)
    copy_to_user(task.mm, stack, b"\x78\x56\x34\x12")
    regs[RAX], regs[RBP], regs[RSP] = NUMBERS["i386"]["getpid"], stack, 0
    do_syscall(machine.kernel, task, SyscallInsn.SYSENTER)

    assert (regs[RAX], regs[RBP], regs[RSP]) == (task.pid, 0x1234_5678, stack)
    landing = machine.kernel.vdso_symbol(task, "__kernel_vsyscall") + 9
    assert regs[RIP] == landing == machine.kernel.sysenter_return(task)


def test_sysenter_without_a_stack_comes_back_with_efault(machine: Machine) -> None:
    """The landing's POP faults then (do_fast_syscall_32)."""
    task = begin(machine, I386)
    regs = machine.kernel.cpu.regs
    regs[RAX], regs[RBP] = NUMBERS["i386"]["getpid"], 0x1000
    do_syscall(machine.kernel, task, SyscallInsn.SYSENTER)

    assert regs[RAX] == -int(Errno.EFAULT) & 0xFFFF_FFFF
    assert (regs[RSP], regs[RIP]) == (0x1000, machine.kernel.sysenter_return(task))
    assert not task.pending.queue


# -- signals on the way out


def test_two_signals_make_two_frames_the_later_on_top(machine: Machine) -> None:
    task = begin(machine, X86_64)
    for sig in (s.SIGUSR1, s.SIGUSR2):
        task.process.actions[sig] = act()
        send_signal(task, Siginfo(sig), group=False)
    regs = machine.kernel.cpu.regs

    exit_to_user_mode(machine.kernel, task)

    assert regs[7] == s.SIGUSR2
    below = int.from_bytes(copy_from_user(task.mm, VirtAddr(regs[RSP] + 48 + 16 * 8), 8), "little")
    assert below == HANDLER, "which returns into the first handler's beginning"
    assert task.blocked == sigmask(s.SIGUSR1, s.SIGUSR2)


def test_a_mask_put_back_lets_pending_signals_through(machine: Machine) -> None:
    """The end of a sigsuspend that no handler answered: what it blocked comes now."""
    task = begin(machine, X86_64)
    task.process.actions[s.SIGUSR2] = act()
    task.saved_sigmask, task.blocked = 0, sigmask(s.SIGUSR2)
    send_signal(task, Siginfo(s.SIGUSR2), group=False)

    exit_to_user_mode(machine.kernel, task)

    assert machine.kernel.cpu.regs[RIP] == HANDLER
    assert task.saved_sigmask is None


def test_sa_resethand_and_sa_nodefer(machine: Machine) -> None:
    task = begin(machine, X86_64)
    task.process.actions[s.SIGUSR1] = act(s.SA_RESETHAND | s.SA_NODEFER)
    send_signal(task, Siginfo(s.SIGUSR1), group=False)

    exit_to_user_mode(machine.kernel, task)

    assert task.process.actions[s.SIGUSR1].handler == s.SIG_DFL
    assert task.blocked == 0


def test_synchronous_signals_come_before_others(machine: Machine) -> None:
    task = begin(machine, X86_64)
    for sig in (s.SIGHUP, s.SIGSEGV):
        task.process.actions[sig] = Sigaction(0x40_0000 + sig, s.SA_RESTORER, 0x40_5678)
        send_signal(task, Siginfo(sig), group=False)

    exit_to_user_mode(machine.kernel, task)

    below = int.from_bytes(copy_from_user(task.mm, VirtAddr(machine.kernel.cpu.regs[RSP] + 48 + 16 * 8), 8), "little")
    assert (machine.kernel.cpu.regs[RIP], below) == (0x40_0000 + s.SIGHUP, 0x40_0000 + s.SIGSEGV)


@pytest.mark.parametrize("how", ["blocked", "ignored", "blocked and pending"])
def test_a_fault_that_is_blocked_or_ignored_kills(machine: Machine, how: str) -> None:
    """Not even a pending signal of the same number keeps it from ending the task."""
    task = begin(machine, X86_64)
    task.process.actions[s.SIGSEGV] = Sigaction(s.SIG_IGN) if how == "ignored" else act()
    if how != "ignored":
        task.blocked = sigmask(s.SIGSEGV)
    if how == "blocked and pending":
        send_signal(task, Siginfo(s.SIGSEGV, s.SI_TKILL), group=False)
        assert not task.sigpending

    force_signal(task, Siginfo(s.SIGSEGV, s.SEGV_MAPERR, addr=0x1000))
    assert task.sigpending
    exit_to_user_mode(machine.kernel, task)

    assert task.state in {TaskState.ZOMBIE, TaskState.DEAD}
    assert machine.kernel.exit_code is not None
    assert machine.kernel.exit_code & 0x7F == s.SIGSEGV


# -- exceptions


@pytest.mark.parametrize(
    ("address", "error_code", "told"),
    [
        (0x1000, PF_U, PF_U),
        (0x1000, PF_U | PF_W, PF_U | PF_W),
        (0xFFFF_8880_0000_0000, PF_U, PF_U | PF_P),  # of the kernel's half nothing leaks
        (0xFFFF_FFFF_FFFF_F000, PF_U | PF_P, PF_U | PF_P),
    ],
)
def test_a_fault_that_cannot_be_served_is_told_as_linux_tells_it(
    machine: Machine, address: int, error_code: int, told: int
) -> None:
    task = begin(machine, X86_64)
    exc_page_fault(machine.kernel, task, PageFault(VirtAddr(address), error_code))

    assert (task.trap_nr, task.cr2, task.error_code) == (14, address, told)
    info = task.pending.queue[0]
    assert (info.signo, info.code, info.addr) == (s.SIGSEGV, s.SEGV_MAPERR, address)


def test_a_write_to_code_is_an_access_error(machine: Machine) -> None:
    task = begin(machine, X86_64)
    exc_page_fault(machine.kernel, task, PageFault(VirtAddr(BASE[X86_64] + 0x1000), PF_U | PF_W))

    info = task.pending.queue[0]
    assert (info.signo, info.code) == (s.SIGSEGV, s.SEGV_ACCERR)


def test_a_page_that_can_be_had_is_silent(machine: Machine) -> None:
    task = begin(machine, X86_64)
    exc_page_fault(machine.kernel, task, PageFault(VirtAddr(BASE[X86_64] + 0x4000), PF_U | PF_W))

    assert not task.pending.queue
    assert not task.sigpending


def test_an_invalid_instruction_is_sigill_at_it(machine: Machine) -> None:
    task = begin(machine, X86_64)
    exc_other(machine.kernel, task, CpuException(VEC_UD, 0))

    info = task.pending.queue[0]
    assert (info.signo, info.code, info.addr) == (s.SIGILL, s.ILL_ILLOPN, machine.kernel.cpu.regs[RIP])
