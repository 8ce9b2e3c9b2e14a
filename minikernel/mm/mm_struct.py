"""One address space: struct mm_struct.  Linux: include/linux/mm_types.h, kernel/fork.c (mm_init), mm/mmap.c.

The set of mappings changes in one place, ``MmStruct.replace``, which keeps the counters, the reverse maps and the
files' use counts in step; every operation of the room is "compute the new mappings, replace".
"""

from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from emu.x86 import PAGE_SHIFT, PTE_P, PTE_US, PTE_XD, VirtAddr
from minikernel.abi.errno import LinuxError
from minikernel.abi.resource import RLIMIT_AS, RLIMIT_DATA, RLIMIT_MEMLOCK
from minikernel.events import MmapRegion, Tracer
from minikernel.mm.address_layout import AddressLayout
from minikernel.mm.hugetlb import HugetlbCache, cache_of
from minikernel.mm.mapped_file import CountedFile, MappedFile
from minikernel.mm.overcommit import vm_enough_memory
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import KernelHalf, PageTable
from minikernel.mm.rmap import AnonVma
from minikernel.mm.vma import (
    VM_ACCOUNT,
    VM_COUNTED,
    VM_EXEC,
    VM_HUGETLB,
    VM_LOCKED,
    VM_NORESERVE,
    VM_SHARED,
    VM_STACK,
    VM_WRITE,
    Vma,
    VmaTree,
    can_merge,
    merge,
)
from minikernel.mm.zap import zap_range

SPARE_VMAS: Final = 8  # objects for mappings that an address space may hold beyond those it has
_KEPT_VMAS: Final = 4  # how many it keeps when it gives some back; no operation reserves more for a later step


