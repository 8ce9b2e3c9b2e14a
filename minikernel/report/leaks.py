"""Who holds memory, and what nobody knows any more: frames, objects, mappings, swap slots.

``usage`` tells it of a machine that runs; ``lost`` scans for frames that no page table, cache, list or object leads to,
as kmemleak scans memory for pointers; ``left_over`` compares a machine that was switched off with what it was at boot.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.x86 import PAGE_SHIFT
from minikernel.fs.validate import page_caches
from minikernel.mm import page as pg
from minikernel.mm.filemap import PageCache
from minikernel.mm.kmem_cache import Slab
from minikernel.mm.mm_struct import MmStruct, vma_name
from minikernel.mm.pgtable import PageTable
from minikernel.mm.references import count_references
from minikernel.mm.vmalloc import VmArea
from minikernel.report.words import plural, size_words
from minikernel.task.task import TaskState

if TYPE_CHECKING:
    from minikernel.kernel import Kernel

# Objects that the first task has at boot already: they all go with the last one.
_OF_TASKS = frozenset(
    (
        *("task_struct", "pid", "cred_jar", "signal_cache", "sighand_cache", "files_cache", "fs_cache", "filp"),
        *("mm_struct", "vm_area_struct", "anon_vma"),
    )
)
_STAY = frozenset(("page cache", "shared memory", "huge pages"))  # what frames may be for when all tasks have ended
_OWN = pg.PG_kernel | pg.PG_reserved | pg.PG_table | pg.PG_tail


@dataclass(frozen=True, slots=True)
class Lost:
    """A frame with more references than are known, and where it was allocated ("" if nobody noted)."""

    pfn: int
    references: int
    known: int
    site: str


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a machine holds before its first program."""

    objects: dict[str, int]
    frames: Counter[str]

    @classmethod
    def of(cls, kernel: "Kernel") -> "Baseline":
        """As *kernel* is now."""
        return cls(kernel.node.slab.in_use(), frames_by_owner(kernel))


def frames_by_owner(kernel: "Kernel") -> Counter[str]:
    """Frames in use, by what they are for."""
    mem_map = kernel.node.mem_map
    names = _mm_names(kernel)
    found: Counter[str] = Counter()
    words = ""
    for pfn in range(mem_map.nr_frames):
        flags = mem_map.flags[pfn]
        if not mem_map.refcount[pfn] and not flags & pg.PG_tail:
            continue
        if not flags & pg.PG_tail:  # the rest of a block is its first frame's
            words = _owner_words(mem_map.owner[pfn], flags, names)
        found[words] += 1
    return found


def _owner_words(owner: object, flags: int, names: dict[int, str]) -> str:
    if flags & pg.PG_huge:
        return "huge pages"
    if flags & pg.PG_anon:
        return "anonymous memory"
    match owner:
        case Slab():
            return f"objects of {owner.cache.name}"
        case PageCache():
            return "shared memory" if owner.is_shmem else "page cache"
        case PageTable():
            return f"page tables of {names.get(id(owner), 'nobody')}"
        case VmArea():
            return "vmalloc"
    if flags & pg.PG_table:
        return "the kernel's page tables"
    return "reserved" if flags & pg.PG_reserved else "the kernel's own"


def _mm_names(kernel: "Kernel") -> dict[int, str]:
    """By page table: whose it is."""
    names = {id(mm.pgtable): name for name, mm in address_spaces(kernel).items()}
    return {id(kernel.init_pgtable): "the kernel", **names}


def address_spaces(kernel: "Kernel") -> dict[str, MmStruct]:
    """Each once, by the process that is named after it."""
    spaces: dict[int, tuple[str, MmStruct]] = {}
    for task in kernel.tasks.values():
        if task.has_mm:
            name = f"process {task.tgid} ({task.comm.decode(errors='backslashreplace')})"
            spaces.setdefault(id(task.mm), (name, task.mm))
    return dict(spaces.values())


def lost(kernel: "Kernel") -> list[Lost]:
    """Frames with a reference that nothing explains."""
    node = kernel.node
    mem_map = node.mem_map
    tables = [task.files for task in kernel.tasks.values() if task.state is not TaskState.ZOMBIE]
    caches = [*page_caches(kernel.vfs, tables), *(segment.mapping for segment in kernel.shm.ids)]
    if "net" in vars(kernel):
        seen = set(map(id, caches))
        more = [file.inode.mapping for file in kernel.net.in_flight]
        caches += {id(cache): cache for cache in more if cache is not None and id(cache) not in seen}.values()
    references = count_references(node, kernel.address_spaces(), caches)
    known = references.mapped + references.cached
    sites = node.page_owner.sites if node.page_owner is not None else {}
    return [
        Lost(pfn, count, known[pfn], sites.get(pfn, ""))
        for pfn, count in enumerate(mem_map.refcount)
        if count > known[pfn] and not mem_map.flags[pfn] & _OWN and not isinstance(mem_map.owner[pfn], Slab | VmArea)
    ]


