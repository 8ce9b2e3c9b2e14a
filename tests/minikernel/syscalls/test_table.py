"""The tables: complete, honest, and the one place where a LinuxError becomes a number."""

import io
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from minikernel.abi.abi import I386, X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.syscalls import listing
from minikernel.syscalls.args import Int
from minikernel.syscalls.entry_types import Entry, Support, full
from minikernel.syscalls.table import ENTRIES, TABLE_32, TABLE_64, TABLES, SyscallTable, advance, dispatch
from minikernel.wait import Interrupted, Wait, WaitQueue

REGS = [0] * 16


def kernel() -> Any:
    """What the table itself needs of a kernel."""
    return SimpleNamespace(syscall_missing={})


def table_with(entry: Entry, nr: int = 1) -> SyscallTable:
    """The x86-64 table with *entry* at *nr*."""
    table = SyscallTable(X86_64)
    table.entries[nr] = entry
    return table


@pytest.mark.parametrize("abi", NUMBERS)
def test_every_number_is_in_the_table(abi: str) -> None:
    assert {nr: entry.name for nr, entry in TABLES[abi].entries.items()} == {
        nr: name for name, nr in NUMBERS[abi].items()
    }


def test_no_call_is_claimed_twice() -> None:
    claims = Counter((entry.name, abi) for entry in ENTRIES for abi in NUMBERS if entry.abi in {None, abi})

    assert [claim for claim, count in claims.items() if count > 1] == []


def test_every_claimed_name_is_a_call_of_its_abi() -> None:
    known = {abi: set(numbers) for abi, numbers in NUMBERS.items()}
    everywhere = set().union(*known.values())

    assert [entry.name for entry in ENTRIES if entry.name not in (known[entry.abi] if entry.abi else everywhere)] == []


def test_partial_calls_say_what_is_missing_and_absent_ones_why() -> None:
    assert [entry.name for entry in ENTRIES if entry.support is not Support.FULL and not entry.note] == []
    assert [entry.name for entry in ENTRIES if (entry.handler is None) is not (entry.support is Support.ABSENT)] == []


def test_a_linux_error_becomes_minus_errno() -> None:
    def sys_fails(_kernel: None, _task: None) -> int:
        raise LinuxError(Errno.EINVAL, "because")

    result = table_with(full("x", sys_fails)).call(kernel(), cast("Any", None), 1, REGS)

    assert result == -22
    assert type(result) is int


def test_a_key_error_of_a_handler_is_not_swallowed() -> None:
    def sys_broken(_kernel: None, _task: None, value: Int) -> int:
        table: dict[int, int] = {}
        return table[value]

    with pytest.raises(KeyError):
        table_with(full("x", sys_broken)).call(kernel(), cast("Any", None), 1, REGS)


def test_unknown_numbers_are_enosys_and_noted_once() -> None:
    machine = kernel()
    task: Any = SimpleNamespace(abi=X86_64)
    for _ in range(3):
        assert dispatch(machine, task, 9999, REGS) == -38
        assert dispatch(machine, task, NUMBERS["x86-64"]["io_uring_setup"], REGS) == -38
    task.abi = I386
    assert dispatch(machine, task, 0xFFFF_FFFF, REGS) == -38

    assert machine.syscall_missing == {
        ("x86-64", 9999): "syscall_0x270f",
        ("x86-64", 425): "io_uring_setup",
        ("i386", 0xFFFF_FFFF): "syscall_0xffffffff",
    }


def test_random_numbers_do_not_fill_the_host_s_memory() -> None:
    machine = kernel()
    for nr in range(10_000, 15_000):
        TABLE_64.call(machine, cast("Any", None), nr, REGS)

    assert len(machine.syscall_missing) <= 1024


def test_a_blocking_call_is_handed_on_and_taken_to_its_end() -> None:
    queue = WaitQueue()

    async def wait_twice() -> int:
        assert await queue.wait()
        assert not await queue.wait(50)
        return 7

    table = table_with(full("x", lambda _kernel, _task: wait_twice()))
    call = cast("Any", table.call(kernel(), cast("Any", None), 1, REGS))
    first = advance(call)
    second = advance(call, True)

    assert isinstance(first, Wait)
    assert first.timeout_ns is None
    assert isinstance(second, Wait)
    assert second.timeout_ns == 50
    assert advance(call, False) == 7


def test_a_blocking_call_ends_in_the_errno_it_raises() -> None:
    async def fails() -> int:
        await WaitQueue().wait()
        raise LinuxError(Errno.EPIPE)

    call = fails()
    advance(call)

    assert advance(call, True) == -32


def test_an_interrupted_call_restarts_unless_it_decides_otherwise() -> None:
    async def careless() -> int:
        await WaitQueue().wait()
        return 0

    async def careful() -> int:
        try:
            await WaitQueue().wait()
        except Interrupted:
            raise LinuxError(Errno.EINTR) from None
        return 0

    first, second = careless(), careful()
    advance(first)
    advance(second)

    assert advance(first, interrupt=True) == -512
    assert advance(second, interrupt=True) == -4


def test_docs_are_what_the_tables_say() -> None:
    """Run ``python -m minikernel.syscalls.listing > docs/syscalls.md`` when this fails."""
    path = Path(__file__).parents[3] / "docs" / "syscalls.md"

    assert path.read_text(encoding="utf-8") == listing.markdown()


def test_the_listing_is_also_json() -> None:
    out = io.StringIO()
    listing.print_table(out, json=True)
    rows = json.loads(out.getvalue())

    assert len(rows) == len(TABLE_64.entries) + len(TABLE_32.entries)
    assert rows[0] == {"abi": "x86-64", "nr": 0, "name": "read", "support": "full", "note": ""}


def test_the_listing_of_one_abi_leaves_the_other_out() -> None:
    out = io.StringIO()
    listing.print_table(out, abi="i386")

    assert "restart_syscall" in out.getvalue()
    assert "x86-64:" not in out.getvalue()
