"""RAM: one private anonymous mapping of the host, shared with the emulated CPU.

Private, so that ``os.fork()`` of the whole emulator is a checkpoint of the machine.  Scalars go through the
memoryviews (65 ns; a numpy index costs 150), bulk work through slices or ``numpy.frombuffer(view8)``.
"""

import ctypes
import mmap
from typing import Final

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PhysAddr

MIN_RAM: Final = 4 << 20
MAX_RAM: Final = 3 << 30


class PhysMem:
    """*size* bytes of zeroed RAM at physical address 0.

    Untouched pages cost the host nothing.  ``view8``, ``view32`` and ``view64`` alias the same bytes;
    an address divided by the element size is the index.
    """

    __slots__ = ("_pin", "address", "nr_frames", "ram", "size", "view32", "view64", "view8")

    def __init__(self, size: int) -> None:
        if size % PAGE_SIZE or not MIN_RAM <= size <= MAX_RAM:
            raise ValueError(f"RAM must be whole pages between 4 MiB and 3 GiB, not {size} bytes")
        self.size = size
        self.nr_frames = size >> PAGE_SHIFT
        self.ram = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.view8 = memoryview(self.ram)
        self.view32 = self.view8.cast("I")
        self.view64 = self.view8.cast("Q")
        self._pin = ctypes.c_char.from_buffer(self.ram)
        self.address = ctypes.addressof(self._pin)

    def read(self, phys: PhysAddr, size: int) -> bytes:
        """The *size* bytes at *phys*; the range must lie in RAM."""
        assert 0 <= phys <= phys + size <= self.size, f"PhysMem.read: {phys:#x}+{size:#x} is outside RAM"
        return self.ram[phys : phys + size]

    def write(self, phys: PhysAddr, data: bytes | bytearray | memoryview) -> None:
        """Store *data* at *phys*; the range must lie in RAM."""
        end = phys + len(data)
        assert 0 <= phys <= end <= self.size, f"PhysMem.write: {phys:#x}+{len(data):#x} is outside RAM"
        self.ram[phys:end] = data

    def zero(self, phys: PhysAddr, size: int = PAGE_SIZE) -> None:
        """Clear *size* bytes at *phys*."""
        assert 0 <= phys <= phys + size <= self.size, f"PhysMem.zero: {phys:#x}+{size:#x} is outside RAM"
        self.ram[phys : phys + size] = _ZEROES if size == PAGE_SIZE else bytes(size)

    def copy(self, target: PhysAddr, source: PhysAddr, size: int = PAGE_SIZE) -> None:
        """Copy *size* bytes from *source* to *target*; the ranges do not overlap."""
        assert max(target, source) + size <= self.size, f"PhysMem.copy: {max(target, source):#x} is outside RAM"
        self.ram[target : target + size] = self.ram[source : source + size]


_ZEROES: Final = bytes(PAGE_SIZE)
