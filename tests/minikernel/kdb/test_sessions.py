"""Scripted sessions on a program of both architectures; the texts are in sessions/golden/ (UPDATE_GOLDEN=1 records)."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from guest.toolchain import ARCHES, compiler_for
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Sink, Tracer
from minikernel.kdb.command import COMMANDS, find
from minikernel.kdb.session import Session
from minikernel.kdb.shell import ROOMS, run_script
from minikernel.kernel import Kernel
from minikernel.report.frames import SIGNS, frame_use
from tests.minikernel.kdb.test_machine import nowhere

HERE = Path(__file__).parent
SESSIONS = HERE / "sessions"
FLAGS = ("-static", "-nostdlib", "-nostartfiles", "-no-pie", "-Wl,--build-id=none")
PLACES = ("-Wl,-Ttext=0x401000", "-Wl,-Tdata=0x403000")
# Where the kernel puts its tables and pages is its own affair, and changes with it.
OWN_AFFAIRS = (
    (re.compile(r"(frame +)0x[0-9a-f]+"), r"\1PFN"),
    (re.compile(r"CR3 0x[0-9a-f]+"), "CR3 ROOT"),
    (re.compile(r"(cr3 +)0x[0-9a-f]+"), r"\1ROOT"),
    (re.compile(r"\b[0-9a-f]{2,}:[0-9a-f]{2} \d+( +/bare)"), r"DEV INODE\1"),
    # How long a file is, and how many headers it has, is the linker's.
    (re.compile(r"(file offset  0x[0-9a-f]+ of )0x[0-9a-f]+"), r"\1SIZE"),
    (re.compile(r"(AT_PHNUM .*headers +)\d+"), r"\1COUNT"),
    (re.compile(r"(-> |kernel    )0x[0-9a-f]+(  frame|  direct)"), r"\1PHYS\2"),
    (re.compile(r"(E\[\d+\] +)at 0x[0-9a-f]+: [0-9a-f]+"), r"\1at ENTRY: RAW"),
    (re.compile(r"physical address 0x[0-9a-f]+"), "physical address PHYS"),
    (re.compile(r"(root|entry now ) 0x[0-9a-f]+"), r"\1 RAW"),
    (re.compile(r"pfn=0x[0-9a-f]+"), "pfn=PFN"),
    (re.compile(r": 0x[0-9a-f]+(  present)"), r": RAW\1"),
    (re.compile(r"\b0x[0-9a-f]+( {2,}(?:zero page|new page|page |own copy|now))"), r"PFN\1"),
)


_NUMBER = re.compile(r"0x[0-9a-f]+|(?<![\w.])[+-]?\d[\d,.]*")
_MAP = re.compile(r"^0x[0-9a-f]{6} [^ ]{32,}$")
_SHOWN = 2


def shape(printed: list[str]) -> str:
    """The first lines of an answer that changes with the kernel's own memory, without numbers."""
    lines = "".join(printed).splitlines()
    masked = [" ".join(_NUMBER.sub("N", _MAP.sub("MAP", line)).split()) for line in lines[:_SHOWN]]
    return "".join(f"{line}\n" for line in [*masked, *(["..."] if len(lines) > _SHOWN else [])])


@pytest.fixture(scope="module", params=ARCHES)
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The architecture, and a directory that is the guest's root, with bare.S as /bare."""
    root = tmp_path_factory.mktemp("root")
    command = [*compiler_for(request.param).command, *FLAGS, *PLACES, "-o", str(root / "bare"), str(HERE / "bare.S")]
    subprocess.run(command, check=True, capture_output=True)
    return str(request.param), root


@contextmanager
def session(root: Path, *arguments: bytes, program: str = "bare") -> Iterator[tuple[Session, list[str]]]:
    """A session on *program* in *root*, and what it prints."""
    config = Config(argv=(f"/{program}".encode(), *arguments), root=bytes(root), ram=16 << 20, uid=0, gid=0, groups=())

    def launch(listen: Callable[[Kernel], Sink]) -> System:
        system = System(config, Tracer())
        system.kernel.tracer.sink = listen(system.kernel)
        system.__enter__()
        system.exec_init()
        return system

    printed: list[str] = []
    with nowhere():
        made = Session(launch, printed.append)
        made.settings.width, made.settings.height = 80, 24  # whatever terminal the tests run in
        try:
            yield made, printed
        finally:
            made.close()


def commands(name: str) -> list[str]:
    return (SESSIONS / f"{name}.kdb").read_text().splitlines()


NAMES = sorted(path.stem for path in SESSIONS.glob("*.kdb"))


@pytest.mark.parametrize("name", NAMES)
def test_a_session_goes_as_recorded(name: str, bare: tuple[str, Path]) -> None:
    arch, root = bare
    answers = []
    with session(root, *([b"x"] if name == "crash" else [])) as (it, printed):
        for line in commands(name):
            it.execute(line)
            answers.append(f"(kdb) {line}\n{shape(printed) if name == 'shapes' else ''.join(printed)}")
            printed.clear()
    text = "".join(answers)
    for pattern, word in OWN_AFFAIRS:
        text = pattern.sub(word, text)
    path = SESSIONS / "golden" / f"{name}.{arch}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text(), f"{path.name} differs"


