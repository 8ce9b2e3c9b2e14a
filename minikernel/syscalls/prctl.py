"""prctl(2).  Linux: kernel/sys.c, security/commoncap.c (cap_task_prctl)."""

from collections.abc import Callable
from typing import Final, TypeAlias

from minikernel.abi import prctl as p
from minikernel.abi.capability import CAP_LAST_CAP, CAP_SETPCAP, CAP_SYS_RESOURCE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.signal import NSIG
from minikernel.fs.cred import Cred
from minikernel.kernel import Kernel
from minikernel.mm.thp import THP_DISABLED, THP_EXCEPT_ADVISED
from minikernel.mm.uaccess import copy_from_user_partial, copy_to_user, put_user, strncpy_from_user
from minikernel.syscalls.args import PrctlOption, ULong
from minikernel.syscalls.entry_types import Entry, partial
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.attributes import TSC_ENABLE
from minikernel.task.creds import commit_creds
from minikernel.task.task import Task

_SECURE_KEEP_CAPS: Final = 1 << 4
_SECURE_KEEP_CAPS_LOCKED: Final = 1 << 5
_SECURE_NO_CAP_AMBIENT_RAISE: Final = 1 << 6
_SECURE_ALL_BITS: Final = 0x55
_SECURE_ALL_LOCKS: Final = _SECURE_ALL_BITS << 1
_MDWE_REFUSE_EXEC_GAIN: Final = 1
_MDWE_NO_INHERIT: Final = 2
_ANON_VMA_NAME_MAX: Final = 80
_SPEC_LAST: Final = 2  # PR_SPEC_L1D_FLUSH

_Args: TypeAlias = tuple[int, int, int, int]
_Option: TypeAlias = Callable[[Task, _Args], int]


def _invalid(why: str) -> LinuxError:
    return LinuxError(Errno.EINVAL, f"prctl: {why}")


def _no_more(args: _Args, used: int) -> None:
    """Errors: EINVAL: an argument after the first *used* is not 0."""
    if any(args[used:]):
        raise _invalid("unused arguments must be 0")


# ---- the task itself


def _set_pdeathsig(task: Task, args: _Args) -> int:
    if args[0] > NSIG:
        raise _invalid("no such signal")
    task.pdeath_signal = args[0]
    return 0


def _get_pdeathsig(task: Task, args: _Args) -> int:
    put_user(task.mm, args[0], task.pdeath_signal, 4)
    return 0


def _set_dumpable(task: Task, args: _Args) -> int:
    if args[0] not in {0, 1}:
        raise _invalid("dumpable is 0 or 1")
    task.attributes.dumpable = args[0]
    return 0


def _set_name(task: Task, args: _Args) -> int:
    size = p.TASK_COMM_LEN - 1
    data = copy_from_user_partial(task.mm, args[0], size)
    if len(data) < size and b"\0" not in data:
        raise LinuxError(Errno.EFAULT, "prctl: name")
    task.set_comm(data.split(b"\0")[0])
    return 0


def _get_name(task: Task, args: _Args) -> int:
    copy_to_user(task.mm, args[0], task.comm.ljust(p.TASK_COMM_LEN, b"\0"))
    return 0


def _set_timerslack(task: Task, args: _Args) -> int:
    signed = call_abi(task).signed(args[0])
    task.attributes.timer_slack_ns = signed if signed > 0 else task.attributes.default_timer_slack_ns
    return 0


def _set_no_new_privs(task: Task, args: _Args) -> int:
    if args[0] != 1:
        raise _invalid("no_new_privs cannot be taken back")
    _no_more(args, 1)
    task.attributes.no_new_privs = True
    return 0


def _get_no_new_privs(task: Task, args: _Args) -> int:
    _no_more(args, 0)
    return int(task.attributes.no_new_privs)


def _set_subreaper(task: Task, args: _Args) -> int:
    task.process.is_subreaper = bool(args[0])
    return 0


def _get_subreaper(task: Task, args: _Args) -> int:
    put_user(task.mm, args[0], int(task.process.is_subreaper), 4)
    return 0


