"""Reclaim: what goes, what stays, and that nobody notices but by the time it takes."""

import pytest

from emu.x86 import PAGE_SIZE, PTE_A
from minikernel.abi.errno import LinuxError
from minikernel.abi.mman import MADV_FREE, MAP_NORESERVE, MAP_PRIVATE, MAP_SHARED, PROT_READ
from minikernel.mm.fault import BusError, OutOfMemory, Served
from minikernel.mm.gfp import GFP_HIGHMEM, GFP_HIGHUSER, GFP_MEMALLOC
from minikernel.mm.layout import KernelLayout
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mlock import do_mlock, do_munlock
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.page import PG_dirty, PG_swapcache
from minikernel.mm.policy.base import SWAP_CLUSTER_MAX
from minikernel.mm.swap_entry import entry_offset
from minikernel.mm.vmscan import Vmscan
from minikernel.mm.zone import WMARK_HIGH
from tests.minikernel.mm.touch import (
    ANON,
    BASE,
    LAYOUTS,
    READ,
    RW,
    WRITE,
    Machine,
    RamSwap,
    Store,
    map_fixed,
    peek,
    pfn_of,
    poke,
    touch,
)

RAM = 4 << 20
RAM_PAGES = RAM // PAGE_SIZE
PAGES = 3 * RAM_PAGES


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def machine(request: pytest.FixtureRequest) -> Machine:
    layout: KernelLayout = request.param
    made = Machine(layout, ram=RAM)
    vmscan = Vmscan(made.node)
    made.node.reclaim = vmscan.try_to_free_pages
    made.node.reclaim_pages = vmscan.reclaim_pages
    return made


@pytest.fixture
def swap(machine: Machine) -> RamSwap:
    return machine.swapon(4 * RAM_PAGES)


