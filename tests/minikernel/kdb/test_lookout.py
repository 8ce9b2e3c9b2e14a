"""Watched memory of a machine: who touched it, and that the run is none the worse for it."""

from pathlib import Path

import pytest

from emu.cpu import RIP, RSP
from emu.watch import READ, WRITE, WatchKind
from emu.x86 import PTE_A, PTE_D, PTE_RW, VirtAddr
from minikernel.kdb.lookout import Lookout, Memory, Touch, physical_in
from minikernel.kdb.machine import Machine, Why
from minikernel.report.symbols import Symbols
from tests.minikernel.kdb.conftest import build
from tests.minikernel.kdb.test_machine import free, left, machine

BOTH = READ | WRITE


@pytest.fixture
def watched(arch: str) -> Path:
    return build(arch, "watched")


def place(it: Machine, name: str) -> int:
    task = it.kernel.current or it.kernel.init
    assert task is not None
    return Symbols().addresses(task.mm, name)[0]


def linear(it: Machine, name: str, size: int, access: int) -> Memory:
    task = it.kernel.current or it.kernel.init
    assert task is not None
    return Memory(WatchKind.LINEAR, place(it, name), size, access, task.tgid)


def look(it: Machine, *memories: Memory) -> list[Touch]:
    """Every touch from here to the end."""
    it.lookout = Lookout(it.kernel)
    it.lookout.watch(memories)
    touches = []
    while (pause := it.run()).why is not Why.EXITED:
        assert pause.why is Why.WATCHED
        assert it.lookout.touches
        touches += it.lookout.touches
    it.lookout.watch([])
    it.lookout = None
    return touches


def values(touches: list[Touch]) -> list[tuple[int, int, str]]:
    return [(int.from_bytes(t.old, "little"), int.from_bytes(t.new, "little"), t.by) for t in touches]


@pytest.mark.parametrize("slice_", [97, 997, 2_000_000])
def test_a_run_that_is_watched_is_the_free_run(watched: Path, slice_: int) -> None:
    """The stack, data and code that nobody touches; in slices that end anywhere."""
    expected = free(watched, slice_)
    with machine(watched, slice_=slice_) as it:
        task = it.kernel.current or it.kernel.init
        assert task is not None
        stack = it.kernel.cpu.regs[RSP] - 0x400
        memories = [
            linear(it, "counter", 4, BOTH),
            linear(it, "buffer", 64, BOTH),
            Memory(WatchKind.LINEAR, stack, 0x400, WRITE, task.tgid),
            Memory(WatchKind.ENTRY, place(it, "counter"), 0, WRITE, task.tgid),
            Memory(WatchKind.PHYSICAL, 0x20_0000, 0x1000, BOTH),
        ]
        assert len(look(it, *memories)) > 100
        assert left(it) == expected


def test_writes_are_told_with_what_was_there(watched: Path) -> None:
    with machine(watched) as it:
        touches = look(it, linear(it, "counter", 4, WRITE))
        assert values(touches) == [(0, 1, "cpu"), (1, 1, "cpu"), (1, 2, "cpu"), (2, 3, "cpu")]
        assert all(touch.pc and touch.size == 4 for touch in touches)


def test_reads_are_told_apart(watched: Path) -> None:
    with machine(watched) as it:
        touches = look(it, linear(it, "counter", 4, READ))
        assert values(touches) == [(2, 2, "cpu")]


def test_the_kernel_is_seen_when_it_reads_and_writes_for_the_program(watched: Path) -> None:
    with machine(watched) as it:
        touches = look(it, linear(it, "buffer", 5, BOTH))
        of_kernel = [
            (t.access, t.address - t.memory.address, t.size, t.old, t.new) for t in touches if t.by == "kernel"
        ]
        assert {t.where for t in touches if t.by == "kernel"} == {
            "mm.uaccess.copy_to_user",
            "mm.uaccess.copy_from_user",
        }
        assert of_kernel == [(WRITE, 0, 5, bytes(5), b"hello"), (READ, 2, 3, b"hello", b"hello")]
        assert {t.by for t in touches if t.new == b"xxxxx"} == {"cpu"}


def test_a_change_by_the_kernel_needs_nobody_in_between(watched: Path) -> None:
    with machine(watched) as it:
        touches = look(it, linear(it, "buffer", 5, WRITE))
        assert (touches[0].by, touches[0].new) == ("kernel", b"hello")


def test_a_childs_copy_is_not_the_parents_memory(watched: Path) -> None:
    with machine(watched) as it:
        first = it.kernel.init
        assert first is not None
        touches = look(it, linear(it, "counter", 4, WRITE))
        assert {touch.pid for touch in touches} == {first.pid}


