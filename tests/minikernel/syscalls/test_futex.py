"""Futexes."""

import struct

import pytest

from minikernel.syscalls.table import advance
from minikernel.wait import Wait
from tests.minikernel.syscalls.calls import BAD, I386, Caller

WAIT, WAKE, REQUEUE, CMP_REQUEUE, WAKE_OP, LOCK_PI, WAIT_BITSET, WAKE_BITSET = 0, 1, 3, 4, 5, 6, 9, 10
PRIVATE, REALTIME = 128, 256
EAGAIN, EFAULT, EINVAL, ENOSYS, ETIMEDOUT, ERESTARTSYS, RESTART_BLOCK = -11, -14, -22, -38, -110, -512, -516
SECOND = 1_000_000_000


def test_waiting_for_a_word_that_has_changed_is_eagain() -> None:
    caller = Caller()
    address = caller.put(struct.pack("<I", 5))

    assert caller.call("futex", address, WAIT, 4, 0) == EAGAIN
    assert caller.kernel.futexes == {}


@pytest.mark.parametrize("flags", [0, PRIVATE])
def test_waiters_are_woken_in_the_order_they_came(flags: int) -> None:
    caller = Caller()
    address = caller.put(struct.pack("<I", 5))
    calls = [caller.block("futex", address, WAIT | flags, 5, 0)[0] for _ in range(3)]

    assert caller.call("futex", address, WAKE | flags, 2) == 2
    assert [advance(calls[0], True), advance(calls[1], True)] == [0, 0]
    assert isinstance(advance(calls[2], True), Wait)  # a spurious wake-up: it was not meant
    assert caller.call("futex", address, WAKE | flags, 9) == 1
    assert advance(calls[2], True) == 0
    assert caller.kernel.futexes == {}


def test_waking_nobody_is_zero_and_waking_none_wakes_one() -> None:
    caller = Caller()
    address = caller.put(struct.pack("<I", 5))

    assert caller.call("futex", address, WAKE, 1) == 0
    call, _ = caller.block("futex", address, WAIT, 5, 0)
    assert caller.call("futex", address, WAKE, 0) == 1
    assert advance(call, True) == 0


def test_bits_choose_who_is_woken() -> None:
    caller = Caller()
    address = caller.put(struct.pack("<I", 5))
    calls = [caller.block("futex", address, WAIT_BITSET, 5, 0, 0, bits)[0] for bits in (1, 2)]

    assert caller.call("futex", address, WAKE_BITSET, 9, 0, 0, 2) == 1
    assert advance(calls[1], True) == 0
    assert caller.call("futex", address, WAKE_BITSET, 9, 0, 0, 0) == EINVAL
    assert caller.call("futex", address, WAIT_BITSET, 5, 0, 0, 0) == EINVAL
    calls[0].close()


@pytest.mark.parametrize("abi_name", ["futex", "futex_time64"])
def test_a_relative_timeout(abi_name: str) -> None:
    caller = Caller(I386)
    address = caller.put(struct.pack("<I", 5))
    form = "<ii" if abi_name == "futex" else "<qq"
    call, wait = caller.block(abi_name, address, WAIT, 5, caller.put(struct.pack(form, 2, 0), 64))

    assert wait.timeout_ns == 2 * SECOND
    caller.icount = 2 * SECOND
    assert advance(call, False) == ETIMEDOUT
    assert caller.kernel.futexes == {}


def test_an_absolute_timeout_on_either_clock() -> None:
    caller = Caller()
    address = caller.put(struct.pack("<I", 5))
    caller.icount = SECOND
    when = caller.put(struct.pack("<qq", 3, 0), 64)
    call, wait = caller.block("futex", address, WAIT_BITSET, 5, when, 0, 0xFFFF_FFFF)

    assert wait.timeout_ns == 2 * SECOND
    assert caller.call("futex", address, WAIT_BITSET | REALTIME, 5, when, 0, 0xFFFF_FFFF) == ETIMEDOUT
    assert caller.call("futex", address, WAIT | REALTIME, 5, when) == ENOSYS
    call.close()
    assert caller.kernel.futexes == {}


