"""Why an access could not be served, in words for the person who wrote the program."""

from typing import TYPE_CHECKING

from emu.x86 import PAGE_SHIFT, PF_I, PF_W
from minikernel.abi.resource import RLIM_INFINITY, RLIMIT_STACK
from minikernel.abi.signal import SEGV_MAPERR, SIGBUS
from minikernel.mm.vma import VM_EXEC, VM_GROWSDOWN, VM_READ, VM_WRITE
from minikernel.report.place import NEAR_STACK, Neighbour, null_pointer
from minikernel.report.words import rights, size_words

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma
    from minikernel.report.place import Place


def blame(mm: "MmStruct", place: "Place", error_code: int, signal: int, code: int) -> str:
    """Why the access with *error_code* (PF_*) at *place* ended in *signal* with si_code *code*."""
    if signal == SIGBUS:
        return _beyond_file(place)
    if code == SEGV_MAPERR or place.vma is None:
        return _unmapped(mm, place, error_code)
    return _forbidden(place.vma, place.name, error_code)


def _beyond_file(place: "Place") -> str:
    vma = place.vma
    if vma is None or vma.mapping is None:
        return "the page could not be had"
    size = vma.mapping.size
    offset = (vma.pgoff << PAGE_SHIFT) + place.address - vma.start
    if offset < size:
        return f"page {offset >> PAGE_SHIFT:,} of {place.name} could not be read"
    return (
        f"{size_words(offset - size)} beyond the end of {place.name}, which has {size_words(size)}: "
        "a mapping may be longer than its file, but there is no page to show"
    )


def _unmapped(mm: "MmStruct", place: "Place", error_code: int) -> str:
    address = place.address
    word_mask = (1 << 64) - 1 if mm.layout.is_64bit else 0xFFFF_FFFF
    null = null_pointer(address, word_mask)
    if null and error_code & PF_I:
        return f"the program jumped to {address:#x}: a call or a return through {null}"
    if null and address < mm.layout.mmap_min_addr:
        return f"{address:#x} lies below the lowest mapping: {null}"
    if null:
        return f"{address:#x} is {null}"
    if address >= mm.layout.task_size:
        return f"{address:#x} lies in the kernel's half of the address space, which begins at {mm.layout.task_size:#x}"
    overflow = _stack_overflow(mm, place.above)
    if overflow:
        return overflow
    if error_code & PF_I:
        return f"the program jumped to {address:#x}, where nothing is mapped"
    return f"nothing is mapped at {address:#x}"


def _stack_overflow(mm: "MmStruct", above: Neighbour | None) -> str:
    """Words if the access was to grow the stack and could not; otherwise ""."""
    if above is None or not above.vma.flags & VM_GROWSDOWN or above.distance > NEAR_STACK:
        return ""
    limit = mm.rlimits[RLIMIT_STACK][0]
    size = above.vma.end - above.vma.start
    far = f"stack overflow: {size_words(above.distance)} below {above.name}, which has {size_words(size)}"
    if limit != RLIM_INFINITY and size + above.distance > limit:
        return f"{far} and may not grow beyond its limit of {size_words(limit)} (RLIMIT_STACK)"
    return f"{far} and cannot grow there"


def _forbidden(vma: "Vma", name: str, error_code: int) -> str:
    what = f"mapping of {name}" if vma.mapping is not None else f"{name} memory"
    mapped = f"({vma.start:#x}-{vma.end:#x} {rights(vma.flags)})"
    if not vma.flags & (VM_READ | VM_WRITE | VM_EXEC):
        return f"{what} {mapped} is PROT_NONE: every access is forbidden"
    if error_code & PF_I:
        return f"execution of non-executable {what} {mapped}"
    return f"{'write to read-only' if error_code & PF_W else 'read of unreadable'} {what} {mapped}"
