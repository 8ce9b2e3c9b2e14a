"""Mappings of huge pages from the pool: MAP_HUGETLB.  Linux: mm/hugetlb.c, fs/hugetlbfs/inode.c.

Such a mapping is one of a nameless file whose pages are huge.  A shared one finds them in the file, a private one owns
each page from its first touch.  Boundaries are those of huge pages (may_split), so a large leaf is never split here.

Promises: a shared file has them for everybody, a private one for the address space that made the mapping; a child of
fork has none, and may find no page when it needs a copy.
"""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT, PTE_A, PTE_D, PTE_RW, PTE_XD, Pfn
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MAP_HUGE_MASK, MAP_HUGE_SHIFT, MAP_PRIVATE, MAP_TYPE
from minikernel.mm.filemap import PageCache
from minikernel.mm.hugetlb_pool import HugetlbPool, huge_pfn, unmap_hugepage_range
from minikernel.mm.mapped_file import MappedFile
from minikernel.mm.page import PG_exec
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import pte_pfn
from minikernel.mm.rmap import rmap_walk
from minikernel.mm.vma import VM_ACCESS_FLAGS, VM_HUGETLB, VM_SHARED, VM_WRITE, Vma

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct

_GIGABYTE_LOG: Final = 30  # a size there is on x86-64, of which there are no pages


class HugetlbCache(PageCache):
    """The pages of one file, by huge index; in units of small pages it is empty.

    *owner* is the address space that *promised* indices are for; None: any (a shared file).
    """

    __slots__ = ("huge", "owner", "promised")

    def __init__(self, node: Node, size: int, owner: "MmStruct | None") -> None:
        super().__init__(node, None, size)
        self.huge: dict[int, Pfn] = {}
        self.owner = owner
        self.promised: set[int] = set()

    @property
    def pool(self) -> HugetlbPool:
        """Where its pages come from."""
        return self.node.hugetlb

    def huge_index(self, vma: Vma, address: int) -> int:
        """Which huge page of the file *vma* shows at *address*."""
        return vma.index(address) >> self.pool.order

    def reserve(self) -> None:
        """Promise every page: hugetlb_reserve_pages.  Errors: ENOMEM: there are not enough."""
        count = self.size >> (self.pool.order + PAGE_SHIFT)
        self.pool.reserve(count)
        self.promised = set(range(count))

    def take(self, mm: "MmStruct", index: int) -> Pfn | None:
        """A page for *index*, by its promise if *mm* has one; None: none is left."""
        promised = index in self.promised and self.owner in {None, mm}
        pfn = self.pool.take(promised=promised)
        if promised:
            self.promised.discard(index)
        return pfn

    def unmapped(self, mm: "MmStruct") -> None:
        """A mapping of *mm* has gone: what its maker was promised and cannot touch any more is free for others.

        Linux: hugetlb_vm_op_close.
        """
        if self.owner is not mm:
            return
        order = self.pool.order
        shown: set[int] = set()
        for vma, owner in self.vmas.items():
            if owner is mm:
                shown.update(range(vma.pgoff >> order, vma.index(vma.end) >> order))
        self.pool.unreserve(len(self.promised - shown))
        self.promised &= shown

    def punch_hole(self, offset: int, length: int) -> None:
        """Forget the huge pages that lie in the range as a whole: hugetlbfs_punch_hole.

        Only a shared mapping asks for it, and all mappings of a file are of one kind: those of one mmap, and forks'.
        """
        shift = self.pool.order + PAGE_SHIFT
        first, last = -(-offset >> shift), (offset + length) >> shift
        for vma, mm in list(self.vmas.items()):
            low = vma.start + (((first << self.pool.order) - vma.pgoff) << PAGE_SHIFT)
            high = vma.start + (((last << self.pool.order) - vma.pgoff) << PAGE_SHIFT)
            unmap_hugepage_range(mm, max(low, vma.start), min(high, vma.end))
        for index in sorted(index for index in self.huge if first <= index < last):
            self.pool.drop(self.huge.pop(index))

    def destroy(self) -> None:
        """The last mapping has gone."""
        super().destroy()
        for index in sorted(self.huge):
            self.pool.drop(self.huge.pop(index))
        self.pool.unreserve(len(self.promised))
        self.promised.clear()


