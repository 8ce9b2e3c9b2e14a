"""Any sequence of operations on two page tables, against dicts address -> entry and the hardware's walk."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from emu.paging import Translation, walk
from emu.physmem import PhysMem
from emu.x86 import PAGE_SIZE, PF_U, PF_W, PTE_A, PTE_ADDR, PTE_D, PTE_P, PTE_PS, PTE_RW, Pfn, VirtAddr
from minikernel.events import Tracer
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LA57_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import PTE_SPECIAL, PageTable, build_kernel_half, pte_pfn

MIB = 1 << 20
LAYOUTS = [X86_64_LAYOUT, X86_64_LA57_LAYOUT, I386_PAE_LAYOUT, I386_2LEVEL_LAYOUT]


class PageTableMachine(RuleBasedStateMachine):
    """Two address spaces: entries are set, cleared and copied between them, tables are freed."""

    layout: KernelLayout

    def __init__(self) -> None:
        super().__init__()
        self.node = Node(PhysMem(8 * MIB), self.layout, Tracer())
        half = build_kernel_half(self.node, self.layout)
        self.free = self.node.nr_free
        self.tables = [PageTable(self.node, half) for _ in range(2)]
        self.models: list[dict[int, int]] = [{}, {}]
        # Pages around the borders of tables at every level, and at both ends of user space.
        borders = {1 << level.shift for level in self.layout.mode.levels} | {3 << 30, self.layout.task_size}
        near = {border + delta * PAGE_SIZE for border in borders for delta in (-2, -1, 0, 1)}
        self.pages = sorted(page for page in near if 0 <= page < self.layout.task_size)

    def page(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(self.pages))

    def bounds(self, data: st.DataObject) -> tuple[int, int]:
        start, end = sorted((self.page(data), self.page(data)))
        return start, end + PAGE_SIZE

    @rule(data=st.data(), which=st.integers(0, 1), pfn=st.integers(1, 2047), write=st.booleans(), run=st.booleans())
    def set(self, data: st.DataObject, which: int, pfn: int, write: bool, run: bool) -> None:
        page = self.page(data)
        pte = self.tables[which].make_pte(Pfn(pfn), write=write, exec=run)
        assert self.tables[which].set(page + 0x123, pte)
        self.models[which][page] = pte

    @rule(data=st.data(), which=st.integers(0, 1), slot=st.integers(1, 1000))
    def set_swap_entry(self, data: st.DataObject, which: int, slot: int) -> None:
        page = self.page(data)
        assert self.tables[which].set(page, slot << 9)
        self.models[which][page] = slot << 9

    @rule(data=st.data(), which=st.integers(0, 1), block=st.integers(1, 3), write=st.booleans(), zero=st.booleans())
    def set_large(self, data: st.DataObject, which: int, block: int, write: bool, zero: bool) -> None:
        """One leaf; to everybody but the hardware it is a table full of entries."""
        table, model = self.tables[which], self.models[which]
        size = table.large_size
        start = self.page(data) & -size
        if start + size > self.layout.task_size:
            return
        if not table.get_large(start) and any(start <= page < start + size for page in model):
            return
        pfn = Pfn(block * (size >> 12))
        pte = table.make_pte(pfn, write=write, exec=False) | PTE_SPECIAL * zero
        assert table.set_large(start, pte)
        if zero:
            model |= dict.fromkeys(range(start, start + size, PAGE_SIZE), pte & ~PTE_ADDR | self.node.zero_pfn << 12)
        else:
            model |= {start + offset: pte + offset for offset in range(0, size, PAGE_SIZE)}

    @rule(data=st.data(), which=st.integers(0, 1))
    def split(self, data: st.DataObject, which: int) -> None:
        self.tables[which].split_large(self.page(data))

    @rule(data=st.data(), which=st.integers(0, 1))
    def hardware_writes(self, data: st.DataObject, which: int) -> None:
        """One page of a large leaf is read, or written to: all of them look it."""
        table, model, page = self.tables[which], self.models[which], self.page(data)
        old = model.get(page, 0)
        if not old & PTE_P:
            return
        used = PTE_A | PTE_D if old & PTE_RW else PTE_A
        walk(self.node.physmem, self.layout.mode, table.root, VirtAddr(page), PF_U | PF_W * bool(old & PTE_RW))
        size = table.large_size
        leaf = range(page & -size, (page & -size) + size, PAGE_SIZE) if table.get_large(page) else [page]
        model |= {at: model[at] | used for at in leaf}

    @rule(data=st.data(), which=st.integers(0, 1))
    def grow_old(self, data: st.DataObject, which: int) -> None:
        """The accessed bit is one for all pages of a leaf."""
        table, model, page = self.tables[which], self.models[which], self.page(data)
        if not model.get(page, 0) & PTE_P:
            return
        was_large = table.get_large(page)
        assert table.set(page, model[page] & ~PTE_A)
        assert bool(table.get_large(page)) == bool(was_large), "no reason to split"
        size = table.large_size
        leaf = range(page & -size, (page & -size) + size, PAGE_SIZE) if was_large else [page]
        model |= {at: model[at] & ~PTE_A for at in leaf}

    @rule(data=st.data(), which=st.integers(0, 1))
    def clear(self, data: st.DataObject, which: int) -> None:
        page = self.page(data)
        assert self.tables[which].clear(page) == self.models[which].pop(page, 0)

    @rule(data=st.data(), which=st.integers(0, 1))
    def update(self, data: st.DataObject, which: int) -> None:
        page = self.page(data)
        old = self.models[which].get(page, 0)
        assert self.tables[which].update(page, set=PTE_A, clear=PTE_RW) == old
        if old:
            self.models[which][page] = old & ~PTE_RW | PTE_A

    @rule(data=st.data(), which=st.integers(0, 1))
    def clear_range(self, data: st.DataObject, which: int) -> None:
        start, end = self.bounds(data)
        model = self.models[which]
        inside = sorted(item for item in model.items() if start <= item[0] < end)
        assert self.tables[which].clear_range(start, end) == inside
        for page, _ in inside:
            del model[page]
        floor = max((page + PAGE_SIZE for page in model if page < start), default=0)
        ceiling = min((page for page in model if page >= end), default=self.layout.task_size)
        self.tables[which].free_pgtables(floor, ceiling)

    @rule(data=st.data(), which=st.integers(0, 1), wrprotect=st.booleans(), failing=st.integers(0, 9))
    def fork(self, data: st.DataObject, which: int, wrprotect: bool, failing: int) -> None:
        start, end = self.bounds(data)
        source, target = self.models[which], self.models[1 - which]
        if any(start <= page < end for page in target):
            return
        for edge in (start, end):
            self.tables[which].split_at(edge)
        self.node.fail_allocation(failing)
        pfns = self.tables[which].copy_range(self.tables[1 - which], start, end, wrprotect=wrprotect)
        self.node.fail_allocation(None)
        if pfns is None:
            return
        inside = sorted(item for item in source.items() if start <= item[0] < end)
        assert pfns == [pte_pfn(pte) for _, pte in inside if pte & (PTE_P | PTE_SPECIAL) == PTE_P]
        for page, pte in inside:
            if not pte & PTE_P:
                target[page] = pte
                continue
            source[page] = pte & ~PTE_RW if wrprotect else pte
            target[page] = source[page] & ~(PTE_A if wrprotect else PTE_A | PTE_D)

    @invariant()
    def tables_and_models_agree(self) -> None:
        for table, model in zip(self.tables, self.models, strict=True):
            assert list(table.entries(0, self.layout.task_size)) == sorted(model.items())
            assert all(table.get(page) == model.get(page, 0) for page in self.pages)
            table.validate()

    @invariant()
    def the_hardware_sees_the_same(self) -> None:
        physmem, mode = self.node.physmem, self.layout.mode
        for table, model in zip(self.tables, self.models, strict=True):
            for page in self.pages:
                found = walk(physmem, mode, table.root, VirtAddr(page + 0xABC), PF_U, set_ad=False)
                pte = model.get(page, 0)
                if pte & PTE_P:
                    assert isinstance(found, Translation)
                    if found.page_shift == 12:
                        assert (found.phys, found.entry) == (pte_pfn(pte) << 12 | 0xABC, pte)
                        continue
                    assert not (found.entry ^ pte) & ~(PTE_ADDR | PTE_PS)
                    assert pte & PTE_SPECIAL or found.phys == pte_pfn(pte) << 12 | 0xABC
                else:
                    assert getattr(found, "error_code", None) == PF_U

    def teardown(self) -> None:
        for table in self.tables:
            table.destroy()
        assert self.node.nr_free == self.free
        self.node.validate()


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout", [X86_64_LAYOUT, X86_64_LA57_LAYOUT, I386_PAE_LAYOUT, I386_2LEVEL_LAYOUT], ids=lambda layout: layout.name
)
def test_page_tables_agree_with_dicts_and_with_the_walk(layout: KernelLayout) -> None:
    machine = type("Machine", (PageTableMachine,), {"layout": layout})
    run_state_machine_as_test(machine, settings=settings(max_examples=25, stateful_step_count=30, deadline=None))
