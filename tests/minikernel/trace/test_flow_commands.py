"""``record --level``, ``show --level`` and ``stats``, as their users meet them."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from minikernel.__main__ import _LEVELS
from minikernel.trace.codec import TraceError
from minikernel.trace.trace import Trace
from tests.minikernel.trace.flows import guest_program
from tests.minikernel.trace.test_commands import run

RECORDED_LEVELS = [level for level in _LEVELS if level != "events"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flow") / "t"
    program = str(guest_program("process/fork_cow", "i386"))
    done = run("record", "--level", "instructions", "-o", str(path), "--", program)
    assert (done.returncode, done.stderr) == (0, b"")
    return path


def test_show_puts_instructions_between_the_events_they_belong_to(recorded: Path) -> None:
    lines = run("show", "--level", "instructions", str(recorded)).stdout.decode().splitlines()

    counts = [int(line.split()[0]) for line in lines]
    assert counts == sorted(counts)
    calls = [at for at, line in enumerate(lines) if " sys_enter write(" in line]
    assert calls
    for at in calls:
        assert lines[at - 1].endswith(" sysenter")
        assert int(lines[at - 1].split()[0]) + 1 == int(lines[at].split()[0])
    events = run("show", str(recorded)).stdout.decode().splitlines()
    assert [line for line in lines if not line.split()[2].startswith("0x")] == events


def test_show_finds_a_function_and_a_stretch(recorded: Path) -> None:
    lines = run("show", "--level", "instructions", "--symbol", "main", str(recorded)).stdout.decode().splitlines()
    code = [line.split() for line in lines if line.split()[2].startswith("0x")]
    assert {words[3].partition("+")[0] for words in code} == {"main"}

    first = int(code[0][0])
    lines = run(
        "show", "--level", "blocks", "--from", str(first), "--to", str(first + 50), "--pid", "2", str(recorded)
    ).stdout.decode().splitlines()  # fmt: skip
    blocks = [line.split() for line in lines if line.split()[2].startswith("0x")]
    assert blocks[0][3].startswith("main")
    assert all(int(words[0]) <= first + 50 for words in blocks)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--level", "instructions", "--symbol", "nosuch"], b"no mapped file has the symbol nosuch"),
        (["--symbol", "main"], b"--symbol is for --level blocks and instructions"),
        (["--level", "blocks", "--address", "5-4"], b"'5-4' is not an address or two"),
    ],
)
def test_show_refuses_in_one_line(recorded: Path, words: list[str], why: bytes) -> None:
    done = run("show", *words, str(recorded))
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (125, b"", 1)
    assert why in done.stderr


def test_a_trace_of_events_has_no_blocks_to_show(tmp_path: Path) -> None:
    run("record", "-o", str(tmp_path / "t"), "/bin/true")
    done = run("show", "--level", "blocks", str(tmp_path / "t"))
    assert done.returncode == 125
    assert b"its level is events: it has no blocks" in done.stderr


def test_stats_ranks_blocks_functions_pages_and_mnemonics(recorded: Path) -> None:
    lines = run("stats", str(recorded)).stdout.decode().splitlines()
    with Trace(str(recorded)) as trace:
        assert trace.notes is not None
        total = trace.notes["icount"]
    rows = {
        title: [line.split() for line in lines if line.split()[0] == title] for title in ("function", "code", "mix")
    }
    for title, found in rows.items():
        counts = [int(words[1]) for words in found]
        assert counts == sorted(counts, reverse=True), title
        assert 0 < sum(counts) <= total
    assert any(words[-1] == "mov" for words in rows["mix"])
    assert any(words[-1] == "memset" or "mem" in words[-1] for words in rows["function"])


def test_stats_tell_how_pages_were_used(tmp_path: Path) -> None:
    """Pages of code and of data: each touch is counted once in every table."""
    path = str(tmp_path / "t")
    run("record", "--level", "memory", "-o", path, str(guest_program("start/hello", "x86-64")))
    lines = [line.split() for line in run("stats", path).stdout.decode().splitlines()]
    with Trace(path) as trace:
        expected = {"code": trace.flows.nr_blocks, "data": trace.flows.nr_accesses}
        loads = sum(int((~batch.store).sum()) for batch in trace.accesses())
    (counted,) = [words for words in lines if words[0] == "accesses"]
    assert (int(counted[1]), int(counted[6])) == (loads, expected["data"] - loads)
    for what, touches in expected.items():
        hot = [int(words[1]) for words in lines if words[0] == what]
        assert hot == sorted(hot, reverse=True)
        assert 0 < sum(hot) <= touches
        (at,) = [n for n, words in enumerate(lines) if words[0] == "reuse" and f"{what}:" in words]
        first = int(lines[at][-2])
        distances = 0
        for words in lines[at + 1 :]:
            if not words[0].isdigit():
                break
            distances += int(words[0])
        assert first + distances == touches


@pytest.mark.parametrize("level", RECORDED_LEVELS)
def test_a_traced_run_verifies(tmp_path: Path, level: str) -> None:
    program = str(guest_program("thread/signals", "x86-64"))
    run("record", "--level", level, "-o", str(tmp_path / "t"), program)
    assert run("verify", str(tmp_path / "t")).stdout.startswith(b"the same: ")


def test_a_selection_of_events_is_not_verified(tmp_path: Path) -> None:
    run("record", "--event", "sys_enter", "-o", str(tmp_path / "t"), "/bin/true")
    done = run("verify", str(tmp_path / "t"))
    assert done.returncode == 125
    assert b"only some events were recorded" in done.stderr


def has_blocks(path: Path) -> bool:
    """Whether a recorder has written several chunks of them."""
    try:
        with Trace(str(path)) as trace:
            return trace.flows.nr_blocks > 100_000
    except TraceError:
        return False


@pytest.mark.parametrize("level", RECORDED_LEVELS)
def test_a_recorder_that_is_killed_leaves_what_it_wrote(tmp_path: Path, level: str) -> None:
    path = tmp_path / "t"
    words = ["record", "--level", level, "-o", str(path), "/bin/sh", "-c", "while :; do i=$((i+1)); done"]
    with subprocess.Popen(
        [sys.executable, "-m", "minikernel", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        deadline = time.monotonic() + 60
        while not has_blocks(path):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    done = run("stats", str(path))
    assert (done.returncode, done.stderr) == (0, b""), done.stderr
    with Trace(str(path)) as trace:
        assert not trace.complete
        last = 0
        for batch in trace.blocks():
            assert int(batch.icount[0]) == last
            last = int(batch.icount[-1] + batch.retired[-1])
        assert last > 100_000


def test_each_level_becomes_a_table(tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    run("record", "--level", "memory", "-o", path, str(guest_program("start/hello", "i386")))
    with Trace(path) as trace:
        batches = {"blocks": trace.blocks, "instructions": trace.instructions, "memory": trace.accesses}
        for level, read in batches.items():
            target = tmp_path / level
            done = run("export", "--format", "parquet", "--level", level, "-o", str(target), path)
            assert (done.returncode, done.stderr) == (0, b"")
            table = pq.read_table(target)
            rows = list(read())
            for name in set(table.column_names):
                assert table[name].to_pylist() == [value for batch in rows for value in getattr(batch, name).tolist()]
            assert {"icount", "pid", "address", "size"} <= set(table.column_names)


def test_a_level_that_was_not_recorded_is_no_table(tmp_path: Path) -> None:
    run("record", "--level", "blocks", "-o", str(tmp_path / "t"), "/bin/true")
    target = tmp_path / "table"
    done = run("export", "--format", "parquet", "--level", "memory", "-o", str(target), str(tmp_path / "t"))
    assert (done.returncode, done.stderr.count(b"\n")) == (125, 1)
    assert b"its level is blocks: it has no accesses" in done.stderr
    assert not target.exists()
