"""Any sequence of calls on memory with huge pages: what a program sees equals a dict, and every book balances.

Two aligned ranges of the size of a large leaf are divided into cells: the first page, the last, and two halves of what
lies between.  Operations take runs of cells, so their bounds are sometimes those of a large leaf and mostly not.  The
model knows the byte in the first page of each cell, and nothing of entries and leaves.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import LinuxError
from minikernel.abi.mman import (
    MADV_COLLAPSE,
    MADV_DONTNEED,
    MADV_HUGEPAGE,
    MADV_NOHUGEPAGE,
    MADV_PAGEOUT,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from minikernel.mm.fault import SEGV_MAPERR, Segv, Served
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.mremap import do_mremap
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.shrinker import shrink_slab
from minikernel.mm.thp import set_enabled
from tests.minikernel.mm.touch import ANON, BASE, FETCH, READ, RW, WRITE, Machine, map_fixed, phys_of, touch

CELLS = 8
CELL = st.integers(0, CELLS - 1)
COUNT = st.sampled_from([1, 2, 4, 4, 8])
WHICH = st.integers(0, 2)
PROTS = st.sampled_from([0, PROT_READ, RW, RW, PROT_READ | PROT_EXEC, RW | PROT_EXEC])


@dataclass(frozen=True)
class Cell:
    """A run of pages of one address space."""

    prot: int
    value: int = 0


class HugeSpaces(RuleBasedStateMachine):
    """The machine under test."""

    layout: KernelLayout = X86_64_LAYOUT
    ram = 12 << 20

    @initialize(mode=st.sampled_from(["always", "madvise"]))
    def boot(self, mode: str) -> None:
        self.machine = Machine(self.layout, ram=self.ram)
        self.machine.swapon(12000)
        set_enabled(self.machine.node, mode)
        self.free_at_start = self.machine.node.nr_free
        mm = self.machine.mm()
        size = mm.pgtable.large_size
        inside = (0, PAGE_SIZE, size // 2, size - PAGE_SIZE)
        self.bounds = [BASE + half * size + offset for half in (0, 1) for offset in inside] + [BASE + 2 * size]
        self.spaces: list[tuple[MmStruct, dict[int, Cell]]] = [(mm, {})]
        self.mmap(0, 0, CELLS, RW)
        self.advise(0, 0, CELLS, MADV_HUGEPAGE)

    def space(self, which: int) -> tuple[MmStruct, dict[int, Cell]]:
        return self.spaces[which % len(self.spaces)]

    def run(self, cell: int, count: int) -> tuple[int, int, range]:
        """Address and length of a run of cells, which starts so that halves are whole, and their numbers."""
        cell = min(cell & -min(count, 4), CELLS - count)
        start, end = self.bounds[cell], self.bounds[cell + count]
        return start, end - start, range(cell, cell + count)

    def refused(self, model: dict[int, Cell], cells: range) -> "nullcontext[None] | pytest.RaisesExc[LinuxError]":
        """ENOMEM if there is a hole."""
        complete = all(cell in model for cell in cells)
        return nullcontext() if complete else pytest.raises(LinuxError, match="ENOMEM")

    @rule(which=WHICH, cell=CELL, count=COUNT, prot=PROTS)
    def mmap(self, which: int, cell: int, count: int, prot: int) -> None:
        mm, model = self.space(which)
        start, length, cells = self.run(cell, count)
        map_fixed(mm, start, length // PAGE_SIZE, prot, ANON)
        model |= dict.fromkeys(cells, Cell(prot))

    @rule(which=WHICH, cell=CELL, count=COUNT)
    def munmap(self, which: int, cell: int, count: int) -> None:
        mm, model = self.space(which)
        start, length, cells = self.run(cell, count)
        vm_munmap(mm, start, length)
        for at in cells:
            model.pop(at, None)

    @rule(which=WHICH, cell=CELL, count=COUNT, prot=PROTS)
    def mprotect(self, which: int, cell: int, count: int, prot: int) -> None:
        mm, model = self.space(which)
        start, length, cells = self.run(cell, count)
        with self.refused(model, cells):
            do_mprotect(mm, start, length, prot)
        for at in cells:
            if at not in model:
                break
            model[at] = replace(model[at], prot=prot)

    @rule(which=WHICH, cell=CELL, count=COUNT, advice=st.sampled_from([MADV_HUGEPAGE, MADV_HUGEPAGE, MADV_NOHUGEPAGE]))
    def advise(self, which: int, cell: int, count: int, advice: int) -> None:
        mm, model = self.space(which)
        start, length, cells = self.run(cell, count)
        with self.refused(model, cells):
            do_madvise(mm, start, length, advice)

    @rule(which=WHICH, cell=CELL, count=COUNT, advice=st.sampled_from([MADV_DONTNEED, MADV_PAGEOUT]))
    def give_away(self, which: int, cell: int, count: int, advice: int) -> None:
        mm, model = self.space(which)
        start, length, cells = self.run(cell, count)
        with self.refused(model, cells):
            do_madvise(mm, start, length, advice)
        if advice == MADV_DONTNEED:
            model |= {at: replace(model[at], value=0) for at in cells if at in model}

    @rule(which=WHICH, half=st.integers(0, 1))
    def collapse(self, which: int, half: int) -> None:
        """It may work or not: nobody sees it."""
        mm, _ = self.space(which)
        start, length, _ = self.run(4 * half, 4)
        try:
            do_madvise(mm, start, length, MADV_COLLAPSE)
        except LinuxError:
            return
        assert mm.pgtable.get_large(start), "madvise said so"

    @rule(which=WHICH, half=st.integers(0, 1), first=st.integers(0, 3), count=st.integers(1, 4))
    def move(self, which: int, half: int, first: int, count: int) -> None:
        """mremap of some cells to their places in the other half."""
        mm, model = self.space(which)
        cells = range(4 * half + first, min(4 * half + first + count, 4 * half + 4))
        if not all(cell in model for cell in cells):
            return
        start, end = self.bounds[cells[0]], self.bounds[cells[-1] + 1]
        shift = (1 - 2 * half) * mm.pgtable.large_size
        do_mremap(mm, start, end - start, end - start, MREMAP_MAYMOVE | MREMAP_FIXED, start + shift)
        for cell in cells:
            model[cell ^ 4] = model.pop(cell)

    @rule(which=WHICH, half=st.integers(0, 1), first=st.integers(0, 3))
    def move_by_a_page(self, which: int, half: int, first: int) -> None:
        """And back: where nothing is aligned, there are small pages."""
        mm, model = self.space(which)
        cells = range(4 * half + first, 4 * half + 4)
        if not all(cell in model for cell in cells):
            return
        start, end = self.bounds[cells[0]], self.bounds[cells[-1] + 1]
        far = self.bounds[-1] + 4 * mm.pgtable.large_size + PAGE_SIZE
        do_mremap(mm, start, end - start, end - start, MREMAP_MAYMOVE | MREMAP_FIXED, far)
        self.machine.validate()
        do_mremap(mm, far, end - start, end - start, MREMAP_MAYMOVE | MREMAP_FIXED, start)

    @rule(which=WHICH, cell=CELL, value=st.integers(1, 255))
    def store(self, which: int, cell: int, value: int) -> None:
        mm, model = self.space(which)
        if self.access(mm, model, cell, WRITE, PROT_WRITE):
            mm.node.physmem.view8[phys_of(mm, self.bounds[cell])] = value
            model[cell] = replace(model[cell], value=value)

    @rule(which=WHICH, cell=CELL, fetch=st.booleans())
    def load(self, which: int, cell: int, fetch: bool) -> None:
        mm, model = self.space(which)
        needed = PROT_EXEC if fetch and self.layout.mode.has_nx else RW | PROT_EXEC
        self.access(mm, model, cell, FETCH if fetch else READ, needed)

    def access(self, mm: MmStruct, model: dict[int, Cell], cell: int, access: int, needed: int) -> bool:
        """Touch; whether it was allowed, which the model knows."""
        outcome = touch(mm, self.bounds[cell], access)
        entry = model.get(cell)
        if isinstance(outcome, Segv):
            assert (entry is None) == (outcome.code == SEGV_MAPERR)
            assert entry is None or not entry.prot & needed
            return False
        assert outcome is None or isinstance(outcome, Served)
        assert entry is not None
        assert entry.prot & needed
        assert mm.node.physmem.view8[phys_of(mm, self.bounds[cell])] == entry.value
        return True

    @rule(which=WHICH)
    def fork(self, which: int) -> None:
        if len(self.spaces) < 3:
            mm, model = self.space(which)
            child = self.machine.fork(mm)
            self.spaces.append((child, dict(model)))

    @rule(which=WHICH)
    def exit(self, which: int) -> None:
        if len(self.spaces) > 1:
            self.machine.destroy(self.spaces.pop(which % len(self.spaces))[0])

    @rule(pages=st.integers(1, 600))
    def reclaim(self, pages: int) -> None:
        node = self.machine.node
        node.lru.drain()
        assert node.reclaim_pages is not None
        node.reclaim_pages(list(node.lru.policy.pages())[:pages])

    @rule(which=WHICH, cell=CELL, failing=st.integers(0, 6), value=st.integers(1, 255))
    def store_with_little_memory(self, which: int, cell: int, failing: int, value: int) -> None:
        """One allocation fails: a small page has to do, or the store can be tried again."""
        self.machine.node.fail_allocation(failing)
        touch(self.space(which)[0], self.bounds[cell], WRITE)
        self.machine.node.fail_allocation(None)
        self.machine.validate()
        self.store(which, cell, value)

    @invariant()
    def the_books_balance(self) -> None:
        self.machine.validate()
        for mm, model in self.spaces:
            mapped = {cell for cell in range(CELLS) if mm.vmas.find(self.bounds[cell])}
            assert mapped == set(model)

    def teardown(self) -> None:
        if not hasattr(self, "spaces"):
            return
        for mm, model in self.spaces:
            for cell, entry in model.items():
                if entry.prot & PROT_READ:
                    assert self.access(mm, model, cell, READ, PROT_READ)
        while self.spaces:
            self.machine.destroy(self.spaces.pop()[0])
        shrink_slab(self.machine.node, 0)
        self.machine.validate()
        assert self.machine.node.nr_free == self.free_at_start


class PaeHugeSpaces(HugeSpaces):
    layout = I386_PAE_LAYOUT


class TwoLevelHugeSpaces(HugeSpaces):
    layout = I386_2LEVEL_LAYOUT
    ram = 16 << 20


for _machine in (HugeSpaces, PaeHugeSpaces, TwoLevelHugeSpaces):
    _machine.TestCase.settings = settings(max_examples=15, stateful_step_count=40, deadline=None, derandomize=True)

TestHugeSpaces = HugeSpaces.TestCase
TestPaeHugeSpaces = PaeHugeSpaces.TestCase
TestTwoLevelHugeSpaces = TwoLevelHugeSpaces.TestCase

pytestmark = pytest.mark.slow
