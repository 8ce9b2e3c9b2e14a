"""What is told of frames is so: their history, their owners, their flags, the counters of the kernel."""

from collections import Counter
from pathlib import Path

from emu.x86 import PTE_P
from minikernel.kdb.session import Session
from minikernel.mm.page import PG_tail
from minikernel.mm.pgtable import pte_pfn
from minikernel.report.frame_history import frame_lives
from minikernel.report.frame_log import FREED
from minikernel.report.peek import peek_anywhere
from tests.minikernel.kdb.test_sessions import bare, session

__all__ = ["bare"]


def check_notes(it: Session) -> int:
    """Every frame that is free was given back, every one in use was not; how many have notes."""
    mem_map = it.kernel.node.mem_map
    noted = 0
    for pfn in range(mem_map.nr_frames):
        notes = list(it.frame_log.of(pfn))
        used = bool(mem_map.refcount[pfn]) or bool(mem_map.flags[pfn] & PG_tail)
        if notes:
            noted += 1
            assert (notes[-1].what != FREED) == used, f"frame {pfn:#x}: {notes}"
    return noted


def test_the_notes_are_complete(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, _):
        assert check_notes(it) > 5
        it.execute("catch fault cow_copy")
        it.execute("continue")
        assert check_notes(it) > 10
        it.execute("delete")
        it.execute("continue")
        check_notes(it)


def test_a_frame_lives_from_its_allocation_to_its_end(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        it.execute("catch fault cow_copy")
        it.execute("continue")
        child = it.kernel.current
        assert child is not None
        counter = it.symbol("counter")
        assert counter is not None
        old, new = it.explanations[-1].fault.pte, child.mm.pgtable.get(counter)
        it.execute("delete")
        it.execute("until bye")

        copied = frame_lives(it.frame_log, it.explanations, it.events, pte_pfn(new))
        words = [row[2] for life in copied for row in life.rows()]
        assert words[0] == "allocated by _wp_page_copy (minikernel/mm/wp_fault.py)"
        assert words[1].startswith(f"mapped at {counter & ~4095:#x} (fault ")
        assert any(text == f"unmapped from {counter & ~4095:#x}: the process ends" for text in words)
        assert words[-1].startswith("freed, the last user gone: zap_range")

        left = [
            row[2]
            for life in frame_lives(it.frame_log, it.explanations, it.events, pte_pfn(old))
            for row in life.rows()
        ]
        assert any(text.startswith("one more process maps it: _copy_page_range") for text in left)
        assert any(text.startswith("left by a write to") and f"frame {pte_pfn(new):#x}" in text for text in left)

        printed.clear()
        it.execute(f"frame-history {pte_pfn(new)}")
        assert "now" in printed[-1]
        assert [row["what"] for row in it.data["history"]] == words


def test_old_notes_are_forgotten_and_that_is_said(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        it.execute("stepi 5")
        for _ in range((1 << 20) // 2 + 1):
            it.frame_log.note(0, 5)
            it.frame_log.note(FREED, 5)
        assert it.frame_log.forgotten_before > 0
        it.execute("frame-history 6")
        assert any("is forgotten" in line for line in printed)


def test_old_faults_are_forgotten_and_that_is_said(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        it.execute("until bye")
        last = it.explanations[-1].number
        del it.explanations[:2]
        assert not it.execute("explain 2")
        assert "Faults 1 to 2 are too long ago" in printed[-1]
        assert it.execute("explain 3")
        assert it.data["explanation"]["number"] == 3
        assert it.execute(f"explain {last}")
        assert it.data["explanation"]["number"] == last


def test_owners_are_those_of_the_page_tables(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, _):
        it.execute("catch fault cow_copy")
        it.execute("continue")
        it.execute("phys owner 0 4096")
        mapped: Counter[int] = Counter()
        for mm in it.kernel.address_spaces():
            frames = {pte_pfn(pte) for _, pte in mm.pgtable.entries(0, mm.layout.task_size) if pte & PTE_P}
            mapped.update(frames)
        cells = it.data["cells"]
        assert len(cells) == it.kernel.physmem.nr_frames
        for pfn, sign in enumerate(cells):
            users = mapped[pfn]
            assert sign in ("*" if users > 1 else "12" if users else "-."), f"frame {pfn:#x}"
        assert {"1", "2", "*"} <= set(cells)


def test_flags_are_counted(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        assert it.execute("pageflags")
        assert sum(row["frames"] for row in it.data["rows"]) == it.kernel.physmem.nr_frames
        pfn = it.kernel.node.zero_pfn
        assert it.execute(f"pageflags {pfn}")
        assert printed[-1].split()[:2] == ["frame", f"{pfn:#x}:"]
        assert "reserved" in it.data["flags"]


def test_counters_show_what_has_changed(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        assert it.execute("meminfo free")
        assert it.data["MemFree"] == it.kernel.node.nr_free * 4
        assert not it.execute("meminfo nothing")
        assert it.execute("vmstat")
        before = it.data["pgfault"]
        it.execute("until bye")
        printed.clear()
        assert it.execute("vmstat pgfault")
        now = it.data["pgfault"]
        assert now > before
        assert printed[0].split() == ["pgfault", str(now), f"+{now - before}"]
        assert it.execute("vmstat all")
        assert 0 in it.data.values()
        assert not it.execute("vmstat nothing")


def test_every_use_of_a_frame_is_told_in_a_sentence(bare: tuple[str, Path]) -> None:
    """Of all frames of a machine with two processes; nothing is left over but what is the kernel's own."""
    with session(bare[1]) as (it, printed):
        it.execute("catch fault cow_copy")
        it.execute("continue")
        printed.clear()
        root = it.mm.pgtable.root >> 12
        for pfn in (root, it.kernel.node.zero_pfn, 0):
            it.execute(f"page {pfn}")
        text = "".join(printed)
        assert "a page table of process 3, its root, the " in text
        assert "the shared zero page" in text
        assert "reserved at boot" in text
        stack = it.task.stack
        area = it.kernel.kernel_half.vmalloc._areas[stack]
        it.execute(f"page {area.pages[0]}")
        assert "stack of task 3, page 0" in "".join(printed)


def test_the_kernels_half_is_read_through_its_tables(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, _):
        ram, base = it.kernel.physmem.ram, it.kernel.node.layout.page_offset
        for at, size in ((0x1000, 64), ((2 << 20) - 8, 16), (it.kernel.physmem.size - 8, 8)):
            assert peek_anywhere(it.mm, base + at, size) == ram[at : at + size]
        end = base + it.kernel.physmem.size
        assert peek_anywhere(it.mm, end - 4, 8)[:4] == ram[-4:]
        assert peek_anywhere(it.mm, end + (1 << 30), 8) == b""
        assert peek_anywhere(it.mm, 1 << 62, 8) == b""
        counter = it.symbol("counter")
        assert counter is not None
        assert peek_anywhere(it.mm, counter, 4) == it.read(counter, 4)
        it.execute("stepi 3")
        it.execute(f"xp/2xg {it.mm.pgtable.root}")
        assert it.data["units"][0] == it.kernel.physmem.view64[it.mm.pgtable.root >> 3]
