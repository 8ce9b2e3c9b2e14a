"""A recorded run is shown again from its trace: the same output, from a host that is not asked."""

import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.minikernel.trace.test_verify import SH, record, run

HERE = Path(__file__).parents[3]
PYTHON = [sys.executable, "-m", "minikernel"]


def replayed(trace: Path, status: int, output: bytes) -> None:
    """The trace is replayed, and verified, as it was."""
    for words in (["replay"], ["replay", "--verify"]):
        done = run(*words, str(trace))
        assert (done.returncode, done.stderr) == (status, b"")
        assert done.stdout == output
    done = run("verify", str(trace))
    assert (done.returncode, done.stderr) == (0, b""), done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small root of the guest's own, with a shell."""
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    for program in ("/bin/sh", "/bin/cat", "/bin/ls"):
        done = subprocess.run(["ldd", program], capture_output=True, text=True, check=True)
        for name in (program, *re.findall(r"(/\S+) \(0x", done.stdout)):
            target = root / name[1:]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, target)
    (root / "data/one").write_bytes(b"first\n" * 3)
    (root / "data/two").write_bytes(b"first\n" * 3)
    (root / "data/link").symlink_to("one")
    return root


def test_a_packed_trace_needs_nothing_of_the_host(tmp_path: Path, tree: Path) -> None:
    script = "cat /data/link /data/two /mnt/file; ls -l /data; ls /mnt /nowhere; read x; echo $x; exit 7"
    (tmp_path / "bound").mkdir()
    (tmp_path / "bound/file").write_bytes(b"through the door\n")
    words = ["--pack", "--root", str(tree), "--bind", f"{tmp_path}/bound:/mnt", "--", "/bin/sh", "-c", script]
    trace = tmp_path / "t"
    done = run("record", "-o", str(trace), *words, stdin=b"typed\n")
    assert b"first\n" * 6 + b"through the door\n" in done.stdout
    assert done.returncode == 7
    shutil.rmtree(tree)
    shutil.rmtree(tmp_path / "bound")
    again = run("replay", str(trace))

    assert (again.returncode, again.stdout, again.stderr) == (7, done.stdout, done.stderr)
    assert run("verify", str(trace)).stdout.startswith(b"the same: ")


def test_no_file_of_the_guests_is_opened(tmp_path: Path, tree: Path) -> None:
    """Python's audit hook is the witness: every open, listing and link of this process passes it."""
    trace = record(tmp_path / "t", "--pack", "--root", str(tree), "--", "/bin/sh", "-c", "cat /data/one /data/two")
    spy = (
        "import sys; seen = []\n"
        "sys.addaudithook(lambda name, args: seen.append(repr(args)) if name.startswith(('open', 'os.')) else None)\n"
        "from minikernel.__main__ import main\n"
        f"status = main(['replay', {str(trace)!r}])\n"
        f"assert status == 0 and seen and not any({str(tree)!r} in args for args in seen), seen\n"
    )
    done = subprocess.run([sys.executable, "-c", spy], capture_output=True, check=False, timeout=120)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"first\n" * 6, b"")


def test_without_the_files_it_says_what_is_missing(tmp_path: Path, tree: Path) -> None:
    trace = record(tmp_path / "t", "--root", str(tree), "--", "/bin/sh", "-c", "cat /data/one /data/two")
    assert run("replay", str(trace)).stdout == b"first\n" * 6
    (tree / "data/one").write_bytes(b"other\n")
    (tree / "data/two").unlink()
    done = run("replay", str(trace))

    assert (done.returncode, done.stdout) == (125, b"")
    assert done.stderr.count(b"\n") == 1
    assert f"{tree}/data/one (not the file it was), {tree}/data/two (no such file or directory)".encode() in done.stderr


def test_other_times_and_neighbours_do_not_matter_to_a_replay(tmp_path: Path, tree: Path) -> None:
    trace = tmp_path / "t"
    done = run("record", "-o", str(trace), "--root", str(tree), "--", "/bin/sh", "-c", "ls -l /data; cat /data/one")
    (tree / "data/three").touch()
    os.utime(tree / "data/one", (1, 1))

    assert run("replay", str(trace)).stdout == done.stdout
    assert run("verify", str(trace)).returncode == 1


