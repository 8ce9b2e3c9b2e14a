"""Scheduling policies and CPU masks of the machine's one CPU; task/sched.py acts upon them.

Linux: kernel/sched/syscalls.c.
"""

from typing import Final

from minikernel.abi.capability import CAP_SYS_NICE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import RLIMIT_NICE, RLIMIT_RTPRIO
from minikernel.abi.sched import (
    MAX_RT_PRIORITY,
    MIN_RT_PRIORITY,
    RR_TIMESLICE_NS,
    SCHED_ATTR,
    SCHED_ATTR_SIZE_VER0,
    SCHED_ATTR_SIZE_VER1,
    SCHED_BATCH,
    SCHED_DEADLINE,
    SCHED_EXT,
    SCHED_FIFO,
    SCHED_FLAG_ALL,
    SCHED_FLAG_KEEP_PARAMS,
    SCHED_FLAG_KEEP_POLICY,
    SCHED_FLAG_RESET_ON_FORK,
    SCHED_FLAG_UTIL_CLAMP_MAX,
    SCHED_FLAG_UTIL_CLAMP_MIN,
    SCHED_IDLE,
    SCHED_NORMAL,
    SCHED_RESET_ON_FORK,
    SCHED_RR,
)
from minikernel.abi.time import pack_timespec, pack_timespec64
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import clear_user, copy_from_user, copy_to_user, get_user, put_user
from minikernel.syscalls.args import CpuSetOut, Pid, Ptr, SchedPolicy, Timespec64Out, TimespecOut, UInt
from minikernel.syscalls.entry_types import Entry, full, partial
from minikernel.syscalls.ident import find_task
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.task import Task

_CPUMASK_SIZE: Final = 8  # bytes: nr_cpu_ids in whole longs
_REALTIME: Final = (SCHED_FIFO, SCHED_RR)
_FAIR: Final = (SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE)
_FAIR_SLICE_NS: Final = 2_800_000  # base_slice on a machine with one CPU
_MAX_ATTR_SIZE: Final = 4096


def _check_pid(pid: int) -> None:
    if pid < 0:
        raise LinuxError(Errno.EINVAL, "negative pid")


def _check_owner(task: Task, target: Task) -> None:
    """Errors: EPERM: another user's task (check_same_owner)."""
    if task.cred.euid not in {target.cred.euid, target.cred.uid} and not task.cred.capable(CAP_SYS_NICE):
        raise LinuxError(Errno.EPERM, "scheduling of another user's task")


def _check_priority(policy: int, priority: int) -> None:
    """Errors: EINVAL: no such policy, or a priority it does not have."""
    low, high = (MIN_RT_PRIORITY, MAX_RT_PRIORITY) if policy in _REALTIME else (0, 0)
    if policy not in (*_REALTIME, *_FAIR) or not low <= priority <= high:
        raise LinuxError(Errno.EINVAL, "no such scheduling policy or priority")


def _check_privilege(task: Task, target: Task, policy: int, priority: int, nice: int, *, reset: bool) -> None:
    """Whether *task* may give *target* this (user_check_sched_setscheduler).  Errors: EPERM."""
    if task.cred.capable(CAP_SYS_NICE):
        return
    now = target.attributes
    if policy in _FAIR and nice < now.nice and 20 - nice > target.rlimits[RLIMIT_NICE][0]:
        raise LinuxError(Errno.EPERM, "nice value below what RLIMIT_NICE allows")
    if policy in _REALTIME:
        allowed = target.rlimits[RLIMIT_RTPRIO][0]
        if (policy != now.policy and not allowed) or (priority > now.rt_priority and priority > allowed):
            raise LinuxError(Errno.EPERM, "real-time priority above RLIMIT_RTPRIO")
    if now.policy == SCHED_IDLE and policy != SCHED_IDLE and 20 - now.nice > target.rlimits[RLIMIT_NICE][0]:
        raise LinuxError(Errno.EPERM, "leaving SCHED_IDLE")
    _check_owner(task, target)
    if now.reset_on_fork and not reset:
        raise LinuxError(Errno.EPERM, "reset-on-fork cannot be taken back")


def _set_policy(task: Task, target: Task, policy: int, priority: int, nice: int | None, *, reset: bool) -> None:
    """Change the policy of *target* (__sched_setscheduler); *nice* None: as it is."""
    _check_priority(policy, priority)
    now = target.attributes
    wanted = now.nice if nice is None else nice
    _check_privilege(task, target, policy, priority, wanted, reset=reset)
    now.policy, now.rt_priority, now.reset_on_fork = policy, priority, reset
    if policy in _FAIR:
        now.nice = wanted
    if task.kernel.pi_states:
        from minikernel.task.futex_pi import adjust_priority

        adjust_priority(task.kernel, target)


