"""Page tables as a whole: where in a tree a table stands, and what all levels of a walk allow together."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from emu.paging import PagingMode, WalkStep
from emu.x86 import PAGE_SHIFT, PTE_P, PTE_PS, PTE_RW, PTE_US, PTE_XD, PhysAddr

if TYPE_CHECKING:
    from emu.physmem import PhysMem


def find_table(physmem: "PhysMem", mode: PagingMode, root: PhysAddr, pfn: int) -> str:
    """``the PDE table of 0x7ffe00000000-0x7ffe3fffffff``; "" if the tree below *root* does not contain frame *pfn*."""
    if root >> PAGE_SHIFT == pfn:
        return f"its root, the {mode.levels[0].name} table"
    view = physmem.view64 if mode.entry_size == 8 else physmem.view32
    shift = 3 if mode.entry_size == 8 else 2
    pending = [(root, 0, 0)]
    while pending:
        table, depth, first = pending.pop()
        level = mode.levels[depth]
        if depth + 1 == len(mode.levels):
            continue
        for index in range(1 << level.bits):
            entry = view[(table >> shift) + index]
            if not entry & PTE_P or (level.large_page and entry & PTE_PS):
                continue
            below = entry & ((1 << 52) - 1) & ~((1 << PAGE_SHIFT) - 1)
            start = first + (index << level.shift)
            if below >> PAGE_SHIFT == pfn:
                start = _canonical(start, mode)
                return f"the {mode.levels[depth + 1].name} table of {start:#x}-{start + (1 << level.shift) - 1:#x}"
            if below < physmem.size:
                pending.append((PhysAddr(below), depth + 1, start))
    return ""


def _canonical(address: int, mode: PagingMode) -> int:
    """*address* with its sign extended, where the mode has more than 32 bits."""
    if mode.va_bits > 32 and address >> (mode.va_bits - 1):
        return address | ((1 << 64) - (1 << mode.va_bits))
    return address


@dataclass(frozen=True, slots=True)
class Rights:
    """What all entries of a walk allow together: R/W and U/S must be set in each, XD in one is enough."""

    present: bool
    writable: bool
    user: bool
    executable: bool
    denied_by: dict[str, str]  # right -> the level that takes it away

    @property
    def words(self) -> str:
        """One line."""
        if not self.present:
            return f"not present ({self.denied_by['present']} ends the walk): no access at all"
        rows = (
            ("user", self.user, "user", "supervisor only"),
            ("write", self.writable, "writable", "read-only"),
            ("execute", self.executable, "executable", "not executable"),
        )
        return ", ".join(
            yes if allowed else f"{no} (by {self.denied_by[right]})" for right, allowed, yes, no in rows
        )  # fmt: skip


def effective_rights(steps: "list[WalkStep]", mode: PagingMode) -> Rights:
    """The AND of R/W and U/S over *steps*, the OR of XD.  Source: SDM vol. 3A, 4.6."""
    denied: dict[str, str] = {}
    for step in steps:
        name = step.level.name
        if not step.raw & PTE_P:
            denied["present"] = name
            break
        if not step.level.has_rights:
            continue
        if not step.raw & PTE_US:
            denied.setdefault("user", name)
        if not step.raw & PTE_RW:
            denied.setdefault("write", name)
        if mode.has_nx and step.raw & PTE_XD:
            denied.setdefault("execute", name)
    present = "present" not in denied and bool(steps)
    if not steps:
        denied["present"] = "the address is not canonical, which"
    return Rights(
        present,
        present and "write" not in denied,
        present and "user" not in denied,
        present and "execute" not in denied,
        denied,
    )
