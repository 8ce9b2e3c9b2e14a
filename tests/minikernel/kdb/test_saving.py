"""A position that was saved is gone on from: to the same end, without the program's file, and with new input."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from minikernel.config import Config, Swap
from tests.minikernel.kdb.conftest import build
from tests.minikernel.kdb.test_travel import Prompt, config
from tests.minikernel.kdb.walks import different

US = [sys.executable, "-m", "minikernel"]


def debug(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*US, "debug", "--batch", *words], input=stdin, capture_output=True, timeout=60, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", "memory"])
def test_a_saved_run_ends_as_the_first_without_its_program(arch: str, kind: str, tmp_path: Path) -> None:
    program = tmp_path / "walk"
    shutil.copy(build(arch, "walk"), program)
    it = Config(
        argv=(bytes(program), kind.encode()), env=(), ram=(6 if kind == "memory" else 16) << 20,
        swap=(Swap(size=16 << 20),) if kind == "memory" else (), slice=20_011,
    )  # fmt: skip
    saved = tmp_path / "saved"
    with Prompt(it) as first:
        first("goto 30000")
        there = first.front.request("state", None)
        assert f"Saved instruction {there['position'][0]:,} " in first(f"save {saved}")
        first("goto 1000000000000")
        end = first.front.request("state", None)
    program.unlink()
    with Prompt(config(arch)) as second:
        assert "=>" in second(f"load {saved}")
        assert different(second.front.request("state", None), there) == {}
        second("rsi 10")
        second("stepi 10")
        second("goto 1000000000000")
        assert different(second.front.request("state", None), end) == {}
        second("goto 1000")
        second("goto 30000")
        assert different(second.front.request("state", None), there) == {}


@pytest.mark.slow
def test_what_was_not_asked_before_is_this_hosts(tmp_path: Path) -> None:
    saved = str(tmp_path / "saved")
    early, late = tmp_path / "early", tmp_path / "late"
    early.write_bytes(b"early\n")
    late.write_bytes(b"not yet\n")
    words = ["-ex", "catch syscall write", "-ex", "continue", "-ex", f"save {saved}"]
    done = debug(*words, "--", "/bin/cat", str(early), "-", str(late))
    assert b"early\n" in done.stdout
    assert (done.returncode, done.stderr) == (0, b"")
    late.write_bytes(b"late\n")
    early.unlink()
    words = ["-ex", "continue", "-ex", "rsi 5", "-ex", "goto -1000", "-ex", "continue"]
    done = debug(*words, "--load", saved, stdin=b"typed\n")
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith((b"=>", b"["))] == [b"typed", b"late"]
    assert (done.stdout.count(b"exited normally"), done.returncode, done.stderr) == (2, 0, b"")


@pytest.mark.slow
def test_what_is_no_saved_position_is_refused_in_one_line(tmp_path: Path) -> None:
    saved, bad = tmp_path / "saved", tmp_path / "bad"
    done = debug("-ex", "goto 2000", "-ex", f"save {saved}", "--", "/bin/true")
    assert done.returncode == 0
    whole = saved.read_bytes()
    newer = bytearray(whole)
    newer[12] += 1
    spoiled = bytearray(whole)
    spoiled[len(whole) // 2] ^= 1
    for contents in (b"", b"text\n", bytes(newer), bytes(spoiled), whole[: len(whole) // 2]):
        bad.write_bytes(contents)
        done = debug("--load", str(bad))
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (125, b"", 1), done.stderr
    trace = tmp_path / "trace"
    subprocess.run([*US, "record", "-o", str(trace), "/bin/true"], check=True, timeout=60)
    assert b"no saved position" in debug("--load", str(trace)).stderr
    assert debug("--load", str(tmp_path / "nothing")).returncode == 125
    done = debug("-ex", f"load {bad}", "-ex", "when", "/bin/true")
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
