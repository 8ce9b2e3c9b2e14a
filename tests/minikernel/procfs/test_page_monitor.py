"""pagemap, kpagecount, kpageflags, clear_refs, smaps: what guest/mm/page_monitor.c cannot ask the host."""

import os
from struct import unpack

import pytest

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_A
from minikernel.abi.abi import X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ipc import IPC_PRIVATE
from minikernel.fs.open import do_open
from minikernel.mm.buddy import MAX_PAGE_ORDER
from minikernel.mm.mmap import do_mmap
from minikernel.mm.page import PG_buddy, PG_referenced, PG_table
from minikernel.procfs import maps
from minikernel.procfs.clear_refs import clear_refs
from minikernel.procfs.mount import procfs
from minikernel.procfs.page import KPF_MMAP, KPF_NOPAGE, KPF_ZERO_PAGE, kpagecount, kpageflags
from minikernel.procfs.pid_mem import PM_PRESENT, PM_SWAP, pagemap_entry
from tests.minikernel.mm.touch import ANON, RW, WRITE, Machine, touch
from tests.minikernel.syscalls.calls import Caller
from tests.minikernel.syscalls.file_calls import Emulated


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_page_in_swap_shows_its_place(machine: Machine) -> None:
    """Bits 1-5 of the raw entry are the area, from bit 8 on the slot."""
    mm = machine.mm()
    for area, slot in ((0, 1), (3, 0x12345), (31, (1 << 50) - 1)):
        entry = pagemap_entry(mm, area << 1 | slot << 8)

        assert entry & PM_SWAP
        assert not entry & PM_PRESENT
        assert (entry & 31, entry >> 5 & (1 << 50) - 1) == (area, slot)


def test_every_frame_of_a_free_block_is_the_buddy_allocators(machine: Machine) -> None:
    """Whatever range is asked for, the answer is that of the whole."""
    node = machine.node
    frames = node.mem_map.nr_frames
    whole = kpageflags(node, 0, frames)
    inside = {
        pfn
        for zone in node.zones
        for order in range(MAX_PAGE_ORDER + 1)
        for head in zone.buddy.free_area[order]
        for pfn in range(head, head + (1 << order))
    }

    assert {pfn for pfn in range(frames) if whole[pfn] & PG_buddy} == inside
    assert len(inside) > frames // 2
    for first in (0, 1, 511, 1023, 1025, frames - 3):
        assert kpageflags(node, first, min(first + 700, frames)) == whole[first : first + 700]


def test_flags_and_counts_of_frames(machine: Machine) -> None:
    mm = machine.mm()
    touch(mm, do_mmap(mm, 0, PAGE_SIZE, RW, ANON, None, 0), WRITE)
    flags = kpageflags(machine.node, 0, machine.node.mem_map.nr_frames + 2)
    counts = kpagecount(machine.node, 0, machine.node.mem_map.nr_frames + 2)

    assert flags[-1] == flags[-2] == KPF_NOPAGE
    assert counts[-1] == counts[-2] == 0
    assert flags[machine.node.zero_pfn] & KPF_ZERO_PAGE
    assert flags[mm.pgtable.root >> PAGE_SHIFT] & PG_table
    mapped = [pfn for pfn, count in enumerate(counts) if count]
    assert mapped
    assert all(flags[pfn] & KPF_MMAP for pfn in mapped)
    assert not any(flags[pfn] >> 27 & 31 for pfn in range(len(flags))), "our own flags are nobody's business"


@pytest.fixture
def ours(tmp_path: os.PathLike[str]) -> Emulated:
    """A machine with one task, /proc mounted."""
    emulated = Emulated(X86_64, os.fsencode(tmp_path))
    emulated.vfs.mount_at(b"/proc", procfs(emulated.caller.kernel))
    return emulated


def test_frames_are_hidden_from_those_who_are_not_root(ours: Emulated) -> None:
    task = ours.caller.task
    ours.put(b"there")
    page = ours.memory() >> PAGE_SHIFT
    seen = []
    for effective in (task.cred.cap_effective, 0):
        task.cred.cap_effective = effective
        file = do_open(task.fs, task.cred, b"/proc/self/pagemap", os.O_RDONLY)
        seen.append(unpack("<Q", file.pread(8, page * 8))[0])
        file.put_file()

    assert seen[0] & (1 << 55) - 1
    assert seen[1] == seen[0] & ~((1 << 55) - 1)


def test_clear_refs_forgets_what_was_used_and_flushes(ours: Emulated) -> None:
    task, mm = ours.caller.task, ours.caller.task.mm
    ours.put(b"used")
    address = ours.memory()
    pte = mm.pgtable.get(address)
    pfn = pte >> PAGE_SHIFT & (1 << 40) - 1
    mm.mem_map.flags[pfn] |= PG_referenced
    mm.tlb_dirty = False
    clear_refs(task, b"3\n")
    assert mm.pgtable.get(address) & PTE_A

    clear_refs(task, b"1\n")
    assert not mm.pgtable.get(address) & PTE_A
    assert not mm.mem_map.flags[pfn] & PG_referenced
    assert mm.tlb_dirty
    for bad in (b"0", b"6", b"-1", b"1 1", b"", b"\xb2"):
        with pytest.raises(LinuxError) as caught:
            clear_refs(task, bad)
        assert caught.value.errno == Errno.EINVAL


def test_rollup_tells_kinds_apart() -> None:
    """Three private pages, two of a segment that is mapped twice."""
    caller = Caller()
    shmid = caller.call("shmget", IPC_PRIVATE, 2 * PAGE_SIZE, 0o600)
    for _ in range(2):
        where = caller.call("shmat", shmid, 0, 0)
        for page in range(2):
            touch(caller.task.mm, where + page * PAGE_SIZE, WRITE)
    for page in range(3):
        touch(caller.task.mm, caller.scratch + page * PAGE_SIZE, WRITE)
    rows = dict(line.split(b":", 1) for line in maps.smaps_rollup(caller.task).splitlines()[1:])
    amounts = {name.decode(): int(text.split()[0]) for name, text in rows.items()}

    assert [amounts[name] for name in ("Rss", "Pss", "Pss_Anon", "Pss_File", "Pss_Shmem")] == [28, 20, 12, 0, 8]
    assert [amounts[name] for name in ("Shared_Dirty", "Private_Dirty", "Anonymous", "Swap")] == [16, 12, 12, 0]
    assert b"/SYSV00000000 (deleted)" in maps.maps(caller.task)
