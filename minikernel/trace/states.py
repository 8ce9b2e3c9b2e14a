"""Two machines that stand still, side by side: what is not the same, in words.

For ``verify``, which makes the recorded machine again to look at it, and for ``bisect``.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import numpy as np

from emu.cpu import RIP
from emu.disasm import MAX_INSN_LENGTH, disassemble
from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_P, PTE_RW, PTE_US, VirtAddr
from minikernel.report.peek import peek
from minikernel.report.place import locate
from minikernel.report.symbols import Symbols
from minikernel.trace.digest import REGISTERS

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct

Registers = tuple[int, ...]

_SHOWN_PAGES: Final = 3
_SHOWN_ENTRIES: Final = 4
_SHOWN_BYTES: Final = 8


def registers(kernel: "Kernel") -> Registers:
    """The registers of the task in the CPU, in the order of REGISTERS, and its pid."""
    cpu, task = kernel.cpu, kernel.current
    return (*cpu.regs[:17], cpu.rflags, cpu.fs_base, cpu.gs_base, task.pid if task is not None else 0)


def register_words(first: Registers, second: Registers) -> list[str]:
    """The registers that differ."""
    words = [
        f"register {name}: {ours:#x} and {theirs:#x}"
        for name, ours, theirs in zip(REGISTERS, first, second, strict=False)
        if ours != theirs
    ]
    if first[-1] != second[-1]:
        words.append(f"the task in the CPU: process {first[-1]} and {second[-1]}")
    return words


def ram_differs(first: "Kernel", second: "Kernel") -> bool:
    """Whether the frames in use, or what they hold, are not the same."""
    frames = [np.frombuffer(kernel.node.mem_map.refcount, dtype=np.int32) > 0 for kernel in (first, second)]
    if not np.array_equal(frames[0], frames[1]):
        return True
    pages = [np.frombuffer(kernel.physmem.view8, dtype=np.uint64).reshape(-1, PAGE_SIZE // 8)
             for kernel in (first, second)]  # fmt: skip
    used = np.flatnonzero(frames[0])
    if not len(used):
        return False
    # Runs of neighbouring frames are compared in place: to pick single frames would copy them.
    ends = np.flatnonzero(np.diff(used) > 1)
    starts = np.concatenate(([0], ends + 1))
    stops = np.concatenate((ends, [len(used) - 1]))
    return any(
        not np.array_equal(pages[0][used[a] : used[b] + 1], pages[1][used[a] : used[b] + 1])
        for a, b in zip(starts, stops, strict=True)
    )


def memory_words(first: "Kernel", second: "Kernel") -> list[str]:
    """What the tasks in the CPUs find in their memory, and in their page tables, that is not the same."""
    spaces = [kernel.current.mm for kernel in (first, second) if kernel.current is not None and kernel.current.has_mm]
    if len(spaces) != 2:
        return []
    entries = [dict(mm.pgtable.entries(0, mm.layout.task_size, large=False)) for mm in spaces]
    addresses = sorted(entries[0].keys() | entries[1].keys())
    pages = list(islice(_different_pages(spaces, addresses), _SHOWN_PAGES + 1))
    words = [_page_words(first, spaces, address) for address in pages[:_SHOWN_PAGES]]
    if len(pages) > _SHOWN_PAGES:
        words.append("memory: more pages differ")
    tables = [a for a in addresses if _rights(entries[0].get(a, 0)) != _rights(entries[1].get(a, 0))]
    words += [
        f"page table: {address:#x} -> {_entry(entries[0].get(address, 0))} and {_entry(entries[1].get(address, 0))}"
        for address in tables[:_SHOWN_ENTRIES]
    ]
    if len(tables) > _SHOWN_ENTRIES:
        words.append(f"page table: {len(tables) - _SHOWN_ENTRIES} more entries differ")
    return words


def _different_pages(spaces: "list[MmStruct]", addresses: list[VirtAddr]) -> Iterator[int]:
    for address in addresses:
        if peek(spaces[0], address, PAGE_SIZE) != peek(spaces[1], address, PAGE_SIZE):
            yield address


def _page_words(kernel: "Kernel", spaces: "list[MmStruct]", address: int) -> str:
    """Where the first bytes of a page differ, and what they are."""
    ours, theirs = (peek(mm, address, PAGE_SIZE) for mm in spaces)
    pairs = zip(ours, theirs, strict=False)
    at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
    mm = spaces[0] if spaces[0].vmas.find(address) is not None else spaces[1]
    name = locate(mm, Symbols(kernel.vdso), address + at).short
    old, new = (data[at : at + _SHOWN_BYTES].hex(" ") or "nothing" for data in (ours, theirs))
    return f"memory: {address + at:#x} ({name}): {old} and {new}"


def _rights(entry: int) -> int:
    """What counts of an entry: that it is there, and what it allows; frames may be others."""
    return entry & (PTE_P | PTE_RW | PTE_US) if entry & PTE_P else int(entry != 0) << 1


def _entry(entry: int) -> str:
    if not entry & PTE_P:
        return f"{entry:#x} (not present)" if entry else "nothing"
    rights = "".join(letter for bit, letter in ((PTE_US, "u"), (PTE_RW, "w")) if entry & bit)
    return f"frame {(entry >> PAGE_SHIFT) & 0xFF_FFFF_FFFF:#x} {rights or 'r'}"


def where_words(kernel: "Kernel") -> str:
    """What the task in the CPU is about to do: instruction, function, source line."""
    task = kernel.current
    if task is None or not task.has_mm:
        return ""
    address = kernel.cpu.regs[RIP]
    place = locate(task.mm, Symbols(kernel.vdso), address)
    code = peek(task.mm, address, MAX_INSN_LENGTH)
    insn = disassemble(code, VirtAddr(address), bits=kernel.cpu.code_bits, count=1) if code else []
    words = [str(part) for part in (place.symbol, place.line) if part is not None]
    name = task.comm.decode(errors="backslashreplace")
    return f"{name} at {address:#x}: {', '.join([*(i.text for i in insn), *words, place.exact])}"
