"""Changing flags of a part of a mapping: it is split, and merged with neighbours that now fit.

Linux: mm/vma.c, vma_modify.
"""

from msgspec.structs import replace

from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.hugetlb import may_split
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.vma import Vma, can_extend, can_merge, merge


def vma_modify_flags(mm: MmStruct, vma: Vma, start: int, end: int, flags: int) -> None:
    """Give the part of *vma* in [*start*, *end*) the VM_* *flags*; page-table entries are the caller's business.

    Errors:
        ENOMEM: it takes a split, and there are too many mappings.
    """
    vma_modify(mm, vma, start, end, replace(vma.clip(start, end), flags=flags))


def vma_modify_name(mm: MmStruct, vma: Vma, start: int, end: int, name: str) -> None:
    """Name the part of *vma* in [*start*, *end*): PR_SET_VMA_ANON_NAME; *name* is "[anon:...]", or "" for none.

    Errors:
        ENOMEM: it takes a split, and there are too many mappings.
    """
    vma_modify(mm, vma, start, end, replace(vma.clip(start, end), name=name))


def vma_modify(mm: MmStruct, vma: Vma, start: int, end: int, changed: Vma) -> None:
    """Put *changed* in the place of [*start*, *end*) of *vma*.

    Errors:
        ENOMEM: as above.  EINVAL: half a huge page of the pool.
    """
    if not may_split(mm, vma, start) or not may_split(mm, vma, end):
        raise LinuxError(Errno.EINVAL, "half a huge page")
    at = mm.vmas.index_of(vma)
    pieces = [changed]
    if vma.start < start:
        pieces.insert(0, vma.clip(vma.start, start))
    if end < vma.end:
        pieces.append(vma.clip(end, vma.end))
    # Only the changed part merges: what was not merged before stays so, as in Linux.
    low, high = at, at + 1
    items = mm.vmas.items
    fits = can_merge if vma.start == start and vma.end == end else can_extend
    if vma.start == start and at and fits(items[at - 1], changed):
        low -= 1
        pieces[0] = changed = merge(items[low], changed)
    if vma.end == end and high < len(items) and fits(changed, items[high]):
        pieces[-1] = merge(changed, items[high])
        high += 1
    if len(pieces) > high - low and mm.map_count + len(pieces) - (high - low) > mm.sysctl.max_map_count:
        raise LinuxError(Errno.ENOMEM, "too many mappings to split one")
    mm.reserve_vmas(len(pieces) - (high - low))
    mm.replace(low, high, pieces, merge=False)
