"""The pytest plugin as another project uses it, and its `guest` fixture as ours does."""

import pytest

from guest.toolchain import compiler_for
from minikernel.testing import Guest, first_difference

pytest_plugins = ["pytester"]

PROJECT = """
import pytest

@pytest.mark.golden_trace
def test_true(guest):
    assert guest.run("/bin/true", *ARGS).status == 0

@pytest.mark.golden_trace("other/name.trace")
def test_false(guest):
    assert guest.run("/bin/false").status == 1
"""


def session(pytester: pytest.Pytester, *words: str, args: str = "[]") -> pytest.RunResult:
    """Run the project's tests in a process of their own."""
    (pytester.path / "test_it.py").write_text(f"ARGS = {args}\n{PROJECT}")
    return pytester.runpytest_subprocess("-p", "minikernel.testing", "--strict-markers", *words)


def test_golden_traces_are_written_compared_and_told_apart(pytester: pytest.Pytester) -> None:
    missing = session(pytester)
    missing.assert_outcomes(failed=2)
    missing.stdout.fnmatch_lines(["*golden/test_true.trace is not there: --update-traces writes it"])

    session(pytester, "--update-traces").assert_outcomes(passed=2)
    assert "sched_process_exit code=256" in (pytester.path / "other" / "name.trace").read_text()
    session(pytester, "-p", "xdist", "-n", "2").assert_outcomes(passed=2)

    changed = session(pytester, args="['one more']")
    changed.assert_outcomes(passed=1, failed=1)
    changed.stdout.fnmatch_lines(
        [
            "golden/test_true.trace:1: first divergence (*",
            "  golden *mm_fault_resolved address=*",
            "  now *mm_fault_resolved address=*",
            "--update-traces accepts what is now",
        ]
    )


def test_a_golden_trace_needs_a_run(pytester: pytest.Pytester) -> None:
    (pytester.path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.golden_trace\ndef test_it(guest):\n    pass\n"
    )
    done = pytester.runpytest_subprocess("-p", "minikernel.testing")

    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*runs a program with the fixture `guest`"])


def test_a_run_gives_what_the_program_did(guest: Guest) -> None:
    done = guest.run("/bin/sh", "-c", "read x; echo got $x; echo oops >&2; exit 7", stdin=b"this\n")

    assert (done.status, done.stdout, done.stderr) == (7, b"got this\n", b"oops\n")
    writes = [call for call in done.syscalls if call.name == "write"]
    assert [call.ret for call in writes] == [9, 5]
    assert done.syscalls[-1].ret is None
    assert done.faults
    assert 100_000 < done.peak_memory < 8 << 20
    assert len(done.named("sched_process_exec")) == 1
    assert done.text().endswith("sched_process_exit code=1792\n")


def test_runs_are_alike_whatever_the_host_does(guest: Guest) -> None:
    script = "ls -l /proc/self/fd; cat /proc/uptime; stat -L /dev/stdin; kill -TERM $$"
    first = guest.run("/bin/sh", "-c", script)
    second = guest.run("/bin/sh", "-c", script)

    assert first == second
    assert first.status == 128 + 15
    assert first.stdout.count(b"\n") > 8


def test_much_output_and_input_pass(guest: Guest) -> None:
    data = bytes(range(256)) * 8192

    assert guest.run("/bin/cat", stdin=data).stdout == data


def test_a_c_snippet_runs(guest: Guest) -> None:
    source = '#include <stdio.h>\nint main(int n, char **a) { printf("%s\\n", a[1]); return n; }\n'
    program = guest.compile(source, cc=compiler_for("x86-64").command)
    done = guest.run(program, "hello")

    assert (done.status, done.stdout) == (2, b"hello\n")


def test_a_c_snippet_with_a_mistake_fails_the_test(guest: Guest) -> None:
    with pytest.raises(pytest.fail.Exception, match="failed:"):
        guest.compile("int main(void) { return nothing; }", cc=compiler_for("x86-64").command)


@pytest.mark.parametrize(
    ("golden", "now", "line"),
    [("a\nb\n", "a\nb\n", 0), ("a\nb\n", "a\nc\n", 2), ("a\n", "a\nb\n", 2), ("a\nb\n", "", 1), ("", "a\n", 1)],
)
def test_the_first_difference_is_found(golden: str, now: str, line: int) -> None:
    words = first_difference(golden, now)

    assert words.startswith(f"{line}: first divergence") if line else not words


def test_what_is_on_the_way_to_the_difference_is_shown() -> None:
    words = first_difference("1\n2\n3\n4\n5\n", "1\n2\n3\n4\n")

    assert words.splitlines() == [
        "5: first divergence (5 lines, now 4)",
        *(f"            {number}" for number in (2, 3, 4)),
        "  golden    5",
        "  now       (the trace is over)",
    ]
