"""What changed is named, and the first instruction that differs is found."""

import re
from pathlib import Path

import pytest

from minikernel.rerun import replay_trace, verify_trace
from minikernel.testing import Guest
from minikernel.trace.trace import Trace
from tests.minikernel.trace.test_verify import record, run

MIX = """
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) {
    unsigned sum = 7;
    char byte = 0;
    for (int i = 0; i < 30000; i++) sum = sum * 1664525u + 1013904223u;
    FILE *file = argc > 1 ? fopen(argv[1], "rb") : NULL;
    if (file && fread(&byte, 1, 1, file) == 1)
        sum += byte;                          /* here */
    for (int i = 0; i < 30000; i++) sum = sum * 1664525u + 1013904223u;
    printf("%x\\n", sum);
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """It computes, reads one byte of a file, and computes on."""
    return Guest(tmp_path_factory.mktemp("mix")).compile(MIX)


@pytest.mark.parametrize(("first", "second"), [(b"a", b"b"), (b"a", b"")])
def test_bisect_ends_at_the_instruction(tmp_path: Path, program: Path, first: bytes, second: bytes) -> None:
    """The byte comes by a system call: that instruction is the first behind which they differ."""
    data = tmp_path / "data"
    traces = []
    for name, contents in (("1", first), ("2", second)):
        data.write_bytes(contents)
        traces.append(record(tmp_path / name, "--clear-env", "--pack", "--", str(program), str(data)))
    done = run("bisect", *map(str, traces))

    text = done.stdout.decode()
    assert (done.returncode, done.stderr) == (1, b"")
    found = re.search(r"^instruction (\d+) is the first that differs:$", text, re.MULTILINE)
    assert found is not None, text
    lines = run("show", str(traces[0]), "--event", "sys_exit").stdout.decode().splitlines()
    reads = [
        line.split()[0] for line in lines if " read ret=" in line or " newfstatat ret=" in line or " fstat " in line
    ]
    assert found[1] in reads
    assert "  first   " in text
    assert "syscall" in text
    assert run("bisect", str(traces[0]), str(traces[0])).returncode == 0


def test_bisect_names_the_source_line_of_another_argument(tmp_path: Path, guest: Guest) -> None:
    """The arguments differ before the first instruction: registers find the one that loads the difference."""
    source = "int main(int argc, char **argv) {\n  return argv[2][1] == 'x';\n}\n"
    program = guest.compile(source, "-O0")
    # Far from the program's name, which the library reads 16 bytes at a time, and what lies behind it.
    words = ["--clear-env", "--pack", "--", str(program), "x" * 64]
    traces = [record(tmp_path / text, *words, text) for text in ("ax", "ay")]
    text = run("bisect", *map(str, traces)).stdout.decode()

    assert "it differs before the first instruction that was compared" in text
    assert "byte ptr [rax], main+" in text
    assert "guest1.c:2" in text
    assert "register rax: 0x78 and 0x79" in text


def test_verify_shows_the_state_of_both_machines(tmp_path: Path, program: Path) -> None:
    data = tmp_path / "data"
    data.write_bytes(b"a")
    trace = record(tmp_path / "t", "--clear-env", "--pack", "--", str(program), str(data))
    assert run("verify", str(trace)).returncode == 0
    data.write_bytes(b"b")
    done = run("verify", "--host", str(trace))

    assert done.returncode == 1
    text = done.stdout.decode()
    assert f"note: {data} is not the file it was (sha256)" in text
    assert re.search(r"differs: memory: 0x[0-9a-f]+ \(\[heap\]\S*\): 61 .* and 62 ", text)
    assert run("verify", str(trace)).returncode == 0  # the trace has its own file


def test_another_argument_is_named(tmp_path: Path, program: Path) -> None:
    trace = record(tmp_path / "t", "--clear-env", "--pack", "--", str(program))
    done = run("verify", str(trace), "--", str(program), "/no/such")

    assert done.returncode == 1
    assert b"note: argument 1 is '/no/such', was missing" in done.stdout


def test_another_number_of_the_kernels_is_named(tmp_path: Path, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's clock starts a second later: nothing but its number tells which change it was."""
    trace_path = record(tmp_path / "t", "--clear-env", "--pack", "--", str(program))
    with Trace(str(trace_path)) as trace:
        assert verify_trace(trace).same
        monkeypatch.setattr("minikernel.boot._UPTIME_NS", 11 * 10**9)
        found = verify_trace(trace)

    assert not found.same
    assert "the kernel's boot._UPTIME_NS is 11000000000, was 10000000000" in found.changed


def test_the_digest_at_the_end_knows_the_whole_state(tmp_path: Path, program: Path) -> None:
    with Trace(str(record(tmp_path / "t", "--clear-env", "--pack", "--", str(program)))) as trace:
        digest = trace.digests()[-1]
        assert len({digest.tables, digest.ram, digest.fpu, digest.tasks, digest.swap}) == 5
        assert digest.clock == digest.icount + 10 * 10**9
        again = replay_trace(trace, None, compare=True)
    assert again.same
    assert again.watcher is not None
    assert again.watcher.digests == 1
