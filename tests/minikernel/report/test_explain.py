"""Explanations of every way a fault can end.  The texts are in golden/; they change with the code, and in review."""

import importlib
import io
from collections.abc import Callable

import pytest

from emu.x86 import PF_P, PF_W, PTE_RW, PTE_XD, Pfn, VirtAddr
from minikernel.abi.mman import (
    MADV_HUGEPAGE,
    MAP_GROWSDOWN,
    MAP_PRIVATE,
    MAP_SHARED,
    PROT_EXEC,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
)
from minikernel.events import FaultKind, MmFaultResolved, PageFaultUser, SignalDeliver, SysEnter, SysExit
from minikernel.mm.dup import dup_mm
from minikernel.mm.fault import handle_mm_fault
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LAYOUT
from minikernel.mm.madvise import do_madvise
from minikernel.mm.uaccess import copy_to_user
from minikernel.report.explain import ExplainSink, header, line
from minikernel.report.explanation import Explanation
from tests.minikernel.mm.touch import ANON, BASE, FETCH, READ, RW, WRITE, Store, map_fixed, touch
from tests.minikernel.report.stage import CODE, PAGE, Stage, check_golden

DATA = Store(b"data" * 4096)


def zero_page(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 4)
    return stage.fault(BASE + 0x10, READ)


def anon(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 4)
    return stage.fault(BASE + PAGE, WRITE)


def file_read_major(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 4, PROT_READ, MAP_PRIVATE, stage.machine.file(store=DATA), 0)
    return stage.fault(BASE + 2 * PAGE + 8, READ)


def file_read_minor(stage: Stage) -> Explanation:
    file = stage.machine.file(store=DATA)
    for index in range(3):
        file.cache.read_page(index)
    map_fixed(stage.mm, BASE, 4, PROT_READ, MAP_PRIVATE, file, 0)
    return stage.fault(BASE, READ)


def fetch(stage: Stage) -> Explanation:
    return stage.fault(CODE, FETCH)


def file_cow(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 4, RW, MAP_PRIVATE, stage.machine.file(store=DATA), 0)
    return stage.fault(BASE + PAGE, WRITE)


def file_cow_after_read(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 4, RW, MAP_PRIVATE, stage.machine.file(store=DATA), 0)
    touch(stage.mm, BASE, READ)
    return stage.fault(BASE, WRITE)


def file_shared(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 4, RW, MAP_SHARED, stage.machine.file(store=DATA), 0)
    return stage.fault(BASE, WRITE)


def file_shared_after_read(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 4, RW, MAP_SHARED, stage.machine.file(store=DATA), 0)
    touch(stage.mm, BASE, READ)
    return stage.fault(BASE, WRITE)


def cow_copy_of_zero_page(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 1)
    touch(stage.mm, BASE, READ)
    return stage.fault(BASE, WRITE)


def cow_copy_after_fork(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 1)
    touch(stage.mm, BASE, WRITE)
    stage.machine.fork(stage.mm)
    return stage.fault(BASE, WRITE)


def cow_reuse(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 1)
    touch(stage.mm, BASE, WRITE)
    child = dup_mm(stage.mm)
    child.destroy()
    return stage.fault(BASE, WRITE)


def stack_growth(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE + 16 * PAGE, 1, RW, ANON | MAP_GROWSDOWN)
    return stage.fault(BASE + 13 * PAGE + 8, WRITE)


def spurious(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 1)
    touch(stage.mm, BASE, WRITE)
    return stage.fault(BASE, WRITE, error_code=WRITE)


def code_fetched(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 1, PROT_READ | PROT_WRITE | PROT_EXEC)
    touch(stage.mm, BASE, WRITE)
    stage.mm.pgtable.update(BASE, set=PTE_XD)
    return stage.fault(BASE, FETCH, ip=BASE)


def maperr_null(stage: Stage) -> Explanation:
    return stage.fault(0x10, WRITE)


def maperr_between(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 1)
    map_fixed(stage.mm, BASE + 4 * PAGE, 1)
    return stage.fault(BASE + PAGE + 0x20, READ)


def accerr_write(stage: Stage) -> Explanation:
    touch(stage.mm, CODE, READ)
    return stage.fault(CODE + 4, WRITE)


def accerr_none(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 1, PROT_NONE)
    return stage.fault(BASE, READ)


def accerr_fetch(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 1)
    touch(stage.mm, BASE, WRITE)
    return stage.fault(BASE + 8, FETCH, ip=BASE + 8)


