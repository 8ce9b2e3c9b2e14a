"""The command line as its users meet it: statuses, one-line errors, and no traceback whatever happens."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minikernel.__main__ import main

TRUE, SH = "/bin/true", "/bin/sh"


def run(*words: str, env: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """``minikernel WORDS`` in a process of its own."""
    command = [sys.executable, "-m", "minikernel", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=env)


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["run"], 125, "no program to run"),
        (["run", "--ram", "1Q", TRUE], 125, "not a size"),
        (["run", "--ram", "1M", TRUE], 125, "RAM must be"),
        (["run", "--ram", "9G", TRUE], 125, "RAM must be"),
        (["run", "--paging", "2level", TRUE], 125, "--paging is for --cpu i386"),
        (["run", "--env", "X", TRUE], 125, "NAME=VALUE"),
        (["run", "--bind", "/tmp", TRUE], 125, "HOST:GUEST"),
        (["run", "--root", "/no/such", TRUE], 125, "/no/such"),
        (["run", "--bind", "/no/such:/x", TRUE], 125, "/no/such"),
        (["run", "--cwd", "/no/such", TRUE], 125, "/no/such"),
        (["run", "--nonsense", TRUE], 125, "--nonsense"),
        (["nonsense"], 125, "nonsense"),
        (["run", "/no/such/program"], 127, "not found"),
        (["run", "no-such-program"], 127, "not found"),
        (["run", "/etc/passwd"], 126, "permission denied"),
        (["run", "/"], 126, "permission denied"),
        (["run", "--cpu", "i386", TRUE], 126, "not executable"),
    ],
)
def test_a_mistake_costs_one_line_and_a_documented_status(words: list[str], status: int, message: str) -> None:
    done = run(*words)

    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("minikernel: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


def test_the_status_is_the_guests() -> None:
    assert run("run", TRUE).returncode == 0
    assert run("run", SH, "-c", "exit 42").returncode == 42
    assert run("run", SH, "-c", "kill -TERM $$").returncode == 128 + signal.SIGTERM


def test_options_behind_the_program_are_the_programs() -> None:
    done = run("run", "/bin/echo", "--stats", "--ram", "-x")

    assert (done.stdout, done.stderr, done.returncode) == ("--stats --ram -x\n", "", 0)


def test_two_dashes_end_our_options() -> None:
    assert run("run", "--", "/bin/echo", "--", "x").stdout == "-- x\n"


def test_the_environment_is_the_hosts_unless_told_otherwise() -> None:
    environment = {**os.environ, "SEEN": "yes"}

    assert "SEEN=yes" in run("run", "env", env=environment).stdout.split("\n")
    cleared = run("run", "--clear-env", "--env", "A=1", "--env", "B=x=y", "/usr/bin/env", env=environment)
    assert cleared.stdout == "A=1\nB=x=y\n"


def test_statistics_can_go_to_a_file(tmp_path: Path) -> None:
    done = run("run", f"--stats={tmp_path}/stats.json", TRUE)

    assert done.stderr == ""
    assert '"instructions"' in (tmp_path / "stats.json").read_text()
    assert run("run", f"--stats={tmp_path}/no/such", TRUE).returncode == 125


def test_a_limit_on_instructions_ends_the_run() -> None:
    done = run("run", "--max-instructions", "1_000_000", SH, "-c", "while :; do :; done")

    assert done.returncode == 125
    assert "1000000 instructions" in done.stderr


def test_a_crash_is_reported_with_where_and_why() -> None:
    done = run("run", SH, "-c", "kill -SEGV $$")

    assert done.returncode == 128 + signal.SIGSEGV
    assert "SIGSEGV" in done.stderr
    assert "Traceback" not in done.stderr


def test_our_own_mistake_is_a_panic_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> int:
        raise AssertionError("do_brk: broken for a test")

    monkeypatch.setattr("minikernel.syscalls.mman.do_brk", broken)

    assert main(["run", TRUE]) == 125

    text = capsys.readouterr().err
    assert text.startswith("minikernel: kernel panic - not syncing: AssertionError: do_brk: broken for a test\n")
    assert "call trace" in text
    assert "Traceback" not in text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_of_the_host_reaches_the_guest(number: int) -> None:
    """Ctrl-C ends a program that computes, and one that handles it is asked."""
    command = [sys.executable, "-m", "minikernel", "run", SH, "-c"]
    script = "trap 'echo caught; exit 7' INT TERM; echo ready; while :; do :; done"
    for text, status, output in (("echo ready; while :; do :; done", 128 + number, ""), (script, 7, "caught\n")):
        with subprocess.Popen([*command, text], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.2)
            process.send_signal(number)

            assert process.stdout.read() == output
            assert process.wait(60) == status


def test_a_program_that_needs_more_memory_than_there_is_is_killed_and_the_user_told() -> None:
    done = run("run", "--ram", "16M", sys.executable, "-S", "-E", "-c", "[bytearray(3 << 20) for _ in range(9)]")

    assert done.returncode == 128 + signal.SIGKILL
    assert "was killed: out of memory (the machine has 16 MiB" in done.stderr


def test_a_closed_standard_stream_stays_closed_for_the_guest() -> None:
    command = f"{sys.executable} -m minikernel run --strace {SH} -c 'echo to stderr >&2 || exit 9' 2>&-"
    done = subprocess.run([SH, "-c", command], capture_output=True, text=True, check=False, timeout=120)

    assert (done.returncode, done.stdout, done.stderr) == (9, "", "")


def test_a_script_without_its_interpreter_names_it(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter -x\n")
    script.chmod(0o755)
    done = run("run", str(script))

    assert done.returncode == 127
    assert done.stderr == f"minikernel: {script}: not found (its interpreter /no/such/interpreter)\n"
    assert run("run", "/no/such").stderr == "minikernel: /no/such: not found\n"
