"""What a thread sets up for itself: segments, robust futexes, restartable sequences, memory barriers.

Linux: arch/x86/kernel/process_64.c (do_arch_prctl_64), tls.c, ldt.c; kernel/futex/syscalls.c; kernel/rseq.c;
kernel/sched/membarrier.c.
"""

from typing import Final

from minikernel.abi.abi import I386, X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ldt import (
    LM,
    USER_DESC_SIZE,
    UserDesc,
    unpack_user_desc,
    user_desc_of,
)
from minikernel.abi.prctl import (
    ARCH_GET_CPUID,
    ARCH_GET_FS,
    ARCH_GET_GS,
    ARCH_GET_XCOMP_PERM,
    ARCH_GET_XCOMP_SUPP,
    ARCH_REQ_XCOMP_PERM,
    ARCH_SET_CPUID,
    ARCH_SET_FS,
    ARCH_SET_GS,
)
from minikernel.arch.segments import NR_TLS
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import clear_user, copy_from_user, copy_to_user, copy_to_user_partial, put_user
from minikernel.syscalls.args import (
    ArchPrctlCode,
    Hex,
    Int,
    MembarrierCmd,
    Pid,
    Ptr,
    Size,
    UInt,
    ULong,
    UserDescIn,
    UserDescOut,
)
from minikernel.syscalls.entry_types import Entry, full, partial
from minikernel.syscalls.ident import find_task
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.task import Task
from minikernel.task.tls import tls_desc_okay

_XFEATURE_FP_SSE: Final = 3
_ANY_FREE: Final = 0xFFFF_FFFF  # entry_number -1


def sys_arch_prctl(kernel: Kernel, task: Task, code: ArchPrctlCode, addr: ULong) -> int:
    """arch_prctl(2): the bases of FS and GS; a 32-bit program has no use of it."""
    if code == ARCH_GET_CPUID:
        return 1
    if code == ARCH_SET_CPUID:
        raise LinuxError(Errno.ENODEV, "arch_prctl: CPUID cannot be made to fault")
    if code in {ARCH_GET_XCOMP_SUPP, ARCH_GET_XCOMP_PERM}:
        put_user(task.mm, addr, _XFEATURE_FP_SSE, 8)
        return 0
    if code == ARCH_REQ_XCOMP_PERM:
        raise LinuxError(Errno.EOPNOTSUPP, "arch_prctl: no such state component")
    if call_abi(task) is I386:
        raise LinuxError(Errno.EINVAL, "arch_prctl: of a 32-bit program")
    cpu = kernel.cpu
    if code in {ARCH_SET_FS, ARCH_SET_GS}:
        if addr >= X86_64.task_size:
            raise LinuxError(Errno.EPERM, "arch_prctl: base outside user space")
        if code == ARCH_SET_FS:
            cpu.fs_base = addr
        else:
            cpu.gs_base = addr
        return 0
    if code in {ARCH_GET_FS, ARCH_GET_GS}:
        put_user(task.mm, addr, cpu.fs_base if code == ARCH_GET_FS else cpu.gs_base, 8)
        return 0
    raise LinuxError(Errno.EINVAL, "arch_prctl: unknown code")


# ---- segments of i386 programs


def sys_set_thread_area(kernel: Kernel, task: Task, u_info: UserDescIn) -> int:
    """set_thread_area(2), i386.

    Errors:
        EINVAL: no TLS entry, or a descriptor that is not for data.  ESRCH: all are taken.
    """
    desc = unpack_user_desc(copy_from_user(task.mm, u_info, USER_DESC_SIZE))
    if not tls_desc_okay(desc):
        raise LinuxError(Errno.EINVAL, "set_thread_area: not a data segment")
    gdt = kernel.user_mode.gdt
    index = desc.entry_number
    if index == _ANY_FREE:
        free = [slot for slot in range(NR_TLS) if not task.tls[slot]]
        if not free:
            raise LinuxError(Errno.ESRCH, "set_thread_area: every entry is taken")
        index = gdt.tls_min + free[0]
        put_user(task.mm, u_info, index, 4)
    if not gdt.is_tls(index):
        raise LinuxError(Errno.EINVAL, "set_thread_area: not a TLS entry")
    descriptor = 0 if desc.is_empty or desc.is_zero else desc.descriptor()
    slot = index - gdt.tls_min
    task.tls = (*task.tls[:slot], descriptor, *task.tls[slot + 1 :])
    if task is kernel.current:
        kernel.user_mode.load_tls(task.tls)
        _reload_segments(kernel, index)
    return 0


