"""mlock(2) and its family.  Linux: mm/mlock.c.

Locking means faulting in and saying VM_LOCKED; reclaim leaves the pages of such mappings alone.
"""

from emu.x86 import PAGE_MASK, PAGE_SHIFT, PTE_P, Pfn, page_align
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT, MLOCK_ONFAULT
from minikernel.abi.resource import RLIMIT_MEMLOCK
from minikernel.mm.gup import mm_populate
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_uptodate
from minikernel.mm.pgtable import PTE_SPECIAL, pte_pfn
from minikernel.mm.vma import VM_LOCKED, VM_LOCKED_MASK, VM_LOCKONFAULT, VM_SPECIAL, Vma
from minikernel.mm.vma_modify import vma_modify_flags


def do_mlock(mm: MmStruct, start: int, length: int, flags: int = 0) -> None:
    """mlock2(2): fault in and hold [*start*, *start* + *length*), widened to whole pages.

    Errors:
        EINVAL: unknown flag, or the range wraps.  EPERM: RLIMIT_MEMLOCK is 0.
        ENOMEM: RLIMIT_MEMLOCK, a hole, or a page that cannot be had.  EAGAIN: no memory for it.
    """
    if flags & ~MLOCK_ONFAULT:
        raise LinuxError(Errno.EINVAL, "mlock2: unknown flag")
    if not mm.can_do_mlock():
        raise LinuxError(Errno.EPERM, "mlock: RLIMIT_MEMLOCK is 0")
    start, end = _whole_pages(mm, start, length)
    limit = mm.rlimits[RLIMIT_MEMLOCK][0] >> PAGE_SHIFT
    locked = mm.locked_vm + ((end - start) >> PAGE_SHIFT)
    if locked > limit and not mm.cap_ipc_lock:
        locked -= _locked_pages(mm, start, end)
        if locked > limit:
            raise LinuxError(Errno.ENOMEM, "mlock: RLIMIT_MEMLOCK")
    _apply_vma_lock_flags(mm, start, end, VM_LOCKED | (VM_LOCKONFAULT if flags else 0))
    try:
        mm_populate(mm, start, end, ignore_errors=False)
        _mlock_pages(mm, start, end)
    except LinuxError as error:
        # POSIX wants other names for the two: __mlock_posix_error_return.
        errno = Errno.ENOMEM if error.errno == Errno.EFAULT else Errno.EAGAIN
        raise LinuxError(errno, f"mlock: {error.why}") from error


def do_munlock(mm: MmStruct, start: int, length: int) -> None:
    """munlock(2).

    Errors:
        EINVAL: the range wraps.  ENOMEM: a hole, or too many mappings.
    """
    start, end = _whole_pages(mm, start, length)
    try:
        _apply_vma_lock_flags(mm, start, end, 0)
    finally:
        mm.node.lru.munlock(_frames(mm, start, end))


def do_mlockall(mm: MmStruct, flags: int) -> None:
    """mlockall(2).

    Errors:
        EINVAL: flags.  EPERM: RLIMIT_MEMLOCK is 0.  ENOMEM: RLIMIT_MEMLOCK.
    """
    if not flags or flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) or flags == MCL_ONFAULT:
        raise LinuxError(Errno.EINVAL, "mlockall: flags")
    if not mm.can_do_mlock():
        raise LinuxError(Errno.EPERM, "mlockall: RLIMIT_MEMLOCK is 0")
    limit = mm.rlimits[RLIMIT_MEMLOCK][0] >> PAGE_SHIFT
    if flags & MCL_CURRENT and mm.total_vm > limit and not mm.cap_ipc_lock:
        raise LinuxError(Errno.ENOMEM, "mlockall: RLIMIT_MEMLOCK")
    wanted = VM_LOCKED | (VM_LOCKONFAULT if flags & MCL_ONFAULT else 0)
    mm.def_flags = wanted if flags & MCL_FUTURE else 0
    if flags & MCL_CURRENT:
        _lock_everything(mm, wanted)
        mm_populate(mm, 0, mm.layout.task_size, ignore_errors=True)
        _mlock_pages(mm, 0, mm.layout.task_size)


def do_munlockall(mm: MmStruct) -> None:
    """munlockall(2): no mapping is locked, now or later."""
    mm.def_flags = 0
    _lock_everything(mm, 0)
    mm.node.lru.munlock(_frames(mm, 0, mm.layout.task_size))


def _mlock_pages(mm: MmStruct, start: int, end: int) -> None:
    """Take the pages of the range out of reclaim's sight (mlock_vma_pages_range)."""
    mm.node.lru.drain()
    for pfn in _frames(mm, start, end):
        mm.node.lru.mlock(pfn)


def _frames(mm: MmStruct, start: int, end: int) -> list[Pfn]:
    """The frames mapped in the range that reclaim could take."""
    flags = mm.mem_map.flags
    ptes = [pte for _, pte in mm.pgtable.entries(start, end) if pte & PTE_P and not pte & PTE_SPECIAL]
    return [pfn for pfn in map(pte_pfn, ptes) if flags[pfn] & PG_uptodate]


def _whole_pages(mm: MmStruct, start: int, length: int) -> tuple[int, int]:
    """[start, end) widened to pages.

    Errors:
        EINVAL: it wraps.
    """
    size = page_align(length + (start & PAGE_MASK)) & mm.layout.word_mask
    start &= ~PAGE_MASK
    if start + size > mm.layout.word_mask:
        raise LinuxError(Errno.EINVAL, "mlock: the range wraps")
    return start, start + size


def _locked_pages(mm: MmStruct, start: int, end: int) -> int:
    """Pages of the range that are locked already: count_mm_mlocked_page_nr."""
    return sum(vma.clip(start, end).nr_pages for vma in mm.vmas.overlapping(start, end) if vma.flags & VM_LOCKED)


def _apply_vma_lock_flags(mm: MmStruct, start: int, end: int, wanted: int) -> None:
    """Set the lock flags of the range to *wanted*, up to the first hole: same name.

    Errors:
        ENOMEM: a hole, or too many mappings.
    """
    while start < end:
        vma = mm.vmas.find(start)
        if vma is None:
            raise LinuxError(Errno.ENOMEM, "mlock: a hole")
        upto = min(vma.end, end)
        _mlock_fixup(mm, vma, start, upto, wanted)
        start = upto


def _mlock_fixup(mm: MmStruct, vma: Vma, start: int, end: int, wanted: int) -> None:
    flags = vma.flags & ~VM_LOCKED_MASK | wanted
    if flags != vma.flags and not vma.flags & VM_SPECIAL:
        vma_modify_flags(mm, vma, start, end, flags)


def _lock_everything(mm: MmStruct, wanted: int) -> None:
    """Set every mapping's lock flags: apply_mlockall_flags.  Whole mappings: nothing is split, nothing fails."""
    start = 0
    while (vma := mm.vmas.find_vma(start)) is not None:
        _mlock_fixup(mm, vma, vma.start, vma.end, wanted)
        start = vma.end
