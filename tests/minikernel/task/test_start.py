"""What a new program finds: the stack with its tables, registers, the auxiliary vector in the host's order."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.cpu import RIP, RSP
from emu.x86 import VirtAddr
from minikernel.abi import elf as e
from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import RLIMIT_STACK
from minikernel.mm.uaccess import copy_from_user, strncpy_from_user
from minikernel.mm.vma import VM_EXEC
from minikernel.task.exec import do_execve
from tests.minikernel.task.programs import BASE, Machine, program, words

ABIS = pytest.mark.parametrize("abi", [X86_64, I386], ids=["x86-64", "i386"])


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("root"))
    for abi in (X86_64, I386):
        for dyn in (False, True):
            made.write(f"{abi.name}-{dyn}", program(abi, dyn=dyn))
    yield made
    made.validate()
    made.close()


class Start:
    """The stack of a program that has just been loaded, taken apart as its _start would."""

    def __init__(self, machine: Machine, abi: Abi) -> None:
        self.mm = machine.task.mm
        self.sp = sp = machine.kernel.cpu.regs[RSP]
        stack = self.mm.vmas.find(VirtAddr(sp))
        assert stack is not None
        size = stack.end - sp
        self.words = words(copy_from_user(self.mm, VirtAddr(sp), size - size % abi.word), abi)
        argc = self.words[0]
        self.argv = [self.string(at) for at in self.words[1 : 1 + argc]]
        assert self.words[1 + argc] == 0
        at = 2 + argc
        self.envp = []
        while self.words[at]:
            self.envp.append(self.string(self.words[at]))
            at += 1
        at += 1
        self.auxv_address = sp + at * abi.word
        self.auxv: list[tuple[int, int]] = []
        while not self.auxv or self.auxv[-1][0]:
            self.auxv.append((self.words[at], self.words[at + 1]))
            at += 2

    def string(self, address: int) -> bytes:
        return strncpy_from_user(self.mm, VirtAddr(address), 1 << 17)


def start(
    machine: Machine, abi: Abi, *, dyn: bool = False, argv: tuple[bytes, ...] = (b"a",), env: tuple[bytes, ...] = ()
) -> Start:
    do_execve(machine.task, f"/{abi.name}-{dyn}".encode(), list(argv), list(env))
    return Start(machine, abi)


@ABIS
@settings(max_examples=40)
@given(
    argv=st.lists(st.binary(max_size=200).map(lambda text: text.replace(b"\0", b"")), min_size=1, max_size=20),
    env=st.lists(st.binary(max_size=3000).map(lambda text: text.replace(b"\0", b"")), max_size=20),
)
def test_arguments_and_environment_arrive(machine: Machine, abi: Abi, argv: list[bytes], env: list[bytes]) -> None:
    got = start(machine, abi, argv=tuple(argv), env=tuple(env))

    assert (got.argv, got.envp) == (argv, env)
    assert got.sp % 16 == 0
    mm = machine.task.mm
    strings = b"".join(text + b"\0" for text in argv)
    assert copy_from_user(mm, mm.arg_start, mm.arg_end - mm.arg_start) == strings
    assert copy_from_user(mm, mm.env_start, mm.env_end - mm.env_start) == b"".join(text + b"\0" for text in env)
    assert mm.start_stack == got.sp


@ABIS
def test_the_upper_end_of_the_stack_is_linuxs(machine: Machine, abi: Abi) -> None:
    """A null word, the file's name, environment, arguments, platform, random bytes; downwards."""
    got = start(machine, abi, argv=(b"one", b"two"), env=(b"A=1",))
    name = f"/{abi.name}-False".encode()
    top = machine.task.mm.layout.stack_top
    tail = b"one\0two\0A=1\0" + name + b"\0" + bytes(abi.word)

    assert copy_from_user(machine.task.mm, VirtAddr(top - len(tail)), len(tail)) == tail
    auxv = dict(got.auxv)
    assert got.string(auxv[e.AT_EXECFN]) == name
    assert got.string(auxv[e.AT_PLATFORM]) == abi.platform
    strings = top - len(tail) & ~15
    assert auxv[e.AT_PLATFORM] == strings - len(abi.platform) - 1
    assert auxv[e.AT_RANDOM] == auxv[e.AT_PLATFORM] - 16


