"""The kernel's access to user memory.  Linux: arch/x86/lib/usercopy.c, lib/strncpy_from_user.c.

Each page is looked up in our own table; what is missing is faulted in exactly as the guest's own access would.
Accessed and dirty bits are set as the hardware would set them.
"""

from typing import Final

from emu.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, PF_W, PTE_A, PTE_D, PTE_P, PTE_RW, PTE_US
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.fault import OutOfMemory, Served, handle_mm_fault
from minikernel.mm.icache import note_kernel_write
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_exec

_FRAME: Final = ((1 << 40) - 1) << PAGE_SHIFT  # the frame's address in an entry of any mode
_READ: Final = PTE_P | PTE_US
_READ_DONE: Final = PTE_P | PTE_US | PTE_A
_WRITE: Final = PTE_P | PTE_US | PTE_RW
_WRITE_DONE: Final = _WRITE | PTE_A | PTE_D
_ZEROES: Final = bytes(PAGE_SIZE)


def _read_page(mm: MmStruct, address: int) -> int:
    """Physical address of the user's byte at *address*, readable; faults it in."""
    pgtable = mm.pgtable
    pte = pgtable.get(address)
    while pte & _READ_DONE != _READ_DONE:
        if pte & _READ == _READ:
            pgtable.set(address, pte | PTE_A)
            break
        _fault(mm, address, 0)
        pte = pgtable.get(address)
    return (pte & _FRAME) + (address & PAGE_MASK)


def _write_page(mm: MmStruct, address: int) -> int:
    """Physical address of the user's byte at *address*, writable; faults it in, and tells if it is code."""
    pgtable = mm.pgtable
    pte = pgtable.get(address)
    while pte & _WRITE_DONE != _WRITE_DONE:
        if pte & _WRITE == _WRITE:
            pgtable.set(address, pte | PTE_A | PTE_D)
            break
        _fault(mm, address, PF_W)
        pte = pgtable.get(address)
    phys = pte & _FRAME
    if mm.mem_map.flags[phys >> PAGE_SHIFT] & PG_exec:
        note_kernel_write(mm.node, phys >> PAGE_SHIFT)  # type: ignore[arg-type]  # a frame number it is
    return phys + (address & PAGE_MASK)


def _fault(mm: MmStruct, address: int, access: int) -> None:
    """Have the fault path make the page usable.

    Errors:
        EFAULT: it cannot (the mapping, the end of the file, or no memory: the caller cannot be retried).
    """
    outcome = handle_mm_fault(mm, address, access)
    if isinstance(outcome, OutOfMemory):
        raise LinuxError(Errno.EFAULT, f"{address:#x}: out of memory")
    if not isinstance(outcome, Served):
        raise LinuxError(Errno.EFAULT, f"{address:#x}: {outcome.reason}")


def copy_from_user(mm: MmStruct, address: int, size: int) -> bytes:
    """The *size* bytes at *address*.

    Errors:
        EFAULT: some byte cannot be read.
    """
    if (address & PAGE_MASK) + size <= PAGE_SIZE:
        if not size:
            return b""
        phys = _read_page(mm, address)
        return mm.ram[phys : phys + size]
    data = copy_from_user_partial(mm, address, size)
    if len(data) < size:
        raise LinuxError(Errno.EFAULT, f"{address + len(data):#x} cannot be read")
    return data


def copy_from_user_partial(mm: MmStruct, address: int, size: int) -> bytes:
    """The bytes at *address*, up to *size* or the first that cannot be read."""
    ram = mm.ram
    pieces = []
    end = address + size
    while address < end:
        length = min(PAGE_SIZE - (address & PAGE_MASK), end - address)
        try:
            phys = _read_page(mm, address)
        except LinuxError:
            break
        pieces.append(ram[phys : phys + length])
        address += length
    return b"".join(pieces)


def copy_to_user(mm: MmStruct, address: int, data: bytes | bytearray | memoryview) -> None:
    """Store *data* at *address*.

    Errors:
        EFAULT: some byte cannot be written; those before it are.
    """
    size = len(data)
    if (address & PAGE_MASK) + size <= PAGE_SIZE:
        if size:
            phys = _write_page(mm, address)
            mm.ram[phys : phys + size] = data
        return
    done = copy_to_user_partial(mm, address, data)
    if done < size:
        raise LinuxError(Errno.EFAULT, f"{address + done:#x} cannot be written")


def copy_to_user_partial(mm: MmStruct, address: int, data: bytes | bytearray | memoryview) -> int:
    """Store *data* at *address*, up to the first byte that cannot be written; how many were."""
    ram = mm.ram
    source = memoryview(data)
    size = len(source)
    done = 0
    while done < size:
        at = address + done
        length = min(PAGE_SIZE - (at & PAGE_MASK), size - done)
        try:
            phys = _write_page(mm, at)
        except LinuxError:
            break
        ram[phys : phys + length] = source[done : done + length]
        done += length
    return done


def clear_user(mm: MmStruct, address: int, size: int) -> None:
    """Store *size* zero bytes at *address*.

    Errors:
        EFAULT: some byte cannot be written; those before it are.
    """
    end = address + size
    while address < end:
        length = min(PAGE_SIZE - (address & PAGE_MASK), end - address)
        phys = _write_page(mm, address)
        mm.ram[phys : phys + length] = _ZEROES[:length]
        address += length


def get_user(mm: MmStruct, address: int, size: int) -> int:
    """The unsigned little-endian number of *size* bytes at *address*.

    Errors:
        EFAULT: it cannot be read.
    """
    if (address & PAGE_MASK) + size <= PAGE_SIZE:
        phys = _read_page(mm, address)
        return int.from_bytes(mm.ram[phys : phys + size], "little")
    return int.from_bytes(copy_from_user(mm, address, size), "little")


def put_user(mm: MmStruct, address: int, value: int, size: int) -> None:
    """Store *value*, cut to *size* bytes, at *address*.

    Errors:
        EFAULT: it cannot be written.
    """
    copy_to_user(mm, address, (value & ((1 << (8 * size)) - 1)).to_bytes(size, "little"))


def strncpy_from_user(mm: MmStruct, address: int, limit: int) -> bytes:
    """The string at *address*, without its NUL, which is among the first *limit* bytes.

    Errors:
        EFAULT: a byte before the NUL cannot be read.
        ENAMETOOLONG: no NUL among *limit* bytes (getname()).
    """
    ram = mm.ram
    pieces: list[bytes] = []
    left = limit
    while left > 0:
        phys = _read_page(mm, address)
        length = min(PAGE_SIZE - (address & PAGE_MASK), left)
        at = ram.find(b"\0", phys, phys + length)
        if at >= 0:
            if not pieces:
                return ram[phys:at]
            pieces.append(ram[phys:at])
            return b"".join(pieces)
        pieces.append(ram[phys : phys + length])
        address += length
        left -= length
    raise LinuxError(Errno.ENAMETOOLONG, f"no NUL within {limit} bytes")


def faultin(mm: MmStruct, address: int, size: int, *, write: bool) -> None:
    """Make [*address*, *address* + *size*) present without reading or changing it: fault_in_readable, _writeable.

    Errors:
        EFAULT: some page of it cannot be had.
    """
    page = _write_page if write else _read_page
    for at in range(address & ~PAGE_MASK, address + size, PAGE_SIZE):
        page(mm, max(at, address))