def _reload_segments(kernel: Kernel, index: int) -> None:
    """A segment register that holds the changed selector sees the change at once (do_set_thread_area)."""
    cpu = kernel.cpu
    selector = index << 3 | 3
    for name in ("ds", "es", "fs", "gs"):
        if cpu.segment(name) == selector:
            kernel.user_mode.load_segment(name, selector)


def sys_get_thread_area(kernel: Kernel, task: Task, u_info: UserDescOut) -> int:
    """get_thread_area(2), i386."""
    index = int.from_bytes(copy_from_user(task.mm, u_info, 4), "little")
    gdt = kernel.user_mode.gdt
    if not gdt.is_tls(index):
        raise LinuxError(Errno.EINVAL, "get_thread_area: not a TLS entry")
    desc = user_desc_of(index, task.tls[index - gdt.tls_min])
    copy_to_user(task.mm, u_info, UserDesc(index, desc.base, desc.limit, desc.flags & ~LM).pack())
    return 0


def sys_modify_ldt(kernel: Kernel, task: Task, func: Int, ptr: Ptr, bytecount: ULong) -> int:
    """modify_ldt(2): reading the table, which is empty.

    Linux returns an unsigned int: a 64-bit program sees the errors as large numbers, and so it does here.
    """
    if func == 0:
        return 0
    error = Errno.ENOSYS
    if func == 2:
        size = min(bytecount, 128 if kernel.cpu.long_mode else 5 * 8)  # the default LDT: zeroes
        if _cleared(task, ptr, size):
            return size
        error = Errno.EFAULT
    if call_abi(task) is X86_64:
        return -error & 0xFFFF_FFFF
    raise LinuxError(error, "modify_ldt: the table is empty and cannot be written")


def _cleared(task: Task, address: int, size: int) -> bool:
    """Store *size* zero bytes at *address*; False if some cannot be written."""
    return copy_to_user_partial(task.mm, address, bytes(size)) == size


# ---- what the kernel keeps for user space


def sys_set_robust_list(_kernel: Kernel, task: Task, head: Ptr, length: Size) -> int:
    """set_robust_list(2)."""
    if length != 3 * call_abi(task).word:
        raise LinuxError(Errno.EINVAL, "set_robust_list: size of the head")
    task.robust_list = (head, length)
    return 0


def sys_get_robust_list(kernel: Kernel, task: Task, pid: Pid, head_ptr: Ptr, len_ptr: Ptr) -> int:
    """get_robust_list(2)."""
    target = find_task(kernel, task, pid)
    if target.cred.uid != task.cred.uid and task.cred.euid != 0:
        raise LinuxError(Errno.EPERM, "get_robust_list of another user's task")
    word = call_abi(task).word
    put_user(task.mm, len_ptr, 3 * word, word)
    put_user(task.mm, head_ptr, target.robust_list[0], word)
    return 0


_RSEQ_FLAG_UNREGISTER: Final = 1
_RSEQ_ORIG_SIZE: Final = 32
_RSEQ_MIN_SIZE: Final = 28  # offsetof(struct rseq, end)
_RSEQ_ALIGN: Final = 32
_RSEQ_UNINITIALIZED: Final = 0xFFFF_FFFF


