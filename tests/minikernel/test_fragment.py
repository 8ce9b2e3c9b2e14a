"""Pages move while programs run on them: the emulated CPU sees the new frames, and the programs nothing."""

from pathlib import Path

import pytest

from guest.builder import Target, build_all, programs, targets
from minikernel.boot import System
from minikernel.config import Config
from minikernel.report.audit import assert_nothing_left, table_frames, validate_machine
from tests.minikernel.machine import output_of, streams

MACHINES = [("x86-64", "x86-64", "pae"), ("i386", "x86-64", "pae"), ("i386", "i386", "pae"), ("i386", "i386", "2level")]


def fragment(arch: str) -> Target:
    return next(
        target for target in targets(programs()) if target.program.name == "mm/fragment" and target.arch == arch
    )


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "cpu", "paging"), MACHINES)
def test_a_program_full_of_holes_is_compacted(arch: str, cpu: str, paging: str, tmp_path: Path) -> None:
    target = fragment(arch)
    build_all([target])
    argv = (bytes(target.path), b"compact")
    config = Config(argv=argv, cwd=bytes(tmp_path), cpu=cpu, paging=paging, ram=64 << 20)
    with streams(b"") as (out, _):
        with System(config) as system:
            kernel = system.kernel
            tables = table_frames(kernel)
            system.exec_init()
            assert system.run() == 0
            validate_machine(kernel)
            system.power_off()
            assert_nothing_left(kernel, tables)
        kernel.cpu.close()
        lines = output_of(out).decode().splitlines()
    assert kernel.compaction.stats.pgmigrate_success > 100
    assert all("256 kept, 20 empty, 32 shared" in line or line.startswith("yes: ") for line in lines)
    assert len(lines) == 6