def _get_tid_address(task: Task, args: _Args) -> int:
    put_user(task.mm, args[0], task.clear_child_tid, call_abi(task).word)
    return 0


def _set_timing(_task: Task, args: _Args) -> int:
    if args[0]:
        raise _invalid("only statistical timing")
    return 0


def _get_tsc(task: Task, args: _Args) -> int:
    put_user(task.mm, args[0], task.attributes.tsc_mode, 4)
    return 0


def _set_tsc(task: Task, args: _Args) -> int:
    if args[0] != TSC_ENABLE:
        raise _invalid("RDTSC cannot be made to fault")
    task.attributes.tsc_mode = args[0]
    return 0


def _mce_kill(task: Task, args: _Args) -> int:
    """What a broken memory page does to the task; no page ever breaks."""
    action, policy = args[0], args[1]
    if args[2] or args[3]:
        raise _invalid("unused arguments must be 0")
    if action == p.PR_MCE_KILL_CLEAR and not policy:
        task.attributes.mce_kill = p.PR_MCE_KILL_DEFAULT
    elif action == p.PR_MCE_KILL_SET and policy <= p.PR_MCE_KILL_DEFAULT:
        task.attributes.mce_kill = policy
    else:
        raise _invalid("machine check policy")
    return 0


def _mce_kill_get(task: Task, args: _Args) -> int:
    _no_more(args, 0)
    return task.attributes.mce_kill


def _get_speculation(_task: Task, args: _Args) -> int:
    """PR_SPEC_NOT_AFFECTED: the emulated CPU does not speculate."""
    _no_more(args, 1)
    if args[0] > _SPEC_LAST:
        raise LinuxError(Errno.ENODEV, "prctl: no such misfeature")
    return 0


def _set_speculation(_task: Task, args: _Args) -> int:
    if args[2] or args[3]:
        raise _invalid("unused arguments must be 0")
    if args[0] > _SPEC_LAST:
        raise LinuxError(Errno.ENODEV, "prctl: no such misfeature")
    raise LinuxError(Errno.ENXIO, "prctl: nothing to control")


def _set_io_flusher(task: Task, args: _Args) -> int:
    if not task.cred.capable(CAP_SYS_RESOURCE):
        raise LinuxError(Errno.EPERM, "prctl: PR_SET_IO_FLUSHER")
    _no_more(args, 1)
    if args[0] > 1:
        raise _invalid("io_flusher is 0 or 1")
    task.attributes.io_flusher = bool(args[0])
    return 0


def _get_io_flusher(task: Task, args: _Args) -> int:
    if not task.cred.capable(CAP_SYS_RESOURCE):
        raise LinuxError(Errno.EPERM, "prctl: PR_GET_IO_FLUSHER")
    _no_more(args, 0)
    return int(task.attributes.io_flusher)


# ---- memory


def _set_thp_disable(task: Task, args: _Args) -> int:
    """prctl_set_thp_disable; the exception for advised mappings came with Linux 6.18."""
    _no_more(args, 2)
    if args[1] & ~THP_EXCEPT_ADVISED or (args[1] and not args[0]):
        raise LinuxError(Errno.EINVAL, "prctl: PR_SET_THP_DISABLE flags")
    task.mm.thp_disabled = THP_DISABLED | args[1] if args[0] else 0
    return 0


def _get_thp_disable(task: Task, args: _Args) -> int:
    _no_more(args, 0)
    return task.mm.thp_disabled


def _set_mdwe(task: Task, args: _Args) -> int:
    _no_more(args, 1)
    bits, now = args[0], task.attributes.mdwe
    if bits & ~(_MDWE_REFUSE_EXEC_GAIN | _MDWE_NO_INHERIT) or bits == _MDWE_NO_INHERIT:
        raise _invalid("MDWE bits")
    if now and now != bits:
        raise LinuxError(Errno.EPERM, "prctl: MDWE cannot be changed")
    if bits:
        raise _invalid("memory-deny-write-execute is not enforced")
    return 0


