"""From registers to arguments."""

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikernel.abi.abi import ABIS, I386, X86_64, Abi
from minikernel.syscalls.args import INT, LONG, UINT, ULONG, Fd, Hex, Int, Long, Off, Ptr, Size, UInt, ULong
from minikernel.syscalls.decode import cast_register, compile_caller, signature
from minikernel.syscalls.strace_format import FORMATTERS
from minikernel.syscalls.strace_names import knows
from minikernel.syscalls.table import ENTRIES

CTYPES = {
    "x86-64": {INT: ctypes.c_int32, UINT: ctypes.c_uint32, LONG: ctypes.c_int64, ULONG: ctypes.c_uint64},
    "i386": {INT: ctypes.c_int32, UINT: ctypes.c_uint32, LONG: ctypes.c_int32, ULONG: ctypes.c_uint32},
}
registers = st.lists(st.integers(0, 2**64 - 1), min_size=16, max_size=16)
Seen = tuple[int, ...]


def sys_probe(_kernel: list[Seen], _task: None, a: Int, b: UInt, c: Long, d: ULong, e: Int, f: Size) -> int:
    """A handler that keeps what it was given."""
    _kernel.append((a, b, c, d, e, f))
    return 0


WIDTHS = (INT, UINT, LONG, ULONG, INT, ULONG)


@given(registers)
def test_handlers_get_what_c_would_get(regs: list[int]) -> None:
    for abi in ABIS:
        seen: list[Seen] = []
        compile_caller(abi, sys_probe)(seen, None, regs)
        raw = [regs[register] for register in abi.arg_registers]
        expected = tuple(CTYPES[abi.name][width](value).value for width, value in zip(WIDTHS, raw, strict=True))

        assert seen == [expected]


@given(st.integers(0, 2**64 - 1), st.sampled_from((INT, UINT, LONG, ULONG)), st.sampled_from(ABIS))
def test_cast_register_is_a_c_cast(value: int, width: str, abi: Abi) -> None:
    assert cast_register(abi, width, value) == CTYPES[abi.name][width](value).value


def sys_offset(_kernel: None, _task: None, fd: Fd, offset: Off, flags: Hex, buf: Ptr) -> int:
    """A handler that mixes widths."""
    return 0 if (fd, offset, flags, buf) == (-1, -1, 0xFFFF_FFFF, 0xFFFF_FFFF) else 1


def test_a_descriptor_is_an_int_and_an_offset_a_long() -> None:
    regs = [0xFFFF_FFFF] * 16

    assert compile_caller(I386, sys_offset)(None, None, regs) == 0
    assert compile_caller(X86_64, sys_offset)(None, None, regs) == 1  # the offset is 4 GiB - 1 there


def test_arguments_travel_in_the_registers_of_the_abi() -> None:
    assert X86_64.arg_registers == (7, 6, 2, 10, 8, 9)
    assert I386.arg_registers == (3, 1, 2, 6, 7, 5)


@pytest.mark.parametrize("entry", [e for e in ENTRIES if e.handler], ids=lambda e: f"{e.name}-{e.abi or 'both'}")
def test_every_argument_of_every_handler_has_a_type_and_can_be_shown(entry: object) -> None:
    handler = entry.handler  # type: ignore[attr-defined]
    for name, kind in signature(handler):
        assert kind.width in {INT, UINT, LONG, ULONG}, name
        assert kind.show in FORMATTERS or knows(kind.show), name


def sys_bare(_kernel: None, _task: None, value: int) -> int:
    """A handler that does not say what its argument is."""
    return value


def test_an_argument_without_a_type_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="sys_bare"):
        signature(sys_bare)