class MmStruct:
    """A user address space.

    Invariants, checked by validate.validate_mm():
        - every present user entry of the page table lies in a mapping, and maps a frame that counts it;
        - a private page is owned by its mapping's anon_vma (or an ancestor of that), a file page by its page cache;
        - a large leaf of the page table lies in one mapping;
        - total_vm, data_vm, exec_vm, stack_vm, locked_vm (pages) equal a recount of the mappings, rss_* of the entries.

    *address* is its object of the cache mm_struct, *vma_objects* are those of its mappings and up to eight more.
    *tlb_dirty* is set by every change that takes a right away; whoever runs the guest flushes and clears it.
    """

    __slots__ = (
        "address",
        "arg_end",
        "arg_start",
        "brk",
        "cap_ipc_lock",
        "cap_sys_admin",
        "cap_sys_rawio",
        "data_vm",
        "def_flags",
        "end_code",
        "end_data",
        "env_end",
        "env_start",
        "exe_file",
        "exec_vm",
        "hiwater_rss",
        "hiwater_vm",
        "hole_ceiling",
        "hole_length",
        "kernel_half",
        "layout",
        "locked_vm",
        "maj_flt",
        "mem_map",
        "min_flt",
        "node",
        "pgtable",
        "prot",
        "ram",
        "read_implies_exec",
        "rlimits",
        "rss_anon",
        "rss_file",
        "rss_shmem",
        "saved_auxv",
        "stack_vm",
        "start_brk",
        "start_code",
        "start_data",
        "start_stack",
        "swapents",
        "sysctl",
        "thp_disabled",
        "tlb_dirty",
        "total_vm",
        "tracer",
        "users",
        "vdso",
        "vma_objects",
        "vmas",
    )

    def __init__(
        self,
        node: Node,
        kernel_half: KernelHalf,
        layout: AddressLayout,
        tracer: Tracer,
        rlimits: Sequence[Sequence[int]],
    ) -> None:
        """*rlimits*: [current, maximum] by RLIMIT_*, the task's own list: changes to it count at once.

        Errors:
            ENOMEM: no memory for it, or for the root table.
        """
        self.node = node
        self.mem_map = node.mem_map
        self.ram = node.physmem.ram
        self.kernel_half = kernel_half
        self.layout = layout
        self.tracer = tracer
        self.rlimits = rlimits
        self.sysctl = node.vm_sysctl
        self.address = node.objects.mm_struct.alloc()
        try:
            self.pgtable = PageTable(node, kernel_half)
        except LinuxError:
            node.objects.mm_struct.free(self.address)
            raise
        node.slab.write(self.address, self.pgtable.root.to_bytes(8, "little"))  # pgd, all that its image has
        # Objects for the mappings: at least one for each, taken ahead of time by reserve_vmas().
        self.vma_objects: list[int] = []
        self.vmas = VmaTree()
        self.prot = page_prot(has_nx=node.layout.mode.has_nx)
        # Every hole of hole_length bytes or more lies below hole_ceiling (0: nothing is known): unmapped_area.py.
        self.hole_length = 0
        self.hole_ceiling = 0
        self.tlb_dirty = False
        self.def_flags = 0  # added to every new mapping: mlockall(MCL_FUTURE)
        self.cap_ipc_lock = False  # the task's capabilities that mm asks for; execve and setuid keep them current
        self.cap_sys_admin = False
        self.cap_sys_rawio = False
        self.read_implies_exec = False  # personality(READ_IMPLIES_EXEC)
        self.start_code = self.end_code = self.start_data = self.end_data = VirtAddr(0)
        self.start_brk = self.brk = self.start_stack = VirtAddr(0)
        self.arg_start = self.arg_end = self.env_start = self.env_end = VirtAddr(0)
        self.saved_auxv = b""
        self.thp_disabled = 0  # what PR_GET_THP_DISABLE says: thp.py
        self.users = 1  # tasks that run in it (Linux: mm_users)
        self.vdso = 0  # where the vDSO is mapped (Linux: context.vdso), 0: nowhere
        self.exe_file: MappedFile | None = None
        self.total_vm = self.data_vm = self.exec_vm = self.stack_vm = self.locked_vm = self.hiwater_vm = 0
        self.rss_anon = self.rss_file = self.rss_shmem = self.hiwater_rss = 0
        self.swapents = 0  # entries that are in swap (MM_SWAPENTS)
        self.min_flt = self.maj_flt = 0

    # ---- the set of mappings

    @property
    def map_count(self) -> int:
        """How many mappings there are."""
        return len(self.vmas.items)

    def replace(self, low: int, high: int, new: list[Vma], *, merge: bool = True) -> None:
        """Put *new* in the place of vmas.items[*low*:*high*]; neighbours that fit are merged if *merge*.

        Page-table entries are the caller's business.  Cannot fail: who adds mappings has called reserve_vmas().
        """
        items = self.vmas.items
        before = self.total_vm
        if merge:
            if low:
                low -= 1
                new = [items[low], *new]
            if high < len(items):
                new = [*new, items[high]]
                high += 1
            new = _fold(new)
        old = items[low:high]
        if self.pgtable.large:
            for vma in new:
                self.pgtable.split_at(vma.start)
                self.pgtable.split_at(vma.end)
        changed = 0  # VM_* of all that come or go
        # Link first: a page or a file that stays in use must not be seen unused in between.
        for vma in new:
            if vma not in old:
                self._link(vma)
                changed |= vma.flags
        self.vmas.splice(low, high, new)
        for vma in old:
            if vma not in new:
                self._unlink(vma)
                changed |= vma.flags
        if changed & VM_COUNTED:
            _tell_counted(old, new)
        spare = len(self.vma_objects) - len(items)
        assert spare >= 0, "MmStruct.replace: more mappings than were reserved"
        if spare > SPARE_VMAS and len(new) < len(old):
            keep = len(items) + _KEPT_VMAS  # what the operation that called us has reserved stays
            self.node.objects.vm_area_struct.free_bulk(self.vma_objects[keep:])
            del self.vma_objects[keep:]
        if self.total_vm > before:
            self.hiwater_vm = max(self.hiwater_vm, self.total_vm)
        elif self.total_vm < before:
            above = low + len(new)
            ceiling = items[above].start if above < len(items) else self.layout.task_size
            self.hole_ceiling = max(self.hole_ceiling, ceiling)

    def append(self, vma: Vma) -> None:
        """Put *vma* behind all others, as fork does with every mapping: replace() without what cannot happen there."""
        self._link(vma)
        at = len(self.vmas.items)
        self.vmas.splice(at, at, [vma])
        if vma.flags & VM_COUNTED:
            _tell_counted([], [vma])

    def reserve_vmas(self, count: int) -> None:
        """Take the objects for *count* more mappings, so that replace() need not (vm_area_alloc).

        Errors:
            ENOMEM: there is no memory for them.
        """
        missing = len(self.vmas.items) + count - len(self.vma_objects)
        if missing > 0:
            self.vma_objects += self.node.objects.vm_area_struct.alloc_bulk(missing)

    def with_anon_vma(self, vma: Vma, owner: AnonVma) -> Vma:
        """A copy of *vma* with *owner*; not yet one of ours."""
        return replace(vma, anon_vma=owner)

    def _link(self, vma: Vma) -> None:
        pages = vma.nr_pages
        self.total_vm += pages
        self._account(vma.flags, pages)
        if vma.anon_vma is not None:
            vma.anon_vma.link(vma, self)
        if vma.mapping is not None:
            vma.mapping.vmas[vma] = self
        if vma.file is not None:
            vma.file.get_file()

    def _unlink(self, vma: Vma) -> None:
        pages = vma.nr_pages
        self.total_vm -= pages
        self._account(vma.flags, -pages)
        if vma.anon_vma is not None:
            vma.anon_vma.unlink(vma)
        if vma.mapping is not None:
            del vma.mapping.vmas[vma]
            if vma.flags & VM_HUGETLB:
                cache_of(vma).unmapped(self)
        if vma.file is not None:
            vma.file.put_file()

    def _account(self, flags: int, pages: int) -> None:
        """Linux: mm/vma.c, vm_stat_account; and locked_vm, and what is promised (vm_acct_memory)."""
        if flags & VM_ACCOUNT:
            self.sysctl.vm_committed_as += pages
        if flags & VM_LOCKED:
            self.locked_vm += pages
        if is_exec_mapping(flags):
            self.exec_vm += pages
        elif is_stack_mapping(flags):
            self.stack_vm += pages
        elif is_data_mapping(flags):
            self.data_vm += pages

    def set_exe_file(self, file: MappedFile | None) -> None:
        """Note which program runs here: /proc/PID/exe, set_mm_exe_file()."""
        if file is not None:
            file.get_file()
        if self.exe_file is not None:
            self.exe_file.put_file()
        self.exe_file = file

    def destroy(self) -> None:
        """Unmap everything and free every frame; the object is dead then: exit_mmap()."""
        zap_range(self, 0, self.layout.task_size)
        self.replace(0, len(self.vmas.items), [])
        self.pgtable.destroy()
        self.node.swap.mms.pop(self, None)
        self.node.huge_zero.put(self)
        self.set_exe_file(None)
        self.node.objects.vm_area_struct.free_bulk(self.vma_objects)
        self.vma_objects = []
        self.node.objects.mm_struct.free(self.address)

    # ---- limits

    def may_expand_vm(self, flags: int, pages: int) -> bool:
        """RLIMIT_AS and RLIMIT_DATA leave room for *pages* more: mm/vma.c, same name."""
        if self.total_vm + pages > self.rlimits[RLIMIT_AS][0] >> PAGE_SHIFT:
            return False
        if not is_data_mapping(flags):
            return True
        current, maximum = self.rlimits[RLIMIT_DATA]
        wanted = self.data_vm + pages
        # A current limit of 0 with a maximum is Valgrind's: Linux lets it pass.
        return wanted <= current >> PAGE_SHIFT or (current == 0 and wanted <= maximum >> PAGE_SHIFT)

    def mlock_future_ok(self, flags: int, size: int) -> bool:
        """RLIMIT_MEMLOCK leaves room for *size* more bytes of a mapping with *flags*: mm/mmap.c, same name."""
        if not flags & VM_LOCKED or self.cap_ipc_lock:
            return True
        return self.locked_vm + (size >> PAGE_SHIFT) <= self.rlimits[RLIMIT_MEMLOCK][0] >> PAGE_SHIFT

    def can_do_mlock(self) -> bool:
        """The task may lock memory at all: mm/mlock.c, same name."""
        return self.rlimits[RLIMIT_MEMLOCK][0] != 0 or self.cap_ipc_lock

    def charge(self, pages: int) -> None:
        """Check that *pages* more may be promised; they count when their mapping is in place: __vm_enough_memory.

        Errors:
            ENOMEM.
        """
        vm_enough_memory(self.node, self, pages)

    def accountable(self, file: MappedFile | None, flags: int) -> bool:
        """A private writable mapping that did not ask for MAP_NORESERVE: mm/vma.c, accountable_mapping.

        Huge pages of the pool are counted there.
        """
        if file is not None and isinstance(file.mapping, HugetlbCache):
            return False
        return flags & (VM_NORESERVE | VM_SHARED | VM_WRITE) == VM_WRITE

    # ---- figures

    @property
    def rss(self) -> int:
        """Resident pages: get_mm_rss()."""
        return self.rss_anon + self.rss_file + self.rss_shmem

    def update_hiwater_rss(self) -> None:
        """Note the peak before pages go away or are reported: Linux's same name."""
        self.hiwater_rss = max(self.hiwater_rss, self.rss)

    def tell(self, op: str, start: int, end: int, prot: int, flags: int) -> None:
        """Emit MmapRegion, if anybody listens."""
        if self.tracer.sink is not None:
            self.tracer.emit(MmapRegion(op, VirtAddr(start), VirtAddr(end), prot, flags))