@ABIS
@pytest.mark.parametrize("dyn", [False, True])
def test_the_auxiliary_vector_describes_the_program(machine: Machine, abi: Abi, dyn: bool) -> None:
    got = start(machine, abi, dyn=dyn)
    auxv, mm, cred = dict(got.auxv), machine.task.mm, machine.task.cred
    base = mm.start_code - 0x1000

    assert machine.kernel.cpu.regs[RIP] == auxv[e.AT_ENTRY] == base + 0x1000
    assert dyn or base == BASE[abi]
    assert auxv[e.AT_PHDR] == base + e.ehdr_size(abi)
    assert (auxv[e.AT_PHENT], auxv[e.AT_PHNUM]) == (e.phdr_size(abi), 4)
    assert copy_from_user(mm, VirtAddr(auxv[e.AT_PHDR]), 4) == b"\x01\0\0\0"
    assert (auxv[e.AT_PAGESZ], auxv[e.AT_CLKTCK], auxv[e.AT_FLAGS], auxv[e.AT_BASE]) == (4096, 100, 0, 0)
    assert [auxv[key] for key in (e.AT_UID, e.AT_EUID, e.AT_GID, e.AT_EGID)] == [
        cred.uid,
        cred.euid,
        cred.gid,
        cred.egid,
    ]
    assert auxv[e.AT_SECURE] == 0
    assert auxv[e.AT_SYSINFO_EHDR] == mm.vdso
    assert copy_from_user(mm, VirtAddr(mm.vdso), 4) == b"\x7fELF"
    assert (e.AT_SYSINFO in auxv) == (abi is I386)
    size = len(got.auxv) * 2 * abi.word
    assert copy_from_user(mm, VirtAddr(got.auxv_address), size) == mm.saved_auxv


@ABIS
def test_the_auxiliary_vector_has_the_hosts_order(machine: Machine, abi: Abi) -> None:
    """The host's may have entries that came with later kernels; those two have are in the same order."""
    ours = [key for key, _ in start(machine, abi).auxv if key != e.AT_SYSINFO]
    host = [key for key, _ in struct.iter_unpack("<QQ", Path("/proc/self/auxv").read_bytes())]

    assert ours == [key for key in host if key in ours]
    assert set(host) - set(ours) <= {e.AT_RSEQ_FEATURE_SIZE, e.AT_RSEQ_ALIGN}


@ABIS
def test_zeroes_follow_the_data_and_the_heap_follows_them(machine: Machine, abi: Abi) -> None:
    start(machine, abi)
    mm = machine.task.mm
    data = VirtAddr(BASE[abi] + 0x2000)

    assert copy_from_user(mm, data, 0x3000) == b"data".ljust(0x3000, b"\0")
    assert mm.brk == mm.start_brk == BASE[abi] + 0x5000
    assert (mm.start_data, mm.end_data) == (data, data + 4)
    with pytest.raises(LinuxError):
        copy_from_user(mm, VirtAddr(data + 0x3000), 1)


@ABIS
def test_registers_are_those_of_a_new_program(machine: Machine, abi: Abi) -> None:
    cpu = machine.kernel.cpu
    cpu.regs[3] = 0x1234
    start(machine, abi)

    assert all(cpu.regs[index] == 0 for index in range(16) if index != RSP)
    assert cpu.rflags == 0x202
    assert cpu.code_bits == abi.word * 8
    selectors = [cpu.segment(name) for name in ("cs", "ss", "ds", "es", "fs", "gs")]
    assert selectors == ([0x33, 0x2B, 0, 0, 0, 0] if abi is X86_64 else [0x23, 0x2B, 0x2B, 0x2B, 0, 0])
    assert cpu.fxsave() == machine.kernel.user_mode.init_fpstate
    assert (cpu.fs_base, cpu.gs_base) == (0, 0)


