"""A copy of an address space for fork: private pages shared until written to.  Linux: kernel/fork.c, dup_mmap."""

from msgspec.structs import replace

from emu.x86 import PTE_P
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.hugetlb import copy_hugetlb_page_range
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_anon, PG_swapbacked
from minikernel.mm.rmap import AnonVma, anon_vma_fork
from minikernel.mm.vma import VM_ACCOUNT, VM_DONTCOPY, VM_HUGETLB, VM_LOCKED_MASK, VM_SHARED, VM_WIPEONFORK, Vma


def dup_mm(mm: MmStruct) -> MmStruct:
    """A child of *mm*: the same mappings, the same pages, copy-on-write.  The child's rlimits are *mm*'s.

    Entries of file mappings without private pages are not copied: the child's faults find them in the page cache
    (vma_needs_copy).

    Errors:
        ENOMEM: no memory for tables; the child is gone again, and *mm* only lost write rights it gets back by faults.
    """
    child = MmStruct(mm.node, mm.kernel_half, mm.layout, mm.tracer, mm.rlimits)
    _copy_fields(mm, child)
    try:
        _dup_mmap(mm, child)
    except LinuxError:
        child.destroy()
        raise
    child.hiwater_vm = child.total_vm
    child.hiwater_rss = child.rss
    return child


def _copy_fields(mm: MmStruct, child: MmStruct) -> None:
    """What fork inherits apart from mappings.  Locks are not inherited: mlock(2)."""
    for name in (
        "start_code",
        "end_code",
        "start_data",
        "end_data",
        "start_brk",
        "brk",
        "start_stack",
        "arg_start",
        "arg_end",
        "env_start",
        "env_end",
        "saved_auxv",
        "vdso",
        "cap_ipc_lock",
        "cap_sys_admin",
        "cap_sys_rawio",
        "read_implies_exec",
        "thp_disabled",
    ):
        setattr(child, name, getattr(mm, name))
    child.set_exe_file(mm.exe_file)
    mm.node.huge_zero.share(mm, child)


def _dup_mmap(mm: MmStruct, child: MmStruct) -> None:
    """Copy mappings and entries."""
    child.reserve_vmas(sum(1 for vma in mm.vmas if not vma.flags & VM_DONTCOPY))
    mm.tlb_dirty = True
    # Neighbours with one owner keep having one, or they could never merge again.
    owners: dict[AnonVma, AnonVma] = {}
    for vma in mm.vmas:
        if vma.flags & VM_DONTCOPY:
            continue
        if vma.flags & VM_ACCOUNT:
            mm.charge(vma.nr_pages)
        copy = _dup_vma(vma, owners)
        child.append(copy)
        if vma.anon_vma is not None and not vma.flags & VM_WIPEONFORK:
            _copy_page_range(mm, child, vma)


def _dup_vma(vma: Vma, owners: dict[AnonVma, AnonVma]) -> Vma:
    """The child's version of *vma*."""
    owner = None
    if vma.anon_vma is not None and not vma.flags & VM_WIPEONFORK:
        owner = owners.get(vma.anon_vma)
        if owner is None:
            owner = owners[vma.anon_vma] = anon_vma_fork(vma.anon_vma)
    return replace(vma, flags=vma.flags & ~VM_LOCKED_MASK, anon_vma=owner)


def _copy_swap_entries(child: MmStruct, vma: Vma) -> None:
    """Count the references of the entries that *child* got along with the pages of *vma* (copy_nonpresent_pte)."""
    swap = child.node.swap
    for _, pte in child.pgtable.entries(vma.start, vma.end):
        if not pte & PTE_P:
            swap.duplicate(pte)
            child.swapents += 1
    if child.swapents:
        swap.mms[child] = None


def _copy_page_range(mm: MmStruct, child: MmStruct, vma: Vma) -> None:
    """Share the pages of *vma*: copy_page_range.

    Errors:
        ENOMEM: no memory for the child's tables; none of *vma*'s pages is shared then.
    """
    if vma.flags & VM_HUGETLB:
        copy_hugetlb_page_range(mm, child, vma)
        return
    pfns = mm.pgtable.copy_range(child.pgtable, vma.start, vma.end, wrprotect=not vma.flags & VM_SHARED)
    if pfns is None:
        raise LinuxError(Errno.ENOMEM, "fork: no memory for page tables")
    mem_map = mm.mem_map
    mem_map.dup_mappings(pfns)
    if mm.swapents:
        _copy_swap_entries(child, vma)
    flags = mem_map.flags
    if vma.mapping is None and vma.special is None:
        child.rss_anon += len(pfns)
        return
    for pfn in pfns:
        if flags[pfn] & PG_anon:
            child.rss_anon += 1
        elif flags[pfn] & PG_swapbacked:
            child.rss_shmem += 1
        else:
            child.rss_file += 1
