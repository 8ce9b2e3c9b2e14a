"""Any sequence of operations on two page tables, against dicts address -> entry and the hardware's walk."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from emu.paging import Translation, walk
from emu.physmem import PhysMem
from emu.x86 import PAGE_SIZE, PF_U, PTE_A, PTE_D, PTE_P, PTE_RW, Pfn, VirtAddr
from minikernel.events import Tracer
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LA57_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import PageTable, build_kernel_half, pte_pfn

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
        self.node.fail_allocation(failing)
        pfns = self.tables[which].copy_range(self.tables[1 - which], start, end, wrprotect=wrprotect)
        self.node.fail_allocation(None)
        if pfns is None:
            return
        inside = sorted(item for item in source.items() if start <= item[0] < end)
        assert pfns == [pte_pfn(pte) for _, pte in inside if pte & PTE_P]
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
                    assert (found.phys, found.entry) == (pte_pfn(pte) << 12 | 0xABC, pte)
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
    run_state_machine_as_test(machine, settings=settings(max_examples=15, stateful_step_count=25, deadline=None))