@pytest.mark.parametrize("limit", [64 << 10, 8 << 20, 64 << 20])
def test_arguments_that_leave_no_room_are_e2big(machine: Machine, limit: int) -> None:
    """A quarter of the stack's limit, at least 128 KiB, at most 6 MiB (bprm_stack_limits)."""
    rlimit = machine.task.rlimits[RLIMIT_STACK]
    before, rlimit[0] = rlimit[0], limit
    allowed = max(min(6 << 20, limit // 4), 128 << 10)
    try:
        count = allowed // 1000
        with pytest.raises(LinuxError) as caught:
            do_execve(machine.task, b"/x86-64-False", [b"x" * 999] * (count + 1), [])
        assert caught.value.errno is Errno.E2BIG
        if limit > 64 << 10:
            do_execve(machine.task, b"/x86-64-False", [b"x" * 900] * (count - 10), [])
    finally:
        rlimit[0] = before


def test_one_argument_may_have_128_kib_less_one(machine: Machine) -> None:
    do_execve(machine.task, b"/x86-64-False", [b"x" * (128 * 1024 - 1)], [])
    with pytest.raises(LinuxError) as caught:
        do_execve(machine.task, b"/x86-64-False", [b"x" * (128 * 1024)], [])
    assert caught.value.errno is Errno.E2BIG


def test_an_empty_argv_gets_an_empty_name(machine: Machine) -> None:
    do_execve(machine.task, b"/x86-64-False", [], [])

    assert Start(machine, X86_64).argv == [b""]


@pytest.mark.parametrize(
    ("flags", "abi", "executable"), [(6, X86_64, False), (7, X86_64, True), (6, I386, False), (7, I386, True)]
)
def test_the_stack_is_executable_when_asked_for(machine: Machine, flags: int, abi: Abi, executable: bool) -> None:
    image = bytearray(program(abi))
    at = e.ehdr_size(abi) + 3 * e.phdr_size(abi) + (4 if abi is X86_64 else 24)
    image[at] = flags
    do_execve(machine.task, machine.write(f"stack{flags}{abi.name}", bytes(image)), [b"x"], [])

    stack = machine.task.mm.vmas.find(machine.kernel.cpu.regs[RSP])
    assert stack is not None
    assert bool(stack.flags & VM_EXEC) == executable


def test_scripts_start_their_interpreter(machine: Machine) -> None:
    machine.write("script", b"#! /x86-64-False  one two \nrest\n")
    do_execve(machine.task, b"/script", [b"zero", b"arg"], [])

    assert Start(machine, X86_64).argv == [b"/x86-64-False", b"one two", b"/script", b"arg"]
    assert machine.task.comm == b"script"
    assert Start(machine, X86_64).string(dict(Start(machine, X86_64).auxv)[e.AT_EXECFN]) == b"/script"


def test_scripts_of_scripts_end(machine: Machine) -> None:
    machine.write("s0", b"#!/x86-64-False\n")
    for number in range(1, 8):
        machine.write(f"s{number}", f"#!/s{number - 1}\n".encode())
    do_execve(machine.task, b"/s3", [b"x"], [])
    with pytest.raises(LinuxError) as caught:
        do_execve(machine.task, b"/s7", [b"x"], [])
    assert caught.value.errno is Errno.ELOOP


@pytest.mark.parametrize("head", [b"#!", b"#!\n", b"#!   \n", b"#! \t ", b"#!" + b"x" * 300])
def test_scripts_without_an_interpreter_are_no_programs(machine: Machine, head: bytes) -> None:
    with pytest.raises(LinuxError) as caught:
        do_execve(machine.task, machine.write("bad", head), [b"x"], [])
    assert caught.value.errno is Errno.ENOEXEC


def test_the_same_seed_places_everything_the_same(tmp_path: Path) -> None:
    """And another one does not: AT_RANDOM always, addresses with ASLR."""
    seen: dict[tuple[int, bool], set[tuple[bytes, int, int, int, int]]] = {}
    for seed, aslr in ((0, False), (0, False), (1, False), (1, True), (1, True), (2, True)):
        machine = Machine(tmp_path, seed=seed, aslr=aslr)
        machine.write("dyn", program(X86_64, dyn=True))
        do_execve(machine.task, b"/dyn", [b"x"], [])
        got = Start(machine, X86_64)
        auxv = dict(got.auxv)
        drawn = copy_from_user(got.mm, VirtAddr(auxv[e.AT_RANDOM]), 16)
        seen.setdefault((seed, aslr), set()).add((drawn, got.sp, auxv[e.AT_ENTRY], auxv[e.AT_SYSINFO_EHDR], got.mm.brk))
        machine.close()

    assert all(len(places) == 1 for places in seen.values())
    fixed, other, random1, random2 = (next(iter(seen[key])) for key in ((0, False), (1, False), (1, True), (2, True)))
    assert fixed[0] != other[0]
    assert fixed[1:] == other[1:]
    assert all(a != b for a, b in zip(random1, random2, strict=True))


def test_the_host_sees_no_more_open_files(machine: Machine) -> None:
    """Each exec opens a file; none stays open but the program's own."""
    start(machine, X86_64)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - /proc/self must be our own process
    for _ in range(20):
        start(machine, X86_64)

    assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208 - as above
