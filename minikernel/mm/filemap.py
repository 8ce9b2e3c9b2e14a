"""The page cache: the pages of one file, in frames of guest RAM.  Linux: mm/filemap.c, struct address_space.

``read``, ``write`` and every mapping of the file see the same frames, so they agree at once.  A cache without a
backing store is the file itself (tmpfs, memfd, shared anonymous memory): mm/shmem.c.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Pfn
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.gfp import GFP_HIGHUSER_MOVABLE, GFP_ZERO
from minikernel.mm.icache import note_kernel_write
from minikernel.mm.mapped_file import BackingStore
from minikernel.mm.overcommit import OVERCOMMIT_NEVER, vm_enough_memory
from minikernel.mm.page import PG_anon, PG_dirty, PG_exec, PG_lru, PG_referenced, PG_swapbacked, PG_uptodate
from minikernel.mm.page_alloc import Node
from minikernel.mm.rmap import page_mkclean
from minikernel.mm.swapin import swapin
from minikernel.mm.zap import unmap_mapping_range

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma

_SHMEM_FLAGS: Final = PG_uptodate | PG_swapbacked | PG_dirty


class PageCache:
    """The cached pages of one file.

    *size* is the file's size in bytes (i_size) and lives here, where the fault path needs it.  *on_mkwrite* is told
    of the first write to a page through a shared mapping, before it happens: update times, reserve space, or raise
    LinuxError, which becomes SIGBUS.

    Invariants, checked by validate.validate_page_cache():
        - each cached frame has us as its owner, its index, PG_uptodate, and one reference of ours;
        - a page in ``dirty`` is cached; without a backing store every page is dirty and ``dirty`` is empty;
        - a page in ``swapped`` is not cached, and refers once to its slot;
        - bytes of a cached page beyond *size* are zero, unless a mapping wrote them;
        - nr_committed is the number of pages, in RAM or in swap, if acct_by_page; 0 with a backing store.
    """

    __slots__ = (
        "backed",
        "backing",
        "dirty",
        "acct_by_page",
        "is_dev_zero",
        "node",
        "nr_committed",
        "on_mkwrite",
        "pages",
        "shadows",
        "size",
        "swapped",
        "unevictable",
        "vmas",
        "write_sealed",
    )

    def __init__(self, node: Node, backing: BackingStore | None = None, size: int = 0) -> None:
        self.node = node
        self.backing = backing
        self.size = size
        self.backed = size  # bytes that the backing store has; beyond them a page starts as zeroes
        self.pages: dict[int, Pfn] = {}
        self.dirty: set[int] = set()
        self.swapped: dict[int, int] = {}  # index -> swap entry, of shared memory that is out
        self.shadows: dict[int, object] = {}  # of evicted file pages: what the reclaim policy wants to know again
        self.vmas: dict[Vma, MmStruct] = {}
        self.on_mkwrite: Callable[[], None] | None = None
        self.acct_by_page = backing is None  # shared memory is promised page by page, unless acct_size()
        self.nr_committed = 0  # pages that are promised: part of vm_committed_as
        self.is_dev_zero = False  # /dev/zero: its private mappings are anonymous memory, its shared ones shmem
        self.unevictable = False  # AS_UNEVICTABLE: SHM_LOCK; its pages are not to be reclaimed
        self.write_sealed = False  # F_SEAL_WRITE, F_SEAL_FUTURE_WRITE: no new shared mapping may become writable

    @property
    def i_mmap(self) -> "dict[Vma, MmStruct]":
        """Who maps the file (Linux: address_space.i_mmap)."""
        return self.vmas

    @property
    def is_shmem(self) -> bool:
        """The cache is the file: mapping_unevictable apart, Linux's shmem_mapping()."""
        return self.backing is None

    @property
    def nr_pages(self) -> int:
        """Cached pages."""
        return len(self.pages)

    @property
    def allocated(self) -> list[int]:
        """Indices of the pages that exist, in RAM or in swap, in order: what a file without a backing store holds."""
        return sorted([*self.pages, *self.swapped])

    # ---- pages

    def find_get_page(self, index: int) -> Pfn | None:
        """The cached frame of page *index*, if any.  It takes no reference: nothing runs in between."""
        return self.pages.get(index)

    def read_page(self, index: int) -> Pfn:
        """The frame of page *index*, filled from the backing store if need be; it may lie beyond the size.

        Errors:
            ENOMEM: no frame.
            EIO: the backing store cannot read it.
        """
        pfn = self.pages.get(index)
        if pfn is not None:
            return pfn
        limit = self.backed - (index << PAGE_SHIFT)
        if self.backing is None:
            return self._swap_in(index) if index in self.swapped else self._add(index, b"")
        if limit <= 0:
            return self._add(index, b"")
        pfn = self._add(index, self.backing.read_page(index)[:limit])
        if self.shadows and (shadow := self.shadows.pop(index, None)) is not None:
            node = self.node
            node.vmstat["workingset_refault_file"] += 1
            node.spend_io()
            node.lru.policy.refault(pfn, shadow)
        return pfn

    def _swap_in(self, index: int) -> Pfn:
        """Bring a page of shared memory back; its slot is free then (shmem_swapin_folio).

        Errors:
            ENOMEM: no frame.  EIO: swap cannot be read.
        """
        swap = self.node.swap
        entry = self.swapped[index]
        pfn = swapin(self.node, entry)
        self.node.get_page(pfn)  # the swap cache's goes
        swap.free(entry)  # nobody maps it, so it leaves the swap cache at once
        del self.swapped[index]
        if not self.swapped:
            del swap.shmem[self]
        self.node.mem_map.flags[pfn] &= ~PG_anon  # readahead did not know whose it is
        self._insert(index, pfn)
        return pfn

    def acct_size(self, *, noreserve: bool) -> None:
        """Promise all of it now, not each page when it is made; *noreserve*: do not.  mm/shmem.c, shmem_acct_size.

        Errors:
            ENOMEM: too much.
        """
        if noreserve:
            return
        node, pages = self.node, (self.size + PAGE_MASK) >> PAGE_SHIFT
        vm_enough_memory(node, node.vm_sysctl.current_mm(), pages)
        self.acct_by_page = False
        self._commit(pages)

    def _acct_block(self) -> None:
        """One page more is to be promised: shmem_inode_acct_blocks.

        Errors:
            ENOSPC: too many.
        """
        try:
            vm_enough_memory(self.node, self.node.vm_sysctl.current_mm(), 1)
        except LinuxError:
            raise LinuxError(Errno.ENOSPC, "shared memory: the commit limit") from None

    def _commit(self, pages: int) -> None:
        self.nr_committed += pages
        self.node.vm_sysctl.vm_committed_as += pages

    def _add(self, index: int, data: bytes) -> Pfn:
        """A new cached frame that starts with *data* and goes on with zeroes."""
        length = len(data)
        assert length <= PAGE_SIZE, f"PageCache: the backing store gave {length} bytes for a page"
        node = self.node
        by_page = self.acct_by_page
        if by_page and node.vm_sysctl.overcommit_memory == OVERCOMMIT_NEVER:  # the other modes let every page pass
            self._acct_block()
        pfn = node.alloc_page(GFP_HIGHUSER_MOVABLE if length == PAGE_SIZE else GFP_HIGHUSER_MOVABLE | GFP_ZERO)
        if pfn is None:
            raise LinuxError(Errno.ENOMEM, "no frame for the page cache")
        if length:
            phys = pfn << PAGE_SHIFT
            node.physmem.ram[phys : phys + length] = data
        node.mem_map.flags[pfn] = 0
        if index in self.swapped:
            self._forget_swapped(index)  # it is overwritten as a whole
        if by_page:
            self._commit(1)
        self._insert(index, pfn)
        node.lru.note(pfn)
        return pfn

    def _insert(self, index: int, pfn: Pfn) -> None:
        """*pfn*, whose reference is ours now, is page *index*."""
        mem_map = self.node.mem_map
        mem_map.owner[pfn] = self
        mem_map.index[pfn] = index
        mem_map.flags[pfn] |= PG_uptodate if self.backing is not None else _SHMEM_FLAGS
        self.pages[index] = pfn

    def _drop(self, index: int) -> None:
        """Forget page *index*; its frame lives on while somebody maps it."""
        if self.acct_by_page:
            self._commit(-1)
        self._release(index)

    def _release(self, index: int) -> None:
        """The frame of page *index* is not ours any more; the page may live on elsewhere."""
        pfn = self.pages.pop(index)
        self.dirty.discard(index)
        mem_map = self.node.mem_map
        mem_map.owner[pfn] = None
        flags = mem_map.flags[pfn] & ~PG_dirty
        if flags & PG_lru:
            self.node.lru.remove(pfn)
            flags = mem_map.flags[pfn] & ~PG_dirty
        mem_map.flags[pfn] = flags & ~PG_uptodate  # it is no file's any more, whoever still maps it
        self.node.put_page(pfn)

    def evict(self, index: int) -> None:
        """Reclaim takes clean page *index*, which nobody maps (__remove_mapping)."""
        assert index not in self.dirty, f"PageCache.evict: page {index} is dirty"
        self._drop(index)

    def remember(self, index: int, shadow: object) -> None:
        """Keep *shadow* for when page *index* is read again."""
        self.shadows[index] = shadow

    def swap_out(self, index: int, entry: int) -> None:
        """Reclaim has written page *index*, which nobody maps, to *entry*, and referred to it for us."""
        self._release(index)
        self.swapped[index] = entry
        self.node.swap.shmem[self] = None

    def _forget_swapped(self, index: int) -> None:
        """Page *index*, which is in swap, is gone."""
        if self.acct_by_page:
            self._commit(-1)
        swap = self.node.swap
        swap.free(self.swapped.pop(index))
        if not self.swapped:
            del swap.shmem[self]

    def _truncate_swapped(self, first: int, last: int | None) -> None:
        """Pages *first* <= index < *last* (None: all) that are in swap are gone, and shadows of evicted ones."""
        for index in [at for at in self.swapped if at >= first and (last is None or at < last)]:
            self._forget_swapped(index)
        for index in [at for at in self.shadows if at >= first and (last is None or at < last)]:
            del self.shadows[index]

    def mark_dirty(self, index: int) -> None:
        """Page *index*, which is cached, is newer than the backing store: folio_mark_dirty()."""
        if self.backing is not None:
            self.dirty.add(index)
            self.node.mem_map.flags[self.pages[index]] |= PG_dirty

    # ---- read(2) and write(2)

    def read(self, offset: int, size: int) -> bytes:
        """Up to *size* bytes at *offset*; fewer at the end of the file.

        Errors:
            ENOMEM, EIO: of the first page; later ones end the read.
        """
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        ram = self.node.physmem.ram
        index = offset >> PAGE_SHIFT
        at = offset & PAGE_MASK
        if at + end - offset <= PAGE_SIZE:  # the usual case: within one page
            pfn = self.pages.get(index)
            if pfn is None:
                if self.backing is None and index not in self.swapped:
                    return bytes(end - offset)
                pfn = self.read_page(index)
            flags = self.node.mem_map.flags
            if flags[pfn] & PG_referenced:
                self.node.lru.mark_accessed(pfn)
            else:
                flags[pfn] |= PG_referenced
            phys = (pfn << PAGE_SHIFT) + at
            return ram[phys : phys + end - offset]
        pieces = []
        while offset < end:
            length = min(PAGE_SIZE - at, end - offset)
            try:
                pieces.append(self.read(offset, length))
            except LinuxError:
                if not pieces:
                    raise
                break
            offset += length
            at = 0
        return b"".join(pieces)

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> int:
        """Store *data* at *offset*, growing the file; how many bytes were stored.

        Errors:
            ENOMEM, EIO: of the first page; later ones end the write.
        """
        ram = self.node.physmem.ram
        flags = self.node.mem_map.flags
        total = len(data)
        if offset > self.size:
            self._zero_tail()
        source = memoryview(data)
        done = 0
        while done < total:
            index = (offset + done) >> PAGE_SHIFT
            at = (offset + done) & PAGE_MASK
            length = min(PAGE_SIZE - at, total - done)
            pfn = self.pages.get(index)
            if pfn is None:
                try:
                    # A page that is overwritten as a whole need not be read first.
                    pfn = self._add(index, b"") if length == PAGE_SIZE else self.read_page(index)
                except LinuxError:
                    if not done:
                        raise
                    break
            phys = (pfn << PAGE_SHIFT) + at
            ram[phys : phys + length] = source[done : done + length]
            if flags[pfn] & PG_exec:
                note_kernel_write(self.node, pfn)
            if flags[pfn] & PG_referenced:
                self.node.lru.mark_accessed(pfn)
            else:
                flags[pfn] |= PG_referenced
            if self.backing is not None:
                self.dirty.add(index)
                flags[pfn] |= PG_dirty
            done += length
            self.size = max(self.size, offset + done)
        return done

    # ---- size

    def truncate(self, size: int) -> None:
        """Set the file's size.  Pages beyond it leave every mapping, private copies too: touching them is SIGBUS.

        Linux: mm/truncate.c, truncate_setsize, truncate_inode_pages.

        Errors:
            ENOMEM, EIO: the page that becomes partial could not be read; the size is unchanged.
        """
        shrinks = size < self.size
        if shrinks and size & PAGE_MASK:
            self._zero(size, PAGE_SIZE - (size & PAGE_MASK))
        elif size > self.size:
            self._zero_tail()
        self.size = size
        self.backed = min(self.backed, size)
        if not shrinks:
            return
        first = (size + PAGE_MASK) >> PAGE_SHIFT
        unmap_mapping_range(self, first, None, even_cows=True)
        self._truncate_swapped(first, None)
        for index in sorted(index for index in self.pages if index >= first):
            self._drop(index)

    def _zero_tail(self) -> None:
        """The file grows: what a mapping wrote beyond its end was never part of it (pagecache_isize_extended)."""
        size = self.size
        if size & PAGE_MASK and (size >> PAGE_SHIFT in self.pages or size >> PAGE_SHIFT in self.swapped):
            self._zero(size, PAGE_SIZE - (size & PAGE_MASK))

    def punch_hole(self, offset: int, length: int) -> None:
        """Make the *length* bytes at *offset* read as zeroes; the size stays: fallocate(FALLOC_FL_PUNCH_HOLE).

        Errors:
            ENOMEM, EIO: a page at an edge could not be read.
        """
        end = min(offset + length, self.size)
        if offset >= end:
            return
        first = (offset + PAGE_MASK) >> PAGE_SHIFT
        last = end >> PAGE_SHIFT if end < self.size else (end + PAGE_MASK) >> PAGE_SHIFT
        if first > last:  # all of it in one page; a range that only crosses a boundary is cleared at both edges below
            self._zero(offset, end - offset)
            return
        if offset & PAGE_MASK:
            self._zero(offset, min(first << PAGE_SHIFT, end) - offset)
        if end & PAGE_MASK and end < self.size:
            self._zero(last << PAGE_SHIFT, end & PAGE_MASK)
        if self.backing is not None:
            # The backing store keeps no holes: zeroes are written, as for any other data.
            for index in range(first, last):
                self._zero(index << PAGE_SHIFT, PAGE_SIZE)
            return
        unmap_mapping_range(self, first, last, even_cows=False)
        self._truncate_swapped(first, last)
        for index in sorted(index for index in self.pages if first <= index < last):
            self._drop(index)

    def _zero(self, offset: int, length: int) -> None:
        """Clear *length* bytes at *offset*, within one page or whole pages, whatever the size is."""
        size = self.size
        index = offset >> PAGE_SHIFT
        if self.backing is None and index not in self.pages and index not in self.swapped:
            return
        if length < PAGE_SIZE:
            self.read_page(index)
        self.write(offset, bytes(length))
        self.size = size

    # ---- writeback

    def sync(self, first: int = 0, last: int | None = None) -> None:
        """Write the dirty pages *first* <= index < *last* (None: all) to the backing store, ascending.

        Every mapping of a written page becomes clean and read-only first, so that the next write is noticed.

        Errors:
            EIO, ENOSPC: of the backing store; that page and the ones after it stay dirty.
        """
        if self.backing is None:
            return
        mem_map = self.node.mem_map
        ram = self.node.physmem.ram
        for index in sorted(self.dirty):
            if index < first or (last is not None and index >= last):
                continue
            pfn = self.pages[index]
            page_mkclean(mem_map, pfn)
            start = index << PAGE_SHIFT
            end = min(start + PAGE_SIZE, self.size)
            if start < end:
                phys = pfn << PAGE_SHIFT
                self.backing.write_page(index, ram[phys : phys + end - start])
                self.backed = max(self.backed, end)
            self.dirty.discard(index)
            mem_map.flags[pfn] &= ~PG_dirty

    def destroy(self) -> None:
        """The file is gone and nobody maps it: every page goes, written back or not."""
        assert not self.vmas, "PageCache.destroy: it is mapped"
        self._truncate_swapped(0, None)
        for index in sorted(self.pages):
            self._drop(index)
        self._commit(-self.nr_committed)
