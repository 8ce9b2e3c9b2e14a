"""Limits, usage, priorities.  Linux: kernel/sys.c (do_prlimit, getrusage, setpriority), block/ioprio.c."""

from typing import Final

from minikernel.abi.capability import CAP_SYS_ADMIN, CAP_SYS_NICE, CAP_SYS_RESOURCE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import (
    IOPRIO_CLASS_IDLE,
    IOPRIO_CLASS_NONE,
    IOPRIO_CLASS_RT,
    IOPRIO_CLASS_SHIFT,
    IOPRIO_WHO_PGRP,
    IOPRIO_WHO_PROCESS,
    IOPRIO_WHO_USER,
    MAX_NICE,
    MIN_NICE,
    NR_OPEN,
    PRIO_PGRP,
    PRIO_PROCESS,
    PRIO_USER,
    RLIM_NLIMITS,
    RLIMIT64_SIZE,
    RLIMIT_CPU,
    RLIMIT_NICE,
    RLIMIT_NOFILE,
    RUSAGE_CHILDREN,
    RUSAGE_SELF,
    RUSAGE_THREAD,
    Rusage,
    pack_old_rlimit,
    pack_rlimit,
    pack_rlimit64,
    rlimit_size,
    unpack_rlimit,
    unpack_rlimit64,
)
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.syscalls.args import (
    Int,
    Pid,
    PrioWhich,
    Resource,
    Rlimit64In,
    Rlimit64Out,
    RlimitIn,
    RlimitOut,
    RusageOut,
    RusageWho,
)
from minikernel.syscalls.entry_types import Entry, full, partial
from minikernel.syscalls.ident import find_task
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.cpu_timers import watch_cpu_limit
from minikernel.task.reap import process_usage
from minikernel.task.task import Task


def _limit(task: Task, resource: int) -> list[int]:
    """[soft, hard] of *resource*: the task's own list, to be changed in place."""
    if resource >= RLIM_NLIMITS:
        raise LinuxError(Errno.EINVAL, "no such resource")
    return task.rlimits[resource]


def _set_limit(task: Task, target: Task, resource: int, soft: int, hard: int) -> None:
    """Change a limit of *target*, asked for by *task* (do_prlimit)."""
    limit = _limit(target, resource)
    if soft > hard:
        raise LinuxError(Errno.EINVAL, "soft limit above the hard one")
    if resource == RLIMIT_NOFILE and hard > NR_OPEN:
        raise LinuxError(Errno.EPERM, "RLIMIT_NOFILE above fs.nr_open")
    if hard > limit[1] and not task.cred.capable(CAP_SYS_RESOURCE):
        raise LinuxError(Errno.EPERM, "hard limit raised")
    limit[0], limit[1] = soft, hard
    if resource == RLIMIT_CPU:
        watch_cpu_limit(target.process)


def sys_getrlimit(_kernel: Kernel, task: Task, resource: Resource, rlim: RlimitOut) -> int:
    """getrlimit(2); on i386 it is called ugetrlimit."""
    copy_to_user(task.mm, rlim, pack_rlimit(call_abi(task), *_limit(task, resource)))
    return 0


def sys_old_getrlimit(_kernel: Kernel, task: Task, resource: Resource, rlim: RlimitOut) -> int:
    """getrlimit(2), i386: limits in 31 bits."""
    copy_to_user(task.mm, rlim, pack_old_rlimit(*_limit(task, resource)))
    return 0


def sys_setrlimit(_kernel: Kernel, task: Task, resource: Resource, rlim: RlimitIn) -> int:
    """setrlimit(2)."""
    soft, hard = unpack_rlimit(call_abi(task), copy_from_user(task.mm, rlim, rlimit_size(call_abi(task))))
    _set_limit(task, task, resource, soft, hard)
    return 0


def sys_prlimit64(
    kernel: Kernel, task: Task, pid: Pid, resource: Resource, new_rlim: Rlimit64In, old_rlim: Rlimit64Out
) -> int:
    """prlimit(2)."""
    new = unpack_rlimit64(copy_from_user(task.mm, new_rlim, RLIMIT64_SIZE)) if new_rlim else None
    target = find_task(kernel, task, pid)
    _check_prlimit_permission(task, target)
    old = tuple(_limit(target, resource))
    if new is not None:
        _set_limit(task, target, resource, *new)
    if old_rlim:
        copy_to_user(task.mm, old_rlim, pack_rlimit64(*old))
    return 0


def _check_prlimit_permission(task: Task, target: Task) -> None:
    """Errors: EPERM: the ids of *target* are not those of *task*."""
    if target is task:
        return
    ours, theirs = task.cred, target.cred
    same_user = {theirs.uid, theirs.euid, theirs.suid} == {ours.uid}
    same_group = {theirs.gid, theirs.egid, theirs.sgid} == {ours.gid}
    if not (same_user and same_group) and not ours.capable(CAP_SYS_RESOURCE):
        raise LinuxError(Errno.EPERM, "prlimit of another user's process")


def usage(task: Task, who: int) -> Rusage:
    """What *who* (RUSAGE_*, valid) of *task* used (getrusage, kernel/sys.c)."""
    task.kernel.update_curr()
    if who == RUSAGE_CHILDREN:
        return task.process.children_usage
    own = process_usage(task.process)
    if who == RUSAGE_THREAD:
        own.utime, own.stime = task.utime, task.stime
        own.nvcsw, own.nivcsw = task.nr_voluntary_switches, task.nr_involuntary_switches
    return own


