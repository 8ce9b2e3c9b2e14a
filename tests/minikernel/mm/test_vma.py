"""Mappings and the sorted set of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emu.x86 import PAGE_SIZE, VirtAddr
from minikernel.mm.rmap import AnonVma, anon_vma_fork
from minikernel.mm.vma import (
    STACK_GUARD_GAP,
    VM_DONTEXPAND,
    VM_GROWSDOWN,
    VM_READ,
    VM_WRITE,
    Vma,
    VmaTree,
    can_merge,
    is_mergeable_anon_vma,
    merge,
)
from tests.minikernel.mm.touch import Machine


def vma(start: int, end: int, flags: int = VM_READ, anon_vma: AnonVma | None = None, name: str = "") -> Vma:
    """Anonymous memory, in pages."""
    return Vma(
        start=VirtAddr(start * PAGE_SIZE),
        end=VirtAddr(end * PAGE_SIZE),
        flags=flags,
        pgoff=start,
        anon_vma=anon_vma,
        name=name,
    )


def tree(*vmas: Vma) -> VmaTree:
    made = VmaTree()
    made.splice(0, 0, list(vmas))
    made.validate()
    return made


def test_find_wants_the_address_inside_and_find_vma_takes_the_next() -> None:
    low, high = vma(2, 4), vma(6, 7)
    vmas = tree(low, high)

    assert vmas.find(PAGE_SIZE) is None
    assert vmas.find(2 * PAGE_SIZE) is low
    assert vmas.find(4 * PAGE_SIZE - 1) is low
    assert vmas.find(4 * PAGE_SIZE) is None
    assert vmas.find_vma(4 * PAGE_SIZE) is high
    assert vmas.find_vma(0) is low
    assert vmas.find_vma(7 * PAGE_SIZE) is None
    assert len(vmas) == 2
    assert list(vmas) == [low, high]


def test_the_last_mapping_found_is_remembered_until_the_set_changes() -> None:
    only = vma(2, 4)
    vmas = tree(only)
    vmas.find(2 * PAGE_SIZE)

    assert vmas.cached is only
    assert vmas.find(3 * PAGE_SIZE) is only

    vmas.splice(0, 1, [])

    assert vmas.find(3 * PAGE_SIZE) is None


def test_clip_keeps_the_offset_of_what_is_left() -> None:
    whole = vma(2, 6)

    assert whole.clip(0, 100 * PAGE_SIZE) is whole
    part = whole.clip(3 * PAGE_SIZE, 5 * PAGE_SIZE)
    assert (part.start, part.end, part.pgoff) == (3 * PAGE_SIZE, 5 * PAGE_SIZE, 3)
    with pytest.raises(AssertionError, match="nothing left"):
        whole.clip(6 * PAGE_SIZE, 7 * PAGE_SIZE)


def test_index_of_wants_a_mapping_of_the_set() -> None:
    vmas = tree(vma(2, 4))

    with pytest.raises(AssertionError, match="not a mapping"):
        vmas.index_of(vma(2, 4))


def test_a_stack_keeps_its_guard_gap_free() -> None:
    assert vma(2000, 2001).start_gap == 2000 * PAGE_SIZE
    assert vma(2000, 2001, VM_READ | VM_GROWSDOWN).start_gap == 2000 * PAGE_SIZE - STACK_GUARD_GAP
    assert vma(20, 21, VM_READ | VM_GROWSDOWN).start_gap == 0


def test_neighbours_with_the_same_rights_and_continuous_offsets_merge() -> None:
    left, right = vma(2, 4), vma(4, 6)

    assert can_merge(left, right)
    assert (merge(left, right).start, merge(left, right).end) == (left.start, right.end)


@pytest.mark.parametrize(
    "right",
    [
        vma(5, 6),
        vma(4, 6, VM_READ | VM_WRITE),
        vma(4, 6, name="[anon:x]"),
        Vma(start=VirtAddr(4 * PAGE_SIZE), end=VirtAddr(6 * PAGE_SIZE), flags=VM_READ, pgoff=9),
    ],
    ids=["a hole", "other rights", "other name", "other offset"],
)
def test_neighbours_that_differ_do_not_merge(right: Vma) -> None:
    assert not can_merge(vma(2, 4), right)


def test_special_mappings_never_merge() -> None:
    assert not can_merge(vma(2, 4, VM_DONTEXPAND), vma(4, 6, VM_DONTEXPAND))


def test_owners_merge_with_nobody_or_themselves_unless_inherited() -> None:
    owner = AnonVma(Machine().node.objects.anon_vma)
    inherited = anon_vma_fork(owner)

    assert is_mergeable_anon_vma(None, None)
    assert is_mergeable_anon_vma(owner, owner)
    assert is_mergeable_anon_vma(owner, None)
    assert is_mergeable_anon_vma(None, owner)
    assert not is_mergeable_anon_vma(owner, AnonVma(owner.cache))
    assert not is_mergeable_anon_vma(inherited, None)
    assert merge(vma(2, 4), vma(4, 6, anon_vma=owner)).anon_vma is owner


@pytest.mark.parametrize("harm", ["starts", "overlap", "cache"])
def test_validate_finds_damage(harm: str) -> None:
    vmas = tree(vma(2, 4), vma(4, 6))
    if harm == "starts":
        vmas.starts[1] += 1
    elif harm == "overlap":
        vmas.items[0] = vma(2, 5)
    else:
        vmas.cached = vma(2, 4)

    with pytest.raises(AssertionError, match="VmaTree"):
        vmas.validate()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8), st.booleans()), max_size=25))
def test_the_tree_agrees_with_a_dict_of_pages(steps: list[tuple[int, int, bool]]) -> None:
    """Insert over, or remove, ranges; look at every page afterwards."""
    vmas = VmaTree()
    model: dict[int, Vma] = {}
    for start, count, insert in steps:
        low, high = vmas.span(start * PAGE_SIZE, (start + count) * PAGE_SIZE)
        old = vmas.overlapping(start * PAGE_SIZE, (start + count) * PAGE_SIZE)
        pieces: list[Vma] = []
        if old and old[0].start < start * PAGE_SIZE:
            pieces.append(old[0].clip(0, start * PAGE_SIZE))
        if insert:
            pieces.append(vma(start, start + count))
        if old and old[-1].end > (start + count) * PAGE_SIZE:
            pieces.append(old[-1].clip((start + count) * PAGE_SIZE, old[-1].end))
        vmas.splice(low, high, pieces)
        vmas.validate()
        for page in range(start, start + count):
            model.pop(page, None)
        for piece in pieces:
            for page in range(piece.start // PAGE_SIZE, piece.end // PAGE_SIZE):
                model[page] = piece

        for page in range(42):
            assert vmas.find(page * PAGE_SIZE) is model.get(page)
            above = [model[at] for at in sorted(model) if at >= page]
            assert vmas.find_vma(page * PAGE_SIZE) is (above[0] if above else None)
