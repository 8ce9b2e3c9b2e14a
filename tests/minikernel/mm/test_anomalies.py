"""Whichever allocation fails, the guest is told, nothing is lost, and the same call works afterwards."""

from collections.abc import Callable

import pytest

from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import (
    MAP_POPULATE,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_EXEC,
    PROT_READ,
)
from minikernel.mm.fault import BusError, OutOfMemory, Served
from minikernel.mm.layout import KernelLayout
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import install_special_mapping
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.mremap import do_mremap
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.page import PG_kernel
from minikernel.mm.validate import validate_mm
from tests.minikernel.mm.touch import (
    ANON,
    BASE,
    LAYOUTS,
    READ,
    RW,
    SHARED_ANON,
    WRITE,
    File,
    Machine,
    Store,
    map_fixed,
    peek,
    poke,
    touch,
)

FAR = BASE + (64 << 20)


class Scene:
    """A machine with two files, and one address space."""

    def __init__(self, layout: KernelLayout) -> None:
        self.machine = Machine(layout, ram=4 << 20)
        self.mm: MmStruct = self.machine.mm()
        self.disk: File = self.machine.file(store=Store(b"d" * (20 * PAGE_SIZE)))
        self.memory: File = self.machine.file(8 * PAGE_SIZE)

    def drop(self) -> None:
        """Everything goes; nothing may be left."""
        for mm in list(self.machine.mms):
            self.machine.destroy(mm)
        self.disk.cache.destroy()
        self.memory.cache.destroy()
        self.machine.validate()


def populate(scene: Scene) -> None:
    map_fixed(scene.mm, BASE, 4, RW, ANON | MAP_POPULATE)
    if scene.mm.rss_anon < 4:
        raise LinuxError(Errno.ENOMEM, "populate hides its errors")


def populate_shared(scene: Scene) -> None:
    map_fixed(scene.mm, BASE, 4, RW, SHARED_ANON | MAP_POPULATE)
    if scene.mm.rss_shmem < 4:
        raise LinuxError(Errno.ENOMEM, "populate hides its errors")


def access(scene: Scene, address: int, how: int) -> None:
    outcome = touch(scene.mm, address, how)
    assert outcome is None or isinstance(outcome, Served | OutOfMemory), outcome
    if isinstance(outcome, OutOfMemory):
        raise LinuxError(Errno.ENOMEM, "the fault says so")


def anonymous_read(scene: Scene) -> None:
    map_fixed(scene.mm, BASE, 4)
    access(scene, BASE, READ)


def anonymous_write(scene: Scene) -> None:
    map_fixed(scene.mm, BASE, 4)
    access(scene, BASE, WRITE)


def write_over_zero_page(scene: Scene) -> None:
    map_fixed(scene.mm, BASE, 4)
    access(scene, BASE, READ)
    access(scene, BASE, WRITE)


def file_read(scene: Scene) -> None:
    """Across a boundary of leaf tables, so that reading around needs a second one."""
    where = BASE + (4 << 20) - 4 * PAGE_SIZE
    map_fixed(scene.mm, where, 16, PROT_READ | PROT_EXEC, MAP_PRIVATE, scene.disk)
    access(scene, where + PAGE_SIZE, READ)


def file_cow(scene: Scene) -> None:
    map_fixed(scene.mm, BASE, 4, RW, MAP_PRIVATE, scene.disk)
    access(scene, BASE, WRITE)
    access(scene, BASE + PAGE_SIZE, READ)
    access(scene, BASE + PAGE_SIZE, WRITE)


def file_shared(scene: Scene) -> None:
    map_fixed(scene.mm, BASE, 4, RW, MAP_SHARED, scene.disk)
    access(scene, BASE, WRITE)
    map_fixed(scene.mm, FAR, 4, RW, MAP_SHARED, scene.memory)
    access(scene, FAR, WRITE)


def special_page(scene: Scene) -> None:
    machine = scene.machine
    pfn = machine.node.alloc_page()
    if pfn is None:
        raise LinuxError(Errno.ENOMEM, "no page to show")
    machine.node.mem_map.flags[pfn] |= PG_kernel
    where = install_special_mapping(scene.mm, BASE, [pfn], PROT_READ, "[vdso]")
    access(scene, where, READ)
    do_mprotect(scene.mm, where, PAGE_SIZE, RW)
    access(scene, where, WRITE)


def special_write(scene: Scene) -> None:
    machine = scene.machine
    pfn = machine.node.alloc_page()
    if pfn is None:
        raise LinuxError(Errno.ENOMEM, "no page to show")
    machine.node.mem_map.flags[pfn] |= PG_kernel
    where = install_special_mapping(scene.mm, BASE, [pfn], RW, "[vdso]")
    access(scene, where, WRITE)


def fork(scene: Scene) -> None:
    mm = scene.mm
    map_fixed(mm, BASE, 4)
    map_fixed(mm, FAR, 4, RW, MAP_PRIVATE, scene.disk)
    access(scene, BASE, WRITE)
    access(scene, FAR, WRITE)
    before = (mm.rss, mm.total_vm, scene.disk.users)
    try:
        scene.machine.fork(mm)
    except LinuxError:
        assert (mm.rss, mm.total_vm, scene.disk.users) == before
        raise
    access(scene, BASE, WRITE)


