"""A trace's program runs again: the same, or the first difference in words."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRUE, SH = "/bin/true", "/bin/sh"


def run(*words: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """``minikernel WORDS`` in a process of its own."""
    command = [sys.executable, "-m", "minikernel", *words]
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=120)


def record(path: Path, *words: str, stdin: bytes = b"") -> Path:
    """A trace at *path* of what *words* run."""
    run("record", "-o", str(path), *words, stdin=stdin)
    return path


@pytest.mark.parametrize(
    "words",
    [
        [TRUE],
        [SH, "-c", "echo hello; exit 3"],
        [SH, "-c", "cat; read x; echo $x"],
        [SH, "-c", "sleep 5 & wait; (kill -TERM $$); ls /proc/self/fd"],
        ["--seed", "7", "--schedule-seed", "3", SH, "-c", "echo $RANDOM | cat | cat"],
        ["--ram", "16M", "--cwd", "/usr", "--clear-env", "--env", "A=b", SH, "-c", "pwd; kill -SEGV $$"],
    ],
)
def test_the_same_program_runs_the_same(tmp_path: Path, words: list[str]) -> None:
    trace = record(tmp_path / "t", *words, stdin=b"some\ninput\n")
    done = run("verify", str(trace))

    assert (done.returncode, done.stderr) == (0, b""), done.stdout
    assert done.stdout.startswith(b"the same: ")


def test_a_changed_program_is_named_with_the_first_difference(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy("/bin/true", program)
    trace = record(tmp_path / "t", str(program))
    shutil.copy("/bin/false", program)
    done = run("verify", str(trace))

    assert done.returncode == 1
    text = done.stdout.decode()
    assert f"note: {program} is not the file it was (sha256)" in text
    assert "the runs differ at event " in text
    assert "  recorded " in text
    assert "  now " in text


def test_another_branch_is_found_at_its_first_event(tmp_path: Path) -> None:
    """The script is one byte longer: the first event that can tell is the result of reading it."""
    script = tmp_path / "script"
    script.write_text("umask 077; exit 3\n")
    trace = record(tmp_path / "t", SH, str(script))
    script.write_text("umask 077; exit 33\n")
    text = run("verify", str(trace)).stdout.decode()

    assert "differs: ret 18 and 19" in text
    assert "  doing:   sh at 0x" in text
    assert "libc" in text


def test_other_bytes_in_memory_are_found_by_the_digest(tmp_path: Path) -> None:
    """A comment changes nothing that an event tells: but the page cache and the shell's buffer hold it."""
    script = tmp_path / "script"
    script.write_text("exit 3 # one\n")
    before = script.stat()
    trace = record(tmp_path / "t", SH, str(script))
    script.write_text("exit 3 # two\n")
    os.utime(script, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = run("verify", str(trace))

    assert done.returncode == 1
    assert b"the runs differ after event " in done.stdout
    assert b"differs: the contents of RAM" in done.stdout
    assert f"note: {script} is not the file it was".encode() in done.stdout


def test_a_trace_of_a_killed_recorder_is_verified_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "t"
    words = ["record", "-o", str(path), SH, "-c", "while :; do (exit 3); done"]
    with subprocess.Popen(
        [sys.executable, "-m", "minikernel", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        deadline = time.monotonic() + 60
        while not path.exists() or path.stat().st_size < 30_000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    done = run("verify", str(path))

    assert done.returncode == 0, done.stdout
    assert b"the trace has no end" in done.stderr
    assert b"the same: " in done.stdout


def test_a_run_that_was_timed_out_is_the_same_up_to_there(tmp_path: Path) -> None:
    trace = record(tmp_path / "t", "--timeout", "0.5", SH, "-c", "while :; do (exit 3); done")
    done = run("verify", str(trace))

    assert (done.returncode, done.stderr) == (0, b""), done.stdout


def test_what_cannot_run_again_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy("/bin/true", program)
    trace = record(tmp_path / "t", str(program))
    program.unlink()
    done = run("verify", str(trace))

    assert (done.returncode, done.stdout) == (125, b"")
    assert b"cannot be run again" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_trace_does_not_open_a_door_to_the_host(tmp_path: Path) -> None:
    trace = record(tmp_path / "t", "--bind", f"{tmp_path}:/mnt:rw", TRUE)
    done = run("verify", str(trace))

    assert (done.returncode, done.stdout) == (125, b"")
    assert f"could write to the host's {tmp_path}".encode() in done.stderr


def test_a_damaged_trace_is_refused(tmp_path: Path) -> None:
    trace = record(tmp_path / "t", TRUE)
    data = bytearray(trace.read_bytes())
    data[len(data) // 2] ^= 1
    trace.write_bytes(data)
    done = run("verify", str(trace))

    assert done.returncode == 125
    assert done.stderr.startswith(f"minikernel: {trace}: byte ".encode())


def test_diff_names_the_first_difference_and_counts(tmp_path: Path) -> None:
    first = record(tmp_path / "a", "--clear-env", SH, "-c", "exit 3")
    second = record(tmp_path / "b", "--clear-env", SH, "-c", "exit 4")
    same = run("diff", str(first), str(first))
    other = run("diff", str(first), str(second))

    assert (same.returncode, same.stdout.startswith(b"the same: ")) == (0, True)
    assert other.returncode == 1
    assert b"differs: args[0] 3 and 4" in other.stdout
    assert b"events in common; " in other.stdout
    assert run("diff", str(first), "/no/such").returncode == 125


def test_two_recordings_have_the_same_digests(tmp_path: Path) -> None:
    words = ["--seed", "3", SH, "-c", "read x; echo $x | cat; ls -l /proc/self/fd; stat -L /dev/stdin"]
    traces = [record(tmp_path / name, *words, stdin=b"in\n") for name in "ab"]
    done = run("diff", *map(str, traces))

    assert (done.returncode, done.stdout.startswith(b"the same: ")) == (0, True), done.stdout


def test_the_hosts_clock_is_part_of_the_trace(tmp_path: Path) -> None:
    trace = record(tmp_path / "t", "--clock", "host", SH, "-c", "date +%N; sleep 0.05; date +%N")

    assert b"clock         the host" in run("stats", str(trace)).stdout
    done = run("verify", str(trace))
    assert (done.returncode, done.stdout.startswith(b"the same: ")) == (0, True), done.stdout
