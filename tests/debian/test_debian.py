"""Unmodified Debian programs do in the emulator what they do on this machine: output, status, and the files they leave.

Natively they run under chroot in a copy of the root file system, in the emulator with ``--root`` and the job's
directory bound to /job.  Both start from equal directories, and both directories are compared afterwards.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.debian.jobs import Job, prepare, read_jobs
from tests.debian.rootfs import ARCHES, CACHE, ROOT, missing_tools, rootfs

ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "HOME": "/root", "LC_ALL": "C", "TZ": "UTC"}
AS_ROOT: Final = () if os.geteuid() == 0 else ("unshare", "-r")
# chroot(1) leaves the directory and the environment to us.
SET_UP: Final = ("/bin/env", "-i", *(f"{name}={value}" for name, value in ENVIRONMENT.items()))
ENTER: Final = (*SET_UP, "/bin/dash", "-c", 'cd /job && unset PWD OLDPWD && exec "$@"', "dash")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended and what it left behind."""

    status: int
    stdout: bytes
    stderr: bytes
    files: dict[str, str]


def snapshot(folder: Path) -> dict[str, str]:
    """The contents of *folder*: mode and bytes of each file, target of each link."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            what = f"-> {path.readlink()}"
        elif path.is_dir():
            what = f"{path.stat().st_mode:o}"
        else:
            what = f"{path.stat().st_mode:o} {path.read_bytes()!r}"
        found[str(path.relative_to(folder))] = what
    return found


def outcome(command: list[str], job: Job, folder: Path, environment: dict[str, str]) -> Outcome:
    """Run *command*, and look at *folder* afterwards."""
    done = subprocess.run(command, input=job.stdin, capture_output=True, env=environment, timeout=300, check=False)
    status = done.returncode if done.returncode >= 0 else 128 - done.returncode
    return Outcome(status, done.stdout, done.stderr, snapshot(folder))


@pytest.fixture(scope="module")
def native_roots(worker_id: str) -> Iterator[dict[str, Path]]:
    """A root file system for each architecture that native runs may write to: hard links to the cached one."""
    missing = missing_tools()
    if missing and os.environ.get("CI"):
        pytest.fail(f"needed here: {', '.join(missing)}")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    copies = {arch: CACHE / f"native-{arch}-{worker_id}" for arch in ARCHES}
    for arch, copy in copies.items():
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["cp", "-al", str(rootfs(arch)), str(copy)], check=True)
        if not AS_ROOT:
            os.mknod(copy / "dev" / "null", 0o20666, os.makedev(1, 3))
    yield copies
    for copy in copies.values():
        shutil.rmtree(copy)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("job", [pytest.param(job, id=job.id) for job in read_jobs()])
def test_debian_program_does_what_it_does_natively(
    job: Job, arch: str, native_roots: dict[str, Path], tmp_path: Path
) -> None:
    root = native_roots[arch]
    prepare(root / "job")
    command = [*AS_ROOT, "chroot", str(root), *ENTER, *job.command]
    expected = outcome(command, job, root / "job", {"PATH": os.environ["PATH"]})

    prepare(tmp_path / "job")
    command = [
        *(sys.executable, "-m", "minikernel", "run", "--root", str(rootfs(arch)), "--cwd", "/job", "--clear-env"),
        *(word for item in ENVIRONMENT.items() for word in ("--env", "=".join(item))),
        *("--bind", f"{tmp_path / 'job'}:/job:rw", "--", *job.command),
    ]
    result = outcome(
        command, job, tmp_path / "job", {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    )

    # The emulator reads directories in the order of their names, the host in an order of its own.
    if job.unordered:
        assert sorted(result.stdout.splitlines()) == sorted(expected.stdout.splitlines())
    else:
        assert result.stdout == expected.stdout, result.stderr.decode(errors="replace")
    assert result.status == expected.status, result.stderr.decode(errors="replace")
    assert result.stderr == expected.stderr
    assert result.files == expected.files
