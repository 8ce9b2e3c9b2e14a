"""Restartable sequences: a critical section that was left is begun again at its abort handler.

Linux: kernel/rseq.c (rseq_handle_notify_resume, rseq_ip_fixup); include/uapi/linux/rseq.h.
"""

from struct import Struct
from typing import Final

from emu.cpu import RIP
from minikernel.abi.abi import I386
from minikernel.abi.errno import LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import SI_KERNEL, SIGSEGV
from minikernel.mm.uaccess import copy_from_user, get_user, put_user
from minikernel.task.signal import force_signal
from minikernel.task.task import Task

_CS_OFFSET: Final = 8  # rseq_cs in struct rseq
_RSEQ_CS: Final = Struct("<IIQQQ")  # version, flags, start_ip, post_commit_offset, abort_ip


def rseq_handle_notify_resume(task: Task) -> None:
    """*task*, whose state is in the CPU, was preempted or gets a signal: take it out of a critical section.

    A struct that makes no sense is a SIGSEGV, as on Linux.
    """
    address, _, signature = task.rseq
    if not address:
        return
    try:
        descriptor = get_user(task.mm, address + _CS_OFFSET, 4 if task.abi is I386 else 8)
        sound = not descriptor or _leave_section(task, address, descriptor, signature)
    except LinuxError:
        sound = False
    if not sound:
        force_signal(task, Siginfo(SIGSEGV, SI_KERNEL))


def _leave_section(task: Task, address: int, descriptor: int, signature: int) -> bool:
    """Go to the abort handler if the section of *descriptor* was left half done; False if it makes no sense."""
    limit = task.mm.layout.task_size
    if descriptor >= limit:
        return False
    version, _, start, length, abort = _RSEQ_CS.unpack(copy_from_user(task.mm, descriptor, _RSEQ_CS.size))
    if version or start >= limit or start + length >= limit or abort >= limit or 0 <= abort - start < length:
        return False
    if get_user(task.mm, abort - 4, 4) != signature:
        return False
    put_user(task.mm, address + _CS_OFFSET, 0, 8)
    regs = task.kernel.cpu.regs
    if start <= regs[RIP] < start + length:
        regs[RIP] = abort
    return True
