"""Coherence of code: a frame is code or data, and changes sides when an entry needs it to."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emu.physmem import PhysMem
from emu.x86 import PTE_P, PTE_RW, PTE_US, PTE_XD, Pfn
from minikernel.events import Tracer
from minikernel.mm.icache import note_exec, note_kernel_write, note_write, validate_pte
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.page import PG_exec
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import KernelHalf, PageTable, build_kernel_half

BASE = 0x0800_0000


@dataclass(eq=False)
class FakeVma:
    """What the reverse map looks at."""

    start: int = BASE
    pgoff: int = 0
    nr_pages: int = 1


@dataclass(eq=False)
class FakeMm:
    pgtable: PageTable
    tlb_dirty: bool = False


@dataclass(eq=False)
class FakeCache:
    """The owner of a shared page, mapped once in each address space."""

    vmas: dict[FakeVma, FakeMm] = field(default_factory=dict)


class Shared:
    """One frame, and address spaces that map it as they like."""

    def __init__(self, layout: KernelLayout = X86_64_LAYOUT, spaces: int = 3) -> None:
        self.node = Node(PhysMem(4 << 20), layout, Tracer())
        half: KernelHalf = build_kernel_half(self.node, layout)
        self.cache = FakeCache()
        self.mms = [FakeMm(PageTable(self.node, half)) for _ in range(spaces)]
        for mm in self.mms:
            self.cache.vmas[FakeVma()] = mm
        pfn = self.node.alloc_page()
        assert pfn is not None
        self.pfn = pfn
        self.node.mem_map.owner[pfn] = self.cache

    def map(self, which: int, *, write: bool = False, run: bool = False) -> bool:
        """What the fault path does; whether another mapping lost a right."""
        table = self.mms[which].pgtable
        pte = table.make_pte(self.pfn, write=write, exec=run)
        moved = False
        if not pte & PTE_XD:
            moved = note_exec(self.node, self.pfn)
        elif pte & PTE_RW:
            moved = note_write(self.node, self.pfn)
        if not table.get(BASE):
            self.node.mem_map.mapcount[self.pfn] += 1
            self.node.get_page(self.pfn)
        assert table.set(BASE, pte)
        return moved

    def rights(self, which: int) -> str:
        pte = self.mms[which].pgtable.get(BASE)
        return f"{'w' if pte & PTE_RW else '-'}{'-' if pte & PTE_XD else 'x'}"

    @property
    def is_code(self) -> bool:
        return bool(self.node.mem_map.flags[self.pfn] & PG_exec)


def test_a_first_executable_entry_makes_code_of_a_frame() -> None:
    shared = Shared()

    assert not shared.map(0, run=True)
    assert shared.is_code
    assert shared.node.stale_code == [], "nothing of it was translated before"


def test_code_takes_the_write_right_from_the_other_mappings() -> None:
    shared = Shared()
    shared.map(0, write=True)
    shared.map(1)

    assert shared.map(2, run=True)
    assert [shared.rights(which) for which in range(3)] == ["--", "--", "-x"]
    assert [mm.tlb_dirty for mm in shared.mms] == [True, False, False]


def test_a_write_through_an_alias_takes_execution_away_and_drops_what_was_translated() -> None:
    shared = Shared()
    shared.map(0, run=True)
    shared.map(1)

    assert shared.map(2, write=True)
    assert [shared.rights(which) for which in range(3)] == ["--", "--", "w-"]
    assert [mm.tlb_dirty for mm in shared.mms] == [True, False, False]
    assert shared.node.stale_code == [shared.pfn]
    assert not shared.is_code


def test_a_jit_with_two_mappings_changes_sides_at_every_round() -> None:
    shared = Shared()
    shared.map(0, write=True)
    for _ in range(3):
        assert shared.map(1, run=True)
        assert shared.map(0, write=True)

    assert shared.node.stale_code == [shared.pfn] * 3


def test_a_mapping_that_may_write_and_execute_is_left_alone() -> None:
    """The CPU sees stores through an executable entry by itself."""
    shared = Shared()
    shared.map(0, write=True, run=True)

    assert not shared.map(1, run=True)
    assert shared.rights(0) == "wx"
    assert shared.map(2, write=True)
    assert shared.rights(0) == "w-"


def test_more_of_the_same_changes_nothing() -> None:
    shared = Shared()
    shared.map(0, write=True)
    assert not shared.map(1, write=True)
    shared.node.mem_map.flags[shared.pfn] |= PG_exec
    assert not note_exec(shared.node, shared.pfn)
    assert shared.node.stale_code == []


def test_a_kernel_write_counts_only_if_the_frame_is_code() -> None:
    shared = Shared()
    note_kernel_write(shared.node, shared.pfn)
    assert shared.node.stale_code == []
    shared.map(0, run=True)
    note_kernel_write(shared.node, shared.pfn)

    assert shared.node.stale_code == [shared.pfn]
    assert shared.is_code, "its mappings keep the right"


def test_without_nx_everything_is_code_and_nobody_loses_a_right() -> None:
    shared = Shared(I386_2LEVEL_LAYOUT)
    shared.map(0, write=True)
    assert not shared.map(1, write=True)

    assert shared.is_code
    assert shared.rights(0) == "wx"


def test_a_freed_frame_of_code_is_reported_once() -> None:
    shared = Shared(spaces=0)
    note_exec(shared.node, shared.pfn)
    shared.node.put_page(shared.pfn)

    assert shared.node.stale_code == [shared.pfn]


@pytest.mark.parametrize(
    ("pte", "is_code", "has_nx", "message"),
    [
        (PTE_P | PTE_US, False, True, "is executable, frame 0x5 is data"),
        (PTE_P | PTE_US, False, False, "is executable, frame 0x5 is data"),
        (PTE_P | PTE_US | PTE_RW | PTE_XD, True, True, "is writable, frame 0x5 is code"),
        (PTE_P | PTE_US, True, True, None),
        (PTE_P | PTE_US | PTE_RW, True, True, None),
        (PTE_P | PTE_US | PTE_XD, True, True, None),
        (PTE_P | PTE_US | PTE_RW | PTE_XD, False, True, None),
        (PTE_P, False, True, None),
        (PTE_US, False, True, None),
    ],
)
def test_validate_pte_finds_an_entry_on_the_wrong_side(
    pte: int, is_code: bool, has_nx: bool, message: str | None
) -> None:
    mem_map = Shared(spaces=0).node.mem_map
    mem_map.flags[5] = PG_exec if is_code else 0
    if message is None:
        validate_pte(mem_map, 0x5000 | pte, has_nx=has_nx)
        return
    with pytest.raises(AssertionError, match=message):
        validate_pte(mem_map, 0x5000 | pte, has_nx=has_nx)


class CoherenceMachine(RuleBasedStateMachine):
    """However mappings come and go, nobody runs code that a store or the kernel has changed since.

    The model is a CPU at its worst: it translates whatever may be executed, keeps it, and sees a store only if it goes
    through an executable entry.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shared = Shared()
        self.version = 0  # of the frame's contents
        self.translated: int | None = None  # the version that the CPU has

    def resume(self) -> None:
        """What the run loop does before the guest goes on."""
        if self.shared.node.stale_code:
            self.shared.node.stale_code.clear()
            self.translated = None

    @rule(which=st.integers(0, 2))
    def fetch(self, which: int) -> None:
        if self.shared.rights(which)[1] == "-" or not self.shared.mms[which].pgtable.get(BASE):
            self.shared.map(which, run=True)
        self.resume()
        if self.translated is None:
            self.translated = self.version
        assert self.translated == self.version, "stale code ran"

    @rule(which=st.integers(0, 2), and_run=st.booleans())
    def store(self, which: int, and_run: bool) -> None:
        if self.shared.rights(which)[0] == "-":
            self.shared.map(which, write=True, run=and_run)
        self.resume()
        self.version += 1
        if self.shared.rights(which)[1] == "x":
            self.translated = None

    @rule()
    def kernel_write(self) -> None:
        note_kernel_write(self.shared.node, self.shared.pfn)
        self.version += 1
        self.resume()

    @rule(which=st.integers(0, 2))
    def unmap(self, which: int) -> None:
        if self.shared.mms[which].pgtable.clear(BASE):
            self.shared.node.mem_map.mapcount[self.shared.pfn] -= 1
            self.shared.node.put_page(self.shared.pfn)

    @invariant()
    def entries_are_on_their_frame_s_side(self) -> None:
        for mm in self.shared.mms:
            validate_pte(self.shared.node.mem_map, mm.pgtable.get(BASE), has_nx=True)


TestCoherenceMachine = CoherenceMachine.TestCase
TestCoherenceMachine.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_frame_number_is_what_goes_to_the_run_loop() -> None:
    shared = Shared(spaces=0)
    note_exec(shared.node, Pfn(7))
    note_kernel_write(shared.node, Pfn(7))

    assert shared.node.stale_code == [7]
