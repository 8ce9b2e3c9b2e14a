"""Watermarks, reserves and batches: Linux's own figures."""

import pytest

from emu.x86 import Pfn
from minikernel.mm.page import MemMap
from minikernel.mm.zone import (
    WMARK_LOW,
    WMARK_MIN,
    Zone,
    min_free_kbytes,
    setup_per_zone_lowmem_reserve,
    setup_per_zone_wmarks,
    zone_batchsize,
)


def zones_of(managed: dict[str, int], highmem: str = "HighMem") -> list[Zone]:
    mem_map = MemMap(1)
    zones = [
        Zone(mem_map, index, name, Pfn(0), Pfn(0), is_highmem=name == highmem) for index, name in enumerate(managed)
    ]
    for zone in zones:
        zone.managed_pages = managed[zone.name]
    return zones


def test_watermarks_are_those_of_a_linux_machine() -> None:
    """/proc/zoneinfo of Linux 6.18 with 5 GiB and vm.min_free_kbytes = 67584; Movable stands in for HighMem there."""
    zones = zones_of({"DMA": 3840, "DMA32": 772915, "Normal": 524288, "Movable": 0}, highmem="Movable")
    setup_per_zone_wmarks(zones, 67584)
    setup_per_zone_lowmem_reserve(zones, [256, 256, 32, 0])

    assert zones[1].watermark == [10037, 12546, 15055]
    assert zones[2].watermark == [6808, 8510, 10212]
    assert zones[3].watermark == [32, 32, 32]
    assert zones[1].lowmem_reserve == [0, 0, 2048, 2048]
    assert zones[2].lowmem_reserve == [0, 0, 0, 0]


def test_a_large_zone_spaces_its_watermarks_by_the_scale_factor() -> None:
    zones = zones_of({"Normal": 786432})
    setup_per_zone_wmarks(zones, min_free_kbytes(786432))

    low = 7094 >> 2
    assert zones[0].watermark == [low, low + 786, low + 2 * 786]


@pytest.mark.parametrize(
    ("managed", "minimum"), [(0, 32), (20_000, 32), (100_000, 97), (557_056, 128)], ids=["none", "small", "mid", "big"]
)
def test_high_memory_keeps_a_token_minimum(managed: int, minimum: int) -> None:
    zones = zones_of({"Normal": 225280, "HighMem": managed})
    setup_per_zone_wmarks(zones, min_free_kbytes(225280))

    assert zones[1].watermark[WMARK_MIN] == minimum
    assert zones[1].watermark[WMARK_LOW] - minimum >= managed // 1000


@pytest.mark.parametrize(
    ("lowmem_pages", "kbytes"), [(1, 128), (1024, 256), (4096, 512), (131072, 2896), (262144, 4096), (1 << 34, 262144)]
)
def test_min_free_kbytes_is_four_times_the_root_within_bounds(lowmem_pages: int, kbytes: int) -> None:
    """The table in Linux's calculate_min_free_kbytes: 16 MiB 512k, 512 MiB 2896k, 1 GiB 4096k."""
    assert min_free_kbytes(lowmem_pages) == kbytes


@pytest.mark.parametrize(("mib", "batch"), [(0, 8), (4, 8), (16, 16), (32, 32), (64, 64), (3072, 64)])
def test_a_batch_is_one_block(mib: int, batch: int) -> None:
    assert zone_batchsize(mib << 8) == batch
