"""User and group ids: reading and changing them, in 32 bits and in the 16 of i386's first calls.

Linux: kernel/sys.c (__sys_setuid and its family), kernel/uid16.c, kernel/groups.c, security/commoncap.c.
"""

from typing import Final

from minikernel.abi.capability import (
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
    CAP_LINUX_IMMUTABLE,
    CAP_MAC_OVERRIDE,
    CAP_MKNOD,
    CAP_SETGID,
    CAP_SETUID,
)
from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.cred import Cred
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user, put_user
from minikernel.syscalls.args import Gid, Int, IntOut, OldGid, OldUid, Ptr, Uid
from minikernel.syscalls.entry_types import Entry, Handler, full
from minikernel.task.creds import commit_creds
from minikernel.task.task import Task

NO_ID: Final = 0xFFFF_FFFF  # (uid_t)-1: leave as it is
NGROUPS_MAX: Final = 65536
_OVERFLOW_ID16: Final = 65534
_NO_ID16: Final = 0xFFFF
_SECURE_NO_SETUID_FIXUP: Final = 1 << 2
_SECURE_KEEP_CAPS: Final = 1 << 4
_FS_CAPS: Final = (
    CAP_CHOWN, CAP_MKNOD, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_LINUX_IMMUTABLE,
    CAP_MAC_OVERRIDE,
)  # fmt: skip
_FS_CAP_MASK: Final = sum(1 << cap for cap in _FS_CAPS)


def _fix_setuid(task: Task, new: Cred) -> None:
    """Capabilities follow the user ids (cap_emulate_setxuid)."""
    old, securebits = task.cred, task.attributes.securebits
    if securebits & _SECURE_NO_SETUID_FIXUP:
        return
    had_root = 0 in {old.uid, old.euid, old.suid}
    if had_root and 0 not in {new.uid, new.euid, new.suid}:
        if not securebits & _SECURE_KEEP_CAPS:
            new.cap_permitted = new.cap_effective = 0
        new.cap_ambient = 0
    if old.euid == 0 and new.euid != 0:
        new.cap_effective = 0
    if old.euid != 0 and new.euid == 0:
        new.cap_effective = new.cap_permitted


def _check_id(value: int) -> None:
    if value == NO_ID:
        raise LinuxError(Errno.EINVAL, "not an id")


def _refuse(what: str) -> LinuxError:
    return LinuxError(Errno.EPERM, f"{what}: neither one's own id nor the capability")


def sys_getuid(_kernel: Kernel, task: Task) -> int:
    """getuid(2)."""
    return task.cred.uid


def sys_geteuid(_kernel: Kernel, task: Task) -> int:
    """geteuid(2)."""
    return task.cred.euid


def sys_getgid(_kernel: Kernel, task: Task) -> int:
    """getgid(2)."""
    return task.cred.gid


def sys_getegid(_kernel: Kernel, task: Task) -> int:
    """getegid(2)."""
    return task.cred.egid


def _tell_ids(task: Task, addresses: tuple[int, ...], ids: tuple[int, ...], size: int) -> int:
    for address, value in zip(addresses, ids, strict=True):
        put_user(task.mm, address, value, size)
    return 0


def sys_getresuid(_kernel: Kernel, task: Task, ruid: IntOut, euid: IntOut, suid: IntOut) -> int:
    """getresuid(2)."""
    cred = task.cred
    return _tell_ids(task, (ruid, euid, suid), (cred.uid, cred.euid, cred.suid), 4)


def sys_getresgid(_kernel: Kernel, task: Task, rgid: IntOut, egid: IntOut, sgid: IntOut) -> int:
    """getresgid(2)."""
    cred = task.cred
    return _tell_ids(task, (rgid, egid, sgid), (cred.gid, cred.egid, cred.sgid), 4)


