"""Debian's own gdb drives a program on our machine."""

import pytest

from tests.minikernel.gdb.conftest import HAVE_GDB, build, gdb, lines_with, program_output

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not HAVE_GDB, reason="gdb is not installed"),
]


@pytest.mark.parametrize("kind", ["static", "dynamic", "pie"])
def test_from_a_breakpoint_to_the_exit_status(arch: str, kind: str) -> None:
    said = gdb(build(arch, "story", kind), "break leaf", "continue", "print n", "up", "print what", "continue")

    assert "Breakpoint 1, leaf (n=2) at " in said
    assert "$1 = 2\n" in said
    assert '"library"' in lines_with(said, "$2 =")[0]
    assert "exited with code 02" in said
    assert program_output().endswith("library: counter 2, guarded 12\n")
