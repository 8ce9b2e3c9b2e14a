"""swapon(2) and swapoff(2).  Linux: mm/swapfile.c.

A swap file has to be one whose contents are not in guest RAM: a file of the host's, shown with --bind HOST:GUEST:rw, or
one of the root's.  While it is in use nobody can open it for writing.
"""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT
from minikernel.abi.capability import CAP_SYS_ADMIN
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_LARGEFILE, O_RDONLY
from minikernel.fs.cred import MAY_READ, MAY_WRITE, inode_permission
from minikernel.fs.dentry import d_path
from minikernel.fs.namei import LOOKUP_FOLLOW, Walk
from minikernel.fs.swapstore import GuestSwapStore
from minikernel.kernel import Kernel
from minikernel.mm.swap import SWAP_FLAG_PREFER
from minikernel.syscalls.args import Hex, PathPtr
from minikernel.syscalls.entry_types import Entry, full
from minikernel.syscalls.file_common import get_name
from minikernel.task.task import Task

if TYPE_CHECKING:
    from minikernel.mm.swap_area import SwapArea

_PRIO_MASK: Final = 0x7FFF
_DISCARDS: Final = 0x10000 | 0x20000 | 0x40000  # hints about flash memory: nothing here to discard
_VALID: Final = SWAP_FLAG_PREFER | _PRIO_MASK | _DISCARDS


def sys_swapon(kernel: Kernel, task: Task, path: PathPtr, flags: Hex) -> int:
    """swapon(2)."""
    if flags & ~_VALID:
        raise LinuxError(Errno.EINVAL, "swapon: unknown flag")
    if not task.cred.capable(CAP_SYS_ADMIN):
        raise LinuxError(Errno.EPERM, "swapon")
    place = Walk(task.fs, task.cred).lookup(get_name(task, path), LOOKUP_FOLLOW)
    inode = place.inode
    if inode.is_dir:
        raise LinuxError(Errno.EISDIR, "swapon: a directory")
    inode_permission(inode, MAY_READ | MAY_WRITE, task.cred)
    mapping = inode.mapping
    if not inode.is_reg or mapping is None or mapping.backing is None:
        raise LinuxError(Errno.EINVAL, "swapon: no file outside of RAM")
    if _area_of(kernel, inode) is not None:
        raise LinuxError(Errno.EBUSY, "swapon: in use as swap already")
    if inode.write_count > 0:
        raise LinuxError(Errno.ETXTBSY, "swapon: the file is open for writing")
    file = inode.open(place, O_RDONLY | O_LARGEFILE)
    try:
        mapping.sync()
        priority = flags & _PRIO_MASK if flags & SWAP_FLAG_PREFER else None
        store = GuestSwapStore(mapping.backing, inode, file.put_file)
        kernel.node.swap.swapon(d_path(place, task.fs.root), store, inode.size >> PAGE_SHIFT, priority)
    except LinuxError:
        file.put_file()
        raise
    file.deny_write_access()
    return 0


def sys_swapoff(kernel: Kernel, task: Task, path: PathPtr) -> int:
    """swapoff(2)."""
    if not task.cred.capable(CAP_SYS_ADMIN):
        raise LinuxError(Errno.EPERM, "swapoff")
    name = get_name(task, path)
    area = next((each for each in kernel.node.swap.order if each.name == name), None)
    if area is None:
        area = _area_of(kernel, Walk(task.fs, task.cred).lookup(name, LOOKUP_FOLLOW).inode)
    if area is None:
        raise LinuxError(Errno.EINVAL, "swapoff: not in use as swap")
    from minikernel.mm.swapoff import swapoff  # hardly any program needs it

    with kernel.oom.blame(task):
        swapoff(kernel.node, area)
    return 0


def _area_of(kernel: Kernel, inode: object) -> "SwapArea | None":
    """The area that lies in *inode*."""
    for area in kernel.node.swap.order:
        if isinstance(area.store, GuestSwapStore) and area.store.inode is inode:
            return area
    return None


ENTRIES: tuple[Entry, ...] = (
    full("swapon", sys_swapon, "a file of the host; the discard flags do nothing"),
    full("swapoff", sys_swapoff),
)