def sys_setuid(_kernel: Kernel, task: Task, uid: Uid) -> int:
    """setuid(2)."""
    _check_id(uid)
    old, new = task.cred, task.cred.copy()
    if old.capable(CAP_SETUID):
        new.uid = new.suid = uid
    elif uid not in {old.uid, old.suid}:
        raise _refuse("setuid")
    new.euid = new.fsuid = uid
    _fix_setuid(task, new)
    commit_creds(task, new)
    return 0


def sys_setreuid(_kernel: Kernel, task: Task, ruid: Uid, euid: Uid) -> int:
    """setreuid(2)."""
    old, new = task.cred, task.cred.copy()
    capable = old.capable(CAP_SETUID)
    if ruid != NO_ID:
        if ruid not in {old.uid, old.euid} and not capable:
            raise _refuse("setreuid")
        new.uid = ruid
    if euid != NO_ID:
        if euid not in {old.uid, old.euid, old.suid} and not capable:
            raise _refuse("setreuid")
        new.euid = euid
    if ruid != NO_ID or euid not in {NO_ID, old.uid}:
        new.suid = new.euid
    new.fsuid = new.euid
    _fix_setuid(task, new)
    commit_creds(task, new)
    return 0


def sys_setresuid(_kernel: Kernel, task: Task, ruid: Uid, euid: Uid, suid: Uid) -> int:
    """setresuid(2)."""
    old, new = task.cred, task.cred.copy()
    own = {old.uid, old.euid, old.suid, NO_ID}
    if not {ruid, euid, suid} <= own and not old.capable(CAP_SETUID):
        raise _refuse("setresuid")
    new.uid = ruid if ruid != NO_ID else old.uid
    new.euid = euid if euid != NO_ID else old.euid
    new.suid = suid if suid != NO_ID else old.suid
    new.fsuid = new.euid
    _fix_setuid(task, new)
    commit_creds(task, new)
    return 0


def sys_setfsuid(_kernel: Kernel, task: Task, uid: Uid) -> int:
    """setfsuid(2): the previous one, whether or not it was changed."""
    old = task.cred
    allowed = uid in {old.uid, old.euid, old.suid, old.fsuid} or old.capable(CAP_SETUID)
    if uid in {NO_ID, old.fsuid} or not allowed:
        return old.fsuid
    new = old.copy()
    new.fsuid = uid
    if not task.attributes.securebits & _SECURE_NO_SETUID_FIXUP:
        if old.fsuid == 0:
            new.cap_effective &= ~_FS_CAP_MASK
        elif uid == 0:
            new.cap_effective |= new.cap_permitted & _FS_CAP_MASK
    commit_creds(task, new)
    return old.fsuid


def sys_setgid(_kernel: Kernel, task: Task, gid: Gid) -> int:
    """setgid(2)."""
    _check_id(gid)
    old, new = task.cred, task.cred.copy()
    if old.capable(CAP_SETGID):
        new.gid = new.sgid = gid
    elif gid not in {old.gid, old.sgid}:
        raise _refuse("setgid")
    new.egid = new.fsgid = gid
    commit_creds(task, new)
    return 0


def sys_setregid(_kernel: Kernel, task: Task, rgid: Gid, egid: Gid) -> int:
    """setregid(2)."""
    old, new = task.cred, task.cred.copy()
    capable = old.capable(CAP_SETGID)
    if rgid != NO_ID:
        if rgid not in {old.gid, old.egid} and not capable:
            raise _refuse("setregid")
        new.gid = rgid
    if egid != NO_ID:
        if egid not in {old.gid, old.egid, old.sgid} and not capable:
            raise _refuse("setregid")
        new.egid = egid
    if rgid != NO_ID or egid not in {NO_ID, old.gid}:
        new.sgid = new.egid
    new.fsgid = new.egid
    commit_creds(task, new)
    return 0


