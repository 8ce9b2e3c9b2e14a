"""Names, randomness, prctl, segments, barriers, memory calls."""

import struct
from types import SimpleNamespace
from typing import Any, cast

import pytest

from emu.x86 import PAGE_SIZE
from minikernel.abi.abi import ABIS, Abi
from minikernel.abi.ldt import UserDesc, unpack_user_desc, user_desc_of
from minikernel.arch.segments import X86_64_GDT
from tests.minikernel.syscalls.calls import BAD, I386, SCRATCH, X86_64, Caller

EPERM, ESRCH, EBADF, ENOMEM, EFAULT, EBUSY, EINVAL, ENOSYS = -1, -3, -9, -12, -14, -16, -22, -38


def with_machine(caller: Caller) -> Any:
    """Give *caller* as much of a CPU and of segments as these calls look at; the segments."""
    cpu = SimpleNamespace(icount=0, long_mode=True, fs_base=0, gs_base=0, loaded=[])
    cpu.segment = lambda _name: 0x63

    def load_segment(name: str, selector: int) -> None:
        cpu.loaded.append((name, selector))

    user_mode = SimpleNamespace(gdt=X86_64_GDT, tls=(), load_segment=load_segment)
    user_mode.load_tls = lambda tls: setattr(user_mode, "tls", tls)
    caller.kernel.cpu = cast("Any", cpu)
    caller.kernel.user_mode = cast("Any", user_mode)
    return user_mode


def test_uname_in_its_three_ages() -> None:
    caller = Caller(I386)
    with_machine(caller)
    for name, size, width in (("uname", 390, 65), ("olduname", 325, 65), ("oldolduname", 45, 9)):
        caller.put(b"\xff" * 400)
        assert caller.call(name, caller.scratch) == 0
        data = caller.get(400)
        assert data[:6] == b"Linux\0"
        assert data[width : 2 * width].rstrip(b"\0") == b"minikernel"[: width - 1]
        assert data[size:] == b"\xff" * (400 - size)
    assert caller.call("uname", BAD) == EFAULT


def test_personality_changes_the_machine_s_name() -> None:
    caller = Caller()
    with_machine(caller)

    assert caller.call("personality", 0xFFFF_FFFF) == 0
    assert caller.call("personality", 8) == 0
    assert caller.call("personality", 0xFFFF_FFFF) == 8
    caller.call("uname", caller.scratch)
    assert caller.get(5, 4 * 65) == b"i686\0"


def test_the_host_s_name_can_be_changed_by_root() -> None:
    caller, plain = Caller(), Caller(uid=1000)

    assert caller.call("sethostname", caller.put(b"box"), 3) == 0
    assert caller.kernel.hostname == b"box"
    assert caller.call("sethostname", caller.scratch, 65) == EINVAL
    assert plain.call("sethostname", BAD, 65) == EPERM


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_sysinfo_counts_the_machine_s_memory(abi: Abi) -> None:
    caller = Caller(abi)
    caller.put(b"x")  # its page is there before the free ones are counted

    assert caller.call("sysinfo", caller.scratch) == 0
    total, free = caller.words(2, offset=4 * abi.word, size=abi.word)
    assert free < total < 16 << 20
    assert free == caller.machine.node.nr_free * PAGE_SIZE


def test_getrandom_is_seeded_and_stops_at_the_end_of_memory() -> None:
    first, second = Caller(), Caller()
    for caller in (first, second):
        assert caller.call("getrandom", caller.scratch, 64, 1) == 64
    assert first.get(64) == second.get(64)
    assert first.call("getrandom", first.scratch + SCRATCH - 5, 10, 0) == 5
    assert first.call("getrandom", BAD, 10, 0) == EFAULT
    assert first.call("getrandom", BAD, 0, 0) == 0
    assert first.call("getrandom", first.scratch, 10, 8) == EINVAL
    assert first.call("getrandom", first.scratch, 10, 6) == EINVAL


def test_the_log_can_be_read() -> None:
    caller, plain = Caller(), Caller(uid=1000)
    caller.kernel.log("hello")

    assert caller.call("syslog", 3, caller.scratch, 100) == 24
    assert caller.get(24) == b"<6>[    0.000000] hello\n"
    assert caller.call("syslog", 10, 0, 0) == 131072
    assert caller.call("syslog", 99, 0, 0) == EINVAL
    assert plain.call("syslog", 4, plain.scratch, 10) == EPERM


# What the host's Linux 6.18 answers to prctl(option, 0, 0, 0, 0), where that does not depend on its configuration.
PRCTL = [
    (0, EINVAL), (1, 0), (2, EFAULT), (3, 1), (4, 0), (5, EINVAL), (7, 0), (8, 0), (13, 0), (14, 0), (15, EFAULT),
    (16, EFAULT), (19, EINVAL), (21, 0), (23, 1), (24, 0), (25, EFAULT), (26, EINVAL), (27, 0), (28, 0), (29, 0),
    (30, 50000), (33, 0), (34, 2), (36, 0), (37, EFAULT), (38, EINVAL), (39, 0),
    (40, EFAULT), (41, 0), (42, 0), (45, EINVAL),
    (47, EINVAL), (50, EINVAL), (53, -6), (65, 0), (66, 0), (67, 0), (68, 0), (71, EINVAL),
]  # fmt: skip