def run_to(it: Machine, name: str) -> None:
    if it.lookout is not None:
        it.lookout.watch([])
    it.arm({place(it, name)})
    assert it.run().why is Why.BREAK
    it.arm(set())


def test_a_frame_is_watched_in_every_process(watched: Path) -> None:
    """The shared page, which the child writes, and the parent reads."""
    with machine(watched) as it:
        task = it.kernel.init
        assert task is not None
        it.lookout = Lookout(it.kernel)
        it.lookout.watch([linear(it, "shared", task.abi.word, WRITE)])
        assert it.run().why is Why.WATCHED
        shared = int.from_bytes(it.lookout.touches[0].new, "little")
        while physical_in(task.mm, shared) is None:
            it.step()
        phys = physical_in(task.mm, shared)
        assert phys is not None
        touches = look(it, Memory(WatchKind.PHYSICAL, phys, 1, BOTH))
        by_cpu = [(t.pid == task.pid, t.access, t.old, t.new) for t in touches if t.by == "cpu"]
        assert by_cpu == [(False, WRITE, b"\1", b"\2"), (True, READ, b"\2", b"\2")]


def test_shared_memory_is_watched_for_all_who_share_it(watched: Path) -> None:
    """The child's store is seen where it is made, not when the kernel is next looked at."""
    with machine(watched) as it:
        task = it.kernel.init
        assert task is not None
        it.lookout = Lookout(it.kernel)
        it.lookout.watch([linear(it, "shared", task.abi.word, WRITE)])
        assert it.run().why is Why.WATCHED
        shared = int.from_bytes(it.lookout.touches[0].new, "little")
        touches = look(it, Memory(WatchKind.LINEAR, shared, 1, WRITE, task.tgid))
        written = [(t.by, t.pid == task.pid, t.old, t.new) for t in touches if t.new and t.old]
        assert written[-2:] == [("cpu", True, b"\0", b"\1"), ("cpu", False, b"\1", b"\2")]


def test_a_page_that_is_copied_is_read_by_the_kernel(watched: Path) -> None:
    """The frame of `counter`, when the child writes to it: told of the frame, and not of the variable."""
    with machine(watched) as it:
        task = it.kernel.init
        assert task is not None
        run_to(it, "caller")
        phys = physical_in(task.mm, place(it, "counter"))
        assert phys is not None
        frame = Memory(WatchKind.PHYSICAL, phys, 4, READ)
        touches = look(it, frame, linear(it, "counter", 4, READ))
        assert [(t.memory, t.by, t.pid == task.pid) for t in touches] == [(frame, "kernel", False)]
        assert "copy" in touches[0].where


def test_an_entry_is_written_by_the_kernel_and_by_the_walk(watched: Path) -> None:
    with machine(watched) as it:
        task = it.kernel.init
        assert task is not None
        entry = Memory(WatchKind.ENTRY, place(it, "counter"), 0, WRITE, task.tgid)
        run_to(it, "caller")
        pte = task.mm.pgtable.get(entry.address)
        task.mm.pgtable.set(VirtAddr(entry.address), pte & ~(PTE_A | PTE_D))  # as reclaim does
        it.kernel.cpu.flush_tlb()
        touches = look(it, entry)
        changes = [(t.by, int.from_bytes(t.old, "little") ^ int.from_bytes(t.new, "little")) for t in touches]
        assert changes[0] == ("walk", PTE_A | PTE_D)
        assert changes[1] == ("kernel", PTE_RW)  # fork takes the right to write away


def test_stepping_tells_the_same(watched: Path) -> None:
    found = []
    for step in (False, True):
        with machine(watched) as it:
            it.lookout = Lookout(it.kernel)
            it.lookout.watch([linear(it, "counter", 4, WRITE)])
            seen = []
            while (pause := it.step() if step else it.run()).why is not Why.EXITED:
                if pause.why is Why.WATCHED:
                    seen += [(t.icount, t.pc, t.old, t.new, it.kernel.cpu.regs[RIP]) for t in it.lookout.touches]
            found.append(seen)
    assert found[0] == found[1]
    assert len(found[0]) == 4


def test_a_load_beside_watched_bytes_is_none_of_them(watched: Path) -> None:
    """`odd` is not aligned: a load of it comes as two aligned ones, which reach three bytes further on both sides."""
    with machine(watched) as it:
        odd = linear(it, "crooked", 3, READ)
        assert odd.address % 4 == 0 or odd.address % 2
        touches = look(it, odd, odd._replace(address=odd.address + 3, size=4), odd._replace(address=odd.address + 7))
        assert [touch.memory.address - odd.address for touch in touches] == [3]