def usage(kernel: "Kernel") -> Iterator[str]:
    """The report of a machine that runs, line by line."""
    yield "frames"
    for name, count in _ranked(frames_by_owner(kernel)):
        yield f"  {count:>8,}  {name}"
    yield "mappings"
    for name, mm in address_spaces(kernel).items():
        yield f"  {name}: {plural(len(mm.vmas), 'mapping')}, {size_words(mm.total_vm << PAGE_SHIFT)}"
        sizes: Counter[str] = Counter()
        for vma in mm.vmas:
            sizes[vma_name(mm, vma).decode(errors="backslashreplace") or "anonymous"] += vma.nr_pages
        for what, pages in _ranked(sizes):
            yield f"  {pages:>8,}  {what}"
    if kernel.node.swap.order:
        yield "swap slots"
        for name, mm in address_spaces(kernel).items():
            if mm.swapents:
                yield f"  {mm.swapents:>8,}  {name}"
        shared = sum(len(cache.swapped) for cache in kernel.node.swap.shmem)
        if shared:
            yield f"  {shared:>8,}  shared memory"
    yield "objects of the kernel"
    for name, count in _ranked(Counter(kernel.node.slab.in_use())):
        yield f"  {count:>8,}  {name}"
    yield from lost_lines(kernel)


def lost_lines(kernel: "Kernel") -> Iterator[str]:
    """What the scan found."""
    found = lost(kernel)
    yield f"lost: {plural(len(found), 'frame')}" if found else "lost: nothing"
    for frame in found:
        site = f", allocated in {frame.site}" if frame.site else ""
        yield f"  frame {frame.pfn:#x}: {plural(frame.references, 'reference')}, {frame.known} known{site}"


def left_over(kernel: "Kernel", boot: Baseline) -> tuple[list[str], int]:
    """The report of a machine whose tasks have all ended, and how many things it has that nobody will give back.

    Clean and dirty pages of files stay, as on Linux, and so do names and inodes: they are caches.  Huge pages stay as
    long as vm.nr_hugepages asks for them.
    """
    lines = []
    leaks = 0
    now = frames_by_owner(kernel)
    cached = now["page cache"] + now["shared memory"]
    lines.append(f"{cached:,} frames hold pages of files, which are cached")
    if now["huge pages"]:
        lines.append(f"{now['huge pages']:,} frames are set aside as huge pages")
    for name in sorted(now):
        more = now[name] - boot.frames[name]
        if name not in _STAY and not name.startswith("objects of ") and more > 0:
            lines.append(f"  {plural(more, 'frame')} more than at boot: {name}")
            leaks += more
    objects = kernel.node.slab.in_use()
    for name in sorted(objects):
        more = objects[name] - (0 if name in _OF_TASKS else boot.objects.get(name, 0))
        if more <= 0:
            continue
        if name in {"dentry", "inode_cache", "shmem_inode_cache", "ext4_inode_cache", "proc_inode_cache"}:
            lines.append(f"  {plural(more, 'object')} of {name} more than at boot: cached")
            continue
        lines.append(f"  {plural(more, 'object')} of {name} more than at boot")
        lines += [f"    {count} from {site}" for site, count in _sites(kernel, name)]
        leaks += more
    slots = sum(area.nr_used for area in kernel.node.swap.order) - sum(
        len(cache.swapped) for cache in kernel.node.swap.shmem
    )
    if slots:
        lines.append(f"  {plural(slots, 'swap slot')} that nobody refers to")
        leaks += slots
    leaks += len(lost(kernel))
    lines += lost_lines(kernel)
    return lines, leaks


def _sites(kernel: "Kernel", name: str) -> list[tuple[str, int]]:
    """Where the objects of a cache that are in use were taken, if it is debugged."""
    debug = kernel.node.slab.caches[name].debug
    return _ranked(Counter(debug.taken.values())) if debug is not None else []


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(((name, count) for name, count in counts.items() if count), key=lambda item: (-item[1], item[0]))