def beyond_end_of_file(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 8, PROT_READ, MAP_PRIVATE, stage.machine.file(store=DATA), 0)
    return stage.fault(BASE + 5 * PAGE, READ)


def broken_disk(stage: Stage) -> Explanation:
    store = Store(bytes(DATA.data))
    map_fixed(stage.mm, BASE, 8, PROT_READ, MAP_PRIVATE, stage.machine.file(store=store), 0)
    store.fail = True
    return stage.fault(BASE, READ)


def out_of_memory(stage: Stage) -> Explanation:
    map_fixed(stage.mm, BASE, 1)
    stage.machine.node.fail_allocation(0)
    return stage.fault(BASE, WRITE)


def kernels_half(stage: Stage) -> Explanation:
    return stage.fault(stage.machine.node.layout.page_offset + 0x100, READ)


def huge_page(stage: Stage) -> Explanation:
    return _huge(stage, WRITE)


def huge_zero_page(stage: Stage) -> Explanation:
    return _huge(stage, READ)


def _huge(stage: Stage, access: int) -> Explanation:
    map_fixed(stage.mm, BASE, 1024)
    do_madvise(stage.mm, BASE, 1024 * PAGE, MADV_HUGEPAGE)
    return stage.fault(BASE + 5 * PAGE + 0x123, access)


SCENES: tuple[Callable[[Stage], Explanation], ...] = (
    zero_page, anon, file_read_major, file_read_minor, fetch, file_cow, file_cow_after_read, file_shared,
    file_shared_after_read, cow_copy_of_zero_page, cow_copy_after_fork, cow_reuse, stack_growth, spurious, code_fetched,
    maperr_null, maperr_between, accerr_write, accerr_none, accerr_fetch, beyond_end_of_file, broken_disk,
    out_of_memory, kernels_half, huge_page, huge_zero_page,
)  # fmt: skip


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_story_is_the_golden_one(scene: Callable[[Stage], Explanation]) -> None:
    story = scene(Stage())
    check_golden(scene.__name__, f"{header()}\n{line(story)}\n\n{story.text()}")


@pytest.mark.parametrize("layout", [I386_PAE_LAYOUT, I386_2LEVEL_LAYOUT], ids=lambda layout: layout.name)
@pytest.mark.parametrize("scene", [anon, fetch, maperr_null, accerr_write], ids=lambda scene: scene.__name__)
def test_story_on_i386(scene: Callable[[Stage], Explanation], layout: object) -> None:
    assert layout in {I386_PAE_LAYOUT, I386_2LEVEL_LAYOUT}
    story = scene(Stage(I386_PAE_LAYOUT if layout is I386_PAE_LAYOUT else I386_2LEVEL_LAYOUT))
    name = "pae" if layout is I386_PAE_LAYOUT else "2level"
    check_golden(f"{scene.__name__}_{name}", f"{header()}\n{line(story)}\n\n{story.text()}")


def test_every_kind_of_fault_has_a_scene() -> None:
    """Swapping comes with the memory-pressure issue; a growing stack is told with the fault that follows."""
    told = {story.kind for scene in SCENES if (story := scene(Stage())).kind is not None}
    assert told == set(FaultKind) - {FaultKind.SWAP_IN, FaultKind.STACK_GROWTH}


def test_the_functions_that_are_named_are_where_it_says() -> None:
    for scene in SCENES:
        function, path = scene(Stage()).decided_by.rstrip(")").split(" (")
        module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
        assert getattr(module, function).__module__ == module.__name__, function


def test_walk_is_taken_before_the_fault_is_served() -> None:
    story = anon(Stage())
    assert story.fault.walk[-1].raw == 0
    assert story.entry & PTE_RW


def test_stack_growth_is_told_with_its_size() -> None:
    story = stack_growth(Stage())
    assert (story.kind, story.grown) == (FaultKind.ANON, 3 * PAGE)


def test_nothing_is_changed_by_looking() -> None:
    """The explained run and the plain one have the same frames in the same places."""
    told, plain = Stage(), Stage()
    for stage in (told, plain):
        map_fixed(stage.mm, BASE, 4, RW, MAP_PRIVATE, stage.machine.file(store=DATA), 0)
    for address, access in ((BASE, READ), (BASE, WRITE), (BASE + PAGE, WRITE), (CODE, FETCH)):
        told.fault(address, access)
        touch(plain.mm, address, access)
    assert list(told.mm.pgtable.entries(0, told.mm.layout.task_size)) == list(
        plain.mm.pgtable.entries(0, plain.mm.layout.task_size)
    )
    assert (told.mm.min_flt, told.mm.maj_flt) == (plain.mm.min_flt, plain.mm.maj_flt)
    told.machine.validate()


