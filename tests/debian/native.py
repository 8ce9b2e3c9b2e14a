"""Runs the jobs natively only, twice, and says what each did: ``python -m tests.debian.native [-v] [PATTERN...]``."""

import os
import shutil
import subprocess
import sys

from tests.debian.jobs import prepare, read_jobs
from tests.debian.rootfs import ARCHES, CACHE, rootfs
from tests.debian.test_debian import AS_ROOT, ENTER, outcome


def main() -> None:
    """The command line."""
    patterns = [word for word in sys.argv[1:] if word != "-v"]
    for arch in ARCHES:
        root = CACHE / f"native-{arch}-alone"
        shutil.rmtree(root, ignore_errors=True)
        subprocess.run(["cp", "-al", str(rootfs(arch)), str(root)], check=True)
        if not AS_ROOT:
            os.mknod(root / "dev" / "null", 0o20666, os.makedev(1, 3))
        for job in read_jobs():
            if patterns and not any(pattern in job.id for pattern in patterns):
                continue
            results = []
            for _ in range(2):
                prepare(root / "job")
                command = [*AS_ROOT, "chroot", str(root), *ENTER, *job.command]
                results.append(outcome(command, job, root / "job", {"PATH": "/usr/sbin:/usr/bin"}))
            same = "" if results[0] == results[1] else "  NOT DETERMINISTIC"
            output = results[0].stdout + results[0].stderr
            print(f"{arch} {job.id}: status {results[0].status}, {len(output)} bytes{same}")
            if "-v" in sys.argv:
                print(output[:600].decode(errors="replace"))
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