def sys_setresgid(_kernel: Kernel, task: Task, rgid: Gid, egid: Gid, sgid: Gid) -> int:
    """setresgid(2)."""
    old, new = task.cred, task.cred.copy()
    own = {old.gid, old.egid, old.sgid, NO_ID}
    if not {rgid, egid, sgid} <= own and not old.capable(CAP_SETGID):
        raise _refuse("setresgid")
    new.gid = rgid if rgid != NO_ID else old.gid
    new.egid = egid if egid != NO_ID else old.egid
    new.sgid = sgid if sgid != NO_ID else old.sgid
    new.fsgid = new.egid
    commit_creds(task, new)
    return 0


def sys_setfsgid(_kernel: Kernel, task: Task, gid: Gid) -> int:
    """setfsgid(2): the previous one, whether or not it was changed."""
    old = task.cred
    allowed = gid in {old.gid, old.egid, old.sgid, old.fsgid} or old.capable(CAP_SETGID)
    if gid in {NO_ID, old.fsgid} or not allowed:
        return old.fsgid
    new = old.copy()
    new.fsgid = gid
    commit_creds(task, new)
    return old.fsgid


def _get_groups(task: Task, size: int, address: int, width: int) -> int:
    groups = task.cred.groups
    if size < 0 or (size and len(groups) > size):
        raise LinuxError(Errno.EINVAL, "getgroups: too little room")
    if size:
        shown = groups if width == 4 else [_low16(gid) for gid in groups]
        copy_to_user(task.mm, address, b"".join([gid.to_bytes(width, "little") for gid in shown]))
    return len(groups)


def _set_groups(task: Task, size: int, address: int, width: int) -> int:
    if not task.cred.capable(CAP_SETGID):
        raise LinuxError(Errno.EPERM, "setgroups")
    if not 0 <= size <= NGROUPS_MAX:
        raise LinuxError(Errno.EINVAL, "setgroups: too many")
    data = copy_from_user(task.mm, address, size * width) if size else b""
    groups = [int.from_bytes(data[at : at + width], "little") for at in range(0, len(data), width)]
    if width == 4 and NO_ID in groups:
        raise LinuxError(Errno.EINVAL, "setgroups: not an id")
    new = task.cred.copy()
    new.groups = tuple(sorted(_wide(gid) for gid in groups) if width == 2 else sorted(groups))
    commit_creds(task, new)
    return 0


def sys_getgroups(_kernel: Kernel, task: Task, size: Int, grouplist: Ptr) -> int:
    """getgroups(2)."""
    return _get_groups(task, size, grouplist, 4)


def sys_setgroups(_kernel: Kernel, task: Task, size: Int, grouplist: Ptr) -> int:
    """setgroups(2)."""
    return _set_groups(task, size, grouplist, 4)


# ---- 16 bits: kernel/uid16.c


def _low16(value: int) -> int:
    """An id in 16 bits; one that does not fit is the overflow id (high2lowuid)."""
    return value if value <= _NO_ID16 else _OVERFLOW_ID16


def _wide(value: int) -> int:
    """A 16-bit id as 32 bits; -1 stays -1 (low2highuid)."""
    value &= _NO_ID16
    return NO_ID if value == _NO_ID16 else value


def sys_getuid16(_kernel: Kernel, task: Task) -> int:
    """getuid(2), i386."""
    return _low16(task.cred.uid)


def sys_geteuid16(_kernel: Kernel, task: Task) -> int:
    """geteuid(2), i386."""
    return _low16(task.cred.euid)


def sys_getgid16(_kernel: Kernel, task: Task) -> int:
    """getgid(2), i386."""
    return _low16(task.cred.gid)


def sys_getegid16(_kernel: Kernel, task: Task) -> int:
    """getegid(2), i386."""
    return _low16(task.cred.egid)


def sys_getresuid16(_kernel: Kernel, task: Task, ruid: Ptr, euid: Ptr, suid: Ptr) -> int:
    """getresuid(2), i386."""
    cred = task.cred
    return _tell_ids(task, (ruid, euid, suid), (_low16(cred.uid), _low16(cred.euid), _low16(cred.suid)), 2)


