"""Programs on huge pages, in this process: the books balance at their end, also on a machine with little memory."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from guest.builder import build_all, programs, targets
from minikernel.config import Config, Swap
from tests.minikernel.machine import run_and_audit

pytestmark = pytest.mark.slow

MACHINES = {
    "4level": ("x86-64", Config(argv=())),
    "pae": ("i386", Config(argv=(), cpu="i386")),
    "2level": ("i386", Config(argv=(), cpu="i386", paging="2level")),
}


def config_of(name: str, machine: str, cwd: Path, **changes: object) -> Config:
    arch, config = MACHINES[machine]
    target = next(one for one in targets(programs()) if one.arch == arch and one.program.source.name == name)
    build_all([target])
    return replace(config, argv=(bytes(target.path),), cwd=bytes(cwd), **changes)


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["huge.c", "huge_code.c", "hugetlb.c"])
def test_nothing_is_left(name: str, machine: str, tmp_path: Path) -> None:
    ended = run_and_audit(config_of(name, machine, tmp_path, sysctls=(("vm.nr_hugepages", "5"),)))
    assert ended.code == 0
    assert b"NO: " not in ended.stdout


@pytest.mark.parametrize("machine", MACHINES)
def test_under_pressure_the_contents_are_right(machine: str, tmp_path: Path) -> None:
    """With less memory than it wants, how much is in huge pages is anybody's guess; what is in them is not."""
    ended = run_and_audit(
        config_of(
            "huge.c", machine, tmp_path, ram=(24 if machine == "2level" else 12) << 20, swap=(Swap(size=64 << 20),)
        )
    )
    assert ended.code == 0
    assert b"NO:  wrong(" not in ended.stdout
    assert ended.stdout.count(b"wrong(") > 8
