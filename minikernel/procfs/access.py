"""Who may look into a process through /proc.  Linux: kernel/ptrace.c (__ptrace_may_access)."""

from minikernel.abi.capability import CAP_SYS_PTRACE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.cred import Cred
from minikernel.task.attributes import SUID_DUMP_USER
from minikernel.task.task import Task


def ptrace_may_access(reader: Task | None, task: Task) -> bool:
    """Whether *reader* (None: the kernel itself) may see what is private of *task*."""
    if reader is None or reader.process is task.process:
        return True
    cred = reader.cred
    if cred.capable(CAP_SYS_PTRACE):
        return True
    if not _same_ids(cred, task.cred) or task.attributes.dumpable != SUID_DUMP_USER:
        return False
    return not task.cred.cap_permitted & ~cred.cap_effective  # cap_ptrace_access_check


def _same_ids(reader: Cred, cred: Cred) -> bool:
    uids = {cred.uid, cred.euid, cred.suid}
    gids = {cred.gid, cred.egid, cred.sgid}
    return uids == {reader.fsuid} and gids == {reader.fsgid}


def check_access(task: Task) -> None:
    """Errors: EACCES: the task that asks may not see what is private of *task*."""
    if not ptrace_may_access(task.kernel.current, task):
        raise LinuxError(Errno.EACCES, f"/proc: process {task.pid} is another's")


def owner_of(task: Task) -> tuple[int, int]:
    """Who owns the files of *task* (task_dump_owner): root, if it is not to be looked into."""
    if task.attributes.dumpable != SUID_DUMP_USER:
        return 0, 0
    return task.cred.euid, task.cred.egid
