"""Objects that are watched: red zones, poison, and who took and gave back each.  Linux: mm/slub.c, mm/poison.h.

An object of a cache with debug flags lies between red zones.  While it is free, its bytes are a pattern; whoever writes
to it then, or beyond its end at any time, is found when the object changes hands or validate_slab() looks.  Nobody but
our own kernel writes to these frames, so what is found is a bug of ours: ``SlabBug``, which names the cache, the object
and the places where it was taken and given back.
"""

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from minikernel.mm.kmem_cache import KmemCache, Slab

# Patterns: include/linux/poison.h.
RED_INACTIVE: Final = 0xBB
RED_ACTIVE: Final = 0xCC
POISON_INUSE: Final = 0x5A  # of an object that was never used, and padding
POISON_FREE: Final = 0x6B
POISON_END: Final = 0xA5  # last byte of a poisoned object

_OUR_FILES: Final = ("/kmem_cache.py", "/slab.py", "/slab_debug.py", "/slab_objects.py")
_SHOWN: Final = 16


class SlabBug(AssertionError):  # noqa: N818 - a bug of ours, as every assertion
    """The kernel misused an object."""


class DebugObjects:
    """What is known of the objects of one cache that is debugged.

    *taken* and *given_back* hold, by object, the place in the kernel's source that last did so (struct track).
    """

    __slots__ = ("cache", "given_back", "taken")

    def __init__(self, cache: "KmemCache") -> None:
        self.cache = cache
        self.taken: dict[int, str] = {}  # of objects in use
        self.given_back: dict[int, str] = {}  # of free objects that were in use before

    def setup(self, slab: "Slab") -> None:
        """Prepare the objects of a new slab (setup_object_debug)."""
        for address in slab.free:
            self.given_back.pop(address, None)
            self._mark(address, RED_INACTIVE)
            self._poison(address)

    def take(self, address: int, site: str) -> None:
        """An object is handed out (alloc_debug_processing)."""
        self.check_free(address)
        self._mark(address, RED_ACTIVE)
        if self.cache.ctor is None:
            self._write(address, bytes((POISON_INUSE,)) * self.cache.layout.object_size)
        self.taken[address] = site

    def give_back(self, address: int, site: str) -> None:
        """An object comes back (free_debug_processing)."""
        if address not in self.taken:
            self.cache.slab_of(address)
            self._report(address, f"given back in {site}, but it is not in use")
        self.check_used(address)
        del self.taken[address]
        self.given_back[address] = site
        self._mark(address, RED_INACTIVE)
        self._poison(address)

    def check_used(self, address: int) -> None:
        """Assert that nobody wrote beside an object in use."""
        if address not in self.taken:
            self._report(address, "it is neither free nor in use")
        self._check_red_zones(address, RED_ACTIVE)

    def check_free(self, address: int) -> None:
        """Assert that nobody wrote to, or beside, a free object."""
        self._check_red_zones(address, RED_INACTIVE)
        if self.cache.ctor is None:
            self._check(address, self._free_pattern(), "written to while it is free")

    # ---- bytes

    def _free_pattern(self) -> bytes:
        return bytes((POISON_FREE,)) * (self.cache.layout.object_size - 1) + bytes((POISON_END,))

    def _poison(self, address: int) -> None:
        if self.cache.ctor is None:
            self._write(address, self._free_pattern())

    def _mark(self, address: int, sign: int) -> None:
        layout = self.cache.layout
        self._write(address - layout.red_left, bytes((sign,)) * layout.red_left)
        self._write(address + layout.object_size, bytes((sign,)) * (layout.inuse - layout.object_size))

    def _check_red_zones(self, address: int, sign: int) -> None:
        layout = self.cache.layout
        self._check(address - layout.red_left, bytes((sign,)) * layout.red_left, "left red zone overwritten", address)
        right = address + layout.object_size
        self._check(right, bytes((sign,)) * (layout.inuse - layout.object_size), "right red zone overwritten", address)

    def _write(self, address: int, data: bytes) -> None:
        self.cache.allocator.write(address, data)

    def _check(self, address: int, expected: bytes, what: str, owner: int | None = None) -> None:
        found = self.cache.allocator.read(address, len(expected))
        if found == expected:
            return
        at = next(at for at, (is_, should) in enumerate(zip(found, expected, strict=True)) if is_ != should)
        bytes_there = found[at : at + _SHOWN].hex(" ")
        self._report(owner or address, f"{what}: at {address + at:#x}: {bytes_there}, not {expected[at]:02x}")

    def _report(self, address: int, what: str) -> None:
        """Raise SlabBug (slab_bug, print_track)."""
        lines = [f"BUG {self.cache.name}: object {address:#x} {what}"]
        if address in self.taken:
            lines.append(f"allocated in {self.taken[address]}")
        if address in self.given_back:
            lines.append(f"freed in {self.given_back[address]}")
        raise SlabBug("; ".join(lines))


def call_site() -> str:
    """The place outside the slab allocator that called it: "fork.py:120 kernel_clone"."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.endswith(_OUR_FILES):
        frame = frame.f_back
    name = frame.f_code.co_filename.rsplit("/", 1)[-1]
    return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
