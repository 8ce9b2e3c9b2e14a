"""capget(2) and capset(2).  Linux: kernel/capability.c, security/commoncap.c (cap_capset)."""

from typing import Final

from minikernel.abi.capability import (
    CAP_SETPCAP,
    CAP_VALID_MASK,
    CAPABILITY_VERSION_1,
    CAPABILITY_VERSION_2,
    CAPABILITY_VERSION_3,
    DATA,
    HEADER,
)
from minikernel.abi.errno import Errno, LinuxError
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user, put_user
from minikernel.syscalls.args import Ptr
from minikernel.syscalls.entry_types import Entry, full
from minikernel.syscalls.ident import find_task
from minikernel.task.creds import commit_creds
from minikernel.task.task import Task

_MASK32: Final = 0xFFFF_FFFF
_NR_WORDS: Final = {CAPABILITY_VERSION_1: 1, CAPABILITY_VERSION_2: 2, CAPABILITY_VERSION_3: 2}


def _read_header(task: Task, header: int) -> tuple[int, int]:
    """How many 32-bit words each set has, and the pid.

    Errors:
        EINVAL: unknown version; the one we would like is stored in the header (cap_validate_magic).
    """
    version = int.from_bytes(copy_from_user(task.mm, header, 4), "little")
    words = _NR_WORDS.get(version)
    if words is None:
        put_user(task.mm, header, CAPABILITY_VERSION_3, 4)
        raise LinuxError(Errno.EINVAL, "capability header of an unknown version")
    pid: int = HEADER.unpack(copy_from_user(task.mm, header, HEADER.size))[1]
    return words, pid


def sys_capget(kernel: Kernel, task: Task, header: Ptr, data: Ptr) -> int:
    """capget(2)."""
    try:
        words, pid = _read_header(task, header)
    except LinuxError as error:
        if error.errno is Errno.EINVAL and not data:
            return 0  # somebody asks which version we like
        raise
    if pid < 0:
        raise LinuxError(Errno.EINVAL, "capget: negative pid")
    if not data:
        return 0
    cred = find_task(kernel, task, pid).cred
    sets = (cred.cap_effective, cred.cap_permitted, cred.cap_inheritable)
    parts = [DATA.pack(*[value >> 32 * i & _MASK32 for value in sets]) for i in range(words)]
    copy_to_user(task.mm, data, b"".join(parts))
    return 0


def sys_capset(_kernel: Kernel, task: Task, header: Ptr, data: Ptr) -> int:
    """capset(2)."""
    words, pid = _read_header(task, header)
    if pid not in {0, task.pid}:
        raise LinuxError(Errno.EPERM, "capset: another task")
    effective = permitted = inheritable = 0
    raw = copy_from_user(task.mm, data, DATA.size * words)
    for i, (e, p, h) in enumerate(DATA.iter_unpack(raw)):
        effective |= e << 32 * i
        permitted |= p << 32 * i
        inheritable |= h << 32 * i
    effective, permitted, inheritable = [value & CAP_VALID_MASK for value in (effective, permitted, inheritable)]
    old, new = task.cred, task.cred.copy()
    if not old.capable(CAP_SETPCAP) and inheritable & ~(old.cap_inheritable | old.cap_permitted):
        raise LinuxError(Errno.EPERM, "capset: inheritable beyond permitted")
    if inheritable & ~(old.cap_inheritable | old.cap_bset):
        raise LinuxError(Errno.EPERM, "capset: inheritable beyond the bounding set")
    if permitted & ~old.cap_permitted or effective & ~permitted:
        raise LinuxError(Errno.EPERM, "capset: more than one has")
    new.cap_effective, new.cap_permitted, new.cap_inheritable = effective, permitted, inheritable
    new.cap_ambient &= permitted & inheritable
    commit_creds(task, new)
    return 0


ENTRIES: tuple[Entry, ...] = (full("capget", sys_capget), full("capset", sys_capset))
