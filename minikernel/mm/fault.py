"""The page fault: what to do about an access that the page table refused.

Linux's names in Linux's order: arch/x86/mm/fault.c, do_user_addr_fault; mm/memory.c, handle_mm_fault and its do_*.

    handle_mm_fault -> no mapping: the stack grows, or SIGSEGV (MAPERR)
                    -> the mapping forbids it: SIGSEGV (ACCERR)
                    -> no entry:  do_anonymous_page | do_read_fault | do_cow_fault | do_shared_fault
                    -> write to a read-only entry:  do_wp_page
                    -> code_fault, spurious

Every end is told as one MmFaultResolved or MmFaultFailed, if anybody listens.
"""

from dataclasses import dataclass
from typing import Final, TypeAlias

from emu.x86 import (
    PAGE_MASK,
    PAGE_SHIFT,
    PAGE_SIZE,
    PF_I,
    PF_W,
    PTE_A,
    PTE_D,
    PTE_P,
    PTE_RW,
    PTE_XD,
    Pfn,
    VirtAddr,
)
from minikernel.abi.errno import Errno, LinuxError
from minikernel.events import FaultKind, MmFaultFailed, MmFaultResolved
from minikernel.mm.filemap import PageCache
from minikernel.mm.gfp import GFP_HIGHUSER, GFP_ZERO
from minikernel.mm.icache import note_exec, note_write
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_anon, PG_exec, PG_swapbacked, PG_uptodate
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.rmap import PFN_MASK, anon_vma_prepare
from minikernel.mm.stack import expand_stack
from minikernel.mm.vma import VM_ACCESS_FLAGS, VM_EXEC, VM_SHARED, VM_WRITE, Vma

SIGBUS: Final = 7
SIGSEGV: Final = 11
SEGV_MAPERR: Final = 1  # address not mapped
SEGV_ACCERR: Final = 2  # mapped, but not for this access
BUS_ADRERR: Final = 2  # beyond the end of the file

FAULT_AROUND_PAGES: Final = 16  # fault_around_bytes, 64 KiB
_ANON_FLAGS: Final = PG_anon | PG_swapbacked | PG_uptodate
_GFP_ANON_ZERO: Final = GFP_HIGHUSER | GFP_ZERO
_YOUNG_DIRTY: Final = PTE_A | PTE_D


@dataclass(frozen=True, slots=True)
class Served:
    """The access may be tried again.  *major*: it needed I/O."""

    kind: FaultKind
    major: bool = False


@dataclass(frozen=True, slots=True)
class Segv:
    """SIGSEGV with si_code *code*; *reason* names the rule for a human."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class BusError:
    """SIGBUS with si_code *code*."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class OutOfMemory:
    """No frame: someone has to be killed, then the access is tried again."""


FaultOutcome: TypeAlias = Served | Segv | BusError | OutOfMemory

# One object per way to be served: the hot path builds nothing.
_SERVED: Final = {kind: Served(kind) for kind in FaultKind}
_SERVED_ANON: Final = _SERVED[FaultKind.ANON]
_SERVED_MAJOR: Final = {kind: Served(kind, major=True) for kind in FaultKind}
_OUT_OF_MEMORY: Final = OutOfMemory()


def handle_mm_fault(mm: MmStruct, address: int, error_code: int) -> FaultOutcome:
    """Make the page at *address* usable for the access in *error_code* (PF_*; PF_U or not makes no difference)."""
    vma = mm.vmas.cached
    if not vma.start <= address < vma.end:
        found = mm.vmas.find(address) or _bad_address(mm, address)
        if isinstance(found, Segv):
            return found
        vma = found
    if error_code & PF_W:
        if not vma.flags & VM_WRITE:
            return _access_error(mm, vma, address, error_code)
    elif not vma.flags & VM_ACCESS_FLAGS or (error_code & PF_I and not vma.flags & VM_EXEC):
        return _access_error(mm, vma, address, error_code)

    pte = mm.pgtable.get(address)
    if not pte:
        if vma.mapping is None:
            if vma.special is not None:
                return _do_special_fault(mm, vma, address, error_code)
            return do_anonymous_page(mm, vma, address, error_code)
        return do_fault(mm, vma, address, error_code)
    assert pte & PTE_P, f"handle_mm_fault: {address:#x} has an entry {pte:#x} that is not present"
    if error_code & PF_W and not pte & PTE_RW:
        return do_wp_page(mm, vma, address, pte)
    if error_code & PF_I and pte & PTE_XD:
        return _code_fault(mm, address, pte)
    mm.min_flt += 1
    return _served(mm, FaultKind.SPURIOUS, address, pte >> PAGE_SHIFT & PFN_MASK)