def test_an_interrupted_wait_restarts_with_the_time_that_is_left() -> None:
    caller = Caller()
    address = caller.put(struct.pack("<I", 5))
    call, _ = caller.block("futex", address, WAIT, 5, 0)

    assert advance(call, interrupt=True) == ERESTARTSYS
    timed, _ = caller.block("futex", address, WAIT, 5, caller.put(struct.pack("<qq", 2, 0), 64))
    caller.icount = SECOND
    assert advance(timed, interrupt=True) == RESTART_BLOCK
    again, wait = caller.block("restart_syscall")
    assert wait.timeout_ns == SECOND
    again.close()
    assert caller.kernel.futexes == {}


def test_a_waiter_that_was_woken_does_not_see_the_signal() -> None:
    caller = Caller()
    address = caller.put(struct.pack("<I", 5))
    call, _ = caller.block("futex", address, WAIT, 5, 0)
    caller.call("futex", address, WAKE, 1)

    assert advance(call, interrupt=True) == 0


def test_requeue_moves_those_it_does_not_wake() -> None:
    caller = Caller()
    first, second = caller.put(struct.pack("<II", 5, 6)), caller.scratch + 4
    calls = [caller.block("futex", first, WAIT, 5, 0)[0] for _ in range(3)]

    assert caller.call("futex", first, CMP_REQUEUE, 1, 9, second, 4) == EAGAIN
    assert caller.call("futex", first, CMP_REQUEUE, 1, 9, second, 5) == 3
    assert advance(calls[0], True) == 0
    assert caller.call("futex", first, WAKE, 9) == 0
    assert caller.call("futex", second, WAKE, 9) == 2
    assert [advance(call, True) for call in calls[1:]] == [0, 0]
    assert caller.call("futex", first, REQUEUE, -1, 0, second) == EINVAL


def test_wake_op_changes_the_second_word_and_wakes_both() -> None:
    caller = Caller()
    first, second = caller.put(struct.pack("<II", 5, 6)), caller.scratch + 4
    calls = [caller.block("futex", word, WAIT, value, 0)[0] for word, value in ((first, 5), (second, 6))]
    add_one_if_six = 1 << 28 | 0 << 24 | 1 << 12 | 6

    assert caller.call("futex", first, WAKE_OP, 1, 1, second, add_one_if_six) == 2
    assert caller.words(2) == [5, 7]
    assert [advance(call, True) for call in calls] == [0, 0]
    assert caller.call("futex", first, WAKE_OP, 1, 1, second, 7 << 28) == ENOSYS


ERRORS = [
    (BAD, WAIT, EFAULT),
    (BAD, WAKE | PRIVATE, 0),
    (BAD, WAKE, EFAULT),
    (BAD + 1, WAKE, EINVAL),
    (1 << 63, WAKE | PRIVATE, EFAULT),
    (BAD, LOCK_PI, EFAULT),
    (BAD, 77, ENOSYS),
]


@pytest.mark.parametrize(("address", "op", "result"), ERRORS)
def test_errors(address: int, op: int, result: int) -> None:
    assert Caller().call("futex", address, op, 0) == result


def waitv(address: int, value: int, flags: int = 2) -> bytes:
    """A struct futex_waitv."""
    return struct.pack("<QQII", value, address, flags, 0)


def test_futex_waitv_tells_which_one_was_woken() -> None:
    caller = Caller()
    first, second = caller.put(struct.pack("<II", 5, 6)), caller.scratch + 4
    vector = caller.put(waitv(first, 5) + waitv(second, 6), 64)
    call, _ = caller.block("futex_waitv", vector, 2, 0, 0, 0)

    assert caller.call("futex", second, WAKE, 1) == 1
    assert advance(call, True) == 1
    assert caller.kernel.futexes == {}
    assert caller.call("futex_waitv", vector, 0, 0, 0, 0) == EINVAL
    assert caller.call("futex_waitv", caller.put(waitv(first, 9), 64), 1, 0, 0, 0) == EAGAIN
    assert caller.call("futex_waitv", caller.put(waitv(first, 5, 1), 64), 1, 0, 0, 0) == EINVAL