def sys_getrusage(_kernel: Kernel, task: Task, who: RusageWho, ru: RusageOut) -> int:
    """getrusage(2)."""
    if who not in {RUSAGE_SELF, RUSAGE_CHILDREN, RUSAGE_THREAD}:
        raise LinuxError(Errno.EINVAL, "getrusage: of whom?")
    copy_to_user(task.mm, ru, usage(task, who).pack(call_abi(task)))
    return 0


# ---- priorities


def _chosen(kernel: Kernel, task: Task, which: int, who: int) -> list[Task]:
    """The tasks that (PRIO_*, id) means.  Errors: EINVAL, ESRCH."""
    tasks = kernel.tasks.values()
    match which:
        case 0:
            return [find_task(kernel, task, who)]
        case 1:
            chosen = [other for other in tasks if other.pgrp == (who or task.pgrp)]
        case 2:
            uid = who or task.cred.uid
            chosen = [other for other in tasks if other.cred.uid == uid]
        case _:
            raise LinuxError(Errno.EINVAL, "of whom?")
    if not chosen:
        raise LinuxError(Errno.ESRCH, "nobody there")
    return chosen


def _check_may_renice(task: Task, target: Task, nice: int) -> None:
    """Errors: EPERM: another user's task.  EACCES: a nice value beyond RLIMIT_NICE."""
    capable = task.cred.capable(CAP_SYS_NICE)
    if task.cred.euid not in {target.cred.uid, target.cred.euid} and not capable:
        raise LinuxError(Errno.EPERM, "priority of another user's task")
    if nice < target.attributes.nice and 20 - nice > target.rlimits[RLIMIT_NICE][0] and not capable:
        raise LinuxError(Errno.EACCES, "nice value below what RLIMIT_NICE allows")


def sys_setpriority(kernel: Kernel, task: Task, which: PrioWhich, who: Int, niceval: Int) -> int:
    """setpriority(2)."""
    nice = min(max(niceval, MIN_NICE), MAX_NICE)
    for target in _chosen(kernel, task, which, who):
        _check_may_renice(task, target, nice)
        target.attributes.nice = nice
    return 0


def sys_getpriority(kernel: Kernel, task: Task, which: PrioWhich, who: Int) -> int:
    """getpriority(2): 20 - nice, so that it is not negative; of several tasks, the best."""
    return max(20 - target.attributes.nice for target in _chosen(kernel, task, which, who))


def sys_nice(_kernel: Kernel, task: Task, increment: Int) -> int:
    """nice(2), i386."""
    step = min(max(increment, -40), 40)
    nice = min(max(task.attributes.nice + step, MIN_NICE), MAX_NICE)
    if step < 0 and 20 - nice > task.rlimits[RLIMIT_NICE][0] and not task.cred.capable(CAP_SYS_NICE):
        raise LinuxError(Errno.EPERM, "nice: beyond RLIMIT_NICE")
    task.attributes.nice = nice
    return 0


_IOPRIO_WHICH: Final = {
    IOPRIO_WHO_PROCESS: PRIO_PROCESS,
    IOPRIO_WHO_PGRP: PRIO_PGRP,
    IOPRIO_WHO_USER: PRIO_USER,
}


def _io_chosen(kernel: Kernel, task: Task, which: int, who: int) -> list[Task]:
    if which not in _IOPRIO_WHICH:
        raise LinuxError(Errno.EINVAL, "of whom?")
    return _chosen(kernel, task, _IOPRIO_WHICH[which], who)


def sys_ioprio_get(kernel: Kernel, task: Task, which: Int, who: Int) -> int:
    """ioprio_get(2): of several tasks, the best that is set."""
    values = [target.io_context for target in _io_chosen(kernel, task, which, who)]
    return min([value for value in values if value], default=0)


def sys_ioprio_set(kernel: Kernel, task: Task, which: Int, who: Int, ioprio: Int) -> int:
    """ioprio_set(2)."""
    io_class, level = ioprio >> IOPRIO_CLASS_SHIFT & 7, ioprio & 7
    if io_class == IOPRIO_CLASS_RT and not (task.cred.capable(CAP_SYS_ADMIN) or task.cred.capable(CAP_SYS_NICE)):
        raise LinuxError(Errno.EPERM, "ioprio: real time")
    if io_class > IOPRIO_CLASS_IDLE or (io_class == IOPRIO_CLASS_NONE and level):
        raise LinuxError(Errno.EINVAL, "ioprio: no such class or level")
    for target in _io_chosen(kernel, task, which, who):
        target.io_context = ioprio
    return 0


ENTRIES: tuple[Entry, ...] = (
    full("getrlimit", sys_getrlimit, abi="x86-64"),
    full("getrlimit", sys_old_getrlimit, abi="i386"),
    full("ugetrlimit", sys_getrlimit),
    full("setrlimit", sys_setrlimit),
    full("prlimit64", sys_prlimit64),
    full("getrusage", sys_getrusage),
    full("getpriority", sys_getpriority),
    full("setpriority", sys_setpriority),
    full("nice", sys_nice),
    full("ioprio_get", sys_ioprio_get),
    partial("ioprio_set", sys_ioprio_set, "remembered; there is no queue of disk requests"),
)
