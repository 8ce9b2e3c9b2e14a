"""/proc/PID/maps and smaps.  Linux: fs/proc/task_mmu.c."""

from collections.abc import Iterator
from typing import Final

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_A, PTE_D, PTE_P
from minikernel.abi.stat import dev_major, dev_minor
from minikernel.abi.vsyscall import VSYSCALL_ADDR
from minikernel.mm import vma as v
from minikernel.mm.hugetlb_pool import huge_pfn
from minikernel.mm.mm_struct import MmStruct, vma_name
from minikernel.mm.page import PG_anon, PG_dirty, PG_referenced, PG_swapbacked
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.rmap import PFN_MASK
from minikernel.mm.thp import has_huge_range, thp_vma_allowable
from minikernel.mm.vma import Vma
from minikernel.task.task import Task

_PAGE_KB: Final = 4
_PSS_SHIFT: Final = 12

# VmFlags mnemonics, in the order of the bits (show_smap_vma_flags).
_FLAG_NAMES: Final = (
    (v.VM_READ, b"rd"),
    (v.VM_WRITE, b"wr"),
    (v.VM_EXEC, b"ex"),
    (v.VM_SHARED, b"sh"),
    (v.VM_MAYREAD, b"mr"),
    (v.VM_MAYWRITE, b"mw"),
    (v.VM_MAYEXEC, b"me"),
    (v.VM_MAYSHARE, b"ms"),
    (v.VM_GROWSDOWN, b"gd"),
    (v.VM_PFNMAP, b"pf"),
    (v.VM_LOCKED, b"lo"),
    (v.VM_IO, b"io"),
    (v.VM_SEQ_READ, b"sr"),
    (v.VM_RAND_READ, b"rr"),
    (v.VM_DONTCOPY, b"dc"),
    (v.VM_DONTEXPAND, b"de"),
    (v.VM_LOCKONFAULT, b"lf"),
    (v.VM_ACCOUNT, b"ac"),
    (v.VM_NORESERVE, b"nr"),
    (v.VM_HUGETLB, b"ht"),
    (v.VM_WIPEONFORK, b"wf"),
    (v.VM_DONTDUMP, b"dd"),
    (v.VM_MIXEDMAP, b"mm"),
    (v.VM_HUGEPAGE, b"hg"),
    (v.VM_NOHUGEPAGE, b"nh"),
    (v.VM_MERGEABLE, b"mg"),
)


