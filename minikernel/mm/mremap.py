"""mremap(2).  Linux: mm/mremap.c."""

from msgspec.structs import replace

from emu.x86 import PAGE_MASK, PAGE_SHIFT, VirtAddr, page_align
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MAP_FIXED, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from minikernel.mm.gup import mm_populate
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import insert_vma
from minikernel.mm.munmap import do_munmap, vm_munmap
from minikernel.mm.unmapped_area import get_unmapped_area
from minikernel.mm.vma import (
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_DONTEXPAND,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_MAYSHARE,
    VM_PFNMAP,
    VM_SHARED,
    Vma,
)


def do_mremap(mm: MmStruct, address: int, old_length: int, new_length: int, flags: int, new_address: int) -> VirtAddr:
    """Resize or move a mapping; where it is now.

    Errors:
        EINVAL: flags, alignment, or overlap.  EFAULT: no single mapping covers the old range.
        ENOMEM: no room, or a limit.  EAGAIN: RLIMIT_MEMLOCK.
    """
    old_length = page_align(old_length) & mm.layout.word_mask
    new_length = page_align(new_length) & mm.layout.word_mask
    _check_params(mm, address, old_length, new_length, flags, new_address)
    vma = mm.vmas.find(address)
    if vma is None:
        raise LinuxError(Errno.EFAULT, "mremap: nothing is mapped there")
    if vma.flags & VM_HUGETLB:
        old_length, new_length = _check_hugetlb(mm, address, old_length, new_length, new_address)
    if flags & MREMAP_FIXED and old_length == new_length:
        where = _remap_move(mm, address, old_length, flags, new_address)
    elif flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        where = _mremap_to(mm, address, old_length, new_length, flags, new_address)
    else:
        where = _mremap_at(mm, vma, address, old_length, new_length, flags)
    mm.tell("mremap", where, where + new_length, vma.flags & VM_ACCESS_FLAGS, flags)
    return where


def _check_params(mm: MmStruct, address: int, old_length: int, new_length: int, flags: int, new_address: int) -> None:
    """What needs no mapping to be looked at: check_mremap_params."""
    if flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE | MREMAP_DONTUNMAP):
        raise LinuxError(Errno.EINVAL, "mremap: unknown flag")
    if address & PAGE_MASK:
        raise LinuxError(Errno.EINVAL, "mremap: unaligned")
    task_size = mm.layout.task_size
    if not new_length or new_length > task_size:
        raise LinuxError(Errno.EINVAL, "mremap: senseless new length")
    if not flags & (MREMAP_FIXED | MREMAP_DONTUNMAP):
        return
    if new_address > task_size - new_length or new_address & PAGE_MASK:
        raise LinuxError(Errno.EINVAL, "mremap: senseless new address")
    if not flags & MREMAP_MAYMOVE or (flags & MREMAP_DONTUNMAP and old_length != new_length):
        raise LinuxError(Errno.EINVAL, "mremap: MREMAP_FIXED moves, MREMAP_DONTUNMAP does not resize")
    if address + old_length > new_address and new_address + new_length > address:
        raise LinuxError(Errno.EINVAL, "mremap: old and new place overlap")
    if mm.map_count + 2 >= mm.sysctl.max_map_count - 3:
        raise LinuxError(Errno.ENOMEM, "mremap: too many mappings")


def _check_hugetlb(mm: MmStruct, address: int, old_length: int, new_length: int, new_address: int) -> tuple[int, int]:
    """The lengths of a mapping of huge pages, in whole ones; it does not grow, as its pages are reserved once."""
    mask = mm.node.hugetlb.size - 1
    old_length, new_length = (old_length + mask) & ~mask, (new_length + mask) & ~mask
    if (address | new_address) & mask or new_length > old_length:
        raise LinuxError(Errno.EINVAL, "mremap: half a huge page, or more of them")
    return old_length, new_length


