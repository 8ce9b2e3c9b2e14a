"""Debian's own gdb drives programs on our machine."""

import re
from pathlib import Path

import pytest

from tests.minikernel.gdb.conftest import HAVE_GDB, build, gdb, lines_with, program_output, run_gdb

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAVE_GDB, reason="gdb is not installed"),
]
SOURCE = Path(__file__).with_name("story.c").read_text(encoding="ascii").splitlines()


def line_of(text: str) -> int:
    """The line of story.c that contains *text*."""
    return next(number for number, line in enumerate(SOURCE, 1) if text in line)


@pytest.mark.parametrize("kind", ["static", "dynamic", "pie"])
def test_from_a_breakpoint_to_the_exit_status(arch: str, kind: str) -> None:
    said = gdb(build(arch, "story", kind), "break leaf", "continue", "print n", "up", "print what", "continue")

    assert "Breakpoint 1, leaf (n=2) at " in said
    assert "$1 = 2\n" in said
    assert '"library"' in lines_with(said, "$2 =")[0]
    assert "exited with code 02" in said
    assert program_output().endswith("library: counter 2, guarded 12\n")


def test_next_steps_over_a_call_through_the_plt(arch: str) -> None:
    first = line_of("strcpy(text, what)")
    said = gdb(
        build(arch, "story", "pie"), f"break {first}", "continue", "info sharedlibrary", "next", "print text", "next",
        "print half", "print third", "print half = 2.25", "next", "step", "backtrace", "set var n = 40", "continue",
    )  # fmt: skip

    assert len(lines_with(said, "  Yes")) == 2  # ld.so and libc
    assert "$1 = \"library\", '\\000' <repeats 24 times>" in said
    assert re.findall(r"\$[234] = [\d.]+", said) == ["$2 = 1.5", "$3 = 3", "$4 = 2.25"]
    assert re.search(r"#1 .* main \(argc=1", said)
    assert "exited with code 050" in said


def test_the_numbers_that_gdb_sees_are_those_of_a_native_run(arch: str) -> None:
    """The oracle: the same commands on the same binary under gdb's own Linux."""
    program = build(arch, "story")
    orig = "rax" if arch == "x86-64" else "eax"
    shown = (
        "p $pc", "p $fp - $sp", "p $cs", "p $ss", "p $st0", "p $st7", "p $fctrl", "p $ftag", "p $mxcsr",
        "info line", "p third", "p half", "p $_siginfo.si_signo", f"p/x $orig_{orig}",
        "p/x $_siginfo.si_code",
    )  # fmt: skip
    commands = (f"break {line_of('guarded = (int)strlen')}", "%s", *shown, "break leaf", "continue", "finish")
    ours = gdb(program, *(command.replace("%s", "continue") for command in commands))
    native = run_gdb(f"file {program}", *(command.replace("%s", "run") for command in commands))

    pattern = re.compile(r"\$\d+ = |Line |Value returned")
    wanted = [line for line in native.splitlines() if pattern.match(line)]
    assert len(wanted) == len(shown) + 1
    assert [line for line in ours.splitlines() if pattern.match(line)] == wanted


def test_threads(arch: str) -> None:
    said = gdb(
        build(arch, "story", "dynamic"), "break leaf", "continue", "backtrace", "info threads", "print own",
        "thread 1", "backtrace", "print own", "delete", "print leaf(100)", "continue", arguments=("threads",),
    )  # fmt: skip

    assert re.search(r"Thread 2 .* hit Breakpoint 1, leaf \(n=1\)", said)
    assert re.search(r"#1 .* in work \(argument=0x1\)", said)
    assert len(re.findall(r"Thread 2\.[234] ", said.partition("Id ")[2].partition("[Switching")[0])) == 3
    assert re.search(r"#\d+ .* in with_threads \(\)", said)
    assert re.findall(r"\$[12] = \d+", said) == ["$1 = 10", "$2 = 3"]
    assert "$3 = 100" in said  # called while its thread slept in a system call, which goes on afterwards
    assert "exited with code 0155" in said


def test_watchpoints(arch: str) -> None:
    said = gdb(build(arch, "story"), "watch guarded", "rwatch half", "continue", "continue", "delete", "continue")

    assert re.search(r"Hardware read watchpoint 2: half\n\nValue = 0.5", said)
    assert re.search(r"Hardware watchpoint 1: guarded\n\nOld value = 5\nNew value = 12", said)
    assert "exited with code 02" in said


def test_following_the_child_and_the_parent(arch: str) -> None:
    program = build(arch, "story")
    child = gdb(program, "set follow-fork-mode child", "break in_child", "continue", "print counter", "continue",
                arguments=("fork",))  # fmt: skip
    parent = gdb(
        program, "catch fork", "continue", "break leaf", "continue", "print n", "continue", arguments=("fork",)
    )

    assert re.search(r"hit Breakpoint 1, in_child \(\)", child)
    assert re.search(r"\[Inferior 2 \(process 3\) exited with code 07\]", child)
    assert "Catchpoint 1 (forked process 3)" in parent
    assert "[Detaching after fork from child process 3]" in parent
    assert "$1 = 7" in parent
    assert "[Inferior 1 (process 2) exited with code 07]" in parent