# ---- the ends of the path


def _served(mm: MmStruct, kind: FaultKind, address: int, pfn: int) -> Served:
    """Tell and return that a minor fault was served."""
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultResolved(VirtAddr(address), kind, Pfn(pfn)))
    return _SERVED[kind]


def _segv(mm: MmStruct, address: int, code: int, reason: str) -> Segv:
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultFailed(VirtAddr(address), SIGSEGV, code, reason))
    return Segv(code, reason)


def _bus_error(mm: MmStruct, address: int, reason: str) -> BusError:
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultFailed(VirtAddr(address), SIGBUS, BUS_ADRERR, reason))
    return BusError(BUS_ADRERR, reason)


def _oom(mm: MmStruct, address: int) -> OutOfMemory:
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultFailed(VirtAddr(address), 0, 0, "out of memory: no frame for the page or its tables"))
    return _OUT_OF_MEMORY


def _failed(mm: MmStruct, address: int, error: LinuxError) -> OutOfMemory | BusError:
    """What an error of the page cache becomes: vmf_error()."""
    if error.errno == Errno.ENOMEM:
        return _oom(mm, address)
    return _bus_error(mm, address, f"the file's page could not be had: {error}")


def _bad_address(mm: MmStruct, address: int) -> Vma | Segv:
    """No mapping contains *address*: the stack grows to it, or the access is wrong (lock_mm_and_find_vma)."""
    if address >= mm.layout.task_size:
        return _segv(mm, address, SEGV_MAPERR, "the address is the kernel's, not a user's")
    grown = expand_stack(mm, address)
    if isinstance(grown, str):
        return _segv(mm, address, SEGV_MAPERR, grown)
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultResolved(VirtAddr(address), FaultKind.STACK_GROWTH, Pfn(0)))
    return grown


def _access_error(mm: MmStruct, vma: Vma, address: int, error_code: int) -> Segv:
    """The mapping does not allow it: arch/x86/mm/fault.c, access_error."""
    access = "write" if error_code & PF_W else "fetch" if error_code & PF_I else "read"
    flags = vma.flags
    rights = "".join(letter if flags >> bit & 1 else "-" for bit, letter in enumerate("rwx"))
    return _segv(mm, address, SEGV_ACCERR, f"{access} of a mapping whose rights are {rights}")


# ---- anonymous memory


def do_anonymous_page(mm: MmStruct, vma: Vma, address: int, error_code: int) -> FaultOutcome:
    """First touch: the shared zero page for a read, a zeroed page for a write.  mm/memory.c, same name."""
    node = mm.node
    if not error_code & PF_W:
        pfn = node.zero_pfn
        pte = pfn << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_SPECIAL | PTE_A
        if not pte & PTE_XD:
            note_exec(node, pfn)
        if not mm.pgtable.set(address, pte):
            return _oom(mm, address)
        mm.min_flt += 1
        return _served(mm, FaultKind.ZERO_PAGE, address, pfn)
    if vma.anon_vma is None:
        vma = anon_vma_prepare(mm, vma)
    new = node.alloc_page(_GFP_ANON_ZERO)
    if new is None:
        return _oom(mm, address)
    pte = new << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | (PTE_RW | PTE_A | PTE_D)
    if not mm.pgtable.set(address, pte):
        node.put_page(new)
        return _oom(mm, address)
    mem_map = mm.mem_map
    mem_map.owner[new] = vma.anon_vma
    mem_map.index[new] = vma.pgoff + ((address - vma.start) >> PAGE_SHIFT)
    mem_map.mapcount[new] = 1
    mem_map.flags[new] = _ANON_FLAGS
    if not pte & PTE_XD:
        note_exec(node, new)
    mm.rss_anon += 1
    mm.min_flt += 1
    if mm.tracer.sink is not None:
        return _served(mm, FaultKind.ANON, address, new)
    return _SERVED_ANON


