"""Debian programs on machines with too little memory print what they print on this machine's own Linux.

Each script in pressure/ says in its head on how much RAM it is to run: about a half and a quarter of what it would use,
with swap.  That it was short of memory is asserted, too.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Final

import pytest
from _pytest.mark.structures import ParameterSet

from tests.debian.jobs import HERE, Job, prepare
from tests.debian.rootfs import ARCHES, ROOT, rootfs
from tests.debian.test_debian import AS_ROOT, ENTER, ENVIRONMENT, native_roots, outcome

__all__ = ["native_roots"]

SCRIPTS: Final = HERE / "pressure"


def cases() -> list[ParameterSet]:
    found = []
    for path in sorted(SCRIPTS.iterdir()):
        (line,) = (line for line in path.read_text().splitlines() if line.startswith("# ram: "))
        found += [
            pytest.param(path, ram, arch, id=f"{path.name}-{ram}-{arch}")
            for ram in line.removeprefix("# ram: ").split()
            for arch in ARCHES
        ]
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("script", "ram", "arch"), cases())
def test_too_little_memory_changes_nothing_but_the_time(
    script: Path, ram: str, arch: str, native_roots: dict[str, Path], tmp_path: Path
) -> None:
    root = native_roots[arch]
    job = Job(script.name, (f"./{script.name}",))
    for folder in (root / "job", tmp_path / "job"):
        prepare(folder)
        shutil.copy(script, folder)
    command = [*AS_ROOT, "chroot", str(root), *ENTER, *job.command]
    expected = outcome(command, job, root / "job", {"PATH": os.environ["PATH"]})

    figures = tmp_path / "stats.json"
    command = [
        *(sys.executable, "-m", "minikernel", "run", f"--stats={figures}", "--ram", ram, "--swap", "128M"),
        *("--root", str(rootfs(arch)), "--cwd", "/job", "--clear-env"),
        *(word for item in ENVIRONMENT.items() for word in ("--env", "=".join(item))),
        *("--bind", f"{tmp_path / 'job'}:/job:rw", "--", *job.command),
    ]
    result = outcome(
        command, job, tmp_path / "job", {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    )

    assert result == expected
    reclaim = json.loads(figures.read_text())["reclaim"]
    assert reclaim["scanned"] > 0
    assert reclaim["reclaimed_by_kswapd"] + reclaim["reclaimed_directly"] > 100
    assert reclaim["oom_kills"] == 0
