"""What each frame of RAM is used for, in a word and in a sentence."""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT, PTE_P, Pfn, VirtAddr
from minikernel.mm import page as pg
from minikernel.mm.filemap import PageCache
from minikernel.mm.kmem_cache import Slab
from minikernel.mm.pgtable import PageTable, pte_pfn
from minikernel.mm.rmap import rmap_walk
from minikernel.mm.vmalloc import VmArea
from minikernel.report.backing import file_names
from minikernel.report.tables import find_table
from minikernel.report.words import plural, slot_words

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma

SIGNS: Final = {
    "table": ("T", "yellow"),
    "anonymous": ("a", "green"),
    "shared": ("s", "blue"),
    "file": ("f", "cyan"),
    "stack": ("k", "magenta"),
    "slab": ("S", "red"),
    "vmalloc": ("V", "red"),
    "huge": ("H", "green"),
    "kernel": ("K", "red"),
    "reserved": ("R", "magenta"),
    "free": (".", "dim"),
}
"""Use -> sign and colour of a map; where one sign stands for several frames, the first use here counts."""

_STACK_CALLER: Final = "kernel_clone"  # who asks the vmalloc area for a task's kernel stack
_FLAGS: Final = {
    value: name.removeprefix("PG_")
    for name, value in vars(pg).items()
    if name.startswith("PG_") and name != "PG_CHECK_AT_FREE"
}


def page_flags(flags: int) -> str:
    """The PG_* of *flags* by their names."""
    return " ".join(name for bit, name in sorted(_FLAGS.items()) if flags & bit)


def frame_use(kernel: "Kernel", pfn: int) -> str:
    """A key of SIGNS."""
    mem_map = kernel.node.mem_map
    flags = mem_map.flags[pfn]
    if flags & pg.PG_table:
        return "table"
    if flags & pg.PG_reserved or pfn == kernel.node.zero_pfn:
        return "reserved"
    head = _head(kernel, pfn)
    flags = mem_map.flags[head]
    if not mem_map.refcount[head]:
        return "huge" if flags & pg.PG_huge else "free"
    if flags & pg.PG_anon:
        return "anonymous"
    match mem_map.owner[head]:
        case PageCache() as cache:
            return "shared" if cache.is_shmem else "file"
        case Slab():
            return "slab"
        case VmArea() as area:
            return "stack" if area.caller == _STACK_CALLER else "vmalloc"
    return "huge" if flags & pg.PG_huge else "kernel"


def _head(kernel: "Kernel", pfn: int) -> int:
    """The first frame of the block that *pfn* is part of, which knows what it is for."""
    flags = kernel.node.mem_map.flags
    while flags[pfn] & pg.PG_tail and not flags[pfn] & pg.PG_anon:
        pfn -= 1
    return pfn


def describe(kernel: "Kernel", pfn: int) -> str:
    """What frame *pfn* holds, in a sentence."""
    return f"frame {pfn:#x}: {_content(kernel, pfn)}"


def _content(kernel: "Kernel", pfn: int) -> str:
    mem_map = kernel.node.mem_map
    if pfn == kernel.node.zero_pfn:
        return "the shared zero page"
    head = _head(kernel, pfn)
    owner = mem_map.owner[head]
    match frame_use(kernel, pfn):
        case "table":
            return _table_words(kernel, pfn)
        case "free":
            return f"free{_block(kernel, pfn)}"
        case "anonymous":
            return f"anonymous memory{_mapped_words(kernel, pfn)}"
        case "shared" | "file" as use:
            kind = "shared memory" if use == "shared" else "a file"
            name = file_names(kernel).get(id(owner))
            return f"page {mem_map.index[pfn]:,} of {kind}" + (f", {name}" if name is not None else "")
        case "slab":
            assert isinstance(owner, Slab), "_content: frame_use has looked"
            return f"the kernel's own, objects of {owner.cache.name}"
        case "stack" | "vmalloc" as use:
            assert isinstance(owner, VmArea), "_content: frame_use has looked"
            page = owner.pages.index(Pfn(pfn))
            whose = _stack_owner(kernel, owner) if use == "stack" else ""
            return f"the kernel's own, {whose}page {page} of the vmalloc area at {owner.address:#x}"
        case "huge":
            return "a huge page of the pool" + ("" if mem_map.refcount[head] else ", free")
        case "reserved":
            named = next((name for start, count, name in kernel.node.reserved if start <= pfn < start + count), "")
            return "reserved at boot" + (f" for {named}" if named not in {"", "Reserved"} else "")
    vdso = any(pfn == own for _, own in kernel.vdso.values())
    return "the kernel's own, the vDSO" if vdso else "the kernel's own"


def _stack_owner(kernel: "Kernel", area: VmArea) -> str:
    task = next((task for task in kernel.tasks.values() if task.stack == area.address), None)
    return f"stack of task {task.pid}, " if task is not None else "a stack, "


