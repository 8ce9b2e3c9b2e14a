"""msync(2) and mincore(2).  Linux: mm/msync.c, mm/mincore.c."""

from emu.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, PTE_P, page_align
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MS_ASYNC, MS_INVALIDATE, MS_SYNC
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.uaccess import copy_to_user
from minikernel.mm.vma import VM_LOCKED, VM_SHARED, Vma


def do_msync(mm: MmStruct, start: int, length: int, flags: int) -> None:
    """Write the dirty pages of shared file mappings in the range back to their files.

    Errors:
        EINVAL: flags or alignment.  ENOMEM: a hole, what is mapped was written.
        EBUSY: MS_INVALIDATE of locked memory.  EIO, ENOSPC: of the file.
    """
    if flags & ~(MS_ASYNC | MS_INVALIDATE | MS_SYNC):
        raise LinuxError(Errno.EINVAL, "msync: unknown flag")
    if start & PAGE_MASK:
        raise LinuxError(Errno.EINVAL, "msync: unaligned")
    if flags & MS_ASYNC and flags & MS_SYNC:
        raise LinuxError(Errno.EINVAL, "msync: both MS_ASYNC and MS_SYNC")
    end = start + (page_align(length) & mm.layout.word_mask)
    if end > mm.layout.word_mask:
        raise LinuxError(Errno.ENOMEM, "msync: the range wraps")
    hole = False
    while start < end:
        vma = mm.vmas.find_vma(start)
        if vma is None or (start < vma.start and flags == MS_ASYNC):
            hole = True
            break
        if start < vma.start:
            hole = True
            start = vma.start
            if start >= end:
                break
        if flags & MS_INVALIDATE and vma.flags & VM_LOCKED:
            raise LinuxError(Errno.EBUSY, "msync: the mapping is locked")
        upto = min(vma.end, end)
        if flags & MS_SYNC and vma.mapping is not None and vma.flags & VM_SHARED:
            vma.mapping.sync(vma.index(start), vma.index(upto))
        start = upto
    if hole:
        raise LinuxError(Errno.ENOMEM, "msync: a hole")


def do_mincore(mm: MmStruct, start: int, length: int, vector: int) -> None:
    """Store one byte per page of the range at *vector*: 1 if it would not need I/O.

    Errors:
        EINVAL: unaligned.  ENOMEM: outside user space, or a hole.  EFAULT: *vector*.
    """
    if start & PAGE_MASK:
        raise LinuxError(Errno.EINVAL, "mincore: unaligned")
    task_size = mm.layout.task_size
    if length > task_size or start > task_size - length:
        raise LinuxError(Errno.ENOMEM, "mincore: outside user space")
    pages = page_align(length) >> PAGE_SHIFT
    if vector > task_size - pages:
        raise LinuxError(Errno.EFAULT, "mincore: the vector is outside user space")
    # A vector page's worth at a time, as Linux does: what lies before a hole has been stored.
    done = 0
    while done < pages:
        count = min(pages - done, PAGE_SIZE)
        residence, complete = _residence(mm, start + (done << PAGE_SHIFT), count)
        copy_to_user(mm, vector + done, residence)
        if not complete:
            raise LinuxError(Errno.ENOMEM, "mincore: a hole")
        done += count


def _residence(mm: MmStruct, start: int, count: int) -> tuple[bytes, bool]:
    """The bytes for up to *count* pages from *start* on; False if a hole ended them."""
    found = bytearray()
    address = start
    end = start + (count << PAGE_SHIFT)
    while address < end:
        vma = mm.vmas.find(address)
        if vma is None:
            return bytes(found), False
        upto = min(vma.end, end)
        found += bytes(_is_resident(mm, vma, at) for at in range(address, upto, PAGE_SIZE))
        address = upto
    return bytes(found), True


def _is_resident(mm: MmStruct, vma: Vma, address: int) -> bool:
    """Mapped, or in the page cache: mincore_pte_range, __mincore_unmapped_range."""
    pte = mm.pgtable.get(address)
    if pte:
        return bool(pte & PTE_P) or pte in mm.node.swap.cache
    return vma.mapping is not None and vma.index(address) in vma.mapping.pages
