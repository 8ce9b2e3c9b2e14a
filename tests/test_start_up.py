"""What a plain run imports: the 0.1 s of a hello are Python's, so nothing heavy may creep in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from guest.builder import ROOT, build_all, programs, targets

HEAVY = {
    *("asyncio", "capstone", "concurrent", "email", "elftools", "logging", "numpy", "rich", "unicorn", "unittest"),
    *("random", "shutil", "tempfile", "zlib"),
}


@pytest.fixture(scope="module")
def hello() -> Path:
    """The smallest static program."""
    (target,) = [t for t in targets(programs(["start"]), ["x86-64"]) if t.id == "x86-64/start/hello"]
    build_all([target])
    return target.path


def test_a_plain_run_imports_nothing_heavy(hello: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "minikernel", "run", str(hello)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "hello, world\n"
    # import time:  self [us] | cumulative | imported package
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert not imported & HEAVY
