"""The identity a new program gets: set-user-id and set-group-id files, capabilities of root, files and the ambient set.

Linux: fs/exec.c (bprm_creds_from_file, bprm_fill_uid), security/commoncap.c (cap_bprm_creds_from_file), kernel/cred.c.
Sets of capabilities: fP, fI of the file; pP, pI, pE, pA of the process; X the bounding set.
"""

from typing import Final

from minikernel.abi.capability import (
    CAP_IPC_LOCK,
    CAP_SETUID,
    CAP_SYS_ADMIN,
    CAP_SYS_RAWIO,
    CAP_VALID_MASK,
    VFS_CAP,
    VFS_CAP_FLAGS_EFFECTIVE,
    VFS_CAP_SIZES,
)
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import S_ISGID, S_ISUID, S_IXGRP
from minikernel.fs.cred import MAY_READ, Cred, inode_permission
from minikernel.fs.file import OpenFile
from minikernel.task.attributes import SUID_DUMP_DISABLE, SUID_DUMP_USER
from minikernel.task.binprm import BinPrm
from minikernel.task.task import Task

_SECURE_NOROOT: Final = 1 << 0
# READ_IMPLIES_EXEC, ADDR_NO_RANDOMIZE, ADDR_COMPAT_LAYOUT, MMAP_PAGE_ZERO: PER_CLEAR_ON_SETID.
_PER_CLEAR_ON_SETID: Final = 0x0400000 | 0x0040000 | 0x0200000 | 0x0100000
_XATTR_NAME_CAPS: Final = b"security.capability"


def commit_creds(task: Task, new: Cred) -> None:
    """Make *new* the identity of *task*; what hangs on the old one goes (commit_creds, kernel/cred.c)."""
    old = task.cred
    ids_differ = (old.euid, old.egid, old.fsuid, old.fsgid) != (new.euid, new.egid, new.fsuid, new.fsgid)
    if ids_differ or new.cap_permitted & ~old.cap_permitted:
        task.attributes.dumpable = SUID_DUMP_DISABLE
        task.pdeath_signal = 0
    task.cred = new
    if task.has_mm:
        task.mm.cap_ipc_lock = new.capable(CAP_IPC_LOCK)
        task.mm.cap_sys_admin = new.capable(CAP_SYS_ADMIN)
        task.mm.cap_sys_rawio = new.capable(CAP_SYS_RAWIO)


def creds_from_file(task: Task, bprm: BinPrm) -> None:
    """Set ``bprm.cred``, ``bprm.secure`` and ``bprm.per_clear`` for the file that will run.

    Errors:
        EPERM: the file's capabilities cannot all be given, and its program would not notice.
    """
    old, new, file = task.cred, bprm.cred, bprm.file
    _fill_ids(task, bprm)
    effective, has_fcap = _file_caps(bprm, file)
    if not task.attributes.securebits & _SECURE_NOROOT and not (has_fcap and new.euid == 0 != new.uid):
        # Root is as if every file had every capability.
        if 0 in {new.euid, new.uid}:
            new.cap_permitted = old.cap_bset | old.cap_inheritable
        effective = effective or new.euid == 0
    gained = bool(new.cap_permitted & ~old.cap_permitted)
    if gained:
        bprm.per_clear |= _PER_CLEAR_ON_SETID
    id_changed = new.euid != old.euid or not (new.egid == old.fsgid or new.egid in old.groups)
    if (id_changed or gained) and _is_unsafe(task):
        if task.attributes.no_new_privs or not new.capable(CAP_SETUID):
            new.euid, new.egid = new.uid, new.gid
        new.cap_permitted &= old.cap_permitted
    new.suid = new.fsuid = new.euid
    new.sgid = new.fsgid = new.egid
    if has_fcap or id_changed:
        new.cap_ambient = 0
    new.cap_permitted |= new.cap_ambient
    new.cap_effective = new.cap_permitted if effective else new.cap_ambient
    grew = effective or bool(new.cap_permitted & ~new.cap_ambient)
    bprm.secure = id_changed or new.euid != old.uid or new.egid != old.gid or (new.uid != 0 and grew)


def _fill_ids(task: Task, bprm: BinPrm) -> None:
    """The ids of a set-user-id or set-group-id file (bprm_fill_uid)."""
    inode = bprm.file.inode
    if bprm.file.f_path.mnt.nosuid or task.attributes.no_new_privs:
        return
    if inode.mode & S_ISUID:
        bprm.per_clear |= _PER_CLEAR_ON_SETID
        bprm.cred.euid = inode.uid
    # Without the group's x bit it once meant mandatory locks.
    if inode.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP:
        bprm.per_clear |= _PER_CLEAR_ON_SETID
        bprm.cred.egid = inode.gid


def _file_caps(bprm: BinPrm, file: OpenFile) -> tuple[bool, bool]:
    """(X & fP) | (pI & fI) is permitted: whether it takes effect at once, and whether there is any (get_file_caps)."""
    new = bprm.cred
    new.cap_permitted = 0
    xattrs = file.inode.xattrs
    data = xattrs.get(_XATTR_NAME_CAPS) if xattrs else None
    if data is None or file.f_path.mnt.nosuid:
        return False, False
    magic = int.from_bytes(data[:4], "little")
    if len(data) != VFS_CAP_SIZES.get(magic & ~0xFF_FFFF):
        return False, False  # Linux logs it and goes on without
    words = VFS_CAP.unpack(data[4:20].ljust(16, b"\0"))
    permitted = (words[0] | words[2] << 32) & CAP_VALID_MASK
    inheritable = (words[1] | words[3] << 32) & CAP_VALID_MASK
    new.cap_permitted = new.cap_bset & permitted | new.cap_inheritable & inheritable
    effective = bool(magic & VFS_CAP_FLAGS_EFFECTIVE)
    if effective and permitted & ~new.cap_permitted:
        raise LinuxError(Errno.EPERM, "the bounding set withholds capabilities that the file demands")
    return effective, True


def _is_unsafe(task: Task) -> bool:
    """Whether others could make use of new privileges: no_new_privs, or a shared fs_struct (check_unsafe_exec)."""
    if task.attributes.no_new_privs:
        return True
    others = task.kernel.tasks.values()
    return any(other.fs is task.fs and other.process is not task.process for other in others)


def commit_exec_creds(task: Task, bprm: BinPrm) -> None:
    """The new identity takes effect, and says whether the process may be looked into (begin_new_exec)."""
    new = bprm.cred
    secret = (new.euid, new.egid) != (new.uid, new.gid) or not _may_read(bprm.file, task.cred)
    task.attributes.dumpable = SUID_DUMP_DISABLE if secret else SUID_DUMP_USER
    if bprm.secure:
        task.pdeath_signal = 0
    task.personality &= ~bprm.per_clear
    commit_creds(task, new)


def _may_read(file: OpenFile, cred: Cred) -> bool:
    try:
        inode_permission(file.inode, MAY_READ, cred)
    except LinuxError:
        return False
    return True