def _check_vma(mm: MmStruct, vma: Vma, address: int, old_length: int, new_length: int, flags: int) -> None:
    """Whether *vma* can be what is asked: check_prep_vma, in older kernels vma_to_resize."""
    if not old_length and not vma.flags & (VM_SHARED | VM_MAYSHARE):
        raise LinuxError(Errno.EINVAL, "mremap: only a shared mapping can be duplicated")
    if flags & MREMAP_DONTUNMAP and vma.flags & (VM_DONTEXPAND | VM_PFNMAP):
        raise LinuxError(Errno.EINVAL, "mremap: a special mapping stays")
    if min(old_length, new_length) > vma.end - address:
        raise LinuxError(Errno.EFAULT, "mremap: the old range is more than one mapping")
    if new_length <= old_length:
        return
    growth = new_length - old_length
    if vma.index(address) + (new_length >> PAGE_SHIFT) > mm.layout.word_mask:
        raise LinuxError(Errno.EINVAL, "mremap: the file offset wraps")
    if vma.flags & (VM_DONTEXPAND | VM_PFNMAP):
        raise LinuxError(Errno.EFAULT, "mremap: a special mapping does not grow")
    if not mm.mlock_future_ok(vma.flags, growth):
        raise LinuxError(Errno.EAGAIN, "mremap: RLIMIT_MEMLOCK")
    if not mm.may_expand_vm(vma.flags, growth >> PAGE_SHIFT):
        raise LinuxError(Errno.ENOMEM, "mremap: RLIMIT_AS or RLIMIT_DATA")


def _mremap_at(mm: MmStruct, vma: Vma, address: int, old_length: int, new_length: int, flags: int) -> VirtAddr:
    """No new place was named: shrink, grow in place, or move: mremap_at."""
    if old_length >= new_length:
        if old_length > new_length:
            vm_munmap(mm, address + new_length, old_length - new_length)
        return VirtAddr(address)
    _check_vma(mm, vma, address, old_length, new_length, flags)
    growth = new_length - old_length
    if address + old_length == vma.end and _vma_expandable(mm, vma, growth):
        _expand_in_place(mm, vma, growth)
        return VirtAddr(address)
    if not flags & MREMAP_MAYMOVE:
        raise LinuxError(Errno.ENOMEM, "mremap: no room to grow, and it may not move")
    new_address = get_unmapped_area(mm, 0, new_length, 0)
    return _move_vma(mm, vma, address, old_length, new_length, new_address, flags)


def _vma_expandable(mm: MmStruct, vma: Vma, growth: int) -> bool:
    """Nothing is in the way of *growth* more bytes: same name."""
    end = vma.end + growth
    if end > mm.layout.task_size:
        return False
    return not mm.vmas.overlapping(vma.end, end)


def _expand_in_place(mm: MmStruct, vma: Vma, growth: int) -> None:
    """Add *growth* bytes behind *vma*; a following mapping that fits is merged: expand_vma_in_place."""
    if vma.flags & VM_ACCOUNT:
        mm.charge(growth >> PAGE_SHIFT)
    end = vma.end
    at = mm.vmas.index_of(vma)
    mm.replace(at, at + 1, [replace(vma, end=VirtAddr(end + growth))])
    if vma.flags & VM_LOCKED:
        mm_populate(mm, end, end + growth, ignore_errors=True)


def _remap_move(mm: MmStruct, address: int, length: int, flags: int, new_address: int) -> VirtAddr:
    """Move every mapping of the range, holes between them kept: same name, since Linux 6.17.

    An older kernel answers EFAULT for a range that is more than one mapping.
    """
    end = address + length
    for vma in mm.vmas.overlapping(address, end):
        start = max(vma.start, address)
        size = min(vma.end, end) - start
        _mremap_to(mm, start, size, size, flags, new_address + start - address)
    return VirtAddr(new_address)


def _mremap_to(mm: MmStruct, address: int, old_length: int, new_length: int, flags: int, new_address: int) -> VirtAddr:
    """A new place was named, or the old one is to stay: same name."""
    vma = mm.vmas.find(address)
    assert vma is not None, "mremap_to: nothing is mapped there"
    _check_vma(mm, vma, address, old_length, new_length, flags)
    if flags & MREMAP_FIXED:
        do_munmap(mm, new_address, new_address + new_length)
    if old_length > new_length:
        vm_munmap(mm, address + new_length, old_length - new_length)
        old_length = new_length
    vma = mm.vmas.find(address)
    if vma is None:
        raise LinuxError(Errno.EFAULT, "mremap: a duplicate was to replace its original")
    if flags & MREMAP_DONTUNMAP and not mm.may_expand_vm(vma.flags, old_length >> PAGE_SHIFT):
        raise LinuxError(Errno.ENOMEM, "mremap: RLIMIT_AS or RLIMIT_DATA")
    where = get_unmapped_area(mm, new_address, new_length, MAP_FIXED if flags & MREMAP_FIXED else 0)
    return _move_vma(mm, vma, address, old_length, new_length, where, flags)