def test_both_processes_at_once(arch: str) -> None:
    said = gdb(
        build(arch, "story"), "set detach-on-fork off", "catch fork", "continue", "stepi", "info inferiors",
        "inferior 2",
        "break in_child", "continue", "print counter", "continue", "inferior 1", "print counter", "continue",
        arguments=("fork",),
    )  # fmt: skip

    assert re.search(r"  2 +process 3 ", said)
    assert re.search(r"hit Breakpoint 2\S*, in_child", said)
    assert re.findall(r"\$\d = (\d+)", said) == ["0", "0"]
    assert said.index("[Inferior 2 (process 3) exited with code 07]") < said.index(
        "[Inferior 1 (process 2) exited with code 07]"
    )


def test_system_calls_and_exec_are_caught(arch: str) -> None:
    said = gdb(
        build(arch, "story"), "set follow-fork-mode child", "catch exec", "catch syscall exit_group", "continue",
        "continue",
        arguments=("exec",),
    )  # fmt: skip

    assert re.search(r"Catchpoint 1 \(exec'd \S*story", said)
    assert "Catchpoint 2 (call to syscall exit_group)" in said


def test_signals_as_handle_says(arch: str) -> None:
    program = build(arch, "story")
    stopped = gdb(program, "continue", "p $_siginfo.si_signo", "p $_siginfo.si_code", "signal 0", arguments=("signal",))
    passed = gdb(program, "handle SIGUSR1 nostop noprint pass", "continue", arguments=("signal",))
    killed = gdb(program, "continue", "p/x $_siginfo._sifields._sigfault.si_addr", "backtrace 1", "continue",
                 arguments=("segv",))  # fmt: skip

    assert "Program received signal SIGUSR1, User defined signal 1." in stopped
    assert "$1 = 10\n$2 = -6\n" in stopped
    assert "exited normally" in stopped
    assert "exited with code 012" in passed
    assert "$1 = 0x10" in killed
    assert f"story.c:{line_of('(volatile int *)16')}" in killed
    assert "Program terminated with signal SIGSEGV" in killed


def test_functions_of_the_program_are_called(arch: str) -> None:
    said = gdb(build(arch, "story"), "break leaf", "continue", "delete", "print leaf(100)", "backtrace 1", "continue")

    assert "$1 = 100\n#0  leaf (n=2)" in said
    assert program_output() == "library: counter 102, guarded 12\n"


def test_monitor_and_the_machines_files(tmp_path: Path) -> None:
    said = gdb(
        build("x86-64", "story", "dynamic"), "monitor ps", "monitor pagewalk $rip", "info auxv", "info proc mappings",
        "info os processes", f"remote get /proc/2/comm {tmp_path}/comm", f"remote get /etc/passwd {tmp_path}/passwd",
        f"remote put {tmp_path}/comm /tmp/nothing",
    )  # fmt: skip

    assert "COMMAND" in said
    assert lines_with(said, "PML4", "pml4", "pgd")
    assert "System-supplied DSO's ELF header" in said
    assert "[stack]" in said
    assert (tmp_path / "comm").read_text() == "story.dynamic.x\n"
    assert (tmp_path / "passwd").read_bytes() == Path("/etc/passwd").read_bytes()
    assert "Remote I/O error: Read-only file system" in said


def test_back_to_the_write_that_corrupted_a_value(arch: str) -> None:
    said = gdb(
        build(arch, "story"), "break printf", "continue", "up", "print text[3]", "watch text[3]", "reverse-continue",
        "print i", "reverse-continue", "print i", "reverse-stepi", "delete", "continue", arguments=("corrupt",),
    )  # fmt: skip

    assert "$1 = 99 'c'" in said
    assert "Old value = 99 'c'\nNew value = 67 'C'" in said
    assert "Old value = 67 'C'\nNew value = 35 '#'" in said
    assert re.findall(r"\$[23] = (\d+)", said) == ["99", "67"]
    assert "exited normally" in said


def test_backwards_through_threads_to_the_beginning(arch: str) -> None:
    said = gdb(
        build(arch, "story"), "break leaf", "continue", "continue", "reverse-continue", "print counter",
        "reverse-continue", "delete", "continue", arguments=("threads",),
    )  # fmt: skip

    assert "$1 = 0" in said
    assert "No more reverse-execution history." in said
    assert "exited with code 011" in said


def test_a_core_file_is_written_and_opened(arch: str, tmp_path: Path) -> None:
    program = build(arch, "story", "dynamic")
    core = tmp_path / "core"
    gdb(program, "break leaf", "continue", f"generate-core-file {core}", "kill", arguments=("threads",))
    said = run_gdb(f"file {program}", f"core-file {core}", "print counter", "backtrace 2", "info threads")

    assert "$1 = 0" in said
    assert re.search(r"#1 .* in work \(argument=0x1\)", said)
    assert len(re.findall(r"LWP [234]\) ", said.rpartition("Id ")[2])) == 3