def sys_sched_setscheduler(kernel: Kernel, task: Task, pid: Pid, policy: SchedPolicy, param: Ptr) -> int:
    """sched_setscheduler(2)."""
    if policy < 0 or not param:
        raise LinuxError(Errno.EINVAL, "sched_setscheduler")
    _check_pid(pid)
    priority = _int32(task, param)
    target = find_task(kernel, task, pid)
    reset = bool(policy & SCHED_RESET_ON_FORK)
    _set_policy(task, target, policy & ~SCHED_RESET_ON_FORK, priority, None, reset=reset)
    return 0


def _int32(task: Task, address: int) -> int:
    return int.from_bytes(copy_from_user(task.mm, address, 4), "little", signed=True)


def sys_sched_setparam(kernel: Kernel, task: Task, pid: Pid, param: Ptr) -> int:
    """sched_setparam(2)."""
    if not param:
        raise LinuxError(Errno.EINVAL, "sched_setparam")
    _check_pid(pid)
    priority = _int32(task, param)
    target = find_task(kernel, task, pid)
    now = target.attributes
    _set_policy(task, target, now.policy, priority, None, reset=now.reset_on_fork)
    return 0


def sys_sched_getscheduler(kernel: Kernel, task: Task, pid: Pid) -> int:
    """sched_getscheduler(2)."""
    _check_pid(pid)
    attributes = find_task(kernel, task, pid).attributes
    return attributes.policy | (SCHED_RESET_ON_FORK if attributes.reset_on_fork else 0)


def sys_sched_getparam(kernel: Kernel, task: Task, pid: Pid, param: Ptr) -> int:
    """sched_getparam(2)."""
    if not param:
        raise LinuxError(Errno.EINVAL, "sched_getparam")
    _check_pid(pid)
    put_user(task.mm, param, find_task(kernel, task, pid).attributes.rt_priority, 4)
    return 0


def _copy_attr(task: Task, address: int) -> bytes:
    """A struct sched_attr of any size, as ours of version 1 (sched_copy_attr, copy_struct_from_user).

    Errors:
        E2BIG: too small or too large, or a newer one with something in it; our size is stored then.
    """
    size = get_user(task.mm, address, 4) or SCHED_ATTR_SIZE_VER0
    if not SCHED_ATTR_SIZE_VER0 <= size <= _MAX_ATTR_SIZE or _has_unknown(task, address, size):
        put_user(task.mm, address, SCHED_ATTR_SIZE_VER1, 4)
        raise LinuxError(Errno.E2BIG, "struct sched_attr of another size")
    data = copy_from_user(task.mm, address, min(size, SCHED_ATTR_SIZE_VER1))
    return data.ljust(SCHED_ATTR_SIZE_VER1, b"\0")


def _has_unknown(task: Task, address: int, size: int) -> bool:
    rest = size - SCHED_ATTR_SIZE_VER1
    return rest > 0 and any(copy_from_user(task.mm, address + SCHED_ATTR_SIZE_VER1, rest))


def sys_sched_setattr(kernel: Kernel, task: Task, pid: Pid, attr: Ptr, flags: UInt) -> int:
    """sched_setattr(2)."""
    if not attr or pid < 0 or flags:
        raise LinuxError(Errno.EINVAL, "sched_setattr")
    size = get_user(task.mm, attr, 4)
    data = _copy_attr(task, attr)
    _, policy, sched_flags, nice, priority, *_ = SCHED_ATTR.unpack_from(data)
    clamps = sched_flags & (SCHED_FLAG_UTIL_CLAMP_MIN | SCHED_FLAG_UTIL_CLAMP_MAX)
    if clamps and size and size < SCHED_ATTR_SIZE_VER1:
        raise LinuxError(Errno.EINVAL, "sched_setattr: clamps in a struct without them")
    if policy >> 31 or sched_flags & ~SCHED_FLAG_ALL:
        raise LinuxError(Errno.EINVAL, "sched_setattr: policy or flags")
    target = find_task(kernel, task, pid)
    now = target.attributes
    if sched_flags & SCHED_FLAG_KEEP_POLICY:
        policy = now.policy
    if sched_flags & SCHED_FLAG_KEEP_PARAMS:
        nice, priority = now.nice, now.rt_priority
    if policy == SCHED_DEADLINE:
        raise LinuxError(Errno.EPERM, "sched_setattr: no deadline scheduling")
    nice = min(max(nice, -20), 19)
    _set_policy(task, target, policy, priority, nice, reset=bool(sched_flags & SCHED_FLAG_RESET_ON_FORK))
    return 0