def page_prot(*, has_nx: bool) -> list[int]:
    """Entry bits by VM_READ | VM_WRITE | VM_EXEC, without R/W: protection_map[] of arch/x86/mm/pgprot.c.

    A page of a PROT_NONE mapping stays present and becomes the supervisor's: the hardware refuses every user
    access to it, and non-present entries stay free for swap.  Linux uses _PAGE_PROTNONE for the same.
    """
    prot = []
    for rights in range(8):
        bits = PTE_P | (PTE_US if rights else 0)
        if has_nx and not rights & VM_EXEC:
            bits |= PTE_XD
        prot.append(bits)
    return prot


def is_exec_mapping(flags: int) -> bool:
    """Code: VmExe, VmLib."""
    return flags & (VM_EXEC | VM_WRITE | VM_STACK) == VM_EXEC


def is_stack_mapping(flags: int) -> bool:
    """Stack: VmStk."""
    return bool(flags & VM_STACK)


def is_data_mapping(flags: int) -> bool:
    """Private, writable, no stack: VmData, what RLIMIT_DATA limits."""
    return flags & (VM_WRITE | VM_SHARED | VM_STACK) == VM_WRITE


def _fold(vmas: list[Vma]) -> list[Vma]:
    """*vmas* with every pair of neighbours merged that can be."""
    folded: list[Vma] = []
    for vma in vmas:
        if folded and can_merge(folded[-1], vma):
            folded[-1] = merge(folded[-1], vma)
        else:
            folded.append(vma)
    return folded