def test_kernels_own_access_names_the_system_call() -> None:
    stage = Stage()
    map_fixed(stage.mm, BASE, 1)
    stage.hear(0, 0, SysEnter("x86-64", 0, (0, BASE, 3, 0, 0, 0)))
    stage.machine.tracer.sink = stage.hear
    copy_to_user(stage.mm, BASE, b"abc")
    stage.machine.tracer.sink = None
    stage.hear(0, 0, SysExit("x86-64", 0, 3))
    (story,) = stage.stories
    assert (story.access, story.fault.who, story.kind) == ("write", "kernel, for read", FaultKind.ANON)
    assert "the kernel, serving read for process 7" in story.text()


def test_frame_of_a_signal_is_the_kernels_own_access() -> None:
    stage = Stage()
    map_fixed(stage.mm, BASE, 2)
    stage.machine.tracer.sink = stage.hear
    stage.hear(0, 0, SignalDeliver(11, 1, VirtAddr(CODE)))
    copy_to_user(stage.mm, BASE, b"abc")
    stage.hear(0, 0, SysEnter("x86-64", 15, ()))
    stage.hear(0, 0, SysExit("x86-64", 15, 0))
    copy_to_user(stage.mm, BASE + PAGE, b"abc")
    assert [story.fault.who for story in stage.stories] == ["kernel, for a signal", "kernel, for its own use"]


def test_another_process_is_announced() -> None:
    stage = Stage()
    stage.fake.tasks[8] = stage.fake.task
    map_fixed(stage.mm, BASE, 2)
    out = io.StringIO()
    sink = ExplainSink(stage.kernel, out)
    for pid, address in ((7, CODE), (7, BASE), (8, BASE + PAGE)):
        stage.machine.tracer.sink = lambda _icount, _pid, event, pid=pid: sink(1, pid, event)
        touch_and_tell(stage, address, READ)
    assert [row.split()[0] for row in out.getvalue().splitlines()] == ["#", "1", "2", "--", "3"]


def test_fault_in_an_address_space_of_no_task_is_found_by_its_frame() -> None:
    """As execve builds one: the events come before any task has it."""
    stage = Stage()
    other = stage.machine.mm()
    map_fixed(other, BASE, 1)
    stage.machine.tracer.sink = stage.hear
    copy_to_user(other, BASE, b"abc")
    stage.machine.tracer.sink = None
    assert stage.stories[0].fault.who == "kernel, for execve"


def test_fault_whose_address_space_is_unknown_is_passed_over() -> None:
    stage = Stage()
    stage.hear(0, 0, MmFaultResolved(VirtAddr(BASE), FaultKind.ANON, Pfn(stage.machine.node.zero_pfn)))
    assert stage.stories == []


def test_sink_prints_a_header_a_line_each_and_the_story_of_failures() -> None:
    stage = Stage()
    out = io.StringIO()
    sink = ExplainSink(stage.kernel, out)
    stage.machine.tracer.sink = lambda _icount, _pid, event: sink(1234, 7, event)
    for address, access in ((CODE, FETCH), (0x10, WRITE)):
        touch_and_tell(stage, address, access)
    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["#", "icount", "access", "address", "where", "who", "frame", "decision"]
    assert lines[1].split()[:4] == ["1", "1,234", "fetch", f"{CODE:#014x}"]
    assert "SIGSEGV" in lines[2]
    assert any(text.strip().startswith("because") for text in lines[3:])
    assert "\x1b" not in out.getvalue()


def touch_and_tell(stage: Stage, address: int, access: int) -> None:
    tracer = stage.machine.tracer
    tracer.emit(PageFaultUser(VirtAddr(address), VirtAddr(CODE), access))
    handle_mm_fault(stage.mm, address, access)


def test_terminal_gets_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stage = Stage()
    out = Terminal()
    sink = ExplainSink(stage.kernel, out)
    stage.machine.tracer.sink = lambda _icount, _pid, event: sink(1, 7, event)
    touch_and_tell(stage, CODE, FETCH)
    assert "\x1b[" in out.getvalue()


def test_protection_bits_are_in_the_error_code() -> None:
    stage = Stage(X86_64_LAYOUT)
    story = accerr_write(stage)
    assert story.fault.error_code == WRITE | PF_P
    assert story.fault.access == PF_W
