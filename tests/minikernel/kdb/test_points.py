"""Points are the user's: they outlive any one copy of the machine."""

import pickle
from pathlib import Path

from minikernel.kdb.points import Breakpoint
from tests.minikernel.kdb.test_sessions import bare, session

__all__ = ["bare"]


def test_points_can_be_sent_to_another_copy_of_the_machine(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, _):
        for line in ("break store if $eax == 3", "tbreak *store+1", "watch *(int*)&counter", "catch syscall write"):
            assert it.execute(line)

        assert pickle.loads(pickle.dumps(it.points)) == it.points


def test_a_breakpoint_finds_its_page_again_in_a_machine_that_was_booted_anew(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, _):
        it.execute("break store")
        [point] = it.points.values()
        assert isinstance(point, Breakpoint)
        assert point.page is not None
        it.execute("stepi")
        it.execute("starti")

        assert point.applies_to(it.task.tgid, it.mm)


def test_a_breakpoint_in_memory_of_a_process_is_for_that_process(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, _):
        it.execute("break *$sp")
        [point] = it.points.values()
        assert isinstance(point, Breakpoint)

        assert point.page is None
        assert point.applies_to(it.task.tgid, it.mm)
        assert not point.applies_to(it.task.tgid + 1, it.mm)
