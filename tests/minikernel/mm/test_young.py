"""Harvesting the accessed bits of an address space."""

import pytest

from emu.x86 import PAGE_SIZE, PTE_A
from minikernel.mm.layout import KernelLayout
from minikernel.mm.young import harvest_young
from tests.minikernel.mm.touch import BASE, LAYOUTS, Machine, map_fixed, pfn_of, poke


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_each_used_page_is_told_once_in_the_order_of_addresses(layout: KernelLayout) -> None:
    machine = Machine(layout)
    mm = machine.mm()
    places = [BASE + offset for offset in (5 * PAGE_SIZE, 0, 64 << 20, 2 * PAGE_SIZE)]
    for address in places:
        map_fixed(mm, address, 1)
        poke(mm, address, 1)
    frames = [pfn_of(mm, address) for address in sorted(places)]
    assert harvest_young(mm.pgtable) == frames
    assert harvest_young(mm.pgtable) == []
    mm.pgtable.update(places[0], set=PTE_A)
    assert harvest_young(mm.pgtable) == [pfn_of(mm, places[0])]
