"""Limits, usage, priorities and scheduling policies."""

import struct

import pytest

from minikernel.abi.resource import RLIM_INFINITY, RLIMIT_NOFILE, RLIMIT_STACK
from tests.minikernel.syscalls.calls import BAD, I386, X86_64, Caller

EPERM, ESRCH, E2BIG, EACCES, EFAULT, EINVAL = -1, -3, -7, -13, -14, -22


def test_limits_in_the_three_widths() -> None:
    wide, narrow = Caller(), Caller(I386)
    narrow.task.rlimits[RLIMIT_STACK][:] = [1 << 33, RLIM_INFINITY]

    assert wide.call("getrlimit", RLIMIT_STACK, wide.scratch) == 0
    assert wide.words(2, size=8) == [8 << 20, RLIM_INFINITY]
    assert narrow.call("ugetrlimit", RLIMIT_STACK, narrow.scratch) == 0
    assert narrow.words(2) == [0xFFFF_FFFF, 0xFFFF_FFFF]
    assert narrow.call("getrlimit", RLIMIT_STACK, narrow.scratch) == 0
    assert narrow.words(2) == [0x7FFF_FFFF, 0x7FFF_FFFF]
    assert narrow.call("prlimit64", 0, RLIMIT_STACK, 0, narrow.scratch) == 0
    assert narrow.words(2, size=8) == [1 << 33, RLIM_INFINITY]


def test_infinity_of_i386_is_infinity() -> None:
    caller = Caller(I386)

    assert caller.call("setrlimit", RLIMIT_STACK, caller.put(struct.pack("<II", 5, 0xFFFF_FFFF))) == 0
    assert caller.task.rlimits[RLIMIT_STACK] == [5, RLIM_INFINITY]


SETRLIMIT = [
    ((16, 1, 1), EINVAL),
    ((RLIMIT_NOFILE, 5, 4), EINVAL),
    ((RLIMIT_NOFILE, 5, 1 << 21), EPERM),  # above fs.nr_open
    ((RLIMIT_NOFILE, 5, 5000), EPERM),  # above the hard limit
    ((RLIMIT_NOFILE, 5, 4000), 0),
]


@pytest.mark.parametrize(("args", "result"), SETRLIMIT)
def test_who_may_set_limits(args: tuple[int, int, int], result: int) -> None:
    caller = Caller(uid=1000)
    before = list(caller.task.rlimits[RLIMIT_NOFILE])

    assert caller.call("setrlimit", args[0], caller.put(struct.pack("<QQ", *args[1:]))) == result
    assert caller.task.rlimits[RLIMIT_NOFILE] == (before if result else [5, 4000])


def test_the_address_space_sees_a_changed_limit() -> None:
    caller = Caller()
    caller.call("prlimit64", 0, RLIMIT_STACK, caller.put(struct.pack("<QQ", 4096, 8192)), 0)

    assert caller.task.mm.rlimits[RLIMIT_STACK] == [4096, 8192]


def test_prlimit_of_others() -> None:
    caller = Caller(uid=1000)
    caller.add_task(2, X86_64, 1001)

    assert caller.call("prlimit64", 2, RLIMIT_STACK, 0, caller.scratch) == EPERM
    assert caller.call("prlimit64", 9, RLIMIT_STACK, 0, caller.scratch) == ESRCH
    assert caller.call("prlimit64", 9, RLIMIT_STACK, BAD, 0) == EFAULT
    assert caller.call("prlimit64", 0, 99, 0, 0) == EINVAL


def test_usage_is_of_a_thread_a_process_or_its_children() -> None:
    caller = Caller()
    thread = caller.add_task(2, X86_64, thread_of=caller.task)
    caller.task.utime, thread.utime = 2_000_000_000, 1_000_000_000
    caller.task.process.children_usage.utime = 7_000_000_000
    for who, seconds in ((0, 3), (1, 2), (-1, 7)):
        assert caller.call("getrusage", who, caller.scratch) == 0
        assert caller.words(1, size=8) == [seconds]
    assert caller.call("getrusage", 5, BAD) == EINVAL
    assert caller.call("getrusage", 0, BAD) == EFAULT