def test_every_command_is_in_a_session_or_in_this_file() -> None:
    tried = {
        "step",
        "next",
        "until",
        "advance",
        "finish",
        "list",
        "directory",
        "info source",
        "info line",
    }  # test_lines
    tried |= {"info functions", "info variables", "info address"}  # test_lines.py
    tried |= {
        "info locals",
        "info args",
        "ptype",
        "whatis",
        "set var",
        "display",
        "undisplay",
        "info display",
    }  # test_values
    tried |= {"frame", "up", "down", "info frame"}  # test_unwind.py
    tried |= {f"reverse-{what}" for what in ("stepi", "continue", "nexti", "step", "next", "finish")}  # test_reverse.py
    tried |= {"save", "load", "generate-core-file"}  # test_saving.py, test_coring.py
    tried |= {"last-write", "pt-diff", "goto", "checkpoint", "info checkpoints", "delete checkpoint"}  # test_travel.py
    for name in NAMES:
        for line in commands(name):
            try:
                tried.add(find(line)[0].name)
            except Exception:  # noqa: BLE001 - mistakes are in the sessions on purpose
                continue
    assert set(COMMANDS) - tried == set()


def test_every_command_explains_itself() -> None:
    for room in ROOMS:
        assert room.__doc__
    for each in COMMANDS.values():
        assert each.summary.endswith((".", ".]", ":")) or ":" in each.summary, each.name
        assert each.help


def test_the_views_of_memory(bare: tuple[str, Path]) -> None:
    _, root = bare
    with session(root) as (it, printed):
        commands = ["zone", "zone DMA", "buddyinfo", "pagecache", "pagecache all", "pagecache bare", "phys"]
        assert run_script(it, ["until bye", *commands, "slab", "slab task_struct", "vmalloc"])
        text = "".join(printed)
        assert re.search(r"DMA +0x0-0x1000", text)
        assert "Node 0, zone      DMA" in text
        assert re.search(r"of \d+ pages of /bare", text)
        assert re.search(r"task_struct +5888 +1 +5 +1 +8\n", text)
        assert re.search(r"objects of 5840 bytes every 5888, 5 in a slab of 8 frames", text)
        assert re.search(r"0xffffc90000000000-0xffffc90000005000 +20480 kernel_clone pages=4 vmalloc N0=4", text)
        [slab] = it.kernel.node.objects.task_struct.slabs.values()
        address = it.kernel.node.slab.page_offset + (slab.pfn << 12)
        it.execute(f"slab {address + 5888 + 16}")
        assert "0x10 into object 1 of task_struct" in "".join(printed)
        assert re.search(r"pages? +0(-\d+)? in frames? 0x[0-9a-f]+.*mapped", text)
        rows = re.findall(r"^0x[0-9a-f]{6} ([.TasfkSVHKR]+)$", text, re.MULTILINE)
        assert sum(map(len, rows)) == (it.kernel.physmem.nr_frames + 1) // 2
        printed.clear()
        near_tables = it.kernel.kernel_half.identity_root >> 12
        assert run_script(it, [f"phys {near_tables & -1024}"])
        detail = "".join(re.findall(r"^0x[0-9a-f]{6} ([.TasfkSVHKR]+)$", "".join(printed), re.MULTILINE))
        assert len(detail) == 1024
        assert detail.count("T") >= 3
        assert detail == it.data["cells"]
        assert sum(one["frames"] for one in it.data["legend"]) == 1024
        assert run_script(it, ["phys 0 100"])
        assert it.data["cells"] == "".join(SIGNS[frame_use(it.kernel, pfn)][0] for pfn in range(100))
        assert not it.execute("phys 0x1000000")
        assert not it.execute("zone NOWHERE")
        assert not it.execute("pagecache /nothing")


ODD = (
    *("", "0", "1", "-1", "99999999999", "$", "$sp", "counter", "*", "(", "/", "/9", "/sx 1", "a b c", "\x00", "é"),
    *("if 1", "*0 if 1", "fork fork", "syscall 1", "@", "@-1", "1 2 3", '"', "store if", "bare.S:1", ":1"),
    "SIGSEGV stop",
)


@pytest.mark.slow
def test_no_argument_does_worse_than_a_message(
    bare: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # gcore writes where it stands
    with session(bare[1]) as (it, _):
        for name in COMMANDS:
            for odd in ODD if name != "quit" else ():
                for line in (f"{name} {odd}", f"{name}{odd}"):
                    it.execute(line)
                    it.workbench.block = None  # of a command of several lines
                    it.execute("delete")
            it.workbench.settle()
            it.done = False
            it.execute("starti")
            it.execute("stepi 5")


def test_quit_ends_a_script(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        assert run_script(it, ["help", "quit", "print 1"])
        assert it.done
        text = "".join(printed)
        assert "$1" not in text
        assert all(name in text for name in COMMANDS)


def test_ctrl_c_stops_a_program_that_never_ends(bare: tuple[str, Path]) -> None:
    """The signal's handler does no more than this."""
    with session(bare[1]) as (it, printed):
        it.machine.interrupt()
        it.execute("continue")
        assert "received signal SIGINT" in "".join(printed)


def test_a_program_that_is_gone_is_not_started_again(tmp_path: Path, bare: tuple[str, Path]) -> None:
    (tmp_path / "it").write_bytes((bare[1] / "bare").read_bytes())
    (tmp_path / "it").chmod(0o755)
    with session(tmp_path, program="it") as (it, printed):
        it.execute("stepi")
        (tmp_path / "it").unlink()
        assert not it.execute("run")
        assert "cannot be started again" in printed[-1]
        assert it.done


def test_two_runs_print_the_same(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        texts = []
        for _ in range(2):
            printed.clear()
            assert run_script(it, ["starti", "until bye", "when", "events 30", "explain", "vmmap", "threads"])
            texts.append("".join(printed))
        assert texts[0] == texts[1]
