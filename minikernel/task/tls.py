"""Thread-local storage segments of i386 tasks.  Linux: arch/x86/kernel/tls.c (do_set_thread_area, tls_desc_okay)."""

from emu.x86 import VirtAddr
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ldt import SEG_32BIT, SEG_NOT_PRESENT, USER_DESC_SIZE, UserDesc, unpack_user_desc
from minikernel.mm.uaccess import copy_from_user
from minikernel.task.task import Task


def tls_desc_okay(desc: UserDesc) -> bool:
    """Whether *desc* may be a TLS entry: empty, or a present 32-bit data segment."""
    if desc.is_empty or desc.is_zero:
        return True
    return bool(desc.flags & SEG_32BIT) and desc.contents <= 1 and not desc.flags & SEG_NOT_PRESENT


def set_new_tls(child: Task, address: int) -> None:
    """Give *child* the entry that CLONE_SETTLS points to (set_new_tls).

    Errors:
        EINVAL: no TLS entry, or not a data segment.  EFAULT.
    """
    desc = unpack_user_desc(copy_from_user(child.mm, VirtAddr(address), USER_DESC_SIZE))
    gdt = child.kernel.user_mode.gdt
    if not tls_desc_okay(desc) or not gdt.is_tls(desc.entry_number):
        raise LinuxError(Errno.EINVAL, "CLONE_SETTLS: not a TLS entry")
    slot = desc.entry_number - gdt.tls_min
    descriptor = 0 if desc.is_empty or desc.is_zero else desc.descriptor()
    child.tls = (*child.tls[:slot], descriptor, *child.tls[slot + 1 :])