def _tell_counted(old: list[Vma], new: list[Vma]) -> None:
    """Tell files that count their mappings what *new* in the place of *old* means: vm_ops->open, vm_ops->close."""
    for file in dict.fromkeys(vma.file for vma in (*old, *new) if vma.flags & VM_COUNTED):
        assert isinstance(file, CountedFile), "MmStruct.replace: VM_COUNTED, and nobody counts"
        come = [vma for vma in new if vma.file is file and vma not in old]
        gone = [vma for vma in old if vma.file is file and vma not in new]
        opened, closed = len(come), len(gone)
        if sum(vma.nr_pages for vma in come) >= sum(vma.nr_pages for vma in gone):
            # Nothing was unmapped: a change of flags replaces a Vma, but neither opens nor closes one; a split opens.
            opened, closed = max(opened - closed, 0), max(closed - opened, 0)
        for _ in range(opened):
            file.vm_open()
        for _ in range(closed):
            file.vm_close()


def vma_name(mm: MmStruct, vma: Vma) -> bytes:
    """The last column of /proc/PID/maps: a path, [heap], [stack], [vdso], [anon:...], or nothing.

    Linux: fs/proc/task_mmu.c, get_vma_name.
    """
    if vma.file is not None:
        return vma.file.path
    if vma.special is not None:
        return vma.special.name.encode()
    if vma.start < mm.brk and vma.end > mm.start_brk:
        return b"[heap]"
    if vma.start <= mm.start_stack <= vma.end:
        return b"[stack]"
    return vma.name.encode()
