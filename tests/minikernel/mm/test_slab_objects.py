"""What the kernel's own objects cost: all that something needs, or nothing."""

import pytest

from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.slab_objects import charge, uncharge
from minikernel.mm.slab_validate import validate_slab
from tests.minikernel.mm.touch import Machine


@pytest.fixture
def machine() -> Machine:
    return Machine(ram=8 << 20)


def test_an_object_of_each_cache_is_held_until_it_is_given_back(machine: Machine) -> None:
    node = machine.node
    objects = node.objects
    before = node.slab.in_use()
    held = charge([objects.pid, objects.cred_jar, objects.pid])

    assert [cache.name for cache, _ in held] == ["pid", "cred_jar", "pid"]
    assert len({address for _, address in held}) == 3
    assert node.slab.in_use() == before | {"pid": 2, "cred_jar": 1}
    uncharge(held)
    assert held == []
    uncharge(held)
    assert node.slab.in_use() == before
    validate_slab(node.slab)


@pytest.mark.parametrize("failing", range(3))
def test_whichever_object_cannot_be_had_the_others_are_given_back(machine: Machine, failing: int) -> None:
    node = machine.node
    objects = node.objects
    wanted = [objects.task_struct, objects.signal_cache, objects.files_cache]
    before = node.slab.in_use()
    node.slab.fail_allocation(failing)
    with pytest.raises(LinuxError) as caught:
        charge(wanted)

    assert caught.value.errno == Errno.ENOMEM
    assert node.slab.in_use() == before
    validate_slab(node.slab)
    uncharge(charge(wanted))