def _copy_page(mm: MmStruct, new: Pfn, old: Pfn) -> None:
    """Give frame *new* the contents of *old*."""
    target = new << PAGE_SHIFT
    source = old << PAGE_SHIFT
    mm.ram[target : target + PAGE_SIZE] = mm.ram[source : source + PAGE_SIZE]


def _map_anon(mm: MmStruct, vma: Vma, address: int, new: Pfn) -> bool:
    """Map frame *new*, filled and with one reference, as *vma*'s private page; False: no memory for a table."""
    pte = new << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_RW | _YOUNG_DIRTY
    if not mm.pgtable.set(address, pte):
        return False
    mem_map = mm.mem_map
    mem_map.owner[new] = vma.anon_vma
    mem_map.index[new] = vma.index(address)
    mem_map.mapcount[new] = 1
    mem_map.flags[new] = _ANON_FLAGS
    if not pte & PTE_XD:
        note_exec(mm.node, new)
    mm.rss_anon += 1
    return True


# ---- file pages


def do_fault(mm: MmStruct, vma: Vma, address: int, error_code: int) -> FaultOutcome:
    """First touch of a file page: mm/memory.c, same name."""
    cache = vma.mapping
    assert cache is not None, "do_fault: anonymous"
    index = vma.pgoff + ((address - vma.start) >> PAGE_SHIFT)
    if index << PAGE_SHIFT >= cache.size:
        return _bus_error(mm, address, "the page lies beyond the end of the mapped file")
    major = cache.backing is not None and index not in cache.pages
    try:
        if not error_code & PF_W:
            return do_read_fault(mm, vma, address, cache, index, major=major)
        if vma.flags & VM_SHARED:
            return do_shared_fault(mm, vma, address, cache, index, major=major)
        return do_cow_fault(mm, vma, address, cache, index, major=major)
    except LinuxError as error:
        return _failed(mm, address, error)


def _served_file(mm: MmStruct, kind: FaultKind, address: int, pfn: int, *, major: bool) -> Served:
    if major:
        mm.maj_flt += 1
    else:
        mm.min_flt += 1
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultResolved(VirtAddr(address), kind, Pfn(pfn), major))
    return _SERVED_MAJOR[kind] if major else _SERVED[kind]


def do_read_fault(mm: MmStruct, vma: Vma, address: int, cache: PageCache, index: int, *, major: bool) -> FaultOutcome:
    """Map the page of the cache, and the cached ones around it: do_read_fault, do_fault_around, filemap_map_pages."""
    pfn = cache.read_page(index)
    first = max(index & -FAULT_AROUND_PAGES, vma.pgoff)
    last = min((index & -FAULT_AROUND_PAGES) + FAULT_AROUND_PAGES, vma.pgoff + vma.nr_pages)
    last = min(last, (cache.size + PAGE_MASK) >> PAGE_SHIFT)
    if not _map_file_page(mm, vma, address & ~PAGE_MASK, cache, pfn):
        return _oom(mm, address)
    pages = cache.pages
    get = mm.pgtable.get
    base = vma.start - (vma.pgoff << PAGE_SHIFT)
    for near in range(first, last):
        neighbour = pages.get(near)
        if neighbour is None:
            continue
        at = base + (near << PAGE_SHIFT)
        if not get(at) and not _map_file_page(mm, vma, at, cache, neighbour):
            break  # no memory for another table: the page itself is there
    return _served_file(mm, FaultKind.FILE_READ, address, pfn, major=major)


