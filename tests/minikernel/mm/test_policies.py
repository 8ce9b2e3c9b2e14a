"""What every reclaim policy owes: memory beyond RAM works, the books balance, and each scan ends."""

import pytest

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, Pfn
from minikernel.abi.mman import MADV_COLD, MAP_NORESERVE, MAP_SHARED
from minikernel.mm.fault import OutOfMemory
from minikernel.mm.gfp import GFP_HIGHUSER
from minikernel.mm.layout import I386_PAE_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mlock import do_mlock
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_lru
from minikernel.mm.policy import POLICIES, find_policy, make_policy
from minikernel.mm.policy.base import DEF_PRIORITY, Scan
from minikernel.mm.vmscan import Vmscan
from tests.minikernel.mm.touch import (
    ANON,
    BASE,
    READ,
    RW,
    WRITE,
    Machine,
    Store,
    map_fixed,
    peek,
    pfn_of,
    phys_of,
    poke,
    touch,
)

RAM = 4 << 20
RAM_PAGES = RAM // PAGE_SIZE
LAYOUTS = (X86_64_LAYOUT, I386_PAE_LAYOUT)


@pytest.fixture(params=POLICIES)
def policy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def machine(policy: str, request: pytest.FixtureRequest) -> Machine:
    """A machine that reclaims by *policy*, without swap."""
    layout: KernelLayout = request.param
    made = Machine(layout, ram=RAM)
    made.node.lru.use(make_policy(policy, made.node, seed=7))
    vmscan = Vmscan(made.node)
    made.node.reclaim = vmscan.try_to_free_pages
    made.node.reclaim_pages = vmscan.reclaim_pages
    return made


def at(page: int) -> int:
    return BASE + page * PAGE_SIZE


