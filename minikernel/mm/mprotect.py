"""mprotect(2).  Linux: mm/mprotect.c."""

from typing import Final

from emu.x86 import PAGE_MASK, PAGE_SHIFT, PTE_A, PTE_ADDR, PTE_D, PTE_P, PTE_RW, PTE_XD, Pfn, page_align
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import PROT_EXEC, PROT_GROWSDOWN, PROT_GROWSUP, PROT_READ, PROT_SEM, PROT_WRITE
from minikernel.mm.gup import populate_vma_page_range
from minikernel.mm.hugetlb import hugetlb_change_protection
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_anon, PG_exec
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.rmap import PFN_MASK
from minikernel.mm.set_pte import note_pte
from minikernel.mm.thp import change_large, is_exclusive
from minikernel.mm.vma import (
    VM_ACCESS_FLAGS,
    VM_ACCOUNT,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_LOCKED,
    VM_MAYEXEC,
    VM_NORESERVE,
    VM_SHARED,
    VM_WRITE,
    Vma,
)
from minikernel.mm.vma_modify import vma_modify_flags

_PROT_MASK: Final = PROT_READ | PROT_WRITE | PROT_EXEC
_KEPT: Final = PTE_ADDR | PTE_A | PTE_D | PTE_SPECIAL  # _PAGE_CHG_MASK


def do_mprotect(mm: MmStruct, start: int, length: int, prot: int) -> None:
    """Give [*start*, *start* + *length*) the protection *prot*, mapping by mapping.

    Errors:
        EINVAL: unaligned, an unknown bit, PROT_GROWSDOWN of what does not grow.
        ENOMEM: a hole, or a limit; what comes before it has changed.
        EACCES: the file was not opened for what is asked.
    """
    grows = prot & (PROT_GROWSDOWN | PROT_GROWSUP)
    prot &= ~(PROT_GROWSDOWN | PROT_GROWSUP)
    if grows == PROT_GROWSDOWN | PROT_GROWSUP:
        raise LinuxError(Errno.EINVAL, "mprotect: both directions")
    if start & PAGE_MASK:
        raise LinuxError(Errno.EINVAL, "mprotect: unaligned")
    if not length:
        return
    end = (start + page_align(length)) & mm.layout.word_mask
    if end <= start:
        raise LinuxError(Errno.ENOMEM, "mprotect: the range wraps")
    if prot & ~(_PROT_MASK | PROT_SEM):
        raise LinuxError(Errno.EINVAL, "mprotect: unknown protection")
    vma = mm.vmas.find_vma(start)
    if vma is None or vma.start >= end:
        raise LinuxError(Errno.ENOMEM, "mprotect: nothing is mapped there")
    if grows & PROT_GROWSDOWN:
        start = vma.start
        if not vma.flags & VM_GROWSDOWN:
            raise LinuxError(Errno.EINVAL, "mprotect: the mapping does not grow down")
    elif vma.start > start:
        raise LinuxError(Errno.ENOMEM, "mprotect: nothing is mapped at the start")
    elif grows:
        raise LinuxError(Errno.EINVAL, "mprotect: no mapping grows up")
    _change(mm, start, end, prot & _PROT_MASK)
    mm.tell("mprotect", start, end, prot, 0)


def _change(mm: MmStruct, start: int, end: int, prot: int) -> None:
    """The loop over the mappings of [*start*, *end*)."""
    while start < end:
        vma = mm.vmas.find(start)
        if vma is None:
            raise LinuxError(Errno.ENOMEM, "mprotect: a hole")
        wanted = prot
        if mm.read_implies_exec and prot & PROT_READ and vma.flags & VM_MAYEXEC:
            wanted |= PROT_EXEC
        flags = vma.flags & ~VM_ACCESS_FLAGS | wanted
        # VM_MAY* stand four places above what they allow.
        if flags & ~(flags >> 4) & VM_ACCESS_FLAGS:
            raise LinuxError(Errno.EACCES, "mprotect: the file was not opened for this")
        upto = min(vma.end, end)
        _mprotect_fixup(mm, vma, start, upto, flags)
        start = upto


def _mprotect_fixup(mm: MmStruct, vma: Vma, start: int, end: int, flags: int) -> None:
    """Change one mapping, or a part of it: mprotect_fixup."""
    old = vma.flags
    if flags == old:
        return
    pages = (end - start) >> PAGE_SHIFT
    if flags & VM_WRITE:
        if not mm.may_expand_vm(flags, pages) and mm.may_expand_vm(old, pages):
            raise LinuxError(Errno.ENOMEM, "mprotect: RLIMIT_DATA")
        if not old & (VM_ACCOUNT | VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE):
            mm.charge(pages)
            flags |= VM_ACCOUNT
    elif old & VM_ACCOUNT and vma.is_anonymous and vma.anon_vma is None:
        flags &= ~VM_ACCOUNT
    vma_modify_flags(mm, vma, start, end, flags)
    changed = mm.vmas.find(start)
    assert changed is not None, "mprotect_fixup: the mapping is gone"
    change_protection(mm, changed, start, end)
    if old & (VM_WRITE | VM_SHARED | VM_LOCKED) == VM_LOCKED and flags & VM_WRITE:
        # The copies that writes will need are made now: a locked page must not fault later.
        try:
            populate_vma_page_range(mm, changed, start, end)
        except LinuxError:
            return  # Linux looks at no result here either


def change_protection(mm: MmStruct, vma: Vma, start: int, end: int) -> None:
    """Bring the entries of [*start*, *end*) in line with *vma*'s protection: same name.

    An entry becomes writable at once only where a write fault would do nothing else: can_change_pte_writable.
    """
    if vma.flags & VM_HUGETLB:
        hugetlb_change_protection(mm, vma, start, end)
        return
    pgtable = mm.pgtable
    prot = mm.prot[vma.flags & VM_ACCESS_FLAGS]
    writable = vma.flags & VM_WRITE
    for address, leaf in pgtable.large_leaves(start, end):
        # change_huge_pmd; leaves that lie in the range by half were split when the mapping was.
        new = leaf & _KEPT | prot
        if writable and not leaf & PTE_SPECIAL and is_exclusive(mm, leaf):
            new |= PTE_RW
        change_large(mm, address, new)
    for address, pte in pgtable.entries(start, end, large=False):
        if not pte & PTE_P:
            continue  # in swap: the rights are made anew when the page comes back
        new = pte & _KEPT | prot
        pfn = Pfn(pte >> PAGE_SHIFT & PFN_MASK)
        if writable and not pte & PTE_SPECIAL and _can_be_writable(mm, vma, pfn, new):
            new |= PTE_RW
        if new != pte:
            note_pte(mm, pfn, new)
            pgtable.set(address, new)
    mm.tlb_dirty = True


def _can_be_writable(mm: MmStruct, vma: Vma, pfn: Pfn, pte: int) -> bool:
    """A write through *pte* needs no copy, no notice, and no change of a frame of code to data."""
    mem_map = mm.mem_map
    flags = mem_map.flags[pfn]
    if not vma.flags & VM_SHARED:
        return bool(flags & PG_anon) and mem_map.refcount[pfn] == 1
    if flags & PG_exec and pte & PTE_XD:
        return False
    assert vma.mapping is not None, "change_protection: shared memory without pages"
    return vma.mapping.backing is None or bool(pte & PTE_D)