def _map_file_page(mm: MmStruct, vma: Vma, address: int, cache: PageCache, pfn: Pfn) -> bool:
    """Map a cached page for reading: set_pte_range.  False: no memory for a table.

    A shared mapping of pages that need no write notice (shmem) is writable at once: vma_wants_writenotify.
    """
    pte = pfn << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_A
    mem_map = mm.mem_map
    if not mm.pgtable.set(address, pte):
        return False
    if not pte & PTE_XD:
        note_exec(mm.node, pfn)
    unnoticed = vma.flags & (VM_SHARED | VM_WRITE) == VM_SHARED | VM_WRITE and cache.backing is None
    # A frame of code stays read-only here: making it data again costs its other users a fault.
    if unnoticed and (not pte & PTE_XD or not mem_map.flags[pfn] & PG_exec):
        mm.pgtable.set(address, pte | PTE_RW)
    mem_map.refcount[pfn] += 1
    mem_map.mapcount[pfn] += 1
    if cache.backing is None:
        mm.rss_shmem += 1
    else:
        mm.rss_file += 1
    return True


def do_cow_fault(mm: MmStruct, vma: Vma, address: int, cache: PageCache, index: int, *, major: bool) -> FaultOutcome:
    """A write to a private file page: our own copy of it at once.  mm/memory.c, same name."""
    if vma.anon_vma is None:
        vma = anon_vma_prepare(mm, vma)
    node = mm.node
    # The copy first, as in Linux; nothing can free a cached page in between.
    source = cache.read_page(index)
    new = node.alloc_page(GFP_HIGHUSER)
    if new is None:
        return _oom(mm, address)
    _copy_page(mm, new, source)
    if not _map_anon(mm, vma, address, new):
        node.put_page(new)
        return _oom(mm, address)
    return _served_file(mm, FaultKind.FILE_COW, address, new, major=major)


def do_shared_fault(mm: MmStruct, vma: Vma, address: int, cache: PageCache, index: int, *, major: bool) -> FaultOutcome:
    """A write to a shared file page: the cache's own page, dirty from now on.  mm/memory.c, same name."""
    pfn = cache.read_page(index)
    if cache.on_mkwrite is not None:
        cache.on_mkwrite()
    pte = pfn << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_RW | _YOUNG_DIRTY
    if not mm.pgtable.set(address, pte & ~PTE_RW):
        return _oom(mm, address)
    cache.mark_dirty(index)
    note_pte(mm, pfn, pte)
    mm.pgtable.set(address, pte)
    mem_map = mm.mem_map
    mem_map.refcount[pfn] += 1
    mem_map.mapcount[pfn] += 1
    if cache.backing is None:
        mm.rss_shmem += 1
    else:
        mm.rss_file += 1
    return _served_file(mm, FaultKind.FILE_SHARED, address, pfn, major=major)


def _do_special_fault(mm: MmStruct, vma: Vma, address: int, error_code: int) -> FaultOutcome:
    """A page the kernel owns (vDSO): special_mapping_fault; a write gets a private copy."""
    special = vma.special
    assert special is not None, "_do_special_fault: no special mapping"
    pfn = special.pages[vma.index(address)]
    mem_map = mm.mem_map
    if error_code & PF_W:
        if vma.anon_vma is None:
            vma = anon_vma_prepare(mm, vma)
        new = mm.node.alloc_page(GFP_HIGHUSER)
        if new is None:
            return _oom(mm, address)
        _copy_page(mm, new, pfn)
        if not _map_anon(mm, vma, address, new):
            mm.node.put_page(new)
            return _oom(mm, address)
        return _served_file(mm, FaultKind.FILE_COW, address, new, major=False)
    pte = pfn << PAGE_SHIFT | mm.prot[vma.flags & VM_ACCESS_FLAGS] | PTE_A
    if not mm.pgtable.set(address, pte):
        return _oom(mm, address)
    note_pte(mm, pfn, pte)
    mem_map.refcount[pfn] += 1
    mem_map.mapcount[pfn] += 1
    mm.rss_file += 1
    return _served_file(mm, FaultKind.FILE_READ, address, pfn, major=False)


# ---- writes to read-only entries