@pytest.mark.parametrize(("option", "result"), PRCTL)
def test_prctl_answers_as_linux(option: int, result: int) -> None:
    assert Caller().call("prctl", option, 0, 0, 0, 0) == result


def test_prctl_names_the_task() -> None:
    caller = Caller()

    assert caller.call("prctl", 15, caller.put(b"a name that is far too long\0")) == 0
    assert caller.task.comm == b"a name that is "
    assert caller.call("prctl", 16, caller.scratch) == 0
    assert caller.get(16) == b"a name that is \0"


def test_no_new_privs_stays() -> None:
    caller = Caller()

    assert caller.call("prctl", 38, 1, 1) == EINVAL
    assert caller.call("prctl", 38, 1) == 0
    assert caller.call("prctl", 39) == 1
    assert caller.task.attributes.fork().no_new_privs


def test_fs_and_gs_bases() -> None:
    caller = Caller()
    with_machine(caller)

    assert caller.call("arch_prctl", 0x1002, 0x1234) == 0
    assert caller.call("arch_prctl", 0x1003, caller.scratch) == 0
    assert caller.words(1, size=8) == [0x1234]
    assert caller.call("arch_prctl", 0x1001, 1 << 47) == EPERM
    assert caller.call("arch_prctl", 0x1003, BAD) == EFAULT
    assert caller.call("arch_prctl", 77, 0) == EINVAL
    assert Caller(I386).call("arch_prctl", 0x1002, 0) == EINVAL


def desc(entry: int, base: int, flags: int = 0x51) -> bytes:
    """A struct user_desc of a flat data segment, as a libc asks for."""
    return UserDesc(entry, base, 0xFFFFF, flags).pack()


def test_thread_areas_are_handed_out_and_read_back() -> None:
    caller = Caller(I386)
    user_mode = with_machine(caller)
    for slot in range(3):
        assert caller.call("set_thread_area", caller.put(desc(0xFFFF_FFFF, 0x1000 + slot))) == 0
        assert caller.words(1) == [12 + slot]
    assert caller.call("set_thread_area", caller.put(desc(0xFFFF_FFFF, 0))) == ESRCH
    assert user_mode.tls == caller.task.tls
    assert caller.kernel.cpu.loaded[0] == ("ds", 0x63)  # type: ignore[attr-defined]
    caller.put(struct.pack("<I", 13))
    assert caller.call("get_thread_area", caller.scratch) == 0
    assert unpack_user_desc(caller.get(16)) == UserDesc(13, 0x1001, 0xFFFFF, 0x51)


@pytest.mark.parametrize(("entry", "flags"), [(5, 0x51), (99, 0x51), (12, 0x55), (12, 0x50), (12, 0x71)])
def test_other_segments_are_refused(entry: int, flags: int) -> None:
    caller = Caller(I386)
    with_machine(caller)

    assert caller.call("set_thread_area", caller.put(desc(entry, 0x1000, flags))) == EINVAL


def test_an_empty_descriptor_frees_its_entry() -> None:
    caller = Caller(I386)
    with_machine(caller)
    caller.call("set_thread_area", caller.put(desc(12, 0x1000)))

    assert caller.call("set_thread_area", caller.put(UserDesc(12, 0, 0, 0x28).pack())) == 0
    assert caller.task.tls == (0, 0, 0)


@pytest.mark.parametrize("flags", [0x51, 0x50, 0x01, 0x59, 0x71, 0x43])
def test_a_descriptor_says_what_it_was_made_of(flags: int) -> None:
    made = UserDesc(12, 0xF7FC_7580, 0xABCDE, flags)

    assert user_desc_of(12, made.descriptor()) == made


def test_the_descriptor_of_a_libc_is_the_one_the_sdm_says() -> None:
    """Base 0x12345678, limit 0xfffff in pages, 32-bit writable data, accessed, DPL 3, present."""
    assert UserDesc(12, 0x1234_5678, 0xFFFFF, 0x51).descriptor() == 0x12DF_F334_5678_FFFF


def test_rseq_is_registered_once() -> None:
    caller = Caller()
    area = caller.put(b"\xff" * 32)

    assert caller.call("rseq", area, 32, 0, 0x53053053) == 0
    assert caller.words(2) == [0, 0]
    assert caller.call("rseq", area, 32, 0, 0x53053053) == EBUSY
    assert caller.call("rseq", area, 32, 0, 1) == EPERM
    assert caller.call("rseq", area + 32, 32, 0, 1) == EINVAL
    assert caller.call("rseq", area, 32, 1, 1) == EPERM
    assert caller.call("rseq", area, 32, 1, 0x53053053) == 0
    assert caller.task.rseq == (0, 0, 0)
    assert caller.words(2) == [0, 0xFFFF_FFFF]
    assert caller.call("rseq", area + 8, 32, 0, 1) == EINVAL
    assert caller.call("rseq", area, 31, 0, 1) == EINVAL


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_robust_lists(abi: Abi) -> None:
    caller = Caller(abi)

    assert caller.call("set_robust_list", 0x1230, 23) == EINVAL
    assert caller.call("set_robust_list", 0x1230, 3 * abi.word) == 0
    assert caller.call("get_robust_list", 0, caller.scratch, caller.scratch + 8) == 0
    assert caller.words(1, size=abi.word) == [0x1230]
    assert caller.words(1, offset=8, size=abi.word) == [3 * abi.word]
    assert caller.call("get_robust_list", 9, caller.scratch, caller.scratch) == ESRCH


