"""The kernel's own memory: /proc/slabinfo, vmallocinfo and iomem.

Linux: mm/slab_common.c, mm/vmalloc.c, kernel/resource.c.
"""

from emu.x86 import PAGE_SHIFT
from minikernel.kernel import Kernel
from minikernel.mm.kmem_cache import KmemCache
from minikernel.mm.vmalloc import VM_ALLOC

_HEADER = (
    b"slabinfo - version: 2.1\n"
    b"# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab>"
    b" : tunables <limit> <batchcount> <sharedfactor>"
    b" : slabdata <active_slabs> <num_slabs> <sharedavail>\n"
)


def slabinfo(kernel: Kernel) -> bytes:
    """Every cache, the youngest first; the tunables are SLAB's, SLUB has none (slab_show)."""
    caches = list(kernel.node.slab.caches.values())
    return _HEADER + b"".join(_cache_line(cache) for cache in reversed(caches))


def _cache_line(cache: KmemCache) -> bytes:
    layout = cache.layout
    active = cache.total_objects - cache.nr_free
    sizes = (layout.size, layout.objects, 1 << layout.order)
    slabs = len(cache.slabs)
    return b"%-17s %6d %6d %6d %4d %4d : tunables %4d %4d %4d : slabdata %6d %6d %6d\n" % (
        cache.name.encode(), active, cache.total_objects, *sizes, 0, 0, 0, slabs, slabs, 0,
    )  # fmt: skip


def vmallocinfo(kernel: Kernel) -> bytes:
    """Every area with its guard page, who asked for it, and its frames (vmalloc_info_show)."""
    lines = []
    digits = kernel.node.slab.word * 2
    for area in kernel.kernel_half.vmalloc.areas:
        kind = b"vmalloc" if area.flags & VM_ALLOC else b"vmap"
        where = f"0x{area.address:0{digits}x}-0x{area.address + area.size:0{digits}x} {area.size:7d} {area.caller}"
        nodes = b" N0=%d" % len(area.pages) if area.flags & VM_ALLOC else b""
        lines.append(where.encode() + b" pages=%d %s%s\n" % (len(area.pages), kind, nodes))
    return b"".join(lines)


def iomem(kernel: Kernel) -> bytes:
    """RAM, and what of it was taken at boot and never given to the page allocator."""
    node = kernel.node
    end = node.mem_map.nr_frames
    lines = []
    at = 0
    for start, count, name in (*sorted(node.reserved), (end, 0, "")):
        if at < start:
            lines.append(f"{at << PAGE_SHIFT:08x}-{(start << PAGE_SHIFT) - 1:08x} : System RAM\n")
        if count:
            lines.append(f"{start << PAGE_SHIFT:08x}-{((start + count) << PAGE_SHIFT) - 1:08x} : {name}\n")
        at = start + count
    return "".join(lines).encode()