class _Usage:
    """What the page table says about a range: struct mem_size_stats, in pages; *pss* ones in 4096ths of a page."""

    __slots__ = (
        "anon_huge", "anonymous", "lazyfree", "locked", "private_clean", "private_dirty", "private_hugetlb", "pss",
        "pss_anon", "pss_dirty", "pss_shmem", "referenced", "rss", "shared_clean", "shared_dirty", "shared_hugetlb",
        "swap", "swap_pss",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rss = self.pss = self.pss_dirty = self.referenced = self.anonymous = self.locked = self.lazyfree = 0
        self.shared_clean = self.shared_dirty = self.private_clean = self.private_dirty = 0
        self.pss_anon = self.pss_shmem = self.swap = self.swap_pss = 0
        self.anon_huge = self.shared_hugetlb = self.private_hugetlb = 0

    def add(self, mm: MmStruct, vma: Vma) -> None:
        """Count the pages of *vma* (smaps_pte_entry)."""
        if vma.flags & v.VM_HUGETLB:
            self._add_huge(mm, vma)
            return
        leaf_pages = mm.pgtable.large_size >> PAGE_SHIFT
        for _, leaf in mm.pgtable.large_leaves(vma.start, vma.end):
            self.anon_huge += 0 if leaf & PTE_SPECIAL else leaf_pages  # smaps_pmd_entry
        for _, pte in mm.pgtable.entries(vma.start, vma.end):
            if not pte & PTE_P:
                self.swap += 1
                self.swap_pss += (1 << _PSS_SHIFT) // max(mm.node.swap.swap_count(pte), 1)
            elif not pte & PTE_SPECIAL:
                self._account(mm, vma, pte)
        cache = vma.mapping
        if cache is not None and cache.swapped:
            # No entry says so of shared memory (shmem_swap_usage); a private copy may hide the page.
            own = vma.flags & (v.VM_SHARED | v.VM_WRITE) == v.VM_WRITE
            for index in cache.swapped:
                at = index - vma.pgoff
                if 0 <= at < vma.nr_pages:
                    self.swap += not (own and mm.pgtable.get(vma.start + (at << PAGE_SHIFT)))

    def _add_huge(self, mm: MmStruct, vma: Vma) -> None:
        """Pages of the pool, which are counted apart (smaps_hugetlb_range)."""
        pages = mm.node.hugetlb.size >> PAGE_SHIFT
        for _, leaf in mm.pgtable.large_leaves(vma.start, vma.end):
            if mm.mem_map.mapcount[huge_pfn(leaf)] > 1:
                self.shared_hugetlb += pages
            else:
                self.private_hugetlb += pages

    def _account(self, mm: MmStruct, vma: Vma, pte: int) -> None:
        """One page that is there (smaps_account, smaps_page_accumulate)."""
        mem_map = mm.mem_map
        pfn = pte >> PAGE_SHIFT & PFN_MASK
        users, flags = max(mem_map.mapcount[pfn], 1), mem_map.flags[pfn]
        share = (1 << _PSS_SHIFT) // users
        dirty = bool(pte & PTE_D or flags & PG_dirty)
        self.rss += 1
        self.pss += share
        self.pss_dirty += share if dirty else 0
        self.referenced += bool(pte & PTE_A or flags & PG_referenced)
        if flags & PG_anon:
            self.anonymous += 1
            self.pss_anon += share
            self.lazyfree += not flags & PG_swapbacked and not dirty
        elif flags & PG_swapbacked:
            self.pss_shmem += share
        if users > 1:
            self.shared_dirty += dirty
            self.shared_clean += not dirty
        else:
            self.private_dirty += dirty
            self.private_clean += not dirty
        self.locked += share if vma.flags & v.VM_LOCKED else 0

    def lines(self, *, rollup: bool = False) -> Iterator[bytes]:
        """From Rss to Locked (__show_smap)."""
        pss_file = self.pss - self.pss_anon - self.pss_shmem
        rows = (
            (b"Rss", self.rss << _PSS_SHIFT),
            (b"Pss", self.pss),
            (b"Pss_Dirty", self.pss_dirty),
            *(
                ((b"Pss_Anon", self.pss_anon), (b"Pss_File", pss_file), (b"Pss_Shmem", self.pss_shmem))
                if rollup
                else ()
            ),
            (b"Shared_Clean", self.shared_clean << _PSS_SHIFT),
            (b"Shared_Dirty", self.shared_dirty << _PSS_SHIFT),
            (b"Private_Clean", self.private_clean << _PSS_SHIFT),
            (b"Private_Dirty", self.private_dirty << _PSS_SHIFT),
            (b"Referenced", self.referenced << _PSS_SHIFT),
            (b"Anonymous", self.anonymous << _PSS_SHIFT),
            (b"KSM", 0),
            (b"LazyFree", self.lazyfree << _PSS_SHIFT),
            (b"AnonHugePages", self.anon_huge << _PSS_SHIFT),
            (b"ShmemPmdMapped", 0),
            (b"FilePmdMapped", 0),
            (b"Shared_Hugetlb", self.shared_hugetlb << _PSS_SHIFT),
            (b"Private_Hugetlb", self.private_hugetlb << _PSS_SHIFT),
            (b"Swap", self.swap << _PSS_SHIFT),
            (b"SwapPss", self.swap_pss),
            (b"Locked", self.locked),
        )
        for name, amount in rows:
            yield kb_line(name, amount * _PAGE_KB >> _PSS_SHIFT)


def kb_line(name: bytes, kilobytes: int) -> bytes:
    """A line of smaps: SEQ_PUT_DEC."""
    return b"%-16s%8d kB\n" % (name + b":", kilobytes)


def maps(task: Task) -> bytes:
    """/proc/PID/maps."""
    if not task.has_mm:
        return b""
    mm = task.mm
    width = 72 if mm.node.layout.mode.va_bits > 32 else 48
    return b"".join(_map_line(mm, vma, width) for vma in mm.vmas) + _gate_line(mm)


def _gate_line(mm: MmStruct) -> bytes:
    """The vsyscall page, which every 64-bit program has and no table maps (get_gate_vma)."""
    if not mm.layout.is_64bit:
        return b""
    head = b"%08x-%08x --xp 00000000 00:00 0 " % (VSYSCALL_ADDR, VSYSCALL_ADDR + PAGE_SIZE)
    return head.ljust(73) + b"[vsyscall]\n"


def _map_line(mm: MmStruct, vma: Vma, width: int) -> bytes:
    """show_map_vma."""
    flags = vma.flags
    rights = bytes(
        (
            0x72 if flags & v.VM_READ else 0x2D,
            0x77 if flags & v.VM_WRITE else 0x2D,
            0x78 if flags & v.VM_EXEC else 0x2D,
            0x73 if flags & v.VM_MAYSHARE else 0x70,
        )
    )
    dev = ino = offset = 0
    if vma.file is not None:
        dev, ino, offset = vma.file.dev, vma.file.ino, vma.pgoff << PAGE_SHIFT
    line = b"%08x-%08x %s %08x %02x:%02x %d " % (
        vma.start, vma.end, rights, offset, dev_major(dev), dev_minor(dev), ino,
    )  # fmt: skip
    name = vma_name(mm, vma).replace(b"\n", b"\\012")
    return (line.ljust(width + 1) + name if name else line) + b"\n"


def smaps(task: Task) -> bytes:
    """/proc/PID/smaps."""
    if not task.has_mm:
        return b""
    mm = task.mm
    width = 72 if mm.node.layout.mode.va_bits > 32 else 48
    parts: list[bytes] = []
    for vma in mm.vmas:
        usage = _Usage()
        usage.add(mm, vma)
        names = [name for bit, name in _FLAG_NAMES if vma.flags & bit]
        eligible = thp_vma_allowable(mm, vma) and has_huge_range(mm, vma)
        page_kb = mm.node.hugetlb.size >> 10 if vma.flags & v.VM_HUGETLB else _PAGE_KB
        head = _map_line(mm, vma, width)
        parts += _smap(head, (vma.end - vma.start) >> 10, usage, names, page_kb=page_kb, thp_eligible=eligible)
    if mm.layout.is_64bit:
        parts += _smap(_gate_line(mm), _PAGE_KB, _Usage(), [b"ex"])
    return b"".join(parts)


def _smap(
    head: bytes,
    size: int,
    usage: _Usage,
    flags: list[bytes],
    *,
    page_kb: int = _PAGE_KB,
    thp_eligible: bool = False,
) -> Iterator[bytes]:
    """One mapping of *size* KiB (show_smap)."""
    yield head
    yield kb_line(b"Size", size)
    yield kb_line(b"KernelPageSize", page_kb)
    yield kb_line(b"MMUPageSize", page_kb)
    yield from usage.lines()
    yield b"THPeligible:    %8d\n" % thp_eligible
    yield b"VmFlags: " + b"".join(name + b" " for name in flags) + b"\n"


def smaps_rollup(task: Task) -> bytes:
    """/proc/PID/smaps_rollup."""
    if not task.has_mm:
        return b""
    mm = task.mm
    usage = _Usage()
    mappings = list(mm.vmas)
    for vma in mappings:
        usage.add(mm, vma)
    start = mappings[0].start if mappings else 0
    end = mappings[-1].end if mappings else 0
    head = b"%08x-%08x ---p 00000000 00:00 0 " % (start, end)
    return head.ljust(73) + b"[rollup]\n" + b"".join(usage.lines(rollup=True))