# In this order: what the host's Linux 6.18 answered.
MEMBARRIER = [((0, 0), 1023), ((1, 0), 0), ((8, 0), EPERM), ((16, 0), 0), ((8, 0), 0), ((0, 1), EINVAL),
              ((512, 0), 16), ((3, 0), EINVAL)]  # fmt: skip


def test_membarrier_answers_as_linux() -> None:
    caller = Caller()

    assert [caller.call("membarrier", *args, 0) for args, _ in MEMBARRIER] == [result for _, result in MEMBARRIER]


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_mmap_in_its_forms(abi: Abi) -> None:
    caller = Caller(abi)
    name = "mmap" if abi is X86_64 else "mmap2"
    address = caller.call(name, 0, 8192, 3, 0x22, -1, 0)

    assert address > 0
    assert caller.call("mprotect", address, 4096, 1) == 0
    assert caller.call("munmap", address, 8192) == 0
    assert caller.call(name, 0, 8192, 3, 0x22, -1, 4096 if abi is I386 else 0) > 0
    assert caller.call(name, 0, 8192, 3, 2, 7, 0) == EBADF
    assert caller.call(name, 0, 0, 3, 0x22, -1, 0) == EINVAL


def test_unaligned_offsets_and_the_arguments_in_memory_of_i386() -> None:
    old, new = Caller(I386), Caller()
    at = old.put(struct.pack("<IIIIiI", 0, 4096, 3, 0x22, -1, 0))

    assert old.call("mmap", at) > 0
    assert old.call("mmap", old.put(struct.pack("<IIIIiI", 0, 4096, 3, 0x22, -1, 5))) == EINVAL
    assert old.call("mmap", BAD) == EFAULT
    assert new.call("mmap", 0, 4096, 3, 0x22, -1, 5) == EINVAL


def test_process_madvise_of_oneself() -> None:
    caller = Caller()
    vector = caller.put(struct.pack("<QQQQ", caller.scratch + 4096, 4096, caller.scratch + 8192, 4096))

    assert caller.call("process_madvise", -10000, vector, 2, 4, 0) == 8192
    assert caller.call("process_madvise", 5, vector, 2, 4, 0) == EBADF
    assert caller.call("process_madvise", -10000, vector, 2, 4, 1) == EINVAL


def test_pkeys_are_those_of_a_cpu_without() -> None:
    caller = Caller()

    assert caller.call("pkey_alloc", 0, 0) == EINVAL
    assert caller.call("pkey_free", 1) == EINVAL
    assert caller.call("pkey_mprotect", caller.scratch, 4096, 1, 0) == EINVAL
    assert caller.call("pkey_mprotect", caller.scratch, 4096, 3, -1) == 0


def test_memory_policies_of_one_node() -> None:
    caller = Caller()
    mask, other = caller.put(struct.pack("<Q", 1), 64), caller.put(struct.pack("<Q", 2), 72)
    for args, result in [((0, 0, 0), 0), ((2, 0, 0), EINVAL), ((9, 0, 0), EINVAL), ((2, mask, 64), 0),
                         ((2, other, 64), EINVAL)]:  # fmt: skip
        assert caller.call("set_mempolicy", *args) == result, args
    assert caller.call("get_mempolicy", caller.scratch, caller.scratch + 8, 64, 0, 0) == 0
    assert (caller.words(1), caller.words(1, 8, 8)) == ([2], [1])
    assert caller.call("get_mempolicy", caller.scratch, mask, 0, 0, 0) == EINVAL
    assert caller.call("get_mempolicy", 0, 0, 0, caller.scratch, 0) == EINVAL
    assert caller.call("get_mempolicy", 0, 0, 0, BAD, 2) == EFAULT
    assert caller.call("mbind", caller.scratch, 4096, 2, mask, 64, 0) == 0
    assert caller.call("mbind", caller.scratch + 1, 4096, 2, mask, 64, 0) == EINVAL
    assert caller.call("mbind", caller.scratch, 4096, 2, mask, 64, 8) == EINVAL
    assert caller.call("mbind", caller.scratch, 1 << 30, 2, mask, 64, 0) == EFAULT


def test_the_local_descriptor_table_is_empty() -> None:
    caller = Caller()

    assert caller.call("modify_ldt", 0, caller.scratch, 100) == 0
    assert caller.call("modify_ldt", 2, caller.scratch, 200) == 128
    assert caller.call("modify_ldt", 5, caller.scratch, 100) == ENOSYS & 0xFFFF_FFFF  # as Linux has it
    assert Caller(I386).call("modify_ldt", 5, 0, 0) == ENOSYS
