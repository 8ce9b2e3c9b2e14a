"""The caches of the kernel's own objects: what a task, a mapping or an open file costs the machine.

The objects themselves are Python's.  Each takes an object of the cache that Linux has for it and gives it back at its
end, so that slabinfo, memory pressure and leaks are the machine's.  Sizes on x86-64 are those of a Linux 6.18
(/proc/slabinfo), on i386 typical ones of a 6.x.
"""

from typing import Final, TypeAlias

from minikernel.abi.errno import LinuxError
from minikernel.mm.kmem_cache import KmemCache
from minikernel.mm.slab import SlabAllocator
from minikernel.mm.slab_layout import SLAB_HWCACHE_ALIGN, SLAB_PANIC, SLAB_RECLAIM_ACCOUNT

Charge: TypeAlias = tuple[KmemCache, int]
"""An object that is held: its cache, its address."""

_ALIGN: Final = SLAB_HWCACHE_ALIGN | SLAB_PANIC
_RECLAIM: Final = SLAB_RECLAIM_ACCOUNT | SLAB_PANIC

# name: bytes on x86-64, bytes on i386, flags.  In the order in which start_kernel makes them.
_TABLE: Final[dict[str, tuple[int, int, int]]] = {
    "mm_struct": (1568, 832, _ALIGN),
    "pid": (184, 124, _ALIGN),
    "anon_vma": (104, 56, SLAB_PANIC),
    "task_struct": (5840, 3712, _ALIGN),
    "cred_jar": (184, 124, _ALIGN),
    "sighand_cache": (2088, 1320, _ALIGN),
    "signal_cache": (1104, 696, _ALIGN),
    "files_cache": (704, 320, _ALIGN),
    "fs_cache": (56, 36, _ALIGN),
    "vm_area_struct": (192, 108, _ALIGN),
    "dentry": (192, 128, _RECLAIM),
    "inode_cache": (624, 400, _RECLAIM),
    "filp": (184, 152, _ALIGN),
    "shmem_inode_cache": (752, 496, SLAB_PANIC),
    "ext4_inode_cache": (1128, 760, _RECLAIM),
}


class ObjectCaches:
    """One attribute for each cache; a hot path keeps the one it needs."""

    __slots__ = (*_TABLE,)

    anon_vma: KmemCache
    cred_jar: KmemCache
    dentry: KmemCache
    ext4_inode_cache: KmemCache
    files_cache: KmemCache
    filp: KmemCache
    fs_cache: KmemCache
    inode_cache: KmemCache
    mm_struct: KmemCache
    pid: KmemCache
    shmem_inode_cache: KmemCache
    sighand_cache: KmemCache
    signal_cache: KmemCache
    task_struct: KmemCache
    vm_area_struct: KmemCache

    def __init__(self, slab: SlabAllocator) -> None:
        wide = slab.node.layout.mode.va_bits > 32
        for name, (bytes64, bytes32, flags) in _TABLE.items():
            setattr(self, name, slab.create(name, bytes64 if wide else bytes32, flags=flags))


def charge(caches: list[KmemCache]) -> list[Charge]:
    """An object of each of *caches*, or none at all.

    Errors:
        ENOMEM: there is no memory for one of them.
    """
    held: list[Charge] = []
    try:
        for cache in caches:
            held.append((cache, cache.alloc()))  # noqa: PERF401 - what came before a failure has to be known
    except LinuxError:
        uncharge(held)
        raise
    return held


def uncharge(held: list[Charge]) -> None:
    """Give objects back, and forget them."""
    for cache, address in held:
        cache.free(address)
    held.clear()
