"""mmap(2).  Linux: mm/mmap.c, do_mmap; mm/vma.c, mmap_region."""

from typing import Final

from emu.x86 import PAGE_MASK, PAGE_SHIFT, Pfn, VirtAddr, page_align
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import (
    LEGACY_MAP_MASK,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_NONBLOCK,
    MAP_NORESERVE,
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MAP_STACK,
    MAP_TYPE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from minikernel.mm.filemap import PageCache
from minikernel.mm.gup import mm_populate
from minikernel.mm.hugetlb import HugetlbCache, check_hugetlb_flags, hugetlb_file_setup
from minikernel.mm.mapped_file import CountedFile, MappedFile, ShmemFile
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.munmap import check_split, do_munmap
from minikernel.mm.overcommit import OVERCOMMIT_NEVER
from minikernel.mm.unmapped_area import get_unmapped_area, hugetlb_get_unmapped_area, round_hint_to_min
from minikernel.mm.vma import (
    VM_ACCOUNT,
    VM_COUNTED,
    VM_DONTEXPAND,
    VM_GROWSDOWN,
    VM_HUGETLB,
    VM_LOCKED,
    VM_LOCKED_MASK,
    VM_MAYEXEC,
    VM_MAYREAD,
    VM_MAYSHARE,
    VM_MAYWRITE,
    VM_NOHUGEPAGE,
    VM_NORESERVE,
    VM_SHARED,
    VM_SPECIAL,
    VM_WRITE,
    SpecialMapping,
    Vma,
)

_MAX_FILE_PAGES: Final = (1 << 63) - 1 >> PAGE_SHIFT  # MAX_LFS_FILESIZE
_PROT_MASK: Final = PROT_READ | PROT_WRITE | PROT_EXEC  # VM_READ.. have the same values


def do_mmap(
    mm: MmStruct, address: int, length: int, prot: int, flags: int, file: MappedFile | None, pgoff: int
) -> VirtAddr:
    """Map *length* bytes of *file* from page *pgoff*, or of anonymous memory; where.

    The caller has resolved the descriptor and checked the offset's alignment.

    Errors:
        EINVAL: zero length, neither shared nor private, MAP_GROWSDOWN of a file, unaligned MAP_FIXED.
        EACCES: *file* was not opened for what is asked.  ENODEV: it cannot be mapped.
        EEXIST: MAP_FIXED_NOREPLACE, and something is there.
        ENOMEM: no room, a limit, or too many mappings.  EAGAIN, EPERM: RLIMIT_MEMLOCK.
        EOVERFLOW: the offset's end.  EOPNOTSUPP: MAP_SHARED_VALIDATE with an unknown flag.
    """
    huge = flags & MAP_HUGETLB
    if huge:
        check_hugetlb_flags(mm, file, flags)
        length = (length + mm.node.hugetlb.size - 1) & -mm.node.hugetlb.size
    if not length:
        raise LinuxError(Errno.EINVAL, "mmap: zero length")
    if prot & PROT_READ and mm.read_implies_exec:
        prot |= PROT_EXEC
    if flags & MAP_FIXED_NOREPLACE:
        flags |= MAP_FIXED
    if not flags & MAP_FIXED:
        address = round_hint_to_min(mm, address)
    length = page_align(length) & mm.layout.word_mask
    if not length:
        raise LinuxError(Errno.ENOMEM, "mmap: the length wraps")
    pages = length >> PAGE_SHIFT
    if pgoff + pages > mm.layout.word_mask:
        raise LinuxError(Errno.EOVERFLOW, "mmap: the offset wraps")
    if mm.map_count > mm.sysctl.max_map_count:
        raise LinuxError(Errno.ENOMEM, "mmap: too many mappings")

    vm_flags = _vm_flags(prot, flags) | mm.def_flags | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC
    start = (hugetlb_get_unmapped_area if huge else get_unmapped_area)(mm, address, length, flags)
    if flags & MAP_FIXED_NOREPLACE and mm.vmas.overlapping(start, start + length):
        raise LinuxError(Errno.EEXIST, "mmap: something is mapped there")
    if flags & MAP_LOCKED and not mm.can_do_mlock():
        raise LinuxError(Errno.EPERM, "mmap: RLIMIT_MEMLOCK is 0")
    if not mm.mlock_future_ok(vm_flags, length):
        raise LinuxError(Errno.EAGAIN, "mmap: RLIMIT_MEMLOCK")
    if huge:
        vm_flags |= VM_HUGETLB | VM_DONTEXPAND
        file = hugetlb_file_setup(mm, length, flags)
        pgoff = 0
    if file is not None:
        vm_flags = _file_flags(file, flags, vm_flags, pgoff, pages)
    else:
        vm_flags = _anonymous_flags(flags, vm_flags)
        pgoff = 0 if vm_flags & VM_SHARED else start >> PAGE_SHIFT
    if flags & MAP_NORESERVE and (huge or mm.sysctl.overcommit_memory != OVERCOMMIT_NEVER):
        vm_flags |= VM_NORESERVE

    _mmap_region(mm, file, start, length, vm_flags, pgoff)
    mm.tell("mmap", start, start + length, prot, flags)
    if vm_flags & VM_LOCKED or flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE:
        mm_populate(mm, start, start + length, ignore_errors=True)
    return start


def _vm_flags(prot: int, flags: int) -> int:
    """VM_* of PROT_* and MAP_*: calc_vm_prot_bits, calc_vm_flag_bits."""
    vm_flags = prot & _PROT_MASK
    if flags & MAP_GROWSDOWN:
        vm_flags |= VM_GROWSDOWN
    if flags & MAP_LOCKED:
        vm_flags |= VM_LOCKED
    if flags & MAP_STACK:
        vm_flags |= VM_NOHUGEPAGE
    return vm_flags


def _file_flags(file: MappedFile, flags: int, vm_flags: int, pgoff: int, pages: int) -> int:
    """*vm_flags* as the mode of *file* leaves them; the checks of do_mmap in their order."""
    kind = flags & MAP_TYPE
    if pgoff + pages > _MAX_FILE_PAGES:
        raise LinuxError(Errno.EOVERFLOW, "mmap: beyond the largest file")
    if kind not in {MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE}:
        raise LinuxError(Errno.EINVAL, "mmap: neither shared nor private")
    if kind != MAP_PRIVATE:
        if kind == MAP_SHARED_VALIDATE and flags & ~LEGACY_MAP_MASK:
            raise LinuxError(Errno.EOPNOTSUPP, "mmap: unknown flag")
        if vm_flags & PROT_WRITE and not file.writable:
            raise LinuxError(Errno.EACCES, "mmap: shared and writable, but opened read-only")
        vm_flags |= VM_SHARED | VM_MAYSHARE
        if not file.writable:
            vm_flags &= ~(VM_MAYWRITE | VM_SHARED)
    if not file.readable:
        raise LinuxError(Errno.EACCES, "mmap: not opened for reading")
    if file.mapping is None:
        raise LinuxError(Errno.ENODEV, "mmap: this file has no pages")
    if vm_flags & VM_GROWSDOWN:
        raise LinuxError(Errno.EINVAL, "mmap: a file does not grow down")
    if file.mapping.write_sealed and vm_flags & VM_SHARED:  # seal_check_write
        if vm_flags & VM_WRITE:
            raise LinuxError(Errno.EPERM, "mmap: the file is sealed against writing")
        vm_flags &= ~VM_MAYWRITE
    return vm_flags | VM_COUNTED if isinstance(file, CountedFile) else vm_flags


def _anonymous_flags(flags: int, vm_flags: int) -> int:
    kind = flags & MAP_TYPE
    if kind == MAP_SHARED:
        if vm_flags & VM_GROWSDOWN:
            raise LinuxError(Errno.EINVAL, "mmap: shared memory does not grow down")
        return vm_flags | VM_SHARED | VM_MAYSHARE
    if kind != MAP_PRIVATE:
        raise LinuxError(Errno.EINVAL, "mmap: neither shared nor private")
    return vm_flags


def _mmap_region(mm: MmStruct, file: MappedFile | None, start: int, length: int, vm_flags: int, pgoff: int) -> None:
    """Replace whatever is in the range by the new mapping.  All that can fail comes before the first change.

    Errors:
        ENOMEM: a limit of the address space, or of the machine.
    """
    end = start + length
    check_split(mm, start, end)
    mm.reserve_vmas(2)  # one that is split, and the new one
    pages = length >> PAGE_SHIFT
    replaced = promised = 0  # pages that go, and those of them that count towards the commit limit
    for vma in mm.vmas.overlapping(start, end):
        part = vma.clip(start, end).nr_pages
        replaced += part
        promised += part if vma.flags & VM_ACCOUNT else 0
    if not mm.may_expand_vm(vm_flags, pages - replaced):
        raise LinuxError(Errno.ENOMEM, "mmap: RLIMIT_AS or RLIMIT_DATA")
    if mm.accountable(file, vm_flags):
        if promised < pages:
            mm.charge(pages - promised)
        vm_flags |= VM_ACCOUNT
    mapping = file.mapping if file is not None else None
    if vm_flags & VM_SHARED and (mapping is None or mapping.is_dev_zero):
        mapping = PageCache(mm.node, size=length)
        mapping.acct_size(noreserve=bool(vm_flags & VM_NORESERVE))
        file = ShmemFile(mapping)
        pgoff = 0
    elif mapping is not None and mapping.is_dev_zero:
        mapping = None
        pgoff = start >> PAGE_SHIFT
    if vm_flags & VM_HUGETLB:
        vm_flags &= ~VM_LOCKED_MASK
        if not vm_flags & VM_NORESERVE:
            assert isinstance(mapping, HugetlbCache), "mmap_region: huge pages of no file"
            mapping.reserve()
    do_munmap(mm, start, end)
    insert_vma(
        mm, Vma(start=VirtAddr(start), end=VirtAddr(end), flags=vm_flags, pgoff=pgoff, file=file, mapping=mapping)
    )


def insert_vma(mm: MmStruct, vma: Vma) -> None:
    """Add *vma*, whose place is free; it merges with neighbours that fit.

    Errors:
        ENOMEM: no memory for one more mapping, unless it was reserved.
    """
    mm.reserve_vmas(1)
    at = mm.vmas.first_above(vma.start)
    mm.replace(at, at, [vma])


def install_special_mapping(mm: MmStruct, start: int, pages: list[Pfn], prot: int, name: str) -> VirtAddr:
    """Show the kernel's *pages* at *start*, or below if something is there: _install_special_mapping.

    The pages stay the caller's: it holds a reference to each for as long as any address space may map them.

    Errors:
        ENOMEM: no hole.
    """
    length = len(pages) << PAGE_SHIFT
    where = get_unmapped_area(mm, start & ~PAGE_MASK, length, 0)
    flags = prot & _PROT_MASK | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_DONTEXPAND | mm.def_flags & ~VM_LOCKED_MASK
    assert flags & VM_SPECIAL, "install_special_mapping: it must not merge"
    special = SpecialMapping(name, tuple(pages))
    insert_vma(mm, Vma(start=where, end=VirtAddr(where + length), flags=flags, pgoff=0, special=special))
    mm.tell("mmap", where, where + length, prot, 0)
    return where
