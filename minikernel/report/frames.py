"""What each frame of RAM is used for, in a word and in a sentence."""

from typing import TYPE_CHECKING, Final

from emu.x86 import PTE_P, Pfn, VirtAddr
from minikernel.mm import page as pg
from minikernel.mm.filemap import PageCache
from minikernel.mm.kmem_cache import Slab
from minikernel.mm.page import MemMap
from minikernel.mm.pgtable import pte_pfn
from minikernel.mm.vmalloc import VmArea
from minikernel.report.backing import file_names
from minikernel.report.words import slot_words

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma

SIGNS: Final = {
    "table": ("T", "yellow"),
    "anonymous": ("a", "green"),
    "file": ("f", "cyan"),
    "kernel": ("K", "red"),
    "reserved": ("R", "magenta"),
    "free": (".", "dim"),
}
"""Use -> sign and colour of a map; where one sign stands for several frames, the first use here counts."""

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
    if not mem_map.refcount[pfn] and not flags & pg.PG_tail:
        return "free"
    if flags & pg.PG_anon:
        return "anonymous"
    return "file" if isinstance(mem_map.owner[pfn], PageCache) else "kernel"


def describe(kernel: "Kernel", pfn: int) -> str:
    """What frame *pfn* holds, in a sentence."""
    mem_map = kernel.node.mem_map
    if pfn == kernel.node.zero_pfn:
        return f"frame {pfn:#x}: the shared zero page"
    match frame_use(kernel, pfn):
        case "table":
            return f"frame {pfn:#x}: a page table"
        case "free":
            return f"frame {pfn:#x}: free{_block(kernel, mem_map, pfn)}"
        case "anonymous":
            return f"frame {pfn:#x}: anonymous memory, page {mem_map.index[pfn]:#x} of its mapping's address space"
        case "file":
            return f"frame {pfn:#x}: page {mem_map.index[pfn]:,} of a file{_file_name(kernel, mem_map, pfn)}"
        case "reserved":
            return f"frame {pfn:#x}: reserved at boot"
        case _:
            return f"frame {pfn:#x}: the kernel's own{_kernel_use(mem_map, pfn)}"


def _kernel_use(mem_map: MemMap, pfn: int) -> str:
    """Which cache of objects, or which part of the vmalloc area, a frame belongs to."""
    owner = mem_map.owner[pfn]
    if isinstance(owner, Slab):
        return f", objects of {owner.cache.name}"
    if isinstance(owner, VmArea):
        return f", page {owner.pages.index(Pfn(pfn))} of the vmalloc area at {owner.address:#x}"
    return ""


def _block(kernel: "Kernel", mem_map: MemMap, pfn: int) -> str:
    """The free block that a frame is part of."""
    zone = kernel.node.zone_of(Pfn(pfn))
    block = zone.buddy.find_block(pfn)
    if block is None:
        return ", on its zone's list of single frames"
    start, order = block
    del mem_map
    return f", in a block of order {order} at {start:#x}"


def _file_name(kernel: "Kernel", mem_map: MemMap, pfn: int) -> str:
    """What the file that owns the frame is called."""
    name = file_names(kernel).get(id(mem_map.owner[pfn]))
    return f", {name}" if name is not None else ""


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
