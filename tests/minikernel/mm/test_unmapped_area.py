"""The search for a hole, with and without what earlier searches remembered."""

from hypothesis import given, settings
from hypothesis import strategies as st

from emu.x86 import PAGE_SIZE
from minikernel.abi.mman import MAP_GROWSDOWN, MAP_PRIVATE, PROT_READ
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import do_mmap
from minikernel.mm.munmap import vm_munmap
from tests.minikernel.mm.touch import ANON, RW, Machine, map_fixed

SPAN = 600  # pages below mmap_base where things happen


def highest_hole(mm: MmStruct, length: int) -> int:
    """By trying every place that ends at the base, or where a mapping or its guard gap starts."""
    taken = [(vma.start_gap, vma.end) for vma in mm.vmas]
    ends = [mm.layout.mmap_base, *(start for start, _ in taken if start < mm.layout.mmap_base)]
    return max(end - length for end in ends if all(end <= start or end - length >= behind for start, behind in taken))


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["map", "map", "map", "unmap", "fixed", "stack"]), st.integers(0, SPAN), st.integers(1, 6)
        ),
        max_size=40,
    )
)
def test_the_highest_hole_is_found_whatever_was_remembered(steps: list[tuple[str, int, int]]) -> None:
    mm = Machine(ram=4 << 20).mm()
    bottom = mm.layout.mmap_base - SPAN * PAGE_SIZE
    for number, (what, page, count) in enumerate(steps):
        length = count * PAGE_SIZE
        if what == "map":
            expected = highest_hole(mm, length)
            assert do_mmap(mm, 0, length, (RW, PROT_READ)[number % 2], ANON, None, 0) == expected
        elif what == "unmap":
            vm_munmap(mm, bottom + page * PAGE_SIZE, length)
        elif what == "fixed":
            map_fixed(mm, bottom + page * PAGE_SIZE, count, 0)
        else:
            map_fixed(mm, bottom + page * PAGE_SIZE, count, RW, ANON | MAP_GROWSDOWN)


def test_a_long_search_is_remembered_for_larger_mappings_too() -> None:
    machine = Machine(ram=4 << 20)
    mm = machine.mm()
    file = machine.file(PAGE_SIZE)
    for _ in range(50):
        do_mmap(mm, 0, PAGE_SIZE, PROT_READ, MAP_PRIVATE, file, 0)
    do_mmap(mm, 0, PAGE_SIZE, RW, ANON, None, 0)
    assert mm.hole_length == PAGE_SIZE
    mm.hole_ceiling = mm.layout.mmap_base  # as if what is there had been put there by MAP_FIXED
    first = do_mmap(mm, 0, 2 * PAGE_SIZE, RW, ANON, None, 0)

    assert first == mm.layout.mmap_base - 53 * PAGE_SIZE
    assert (mm.hole_length, mm.hole_ceiling) == (2 * PAGE_SIZE, mm.layout.mmap_base - 51 * PAGE_SIZE)