def test_diff_says_what_the_host_had_changed(tmp_path: Path, tree: Path) -> None:
    words = ["--root", str(tree), "--", "/bin/sh", "-c", "ls -l /data; cat /data/one"]
    first = record(tmp_path / "1", *words)
    (tree / "data/one").write_bytes(b"other\n")
    second = record(tmp_path / "2", *words)
    text = run("diff", str(first), str(second)).stdout.decode()

    assert re.search(r"note: the host's /data/one: .*st_size 18 and 6.*st_mtime_ns", text)
    assert "note: the host's /data/one: other contents, 18 and 6 bytes" in text


def test_the_same_bytes_are_stored_once(tmp_path: Path, tree: Path) -> None:
    noise = os.urandom(300_000)
    for name in "abcde":
        (tree / "data" / name).write_bytes(noise)
    once = record(tmp_path / "1", "--pack", "--root", str(tree), "--", "/bin/sh", "-c", "cat /data/a >/dev/null")
    five = record(tmp_path / "5", "--pack", "--root", str(tree), "--", "/bin/sh", "-c", "cat /data/[a-e] >/dev/null")

    assert five.stat().st_size - once.stat().st_size < 100_000


def test_a_file_as_standard_input_is_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("one\ntwo\nthree\n")
    trace = tmp_path / "t"
    with (tmp_path / "in").open("rb") as stdin:
        command = [*PYTHON, "record", "--pack", "-o", str(trace), SH, "-c", "read x; cat; stat -Lc %s /dev/stdin"]
        done = subprocess.run(command, stdin=stdin, capture_output=True, check=False, timeout=120)
    assert done.stdout == b"two\nthree\n14\n"
    (tmp_path / "in").unlink()

    replayed(trace, 0, done.stdout)


def test_a_file_as_standard_output_has_its_size(tmp_path: Path) -> None:
    trace = tmp_path / "t"
    script = "echo 12345; stat -Lc '%s %F' /dev/fd/3 3>&1 >&2"
    with (tmp_path / "out").open("wb") as stdout:
        command = [*PYTHON, "record", "-o", str(trace), SH, "-c", script]
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=120)
    assert done.stderr == b"6 regular file\n"
    again = run("replay", "--verify", str(trace))

    assert (again.returncode, again.stdout, again.stderr) == (0, b"12345\n", done.stderr)


def test_input_that_came_late_comes_late_again(tmp_path: Path) -> None:
    """Another process runs while the first waits for its input: when it is woken is written down."""
    trace = tmp_path / "t"
    script = "(i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo looped) & while read x; do echo got $x; done; wait"
    ours, theirs = socket.socketpair()
    with subprocess.Popen([*PYTHON, "record", "-o", str(trace), SH, "-c", script], stdin=theirs.fileno(),
                          stdout=subprocess.PIPE) as child:  # fmt: skip
        theirs.close()
        for word in (b"a\n", b"b\n", b"c\n"):
            time.sleep(0.15)
            ours.send(word)
        ours.close()
        assert child.stdout is not None
        output = child.stdout.read()
    assert output.count(b"got") == 3

    replayed(trace, 0, output)


