"""Calls with nonsense for arguments: they answer, and the books of the memory balance."""

import struct
from functools import cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minikernel.abi.abi import ABIS, Abi
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.syscalls import caps, cred, futex, ident, machine, misc, mman, numa, prctl, process_vm, resource, sched
from minikernel.syscalls import time as sys_time
from minikernel.syscalls.table import advance
from minikernel.wait import Wait
from tests.minikernel.syscalls.calls import BAD, SCRATCH, Caller
from tests.minikernel.syscalls.test_misc import with_machine

ROOMS = (caps, cred, futex, ident, machine, misc, mman, numa, prctl, process_vm, resource, sched, sys_time)
# setrlimit would end the test's own room to move; MADV_HWPOISON and its like are mm's to test.
NAMES = sorted({entry.name for room in ROOMS for entry in room.ENTRIES})
SCRATCH_OFFSETS = (0, 8, 4096, SCRATCH - 4, SCRATCH)
SMALL = (0, 1, 2, 3, 4, 5, 7, 8, 16, 22, 34, 35, 36, 37, 64, 100, 4095, 4096, 8192, 1 << 20)
LARGE = (-1, -2, -100, 1 << 31, (1 << 31) - 1, (1 << 32) - 1, 1 << 47, (1 << 63) - 1, 1 << 63, BAD)
argument = st.one_of(
    st.sampled_from(SMALL),
    st.sampled_from(LARGE),
    st.sampled_from([("scratch", offset) for offset in SCRATCH_OFFSETS]),
    st.integers(0, 2**64 - 1),
)
calls = st.lists(st.tuples(st.sampled_from(NAMES), st.lists(argument, min_size=6, max_size=6)), min_size=1, max_size=20)


@cache
def contents(abi: Abi) -> bytes:
    """Something to be read: small numbers in the ABI's words."""
    numbers = (1, 0, 5, 2, 0x20080522, 0, 3, 48, 1, 0, 0, 7)
    return struct.pack(f"<{len(numbers)}{'Q' if abi.word == 8 else 'I'}", *numbers)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(ABIS), st.integers(0, 1), calls)
def test_no_argument_is_too_strange(abi: Abi, uid: int, made: list[tuple[str, list[int | tuple[str, int]]]]) -> None:
    caller = Caller(abi, uid=uid)
    with_machine(caller)
    caller.put(contents(abi))
    for name, arguments in made:
        if name not in NUMBERS[abi.name]:
            continue
        args = [caller.scratch + value[1] if isinstance(value, tuple) else value for value in arguments]
        result = caller.start(name, *args)
        if not isinstance(result, int):
            ended = advance(result)
            assert isinstance(ended, (int, Wait))
            result.close()
        else:
            assert -(1 << 63) <= result < 1 << 64

    caller.machine.validate()
    assert caller.kernel.futexes == {}
