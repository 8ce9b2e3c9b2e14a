"""What a trace shows, counts and exports."""

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from minikernel.events import FaultKind, MmFaultResolved, SchedProcessExec, SchedSwitch, SysEnter, SysExit
from minikernel.testing import Guest
from minikernel.trace.codec import Told
from minikernel.trace.export import chrome_json
from minikernel.trace.locality import locality
from minikernel.trace.parquet import field_kinds, stored_value, write_parquet
from minikernel.trace.trace import Trace
from tests.minikernel.trace.test_verify import SH, record, run

PAGE = 4096


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shell with a child and a pipe."""
    script = "read x; echo $x | cat >/dev/null; (kill -TERM $$); :"
    return record(tmp_path_factory.mktemp("trace") / "t", "--clear-env", SH, "-c", script, stdin=b"in\n")


def fault(icount: int, page: int) -> Told:
    return icount, 2, MmFaultResolved(page * PAGE, FaultKind.ANON, 7)  # type: ignore[arg-type]  # plain numbers do


def test_reuse_distances_count_the_pages_in_between() -> None:
    """1 2 3 1: two others since the last 1; then 1 again at once, and 3 after one other."""
    found = locality([fault(number, page) for number, page in enumerate([1, 2, 3, 1, 1, 3])], 5)

    assert found.first == 3
    assert found.reuse == {0: 1, 1: 1, 2: 1}
    assert found.hot[0] == ((2, PAGE), 3)
    assert sum(nr for _, nr, _ in found.working_set) == 6


def test_the_working_set_is_counted_in_windows() -> None:
    found = locality([fault(0, 1), fault(5, 1), fault(99, 2)], 99)

    assert len(found.working_set) == 10
    assert found.working_set[0] == (0, 2, 1)
    assert found.working_set[9] == (90, 1, 1)


def test_stats_show_where_the_faults_are(recorded: Path) -> None:
    lines = run("stats", str(recorded)).stdout.decode().splitlines()
    kinds = {line.split()[0] for line in lines}

    assert {"page", "window", "reuse", "fault", "event", "call", "signal"} <= kinds
    faults = sum(int(line.split()[1]) for line in lines if line.startswith("fault "))
    assert faults == sum(int(line.split()[1]) for line in lines if line.startswith("window "))
    assert faults == sum(int(line.split()[1]) for line in lines if line.startswith("reuse "))


def test_show_filters_by_address(recorded: Path) -> None:
    lines = run("show", str(recorded), "--event", "mm_fault_resolved").stdout.decode().splitlines()
    address = int(lines[3].split("address=")[1].split()[0], 16)
    done = run("show", str(recorded), "--address", f"{address:#x}")
    assert f"address={address:#x}" in done.stdout.decode()
    low, high = address & -PAGE, address | PAGE - 1
    page = run("show", str(recorded), "--address", f"{low:#x}-{high:#x}").stdout.decode().splitlines()

    assert set(done.stdout.decode().splitlines()) <= set(page)
    assert len(page) < len(run("show", str(recorded)).stdout.decode().splitlines())
    assert run("show", "--address", "here", str(recorded)).returncode == 125


def test_the_strace_form_is_the_one_of_a_run_but_for_memory(recorded: Path, tmp_path: Path) -> None:
    shown = run("show", "--strace", str(recorded)).stdout.decode()
    assert "exit_group(" in shown
    assert "--- SIGTERM" in shown
    trace = record(tmp_path / "t", "--clear-env", "/bin/true")
    direct = run("run", "--strace", "--clear-env", "/bin/true").stderr.decode().splitlines()
    again = run("export", "--format", "strace", str(trace)).stdout.decode().splitlines()

    assert [line.partition("(")[0] for line in again] == [line.partition("(")[0] for line in direct]
    results = [[line.rpartition(" = ")[2] for line in lines if " = " in line] for lines in (again, direct)]
    assert results[0] == results[1]


def test_a_growing_trace_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "t"
    script = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); (exit 3); done; read x"
    with subprocess.Popen(
        [sys.executable, "-m", "minikernel", "record", "-o", str(path), SH, "-c", script], stdin=subprocess.PIPE
    ) as child:
        deadline = time.monotonic() + 60
        while not path.exists() or path.stat().st_size < 5_000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        command = [sys.executable, "-m", "minikernel", "show", "--follow", "--event", "sched_process_exit", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as follower:
            assert follower.stdout is not None
            first = follower.stdout.readline()
            assert b"sched_process_exit code=768" in first
            assert child.stdin is not None
            child.stdin.close()
            lines = [first, *follower.stdout]
        assert follower.returncode == 0
    assert len(lines) == 61


def test_chromes_json_has_slices_instants_and_counters(recorded: Path) -> None:
    done = run("export", "--format", "chrome", str(recorded))
    items = json.loads(done.stdout)["traceEvents"]
    phases = {item["ph"] for item in items}
    assert phases == {"M", "X", "i", "C"}
    calls = [item for item in items if item["ph"] == "X" and item["cat"] == "syscall"]
    assert {"read", "write", "dup2", "exit_group"} <= {call["name"] for call in calls}
    assert all(item["dur"] >= 0 for item in items if item["ph"] == "X")
    names = {item["args"]["name"] for item in items if item["ph"] == "M" and item["name"] == "process_name"}
    assert {"the machine", "sh", "cat"} <= names


def test_threads_are_shown_in_their_process() -> None:
    clone = SysEnter("x86-64", 56, (0x10F00, 0, 0, 0, 0, 0))
    from minikernel.events import SchedProcessFork

    told: list[Told] = [
        (0, 2, SchedProcessExec("/bin/x", 5)),  # type: ignore[arg-type]  # as above
        (10, 2, clone),
        (11, 2, SchedProcessFork(2, 3)),
        (11, 2, SysExit("x86-64", 56, 3)),
        (12, 2, SchedSwitch(2, 3)),
        (15, 3, SysEnter("x86-64", 39, (0,) * 6)),
    ]
    items = json.loads("".join(chrome_json(told, "/bin/x")))["traceEvents"]

    getpid = [item for item in items if item["ph"] == "X" and item["name"] == "getpid"]
    assert [(item["pid"], item["tid"], item["ts"]) for item in getpid] == [(2, 3, 0.015)]


def test_a_parquet_table_has_a_row_for_each_event(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minikernel.trace.parquet.GROUP", 500)
    with Trace(str(recorded)) as trace:
        told = list(trace.events())
        assert write_parquet(iter(told), str(tmp_path / "t.parquet")) == len(told)
    table = pq.read_table(tmp_path / "t.parquet")

    assert table.num_rows == len(told)
    assert pq.ParquetFile(tmp_path / "t.parquet").num_row_groups == -(-len(told) // 500)
    assert table["icount"].to_pylist() == [one[0] for one in told]
    assert table["event"].to_pylist() == [one[2].name for one in told]
    rows, kinds = table.to_pylist(), field_kinds()
    for row, (_, _, event) in zip(rows, told, strict=True):
        for name in event.__struct_fields__:
            value = getattr(event, name)
            assert row[name] == stored_value(value, kinds[name])
            if type(value) is int:
                assert row[name] % (1 << 64) == value % (1 << 64)
    done = run("export", "--format", "parquet", "-o", str(tmp_path / "u.parquet"), str(recorded))
    assert (done.returncode, done.stderr) == (0, b"")
    assert pq.read_table(tmp_path / "u.parquet").num_rows == len(told)


def test_drcov_lists_each_block_once_with_its_module(tmp_path: Path, guest: Guest) -> None:
    program = guest.compile("int main(void) { return 3; }")
    path = tmp_path / "t"
    assert run("record", "-o", str(path), "--level", "blocks", "--", str(program)).returncode == 3
    done = run("export", "--format", "drcov", str(path))
    assert (done.returncode, done.stderr) == (0, b"")
    text, _, data = done.stdout.partition(b" bbs\n")
    lines = text.decode().splitlines()
    assert lines[:2] == ["DRCOV VERSION: 2", "DRCOV FLAVOR: drcov"]
    modules = [line.split(", ") for line in lines[4:-1]]
    assert [module[4] for module in modules] == [str(program)]
    base, end = int(modules[0][1], 16), int(modules[0][2], 16)
    assert (base, int(lines[-1].split()[-1])) == (0x400000, len(data) // 8)
    blocks = list(struct.iter_unpack("<IHH", data))
    assert len(set(blocks)) == len(blocks)
    assert all(number == 0 and base + offset + size <= end for offset, size, number in blocks)
    with Trace(str(path)) as trace:
        ran = {(int(a), int(s)) for batch in trace.blocks() for a, s in zip(batch.address, batch.size, strict=True)}
    in_file = {(base + offset, size) for offset, size, _ in blocks}
    assert in_file == {(address, size) for address, size in ran if base <= address < end}
    refused = run("export", "--format", "drcov", str(record(tmp_path / "u", "/bin/true")))
    assert (refused.returncode, refused.stderr.count(b"\n")) == (125, 1)


@pytest.mark.parametrize(
    "words",
    [["--format", "parquet"], ["--format", "chrome", "-o", "/no/such/x"], ["--format", "strace", "-o", "/dev/full"]],
)
def test_what_cannot_be_written_costs_one_line(recorded: Path, words: list[str]) -> None:
    done = run("export", *words, str(recorded))

    assert done.returncode == 125
    assert done.stderr.startswith(b"minikernel: ")
    assert done.stderr.count(b"\n") == 1