class HugetlbFile:
    """The nameless file behind one mmap: hugetlb_file_setup."""

    __slots__ = ("dev", "ino", "mapping", "path", "readable", "users", "writable")

    def __init__(self, mapping: HugetlbCache) -> None:
        self.mapping = mapping
        self.path = b"/anon_hugepage (deleted)"
        self.ino = 0
        self.dev = 15  # the kernel's own hugetlbfs mount
        self.readable = self.writable = True
        self.users = 0

    def get_file(self) -> None:
        """One more mapping."""
        self.users += 1

    def put_file(self) -> None:
        """One mapping less; the last one frees the pages."""
        self.users -= 1
        if not self.users:
            self.mapping.destroy()


def check_hugetlb_flags(mm: "MmStruct", file: MappedFile | None, flags: int) -> None:
    """Whether huge pages of the size in *flags* (MAP_HUGE_*) can be mapped: ksys_mmap_pgoff, hstate_sizelog.

    Errors:
        EINVAL: no such size, or a file that is not of huge pages.  ENOMEM: a size of which there are none.
    """
    log = flags >> MAP_HUGE_SHIFT & MAP_HUGE_MASK
    pool = mm.node.hugetlb
    if file is not None or log not in {0, pool.order + PAGE_SHIFT, _GIGABYTE_LOG}:
        raise LinuxError(Errno.EINVAL, "mmap: MAP_HUGETLB of a file, or of a size there is not")
    if log == _GIGABYTE_LOG:
        raise LinuxError(Errno.ENOMEM, "mmap: no gigantic pages")


def hugetlb_file_setup(mm: "MmStruct", length: int, flags: int) -> HugetlbFile:
    """The file of a new mapping, without pages and promises: same name."""
    private = flags & MAP_TYPE == MAP_PRIVATE
    return HugetlbFile(HugetlbCache(mm.node, length, mm if private else None))


def cache_of(vma: Vma) -> HugetlbCache:
    """The file of a VM_HUGETLB mapping."""
    assert isinstance(vma.mapping, HugetlbCache), "hugetlb: a mapping of small pages"
    return vma.mapping


def may_split(mm: "MmStruct", vma: Vma, address: int) -> bool:
    """Whether *vma* may begin or end at *address*: hugetlb_vm_op_split."""
    return not vma.flags & VM_HUGETLB or not address & (mm.node.hugetlb.size - 1)


# ---- entries


def set_huge_pte(mm: "MmStruct", vma: Vma, address: int, pfn: Pfn, *, write: bool, dirty: int = 0) -> bool:
    """Map huge page *pfn* at *address*, with *vma*'s rights; False: no memory for a table.  Counts are the caller's.

    The page is code or data as a whole (icache.py): the entry's aliases lose what does not go with it.
    """
    leaf = pfn << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_A | dirty | (PTE_RW if write else 0)
    mem_map = mm.mem_map
    if mm.pgtable.get_large(address):
        mm.pgtable.set_large(address, leaf & ~PTE_RW)  # the aliases below are others
        mm.tlb_dirty = True
    is_code = mem_map.flags[pfn] & PG_exec
    if not leaf & PTE_XD and not is_code:
        mm.node.hugetlb.mark_code(pfn)
        _take_from_aliases(mm, pfn, clear=PTE_RW, add=0)
    elif leaf & PTE_XD and leaf & PTE_RW and is_code:
        mm.node.hugetlb.mark_data(pfn)
        _take_from_aliases(mm, pfn, clear=0, add=PTE_XD)
    return mm.pgtable.set_large(address, leaf)