def move(scene: Scene) -> None:
    mm = scene.mm
    map_fixed(mm, BASE, 4)
    access(scene, BASE, WRITE)
    access(scene, BASE + 3 * PAGE_SIZE, WRITE)
    tables = mm.pgtable.nr_tables
    try:
        do_mremap(mm, BASE, 4 * PAGE_SIZE, 4 * PAGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, FAR - 2 * PAGE_SIZE)
    except LinuxError:
        assert mm.pgtable.nr_tables == tables
        assert (mm.rss_anon, mm.vmas.items[0].start) == (2, BASE)
        raise


def move_between(scene: Scene) -> None:
    """Between other mappings, whose tables stay."""
    map_fixed(scene.mm, FAR - (8 << 20), 1)
    map_fixed(scene.mm, FAR + (8 << 20), 1)
    move(scene)


def cache_write(scene: Scene) -> None:
    done = scene.disk.cache.write(10, b"x" * (3 * PAGE_SIZE))
    assert scene.disk.cache.read(10, done) == b"x" * done
    if done < 3 * PAGE_SIZE:
        raise LinuxError(Errno.ENOMEM, "a short write")


def cache_read(scene: Scene) -> None:
    data = scene.disk.cache.read(10, 3 * PAGE_SIZE)
    assert data == b"d" * len(data)
    if len(data) < 3 * PAGE_SIZE:
        raise LinuxError(Errno.ENOMEM, "a short read")


def cache_truncate(scene: Scene) -> None:
    size = scene.disk.cache.size
    try:
        scene.disk.cache.truncate(10)
    except LinuxError:
        assert scene.disk.cache.size == size
        raise


STORIES: list[Callable[[Scene], None]] = [
    populate,
    populate_shared,
    anonymous_read,
    anonymous_write,
    write_over_zero_page,
    file_read,
    file_cow,
    file_shared,
    special_page,
    special_write,
    fork,
    move,
    move_between,
    cache_write,
    cache_read,
    cache_truncate,
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_every_allocation_may_fail(layout: KernelLayout, story: Callable[[Scene], None]) -> None:
    failures = 0
    for n in range(64):  # pragma: no branch - no story allocates so much
        scene = Scene(layout)
        scene.machine.node.fail_allocation(n)
        try:
            story(scene)
        except LinuxError as error:
            assert error.errno == Errno.ENOMEM  # noqa: PT017 - success ends the loop
        else:
            if scene.machine.node._fail_after is not None:
                break
        else_failed = scene.machine.node._fail_after is None
        assert else_failed
        failures += 1
        scene.machine.validate()
        again(scene, story)
        scene.machine.validate()
        scene.drop()
    assert failures


def again(scene: Scene, story: Callable[[Scene], None]) -> None:
    """The same call in the same place, with memory this time."""
    vm_munmap(scene.mm, BASE, 256 << 20)
    story(scene)


def test_what_was_there_survives_a_fault_without_memory() -> None:
    """The old page stays mapped, read-only, when the copy cannot be made."""
    scene = Scene(LAYOUTS[0])
    mm = scene.mm
    map_fixed(mm, BASE, 1)
    poke(mm, BASE, 5)
    child = scene.machine.fork(mm)
    scene.machine.node.fail_allocation(0)

    assert touch(child, BASE, WRITE) == OutOfMemory()
    assert peek(child, BASE) == 5
    validate_mm(child)
    assert isinstance(touch(child, BASE, WRITE), Served)
    scene.machine.validate()


@pytest.mark.parametrize("on_disk", [False, True])
def test_looking_around_before_a_bus_error_may_find_no_memory(*, on_disk: bool) -> None:
    scene = Scene(LAYOUTS[0])
    file, last = (scene.disk, 19) if on_disk else (scene.memory, 7)
    file.cache.write(last * PAGE_SIZE, b"x")
    map_fixed(scene.mm, BASE, 4, PROT_READ, MAP_PRIVATE, file, last)
    scene.machine.node.fail_allocation(0)

    assert isinstance(touch(scene.mm, BASE + PAGE_SIZE, READ), BusError)
    assert scene.mm.rss == 0
    scene.machine.validate()


def test_an_address_space_that_cannot_be_made_leaves_nothing() -> None:
    for n in range(4):
        machine = Machine(LAYOUTS[1], ram=4 << 20)
        machine.destroy(machine.mm())  # there is a slab for its object: what fails is a table
        machine.node.fail_allocation(n)
        with pytest.raises(LinuxError, match="ENOMEM"):
            MmStruct(machine.node, machine.kernel_half, machine.address_layout(), machine.tracer, machine.rlimits)
        machine.validate()
        assert not machine.node.slab.in_use()


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_every_object_may_be_refused(layout: KernelLayout, story: Callable[[Scene], None]) -> None:
    """As above, for the objects of the kernel: mappings, owners, address spaces."""
    for n in range(64):  # pragma: no branch - no story takes so many
        scene = Scene(layout)
        slab = scene.machine.node.slab
        slab.fail_allocation(n)
        try:
            story(scene)
        except LinuxError as error:
            assert error.errno == Errno.ENOMEM  # noqa: PT017 - success ends the loop
        ended = slab.fails_soon
        slab.fail_allocation(None)
        scene.machine.validate()
        again(scene, story)
        scene.drop()
        assert not slab.in_use()
        if ended:
            break
