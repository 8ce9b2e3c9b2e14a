"""The validators find what they are there to find."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from emu.x86 import PAGE_SIZE, PTE_P, PTE_RW, PTE_US, PTE_XD, Pfn, VirtAddr
from minikernel.abi.mman import MAP_SHARED, PROT_EXEC, PROT_READ
from minikernel.mm.mmap import install_special_mapping
from minikernel.mm.page import PG_dirty, PG_uptodate
from minikernel.mm.validate import validate_mm, validate_node, validate_page_cache
from minikernel.mm.vma import VM_EXEC, VM_MAYWRITE, VM_SHARED, VM_WRITE, SpecialMapping
from tests.minikernel.mm.touch import BASE, RW, Machine, Store, map_fixed, pfn_of, poke, touch

ANON_PAGE = BASE
FILE_PAGE = BASE + 2 * PAGE_SIZE
ZERO_PAGE = BASE + PAGE_SIZE
READ_PAGE = BASE + 4 * PAGE_SIZE
VDSO = BASE + 8 * PAGE_SIZE


class Story(Machine):
    """An address space with a page of every kind."""

    def __init__(self) -> None:
        super().__init__(ram=4 << 20)
        self.space = mm = self.mm()
        self.disk = self.file(store=Store(bytes(2 * PAGE_SIZE)))
        map_fixed(mm, ANON_PAGE, 2)
        poke(mm, ANON_PAGE, 1)
        touch(mm, ZERO_PAGE)
        map_fixed(mm, FILE_PAGE, 2, RW, MAP_SHARED, self.disk)
        poke(mm, FILE_PAGE, 1)
        touch(mm, FILE_PAGE + PAGE_SIZE)
        map_fixed(mm, READ_PAGE, 1, PROT_READ)
        pfn = self.node.alloc_page()
        assert pfn is not None
        self.held[pfn] = 1
        install_special_mapping(mm, VDSO, [pfn], PROT_READ | PROT_EXEC, "[vdso]")
        touch(mm, VDSO)
        self.validate()

    def entry(self, address: int, change: Callable[[int], int]) -> None:
        self.space.pgtable.set(address, change(self.space.pgtable.get(address)))

    def vma(self, index: int, **changes: object) -> None:
        """Forge mapping number *index*, books and all."""
        forged = replace(self.space.vmas.items[index], **changes)
        self.space.replace(index, index + 1, [forged], merge=False)

    @property
    def cache_pfn(self) -> Pfn:
        return self.disk.cache.pages[0]


def stray_entry(story: Story) -> None:
    story.space.pgtable.set(BASE + 100 * PAGE_SIZE, story.space.pgtable.get(ANON_PAGE))


def wrong_owner(story: Story, address: int) -> None:
    story.node.mem_map.owner[pfn_of(story.space, address)] = None


def wrong_index(story: Story, address: int) -> None:
    story.node.mem_map.index[pfn_of(story.space, address)] += 1


def file_page_of_no_file(story: Story) -> None:
    flags = story.space.vmas.items[1].flags & ~(VM_SHARED | VM_WRITE) | VM_MAYWRITE
    story.vma(1, mapping=None, flags=flags)
    story.entry(FILE_PAGE, lambda pte: pte & ~PTE_RW)


DAMAGE: list[tuple[str, Callable[[Story], object]]] = [
    ("no mapping", stray_entry),
    ("rss_anon is 2", lambda story: setattr(story.space, "rss_anon", 2)),
    ("rss_file is 0", lambda story: setattr(story.space, "rss_file", 0)),
    ("rss_shmem is 1", lambda story: setattr(story.space, "rss_shmem", 1)),
    ("total_vm is 0", lambda story: setattr(story.space, "total_vm", 0)),
    ("locked_vm is 1", lambda story: setattr(story.space, "locked_vm", 1)),
    ("page-aligned", lambda story: story.vma(0, start=VirtAddr(BASE - 1))),
    ("leaves user space", lambda story: story.vma(3, end=VirtAddr(1 << 48))),
    ("rights it may not have", lambda story: story.vma(0, flags=VM_EXEC)),
    ("pages of no file", lambda story: story.vma(1, file=None)),
    ("without a page cache", lambda story: story.vma(2, flags=story.space.vmas.items[2].flags | VM_SHARED)),
    ("unknown to the owner", lambda story: story.space.vmas.items[0].anon_vma.vmas.clear()),  # type: ignore[union-attr]
    ("unknown to its file", lambda story: story.disk.cache.vmas.clear()),
    ("swapoff would not find it", lambda story: story.entry(ANON_PAGE, lambda pte: pte & ~PTE_P)),
    ("differ about user access", lambda story: story.entry(ANON_PAGE, lambda pte: pte & ~PTE_US)),
    ("writable, its mapping is not", lambda story: story.entry(VDSO, lambda pte: pte | PTE_RW)),
    ("executable, its mapping is not", lambda story: story.entry(ANON_PAGE, lambda pte: pte & ~PTE_XD)),
    ("not the zero page", lambda story: story.entry(ZERO_PAGE, lambda pte: pte + PAGE_SIZE)),
    ("zero page is writable", lambda story: story.entry(ZERO_PAGE, lambda pte: pte | PTE_RW)),
    ("the mapping owns none", lambda story: story.vma(0, anon_vma=None)),
    ("strange owner", lambda story: wrong_owner(story, ANON_PAGE)),
    ("another index", lambda story: wrong_index(story, ANON_PAGE)),
    ("of another file", lambda story: wrong_owner(story, FILE_PAGE)),
    ("another index", lambda story: wrong_index(story, FILE_PAGE)),
    ("in a private mapping", lambda story: story.vma(1, flags=story.space.vmas.items[1].flags & ~VM_SHARED)),
    (
        "the special one",
        lambda story: story.vma(3, special=SpecialMapping("[vdso]", (Pfn(5),))),
    ),
    ("a file's page in anonymous memory", file_page_of_no_file),
    ("the file does not know", lambda story: story.disk.cache.dirty.clear()),
]


@pytest.mark.parametrize(("message", "harm"), DAMAGE, ids=[message for message, _ in DAMAGE])
def test_validate_mm_finds_damage(message: str, harm: Callable[[Story], object]) -> None:
    story = Story()
    harm(story)

    with pytest.raises(AssertionError, match=message):
        validate_mm(story.space)


CACHE_DAMAGE: list[tuple[str, Callable[[Story], object]]] = [
    ("belongs to", lambda story: story.node.mem_map.owner.__setitem__(story.cache_pfn, None)),
    ("says it is page", lambda story: story.node.mem_map.index.__setitem__(story.cache_pfn, 9)),
    (
        "not up to date",
        lambda story: story.node.mem_map.flags.__setitem__(
            story.cache_pfn, story.node.mem_map.flags[story.cache_pfn] & ~PG_uptodate
        ),
    ),
    (
        "list of dirty pages differ",
        lambda story: story.node.mem_map.flags.__setitem__(
            story.cache_pfn, story.node.mem_map.flags[story.cache_pfn] & ~PG_dirty
        ),
    ),
    ("not cached is dirty", lambda story: story.disk.cache.dirty.add(77)),
    (
        "another file is listed",
        lambda story: story.disk.cache.vmas.__setitem__(story.space.vmas.items[0], story.space),
    ),
    ("that is gone is listed", lambda story: story.space.vmas.splice(0, len(story.space.vmas), [])),
]


@pytest.mark.parametrize(("message", "harm"), CACHE_DAMAGE, ids=[message for message, _ in CACHE_DAMAGE])
def test_validate_page_cache_finds_damage(message: str, harm: Callable[[Story], object]) -> None:
    story = Story()
    harm(story)

    with pytest.raises(AssertionError, match=message):
        validate_page_cache(story.disk.cache)


def test_validate_node_finds_a_leak_a_lost_map_and_a_lost_reverse_map() -> None:
    story = Story()
    pfn = story.node.alloc_page()
    with pytest.raises(AssertionError, match="1 references, 0 are known"):
        story.validate()
    assert pfn is not None
    story.node.put_page(pfn)
    story.validate()

    frame = pfn_of(story.space, ANON_PAGE)
    story.node.mem_map.mapcount[frame] += 1
    with pytest.raises(AssertionError, match="has mapcount 2, 1 entries map it"):
        story.validate()


def test_validate_node_checks_caches_that_nobody_maps() -> None:
    machine = Machine(ram=4 << 20)
    cache = machine.file(store=Store(bytes(PAGE_SIZE))).cache
    cache.read(0, 1)
    validate_node(machine.node, [], [cache])

    with pytest.raises(AssertionError, match="references"):
        validate_node(machine.node, [])