def _get_mdwe(task: Task, args: _Args) -> int:
    _no_more(args, 0)
    return task.attributes.mdwe


def _set_memory_merge(task: Task, args: _Args) -> int:
    _no_more(args, 1)
    task.attributes.memory_merge = bool(args[0])
    return 0


def _get_memory_merge(task: Task, args: _Args) -> int:
    _no_more(args, 0)
    return int(task.attributes.memory_merge)


def _set_mm(task: Task, args: _Args) -> int:
    if not task.cred.capable(CAP_SYS_RESOURCE):
        raise LinuxError(Errno.EPERM, "prctl: PR_SET_MM")
    raise _invalid("PR_SET_MM is not done")


def _set_vma(task: Task, args: _Args) -> int:
    """PR_SET_VMA_ANON_NAME: checked, and refused as by a kernel built without it."""
    if args[0] == p.PR_SET_VMA_ANON_NAME and args[3]:
        strncpy_from_user(task.mm, args[3], _ANON_VMA_NAME_MAX)
    raise _invalid("mappings have no names")


def _get_auxv(task: Task, args: _Args) -> int:
    if args[2] or args[3]:
        raise _invalid("unused arguments must be 0")
    auxv = task.mm.saved_auxv
    copy_to_user(task.mm, args[0], auxv[: args[1]])
    return len(auxv)


# ---- capabilities


def _get_securebits(task: Task, _args: _Args) -> int:
    return task.attributes.securebits


def _set_securebits(task: Task, args: _Args) -> int:
    new, old = args[0], task.attributes.securebits
    locked = (old & _SECURE_ALL_LOCKS) >> 1
    changed = new ^ old
    unlocked = old & _SECURE_ALL_LOCKS & ~new
    unknown = new & ~(_SECURE_ALL_LOCKS | _SECURE_ALL_BITS)
    if locked & changed or unlocked or unknown or not task.cred.capable(CAP_SETPCAP):
        raise LinuxError(Errno.EPERM, "prctl: securebits")
    task.attributes.securebits = new
    return 0


def _get_keepcaps(task: Task, _args: _Args) -> int:
    return int(bool(task.attributes.securebits & _SECURE_KEEP_CAPS))


def _set_keepcaps(task: Task, args: _Args) -> int:
    if args[0] > 1:
        raise _invalid("keepcaps is 0 or 1")
    if task.attributes.securebits & _SECURE_KEEP_CAPS_LOCKED:
        raise LinuxError(Errno.EPERM, "prctl: keepcaps is locked")
    task.attributes.securebits &= ~_SECURE_KEEP_CAPS
    task.attributes.securebits |= _SECURE_KEEP_CAPS if args[0] else 0
    return 0


def _capbset_read(task: Task, args: _Args) -> int:
    if args[0] > CAP_LAST_CAP:
        raise _invalid("no such capability")
    return task.cred.cap_bset >> args[0] & 1


def _capbset_drop(task: Task, args: _Args) -> int:
    if not task.cred.capable(CAP_SETPCAP):
        raise LinuxError(Errno.EPERM, "prctl: bounding set")
    if args[0] > CAP_LAST_CAP:
        raise _invalid("no such capability")
    new = task.cred.copy()
    new.cap_bset &= ~(1 << args[0])
    commit_creds(task, new)
    return 0


def _ambient_raise(task: Task, new: Cred, bit: int) -> None:
    held = new.cap_permitted & new.cap_inheritable & bit
    if not held or task.attributes.securebits & _SECURE_NO_CAP_AMBIENT_RAISE:
        raise LinuxError(Errno.EPERM, "prctl: not permitted and inheritable")
    new.cap_ambient |= bit