def test_nice_values_are_told_from_1_to_40() -> None:
    caller = Caller(uid=1000)

    assert caller.call("getpriority", 0, 0) == 20
    assert caller.call("setpriority", 0, 0, 50) == 0
    assert caller.call("getpriority", 0, 0) == 1
    assert caller.call("setpriority", 0, 0, 0) == EACCES
    assert caller.call("getpriority", 7, 0) == EINVAL
    assert caller.call("getpriority", 0, 99) == ESRCH
    assert Caller().call("setpriority", 0, 0, -20) == 0


def test_another_user_s_task_keeps_its_priority() -> None:
    caller = Caller(uid=1000)
    caller.add_task(2, X86_64, 1001)

    assert caller.call("setpriority", 0, 2, 5) == EPERM
    assert caller.call("setpriority", 2, 1001, 5) == EPERM
    assert caller.call("setpriority", 2, 7, 5) == ESRCH


def test_scheduling_policies() -> None:
    caller, plain = Caller(), Caller(uid=1000)
    param = caller.put(struct.pack("<i", 10))
    plain.put(struct.pack("<i", 10))

    assert caller.call("sched_setscheduler", 0, 1, param) == 0
    assert caller.call("sched_getscheduler", 0) == 1
    assert caller.call("sched_getparam", 0, caller.scratch) == 0
    assert caller.words(1) == [10]
    assert caller.call("sched_setscheduler", 0, 0, param) == EINVAL  # SCHED_OTHER has no priorities
    assert caller.call("sched_setscheduler", 0, 4, param) == EINVAL
    assert caller.call("sched_setscheduler", 0, 1, 0) == EINVAL
    assert caller.call("sched_setscheduler", 0, 1 | 0x4000_0000, param) == 0
    assert caller.call("sched_getscheduler", 0) == 1 | 0x4000_0000
    assert plain.call("sched_setscheduler", 0, 1, plain.scratch) == EPERM


def test_sched_attr_of_any_size() -> None:
    caller = Caller()
    attr = struct.pack("<IIQiIQQQ", 48, 3, 0, 5, 0, 0, 0, 0)

    assert caller.call("sched_setattr", 0, caller.put(attr), 0) == 0
    assert (caller.task.attributes.policy, caller.task.attributes.nice) == (3, 5)
    assert caller.call("sched_getattr", 0, caller.scratch, 64, 0) == 0
    assert caller.words(2) == [56, 3]
    assert caller.call("sched_getattr", 0, caller.scratch, 40, 0) == EINVAL
    assert caller.call("sched_setattr", 0, caller.put(struct.pack("<I", 40) + attr[4:]), 0) == E2BIG
    assert caller.words(1) == [56]


@pytest.mark.parametrize(
    ("policy", "low", "high"), [(0, 0, 0), (1, 1, 99), (2, 1, 99), (3, 0, 0), (6, 0, 0), (9, EINVAL, EINVAL)]
)
def test_priority_ranges(policy: int, low: int, high: int) -> None:
    caller = Caller()

    assert caller.call("sched_get_priority_min", policy) == low
    assert caller.call("sched_get_priority_max", policy) == high


def test_there_is_one_cpu() -> None:
    caller = Caller()

    assert caller.call("sched_getaffinity", 0, 128, caller.scratch) == 8
    assert caller.words(1, size=8) == [1]
    assert caller.call("sched_getaffinity", 0, 7, caller.scratch) == EINVAL
    assert caller.call("sched_getaffinity", 9, 8, caller.scratch) == ESRCH
    assert caller.call("sched_setaffinity", 0, 8, caller.put(b"\x02" + bytes(7))) == EINVAL
    assert caller.call("sched_setaffinity", 0, 8, caller.put(b"\x03" + bytes(7))) == 0
    assert caller.call("getcpu", caller.scratch, BAD, 0) == EFAULT


def test_io_priorities_are_remembered() -> None:
    caller = Caller(uid=1000)

    assert caller.call("ioprio_get", 1, 0) == 0
    assert caller.call("ioprio_set", 1, 0, 0x4004) == 0
    assert caller.call("ioprio_get", 1, 0) == 0x4004
    assert caller.call("ioprio_set", 1, 0, 0x2004) == EPERM
    assert caller.call("ioprio_set", 1, 0, 0x0004) == EINVAL
    assert caller.call("ioprio_get", 4, 0) == EINVAL
