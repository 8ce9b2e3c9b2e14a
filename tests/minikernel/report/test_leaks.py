"""The leak report: nothing is lost by programs, and what is lost on purpose is found, with the place that took it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from guest.builder import GUEST, Target, build_all, read_program
from minikernel.boot import System
from minikernel.config import Config
from minikernel.kernel import Kernel
from minikernel.mm.gfp import GFP_HIGHUSER
from minikernel.report.leaks import Baseline, left_over, lost, usage


def program(name: str) -> Path:
    topic, _, stem = name.partition("/")
    target = Target(read_program(GUEST / topic / f"{stem}.c"), "x86-64", "static")
    build_all([target])
    return target.path


@pytest.fixture
def system() -> Iterator[System]:
    config = Config(argv=(bytes(program("start/hello")),), ram=16 << 20)
    with System(config, slab_debug=True) as made:
        made.kernel.node.track_allocations()
        yield made
    made.kernel.cpu.close()


def ended(system: System) -> Kernel:
    system.power_off()
    system.kernel.stacks.free_cached()
    return system.kernel


def test_a_machine_that_runs_says_who_holds_what(system: System) -> None:
    system.exec_init()
    lines = list(usage(system.kernel))
    assert [line for line in lines if not line.startswith(" ")] == [
        *("frames", "mappings", "objects of the kernel", "lost: nothing")
    ]
    assert any(line.strip().endswith("page tables of process 2 (hello)") for line in lines)
    assert any(line.startswith("  process 2 (hello): ") for line in lines)
    assert "         1  task_struct" in lines
    total = sum(int(line.split()[0].replace(",", "")) for line in lines[1 : lines.index("mappings")])
    node = system.kernel.node
    assert total == node.mem_map.nr_frames - node.nr_free


def test_a_machine_that_was_switched_off_has_lost_nothing(system: System) -> None:
    boot = Baseline.of(system.kernel)
    system.exec_init()
    lines, count = left_over(ended(system), boot)
    assert (count, lines[-1]) == (0, "lost: nothing")


def test_a_frame_that_nobody_knows_is_found_with_the_place_that_took_it(system: System) -> None:
    boot = Baseline.of(system.kernel)
    system.exec_init()
    pfn = system.kernel.node.alloc_page(GFP_HIGHUSER)
    assert pfn is not None
    (found,) = lost(system.kernel)
    assert (found.pfn, found.references, found.known) == (pfn, 1, 0)
    assert found.site.startswith("test_leaks.py:")
    assert found.site.endswith(" test_a_frame_that_nobody_knows_is_found_with_the_place_that_took_it")
    lines, count = left_over(ended(system), boot)
    assert count >= 1
    assert any(f"frame {pfn:#x}: 1 reference, 0 known, allocated in test_leaks.py:" in line for line in lines)


def test_a_reference_too_many_is_found(system: System) -> None:
    system.exec_init()
    task = system.kernel.init
    assert task is not None
    _, pte = next(iter(task.mm.pgtable.entries(0, task.mm.layout.task_size)))
    pfn = pte >> 12 & 0xFFFFF
    system.kernel.node.get_page(pfn)  # type: ignore[arg-type]  # a frame number
    (found,) = lost(system.kernel)
    assert (found.pfn, found.references - found.known) == (pfn, 1)


def test_the_pool_of_huge_pages_is_not_lost(system: System) -> None:
    boot = Baseline.of(system.kernel)
    pool = system.kernel.node.hugetlb
    pool.set_nr(2)
    system.exec_init()
    lines = list(usage(system.kernel))
    assert f"  {2 << pool.order:>8,}  huge pages" in lines
    assert lines[-1] == "lost: nothing"
    lines, count = left_over(ended(system), boot)
    assert f"{2 << pool.order:,} frames are set aside as huge pages" in lines
    assert (count, lines[-1]) == (0, "lost: nothing")


def test_a_huge_page_that_the_pool_forgot_is_found(system: System) -> None:
    boot = Baseline.of(system.kernel)
    pool = system.kernel.node.hugetlb
    pool.set_nr(1)
    pfn = pool.free.pop()
    (found,) = lost(system.kernel)
    assert (found.pfn, found.references, found.known) == (pfn, 1, 0)
    assert left_over(ended(system), boot)[1] == 1


def test_an_object_that_nobody_gave_back_is_found(system: System) -> None:
    boot = Baseline.of(system.kernel)
    system.kernel.node.objects.filp.alloc()
    lines, count = left_over(ended(system), boot)
    assert count == 1
    at = lines.index("  1 object of filp more than at boot")
    assert lines[at + 1].startswith("    1 from test_leaks.py:")


@pytest.mark.parametrize(("name", "words"), [("start/hello", ()), ("process/fork_cow", ()), ("thread/pthreads", ())])
def test_programs_leave_nothing_behind(name: str, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "minikernel", "run", "--leaks", *words, "--", os.fsdecode(program(name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-2:] == ["lost: nothing", "nothing is lost"]
