"""The numbers of system calls."""

import re
from pathlib import Path

import pytest

from minikernel.abi.syscall_numbers import NUMBERS

HEADERS = {"x86-64": "unistd_64.h", "i386": "unistd_32.h"}


@pytest.mark.parametrize("abi", NUMBERS)
def test_no_number_is_given_twice(abi: str) -> None:
    numbers = NUMBERS[abi]

    assert len(set(numbers.values())) == len(numbers)


@pytest.mark.parametrize(("abi", "header"), HEADERS.items())
def test_numbers_are_those_of_the_headers(abi: str, header: str) -> None:
    path = Path("/usr/include/x86_64-linux-gnu/asm") / header
    if not path.exists():
        pytest.skip("no kernel headers to compare with")
    theirs = {name: int(nr) for name, nr in re.findall(r"#define __NR_(\w+)\s+(\d+)", path.read_text())}

    assert {name: NUMBERS[abi].get(name) for name in theirs} == theirs


def test_rows_name_their_first_call() -> None:
    assert NUMBERS["x86-64"]["read"] == 0
    assert NUMBERS["x86-64"]["sched_get_priority_min"] == 147
    assert NUMBERS["x86-64"]["pidfd_send_signal"] == 424
    assert NUMBERS["i386"]["restart_syscall"] == 0
    assert NUMBERS["i386"]["mmap2"] == 192
    assert NUMBERS["i386"]["mseal"] == NUMBERS["x86-64"]["mseal"] == 462