def _rseq_unregister(task: Task, address: int, length: int, sig: int) -> int:
    known, known_length, known_sig = task.rseq
    if not known or known != address or length != known_length:
        raise LinuxError(Errno.EINVAL, "rseq: not what was registered")
    if sig != known_sig:
        raise LinuxError(Errno.EPERM, "rseq: another signature")
    _store_rseq(task, address, 0, _RSEQ_UNINITIALIZED)
    task.rseq = (0, 0, 0)
    return 0


def _store_rseq(task: Task, address: int, cpu_start: int, cpu: int) -> None:
    """The fields of struct rseq that say where the thread runs: cpu_id_start, cpu_id; node_id, mm_cid."""
    copy_to_user(task.mm, address, cpu_start.to_bytes(4, "little") + cpu.to_bytes(4, "little"))
    clear_user(task.mm, address + 20, 8)


def sys_rseq(_kernel: Kernel, task: Task, rseq: Ptr, rseq_len: Hex, flags: Int, sig: Hex) -> int:
    """rseq(2): registration; the thread is told it runs on CPU 0, where it stays."""
    if flags & _RSEQ_FLAG_UNREGISTER:
        if flags & ~_RSEQ_FLAG_UNREGISTER:
            raise LinuxError(Errno.EINVAL, "rseq: flags")
        return _rseq_unregister(task, rseq, rseq_len, sig)
    if flags:
        raise LinuxError(Errno.EINVAL, "rseq: flags")
    known, known_length, known_sig = task.rseq
    if known:
        if (known, known_length) != (rseq, rseq_len):
            raise LinuxError(Errno.EINVAL, "rseq: another one is registered")
        if sig != known_sig:
            raise LinuxError(Errno.EPERM, "rseq: another signature")
        raise LinuxError(Errno.EBUSY, "rseq: registered already")
    if rseq_len < _RSEQ_ORIG_SIZE or rseq_len < _RSEQ_MIN_SIZE or rseq % _RSEQ_ALIGN:
        raise LinuxError(Errno.EINVAL, "rseq: size or alignment")
    if rseq + rseq_len > task.mm.layout.task_size:
        raise LinuxError(Errno.EFAULT, "rseq: outside user space")
    _store_rseq(task, rseq, 0, 0)
    task.rseq = (rseq, rseq_len, sig)
    return 0


_CMD_GET_REGISTRATIONS: Final = 512
_CMD_RSEQ: Final = 128
_CMD_ALL: Final = 1023
_NEEDS: Final = {8: 16, 32: 64, 128: 256}  # command: the registration it needs
_REGISTERS: Final = (4, 16, 64, 256)


def sys_membarrier(_kernel: Kernel, task: Task, cmd: MembarrierCmd, flags: UInt, _cpu_id: Int) -> int:
    """membarrier(2): with one CPU every thread is always in step."""
    if flags and (cmd != _CMD_RSEQ or flags != 1):
        raise LinuxError(Errno.EINVAL, "membarrier: flags")
    if cmd == 0:
        return _CMD_ALL
    if cmd == _CMD_GET_REGISTRATIONS:
        return task.attributes.membarrier
    if cmd in _REGISTERS:
        task.attributes.membarrier |= cmd
        return 0
    if cmd in _NEEDS:
        if not task.attributes.membarrier & _NEEDS[cmd]:
            raise LinuxError(Errno.EPERM, "membarrier: not registered")
        return 0
    if cmd in {1, 2}:
        return 0
    raise LinuxError(Errno.EINVAL, "membarrier: unknown command")


ENTRIES: tuple[Entry, ...] = (
    partial("arch_prctl", sys_arch_prctl, "FS and GS bases; no shadow stacks, no CPUID faulting"),
    full("set_thread_area", sys_set_thread_area, abi="i386"),
    full("get_thread_area", sys_get_thread_area, abi="i386"),
    partial("modify_ldt", sys_modify_ldt, "reading the empty table"),
    full("set_robust_list", sys_set_robust_list),
    full("get_robust_list", sys_get_robust_list),
    full("rseq", sys_rseq),
    full("membarrier", sys_membarrier),
)
