"""Where a new mapping goes.  Linux: mm/mmap.c, __get_unmapped_area; arch/x86/kernel/sys_x86_64.c."""

from bisect import bisect_left
from typing import Final

from emu.x86 import PAGE_MASK, PAGE_SIZE, VirtAddr, page_align
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MAP_32BIT, MAP_ABOVE4G, MAP_FIXED
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.vma import STACK_GUARD_GAP, VM_GROWSDOWN

_4GIB: Final = 1 << 32
_FAR: Final = 32  # mappings: a search that went further is worth remembering
_32BIT_BEGIN: Final = 0x4000_0000  # find_start_end: MAP_32BIT searches the second GiB
_32BIT_END: Final = 0x8000_0000


def round_hint_to_min(mm: MmStruct, hint: int) -> int:
    """A hint below mmap_min_addr, page 0 apart, means the lowest address allowed: mm/mmap.c, same name."""
    hint &= ~PAGE_MASK
    if 0 < hint < mm.layout.mmap_min_addr:
        return page_align(mm.layout.mmap_min_addr)
    return hint


def get_unmapped_area(mm: MmStruct, address: int, length: int, flags: int) -> VirtAddr:
    """An address for *length* bytes (whole pages): *address* itself if MAP_FIXED or free, otherwise one of ours.

    Errors:
        ENOMEM: no hole is large enough, or the range leaves user space.
        EINVAL: MAP_FIXED and not page-aligned.
        EPERM: below mmap_min_addr, without CAP_SYS_RAWIO.
    """
    task_size = mm.layout.task_size
    if length > task_size:
        raise LinuxError(Errno.ENOMEM, "longer than the address space")
    found = address if flags & MAP_FIXED else _search(mm, address, length, flags)
    if found is None or found > task_size - length:
        raise LinuxError(Errno.ENOMEM, "no hole of this size")
    if found & PAGE_MASK:
        raise LinuxError(Errno.EINVAL, "the address is not page-aligned")
    if found < mm.layout.mmap_min_addr and not mm.cap_sys_rawio:
        raise LinuxError(Errno.EPERM, "below mmap_min_addr")
    return VirtAddr(found)


def hugetlb_get_unmapped_area(mm: MmStruct, address: int, length: int, flags: int) -> VirtAddr:
    """get_unmapped_area() for whole huge pages: the highest hole that has room for them when aligned.

    Errors:
        EINVAL: MAP_FIXED and not aligned.  Otherwise those of get_unmapped_area().
    """
    mask = mm.node.hugetlb.size - 1
    if flags & MAP_FIXED:
        if address & mask:
            raise LinuxError(Errno.EINVAL, "the address is not that of a huge page")
        return get_unmapped_area(mm, address, length, flags)
    address = (address + mask) & ~mask
    if address and _is_free(mm, address, length, mm.layout.task_size):
        return VirtAddr(address)
    found = get_unmapped_area(mm, 0, length + mask + 1 - PAGE_SIZE, flags)
    return VirtAddr((found + mask) & ~mask)


def _search(mm: MmStruct, hint: int, length: int, flags: int) -> int | None:
    """A free place for *length* bytes, at *hint* if possible: arch_get_unmapped_area_topdown."""
    layout = mm.layout
    low, high = layout.legacy_base, layout.task_size
    if flags & MAP_32BIT and layout.is_64bit:
        # MAP_32BIT is served bottom-up, and a hint outside the window is not even looked at.
        low, high = VirtAddr(_32BIT_BEGIN), VirtAddr(_32BIT_END)
    elif not layout.bottom_up:
        if hint and _is_free(mm, hint, length, high):
            return hint
        lowest = max(PAGE_SIZE, layout.mmap_min_addr)
        if flags & MAP_ABOVE4G and layout.is_64bit:
            lowest = _4GIB
        found = _unmapped_area_topdown(mm, length, lowest, layout.mmap_base)
        if found is not None:
            return found
    if hint and _is_free(mm, page_align(hint), length, high):
        return page_align(hint)
    return _unmapped_area(mm, length, low, high)


def _is_free(mm: MmStruct, address: int, length: int, end: int) -> bool:
    """Nothing is mapped at, or guarded over, [*address*, *address* + *length*), which ends below *end*."""
    if address > end - length:
        return False
    vma = mm.vmas.find_vma(address)
    return vma is None or address + length <= vma.start_gap


def _unmapped_area_topdown(mm: MmStruct, length: int, low: int, high: int) -> int | None:
    """The highest hole in [*low*, *high*): its last *length* bytes; mm/vma.c, unmapped_area_topdown.

    Linux's maple tree knows the largest hole below each node.  We remember from the last search above which address
    no hole is large enough: ten thousand mappings made in a row then cost no more than ten.
    """
    items = mm.vmas.items
    ceiling = high
    if mm.hole_length and length >= mm.hole_length:
        ceiling = min(high, mm.hole_ceiling)
    at = bisect_left(mm.vmas.starts, ceiling)
    if at < len(items):
        ceiling = min(ceiling, items[at].start_gap)
    steps = 0
    for steps in range(1, at + 1):
        vma = items[at - steps]
        if ceiling - length < low or ceiling - length >= vma.end:
            break
        start = vma.start
        if vma.flags & VM_GROWSDOWN:
            start = VirtAddr(start - STACK_GUARD_GAP)
        ceiling = min(ceiling, start)
    if ceiling - length < low:
        return None
    if not mm.hole_length or length <= mm.hole_length or steps > _FAR:
        mm.hole_length, mm.hole_ceiling = length, ceiling
    return ceiling - length


def _unmapped_area(mm: MmStruct, length: int, low: int, high: int) -> int | None:
    """The lowest hole in [*low*, *high*): its first *length* bytes; mm/vma.c, unmapped_area."""
    floor = low
    for vma in mm.vmas.items[mm.vmas.first_above(low) :]:
        if floor + length > high:
            return None
        if floor + length <= vma.start_gap:
            return floor
        floor = max(floor, vma.end)
    return floor if floor + length <= high else None
