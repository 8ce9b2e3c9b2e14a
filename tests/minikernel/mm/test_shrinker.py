"""Caches that give objects back: how much they are asked for, and what drop_slab leaves."""

import pytest

from minikernel.mm.kmem_cache import KmemCache
from minikernel.mm.shrinker import drop_slab, shrink_slab
from minikernel.mm.slab_layout import SLAB_RECLAIM_ACCOUNT
from tests.minikernel.mm.touch import Machine


class Names:
    """A shrinker whose objects are free to go."""

    name = "names"

    def __init__(self, machine: Machine, count: int) -> None:
        self.cache: KmemCache = machine.node.slab.create(self.name, 192, flags=SLAB_RECLAIM_ACCOUNT)
        self.objects = self.cache.alloc_bulk(count)
        self.asked: list[int] = []

    def count_objects(self) -> int:
        return len(self.objects)

    def scan_objects(self, nr_to_scan: int) -> int:
        self.asked.append(nr_to_scan)
        count = min(nr_to_scan, self.may_go())
        self.cache.free_bulk(self.objects[:count])
        del self.objects[:count]
        return count

    def may_go(self) -> int:
        return len(self.objects)


class Inodes(Names):
    """A shrinker whose objects are held by names, one by each."""

    name = "inodes"

    def __init__(self, machine: Machine, names: Names) -> None:
        super().__init__(machine, len(names.objects))
        self.names = names

    def may_go(self) -> int:
        return len(self.objects) - len(self.names.objects)


@pytest.fixture
def machine() -> Machine:
    return Machine(ram=8 << 20)


def test_everything_goes_even_if_one_cache_has_to_wait_for_another(machine: Machine) -> None:
    """Inodes are asked first, when their names still hold them: they go in a second round."""
    node = machine.node
    before = node.nr_free
    names = Names(machine, 200)
    inodes = Inodes(machine, names)
    node.shrinkers += [inodes, names]
    held = before - node.nr_free
    assert held >= 2 * 200 * 192 >> 12

    assert drop_slab(node) == held
    assert (names.objects, inodes.objects) == ([], [])
    assert node.nr_free == before
    machine.validate()


def test_a_round_for_a_few_objects_is_the_last(machine: Machine) -> None:
    """As Linux's drop_slab: ten objects are not worth another look at every cache."""
    names = Names(machine, 10)
    inodes = Inodes(machine, names)
    machine.node.shrinkers += [inodes, names]

    drop_slab(machine.node)
    assert (len(names.objects), len(inodes.objects)) == (0, 10)
    assert len(inodes.asked) == 1


def test_reclaim_asks_for_twice_the_share_that_its_urgency_names(machine: Machine) -> None:
    node = machine.node
    names = Names(machine, 200)
    node.shrinkers.append(names)
    shrink_slab(node, 3)
    assert names.asked == [50]
    shrink_slab(node, 8)
    assert names.asked == [50], "150 >> 8 are none"
    node.vm_sysctl.vfs_cache_pressure = 50
    shrink_slab(node, 1)
    assert names.asked == [50, 75]

    node.vm_sysctl.vfs_cache_pressure = 100
    free = node.nr_free
    assert shrink_slab(node, 0) == node.nr_free - free > 0
    assert names.objects == []