def content(index: int) -> bytes:
    return index.to_bytes(4, "little") * (PAGE_SIZE // 4)


def big_store() -> Store:
    return Store(b"".join(content(index) for index in range(PAGES)))


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def page_out(machine: Machine, *frames: int) -> int:
    assert machine.node.reclaim_pages is not None
    return machine.node.reclaim_pages(list(frames))  # type: ignore[arg-type]  # frame numbers


# ---- file pages


def test_a_file_larger_than_ram_can_be_read(machine: Machine) -> None:
    cache = machine.file(store=big_store()).cache
    for _ in range(2):
        for index in range(PAGES):
            assert cache.read(index * PAGE_SIZE, PAGE_SIZE) == content(index)
    machine.validate()


@pytest.mark.parametrize("how", [READ, WRITE], ids=["read", "written"])
def test_a_shared_mapping_larger_than_ram_can_be_walked(machine: Machine, how: int) -> None:
    """Mapped pages go too; what was written is in the file afterwards."""
    mm = machine.mm()
    file = machine.file(store=big_store())
    map_fixed(mm, BASE, PAGES, RW, MAP_SHARED, file)
    for page in range(PAGES):
        if how == WRITE:
            poke(mm, at(page), page * 3 & 0xFF)
        else:
            assert peek(mm, at(page)) == page & 0xFF
    machine.validate()
    assert mm.rss_file < RAM_PAGES
    file.cache.sync()
    store = file.cache.backing
    assert isinstance(store, Store)
    for page in range(PAGES):
        expected = page * 3 & 0xFF if how == WRITE else page & 0xFF
        assert store.data[page * PAGE_SIZE] == expected


def test_a_page_used_twice_outlives_a_stream_of_pages_used_once(machine: Machine) -> None:
    hot = machine.file(store=Store(bytes(16 * PAGE_SIZE))).cache
    stream = machine.file(store=big_store()).cache
    for _ in range(3):
        for index in range(16):
            hot.read(index * PAGE_SIZE, 1)
    for index in range(PAGES):
        stream.read(index * PAGE_SIZE, 1)

    assert hot.nr_pages == 16
    machine.validate()


def test_a_dirty_page_that_cannot_be_written_stays(machine: Machine) -> None:
    store = Store(bytes(4 * PAGE_SIZE))
    cache = machine.file(store=store).cache
    cache.write(0, b"precious")
    store.fail = True

    machine.node.lru.drain()
    assert page_out(machine, cache.pages[0]) == 0
    store.fail = False
    assert cache.read(0, 8) == b"precious"
    assert page_out(machine, cache.pages[0]) == 1
    assert bytes(store.data[:8]) == b"precious"
    machine.validate()


def test_refaults_are_counted_and_soon_make_a_page_active(machine: Machine) -> None:
    cache = machine.file(store=Store(bytes(8 * PAGE_SIZE))).cache
    mm = machine.mm()
    map_fixed(mm, BASE, 8, PROT_READ, MAP_SHARED, machine.file(store=Store(bytes(8 * PAGE_SIZE))))
    cache.read(0, 1)
    machine.node.lru.drain()
    page_out(machine, cache.pages[0])
    for index in range(1, 8):
        cache.read(index * PAGE_SIZE, 1)
        cache.read(index * PAGE_SIZE, 1)
    machine.node.lru.drain()
    for index in range(1, 8):
        machine.node.lru.mark_accessed(cache.pages[index])
    cache.read(0, 1)

    assert machine.node.vmstat["workingset_refault_file"] == 1
    assert machine.node.vmstat["workingset_activate_file"] == 1
    machine.validate()


# ---- anonymous pages


@pytest.mark.usefixtures("swap")
def test_four_times_the_ram_can_be_written_and_read_back(machine: Machine) -> None:
    mm = machine.mm()
    machine.node.vm_sysctl.debug_vm = 1
    pages = 4 * RAM_PAGES - 64
    map_fixed(mm, BASE, pages, RW, ANON | MAP_NORESERVE)
    for page in range(pages):
        poke(mm, at(page), page * 7 & 0xFF)
    for page in range(pages):
        assert peek(mm, at(page)) == page * 7 & 0xFF
    machine.validate()
    assert mm.rss_anon + mm.swapents == pages
    assert machine.node.vmstat["pswpin"] > 0
    machine.destroy(mm)
    machine.validate()
    assert machine.node.swap.nr_free == machine.node.swap.total_pages


@pytest.mark.usefixtures("swap")
def test_a_page_shared_by_a_family_goes_and_comes_back_for_each(machine: Machine) -> None:
    parent = machine.mm()
    map_fixed(parent, BASE, 1)
    poke(parent, BASE, 1)
    child = machine.fork(parent)
    assert page_out(machine, pfn_of(parent, BASE)) == 1
    machine.validate()
    assert (parent.swapents, child.swapents) == (1, 1)
    grandchild = machine.fork(child)
    machine.validate()

    assert poke(child, BASE, 2) is not None
    assert [peek(mm, BASE) for mm in (parent, child, grandchild)] == [1, 2, 1]
    assert pfn_of(parent, BASE) == pfn_of(grandchild, BASE)
    machine.validate()
    for mm in (parent, child, grandchild):
        machine.destroy(mm)
    machine.validate()


def test_a_page_that_nobody_wrote_to_leaves_again_without_io(machine: Machine, swap: RamSwap) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 5)
    page_out(machine, pfn_of(mm, BASE))
    peek(mm, BASE)
    pfn = pfn_of(mm, BASE)
    assert machine.node.mem_map.flags[pfn] & PG_swapcache
    swap.fail = True
    assert page_out(machine, pfn) == 1
    swap.fail = False
    assert peek(mm, BASE) == 5
    assert machine.node.vmstat["pswpout"] == 1

    poke(mm, BASE, 6)
    assert page_out(machine, pfn_of(mm, BASE)) == 1
    assert machine.node.vmstat["pswpout"] == 2
    assert peek(mm, BASE) == 6
    machine.validate()


def test_a_full_disk_keeps_the_page_and_its_contents(machine: Machine, swap: RamSwap) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 5)
    swap.fail = True
    assert page_out(machine, pfn_of(mm, BASE)) == 0
    assert peek(mm, BASE) == 5
    assert machine.node.swap.nr_free == machine.node.swap.total_pages
    machine.validate()


@pytest.mark.parametrize("harm", ["unreadable", "short", "damaged"])
def test_a_slot_that_cannot_be_read_costs_its_process_a_sigbus(machine: Machine, swap: RamSwap, harm: str) -> None:
    mm, other = machine.mm(), machine.mm()
    map_fixed(mm, BASE, 1)
    map_fixed(other, BASE, 1)
    machine.node.swap.page_cluster = 0
    for space, value in ((mm, 5), (other, 6)):
        poke(space, BASE, value)
        page_out(machine, pfn_of(space, BASE))
    slot = entry_offset(mm.pgtable.get(BASE))
    good = swap.pages[slot]
    if harm == "unreadable":
        swap.fail = True
    else:
        swap.pages[slot] = good[:-1] if harm == "short" else bytes([good[0] ^ 1]) + good[1:]

    assert isinstance(touch(mm, BASE, READ), BusError)
    swap.fail = False
    assert peek(other, BASE) == 6
    machine.validate()
    swap.pages[slot] = good
    assert peek(mm, BASE) == 5


