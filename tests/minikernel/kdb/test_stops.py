"""What stops a program: points of every kind on programs in C, and what they make the debugger do."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from emu.x86 import Pfn
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.events import Event, MmSwapOut, MmVmscan, OomKill, SysEnter, SysExit
from minikernel.kdb.breaks import commands_for
from minikernel.kdb.catches import Catchpoint
from minikernel.kdb.points import Breakpoint, Point
from minikernel.kdb.session import Session
from minikernel.kdb.shell import run_script
from tests.minikernel.kdb.conftest import build
from tests.minikernel.kdb.test_sessions import session


@contextmanager
def debugged(arch: str, name: str, folder: Path) -> Iterator[tuple[Session, Callable[[str], str]]]:
    """A session on a program of this directory, and a prompt for it: commands in, what they show out."""
    shutil.copy(build(arch, name), folder / name)
    with session(folder, program=name) as (it, printed):

        def prompt(lines: str) -> str:
            printed.clear()
            run_script(it, lines.splitlines())
            return "".join(printed)

        yield it, prompt


def changes(text: str) -> list[tuple[str, ...]]:
    """The values that watchpoints have told: (old, new), or (value,)."""
    pairs = re.findall(r"Old value = (.*)\nNew value = (.*)|Value = (.*)", text)
    return [tuple(each for each in pair if each) for pair in pairs]


def go_on(prompt: Callable[[str], str], times: int) -> str:
    return "".join(prompt("continue") for _ in range(times))


def test_values_change_as_gdb_tells_it(arch: str, tmp_path: Path) -> None:
    """Recorded from Debian's gdb 13 on the same programs, run natively: `watch` and `awatch`, to the program's end."""
    with debugged(arch, "watched", tmp_path) as (_, prompt):
        prompt("break main\nrun\nwatch *(int*)&counter")
        assert changes(go_on(prompt, 4)) == [("0", "1"), ("1", "2"), ("2", "3")]
        prompt("delete\nbreak main if 1\nrun\nawatch *(int*)&sum")
        assert changes(go_on(prompt, 5)) == [("0", "3"), ("3", "5"), ("5", "6"), ("6", "3"), ("3",)]


def test_reads_alone_are_told(arch: str, tmp_path: Path) -> None:
    """gdb on an x86 would also stop at the store that changes nothing: its debug registers know no plain reads."""
    with debugged(arch, "watched", tmp_path) as (_, prompt):
        prompt("break main\nrun\nrwatch *(int*)&counter")
        assert changes(go_on(prompt, 3)) == [("2",)]


def test_a_watched_local_goes_with_its_function(arch: str, tmp_path: Path) -> None:
    """As gdb tells it, run natively: by its name, and by where it is."""
    with debugged(arch, "watched", tmp_path) as (it, prompt):
        for what in ("local", "*(int*)($fp-4)"):
            prompt(f"delete\nbreak deep\nrun\nwatch {what}")
            assert changes(go_on(prompt, 2))[-1] == ("3", "5")
            text = prompt("continue")
            assert "deleted because the program has left the block in\nwhich its expression is valid." in text
            assert "in caller (n=3)" in text
            assert len(it.points) == 1


def test_a_condition_is_about_the_frame_of_what_is_watched(arch: str, tmp_path: Path) -> None:
    """`counter` is written by leaf, which has no `sum`."""
    with debugged(arch, "story", tmp_path) as (_, prompt):
        prompt("break middle\nrun\nnext\nwatch counter + 0 * sum if sum >= 4")
        assert changes(prompt("continue")) == [("3", "6")]


def test_values_are_shown_as_their_types_have_them(arch: str, tmp_path: Path) -> None:
    with debugged(arch, "watched", tmp_path) as (_, prompt):
        prompt("break main\nrun\nwatch shared\nwatch -l crooked\nwatch counter + sum\nwatch shared[0]")
        text = go_on(prompt, 9)
        assert ("1", "2") in changes(text)
        assert re.search(
            r'Old value = \{pad = "\\000\\000", odd = 0\}\nNew value = \{pad = "\\000\\000", odd = 5\}', text
        )
        assert re.search(r"Old value = 0x0\nNew value = 0x\w+", text)
        assert "Cannot watch constant value `&counter'." in prompt("watch &counter")
        assert "(by task 3 at" in text


def test_the_kernels_part_is_told(arch: str, tmp_path: Path) -> None:
    with debugged(arch, "watched", tmp_path) as (_, prompt):
        prompt("break main\nrun\nwatch *(char*)&buffer\nrwatch *(char*)(buffer+2)")
        assert "(by the kernel in read, mm.uaccess.copy_to_user)" in prompt("continue")
        assert "(by the kernel in write, mm.uaccess.copy_from_user)" in prompt("continue")


def test_a_signal_that_is_not_passed_does_not_reach_the_program(arch: str, tmp_path: Path) -> None:
    with debugged(arch, "story", tmp_path) as (_, prompt):
        assert "received signal SIGUSR1" in prompt("handle SIGUSR1 nopass\nrun")
        assert "New value = 100" not in prompt("watch *(int*)&counter\ncontinue")
        prompt("starti\ndelete\nhandle SIGUSR1 pass nostop\nwatch *(int*)&counter if *(int*)&counter == 100")
        assert "New value = 100" in prompt("continue")


def test_a_signal_may_be_told_without_a_stop(arch: str, tmp_path: Path) -> None:
    with debugged(arch, "story", tmp_path) as (_, prompt):
        text = prompt("handle SIGUSR1 nostop print\nrun")
        assert "Program received signal SIGUSR1, User defined signal 1.\n[Inferior 1" in text
        assert "received signal" not in prompt("handle SIGUSR1 noprint\nrun")


def test_commands_of_a_point_let_the_program_go_on(arch: str, tmp_path: Path) -> None:
    with debugged(arch, "story", tmp_path) as (_, prompt):
        text = prompt(
            "set $n = 0\nhandle SIGUSR1 nostop noprint\nbreak leaf\n"
            'commands\nsilent\nset $n = $n + 1\nif $n < 4\ncontinue\nend\nprintf "leaf %d\\n",$n\nend\nrun'
        )
        assert text.endswith("leaf 4\n")
        assert "Breakpoint 1," not in text


def test_saved_points_are_made_again(arch: str, tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    with debugged(arch, "story", tmp_path) as (it, prompt):
        prompt(
            "break leaf if $icount > 5\ntbreak middle\nwatch *(int*)&counter\ncatch syscall write return EBADF\n"
            'dprintf main,"at %d\\n",$icount\nbreak @99\nignore 1 3\ncommands 2\nprint 1\nend\ndisable 4\nenable once 3'
        )
        before = [commands_for(point) for point in it.points.values()]
        assert prompt(f"save breakpoints {saved}") == f"Saved to file '{saved}'.\n"
        prompt(f"delete\nsource {saved}")
        assert [commands_for(point) for point in it.points.values()] == before
        assert len(before) == 6


def test_a_breakpoint_for_one_thread_stops_no_other(arch: str, tmp_path: Path) -> None:
    with debugged(arch, "threads", tmp_path) as (it, prompt):
        prompt("catch thread\nrun\ncontinue\ndelete")
        pids = sorted(it.kernel.tasks)
        function = next(name for name in ("worker", "work", "body") if it.symbol(name) is not None)
        prompt(f"break {function} thread {pids[-1]}")
        prompt("continue")
        assert it.kernel.current is not None
        assert it.kernel.current.pid == pids[-1]


def test_instructions_are_counted_to(arch: str, tmp_path: Path) -> None:
    with debugged(arch, "story", tmp_path) as (it, prompt):
        assert "Breakpoint 1, behind instruction 1,000" in prompt("break @1000\nrun")
        assert it.machine.icount == 1000
        prompt("tbreak @+11\ncontinue")
        assert it.machine.icount == 1011
        assert list(it.points) == [1]


def test_an_error_number_is_waited_for(tmp_path: Path) -> None:
    with debugged("x86-64", "story", tmp_path) as (it, prompt):
        prompt("catch syscall open openat ENOENT EACCES")
        [point] = it.points.values()
        assert isinstance(point, Catchpoint)

        def caught(event: Event) -> str | None:
            return point.catches(event, None, it.kernel)

        opens = NUMBERS["x86-64"]["open"]
        assert caught(SysExit("x86-64", opens, -2)) == "returned from syscall open"
        assert caught(SysExit("x86-64", opens, -13)) is not None
        assert caught(SysExit("x86-64", opens, -1)) is None
        assert caught(SysExit("x86-64", opens, 3)) is None
        assert caught(SysEnter("x86-64", opens, ())) is None
        assert caught(SysExit("x86-64", NUMBERS["x86-64"]["read"], -2)) is None


def test_events_are_chosen_by_their_fields(tmp_path: Path) -> None:
    with debugged("x86-64", "story", tmp_path) as (it, prompt):
        assert "is no FIELD=VALUE of sched_switch" in prompt("catch event mm_swap_out sched_switch pfn>=0x10")
        prompt("catch oom comm=cat victim!=7\ncatch reclaim by=kswapd")
        prompt("catch event mm_swap_out pfn>=0x10 pfn<0x20")
        oom, reclaim, swap = it.points.values()
        assert all(isinstance(each, Catchpoint) for each in (oom, reclaim, swap))

        def caught(point: Point, event: Event) -> bool:
            assert isinstance(point, Catchpoint)
            return point.catches(event, None, it.kernel) is not None

        assert [caught(swap, MmSwapOut(Pfn(pfn), 0)) for pfn in (0xF, 0x10, 0x1F, 0x20)] == [False, True, True, False]
        assert [caught(oom, OomKill(pid, name, 1, 1)) for pid, name in ((7, "cat"), (8, "cat"), (8, "dog"))] == [
            *(False, True, False)
        ]
        assert [caught(reclaim, MmVmscan(by, 1, 1, 1)) for by in ("kswapd", "direct")] == [True, False]


def test_a_breakpoint_where_a_catch_went_by_is_met(arch: str, tmp_path: Path) -> None:
    """The machine pauses behind the call for the catchpoint, whose condition fails, on the breakpoint's address."""
    with debugged(arch, "story", tmp_path) as (it, prompt):
        prompt("catch syscall mmap return if $icount == 0\ncatch syscall wait4 return\nrun\nhandle SIGUSR1 nostop")
        text = prompt("continue")
        assert "returned from syscall wait4" in text
        behind = it.registers()[16]
        prompt(f"delete\nbreak *{behind:#x}\ncatch syscall wait4 return if $icount == 0")
        assert "Breakpoint 3," in prompt("run")


@pytest.mark.parametrize("odd", ["%", "%d", '"', '"%d', '"%d",', '"%s",1', '"%*d",1', '"%99999d",1', '"\\'])
def test_odd_formats_are_refused(odd: str, tmp_path: Path) -> None:
    with debugged("x86-64", "story", tmp_path) as (it, _):
        assert not it.execute(f"printf {odd}")


def test_breakpoints_know_their_commands() -> None:
    point = Breakpoint(number=1, what="main", address=None, condition="1", thread=2, enabled=False)
    assert commands_for(point) == ["break main thread 2 if 1", "disable $bpnum"]