def _move_vma(
    mm: MmStruct, vma: Vma, address: int, old_length: int, new_length: int, new_address: int, flags: int
) -> VirtAddr:
    """Make the new mapping, move the entries, drop the old mapping: move_vma.

    Errors:
        ENOMEM: too many mappings, no memory for tables; nothing has changed then.
    """
    if mm.map_count >= mm.sysctl.max_map_count - 3:
        raise LinuxError(Errno.ENOMEM, "mremap: too many mappings")
    if vma.flags & VM_ACCOUNT:
        mm.charge((new_length if flags & MREMAP_DONTUNMAP else new_length - old_length) >> PAGE_SHIFT)
    mm.reserve_vmas(2)  # the new one, and what is left on both sides of the old one
    _alloc_tables(mm, address, old_length, new_address, new_length)
    # Memory nobody touched yet takes the offset of its new place, where it may merge; pages keep theirs for the
    # reverse map (copy_vma).
    virgin = vma.is_anonymous and vma.anon_vma is None
    pgoff = new_address >> PAGE_SHIFT if virgin else vma.index(address)
    moved = replace(vma, start=VirtAddr(new_address), end=VirtAddr(new_address + new_length), pgoff=pgoff)
    insert_vma(mm, moved)
    _move_page_tables(mm, address, address + old_length, new_address)
    if flags & MREMAP_DONTUNMAP:
        _keep_empty(mm, address, old_length)
    elif old_length:
        do_munmap(mm, address, address + old_length)
    if vma.flags & VM_LOCKED and new_length > old_length:
        mm_populate(mm, new_address + old_length, new_address + new_length, ignore_errors=True)
    return VirtAddr(new_address)


def _alloc_tables(mm: MmStruct, address: int, old_length: int, new_address: int, new_length: int) -> None:
    """Make every table that the moved entries will need, so that the move cannot fail half-way.

    Errors:
        ENOMEM: no memory; the tables made so far are freed.
    """
    offset = new_address - address
    for at, _ in mm.pgtable.entries(address, address + old_length):
        if mm.pgtable.set(at + offset, 0):
            continue
        below, above = mm.vmas.first_above(new_address) - 1, mm.vmas.find_vma(new_address)
        floor = mm.vmas.items[below].end if below >= 0 else 0
        mm.pgtable.free_pgtables(floor, above.start if above is not None else mm.layout.task_size)
        raise LinuxError(Errno.ENOMEM, f"mremap: no memory for the tables of {new_length} bytes")


def _move_page_tables(mm: MmStruct, start: int, end: int, new_address: int) -> None:
    """Move the entries of [*start*, *end*); frames do not notice: same name."""
    offset = new_address - start
    if not offset & (mm.pgtable.large_size - 1):
        for address, leaf in mm.pgtable.large_leaves(start, end):  # move_huge_pmd
            mm.pgtable.clear_large(address)
            mm.pgtable.set_large(address + offset, leaf)
    for address, pte in mm.pgtable.clear_range(start, end):
        mm.pgtable.set(address + offset, pte)
    mm.tlb_dirty = True


def _keep_empty(mm: MmStruct, address: int, length: int) -> None:
    """MREMAP_DONTUNMAP: the old mapping stays without pages and lock, and without owner if it moved as a whole."""
    vma = mm.vmas.find(address)
    assert vma is not None, "mremap: the old mapping is gone"
    whole = vma.start == address and vma.end == address + length
    kept = replace(vma, flags=vma.flags & ~VM_LOCKED_MASK, anon_vma=None if whole else vma.anon_vma)
    at = mm.vmas.index_of(vma)
    mm.replace(at, at + 1, [kept], merge=False)
