"""brk(2).  Linux: mm/mmap.c, sys_brk; mm/vma.c, do_brk_flags."""

from emu.x86 import PAGE_SHIFT, VirtAddr, page_align
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MAP_FIXED, PROT_READ, PROT_WRITE
from minikernel.abi.resource import RLIM_INFINITY, RLIMIT_DATA
from minikernel.mm.gup import mm_populate
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import insert_vma
from minikernel.mm.munmap import do_munmap
from minikernel.mm.unmapped_area import get_unmapped_area
from minikernel.mm.vma import (
    VM_ACCOUNT,
    VM_DATA_DEFAULT_FLAGS,
    VM_EXEC,
    VM_LOCKED,
    Vma,
)


def do_brk(mm: MmStruct, address: int) -> VirtAddr:
    """Move the program's break to *address*, if that can be done; where it is now.  It never fails."""
    if address < mm.start_brk:
        return mm.brk
    limit = mm.rlimits[RLIMIT_DATA][0]
    if limit < RLIM_INFINITY and address - mm.start_brk + mm.end_data - mm.start_data > limit:
        return mm.brk
    old = page_align(mm.brk)
    new = page_align(address)
    if new < old:
        if not _shrink(mm, new, old):
            return mm.brk
    elif new > old and not _expand(mm, old, new):
        return mm.brk
    mm.brk = VirtAddr(address)
    if new > old and mm.def_flags & VM_LOCKED:
        mm_populate(mm, old, new, ignore_errors=True)
    return mm.brk


def _shrink(mm: MmStruct, new: int, old: int) -> bool:
    """Unmap [*new*, *old*)."""
    vma = mm.vmas.find_vma(new)
    if vma is None or vma.start >= old:
        return False
    try:
        do_munmap(mm, new, old)
    except LinuxError:
        return False
    mm.tell("brk", new, old, 0, 0)
    return True


def _expand(mm: MmStruct, old: int, new: int) -> bool:
    """Map [*old*, *new*), if nothing is in the way, not even a stack's guard gap."""
    flags = VM_DATA_DEFAULT_FLAGS | VM_ACCOUNT | mm.def_flags | (VM_EXEC if mm.read_implies_exec else 0)
    try:
        get_unmapped_area(mm, old, new - old, MAP_FIXED)
    except LinuxError:
        return False
    if not mm.mlock_future_ok(mm.def_flags, new - old):
        return False
    following = mm.vmas.find_vma(old)
    if following is not None and new + (1 << PAGE_SHIFT) > following.start_gap:
        return False
    try:
        do_brk_flags(mm, old, new, flags)
    except LinuxError:
        return False
    mm.tell("brk", old, new, PROT_READ | PROT_WRITE, 0)
    return True


def do_brk_flags(mm: MmStruct, start: int, end: int, flags: int) -> None:
    """Map anonymous memory at [*start*, *end*), which is free: same name; also for a program's .bss.

    Errors:
        ENOMEM: a limit.
    """
    if not mm.may_expand_vm(flags, (end - start) >> PAGE_SHIFT):
        raise LinuxError(Errno.ENOMEM, "brk: RLIMIT_AS or RLIMIT_DATA")
    if mm.map_count > mm.sysctl.max_map_count:
        raise LinuxError(Errno.ENOMEM, "brk: too many mappings")
    mm.charge((end - start) >> PAGE_SHIFT)
    insert_vma(mm, Vma(start=VirtAddr(start), end=VirtAddr(end), flags=flags, pgoff=start >> PAGE_SHIFT))