def test_a_write_marks_a_cached_page_dirty_even_before_the_hardware_does(machine: Machine, swap: RamSwap) -> None:
    """PG_dirty survives the loss of the entry's D bit: the page is written although no entry says so."""
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 5)
    page_out(machine, pfn_of(mm, BASE))
    peek(mm, BASE)
    pfn = pfn_of(mm, BASE)
    machine.node.mem_map.flags[pfn] |= PG_dirty
    machine.node.physmem.view8[pfn * PAGE_SIZE] = 9
    page_out(machine, pfn)
    assert len([index for index in swap.pages if index]) == 1
    assert peek(mm, BASE) == 9


@pytest.mark.usefixtures("swap")
def test_unmapping_and_lazy_freeing_give_slots_back(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 8)
    for page in range(8):
        poke(mm, at(page), page)
    page_out(machine, *(pfn_of(mm, at(page)) for page in range(8)))
    assert mm.swapents == 8
    vm_munmap(mm, BASE, 4 * PAGE_SIZE)
    do_madvise(mm, at(4), 2 * PAGE_SIZE, MADV_FREE)
    assert mm.swapents == 2
    assert [peek(mm, at(page)) for page in range(4, 8)] == [0, 0, 6, 7]
    machine.validate()


def test_lazily_freed_pages_go_without_swap_unless_written_again(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 2)
    for page in range(2):
        poke(mm, at(page), 1 + page)
    do_madvise(mm, BASE, 2 * PAGE_SIZE, MADV_FREE)
    poke(mm, at(1), 3)
    assert page_out(machine, pfn_of(mm, BASE), pfn_of(mm, at(1))) == 1
    assert [peek(mm, at(page)) for page in range(2)] == [0, 3]
    assert machine.node.vmstat["pglazyfreed"] == 1
    machine.validate()


@pytest.mark.usefixtures("swap")
def test_locked_memory_stays_and_may_go_when_it_is_unlocked(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, 4)
    do_mlock(mm, BASE, 4 * PAGE_SIZE)
    frames = [pfn_of(mm, at(page)) for page in range(4)]
    machine.node.lru.drain()
    assert list(machine.node.lru.unevictable) == frames
    assert page_out(machine, *frames) == 0
    machine.validate()
    do_munlock(mm, BASE, 4 * PAGE_SIZE)
    assert page_out(machine, *frames) == 4
    machine.validate()


# ---- shared memory


@pytest.mark.usefixtures("swap")
@pytest.mark.parametrize("mapped", [True, False])
def test_a_locked_segment_stays_mapped_or_not_until_it_is_unlocked(machine: Machine, mapped: bool) -> None:
    """SHM_LOCK is the segment's, not a mapping's: pages stay though no mapping has VM_LOCKED, or there is none."""
    mm = machine.mm()
    file = machine.file(4 * PAGE_SIZE)
    map_fixed(mm, BASE, 4, RW, MAP_SHARED, file)
    for page in range(4):
        poke(mm, at(page), page + 7)
    if not mapped:
        vm_munmap(mm, BASE, 4 * PAGE_SIZE)
    frames = [file.cache.pages[page] for page in range(4)]
    file.cache.unevictable = True
    assert page_out(machine, *frames) == 0
    assert list(machine.node.lru.unevictable) == frames
    assert machine.node.vmstat["pswpout"] == 0
    machine.validate()
    assert page_out(machine, *frames) == 0, "nor when it is looked at again"

    file.cache.unevictable = False
    machine.node.lru.munlock(frames)
    assert page_out(machine, *frames) == 4
    assert file.cache.swapped.keys() == {0, 1, 2, 3}
    assert bytes(file.cache.read(page * PAGE_SIZE, 1)[0] for page in range(4)) == bytes([7, 8, 9, 10])
    machine.validate()


def test_a_promise_for_the_whole_segment_outlives_its_pages_in_swap(machine: Machine, swap: RamSwap) -> None:
    """What is promised page by page is given back with the page; what was promised at once, with the segment."""
    whole, single = machine.file(4 * PAGE_SIZE).cache, machine.file(4 * PAGE_SIZE).cache
    whole.acct_size(noreserve=False)
    for cache in (whole, single):
        cache.write(0, bytes([5]) * 4 * PAGE_SIZE)
        assert page_out(machine, *cache.pages.values()) == 4
    sysctl = machine.node.vm_sysctl
    assert (whole.nr_committed, single.nr_committed) == (4, 4)
    before = sysctl.vm_committed_as

    for cache in (whole, single):
        cache.punch_hole(PAGE_SIZE, 2 * PAGE_SIZE)
        assert cache.allocated == [0, 3]
        machine.validate()
    assert (whole.nr_committed, single.nr_committed) == (4, 2)
    assert sysctl.vm_committed_as == before - 2
    for cache in (whole, single):
        cache.destroy()
    assert sysctl.vm_committed_as == before - 8
    assert machine.node.swap.nr_free == machine.node.swap.total_pages == swap.nr_pages - 1
    machine.validate()


