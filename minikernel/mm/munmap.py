"""munmap(2).  Linux: mm/vma.c, do_vmi_munmap."""

from emu.x86 import PAGE_MASK, page_align
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.hugetlb import may_split
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.vma import Vma
from minikernel.mm.zap import zap_range


def vm_munmap(mm: MmStruct, address: int, length: int) -> None:
    """Remove every mapping in [*address*, *address* + *length*); holes are fine.

    Errors:
        EINVAL: not page-aligned, empty, or outside user space.
        ENOMEM: a mapping would be split and there are too many.
    """
    task_size = mm.layout.task_size
    if address & PAGE_MASK or address > task_size or length > task_size - address:
        raise LinuxError(Errno.EINVAL, "munmap: unaligned or outside user space")
    end = address + page_align(length)
    if end == address:
        raise LinuxError(Errno.EINVAL, "munmap: empty range")
    do_munmap(mm, address, end)
    mm.tell("munmap", address, end, 0, 0)


def do_munmap(mm: MmStruct, start: int, end: int) -> None:
    """Remove every mapping in [*start*, *end*), which is page-aligned and in user space.

    Errors:
        ENOMEM: as vm_munmap; nothing has changed then.
    """
    check_split(mm, start, end)
    low, high = mm.vmas.span(start, end)
    if low == high:
        return
    items = mm.vmas.items
    floor = items[low - 1].end if low else 0
    ceiling = items[high].start if high < len(items) else mm.layout.task_size
    zap_range(mm, max(start, items[low].start), min(end, items[high - 1].end))
    rest = outside(items[low:high], start, end)
    mm.replace(low, high, rest, merge=False)
    for vma in rest:
        if vma.start < start:
            floor = vma.end
        else:
            ceiling = vma.start
    mm.pgtable.free_pgtables(floor, ceiling)


def check_split(mm: MmStruct, start: int, end: int) -> None:
    """Prepare for a hole inside one mapping, which a huge page of the pool refuses: checks of vms_gather_munmap_vmas.

    Errors:
        ENOMEM: there are max_map_count mappings, or no memory for one more.  EINVAL: half a huge page.
    """
    vma = mm.vmas.find(start)
    splits = vma is not None and vma.start < start and end < vma.end
    if splits and mm.map_count >= mm.sysctl.max_map_count:
        raise LinuxError(Errno.ENOMEM, "too many mappings to split one")
    for boundary in (start, end):
        vma = mm.vmas.find(boundary)
        if vma is not None and not may_split(mm, vma, boundary):
            raise LinuxError(Errno.EINVAL, "half a huge page")
    if splits:
        mm.reserve_vmas(1)


def outside(vmas: list[Vma], start: int, end: int) -> list[Vma]:
    """The parts of *vmas*, all of which overlap [*start*, *end*), that lie outside of it."""
    rest = []
    if vmas[0].start < start:
        rest.append(vmas[0].clip(0, start))
    if vmas[-1].end > end:
        rest.append(vmas[-1].clip(end, vmas[-1].end))
    return rest