def _table_words(kernel: "Kernel", pfn: int) -> str:
    """Whose table it is, on which level, for which addresses."""
    owner = kernel.node.mem_map.owner[pfn]
    for mm in kernel.address_spaces():
        if isinstance(owner, PageTable) and mm.pgtable is owner:
            place = find_table(kernel.physmem, owner.mode, owner.root, pfn)
            who = f"a page table of process {_processes(kernel, mm)}"
            return f"{who}, {place}" if place else who
    place = find_table(kernel.physmem, kernel.init_pgtable.mode, kernel.init_pgtable.root, pfn)
    return f"a page table of the kernel's half{f', {place}' if place else ''}"


def _processes(kernel: "Kernel", mm: "MmStruct") -> str:
    """The ids of the processes that live in *mm*."""
    pids = dict.fromkeys(task.tgid for task in kernel.tasks.values() if task.has_mm and task.mm is mm)
    return ", ".join(map(str, pids)) or "?"


def _mapped_words(kernel: "Kernel", pfn: int) -> str:
    """By whom an anonymous page is mapped, at most three of them."""
    mem_map = kernel.node.mem_map
    entries = rmap_walk(mem_map, Pfn(pfn))
    if not entries:
        return f", page {mem_map.index[pfn]:#x} of its mapping's address space, mapped by nobody now"
    shown = [f"process {_processes(kernel, mm)} at {address:#x}" for mm, address in entries[:3]]
    more = f" and {len(entries) - 3} more" if len(entries) > 3 else ""
    return f" of {', '.join(shown)}{more}"


def _block(kernel: "Kernel", pfn: int) -> str:
    """The free block that a frame is part of."""
    block = kernel.node.zone_of(Pfn(pfn)).buddy.find_block(pfn)
    if block is None:
        return ", on its zone's list of single frames"
    start, order = block
    return f", in a block of order {order} at {start:#x}"


def state_words(kernel: "Kernel", mm: "MmStruct", vma: "Vma", address: VirtAddr) -> str:
    """Where the page at *address*, in the mapping *vma*, is now: a frame, a swap slot, its file, or nowhere yet."""
    pte = mm.pgtable.get(address)
    if pte & PTE_P:
        return describe(kernel, pte_pfn(pte))
    if pte:
        return f"moved out: {slot_words(mm.node, pte)}"
    if vma.mapping is None:
        return "never touched: no frame yet"
    index = vma.index(address)
    if index in vma.mapping.pages:
        return f"not mapped; page {index:,} of the file is in frame {vma.mapping.pages[index]:#x}"
    return f"not mapped, and page {index:,} of the file is not in memory"


def kernel_words(kernel: "Kernel", address: int) -> str:
    """What *address*, in the kernel's half, is there for."""
    layout = kernel.node.layout
    physical = address - layout.page_offset
    if 0 <= physical < kernel.physmem.size and address < kernel.kernel_half.vmalloc.start:
        return f"the direct map, where all RAM shows: physical address {physical:#x}"
    area = kernel.kernel_half.vmalloc.find_area(address)
    if area is not None:
        return f"the vmalloc area at {area.address:#x} of {area.caller}, {address - area.address:#x} into it"
    return "the kernel's half, which the program cannot touch"


def who_maps(kernel: "Kernel", pfn: int) -> list[dict[str, object]]:
    """Every page-table entry that the reverse map knows: the processes, the virtual address, the entry, the mapping."""
    from minikernel.report.place import display_name

    found: list[dict[str, object]] = []
    for mm, address in rmap_walk(kernel.node.mem_map, Pfn(pfn)):
        vma = mm.vmas.find(address)
        found.append({
            "processes": _processes(kernel, mm),
            "address": int(address),
            "entry": mm.pgtable.get(address),
            "mapping": display_name(mm, vma) if vma is not None else "",
        })  # fmt: skip
    return found


def count_words(kernel: "Kernel", pfn: int) -> str:
    """The reference counts, and where the references come from as far as that is known."""
    mem_map = kernel.node.mem_map
    users, mapped = mem_map.refcount[pfn], mem_map.mapcount[pfn]
    parts = [f"{plural(mapped, 'entry').replace('entrys', 'entries')} of page tables"] if mapped else []
    owner = mem_map.owner[pfn]
    if isinstance(owner, PageCache) and owner.pages.get(mem_map.index[pfn]) == pfn:
        parts.append("the page cache")
    if mem_map.flags[pfn] & pg.PG_swapcache:
        parts.append("the swap cache")
    rest = f": {', '.join(parts)}" if parts else ""
    return f"refcount {users}, mapcount {mapped}{rest}"


def physical_address(pfn: int) -> int:
    """Of the frame's first byte."""
    return pfn << PAGE_SHIFT