def sys_getresgid16(_kernel: Kernel, task: Task, rgid: Ptr, egid: Ptr, sgid: Ptr) -> int:
    """getresgid(2), i386."""
    cred = task.cred
    return _tell_ids(task, (rgid, egid, sgid), (_low16(cred.gid), _low16(cred.egid), _low16(cred.sgid)), 2)


def sys_setuid16(kernel: Kernel, task: Task, uid: OldUid) -> int:
    """setuid(2), i386."""
    return sys_setuid(kernel, task, _wide(uid))


def sys_setreuid16(kernel: Kernel, task: Task, ruid: OldUid, euid: OldUid) -> int:
    """setreuid(2), i386."""
    return sys_setreuid(kernel, task, _wide(ruid), _wide(euid))


def sys_setresuid16(kernel: Kernel, task: Task, ruid: OldUid, euid: OldUid, suid: OldUid) -> int:
    """setresuid(2), i386."""
    return sys_setresuid(kernel, task, _wide(ruid), _wide(euid), _wide(suid))


def sys_setfsuid16(kernel: Kernel, task: Task, uid: OldUid) -> int:
    """setfsuid(2), i386."""
    return sys_setfsuid(kernel, task, _wide(uid))


def sys_setgid16(kernel: Kernel, task: Task, gid: OldGid) -> int:
    """setgid(2), i386."""
    return sys_setgid(kernel, task, _wide(gid))


def sys_setregid16(kernel: Kernel, task: Task, rgid: OldGid, egid: OldGid) -> int:
    """setregid(2), i386."""
    return sys_setregid(kernel, task, _wide(rgid), _wide(egid))


def sys_setresgid16(kernel: Kernel, task: Task, rgid: OldGid, egid: OldGid, sgid: OldGid) -> int:
    """setresgid(2), i386."""
    return sys_setresgid(kernel, task, _wide(rgid), _wide(egid), _wide(sgid))


def sys_setfsgid16(kernel: Kernel, task: Task, gid: OldGid) -> int:
    """setfsgid(2), i386."""
    return sys_setfsgid(kernel, task, _wide(gid))


def sys_getgroups16(_kernel: Kernel, task: Task, size: Int, grouplist: Ptr) -> int:
    """getgroups(2), i386."""
    return _get_groups(task, size, grouplist, 2)


def sys_setgroups16(_kernel: Kernel, task: Task, size: Int, grouplist: Ptr) -> int:
    """setgroups(2), i386."""
    return _set_groups(task, size, grouplist, 2)


_WIDE: dict[str, Handler] = {
    "getuid": sys_getuid, "geteuid": sys_geteuid, "getgid": sys_getgid, "getegid": sys_getegid,
    "getresuid": sys_getresuid, "getresgid": sys_getresgid, "setuid": sys_setuid, "setreuid": sys_setreuid,
    "setresuid": sys_setresuid, "setfsuid": sys_setfsuid, "setgid": sys_setgid, "setregid": sys_setregid,
    "setresgid": sys_setresgid, "setfsgid": sys_setfsgid, "getgroups": sys_getgroups, "setgroups": sys_setgroups,
}  # fmt: skip
_NARROW: dict[str, Handler] = {
    "getuid": sys_getuid16, "geteuid": sys_geteuid16, "getgid": sys_getgid16, "getegid": sys_getegid16,
    "getresuid": sys_getresuid16, "getresgid": sys_getresgid16, "setuid": sys_setuid16, "setreuid": sys_setreuid16,
    "setresuid": sys_setresuid16, "setfsuid": sys_setfsuid16, "setgid": sys_setgid16, "setregid": sys_setregid16,
    "setresgid": sys_setresgid16, "setfsgid": sys_setfsgid16, "getgroups": sys_getgroups16,
    "setgroups": sys_setgroups16,
}  # fmt: skip
ENTRIES: tuple[Entry, ...] = (
    *[full(name, handler, abi="x86-64") for name, handler in _WIDE.items()],
    *[full(name + "32", handler, abi="i386") for name, handler in _WIDE.items()],
    *[full(name, handler, abi="i386") for name, handler in _NARROW.items()],
)
