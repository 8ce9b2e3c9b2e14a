"""gcore: gdb sees the program where the debugger has stopped it, and the program goes on."""

import subprocess
import sys
from pathlib import Path

from guest.builder import ROOT


def test_gdb_opens_what_gcore_saves(story: Path, tmp_path: Path) -> None:
    core = tmp_path / "core file"
    commands = ["break leaf", "run", f"gcore {core}", "print $pc", "stepi", "kill", f"gcore {core}"]
    words = [word for line in commands for word in ("-ex", line)]
    command = [sys.executable, "-m", "minikernel", "debug", "--batch", *words, "--", str(story)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert f"Saved corefile {core}\n" in done.stdout
    assert "=> " in done.stdout.partition("Saved")[2], "it goes on"
    assert done.stdout.endswith("The program is not being run.\n")
    gdb = ["gdb", "-q", "-nx", "-batch", "-ex", "bt", "-ex", "print/x $pc", str(story), str(core)]
    text = subprocess.run(gdb, capture_output=True, text=True, check=True).stdout
    assert "leaf (n=" in text
    assert "in main (argc=1" in text
    [pc] = [line.partition(" = ")[2] for line in text.splitlines() if line.startswith("$1")]
    assert pc in done.stdout


def test_a_file_that_cannot_be_written_is_one_line(story: Path, tmp_path: Path) -> None:
    words = ["-ex", f"gcore {tmp_path}/not/there"]
    command = [sys.executable, "-m", "minikernel", "debug", "--batch", *words, "--", str(story)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 1
    assert done.stdout == f"{tmp_path}/not/there: No such file or directory.\n"