@pytest.mark.usefixtures("swap")
def test_shared_memory_larger_than_ram(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(2 * RAM)
    map_fixed(mm, BASE, 2 * RAM_PAGES, RW, MAP_SHARED, file)
    for page in range(2 * RAM_PAGES):
        poke(mm, at(page), page * 5 & 0xFF)
    machine.validate()
    for page in range(2 * RAM_PAGES):
        assert file.cache.read(page * PAGE_SIZE, 1) == bytes([page * 5 & 0xFF])
    machine.validate()
    file.cache.truncate(RAM)
    machine.validate()
    assert max(file.cache.allocated) < RAM_PAGES
    vm_munmap(mm, BASE, 2 * RAM)
    file.cache.destroy()
    machine.validate()
    assert machine.node.swap.nr_free == machine.node.swap.total_pages


def test_shared_memory_whose_slot_is_unreadable(machine: Machine, swap: RamSwap) -> None:
    mm = machine.mm()
    file = machine.file(PAGE_SIZE)
    map_fixed(mm, BASE, 1, RW, MAP_SHARED, file)
    poke(mm, BASE, 1)
    page_out(machine, pfn_of(mm, BASE))
    swap.fail = True
    assert isinstance(touch(mm, BASE, READ), BusError)
    with pytest.raises(LinuxError, match="EIO"):
        file.cache.read(0, 1)
    swap.fail = False
    assert file.cache.read(0, 1) == b"\1"
    machine.validate()


# ---- who is asked, and when


def test_memory_full_of_our_own_pages_without_swap_is_out_of_memory(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, RAM_PAGES, RW, ANON | MAP_NORESERVE)
    outcomes = [touch(mm, at(page), WRITE) for page in range(RAM_PAGES)]

    assert outcomes[-1] == OutOfMemory()
    machine.validate()


@pytest.mark.usefixtures("swap")
def test_direct_reclaim_takes_a_cluster_and_kswapd_goes_on_to_the_high_watermark(machine: Machine) -> None:
    mm = machine.mm()
    node = machine.node
    map_fixed(mm, BASE, RAM_PAGES, RW, ANON | MAP_NORESERVE)
    for page in range(700):
        poke(mm, at(page), 1)
        mm.pgtable.update(at(page), clear=PTE_A)
    vmscan = Vmscan(node)
    assert vmscan.try_to_free_pages(0, GFP_HIGHUSER) == SWAP_CLUSTER_MAX
    woken: list[bool] = []
    node.wake_kswapd = lambda: woken.append(True)
    page = 700
    while not woken:
        poke(mm, at(page), 1)
        page += 1
    assert page < RAM_PAGES
    vmscan.balance()
    assert all(zone.nr_free > zone.watermark[WMARK_HIGH] for zone in node.zones if zone.managed_pages)
    assert node.vmstat["pgsteal_kswapd"] > 0
    machine.validate()


@pytest.mark.parametrize(
    ("flags", "how"), [(MAP_PRIVATE, READ), (MAP_PRIVATE, WRITE), (MAP_SHARED, WRITE)], ids=["read", "copied", "shared"]
)
def test_a_page_in_the_middle_of_its_fault_is_not_taken(machine: Machine, flags: int, how: int) -> None:
    """It is the only clean page there is, and the fault needs a frame."""
    mm = machine.mm()
    file = machine.file(store=Store(b"f" * PAGE_SIZE))
    file.cache.read(0, 1)
    map_fixed(mm, BASE, 1, RW, flags, file)
    owners = machine.node.objects.anon_vma
    owners.free(owners.alloc())  # there is one for the copy's owner: the frame is what is missing
    exhaust(machine)

    assert touch(mm, BASE, how) == OutOfMemory()
    assert file.cache.nr_pages == 1
    machine.validate()
    for pfn in list(machine.held):
        machine.node.put_page(pfn)
        del machine.held[pfn]
    assert isinstance(touch(mm, BASE, how), Served)
    machine.validate()


def exhaust(machine: Machine) -> None:
    while (pfn := machine.node.alloc_page(GFP_MEMALLOC | GFP_HIGHMEM)) is not None:
        machine.held[pfn] = 1


def test_a_write_after_fork_copies_the_page_before_reclaim_can_take_it(machine: Machine, swap: RamSwap) -> None:
    """The copy needs a frame, and the page to be copied is the only one that could be taken for it."""
    mm = machine.mm()
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 5)
    child = machine.fork(mm)
    exhaust(machine)
    swap.fail = False
    assert touch(mm, BASE, WRITE) == OutOfMemory()
    assert peek(mm, BASE) == peek(child, BASE) == 5
    machine.validate()