def test_a_slow_reader_of_the_output_is_part_of_it(tmp_path: Path) -> None:
    """The pipe is full now and then: what it took, and when the writer was woken, is written down."""
    trace = tmp_path / "t"
    command = [*PYTHON, "record", "-o", str(trace), SH, "-c", "dd if=/dev/zero bs=50000 count=6 2>/dev/null; echo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        time.sleep(0.8)
        output = child.stdout.read()
    assert output == bytes(300_000) + b"\n"

    replayed(trace, 0, output)


def test_signals_of_the_host_come_again(tmp_path: Path) -> None:
    trace = tmp_path / "t"
    script = "trap 'echo caught; n=$((n+1)); [ $n = 2 ] && exit 9' TERM; echo ready; while :; do (exit 3); done"
    with subprocess.Popen([*PYTHON, "record", "-o", str(trace), SH, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        for _ in range(2):
            time.sleep(0.2)
            child.send_signal(signal.SIGTERM)
            assert child.stdout.readline() == b"caught\n"
    assert child.returncode == 9

    replayed(trace, 9, b"ready\ncaught\ncaught\n")


def test_a_terminal_is_replayed_without_one(tmp_path: Path) -> None:
    trace = tmp_path / "t"
    script = "tty >/dev/null && stty size && stty -echo && read x && stty echo && echo got $x"
    master, slave = pty.openpty()
    seen: list[bytes] = []

    def watch() -> None:
        while True:
            try:
                seen.append(os.read(master, 1000))
            except OSError:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    command = [*PYTHON, "record", "-o", str(trace), SH, "-c", script]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as child:
        os.close(slave)
        while b"0 0" not in b"".join(seen):
            time.sleep(0.02)
        time.sleep(0.1)
        os.write(master, b"hi\n")
    watcher.join(10)
    os.close(master)
    assert child.returncode == 0
    assert b"got hi" in b"".join(seen)

    replayed(trace, 0, b"0 0\ngot hi\n")


def test_a_killed_recording_is_replayed_to_its_end(tmp_path: Path) -> None:
    trace = tmp_path / "t"
    with subprocess.Popen(
        [*PYTHON, "record", "-o", str(trace), SH, "-c", "echo on; while :; do (exit 3); done"], stdout=subprocess.PIPE
    ) as child:
        deadline = time.monotonic() + 60
        while not trace.exists() or trace.stat().st_size < 30_000:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        child.kill()
    done = run("replay", str(trace))

    assert (done.returncode, done.stdout) == (0, b"on\n")
    assert b"its recorder was killed" in done.stderr


def test_another_path_than_the_recorded_one_is_noticed(tmp_path: Path, tree: Path) -> None:
    """A trace whose files were exchanged for others with the same names: the digest at the end tells."""
    trace = record(tmp_path / "t", "--pack", "--root", str(tree), "--", "/bin/sh", "-c", "cat /data/one")
    other = tmp_path / "u"
    (tree / "data/one").write_bytes(b"frist\n" * 3)
    record(other, "--pack", "--root", str(tree), "--", "/bin/sh", "-c", "cat /data/one")
    from minikernel.trace.format import DIGEST, Reader, Writer

    with Reader(str(trace)) as first, Reader(str(other)) as second:
        mixed = Writer(str(tmp_path / "m"), first.header)
        digests = [second.contents(chunk) for chunk in second.of_kind(DIGEST)]
        for chunk in first.chunks[1:]:
            contents = digests.pop(0) if chunk.kind == DIGEST else first.contents(chunk)
            mixed.add(chunk.kind, chunk.icount, chunk.items, contents)
        mixed.finish()
    done = run("replay", str(tmp_path / "m"))

    assert done.returncode == 125
    assert b"the replay went another way than the recorded run: " in done.stderr
    assert b"differs: the contents of RAM" in done.stderr


def test_ctrl_c_ends_a_replay_without_a_word(tmp_path: Path) -> None:
    trace = record(tmp_path / "t", SH, "-c", "echo on; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")
    with subprocess.Popen([*PYTHON, "replay", str(trace)], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == b"on\n"
        child.send_signal(signal.SIGINT)
        assert (child.wait(60), child.stderr.read()) == (130, b"")


def test_a_recorded_run_is_debugged(tmp_path: Path, tree: Path) -> None:
    trace = tmp_path / "t"
    script = "read x; cat /data/one; echo $x; kill -SEGV $$"
    words = ["-o", str(trace), "--pack", "--root", str(tree), "--", "/bin/sh", "-c", script]
    run("record", *words, stdin=b"typed\n")
    shutil.rmtree(tree)
    done = run("debug", "--replay", str(trace), "--batch", "-ex", "catch syscall exit_group", "-ex", "continue",
               "-ex", "info registers rip", "-ex", "delete", "-ex", "continue")  # fmt: skip

    assert done.stderr == b""
    assert b"first\nfirst\nfirst\n" in done.stdout
    assert b"typed\n" in done.stdout
    assert b"SIGSEGV" in done.stdout
    refused = run("debug", "--replay", str(trace), "/bin/true")
    assert (refused.returncode, refused.stderr.count(b"\n")) == (125, 1)


def test_a_trace_of_some_events_is_replayed_and_not_compared(tmp_path: Path) -> None:
    trace = record(tmp_path / "t", "--event", "sched_process_exit", "--", SH, "-c", "(exit 3); echo done; exit 4")
    done = run("replay", str(trace))
    assert (done.returncode, done.stdout, done.stderr) == (4, b"done\n", b"")
    assert run("replay", "--verify", str(trace)).returncode == 125
