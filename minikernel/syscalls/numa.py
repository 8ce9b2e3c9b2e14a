"""Memory policies of a machine with one node: checked, remembered, without effect.  Linux: mm/mempolicy.c."""

from typing import Final

from emu.x86 import PAGE_MASK, PAGE_SIZE, page_align
from minikernel.abi.capability import CAP_SYS_NICE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.numa import (
    MPOL_BIND,
    MPOL_DEFAULT,
    MPOL_F_ADDR,
    MPOL_F_MEMS_ALLOWED,
    MPOL_F_NODE,
    MPOL_F_NUMA_BALANCING,
    MPOL_F_RELATIVE_NODES,
    MPOL_F_STATIC_NODES,
    MPOL_INTERLEAVE,
    MPOL_LOCAL,
    MPOL_MAX,
    MPOL_MF_MOVE,
    MPOL_MF_MOVE_ALL,
    MPOL_MF_STRICT,
    MPOL_MODE_FLAGS,
    MPOL_PREFERRED,
    MPOL_PREFERRED_MANY,
    MPOL_WEIGHTED_INTERLEAVE,
)
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import clear_user, copy_from_user, copy_to_user, get_user, put_user
from minikernel.syscalls.args import Int, Ptr, Size, ULong
from minikernel.syscalls.entry_types import Entry, full, partial
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.task import Task

_NODES: Final = 1  # the set with node 0 in it
_INTERLEAVES: Final = (MPOL_INTERLEAVE, MPOL_WEIGHTED_INTERLEAVE)


def _get_nodes(task: Task, address: int, maxnode: int) -> int:
    """The set of nodes at *address*, *maxnode* - 1 bits of it (get_nodes).  Errors: EINVAL, EFAULT."""
    bits = maxnode - 1
    if bits <= 0 or not address:
        return 0
    if bits > PAGE_SIZE * 8:
        raise LinuxError(Errno.EINVAL, "node mask longer than a page")
    word = 8 * call_abi(task).word
    size = -(-bits // word) * call_abi(task).word
    nodes = int.from_bytes(copy_from_user(task.mm, address, size), "little") & ((1 << bits) - 1)
    if nodes & ~_NODES:
        raise LinuxError(Errno.EINVAL, "a node that is not there")
    return nodes


def _new_policy(mode: int, nodes: int) -> tuple[int, int]:
    """A checked policy: mode with flags, and nodes (sanitize_mpol_flags, mpol_new).  Errors: EINVAL."""
    flags, mode = mode & MPOL_MODE_FLAGS, mode & ~MPOL_MODE_FLAGS
    static = flags & (MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES)
    bad = not 0 <= mode < MPOL_MAX or static == MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES
    if flags & MPOL_F_NUMA_BALANCING and mode not in {MPOL_BIND, MPOL_PREFERRED_MANY}:
        bad = True
    if mode == MPOL_DEFAULT:
        bad |= bool(nodes) or bool(flags)
    elif mode == MPOL_PREFERRED and not nodes:
        bad |= bool(static)
        mode = MPOL_LOCAL
    elif mode == MPOL_LOCAL:
        bad |= bool(nodes) or bool(static)
    else:
        bad |= not nodes
    if bad:
        raise LinuxError(Errno.EINVAL, "no such memory policy")
    return mode | flags, nodes


def sys_set_mempolicy(_kernel: Kernel, task: Task, mode: Int, nmask: Ptr, maxnode: ULong) -> int:
    """set_mempolicy(2)."""
    task.attributes.mempolicy = _new_policy(mode, _get_nodes(task, nmask, maxnode))
    return 0


def sys_mbind(
    _kernel: Kernel, task: Task, start: Ptr, length: Size, mode: Int, nmask: Ptr, maxnode: ULong, flags: Int
) -> int:
    """mbind(2): there is nowhere else to put a page."""
    mm = task.mm
    nodes = _get_nodes(task, nmask, maxnode)
    if flags & ~(MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL):
        raise LinuxError(Errno.EINVAL, "mbind: flags")
    if flags & MPOL_MF_MOVE_ALL and not task.cred.capable(CAP_SYS_NICE):
        raise LinuxError(Errno.EPERM, "mbind: MPOL_MF_MOVE_ALL")
    if start & PAGE_MASK:
        raise LinuxError(Errno.EINVAL, "mbind: unaligned")
    end = start + page_align(length)
    if end > call_abi(task).mask:
        raise LinuxError(Errno.EINVAL, "mbind: the range wraps")
    _new_policy(mode, nodes)
    at = start
    for vma in mm.vmas.overlapping(start, end):
        if vma.start > at:
            break
        at = vma.end
    if at < end:
        raise LinuxError(Errno.EFAULT, "mbind: a hole")
    return 0


def _policy_told(task: Task, address: int, flags: int) -> tuple[int, int]:
    """The number and the nodes that get_mempolicy tells (do_get_mempolicy).  Errors: EINVAL, EFAULT."""
    if flags & ~(MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED):
        raise LinuxError(Errno.EINVAL, "get_mempolicy: flags")
    if flags & MPOL_F_MEMS_ALLOWED:
        if flags & (MPOL_F_NODE | MPOL_F_ADDR):
            raise LinuxError(Errno.EINVAL, "get_mempolicy: flags")
        return 0, _NODES
    if flags & MPOL_F_ADDR:
        if task.mm.vmas.find(address) is None:
            raise LinuxError(Errno.EFAULT, "get_mempolicy: nothing is mapped there")
    elif address:
        raise LinuxError(Errno.EINVAL, "get_mempolicy: an address without MPOL_F_ADDR")
    mode, nodes = task.attributes.mempolicy
    if not flags & MPOL_F_NODE:
        return mode, nodes
    if flags & MPOL_F_ADDR:
        get_user(task.mm, address, 1)  # the page must be there for its node to be told
        return 0, nodes
    if mode & ~MPOL_MODE_FLAGS not in _INTERLEAVES:
        raise LinuxError(Errno.EINVAL, "get_mempolicy: not interleaved")
    return 0, nodes


def sys_get_mempolicy(
    _kernel: Kernel, task: Task, policy: Ptr, nmask: Ptr, maxnode: ULong, addr: Ptr, flags: ULong
) -> int:
    """get_mempolicy(2)."""
    if nmask and maxnode < 1:
        raise LinuxError(Errno.EINVAL, "get_mempolicy: no room for a node")
    told, nodes = _policy_told(task, addr, flags)
    if policy:
        put_user(task.mm, policy, told, 4)
    if nmask:
        word = call_abi(task).word
        size = -(-(maxnode - 1) // (8 * word)) * word
        if size > PAGE_SIZE:
            raise LinuxError(Errno.EINVAL, "get_mempolicy: node mask longer than a page")
        copy_to_user(task.mm, nmask, nodes.to_bytes(word, "little")[:size])
        clear_user(task.mm, nmask + word, max(size - word, 0))
    return 0


ENTRIES: tuple[Entry, ...] = (
    full("set_mempolicy", sys_set_mempolicy, "there is one node"),
    partial("get_mempolicy", sys_get_mempolicy, "the task's policy, not a mapping's; there is one node"),
    full("mbind", sys_mbind, "there is one node"),
)
