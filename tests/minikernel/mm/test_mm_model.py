"""Any sequence of mapping calls, accesses, forks and exits: what a program sees equals a dict of pages.

The model knows a page's protection and where its byte lives; it knows nothing of frames, entries and sharing.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import LinuxError
from minikernel.abi.mman import (
    MADV_DONTNEED,
    MADV_PAGEOUT,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from minikernel.mm.fault import BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR, BusError, Segv, Served
from minikernel.mm.gfp import GFP_HIGHUSER
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.mremap import do_mremap
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.policy import POLICIES, make_policy
from tests.minikernel.mm.touch import (
    ANON,
    BASE,
    FETCH,
    READ,
    SHARED_ANON,
    WRITE,
    File,
    Machine,
    Store,
    map_fixed,
    peek,
    phys_of,
    touch,
)

NPAGES = 24
FILE_PAGES = 6
PAGES = st.integers(0, NPAGES - 1)
COUNTS = st.integers(1, 8)
PROTS = st.sampled_from(
    [
        0,
        PROT_READ,
        PROT_READ | PROT_WRITE,
        PROT_READ | PROT_WRITE,
        PROT_READ | PROT_EXEC,
        PROT_READ | PROT_WRITE | PROT_EXEC,
    ]
)


@dataclass
class Shared:
    """The bytes of a file or of shared memory, one per page."""

    values: dict[int, int]
    pages: int


@dataclass(frozen=True)
class ModelPage:
    """One page of an address space."""

    prot: int
    source: Shared | None = None  # where an untouched page's byte is; None: zero
    index: int = 0
    shared: bool = False
    own: int | None = None  # the byte of a private copy
    area: int = 0  # pages of one mmap call that were never divided have one number

    @property
    def beyond(self) -> bool:
        """There is no such page in the file any more."""
        return self.source is not None and self.index >= self.source.pages


class AddressSpaces(RuleBasedStateMachine):
    """The machine under test."""

    layout: KernelLayout = X86_64_LAYOUT
    policy = "two-list"

    @initialize()
    def boot(self) -> None:
        self.machine = Machine(self.layout, ram=4 << 20)
        self.machine.node.lru.use(make_policy(self.policy, self.machine.node))
        self.swap = self.machine.swapon(64)
        self.store = Store(bytes(FILE_PAGES * PAGE_SIZE))
        self.disk = self.machine.file(store=self.store)
        self.memory = self.machine.file(FILE_PAGES * PAGE_SIZE)
        self.files: list[tuple[File, Shared]] = [
            (self.disk, Shared({}, FILE_PAGES)),
            (self.memory, Shared({}, FILE_PAGES)),
        ]
        self.spaces: list[tuple[MmStruct, dict[int, ModelPage]]] = [(self.machine.mm(), {})]
        self.free_at_start = self.machine.unused_frames()
        self.areas = 0

    def space(self, which: int) -> tuple[MmStruct, dict[int, ModelPage]]:
        return self.spaces[which % len(self.spaces)]

    @rule(
        which=st.integers(0, 3), page=PAGES, count=COUNTS, prot=PROTS, kind=st.integers(0, 5), index=st.integers(0, 3)
    )
    def mmap(self, which: int, page: int, count: int, prot: int, kind: int, index: int) -> None:
        mm, model = self.space(which)
        self.areas += 1
        source: Shared | None = None
        shared = kind % 2 == 1
        if kind < 2:
            map_fixed(mm, BASE + page * PAGE_SIZE, count, prot, SHARED_ANON if shared else ANON)
            index = 0
            if shared:
                source = Shared({}, count)
        else:
            file, source = self.files[kind // 2 - 1]
            flags = MAP_SHARED if shared else MAP_PRIVATE
            map_fixed(mm, BASE + page * PAGE_SIZE, count, prot, flags, file, index)
        for offset in range(count):
            model[page + offset] = ModelPage(prot, source, index + offset, shared, area=self.areas)

    @rule(which=st.integers(0, 3), page=PAGES, count=COUNTS)
    def munmap(self, which: int, page: int, count: int) -> None:
        mm, model = self.space(which)
        vm_munmap(mm, BASE + page * PAGE_SIZE, count * PAGE_SIZE)
        for at in range(page, page + count):
            model.pop(at, None)

    @rule(which=st.integers(0, 3), page=PAGES, count=COUNTS, prot=PROTS)
    def mprotect(self, which: int, page: int, count: int, prot: int) -> None:
        mm, model = self.space(which)
        hole = next((at for at in range(page, page + count) if at not in model), None)
        wanted: AbstractContextManager[object] = (
            nullcontext() if hole is None else pytest.raises(LinuxError, match="ENOMEM")
        )
        with wanted:
            do_mprotect(mm, BASE + page * PAGE_SIZE, count * PAGE_SIZE, prot)
        for at in range(page, page + count if hole is None else hole):
            model[at] = replace(model[at], prot=prot)

    @rule(which=st.integers(0, 3), page=PAGES, count=COUNTS, to=PAGES)
    def move(self, which: int, page: int, count: int, to: int) -> None:
        """mremap to a fixed place; holes move along."""
        mm, model = self.space(which)
        fails = page not in model or abs(page - to) < count
        wanted: AbstractContextManager[object] = (
            pytest.raises(LinuxError, match=r"EFAULT|EINVAL") if fails else nullcontext()
        )
        size = count * PAGE_SIZE
        with wanted:
            do_mremap(mm, BASE + page * PAGE_SIZE, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, BASE + to * PAGE_SIZE)
        if fails:
            return
        for offset in range(count):
            moved = model.pop(page + offset, None)
            if moved is not None:
                model[to + offset] = moved
            elif to + offset in model and not self.mapped(mm, to + offset):
                del model[to + offset]

    def mapped(self, mm: MmStruct, page: int) -> bool:
        """Whether a hole took its target along is Linux's affair: only mappings replace what is at the target."""
        return mm.vmas.find(BASE + page * PAGE_SIZE) is not None

    @rule(which=st.integers(0, 3), page=PAGES, count=COUNTS)
    def dontneed(self, which: int, page: int, count: int) -> None:
        mm, model = self.space(which)
        pages = range(page, page + count)
        complete = all(at in model for at in pages)
        with nullcontext() if complete else pytest.raises(LinuxError, match="ENOMEM"):
            do_madvise(mm, BASE + page * PAGE_SIZE, count * PAGE_SIZE, MADV_DONTNEED)
        for at in pages:
            if at in model:
                model[at] = replace(model[at], own=None)

    @rule(which=st.integers(0, 3), page=PAGES, value=st.integers(1, 255), repeat=st.booleans())
    def store_byte(self, which: int, page: int, value: int, repeat: bool) -> None:
        mm, model = self.space(which)
        if not self.try_access(mm, model, page, WRITE, PROT_WRITE):
            return
        mm.node.physmem.view8[phys_of(mm, BASE + page * PAGE_SIZE)] = value
        entry = model[page]
        if entry.shared:
            assert entry.source is not None
            entry.source.values[entry.index] = value
        else:
            model[page] = replace(entry, own=value)
        if repeat:
            assert touch(mm, BASE + page * PAGE_SIZE, WRITE) is None, "the second write needs no fault"

    @rule(which=st.integers(0, 3), page=PAGES)
    def load_byte(self, which: int, page: int) -> None:
        mm, model = self.space(which)
        if self.try_access(mm, model, page, READ, PROT_READ | PROT_WRITE | PROT_EXEC):
            assert peek(mm, BASE + page * PAGE_SIZE) == self.expected(model[page])

    @rule(which=st.integers(0, 3), page=PAGES)
    def execute(self, which: int, page: int) -> None:
        mm, model = self.space(which)
        allowed = PROT_EXEC if self.layout.mode.has_nx else 7
        self.try_access(mm, model, page, FETCH, allowed)

    def try_access(self, mm: MmStruct, model: dict[int, ModelPage], page: int, access: int, needed: int) -> bool:
        """Touch; whether it may be read or written now, checked against the model."""
        outcome = touch(mm, BASE + page * PAGE_SIZE, access)
        entry = model.get(page)
        match outcome:
            case Segv(code, _):
                assert (entry is None) == (code == SEGV_MAPERR)
                assert entry is None or (code == SEGV_ACCERR and not entry.prot & needed)
                return False
            case BusError(code, _):
                assert code == BUS_ADRERR
                assert entry is not None
                assert entry.beyond
                return False
        assert outcome is None or isinstance(outcome, Served)
        assert entry is not None
        assert entry.prot & needed
        assert entry.own is not None or not entry.beyond
        return True

    def expected(self, entry: ModelPage) -> int:
        if entry.own is not None:
            return entry.own
        return 0 if entry.source is None else entry.source.values.get(entry.index, 0)

    @rule(which=st.integers(0, 3))
    def fork(self, which: int) -> None:
        if len(self.spaces) < 4:
            mm, model = self.space(which)
            child = self.machine.fork(mm)
            self.spaces.append((child, dict(model)))

    @rule(which=st.integers(0, 3))
    def exit(self, which: int) -> None:
        if len(self.spaces) > 1:
            mm, _ = self.spaces.pop(which % len(self.spaces))
            self.machine.destroy(mm)

    @rule(which=st.integers(0, 1), index=st.integers(0, FILE_PAGES - 1), value=st.integers(1, 255))
    def write_file(self, which: int, index: int, value: int) -> None:
        file, shared = self.files[which]
        file.cache.write(index * PAGE_SIZE, bytes([value]))
        shared.pages = max(shared.pages, index + 1)
        shared.values[index] = value

    @rule(which=st.integers(0, 1), index=st.integers(0, FILE_PAGES - 1))
    def read_file(self, which: int, index: int) -> None:
        file, shared = self.files[which]
        expected = b"" if index >= shared.pages else bytes([shared.values.get(index, 0)])
        assert file.cache.read(index * PAGE_SIZE, 1) == expected

    @rule(which=st.integers(0, 1), pages=st.integers(0, FILE_PAGES))
    def truncate_file(self, which: int, pages: int) -> None:
        """Private copies beyond the end go too, in every address space."""
        file, shared = self.files[which]
        shrinks = pages < shared.pages
        file.cache.truncate(pages * PAGE_SIZE)
        if file is self.disk:
            del self.store.data[pages * PAGE_SIZE :]  # a file system does that
        shared.pages = pages
        for index in [index for index in shared.values if index >= pages]:
            del shared.values[index]
        if not shrinks:
            return
        for _, model in self.spaces:
            for at, entry in model.items():
                if entry.source is shared and entry.index >= pages:
                    model[at] = replace(entry, own=None)

    @rule(which=st.integers(0, 3), page=PAGES, count=COUNTS)
    def page_out(self, which: int, page: int, count: int) -> None:
        """Nobody sees that pages are in swap."""
        mm, model = self.space(which)
        if all(at in model for at in range(page, page + count)):
            do_madvise(mm, BASE + page * PAGE_SIZE, count * PAGE_SIZE, MADV_PAGEOUT)

    @rule(pages=st.integers(1, 64))
    def reclaim(self, pages: int) -> None:
        """Nor that any page at all was taken, often in use."""
        node = self.machine.node
        node.lru.drain()
        assert node.reclaim_pages is not None
        node.reclaim_pages(list(node.lru.policy.pages())[:pages])

    @rule()
    def reclaim_by_policy(self) -> None:
        """Nor what the policy chose, of the little that there is."""
        assert self.machine.node.reclaim is not None
        self.machine.node.reclaim(0, GFP_HIGHUSER)

    @rule(broken=st.booleans())
    def break_swap(self, broken: bool) -> None:
        """Pages then stay where they are; reading is not tried here."""
        if not broken or not any(mm.swapents for mm, _ in self.spaces):
            self.swap.fail = broken and not self.machine.node.swap.shmem

    @rule()
    def sync_file(self) -> None:
        """Afterwards the disk has what the file has."""
        self.disk.cache.sync()
        shared = self.files[0][1]
        for index in range(shared.pages):
            stored = self.store.data[index * PAGE_SIZE : index * PAGE_SIZE + 1]
            assert bytes(stored) in {bytes([shared.values.get(index, 0)]), b""}

    @invariant()
    def the_books_balance(self) -> None:
        self.machine.validate()
        for mm, model in self.spaces:
            mapped = {
                (address - BASE) // PAGE_SIZE for vma in mm.vmas for address in range(vma.start, vma.end, PAGE_SIZE)
            }
            assert mapped == set(model)

    def teardown(self) -> None:
        if not hasattr(self, "spaces"):
            return
        while self.spaces:
            self.machine.destroy(self.spaces.pop()[0])
        for file, _ in self.files:
            assert file.users == 0
            file.cache.destroy()
        self.machine.validate()
        first_tables = 4 if self.layout is I386_PAE_LAYOUT else 1
        assert self.machine.unused_frames() == self.free_at_start + first_tables
        assert not self.machine.node.slab.in_use()


class PaeAddressSpaces(AddressSpaces):
    layout = I386_PAE_LAYOUT


class TwoLevelAddressSpaces(AddressSpaces):
    layout = I386_2LEVEL_LAYOUT


for _machine in (AddressSpaces, PaeAddressSpaces, TwoLevelAddressSpaces):
    _machine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, derandomize=True)


def by_policy(name: str) -> type[AddressSpaces]:
    class ByPolicy(AddressSpaces):
        policy = name

    ByPolicy.TestCase.settings = settings(max_examples=10, stateful_step_count=40, deadline=None, derandomize=True)
    return ByPolicy


for _name in POLICIES:
    globals()[f"TestAddressSpaces_{_name}"] = by_policy(_name).TestCase

TestAddressSpaces = AddressSpaces.TestCase
TestPaeAddressSpaces = PaeAddressSpaces.TestCase
TestTwoLevelAddressSpaces = TwoLevelAddressSpaces.TestCase

pytestmark = pytest.mark.slow
