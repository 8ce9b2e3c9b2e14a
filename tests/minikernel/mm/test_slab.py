"""Caches of objects in guest RAM: layout, life, books, and the bugs that debug mode finds."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from emu.x86 import PAGE_SHIFT, PAGE_SIZE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.gfp import GFP_KERNEL
from minikernel.mm.kmem_cache import KmemCache
from minikernel.mm.layout import KernelLayout
from minikernel.mm.page import PG_slab
from minikernel.mm.slab import SlabAllocator
from minikernel.mm.slab_debug import SlabBug
from minikernel.mm.slab_layout import (
    SLAB_DEBUG_FLAGS,
    SLAB_HWCACHE_ALIGN,
    SLAB_RECLAIM_ACCOUNT,
    calculate_order,
    slab_layout,
)
from minikernel.mm.slab_validate import validate_slab
from tests.minikernel.mm.touch import LAYOUTS, Machine

# objsize, objperslab, pagesperslab of /proc/slabinfo on a Linux 6.18 with two CPUs.
LINUX_WITH_TWO_CPUS = [
    (8, 512, 1), (16, 256, 1), (32, 128, 1), (64, 64, 1), (96, 42, 1), (104, 39, 1), (136, 30, 1), (192, 21, 1),
    (280, 14, 1), (312, 13, 1), (344, 23, 2), (392, 20, 2), (448, 18, 2), (624, 13, 2), (656, 12, 2), (688, 23, 4),
    (704, 23, 4), (896, 18, 4), (984, 16, 4), (1016, 16, 4), (1128, 14, 4), (1232, 13, 4), (1344, 12, 4),
    (1472, 22, 8), (1600, 20, 8), (2048, 16, 8), (2112, 15, 8), (2496, 13, 8), (4096, 8, 8), (4288, 7, 8),
    (5888, 5, 8), (8192, 4, 8), (51488, 1, 16),
]  # fmt: skip


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    layout: KernelLayout = request.param
    return Machine(layout, ram=8 << 20)


def a_cache(machine: Machine, size: int = 100, *, flags: int = 0) -> KmemCache:
    return machine.node.slab.create("test", size, flags=flags)


@pytest.mark.parametrize(("size", "objects", "pages"), LINUX_WITH_TWO_CPUS)
def test_slabs_are_as_large_as_on_linux(size: int, objects: int, pages: int) -> None:
    order = calculate_order(size, nr_cpus=2)

    assert (1 << order, (PAGE_SIZE << order) // size) == (pages, objects)


def test_one_cpu_is_content_with_fewer_objects() -> None:
    assert calculate_order(512, nr_cpus=1) == 0
    assert calculate_order(512, nr_cpus=2) == 1


def test_an_object_beyond_the_largest_block_has_no_layout() -> None:
    with pytest.raises(ValueError, match="bytes"):
        calculate_order(PAGE_SIZE << 11)


def test_alignment_to_the_cache_line_is_for_large_objects() -> None:
    assert slab_layout(200, 8, flags=SLAB_HWCACHE_ALIGN).size == 256
    assert slab_layout(24, 8, flags=SLAB_HWCACHE_ALIGN).size == 32
    assert slab_layout(20, 8).size == 24
    assert slab_layout(20, 4).size == 20


def test_objects_lie_in_frames_of_low_memory(machine: Machine) -> None:
    cache = a_cache(machine)
    addresses = [cache.alloc() for _ in range(cache.layout.objects + 1)]

    first = (addresses[0] - machine.node.layout.page_offset) >> PAGE_SHIFT
    assert machine.node.mem_map.flags[first] & PG_slab
    assert addresses[1] - addresses[0] == cache.layout.size
    assert len(set(addresses)) == len(addresses)
    assert (cache.nr_in_use, len(cache.slabs)) == (len(addresses), 2)
    validate_slab(machine.node.slab)
    machine.validate()
    cache.free_bulk(addresses)
    assert cache.nr_in_use == 0


def test_the_object_freed_last_is_taken_first(machine: Machine) -> None:
    cache = a_cache(machine)
    one, two = cache.alloc(), cache.alloc()
    cache.free(one)
    cache.free(two)

    assert [cache.alloc(), cache.alloc()] == [two, one]


def test_zalloc_clears_what_the_last_user_wrote(machine: Machine) -> None:
    cache = a_cache(machine)
    address = cache.alloc()
    machine.node.slab.write(address, b"x" * 100)
    cache.free(address)

    assert cache.zalloc() == address
    assert machine.node.slab.read(address, 100) == bytes(100)


def test_a_constructor_runs_once_for_each_object_of_a_slab(machine: Machine) -> None:
    slab = machine.node.slab
    made: list[int] = []

    def construct(address: int) -> None:
        made.append(address)
        slab.write(address, b"constructed")

    cache = slab.create("made", 200, ctor=construct)
    address = cache.alloc()
    assert slab.read(address, 11) == b"constructed"
    cache.free(address)
    assert cache.alloc() == address
    assert made == sorted(made)
    assert len(made) == cache.layout.objects


def test_shrink_gives_every_unused_frame_back(machine: Machine) -> None:
    before = machine.node.nr_free
    cache = a_cache(machine)
    addresses = cache.alloc_bulk(3 * cache.layout.objects)
    assert machine.node.nr_free == before - 3 * (1 << cache.layout.order)
    kept = addresses.pop()
    cache.free_bulk(addresses)

    cache.shrink()
    assert len(cache.slabs) == 1
    cache.free(kept)
    machine.node.slab.destroy(cache)
    assert machine.node.nr_free == before
    machine.validate()


def test_many_frees_give_slabs_back_unasked(machine: Machine) -> None:
    cache = a_cache(machine, 1000)
    addresses = cache.alloc_bulk(40 * cache.layout.objects)
    for address in addresses:
        cache.free(address)

    assert len(cache.slabs) < 15
    assert cache.nr_slabs_freed > 25
    validate_slab(machine.node.slab)


def test_destroying_a_cache_in_use_is_our_bug(machine: Machine) -> None:
    cache = a_cache(machine)
    cache.alloc()
    with pytest.raises(AssertionError, match="1 objects remain"):
        machine.node.slab.destroy(cache)


def test_an_object_of_another_cache_is_refused(machine: Machine) -> None:
    slab = machine.node.slab
    one, two = slab.create("one", 64, flags=SLAB_DEBUG_FLAGS), slab.create("two", 64)
    address = two.alloc()
    with pytest.raises(AssertionError, match="of two is given back to one"):
        one.free(address)


def test_reclaimable_frames_are_counted_apart(machine: Machine) -> None:
    slab = machine.node.slab
    names = slab.create("names", 192, flags=SLAB_RECLAIM_ACCOUNT)
    names.alloc()
    assert (slab.nr_reclaimable, slab.nr_unreclaimable) == (1 << names.layout.order, 0)


def test_kmalloc_has_a_class_for_each_size(machine: Machine) -> None:
    slab = machine.node.slab
    assert [slab.kmalloc_cache(size).name for size in (1, 8, 9, 65, 97, 129, 193, 1024, 4097, 8192)] == [
        "kmalloc-8", "kmalloc-8", "kmalloc-16", "kmalloc-96", "kmalloc-128", "kmalloc-192", "kmalloc-256",
        "kmalloc-1k", "kmalloc-8k", "kmalloc-8k",
    ]  # fmt: skip


def test_kmalloc_beyond_8k_takes_blocks(machine: Machine) -> None:
    slab = machine.node.slab
    before = machine.node.nr_free
    small, large = slab.kmalloc(100), slab.kmalloc(8193)

    assert not large % (4 * PAGE_SIZE)
    assert slab.nr_unreclaimable == 5
    validate_slab(slab)
    slab.kfree(small)
    slab.kfree(large)
    slab.shrink()
    assert machine.node.nr_free == before
    validate_slab(slab)


@pytest.mark.parametrize("size", [PAGE_SIZE << 11, 4 << 20])
def test_kmalloc_of_what_there_is_not_fails(size: int) -> None:
    machine = Machine(ram=4 << 20)
    with pytest.raises(LinuxError, match="ENOMEM"):
        machine.node.slab.kmalloc(size)


def test_kfree_of_anything_else_is_our_bug(machine: Machine) -> None:
    pfn = machine.node.alloc_page()
    assert pfn is not None
    with pytest.raises(AssertionError, match="not allocated"):
        machine.node.slab.kfree(machine.node.layout.page_offset + (pfn << PAGE_SHIFT))


def test_fragmented_memory_gives_smaller_slabs(machine: Machine) -> None:
    """The wanted order is not to be had: a slab of the order that one object needs will do."""
    cache = a_cache(machine, 1600)
    assert cache.layout.order > cache.layout.min_order
    machine.node.fail_allocation(0)
    cache.alloc()

    assert next(iter(cache.slabs.values())).order == cache.layout.min_order
    validate_slab(machine.node.slab)


def test_no_memory_is_enomem_and_leaves_nothing(machine: Machine) -> None:
    cache = a_cache(machine)
    machine.node.fail_allocation(0)
    with pytest.raises(LinuxError) as info:
        cache.alloc()
    assert info.value.errno == Errno.ENOMEM
    assert cache.nr_failed == 1
    validate_slab(machine.node.slab)
    cache.alloc()


def test_any_chosen_allocation_of_an_object_fails(machine: Machine) -> None:
    cache = a_cache(machine)
    cache.free(cache.alloc())
    machine.node.slab.fail_allocation(2)
    with pytest.raises(LinuxError):
        cache.alloc_bulk(3)

    assert not machine.node.slab.fails_soon
    assert cache.nr_in_use == 0
    validate_slab(machine.node.slab)


def test_objects_that_come_back_while_a_slab_is_made_are_taken_first(machine: Machine) -> None:
    """Reclaim, or the end of a victim, gives objects of the very cache back; the new slab waits in full."""
    node = machine.node
    cache = a_cache(machine)
    held = cache.alloc_bulk(cache.layout.objects)
    frames = []
    while (pfn := node.alloc_page(GFP_KERNEL)) is not None:
        frames.append(pfn)

    def reclaim(_order: int, _gfp: int) -> int:
        cache.free(held[3])
        while frames:
            node.put_page(frames.pop())
        return 1

    node.reclaim = reclaim
    assert cache.alloc() == held[3]
    assert (len(cache.slabs), cache.nr_free) == (2, cache.layout.objects)
    validate_slab(node.slab)


def test_while_a_failure_is_awaited_no_object_stays_in_hand(machine: Machine) -> None:
    """Otherwise it would be given out again without being counted."""
    cache = a_cache(machine)
    one, two = cache.alloc_bulk(2)
    machine.node.slab.fail_allocation(1)
    cache.free(one)
    cache.free(two)
    assert (cache.freelist, cache.nr_in_use) == ([], 0)
    validate_slab(machine.node.slab)
    assert cache.alloc() == two
    with pytest.raises(LinuxError, match="ENOMEM"):
        cache.alloc()


def test_a_cache_counts_the_frames_of_its_slabs(machine: Machine) -> None:
    cache = a_cache(machine, 1600)
    assert cache.layout.order > cache.layout.min_order
    assert cache.nr_pages == 0
    free = machine.node.nr_free
    cache.alloc_bulk(cache.layout.objects)
    machine.node.fail_allocation(0)
    cache.alloc()  # a smaller slab

    assert cache.nr_pages == free - machine.node.nr_free
    assert cache.nr_pages == (1 << cache.layout.order) + (1 << cache.layout.min_order)


# ---- debug mode


def watched(machine: Machine, size: int = 100) -> KmemCache:
    return a_cache(machine, size, flags=SLAB_DEBUG_FLAGS)


def test_a_watched_cache_works_as_any_other(machine: Machine) -> None:
    cache = watched(machine)
    addresses = cache.alloc_bulk(2 * cache.layout.objects)
    for address in addresses:
        machine.node.slab.write(address, b"y" * 100)
    validate_slab(machine.node.slab)
    cache.free_bulk(addresses)
    validate_slab(machine.node.slab)
    machine.node.slab.destroy(cache)


def test_an_overrun_is_found_and_its_owner_named(machine: Machine) -> None:
    cache = watched(machine)
    address = cache.alloc()
    machine.node.slab.write(address, b"z" * 101)
    with pytest.raises(SlabBug, match=r"BUG test: .*right red zone .*7a.*test_slab.py:\d+ test_an_overrun"):
        validate_slab(machine.node.slab)
    with pytest.raises(SlabBug, match="right red zone"):
        cache.free(address)


def test_an_underrun_is_found(machine: Machine) -> None:
    cache = watched(machine)
    address = cache.alloc()
    machine.node.slab.write(address - 1, b"z")
    with pytest.raises(SlabBug, match="left red zone"):
        cache.free(address)


def test_a_double_free_names_the_first(machine: Machine) -> None:
    cache = watched(machine)
    address = cache.alloc()
    cache.free(address)
    with pytest.raises(SlabBug, match=r"not in use; freed in test_slab.py:\d+ test_a_double_free"):
        cache.free(address)


def test_use_after_free_is_found_when_the_object_is_taken_again(machine: Machine) -> None:
    cache = watched(machine)
    address = cache.alloc()
    cache.free(address)
    machine.node.slab.write(address + 50, b"\0")
    with pytest.raises(SlabBug, match=f"written to while it is free: at {address + 50:#x}"):
        cache.alloc()


def test_a_constructed_object_keeps_its_state_while_it_is_watched(machine: Machine) -> None:
    """Its bytes mean something while it is free: no poison, and a write there is no bug.  Its red zones are checked."""
    slab = machine.node.slab
    cache = slab.create("made", 96, flags=SLAB_DEBUG_FLAGS, ctor=lambda address: slab.write(address, b"constructed"))
    address = cache.alloc()
    assert slab.read(address, 11) == b"constructed"
    cache.free(address)
    assert slab.read(address, 11) == b"constructed"
    slab.write(address, b"CONSTRUCTED")
    validate_slab(slab)
    assert cache.alloc() == address
    assert slab.read(address, 11) == b"CONSTRUCTED"

    cache.free(address)
    slab.write(address + 96, b"z")
    with pytest.raises(SlabBug, match="right red zone"):
        cache.alloc()


def test_an_object_that_is_on_no_list_is_found(machine: Machine) -> None:
    cache = watched(machine)
    lost = cache.slab_of(cache.alloc()).free.pop()
    with pytest.raises(SlabBug, match=f"object {lost:#x} it is neither free nor in use"):
        validate_slab(machine.node.slab)


def test_without_debug_a_double_free_is_found_by_the_validator(machine: Machine) -> None:
    cache = a_cache(machine)
    address = cache.alloc()
    cache.free(address)
    cache.free(address)
    with pytest.raises(AssertionError, match="free twice"):
        validate_slab(machine.node.slab)


def test_a_machine_may_watch_every_cache() -> None:
    machine = Machine()
    slab = SlabAllocator(machine.node, debug=True)
    address = slab.kmalloc(10)
    assert slab.read(address, 2) == b"ZZ"
    slab.kfree(address)
    validate_slab(slab)


# ---- a model


class SlabMachine(RuleBasedStateMachine):
    """Any sequence of operations keeps the books straight and every object's bytes its own."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine(ram=4 << 20)
        slab = self.machine.node.slab
        self.caches = [slab.create("a", 24), slab.create("b", 1000), slab.create("c", 60, flags=SLAB_DEBUG_FLAGS)]
        self.held: dict[int, tuple[KmemCache, bytes]] = {}
        self.serial = 0

    def keep(self, cache: KmemCache, address: int) -> None:
        assert address not in self.held
        self.serial += 1
        data = self.serial.to_bytes(4, "little") * (cache.layout.object_size // 4)
        self.machine.node.slab.write(address, data)
        self.held[address] = (cache, data)

    @rule(which=st.integers(0, 2), count=st.integers(1, 60))
    def alloc(self, which: int, count: int) -> None:
        cache = self.caches[which]
        for address in cache.alloc_bulk(count):
            self.keep(cache, address)

    @rule(data=st.data(), count=st.integers(1, 80))
    def free(self, data: st.DataObject, count: int) -> None:
        for _ in range(min(count, len(self.held))):
            at = data.draw(st.integers(0, len(self.held) - 1)) if count < 5 else len(self.held) // 2
            address = list(self.held)[at]
            cache, _ = self.held.pop(address)
            cache.free(address)

    @rule()
    def shrink(self) -> None:
        self.machine.node.slab.shrink()

    @rule(n=st.integers(0, 3))
    def fail(self, n: int) -> None:
        slab = self.machine.node.slab
        slab.fail_allocation(n)
        with pytest.raises(LinuxError):
            self.caches[0].alloc_bulk(n + 1)

    @invariant()
    def everything_is_whole(self) -> None:
        slab = self.machine.node.slab
        validate_slab(slab)
        assert sum(slab.in_use().values()) == len(self.held)
        for address, (_, data) in self.held.items():
            assert slab.read(address, len(data)) == data


TestSlabModel = SlabMachine.TestCase
TestSlabModel.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
