"""The jobs of many processes and threads: each file in process/ is one, and its first line says who runs it.

They print no process id, no time and nothing that depends on who of two comes first, so every run is the same.
"""

import shutil
from pathlib import Path
from typing import Final

from tests.debian.jobs import HERE, Job, prepare

SCRIPTS: Final = HERE / "process"


def read_process_jobs() -> list[Job]:
    """One job for each script."""
    return [Job(path.name, (f"./{path.name}",)) for path in sorted(SCRIPTS.iterdir())]


def prepare_process_job(job: Job, folder: Path) -> None:
    """Make *folder* as for every job, and put the job's script into it, executable."""
    prepare(folder)
    shutil.copyfile(SCRIPTS / job.id, folder / job.id)
    (folder / job.id).chmod(0o755)