def _cap_ambient(task: Task, args: _Args) -> int:
    action, capability = args[0], args[1]
    new = task.cred.copy()
    if action == p.PR_CAP_AMBIENT_CLEAR_ALL:
        _no_more(args, 1)
        new.cap_ambient = 0
        commit_creds(task, new)
        return 0
    if args[2] or args[3] or capability > CAP_LAST_CAP:
        raise _invalid("ambient capability")
    bit = 1 << capability
    if action == p.PR_CAP_AMBIENT_IS_SET:
        return int(bool(new.cap_ambient & bit))
    if action == p.PR_CAP_AMBIENT_RAISE:
        _ambient_raise(task, new, bit)
    elif action == p.PR_CAP_AMBIENT_LOWER:
        new.cap_ambient &= ~bit
    else:
        raise _invalid("ambient action")
    commit_creds(task, new)
    return 0


_OPTIONS: Final[dict[int, _Option]] = {
    p.PR_SET_PDEATHSIG: _set_pdeathsig,
    p.PR_GET_PDEATHSIG: _get_pdeathsig,
    p.PR_GET_DUMPABLE: lambda task, _args: task.attributes.dumpable,
    p.PR_SET_DUMPABLE: _set_dumpable,
    p.PR_GET_KEEPCAPS: _get_keepcaps,
    p.PR_SET_KEEPCAPS: _set_keepcaps,
    p.PR_GET_TIMING: lambda _task, _args: 0,
    p.PR_SET_TIMING: _set_timing,
    p.PR_SET_NAME: _set_name,
    p.PR_GET_NAME: _get_name,
    p.PR_GET_SECCOMP: lambda _task, _args: 0,
    p.PR_CAPBSET_READ: _capbset_read,
    p.PR_CAPBSET_DROP: _capbset_drop,
    p.PR_GET_TSC: _get_tsc,
    p.PR_SET_TSC: _set_tsc,
    p.PR_GET_SECUREBITS: _get_securebits,
    p.PR_SET_SECUREBITS: _set_securebits,
    p.PR_SET_TIMERSLACK: _set_timerslack,
    p.PR_GET_TIMERSLACK: lambda task, _args: task.attributes.timer_slack_ns,
    p.PR_MCE_KILL: _mce_kill,
    p.PR_MCE_KILL_GET: _mce_kill_get,
    p.PR_GET_SPECULATION_CTRL: _get_speculation,
    p.PR_SET_SPECULATION_CTRL: _set_speculation,
    p.PR_SET_IO_FLUSHER: _set_io_flusher,
    p.PR_GET_IO_FLUSHER: _get_io_flusher,
    p.PR_SET_MM: _set_mm,
    p.PR_SET_CHILD_SUBREAPER: _set_subreaper,
    p.PR_GET_CHILD_SUBREAPER: _get_subreaper,
    p.PR_SET_NO_NEW_PRIVS: _set_no_new_privs,
    p.PR_GET_NO_NEW_PRIVS: _get_no_new_privs,
    p.PR_GET_TID_ADDRESS: _get_tid_address,
    p.PR_SET_THP_DISABLE: _set_thp_disable,
    p.PR_GET_THP_DISABLE: _get_thp_disable,
    p.PR_CAP_AMBIENT: _cap_ambient,
    p.PR_SET_MDWE: _set_mdwe,
    p.PR_GET_MDWE: _get_mdwe,
    p.PR_SET_MEMORY_MERGE: _set_memory_merge,
    p.PR_GET_MEMORY_MERGE: _get_memory_merge,
    p.PR_SET_VMA: _set_vma,
    p.PR_GET_AUXV: _get_auxv,
}


def sys_prctl(
    _kernel: Kernel, task: Task, option: PrctlOption, arg2: ULong, arg3: ULong, arg4: ULong, arg5: ULong
) -> int:
    """prctl(2).

    Errors:
        EINVAL: an option that is not known, or not of this machine.
    """
    act = _OPTIONS.get(option)
    if act is None:
        raise _invalid("unknown option")
    return act(task, (arg2, arg3, arg4, arg5))


ENTRIES: tuple[Entry, ...] = (
    partial(
        "prctl",
        sys_prctl,
        "no seccomp, PR_SET_MM, PR_SET_VMA or MDWE: EINVAL",
    ),
)