def sys_sched_getattr(kernel: Kernel, task: Task, pid: Pid, attr: Ptr, size: UInt, flags: UInt) -> int:
    """sched_getattr(2)."""
    if not attr or pid < 0 or flags or not SCHED_ATTR_SIZE_VER0 <= size <= _MAX_ATTR_SIZE:
        raise LinuxError(Errno.EINVAL, "sched_getattr")
    now = find_task(kernel, task, pid).attributes
    told = min(size, SCHED_ATTR_SIZE_VER1)
    sched_flags = SCHED_FLAG_RESET_ON_FORK if now.reset_on_fork else 0
    priority, nice = (now.rt_priority, 0) if now.policy in _REALTIME else (0, now.nice)
    runtime = 0 if now.policy in _REALTIME else _FAIR_SLICE_NS
    head = SCHED_ATTR.pack(told, now.policy, sched_flags, nice, priority, runtime, 0, 0)
    clamps = (0).to_bytes(4, "little") + (1024).to_bytes(4, "little")
    copy_to_user(task.mm, attr, (head + clamps)[:told])
    if size > told:
        clear_user(task.mm, attr + told, size - told)
    return 0


def sys_sched_get_priority_max(_kernel: Kernel, _task: Task, policy: SchedPolicy) -> int:
    """sched_get_priority_max(2)."""
    if policy in _REALTIME:
        return MAX_RT_PRIORITY
    if policy in (*_FAIR, SCHED_DEADLINE, SCHED_EXT):
        return 0
    raise LinuxError(Errno.EINVAL, "no such policy")


def sys_sched_get_priority_min(kernel: Kernel, task: Task, policy: SchedPolicy) -> int:
    """sched_get_priority_min(2)."""
    return min(sys_sched_get_priority_max(kernel, task, policy), MIN_RT_PRIORITY)


def _interval(kernel: Kernel, task: Task, pid: int) -> int:
    _check_pid(pid)
    policy = find_task(kernel, task, pid).attributes.policy
    if policy == SCHED_RR:
        return RR_TIMESLICE_NS
    return 0 if policy == SCHED_FIFO else _FAIR_SLICE_NS


def sys_sched_rr_get_interval(kernel: Kernel, task: Task, pid: Pid, interval: TimespecOut) -> int:
    """sched_rr_get_interval(2)."""
    copy_to_user(task.mm, interval, pack_timespec(call_abi(task), _interval(kernel, task, pid)))
    return 0


def sys_sched_rr_get_interval_time64(kernel: Kernel, task: Task, pid: Pid, interval: Timespec64Out) -> int:
    """sched_rr_get_interval_time64, i386."""
    copy_to_user(task.mm, interval, pack_timespec64(_interval(kernel, task, pid)))
    return 0


def sys_sched_getaffinity(kernel: Kernel, task: Task, pid: Pid, length: UInt, mask: CpuSetOut) -> int:
    """sched_getaffinity(2): bytes stored."""
    if length * 8 < 1 or length & (call_abi(task).word - 1):
        raise LinuxError(Errno.EINVAL, "sched_getaffinity: size of the mask")
    find_task(kernel, task, pid)
    told = min(length, _CPUMASK_SIZE)
    copy_to_user(task.mm, mask, (1).to_bytes(told, "little"))
    return told


def sys_sched_setaffinity(kernel: Kernel, task: Task, pid: Pid, length: UInt, mask: Ptr) -> int:
    """sched_setaffinity(2): CPU 0 must be in the mask."""
    data = copy_from_user(task.mm, mask, min(length, _CPUMASK_SIZE))
    _check_owner(task, find_task(kernel, task, pid))
    if not data or not data[0] & 1:
        raise LinuxError(Errno.EINVAL, "sched_setaffinity: no CPU left")
    return 0


def sys_sched_yield(kernel: Kernel, task: Task) -> int:
    """sched_yield(2): the others first, and at once."""
    kernel.scheduler.yield_task(task)
    kernel.need_resched = True
    return 0


_NO_DEADLINE: Final = "no SCHED_DEADLINE; utilization clamps are ignored"

ENTRIES: tuple[Entry, ...] = (
    full("sched_setscheduler", sys_sched_setscheduler),
    full("sched_getscheduler", sys_sched_getscheduler),
    full("sched_setparam", sys_sched_setparam),
    full("sched_getparam", sys_sched_getparam),
    partial("sched_setattr", sys_sched_setattr, _NO_DEADLINE),
    full("sched_getattr", sys_sched_getattr),
    full("sched_get_priority_max", sys_sched_get_priority_max),
    full("sched_get_priority_min", sys_sched_get_priority_min),
    full("sched_rr_get_interval", sys_sched_rr_get_interval),
    full("sched_rr_get_interval_time64", sys_sched_rr_get_interval_time64),
    full("sched_getaffinity", sys_sched_getaffinity),
    full("sched_setaffinity", sys_sched_setaffinity),
    full("sched_yield", sys_sched_yield),
)
