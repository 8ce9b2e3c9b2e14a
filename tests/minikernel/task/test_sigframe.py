"""Signal frames: laid out as the C library's headers say, and a round trip that loses nothing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.cpu import RAX, RBX, RCX, RDI, RDX, RIP, RSI, RSP
from emu.x86 import FLAG_CF, FLAG_DF, FLAG_IF, VirtAddr
from guest.toolchain import compiler_for
from minikernel.abi import signal as s
from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import Sigaction, SignalStack, sigmask
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.task.exec import do_execve
from minikernel.task.sigframe import rt_sigreturn, set_signal_stack, setup_frame, sigreturn
from minikernel.task.task import Task
from tests.minikernel.task.programs import BASE, Machine, program

ABIS = pytest.mark.parametrize("abi", [X86_64, I386], ids=["x86-64", "i386"])
HANDLER: Final = 0x40_1234
RESTORER: Final = 0x40_5678
_FIELDS: Final = {
    "uc_flags": "ucontext_t, uc_flags",
    "uc_stack": "ucontext_t, uc_stack",
    "uc_mcontext": "ucontext_t, uc_mcontext",
    "uc_sigmask": "ucontext_t, uc_sigmask",
    "ip": "ucontext_t, uc_mcontext.gregs[{IP}]",
    "sp": "ucontext_t, uc_mcontext.gregs[{SP}]",
    "ax": "ucontext_t, uc_mcontext.gregs[{AX}]",
    "di": "ucontext_t, uc_mcontext.gregs[{DI}]",
    "flags": "ucontext_t, uc_mcontext.gregs[REG_EFL]",
    "err": "ucontext_t, uc_mcontext.gregs[REG_ERR]",
    "trapno": "ucontext_t, uc_mcontext.gregs[REG_TRAPNO]",
    "cr2": "ucontext_t, uc_mcontext.{CR2}",
    "fpregs": "ucontext_t, uc_mcontext.fpregs",
    "si_code": "siginfo_t, si_code",
    "si_addr": "siginfo_t, si_addr",
    "si_pid": "siginfo_t, si_pid",
    "si_value": "siginfo_t, si_value",
    "si_status": "siginfo_t, si_status",
}
_NAMES: Final = {
    X86_64: {"IP": "REG_RIP", "SP": "REG_RSP", "AX": "REG_RAX", "DI": "REG_RDI", "CR2": "gregs[REG_CR2]"},
    I386: {"IP": "REG_EIP", "SP": "REG_ESP", "AX": "REG_EAX", "DI": "REG_EDI", "CR2": "cr2"},
}


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("root"))
    for abi in (X86_64, I386):
        made.write(abi.name, program(abi, bss=64 << 10))
    yield made
    made.close()


@pytest.fixture(scope="module")
def offsets(tmp_path_factory: pytest.TempPathFactory) -> dict[Abi, dict[str, int]]:
    """What offsetof says on the host, for both ABIs."""
    folder = tmp_path_factory.mktemp("offsets")
    result = {}
    for abi in (X86_64, I386):
        lines = [
            f'  printf("{name} %d\\n", (int)offsetof({where.format(**_NAMES[abi])}));'
            for name, where in _FIELDS.items()
        ]
        source = folder / f"{abi.name}.c"
        source.write_text(
            "#define _GNU_SOURCE\n#include <signal.h>\n#include <stddef.h>\n#include <stdio.h>\n#include <ucontext.h>\n"
            "int main(void) {\n" + "\n".join(lines) + "\n  return 0;\n}\n"
        )
        program_path = folder / abi.name
        subprocess.run([*compiler_for(abi.name).command, "-static", "-o", program_path, source], check=True)
        text = subprocess.run([program_path], check=True, capture_output=True, text=True).stdout
        result[abi] = {name: int(value) for name, value in (line.split() for line in text.splitlines())}
    return result


def begin(machine: Machine, abi: Abi) -> Task:
    """A fresh program of *abi*, with values in its registers."""
    do_execve(machine.task, f"/{abi.name}".encode(), [b"x"], [])
    cpu = machine.kernel.cpu
    for index in range(16 if abi is X86_64 else 8):
        if index != RSP:
            cpu.regs[index] = 0x1111_1111 * (index + 1) & abi.mask
    cpu.regs[RIP] = 0x40_4242
    task = machine.task
    task.blocked = 0
    task.sigstack = SignalStack()
    task.in_call = abi
    task.orig_ax = -1
    task.trap_nr, task.error_code, task.cr2 = 14, 6, 0x7777_1000
    return task


def act(flags: int = 0, mask: int = 0) -> Sigaction:
    return Sigaction(HANDLER, s.SA_RESTORER | flags, RESTORER, mask)


def read_word(task: Task, address: int) -> int:
    return int.from_bytes(copy_from_user(task.mm, VirtAddr(address), task.abi.word), "little")


@ABIS
def test_fields_lie_where_the_headers_have_them(machine: Machine, offsets: dict[Abi, dict[str, int]], abi: Abi) -> None:
    task, at = begin(machine, abi), offsets[abi]
    task.blocked = sigmask(s.SIGUSR2)
    regs = machine.kernel.cpu.regs
    before = list(regs)
    machine.kernel.cpu.rflags |= FLAG_CF

    setup_frame(task, Siginfo(s.SIGSEGV, s.SEGV_ACCERR, addr=0x7777_1234), act(s.SA_SIGINFO))

    info, uc = (regs[RSI], regs[RDX]) if abi is X86_64 else (read_word(task, regs[RSP] + n * 4) for n in (2, 3))
    assert (regs[RIP], read_word(task, regs[RSP])) == (HANDLER, RESTORER)
    assert read_word(task, uc + at["ip"]) == 0x40_4242
    assert read_word(task, uc + at["sp"]) == before[RSP]
    assert read_word(task, uc + at["ax"]) == before[RAX]
    assert read_word(task, uc + at["di"]) == before[RDI]
    assert read_word(task, uc + at["flags"]) == 0x203
    assert (read_word(task, uc + at["trapno"]), read_word(task, uc + at["err"])) == (14, 6)
    assert read_word(task, uc + at["cr2"]) == 0x7777_1000
    assert copy_from_user(task.mm, VirtAddr(uc + at["uc_sigmask"]), 8) == sigmask(s.SIGUSR2).to_bytes(8, "little")
    assert int.from_bytes(copy_from_user(task.mm, VirtAddr(info + at["si_code"]), 4), "little") == s.SEGV_ACCERR
    assert read_word(task, info + at["si_addr"]) == 0x7777_1234
    fpregs = read_word(task, uc + at["fpregs"])
    image = machine.kernel.cpu.fxsave()
    assert copy_from_user(task.mm, VirtAddr(fpregs + (112 if abi is I386 else 0)), 512) == image
    assert copy_from_user(task.mm, VirtAddr(fpregs), 2) == b"\x7f\x03"


@ABIS
def test_other_kinds_of_siginfo_lie_where_the_headers_have_them(offsets: dict[Abi, dict[str, int]], abi: Abi) -> None:
    at = offsets[abi]
    queued = Siginfo(s.SIGUSR1, s.SI_QUEUE, pid=17, uid=3, value=0x1234_5678).pack(abi)
    child = Siginfo(s.SIGCHLD, s.CLD_EXITED, pid=18, status=42).pack(abi)

    assert int.from_bytes(queued[at["si_pid"] :][:4], "little") == 17
    assert int.from_bytes(queued[at["si_value"] :][: abi.word], "little") == 0x1234_5678
    assert int.from_bytes(child[at["si_status"] :][:4], "little") == 42


@ABIS
def test_the_stack_is_aligned_as_at_a_function_entry(machine: Machine, abi: Abi) -> None:
    """And the red zone of x86-64 is not touched."""
    for offset in range(0, 64, abi.word):
        task = begin(machine, abi)
        regs = machine.kernel.cpu.regs
        regs[RSP] -= offset
        zone = VirtAddr(regs[RSP] - 128)
        copy_to_user(task.mm, zone, b"\xaa" * 128)

        setup_frame(task, Siginfo(s.SIGUSR1), act())

        assert (regs[RSP] + abi.word) % 16 == 0
        if abi is X86_64:
            assert copy_from_user(task.mm, zone, 128) == b"\xaa" * 128


@ABIS
@settings(max_examples=25)
@given(
    values=st.lists(st.integers(0, (1 << 64) - 1), min_size=16, max_size=16),
    mask=st.integers(0, (1 << 64) - 1),
    flags=st.integers(0, 0xFFFF_FFFF),
    xmm=st.binary(min_size=128, max_size=128),
    info=st.booleans(),
)
def test_a_round_trip_restores_everything(
    machine: Machine, abi: Abi, values: list[int], mask: int, flags: int, xmm: bytes, info: bool
) -> None:
    """sigreturn with the frame as it was made; also with the floating point state that a handler left."""
    task = begin(machine, abi)
    cpu = machine.kernel.cpu
    regs = cpu.regs
    for index, value in enumerate(values[: 16 if abi is X86_64 else 8]):
        if index != RSP:
            regs[index] = value & abi.mask
    task.blocked = mask & ~s.UNMASKABLE
    cpu.rflags = flags & 0xCD5 | FLAG_IF | 2  # arithmetic flags and DF
    image = cpu.fxsave()
    image = image[:160] + xmm + image[288:]
    cpu.fxrstor(image)
    before = list(regs), cpu.rflags, cpu.fxsave(), task.blocked
    rt = info or abi is X86_64

    setup_frame(task, Siginfo(s.SIGUSR1), act(s.SA_SIGINFO if rt else 0, sigmask(s.SIGALRM)))
    assert task.blocked == (before[3] | sigmask(s.SIGALRM, s.SIGUSR1)) & ~s.UNMASKABLE
    assert not cpu.rflags & FLAG_DF
    for index in (RBX, RCX, RDX):
        regs[index] = 0x5A5A
    cpu.fxrstor(machine.kernel.user_mode.init_fpstate)
    regs[RSP] += abi.word  # the handler's RET
    if not rt:
        regs[RSP] += 4  # __kernel_sigreturn's POP EAX
    result = rt_sigreturn(task) if rt else sigreturn(task)

    assert result == before[0][RAX]
    assert (list(regs), cpu.rflags, cpu.fxsave(), task.blocked) == before


@ABIS
def test_what_a_handler_writes_into_its_frame_counts(
    machine: Machine, offsets: dict[Abi, dict[str, int]], abi: Abi
) -> None:
    task, at = begin(machine, abi), offsets[abi]
    cpu = machine.kernel.cpu
    regs = cpu.regs
    setup_frame(task, Siginfo(s.SIGUSR1), act(s.SA_SIGINFO))
    uc = regs[RDX] if abi is X86_64 else read_word(task, regs[RSP] + 12)
    fpregs = read_word(task, uc + at["fpregs"])
    copy_to_user(task.mm, VirtAddr(uc + at["ip"]), abi.pack_word(0x40_9999))
    copy_to_user(task.mm, VirtAddr(uc + at["flags"]), abi.pack_word(0xFFFF_FFFF))
    copy_to_user(task.mm, VirtAddr(uc + at["uc_sigmask"]), b"\xff" * 8)
    copy_to_user(task.mm, VirtAddr(fpregs), b"\x7f\x0f")  # the control word; in FSAVE's part on i386
    regs[RSP] += abi.word

    rt_sigreturn(task)

    assert regs[RIP] == 0x40_9999
    assert task.blocked == (1 << 64) - 1 & ~s.UNMASKABLE
    assert cpu.rflags & ~FLAG_IF & 0x3200 == 0, "IOPL is not a program's to set"
    assert cpu.fxsave()[:2] == b"\x7f\x0f"


@pytest.mark.parametrize("selector", [0x1234, 0xFFFF, 0x18, 0x60, 0x23])
def test_segments_that_a_frame_invents_are_empty(machine: Machine, selector: int) -> None:
    """Behind the table, the kernel's, a free TLS entry: 0.  Code is no secret: as data segment it can be read.

    A 64-bit engine looks at FS and GS only: the others have no base in 64-bit code.
    """
    task = begin(machine, I386)
    regs = machine.kernel.cpu.regs
    setup_frame(task, Siginfo(s.SIGUSR1), act(s.SA_SIGINFO))
    sigcontext = read_word(task, regs[RSP] + 12) + 20
    copy_to_user(task.mm, VirtAddr(sigcontext), selector.to_bytes(4, "little") * 4)
    regs[RSP] += 4

    rt_sigreturn(task)

    loaded = {machine.kernel.cpu.segment(name) for name in ("gs", "fs")}
    assert loaded == ({0x23} if selector == 0x23 else {0})
    assert not task.sigpending


@ABIS
def test_a_code_segment_that_a_frame_invents_is_a_segmentation_fault(
    machine: Machine, offsets: dict[Abi, dict[str, int]], abi: Abi
) -> None:
    task = begin(machine, abi)
    regs = machine.kernel.cpu.regs
    setup_frame(task, Siginfo(s.SIGUSR1), act(s.SA_SIGINFO))
    uc = regs[RDX] if abi is X86_64 else read_word(task, regs[RSP] + 12)
    copy_to_user(task.mm, VirtAddr(uc + offsets[abi]["flags"] + (8 if abi is X86_64 else -4)), b"\x13\x00")
    regs[RSP] += abi.word

    rt_sigreturn(task)

    assert [info.signo for info in task.pending.queue] == [s.SIGSEGV]
    task.pending.queue.clear()
    task.pending.mask = 0


@ABIS
def test_a_frame_that_cannot_be_read_is_a_segmentation_fault(machine: Machine, abi: Abi) -> None:
    task = begin(machine, abi)
    task.process.actions[s.SIGSEGV] = act()
    machine.kernel.cpu.regs[RSP] = 0x1000

    rt_sigreturn(task)

    assert task.sigpending
    assert [info.signo for info in task.pending.queue] == [s.SIGSEGV]
    task.pending.queue.clear()
    task.pending.mask = 0


@ABIS
def test_a_frame_that_cannot_be_written_is_a_segmentation_fault_of_default_action(machine: Machine, abi: Abi) -> None:
    """For SIGSEGV itself; for other signals its handler may have a stack of its own."""
    for sig, handled in ((s.SIGSEGV, False), (s.SIGUSR1, True)):
        task = begin(machine, abi)
        regs = machine.kernel.cpu.regs
        regs[RSP] = 0x2000
        task.process.actions[s.SIGSEGV] = act(s.SA_ONSTACK)
        before = list(regs)

        setup_frame(task, Siginfo(sig), act())

        assert list(regs) == before
        assert [info.signo for info in task.pending.queue] == [s.SIGSEGV]
        assert (task.process.actions[s.SIGSEGV].handler == HANDLER) == handled
        task.pending.queue.clear()
        task.pending.mask = 0
        task.process.actions[s.SIGSEGV] = Sigaction()


# -- the alternate stack


@ABIS
def test_a_handler_runs_on_the_alternate_stack_once(machine: Machine, abi: Abi) -> None:
    """A second signal while it runs goes below the first frame, not to the top again."""
    task = begin(machine, abi)
    regs = machine.kernel.cpu.regs
    low = BASE[abi] + 0x4000
    task.sigstack = SignalStack(low, 0, 0x4000)

    setup_frame(task, Siginfo(s.SIGUSR1), act(s.SA_ONSTACK | s.SA_SIGINFO))
    first = regs[RSP]
    setup_frame(task, Siginfo(s.SIGUSR2), act(s.SA_ONSTACK | s.SA_SIGINFO))

    assert low < regs[RSP] < first <= low + 0x4000
    assert first > low + 0x4000 - 2048
    with pytest.raises(LinuxError) as caught:
        set_signal_stack(task, SignalStack(low, 0, 0x8000), regs[RSP])
    assert caught.value.errno is Errno.EPERM


@ABIS
def test_without_sa_onstack_the_alternate_stack_is_not_used(machine: Machine, abi: Abi) -> None:
    task = begin(machine, abi)
    regs = machine.kernel.cpu.regs
    task.sigstack = SignalStack(BASE[abi] + 0x4000, 0, 0x4000)
    sp = regs[RSP]

    setup_frame(task, Siginfo(s.SIGUSR1), act())

    assert sp - 2048 < regs[RSP] < sp


@ABIS
def test_a_frame_is_refused_exactly_when_it_would_leave_the_alternate_stack(machine: Machine, abi: Abi) -> None:
    """Found by trying: one byte less than the smallest stack that works is a SIGSEGV."""
    top = BASE[abi] + 0x8000
    fits = {}
    for size in range(512, 2048, 8):
        task = begin(machine, abi)
        regs = machine.kernel.cpu.regs
        task.sigstack = SignalStack(top - size, 0, size)
        setup_frame(task, Siginfo(s.SIGUSR1), act(s.SA_ONSTACK | s.SA_SIGINFO))
        fits[size] = regs[RIP] == HANDLER
        if fits[size]:
            used = top - regs[RSP]
            assert used < size, "sp lies above the stack's first byte"
        task.pending.queue.clear()
        task.pending.mask = 0
    smallest = min(size for size, fit in fits.items() if fit)
    assert all(fits[size] for size in fits if size >= smallest)
    assert smallest - used <= 8


@ABIS
def test_autodisarm_forgets_the_stack_while_the_handler_runs(machine: Machine, abi: Abi) -> None:
    """sigreturn brings it back."""
    task = begin(machine, abi)
    regs = machine.kernel.cpu.regs
    stack = SignalStack(BASE[abi] + 0x4000, s.SS_AUTODISARM, 0x4000)
    task.sigstack = stack

    setup_frame(task, Siginfo(s.SIGUSR1), act(s.SA_ONSTACK | s.SA_SIGINFO))
    assert task.sigstack == SignalStack()
    regs[RSP] += abi.word
    rt_sigreturn(task)

    assert task.sigstack == stack


@pytest.mark.parametrize(
    ("stack", "errno"),
    [
        (SignalStack(0x1000, 4, 0x4000), Errno.EINVAL),
        (SignalStack(0x1000, 0, 2047), Errno.ENOMEM),
        (SignalStack(0x1000, s.SS_ONSTACK | s.SS_DISABLE, 0x4000), Errno.EINVAL),
    ],
)
def test_bad_alternate_stacks_are_refused(machine: Machine, stack: SignalStack, errno: Errno) -> None:
    task = begin(machine, X86_64)

    with pytest.raises(LinuxError) as caught:
        set_signal_stack(task, stack, 0x50_0000)

    assert caught.value.errno is errno
    assert task.sigstack == SignalStack()


@ABIS
def test_a_mask_to_be_put_back_goes_into_the_frame(machine: Machine, abi: Abi) -> None:
    """sigsuspend's handler runs with its mask; sigreturn brings back the one before."""
    task = begin(machine, abi)
    task.saved_sigmask, task.blocked = sigmask(s.SIGHUP), sigmask(s.SIGALRM)

    setup_frame(task, Siginfo(s.SIGUSR1), act(s.SA_SIGINFO | s.SA_NODEFER))
    assert task.blocked == sigmask(s.SIGALRM)
    assert task.saved_sigmask is None
    machine.kernel.cpu.regs[RSP] += abi.word
    rt_sigreturn(task)

    assert task.blocked == sigmask(s.SIGHUP)


def test_a_64_bit_handler_needs_a_restorer(machine: Machine) -> None:
    task = begin(machine, X86_64)

    setup_frame(task, Siginfo(s.SIGUSR1), Sigaction(HANDLER))

    assert [info.signo for info in task.pending.queue] == [s.SIGSEGV]
    task.pending.queue.clear()
    task.pending.mask = 0


def test_a_32_bit_handler_without_a_restorer_returns_through_the_vdso(machine: Machine) -> None:
    task = begin(machine, I386)
    for flags, name in ((0, "__kernel_sigreturn"), (s.SA_SIGINFO, "__kernel_rt_sigreturn")):
        setup_frame(task, Siginfo(s.SIGUSR1), Sigaction(HANDLER, flags))
        assert read_word(task, machine.kernel.cpu.regs[RSP]) == machine.kernel.vdso_symbol(task, name)


def test_the_source_of_the_offsets_is_the_hosts_compiler(offsets: dict[Abi, dict[str, int]]) -> None:
    """Sanity: the two ABIs differ, and the well-known figures are there."""
    assert offsets[X86_64]["uc_mcontext"] == 40
    assert offsets[I386]["uc_mcontext"] == 20
    assert Path("/proc/self").exists()
