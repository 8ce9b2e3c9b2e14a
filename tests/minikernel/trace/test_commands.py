"""The commands that write and read traces, as their users meet them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minikernel.trace.trace import Trace

TRUE, SH = "/bin/true", "/bin/sh"


def run(*words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """``minikernel WORDS`` in a process of its own."""
    command = [sys.executable, "-m", "minikernel", *words]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of a shell with a child and a pipe, which reads its input."""
    path = tmp_path_factory.mktemp("trace") / "t"
    done = run("record", "-o", str(path), "--", SH, "-c", "read x; echo $x | cat; exit 3", stdin=b"in\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"in\n", b"")
    return path


def test_show_prints_one_event_a_line(recorded: Path) -> None:
    done = run("show", str(recorded))

    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    counts = [int(line.split()[0]) for line in lines]
    assert counts == sorted(counts)
    assert any("sched_process_exec filename=/bin/sh" in line for line in lines)
    assert any(" sys_enter read(0x0, " in line for line in lines)
    assert any(" sys_exit exit" not in line and "sys_exit read ret=1 " in line for line in lines)
    assert lines[-1].endswith("sched_process_exit code=768")


def test_show_filters(recorded: Path) -> None:
    lines = run("show", str(recorded)).stdout.decode().splitlines()
    middle = int(lines[len(lines) // 2].split()[0])

    forks = run("show", str(recorded), "--event", "sched_process_fork").stdout.decode().splitlines()
    assert forks == [line for line in lines if line.split()[2] == "sched_process_fork"]
    assert len(forks) == 2
    child = run("show", str(recorded), "--pid", "3", "--pid", "4").stdout.decode().splitlines()
    assert child == [line for line in lines if line.split()[1] in {"3", "4"}]
    early = run("show", str(recorded), "--to", str(middle)).stdout.decode().splitlines()
    late = run("show", str(recorded), "--from", str(middle + 1)).stdout.decode().splitlines()
    assert early
    assert early + late == lines


def test_show_finds_its_place_among_many_chunks(tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    run("record", "-o", path, "--", SH, "-c", "i=0; while [ $i -lt 150 ]; do i=$((i+1)); (exit 3); done")
    with Trace(path) as trace:
        told = list(trace.events())
        assert trace.nr_chunks > 4
        for at in range(0, len(told), 1997):
            start = told[at][0]
            assert list(trace.events(start=start)) == [one for one in told if one[0] >= start]


def test_stats_counts(recorded: Path) -> None:
    done = run("stats", str(recorded))

    assert (done.returncode, done.stderr) == (0, b"")
    text = done.stdout.decode()
    assert "ended         status 3 after" in text
    assert "3 bytes of input" in text
    assert any(line.split() == ["event", "2", "sched_process_fork"] for line in text.splitlines())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["record", "--", TRUE], b"-o"),
        (["record", "-o", "/dev/full", "--", TRUE], b"/dev/full: No space left on device"),
        (["record", "-o", "/no/such/t", "--", TRUE], b"/no/such/t: No such file"),
        (["show", "/no/such"], b"/no/such: No such file"),
        (["show", "/bin/true"], b"/bin/true: byte 0: this is no trace"),
        (["stats", "/dev/null"], b"/dev/null: byte 0: this is no trace"),
        (["show", "--pid", "x", "/no/such"], b"not a positive number"),
    ],
)
def test_a_mistake_costs_one_line(words: list[str], message: bytes) -> None:
    done = run(*words)

    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.startswith(b"minikernel: ")
    assert done.stderr.count(b"\n") == 1
    assert message in done.stderr


def test_a_program_that_is_not_there_leaves_no_trace(tmp_path: Path) -> None:
    done = run("record", "-o", str(tmp_path / "t"), "--", "/no/such")

    assert done.returncode == 127
    assert not (tmp_path / "t").exists()


def test_recording_changes_nothing(tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 20 ]; do i=$((i+1)); (exit 3); done; cat /proc/uptime /proc/self/maps; exit 5"
    plain = run("run", SH, "-c", script)
    traced = run("record", "-o", str(tmp_path / "t"), SH, "-c", script)

    assert traced.returncode == plain.returncode == 5
    assert traced.stdout == plain.stdout
    assert traced.stderr == plain.stderr


@pytest.mark.parametrize("delay", [0.4, 0.7, 1.0])
def test_a_killed_recorder_leaves_a_trace_up_to_its_last_chunk(tmp_path: Path, delay: float) -> None:
    path = tmp_path / "t"
    script = "while :; do (exit 3); done"
    with subprocess.Popen([sys.executable, "-m", "minikernel", "record", "-o", str(path), SH, "-c", script]) as child:
        deadline = time.monotonic() + 60
        while not path.exists() or path.stat().st_size < 20_000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(delay / 4)
        child.send_signal(signal.SIGKILL)
    done = run("show", str(path))

    assert done.returncode == 0
    assert b"the trace has no end" in done.stderr
    assert done.stdout.count(b"\n") >= 1000
    assert b"its recorder was killed" in run("stats", str(path)).stdout


def test_a_disk_that_fills_up_does_not_stop_the_program(tmp_path: Path) -> None:
    """The largest file is 10 KiB: the trace ends there, the program does not."""
    script = "i=0; while [ $i -lt 200 ]; do i=$((i+1)); (exit 3); done; echo done"
    limited = f"ulimit -f 20; exec {sys.executable} -m minikernel record -o {tmp_path}/t {SH} -c '{script}'"
    done = subprocess.run(
        [SH, "-c", f"trap '' XFSZ; {limited}"], capture_output=True, check=False, timeout=120, env=dict(os.environ)
    )

    assert done.stdout == b"done\n"
    assert done.returncode == 125
    assert b"File too large: the trace ends after " in done.stderr
    assert run("show", f"{tmp_path}/t").returncode == 0
