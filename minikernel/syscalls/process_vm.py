"""process_vm_readv(2) and process_vm_writev(2).  Linux: mm/process_vm_access.c."""

from collections.abc import Iterator

from minikernel.abi.capability import CAP_SYS_PTRACE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.kernel import Kernel
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.uaccess import (
    copy_from_user,
    copy_from_user_partial,
    copy_to_user_partial,
)
from minikernel.syscalls.args import Pid, Ptr, ULong
from minikernel.syscalls.entry_types import Entry, full
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.attributes import SUID_DUMP_USER
from minikernel.task.task import Task

_IOV_MAX = 1024
_CHUNK = 1 << 16  # bytes copied at a time


def ptrace_may_access(task: Task, target: Task) -> bool:
    """Whether *task* may look into the memory of *target* (__ptrace_may_access, PTRACE_MODE_ATTACH_REALCREDS)."""
    if target.process is task.process:
        return True
    if task.cred.capable(CAP_SYS_PTRACE):
        return True
    ours, theirs = task.cred, target.cred
    same_user = {theirs.uid, theirs.euid, theirs.suid} == {ours.uid}
    same_group = {theirs.gid, theirs.egid, theirs.sgid} == {ours.gid}
    return same_user and same_group and target.attributes.dumpable == SUID_DUMP_USER


def _read_vector(task: Task, address: int, count: int) -> list[tuple[int, int]]:
    """(address, length) of each segment.  Errors: EINVAL: too many, or a negative length.  EFAULT."""
    abi = call_abi(task)
    if count > _IOV_MAX:
        raise LinuxError(Errno.EINVAL, "too many segments")
    words = abi.unpack_words(copy_from_user(task.mm, address, count * 2 * abi.word)) if count else []
    segments = list(zip(words[::2], words[1::2], strict=True))
    if any(length > abi.mask >> 1 for _, length in segments):
        raise LinuxError(Errno.EINVAL, "a segment of negative length")
    return segments


def _pairs(local: list[tuple[int, int]], remote: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """The two vectors walked together: (local address, remote address, bytes), _CHUNK bytes at most."""
    mine = [list(segment) for segment in local if segment[1]]
    theirs = [list(segment) for segment in remote if segment[1]]
    while mine and theirs:
        size = min(mine[0][1], theirs[0][1], _CHUNK)
        yield mine[0][0], theirs[0][0], size
        for segments in (mine, theirs):
            segments[0][0] += size
            segments[0][1] -= size
            if not segments[0][1]:
                del segments[0]


def _copy(source: MmStruct, address: int, target: MmStruct, where: int, size: int) -> int:
    """Copy *size* bytes from one address space to another; how many could be."""
    data = copy_from_user_partial(source, address, size)
    return copy_to_user_partial(target, where, data)


def _process_vm_rw(
    kernel: Kernel, task: Task, pid: int, vectors: tuple[int, int, int, int], flags: int, *, write: bool
) -> int:
    """process_vm_rw: bytes copied, fewer where memory ends."""
    if flags:
        raise LinuxError(Errno.EINVAL, "process_vm: flags")
    local = _read_vector(task, vectors[0], vectors[1])
    remote = _read_vector(task, vectors[2], vectors[3])
    if not any(length for _, length in local) or not any(length for _, length in remote):
        return 0
    target = kernel.tasks.get(pid)
    if target is None or not target.has_mm:
        raise LinuxError(Errno.ESRCH, "process_vm: no such process")
    if not ptrace_may_access(task, target):
        raise LinuxError(Errno.EPERM, "process_vm: another user's process")
    done = 0
    for mine, theirs, size in _pairs(local, remote):
        with kernel.oom.pin(target.mm):
            if write:
                copied = _copy(task.mm, mine, target.mm, theirs, size)
            else:
                copied = _copy(target.mm, theirs, task.mm, mine, size)
        done += copied
        if copied < size:
            break
    if not done:
        raise LinuxError(Errno.EFAULT, "process_vm: nothing could be copied")
    return done


def sys_process_vm_readv(
    kernel: Kernel, task: Task, pid: Pid, lvec: Ptr, liovcnt: ULong, rvec: Ptr, riovcnt: ULong, flags: ULong
) -> int:
    """process_vm_readv(2)."""
    return _process_vm_rw(kernel, task, pid, (lvec, liovcnt, rvec, riovcnt), flags, write=False)


def sys_process_vm_writev(
    kernel: Kernel, task: Task, pid: Pid, lvec: Ptr, liovcnt: ULong, rvec: Ptr, riovcnt: ULong, flags: ULong
) -> int:
    """process_vm_writev(2)."""
    return _process_vm_rw(kernel, task, pid, (lvec, liovcnt, rvec, riovcnt), flags, write=True)


ENTRIES: tuple[Entry, ...] = (
    full("process_vm_readv", sys_process_vm_readv),
    full("process_vm_writev", sys_process_vm_writev),
)