def _take_from_aliases(mm: "MmStruct", pfn: Pfn, *, clear: int, add: int) -> None:
    if not mm.node.layout.mode.has_nx:
        return
    for other, address in rmap_walk(mm.mem_map, pfn):
        leaf = other.pgtable.get_large(address)
        if leaf & ~clear | add != leaf:
            other.pgtable.set_large(address, leaf & ~clear | add)
            other.tlb_dirty = True


def copy_hugetlb_page_range(mm: "MmStruct", child: "MmStruct", vma: Vma) -> None:
    """Fork: *child* gets the private pages of *vma* too, read-only on both sides.  Linux: same name.

    Errors:
        ENOMEM: no memory for a table.
    """
    mem_map = mm.mem_map
    for address, leaf in mm.pgtable.large_leaves(vma.start, vma.end):
        shared = leaf if vma.flags & VM_SHARED else leaf & ~PTE_RW
        mm.pgtable.set_large(address, shared)
        if not child.pgtable.set_large(address, shared & ~PTE_A):
            raise LinuxError(Errno.ENOMEM, "fork: no memory for page tables")
        pfn = huge_pfn(leaf)
        mem_map.refcount[pfn] += 1
        mem_map.mapcount[pfn] += 1


def hugetlb_change_protection(mm: "MmStruct", vma: Vma, start: int, end: int) -> None:
    """Bring the leaves of [*start*, *end*) in line with *vma*'s protection; private ones are writable at a fault."""
    for address, leaf in mm.pgtable.large_leaves(start, end):
        write = vma.flags & (VM_WRITE | VM_SHARED) == VM_WRITE | VM_SHARED
        set_huge_pte(mm, vma, address, huge_pfn(leaf), write=write, dirty=leaf & PTE_D)
    mm.tlb_dirty = True


def validate_hugetlb(mm: "MmStruct", vma: Vma) -> None:
    """Assert that *vma* shows whole huge pages of its file or its own, with no more rights than it has."""
    cache = cache_of(vma)
    size = cache.pool.size
    where = f"validate_hugetlb: mapping {vma.start:#x}-{vma.end:#x}"
    assert not (vma.start | vma.end | vma.pgoff << PAGE_SHIFT) & (size - 1), f"{where} has half a huge page"
    mem_map = mm.mem_map
    for address, pte in mm.pgtable.entries(vma.start, vma.end, large=False):
        raise AssertionError(f"{where} has a small page {pte:#x} at {address:#x}")
    for address, leaf in mm.pgtable.large_leaves(vma.start, vma.end):
        pfn = huge_pfn(leaf)
        where = f"validate_hugetlb: {leaf:#x} at {address:#x}"
        assert mem_map.index[pfn] == vma.index(address), f"{where}: frame {pfn:#x} has another index"
        assert not leaf & PTE_RW or vma.flags & VM_WRITE, f"{where} is writable, its mapping is not"
        if vma.flags & VM_SHARED:
            assert mem_map.owner[pfn] is cache, f"{where}: frame {pfn:#x} is of another file"
            assert cache.huge.get(cache.huge_index(vma, address)) == pfn, f"{where}: the file has another page"
        else:
            assert vma.anon_vma is not None, f"{where} maps a private page, the mapping owns none"
            assert mem_map.owner[pfn] in vma.anon_vma.chain, f"{where}: frame {pfn:#x} has a strange owner"
        code = bool(mem_map.flags[pfn] & PG_exec)
        assert leaf & PTE_XD or code, f"{where} is executable, its page is data"
        data_rights = mm.node.layout.mode.has_nx and leaf & PTE_XD and leaf & PTE_RW
        assert not data_rights or not code, f"{where} is writable, its page is code"
        assert pte_pfn(mm.pgtable.get(address)) == pfn, f"{where}: get() says otherwise"
