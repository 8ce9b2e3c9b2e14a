"""Mappings: struct vm_area_struct, its flags, and the sorted set of them.

A ``Vma`` says what the program asked for; what is really there is in the page table.  Linux: include/linux/mm.h,
mm/vma.c.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from emu.x86 import PAGE_SHIFT, Pfn, VirtAddr

if TYPE_CHECKING:
    from minikernel.mm.filemap import PageCache
    from minikernel.mm.mapped_file import MappedFile
    from minikernel.mm.rmap import AnonVma

# vm_flags: include/linux/mm.h, same values.
VM_READ: Final = 0x1
VM_WRITE: Final = 0x2
VM_EXEC: Final = 0x4
VM_SHARED: Final = 0x8
VM_MAYREAD: Final = 0x10  # mprotect may set the bit four places below
VM_MAYWRITE: Final = 0x20
VM_MAYEXEC: Final = 0x40
VM_MAYSHARE: Final = 0x80
VM_GROWSDOWN: Final = 0x100
VM_PFNMAP: Final = 0x400
VM_LOCKED: Final = 0x2000
VM_IO: Final = 0x4000
VM_SEQ_READ: Final = 0x8000
VM_RAND_READ: Final = 0x1_0000
VM_DONTCOPY: Final = 0x2_0000
VM_DONTEXPAND: Final = 0x4_0000
VM_LOCKONFAULT: Final = 0x8_0000
VM_ACCOUNT: Final = 0x10_0000  # counts towards the commit limit
VM_NORESERVE: Final = 0x20_0000
VM_HUGETLB: Final = 0x40_0000
VM_WIPEONFORK: Final = 0x200_0000
VM_DONTDUMP: Final = 0x400_0000
VM_MIXEDMAP: Final = 0x1000_0000
VM_HUGEPAGE: Final = 0x2000_0000
VM_NOHUGEPAGE: Final = 0x4000_0000
VM_MERGEABLE: Final = 0x8000_0000

VM_COUNTED: Final = 1 << 40  # ours: the file is a CountedFile (vm_ops->open and close)

VM_STACK: Final = VM_GROWSDOWN
VM_ACCESS_FLAGS: Final = VM_READ | VM_WRITE | VM_EXEC
VM_LOCKED_MASK: Final = VM_LOCKED | VM_LOCKONFAULT
VM_SPECIAL: Final = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP
VM_DATA_DEFAULT_FLAGS: Final = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC

STACK_GUARD_GAP: Final = 256 << PAGE_SHIFT  # bytes kept free below a stack: mm/util.c, stack_guard_gap


class SpecialMapping(Struct, frozen=True):
    """Kernel-owned pages shown to user space (the vDSO): struct vm_special_mapping.

    The kernel holds a reference to each of *pages* for as long as the mapping may exist.
    """

    name: str
    pages: tuple[Pfn, ...]


class Vma(Struct, frozen=True, kw_only=True, eq=False):
    """A run of pages with one protection and one backing.

    Immutable: changing a mapping replaces the Vma in its MmStruct, so no caller ever holds one that is half
    changed.  Compared by identity: reverse maps hold them as keys.
    """

    start: VirtAddr  # first byte
    end: VirtAddr  # one past the last byte
    flags: int  # VM_*
    pgoff: int  # of *start*, in pages: in the file; anonymous: start >> 12 when it was made, kept by mremap
    file: "MappedFile | None" = None  # for its name and its life; None: no file was named
    mapping: "PageCache | None" = None  # where pages come from; None: anonymous memory (vma_is_anonymous)
    anon_vma: "AnonVma | None" = None  # owner of the private pages; None until the first of them
    special: SpecialMapping | None = None
    name: str = ""  # [anon:...] of PR_SET_VMA_ANON_NAME

    @property
    def nr_pages(self) -> int:
        """Its size in pages: vma_pages()."""
        return (self.end - self.start) >> PAGE_SHIFT

    @property
    def is_anonymous(self) -> bool:
        """Pages without a name appear as zeroes: vma_is_anonymous()."""
        return self.mapping is None and self.special is None

    @property
    def is_accessible(self) -> bool:
        """Not PROT_NONE: vma_is_accessible()."""
        return bool(self.flags & VM_ACCESS_FLAGS)

    @property
    def start_gap(self) -> int:
        """First byte that a neighbour below must leave free: vm_start_gap()."""
        if self.flags & VM_GROWSDOWN:
            return max(self.start - STACK_GUARD_GAP, 0)
        return self.start

    def index(self, address: int) -> int:
        """Page offset of *address* in the backing: linear_page_index()."""
        return self.pgoff + ((address - self.start) >> PAGE_SHIFT)

    def clip(self, start: int, end: int) -> "Vma":
        """The part within [*start*, *end*), which overlaps the mapping; itself if that is all of it."""
        start = max(start, self.start)
        end = min(end, self.end)
        assert start < end, "Vma.clip: nothing left"
        if start == self.start and end == self.end:
            return self
        pgoff = self.pgoff + ((start - self.start) >> PAGE_SHIFT)
        return replace(self, start=VirtAddr(start), end=VirtAddr(end), pgoff=pgoff)


def can_merge(left: Vma, right: Vma) -> bool:
    """The two neighbours may become one: same rights, same backing, continuous offsets (mm/vma.c, can_vma_merge_*)."""
    return not left.flags & VM_COUNTED and can_extend(left, right)


def can_extend(left: Vma, right: Vma) -> bool:
    """The border between the two may move; with VM_COUNTED none of them may go (can_merge_remove_vma)."""
    if left.end != right.start or left.flags != right.flags or left.flags & VM_SPECIAL:
        return False
    if left.file is not right.file or left.mapping is not right.mapping or left.name != right.name:
        return False
    if left.pgoff + left.nr_pages != right.pgoff:
        return False
    return is_mergeable_anon_vma(left.anon_vma, right.anon_vma)


def is_mergeable_anon_vma(one: "AnonVma | None", other: "AnonVma | None") -> bool:
    """Pages of both may have one owner.

    A mapping with inherited owners takes in no virgin one: its pages would be searched for in the whole family
    (mm/vma.c, is_mergeable_anon_vma).
    """
    if one is other:
        return True
    if one is not None and other is not None:
        return False
    owner = one or other
    assert owner is not None
    return len(owner.chain) == 1


def merge(left: Vma, right: Vma) -> Vma:
    """The union of two mappings that can_merge()."""
    return replace(left, end=right.end, anon_vma=left.anon_vma or right.anon_vma)


NO_VMA: Final = Vma(start=VirtAddr(0), end=VirtAddr(0), flags=0, pgoff=0)
"""Contains no address: what the last-mapping cache holds when it holds nothing."""


class VmaTree:
    """The mappings of one address space, by address.

    Invariants, checked by validate():
        - starts[i] == items[i].start, ascending; mappings are not empty and do not overlap;
        - cached is one of items, or NO_VMA.
    """

    __slots__ = ("cached", "items", "starts")

    def __init__(self) -> None:
        self.items: list[Vma] = []
        self.starts: list[int] = []
        self.cached: Vma = NO_VMA

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Vma]:
        return iter(self.items)

    def find(self, address: int) -> Vma | None:
        """The mapping that contains *address*: vma_lookup()."""
        vma = self.cached
        if vma.start <= address < vma.end:
            return vma
        at = bisect_right(self.starts, address) - 1
        if at < 0:
            return None
        vma = self.items[at]
        if address >= vma.end:
            return None
        self.cached = vma
        return vma

    def find_vma(self, address: int) -> Vma | None:
        """The first mapping that ends above *address*; it need not contain it."""
        at = self.first_above(address)
        return self.items[at] if at < len(self.items) else None

    def first_above(self, address: int) -> int:
        """Index of the first mapping that ends above *address*; len(self) if there is none."""
        at = bisect_right(self.starts, address)
        if at and self.items[at - 1].end > address:
            return at - 1
        return at

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Indices [low, high) of the mappings that overlap [*start*, *end*)."""
        low = self.first_above(start)
        return low, max(low, bisect_left(self.starts, end))

    def overlapping(self, start: int, end: int) -> list[Vma]:
        """The mappings that overlap [*start*, *end*), ascending."""
        low, high = self.span(start, end)
        return self.items[low:high]

    def index_of(self, vma: Vma) -> int:
        """Where *vma*, which is one of ours, stands."""
        at = bisect_left(self.starts, vma.start)
        assert self.items[at] is vma, "VmaTree.index_of: not a mapping of this address space"
        return at

    def splice(self, low: int, high: int, new: list[Vma]) -> None:
        """Replace items[*low*:*high*] by *new*, which fits between the neighbours."""
        self.items[low:high] = new
        self.starts[low:high] = [vma.start for vma in new]
        self.cached = NO_VMA

    def validate(self) -> None:
        """Check the invariants above."""
        assert self.starts == [vma.start for vma in self.items], "VmaTree: starts and items differ"
        previous = 0
        for vma in self.items:
            assert previous <= vma.start < vma.end, f"VmaTree: {vma.start:#x} overlaps its neighbour or is empty"
            previous = vma.end
        assert self.cached is NO_VMA or any(vma is self.cached for vma in self.items), "VmaTree: stale cache"
