"""Figures of a run, from events."""

import json

from emu.x86 import Pfn, VirtAddr
from minikernel.abi.signal import SIGBUS, SIGSEGV
from minikernel.events import (
    Event,
    FaultKind,
    MmFaultFailed,
    MmFaultResolved,
    PageFaultUser,
    SchedProcessExec,
    SchedProcessExit,
    SchedSwitch,
    SignalDeliver,
    SysEnter,
    SysExit,
)
from minikernel.report.stats import Stats
from tests.minikernel.mm.touch import BASE, WRITE, map_fixed, touch
from tests.minikernel.report.stage import Stage

A = VirtAddr(0x1000)
USER_FAULT = PageFaultUser(A, VirtAddr(0), 6)


def counted(*events: Event, stage: Stage | None = None) -> dict[str, object]:
    """The figures after *events*, as a program would read them."""
    stage = stage or Stage()
    stats = Stats(stage.kernel)
    for event in events:
        stats(0, 7, event)
    shown: dict[str, object] = json.loads(json.dumps(stats.as_json(stage.kernel)))
    assert stats.text(stage.kernel).endswith("\n")
    return shown


def faults(*events: Event) -> dict[str, object]:
    found = counted(*events)["faults"]
    assert isinstance(found, dict)
    return found


def test_minor_and_major_faults_by_kind() -> None:
    found = faults(
        USER_FAULT, MmFaultResolved(A, FaultKind.ANON, Pfn(3)),
        USER_FAULT, MmFaultResolved(A, FaultKind.FILE_READ, Pfn(4), major=True),
        USER_FAULT, MmFaultResolved(A, FaultKind.ANON, Pfn(5)),
    )  # fmt: skip
    assert (found["total"], found["minor"], found["major"], found["user"], found["kernel"]) == (3, 2, 1, 3, 0)
    assert isinstance(found["by_kind"], dict)
    assert (found["by_kind"]["anon"], found["by_kind"]["file_read"], found["by_kind"]["swap_in"]) == (2, 1, 0)


def test_growing_stack_is_one_fault() -> None:
    found = faults(
        USER_FAULT, MmFaultResolved(A, FaultKind.STACK_GROWTH, Pfn(0)), MmFaultResolved(A, FaultKind.ANON, Pfn(3))
    )  # fmt: skip
    assert (found["total"], found["user"], found["kernel"]) == (1, 1, 0)


def test_kernels_own_accesses_are_told_apart() -> None:
    found = faults(MmFaultResolved(A, FaultKind.ANON, Pfn(3)), MmFaultFailed(A, SIGSEGV, 1, "nothing there"))
    assert (found["user"], found["kernel"]) == (0, 2)
    assert found["failed"] == {"EFAULT": 1}


def test_failed_faults_by_what_followed() -> None:
    found = faults(
        USER_FAULT, MmFaultFailed(A, SIGSEGV, 1, ""), USER_FAULT, MmFaultFailed(A, SIGBUS, 2, ""),
        USER_FAULT, MmFaultFailed(A, 0, 0, ""),
    )  # fmt: skip
    assert found["failed"] == {"OOM": 1, "SIGBUS": 1, "SIGSEGV": 1}
    assert found["total"] == 3


def test_system_calls_by_name_with_errors() -> None:
    calls = counted(
        SysEnter("x86-64", 0, ()), SysExit("x86-64", 0, 5), SysEnter("x86-64", 0, ()), SysExit("x86-64", 0, -9),
        SysEnter("i386", 0x9999, ()), SysExit("i386", 0x9999, -38), SysEnter("x86-64", 9, ()),
        SysExit("x86-64", 9, -4999),
    )["system_calls"]  # fmt: skip
    assert calls == {
        "total": 4,
        "errors": 2,
        "by_name": [
            {"abi": "x86-64", "name": "read", "calls": 2, "errors": {"EBADF": 1}},
            {"abi": "i386", "name": "syscall_0x9999", "calls": 1, "errors": {"ENOSYS": 1}},
            {"abi": "x86-64", "name": "mmap", "calls": 1, "errors": {}},
        ],
    }


def test_signals_switches_and_ends() -> None:
    found = counted(
        SignalDeliver(SIGSEGV, 1, VirtAddr(0)), SchedSwitch(1, 2), SchedProcessExec("/x", A), SchedProcessExit(0)
    )
    assert (found["signals"], found["task_switches"], found["execs"], found["exits"]) == ({"SIGSEGV": 1}, 1, 1, 1)


def test_memory_is_measured_at_the_end_of_a_process() -> None:
    stage = Stage()
    map_fixed(stage.mm, BASE, 8)
    for page in range(5):
        touch(stage.mm, BASE + page * 4096, WRITE)
    stats = Stats(stage.kernel)
    stats(0, 7, SchedProcessExit(0))
    stage.machine.destroy(stage.mm)
    stage.fake.task.has_mm = False
    pages = stats.as_json(stage.kernel)["pages"]
    assert isinstance(pages, dict)
    assert (pages["peak_rss"], pages["anonymous"], pages["peak_page_tables"]) == (5, 5, 4)
    assert pages["page_tables"] > 4
    assert pages["in_use"] > 9


def test_run_that_was_cut_short_is_measured_all_the_same() -> None:
    stage = Stage()
    map_fixed(stage.mm, BASE, 1)
    touch(stage.mm, BASE, WRITE)
    pages = counted(stage=stage)["pages"]
    assert isinstance(pages, dict)
    assert pages["peak_rss"] == 1


def test_columns_do_not_depend_on_the_figures() -> None:
    stage = Stage()
    stats = Stats(stage.kernel)
    for _ in range(12345):
        stats(0, 7, SysEnter("x86-64", 0, ()))
    rows = [row for row in stats.text(stage.kernel).splitlines() if row and not row.startswith("--")]
    assert {row[16:18] for row in rows} == {"  "}
    assert "          12,345  read" in rows


def test_keys_are_the_documented_ones() -> None:
    assert list(counted()) == [
        "version", "program", "machine", "instructions", "virtual_ns", "host_ns", "faults", "pages", "reclaim",
        "system_calls", "signals", "task_switches", "execs", "exits",
    ]  # fmt: skip
