"""Memory of a process for the debugger: read without touching it, written as ptrace writes it, searched, summed.

Linux: mm/memory.c, access_process_vm with FOLL_FORCE: a breakpoint or a patch may go into read-only private memory,
whose page is copied first.
"""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, PTE_P, PTE_RW
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.fault import Served, handle_mm_fault
from minikernel.mm.icache import note_kernel_write
from minikernel.mm.page import PG_anon, PG_exec
from minikernel.mm.pgtable import PTE_SPECIAL, pte_pfn
from minikernel.mm.uaccess import copy_to_user
from minikernel.mm.vma import VM_SHARED, VM_WRITE
from minikernel.mm.wp_fault import do_wp_page
from minikernel.report.peek import peek

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma

_CHUNK: Final = 1 << 16
_POLYNOMIAL: Final = 0x04C1_1DB7
_TOP: Final = 1 << 31
_MAX_SPAN: Final = 1 << 30  # bytes that one search or sum may go through


def poke(mm: "MmStruct", address: int, data: bytes) -> None:
    """Store *data* at *address*, as a debugger may.

    Errors:
        EFAULT: unmapped, PROT_NONE, or shared and read-only; bytes before that may be stored.
    """
    done = 0
    while done < len(data):
        at = address + done
        piece = data[done : done + PAGE_SIZE - (at & PAGE_MASK)]
        vma = mm.vmas.find(at)
        if vma is None or (vma.flags & VM_SHARED and not vma.flags & VM_WRITE):
            raise LinuxError(Errno.EFAULT, f"{at:#x} is not mapped, or shared and read-only")
        if vma.flags & VM_WRITE:
            copy_to_user(mm, at, piece)
        else:
            _poke_private(mm, vma, at, piece)
        done += len(piece)


def _poke_private(mm: "MmStruct", vma: "Vma", address: int, data: bytes) -> None:
    """Into a page of a read-only private mapping, which becomes a copy of its own and stays read-only."""
    if not mm.pgtable.get(address) & PTE_P:
        _serve(handle_mm_fault(mm, address, 0), address)
    pte = mm.pgtable.get(address)
    mem_map, pfn = mm.mem_map, pte_pfn(pte)
    if pte & PTE_SPECIAL or not mem_map.flags[pfn] & PG_anon or mem_map.refcount[pfn] != 1:
        _serve(do_wp_page(mm, vma, address, pte), address)
        pte = mm.pgtable.get(address)
        pfn = pte_pfn(pte)
    if pte & PTE_RW:
        mm.pgtable.set(address, pte & ~PTE_RW)
        mm.tlb_dirty = True
    if mem_map.flags[pfn] & PG_exec:
        note_kernel_write(mm.node, pfn)
    phys = (pfn << PAGE_SHIFT) + (address & PAGE_MASK)
    mm.ram[phys : phys + len(data)] = data


def _serve(outcome: object, address: int) -> None:
    if not isinstance(outcome, Served):
        raise LinuxError(Errno.EFAULT, f"{address:#x}: {outcome}")


def crc32(mm: "MmStruct", address: int, length: int) -> int | None:
    """Gdb's CRC over memory: the polynomial of CRC-32, most significant bit first, from all ones; None: unreadable."""
    if length > _MAX_SPAN:
        return None
    table = _crc_table()
    crc = 0xFFFF_FFFF
    for at in range(address, address + length, _CHUNK):
        size = min(_CHUNK, address + length - at)
        data = peek(mm, at, size)
        if len(data) < size:
            return None
        for byte in data:
            crc = (crc << 8 & 0xFFFF_FFFF) ^ table[(crc >> 24 ^ byte) & 0xFF]
    return crc


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = crc << 1 ^ _POLYNOMIAL if crc & _TOP else crc << 1
        table.append(crc & 0xFFFF_FFFF)
    return table


def search(mm: "MmStruct", address: int, length: int, pattern: bytes) -> int | None:
    """The first place of *pattern* in [address, address + length); None: nowhere before memory ends.

    Raises:
        LinuxError (EFAULT): nothing can be read at *address*.
    """
    end = address + min(length, _MAX_SPAN)
    if length and not peek(mm, address, 1):
        raise LinuxError(Errno.EFAULT, f"{address:#x}")
    while address < end:
        size = min(_CHUNK + len(pattern), end - address)
        data = peek(mm, address, size)
        at = data.find(pattern)
        if at >= 0:
            return address + at
        if len(data) < size or size <= _CHUNK:
            return None
        address += _CHUNK
    return None
