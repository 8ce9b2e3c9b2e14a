"""/proc/PID/maps and smaps.  Linux: fs/proc/task_mmu.c."""

from collections.abc import Iterator
from typing import Final

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_A, PTE_D, PTE_P
from minikernel.abi.stat import dev_major, dev_minor
from minikernel.abi.vsyscall import VSYSCALL_ADDR
from minikernel.mm import vma as v
from minikernel.mm.hugetlb_pool import huge_pfn
from minikernel.mm.mm_struct import MmStruct, vma_name
from minikernel.mm.page import PG_anon
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.thp import has_huge_range, thp_vma_allowable
from minikernel.mm.vma import Vma
from minikernel.task.task import Task

_FRAME: Final = (1 << 40) - 1
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
    """What the page table says about a range: struct mem_size_stats, in pages; *pss* in 4096ths of a page."""

    __slots__ = (
        "anon_huge", "anonymous", "locked", "private_clean", "private_dirty", "pss", "pss_dirty", "referenced", "rss",
        "private_hugetlb", "shared_clean", "shared_dirty", "shared_hugetlb",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rss = self.pss = self.pss_dirty = self.referenced = self.anonymous = self.anon_huge = self.locked = 0
        self.shared_clean = self.shared_dirty = self.private_clean = self.private_dirty = 0
        self.shared_hugetlb = self.private_hugetlb = 0

    def add(self, mm: MmStruct, vma: Vma) -> None:
        """Count the pages of *vma* (smaps_account)."""
        if vma.flags & v.VM_HUGETLB:
            self._add_huge(mm, vma)
            return
        mem_map = mm.mem_map
        leaf_pages = mm.pgtable.large_size >> PAGE_SHIFT
        for _, leaf in mm.pgtable.large_leaves(vma.start, vma.end):
            self.anon_huge += 0 if leaf & PTE_SPECIAL else leaf_pages  # smaps_pmd_entry
        for _, pte in mm.pgtable.entries(vma.start, vma.end):
            pfn = pte >> PAGE_SHIFT & _FRAME
            if not pte & PTE_P or pfn == mm.node.zero_pfn:
                continue
            users = max(mem_map.mapcount[pfn], 1)
            share = (1 << _PSS_SHIFT) // users
            dirty = bool(pte & PTE_D)
            self.rss += 1
            self.pss += share
            self.pss_dirty += share if dirty else 0
            self.referenced += bool(pte & PTE_A)
            self.anonymous += bool(mem_map.flags[pfn] & PG_anon)
            if users > 1:
                self.shared_dirty += dirty
                self.shared_clean += not dirty
            else:
                self.private_dirty += dirty
                self.private_clean += not dirty
            self.locked += share if vma.flags & v.VM_LOCKED else 0

    def _add_huge(self, mm: MmStruct, vma: Vma) -> None:
        """Pages of the pool, which are counted apart (smaps_hugetlb_range)."""
        pages = mm.node.hugetlb.size >> PAGE_SHIFT
        for _, leaf in mm.pgtable.large_leaves(vma.start, vma.end):
            if mm.mem_map.mapcount[huge_pfn(leaf)] > 1:
                self.shared_hugetlb += pages
            else:
                self.private_hugetlb += pages

    def lines(self) -> Iterator[bytes]:
        """From Rss to Locked (__show_smap)."""
        rows = (
            (b"Rss", self.rss << _PSS_SHIFT),
            (b"Pss", self.pss),
            (b"Pss_Dirty", self.pss_dirty),
            (b"Shared_Clean", self.shared_clean << _PSS_SHIFT),
            (b"Shared_Dirty", self.shared_dirty << _PSS_SHIFT),
            (b"Private_Clean", self.private_clean << _PSS_SHIFT),
            (b"Private_Dirty", self.private_dirty << _PSS_SHIFT),
            (b"Referenced", self.referenced << _PSS_SHIFT),
            (b"Anonymous", self.anonymous << _PSS_SHIFT),
            (b"KSM", 0),
            (b"LazyFree", 0),
            (b"AnonHugePages", self.anon_huge << _PSS_SHIFT),
            (b"ShmemPmdMapped", 0),
            (b"FilePmdMapped", 0),
            (b"Shared_Hugetlb", self.shared_hugetlb << _PSS_SHIFT),
            (b"Private_Hugetlb", self.private_hugetlb << _PSS_SHIFT),
            (b"Swap", 0),
            (b"SwapPss", 0),
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
    lines = list(usage.lines())
    pss_parts = [
        kb_line(b"Pss_Anon", usage.anonymous * _PAGE_KB),
        kb_line(b"Pss_File", max(usage.rss - usage.anonymous, 0) * _PAGE_KB),
        kb_line(b"Pss_Shmem", 0),
    ]
    return head.ljust(73) + b"[rollup]\n" + b"".join(lines[:3] + pss_parts + lines[3:])
