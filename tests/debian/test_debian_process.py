"""Debian programs of many processes and threads do in the emulator what they do on this machine.

As test_debian.py, with the host's /proc and /dev in the native root: shells need /dev/fd, programs look at themselves.
"""

import os
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.debian.jobs import Job
from tests.debian.jobs_process import prepare_process_job, read_process_jobs
from tests.debian.rootfs import ARCHES, ROOT, rootfs
from tests.debian.test_debian import AS_ROOT, ENTER, ENVIRONMENT, native_roots, outcome

__all__ = ["native_roots"]

MOUNT: Final = 'mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
ENTER_WITH_PROC: Final = ("unshare", "-m", *AS_ROOT[1:], "/bin/sh", "-c", MOUNT)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHES)
@pytest.mark.parametrize("job", [pytest.param(job, id=job.id) for job in read_process_jobs()])
def test_processes_do_what_they_do_natively(
    job: Job,
    arch: str,
    native_roots: dict[str, Path],
    tmp_path: Path,
) -> None:
    root = native_roots[arch]
    prepare_process_job(job, root / "job")
    command = [*ENTER_WITH_PROC, str(root), *ENTER, *job.command]
    expected = outcome(command, job, root / "job", {"PATH": os.environ["PATH"]})

    prepare_process_job(job, tmp_path / "job")
    command = [
        *(sys.executable, "-m", "minikernel", "run", "--root", str(rootfs(arch)), "--cwd", "/job", "--clear-env"),
        *(word for item in ENVIRONMENT.items() for word in ("--env", "=".join(item))),
        *("--bind", f"{tmp_path / 'job'}:/job:rw", "--", *job.command),
    ]
    result = outcome(
        command, job, tmp_path / "job", {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    )

    assert result.stdout == expected.stdout, result.stderr.decode(errors="replace")
    assert result.status == expected.status, result.stderr.decode(errors="replace")
    assert result.stderr == expected.stderr
    assert result.files == expected.files
