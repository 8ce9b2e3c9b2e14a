"""Mappings that grow downwards when touched below their start.  Linux: mm/vma.c, expand_downwards."""

from msgspec.structs import replace

from emu.x86 import PAGE_MASK, PAGE_SHIFT, VirtAddr
from minikernel.abi.errno import LinuxError
from minikernel.abi.resource import RLIMIT_STACK
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.rmap import anon_vma_prepare
from minikernel.mm.vma import STACK_GUARD_GAP, VM_ACCESS_FLAGS, VM_GROWSDOWN, Vma


def expand_stack(mm: MmStruct, address: int) -> Vma | str:
    """Grow the stack above *address*, which no mapping contains, down to it; or why not, in a few words."""
    at = mm.vmas.first_above(address)
    if at == len(mm.vmas):
        return "no mapping here or above"
    vma = mm.vmas.items[at]
    assert vma.start > address, "expand_stack: the address is mapped"
    if not vma.flags & VM_GROWSDOWN:
        return "no mapping here, and the one above is no stack"
    start = VirtAddr(address & ~PAGE_MASK)
    if start < mm.layout.mmap_min_addr:
        return "the stack may not grow below mmap_min_addr"
    if at:
        below = mm.vmas.items[at - 1]
        guarded = below.flags & VM_ACCESS_FLAGS and not below.flags & VM_GROWSDOWN
        if guarded and start - below.end < STACK_GUARD_GAP:
            return "the stack would come closer than 256 pages (its guard gap) to the mapping below"
    if vma.anon_vma is None:
        prepared = anon_vma_prepare(mm, vma)  # there will be a page in a moment
        if prepared is None:
            return "no memory for the stack to grow"
        vma = prepared
    growth = (vma.start - start) >> PAGE_SHIFT
    if growth > vma.pgoff:
        return "the stack's page offset would become negative"
    refusal = _acct_stack_growth(mm, vma, vma.end - start, growth)
    if refusal is not None:
        return refusal
    grown = replace(vma, start=start, pgoff=vma.pgoff - growth)
    mm.replace(at, at + 1, [grown], merge=False)
    mm.tell("stack", start, vma.start, vma.flags & VM_ACCESS_FLAGS, vma.flags)
    return grown


def _acct_stack_growth(mm: MmStruct, vma: Vma, size: int, growth: int) -> str | None:
    """The limits on a stack of *size* bytes that grows by *growth* pages: same name."""
    if not mm.may_expand_vm(vma.flags, growth):
        return "the stack would exceed RLIMIT_AS"
    if size > mm.rlimits[RLIMIT_STACK][0]:
        return "the stack would exceed RLIMIT_STACK"
    if not mm.mlock_future_ok(vma.flags, growth << PAGE_SHIFT):
        return "the locked stack would exceed RLIMIT_MEMLOCK"
    try:
        mm.charge(growth)
    except LinuxError:
        return "the stack would exceed the machine's memory"
    return None