def content(page: int) -> bytes:
    """A page that no other has."""
    return (page * 2654435761 & 0xFFFF_FFFF).to_bytes(4, "little") * (PAGE_SIZE // 4)


def fill(mm: MmStruct, page: int) -> None:
    """Write every byte of a page."""
    poke(mm, at(page), 0)
    phys = phys_of(mm, at(page))
    mm.node.physmem.ram[phys : phys + PAGE_SIZE] = content(page)


def holds(mm: MmStruct, page: int) -> bool:
    """Read every byte of a page."""
    peek(mm, at(page))
    phys = phys_of(mm, at(page))
    return bytes(mm.node.physmem.ram[phys : phys + PAGE_SIZE]) == content(page)


# ---- more memory than there is


@pytest.mark.slow
def test_four_times_the_ram_is_written_and_read_back(machine: Machine) -> None:
    machine.swapon(4 * RAM_PAGES)
    mm = machine.mm()
    pages = 4 * RAM_PAGES - 64
    map_fixed(mm, BASE, pages, RW, ANON | MAP_NORESERVE)
    for page in range(pages):
        fill(mm, page)
        if not page % 1000:
            machine.validate()
    machine.validate()
    for page in range(pages):
        assert holds(mm, page)
        if not page % 1000:
            machine.validate()
    assert machine.node.vmstat["pswpin"] > pages // 2
    machine.destroy(mm)
    machine.validate()
    assert machine.node.swap.nr_free == machine.node.swap.total_pages
    assert sum(machine.node.lru.lists()) == 0


@pytest.mark.slow
def test_shared_memory_larger_than_ram(machine: Machine) -> None:
    machine.swapon(4 * RAM_PAGES)
    mm = machine.mm()
    file = machine.file(2 * RAM)
    map_fixed(mm, BASE, 2 * RAM_PAGES, RW, MAP_SHARED, file)
    for page in range(2 * RAM_PAGES):
        fill(mm, page)
    machine.validate()
    for page in range(2 * RAM_PAGES):
        assert file.cache.read(page * PAGE_SIZE, PAGE_SIZE) == content(page)
    machine.validate()


@pytest.mark.parametrize("how", ["read", "mapped", "written"])
def test_a_file_larger_than_ram(machine: Machine, how: str) -> None:
    pages = 2 * RAM_PAGES
    store = Store(b"".join(content(page) for page in range(pages)))
    file = machine.file(store=store)
    mm = machine.mm()
    map_fixed(mm, BASE, pages, RW, MAP_SHARED, file)
    for page in range(pages):
        if how == "read":
            assert file.cache.read(page * PAGE_SIZE, PAGE_SIZE) == content(page)
        elif how == "mapped":
            assert holds(mm, page)
        else:
            poke(mm, at(page), page & 0xFF)
    machine.validate()
    assert file.cache.nr_pages < RAM_PAGES
    gone = next(page for page in range(pages) if page not in file.cache.pages)
    file.cache.read(gone * PAGE_SIZE, 1)
    assert machine.node.vmstat["workingset_refault_file"] == 1
    if how == "written":
        file.cache.sync()
        assert all(store.data[page * PAGE_SIZE] == page & 0xFF for page in range(pages))


@pytest.mark.slow
def test_a_family_of_forks_larger_than_ram(machine: Machine) -> None:
    machine.swapon(4 * RAM_PAGES)
    parent = machine.mm()
    pages = RAM_PAGES * 3 // 4
    map_fixed(parent, BASE, pages, RW, ANON | MAP_NORESERVE)
    for page in range(pages):
        poke(parent, at(page), 1)
    family = [parent]
    for number in range(2, 5):
        child = machine.fork(family[-1])
        family.append(child)
        for page in range(0, pages, 3):
            poke(child, at(page), number)
    machine.validate()
    for number, mm in enumerate(family, 1):
        for page in range(pages):
            assert peek(mm, at(page)) == (1 if page % 3 else number)
    machine.validate()
    machine.destroy(family.pop(0))
    machine.validate()
    for mm in family:
        assert peek(mm, at(1)) == 1


# ---- a scan ends, and takes nothing that does not help


def test_without_swap_and_without_files_memory_is_out(machine: Machine) -> None:
    mm = machine.mm()
    map_fixed(mm, BASE, RAM_PAGES, RW, ANON | MAP_NORESERVE)
    outcomes = [touch(mm, at(page), WRITE) for page in range(RAM_PAGES)]
    assert outcomes[-1] == OutOfMemory()
    machine.validate()


def test_without_swap_the_file_goes_and_our_own_memory_stays(machine: Machine) -> None:
    file = machine.file(store=Store(bytes(RAM)))
    mm = machine.mm()
    own = RAM_PAGES // 2
    map_fixed(mm, BASE, own, RW, ANON | MAP_NORESERVE)
    for page in range(own):
        poke(mm, at(page), page & 0xFF)
        file.cache.read(page * PAGE_SIZE, 1)
    for page in range(RAM_PAGES):
        file.cache.read(page * PAGE_SIZE, 1)
    machine.validate()
    assert mm.rss_anon == own
    assert machine.node.vmstat["pgsteal_file"] > 0
    assert machine.node.vmstat["pgsteal_anon"] == 0


def test_a_full_swap_is_the_end_and_not_a_loop(machine: Machine) -> None:
    store = machine.swapon(64)
    mm = machine.mm()
    map_fixed(mm, BASE, 2 * RAM_PAGES, RW, ANON | MAP_NORESERVE)
    page = 0
    while touch(mm, at(page), WRITE) != OutOfMemory():
        page += 1
    assert not machine.node.swap.has_room
    assert len(store.pages) == 65
    machine.validate()


def test_pages_that_cannot_be_written_come_back_to_the_policy(machine: Machine) -> None:
    store = machine.swapon(RAM_PAGES)
    mm = machine.mm()
    map_fixed(mm, BASE, 200)
    for page in range(200):
        poke(mm, at(page), page)
    store.fail = True
    assert machine.node.reclaim is not None
    assert machine.node.reclaim(0, GFP_HIGHUSER) == 0
    machine.validate()
    assert sum(machine.node.lru.lists()) == 200
    store.fail = False
    while mm.swapents < 100:
        assert machine.node.reclaim(0, GFP_HIGHUSER)
    assert [peek(mm, at(page)) for page in range(200)] == list(range(200))


def test_only_frames_of_the_zones_that_help_are_taken(machine: Machine) -> None:
    machine.swapon(RAM_PAGES)
    mm = machine.mm()
    map_fixed(mm, BASE, 200)
    for page in range(200):
        poke(mm, at(page), page)
    node = machine.node
    node.lru.drain()
    middle = sorted(pfn_of(mm, at(page)) for page in range(200))[100]
    taken = []
    for priority in [*range(DEF_PRIORITY, -1, -1)] * 2:
        scan = Scan(node, RAM_PAGES, pfn_limit=middle)
        scan.priority = priority
        for pfn in node.lru.policy.victims(scan):
            node.mem_map.flags[pfn] &= ~PG_lru
            taken.append(pfn)
    assert len(taken) == len(set(taken)) == 100
    assert max(taken) < middle
    for pfn in taken:
        node.lru.put_back(pfn)
    machine.validate()


def test_locked_memory_stays(machine: Machine) -> None:
    machine.swapon(4 * RAM_PAGES)
    mm = machine.mm()
    map_fixed(mm, BASE, 2 * RAM_PAGES, RW, ANON | MAP_NORESERVE)
    do_mlock(mm, BASE, 16 * PAGE_SIZE)
    locked = [pfn_of(mm, at(page)) for page in range(16)]
    for page in range(2 * RAM_PAGES):
        poke(mm, at(page), page & 0xFF)
    assert [pfn_of(mm, at(page)) for page in range(16)] == locked
    machine.validate()


def test_what_is_cold_goes_before_what_is_not(policy: str, machine: Machine) -> None:
    if policy == "random":
        pytest.skip("it knows no cold")
    machine.swapon(RAM_PAGES)
    mm = machine.mm()
    map_fixed(mm, BASE, 128)
    for page in range(128):
        poke(mm, at(page), 1)
    machine.node.lru.drain()
    do_madvise(mm, at(64), 32 * PAGE_SIZE, MADV_COLD)
    for page in [*range(64), *range(96, 128)]:
        touch(mm, at(page), READ)
    assert machine.node.reclaim is not None
    machine.node.reclaim(0, GFP_HIGHUSER)
    gone = {page for page in range(128) if not mm.pgtable.get(at(page)) & 1}
    assert gone == set(range(64, 96))


@pytest.mark.parametrize("other", POLICIES)
def test_a_policy_can_take_over_from_another(machine: Machine, other: str) -> None:
    machine.swapon(4 * RAM_PAGES)
    mm = machine.mm()
    map_fixed(mm, BASE, 2 * RAM_PAGES, RW, ANON | MAP_NORESERVE)
    for page in range(2 * RAM_PAGES):
        poke(mm, at(page), page & 0xFF)
        if page == RAM_PAGES:
            machine.node.lru.use(make_policy(other, machine.node))
            machine.validate()
    assert peek(mm, at(0)) == 0
    machine.validate()


# ---- names


def test_an_unknown_name_lists_the_known_with_what_they_are() -> None:
    with pytest.raises(ValueError, match="no policy 'lru'") as raised:
        find_policy("lru")
    message = str(raised.value)
    assert "\n" not in message
    for name in POLICIES:
        assert f"{name} ({find_policy(name).summary})" in message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("no_such_module:Policy", "ModuleNotFoundError"),
        ("minikernel.mm.policy.fifo:Lifo", "AttributeError"),
        ("minikernel.mm.policy.queue:PageQueue", "does not inherit"),
        ("minikernel.mm.policy.base:PAGE_SIZE", "AttributeError"),
        ("minikernel.mm.policy.base:DEF_PRIORITY", "does not inherit"),
        (":X", "ValueError"),
        ("tests.minikernel.mm.test_policies:Broken", "TypeError"),
        (".x:Y", "TypeError"),
    ],
)
def test_a_bad_place_for_a_policy_is_one_line(name: str, reason: str) -> None:
    machine = Machine()
    with pytest.raises(ValueError, match=reason) as raised:
        make_policy(name, machine.node)
    assert "\n" not in str(raised.value)


class Broken(find_policy("fifo")):  # type: ignore[misc]  # a class that only its name is known of
    """Somebody's mistake."""

    def __init__(self) -> None:
        super().__init__(Pfn(1 << PAGE_SHIFT))