def do_wp_page(mm: MmStruct, vma: Vma, address: int, pte: int) -> FaultOutcome:
    """A write that the mapping allows and the entry does not: shared, ours alone, or to be copied.

    mm/memory.c, same name: wp_page_shared, wp_page_reuse, wp_page_copy.
    """
    pfn = Pfn(pte >> PAGE_SHIFT & PFN_MASK)
    if pte & PTE_SPECIAL:
        return _wp_page_copy(mm, vma, address, pte, pfn)
    if vma.flags & VM_SHARED:
        return _wp_page_shared(mm, vma, address, pte, pfn)
    mem_map = mm.mem_map
    flags = mem_map.flags[pfn]
    if flags & PG_anon and mem_map.refcount[pfn] == 1:
        # Nobody else has it: not another address space, not the swap cache (which holds a reference).
        if vma.anon_vma is not mem_map.owner[pfn] and vma.anon_vma is not None:
            mem_map.owner[pfn] = vma.anon_vma  # page_move_anon_rmap: our family need not look for it any more
        pte |= PTE_RW | _YOUNG_DIRTY
        moved = note_pte(mm, pfn, pte)
        mm.pgtable.set(address, pte)
        mm.min_flt += 1
        return _served(mm, FaultKind.CODE if moved else FaultKind.COW_REUSE, address, pfn)
    return _wp_page_copy(mm, vma, address, pte, pfn)


def _wp_page_shared(mm: MmStruct, vma: Vma, address: int, pte: int, pfn: Pfn) -> FaultOutcome:
    """The page stays; the file learns that it is written to."""
    cache = vma.mapping
    assert cache is not None, "wp_page_shared: no file"
    if cache.on_mkwrite is not None:
        try:
            cache.on_mkwrite()
        except LinuxError as error:
            return _failed(mm, address, error)
    cache.mark_dirty(vma.index(address))
    pte |= PTE_RW | _YOUNG_DIRTY
    moved = note_pte(mm, pfn, pte)
    mm.pgtable.set(address, pte)
    mm.min_flt += 1
    return _served(mm, FaultKind.CODE if moved else FaultKind.FILE_SHARED, address, pfn)


def _wp_page_copy(mm: MmStruct, vma: Vma, address: int, pte: int, old: Pfn) -> FaultOutcome:
    """A page of our own in place of one that others see too: a copy, or zeroes in place of the zero page."""
    node = mm.node
    mem_map = mm.mem_map
    if vma.anon_vma is None:
        vma = anon_vma_prepare(mm, vma)
    special = pte & PTE_SPECIAL
    new = node.alloc_page(_GFP_ANON_ZERO if special else GFP_HIGHUSER)
    if new is None:
        return _oom(mm, address)
    kind = FaultKind.COW_COPY
    if not special:
        _copy_page(mm, new, old)
    mapped = _map_anon(mm, vma, address, new)
    assert mapped, "wp_page_copy: the entry's table is gone"
    mm.tlb_dirty = True  # the old frame stays readable through a stale translation
    if not special:
        flags = mem_map.flags[old]
        if flags & PG_anon:
            mm.rss_anon -= 1
        else:
            kind = FaultKind.FILE_COW
            if flags & PG_swapbacked:
                mm.rss_shmem -= 1
            else:
                mm.rss_file -= 1
        mem_map.mapcount[old] -= 1
        node.put_page(old)
    mm.min_flt += 1
    return _served(mm, kind, address, new)


# ---- code


def note_pte(mm: MmStruct, pfn: Pfn, pte: int) -> bool:
    """Tell the code-coherence books that *pte* is about to map *pfn*; whether an alias lost a right (icache.py)."""
    if not pte & PTE_XD:
        return note_exec(mm.node, pfn)
    if pte & PTE_RW and mm.mem_map.flags[pfn] & PG_exec:
        return note_write(mm.node, pfn)
    return False


def _code_fault(mm: MmStruct, address: int, pte: int) -> FaultOutcome:
    """A fetch through an entry that lost its execute right to a writable alias of the frame: it gets it back."""
    pfn = Pfn(pte >> PAGE_SHIFT & PFN_MASK)
    pte = pte & ~PTE_XD | PTE_A
    note_exec(mm.node, pfn)
    mm.pgtable.set(address, pte)
    mm.min_flt += 1
    return _served(mm, FaultKind.CODE, address, pfn)
