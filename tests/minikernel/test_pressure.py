"""Machines with too little memory: what runs goes on, what cannot ends as it should, and the books balance."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from guest.builder import GUEST, ROOT, Target, build_all, read_program
from guest.toolchain import ARCHES
from minikernel.boot import System
from minikernel.config import Config, Swap
from minikernel.entry import Turns, _run_slice
from minikernel.events import Event, MmSwapOut, MmVmscan, OomKill, Tracer
from minikernel.fs.swapstore import temporary_swap
from minikernel.report.audit import assert_nothing_left, table_frames, validate_machine
from tests.minikernel.machine import output_of, streams

MIB = 1 << 20
MACHINES = [
    ("x86-64", {}),
    ("i386", {}),
    ("i386", {"cpu": "i386", "paging": "pae"}),
    ("i386", {"cpu": "i386", "paging": "2level"}),
]
OOM_STORY = b"""\
the process that took all was killed by signal 9
the sleeper lives
the sleeper that offered itself was killed by signal 9
the small one lives
the sleeper, by us was killed by signal 15
the small one, by us was killed by signal 15
memory is back: 3840
"""


def program(name: str, arch: str) -> bytes:
    target = Target(read_program(GUEST / "pressure" / f"{name}.c"), arch, "static")
    build_all([target])
    return bytes(target.path)


def run(config: Config, *, validate_every: int = 0) -> tuple[int, bytes, System, list[Event]]:
    """Run *config*, with the books checked at the end, and after every so many turns; the power is off then."""
    told: list[Event] = []
    tracer = Tracer()
    with streams(b"") as (out, _), System(config, tracer) as system:
        kernel = system.kernel
        tables = table_frames(kernel)
        system.exec_init()
        tracer.sink = lambda _icount, _pid, event: (
            told.append(event) if isinstance(event, MmSwapOut | MmVmscan | OomKill) else None
        )
        turns = Turns(kernel)
        count = 0
        while kernel.exit_code is None:
            task = turns.next_task()
            count += 1
            if validate_every and count % validate_every == 0:
                validate_machine(kernel)
            if task is not None:
                _run_slice(kernel, task)
        validate_machine(kernel)
        system.power_off()
        assert_nothing_left(kernel, tables)
        return kernel.exit_code, output_of(out), system, told


def times(system: System) -> tuple[int, Counter[str]]:
    """When it ended, and what it counted."""
    return system.kernel.clock.now_ns(), system.kernel.node.vmstat


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "options"), MACHINES, ids=["x86-64", "i386", "pae", "2level"])
@pytest.mark.parametrize("swap", [(), (Swap(size=8 * MIB),)], ids=["no-swap", "swap"])
def test_when_memory_runs_out_the_right_process_dies(
    arch: str, options: dict[str, str], swap: tuple[Swap, ...]
) -> None:
    config = Config(argv=(program("oomchain", arch),), ram=16 * MIB, swap=swap, uid=0, gid=0, **options)  # type: ignore[arg-type]
    code, output, system, told = run(config)

    assert output == OOM_STORY
    assert code == 0
    assert Counter(type(event) for event in told)[OomKill] == 2
    log = [text for _, text in system.kernel.messages]
    assert sum(line.startswith("Out of memory: Killed process") for line in log) == 2
    assert sum("invoked oom-killer: gfp_mask=0x" in line for line in log) == 2
    assert any(line.startswith("oom_reaper: reaped process") for line in log), "a sleeper's memory is taken at once"


@pytest.mark.parametrize(("how", "words"), [(1, "system-wide"), (2, "compulsory")])
def test_the_machine_stops_instead_if_it_is_told_to(how: int, words: str) -> None:
    command = [sys.executable, "-m", "minikernel", "run", "--ram", "8M", "--sysctl", f"vm.panic_on_oom={how}", "--"]
    done = subprocess.run([*command, program("oomchain", "x86-64")], capture_output=True, check=False, cwd=ROOT)
    panic = f"Kernel panic - not syncing: Out of memory: {words} panic_on_oom is enabled"
    assert done.returncode == 125
    assert done.stderr.decode().splitlines()[-1] == f"minikernel: {panic}"


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "options"), MACHINES, ids=["x86-64", "i386", "pae", "2level"])
def test_the_books_balance_at_every_turn_of_a_storm(arch: str, options: dict[str, str]) -> None:
    config = Config(
        argv=(program("swapstorm", arch),),
        ram=16 * MIB,
        swap=(Swap(size=40 * MIB, priority=1), Swap(size=48 * MIB, priority=1)),
        slice=500_000,
        sysctls=(("vm.debug_vm", "1"),),
        **options,  # type: ignore[arg-type]
    )
    code, output, system, told = run(config, validate_every=60)

    assert (code, output) == (0, b"6 of 6 processes found what they had written\n")
    swapped = [event for event in told if isinstance(event, MmSwapOut)]
    assert {event.entry >> 1 & 31 for event in swapped} == {0, 1}, "areas of one priority take turns"
    assert {event.by for event in told if isinstance(event, MmVmscan)} == {"kswapd", "direct"}
    assert system.kernel.node.vmstat["pswpout"] == len(swapped)


def test_two_runs_swap_the_same_pages_at_the_same_time() -> None:
    config = Config(argv=(program("thrash", "x86-64"),), ram=8 * MIB, swap=(Swap(size=32 * MIB),))
    first, second = run(config), run(config)

    assert first[:2] == second[:2]
    assert first[3] == second[3]
    assert times(first[2]) == times(second[2])


def minikernel(*words: str, cwd: Path | None = None) -> tuple[int, str, str]:
    command = [sys.executable, "-m", "minikernel", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, timeout=120)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHES)
def test_a_program_switches_swap_on_and_off(arch: str, tmp_path: Path) -> None:
    words = ("--ram", "16M", "--bind", f"{tmp_path}:/mnt:rw", "--cwd", "/mnt", os.fsdecode(program("swapfile", arch)))
    status, output, _ = minikernel("run", *words)

    assert status == 0
    lines = output.splitlines()
    assert lines[:11] == [
        'swapon("absent", 0) = -1 errno 2',
        'swapon(".", 0) = -1 errno 21',
        'swapon("/dev/null", 0) = -1 errno 22',
        'swapon("bad", 0) = -1 errno 22',
        'swapon("good", 0x800000) = -1 errno 22',
        'swapoff("good") = -1 errno 22',
        "swapon((char *)-1l, 0) = -1 errno 14",
        'swapon("bad", 0) = -1 errno 22',
        'swapon("good", SWAP_FLAG_PREFER | 7) = 0',
        'swapon("good", 0) = -1 errno 16',
        'open("good", O_RDWR) = -1 errno 26',
    ]
    assert lines[11:] == [
        "before:",
        "  good file 16380 empty 7",
        "memory is full:",
        "  good file 16380 in use 7",
        "swapoff without room: killed",
        "still:",
        "  good file 16380 in use 7",
        'swapoff("good") = 0',
        "after:",
        "0 pages are wrong",
        'swapon("good", 0) = -1 errno 1',
        'swapoff("good") = -1 errno 1',
    ]
    assert not list(tmp_path.iterdir())


def test_a_swap_file_serves_one_machine_at_a_time_and_keeps_its_header(tmp_path: Path) -> None:
    area = tmp_path / "area"
    store = temporary_swap(4 * MIB)
    header = store.read_page(0)
    store.close()
    area.write_bytes(header + bytes(4 * MIB - len(header)))
    config = Config(argv=(b"/bin/true",), ram=8 * MIB, swap=(Swap(path=bytes(area)),))
    with System(config) as system:
        status, _, complaint = minikernel("run", "--swap", str(area), "/bin/true")
        assert (status, complaint) == (125, f"minikernel: {area}: another machine swaps to it\n")
        assert system.kernel.node.swap.total_pages == 4 * MIB // 4096 - 1
    system.kernel.cpu.close()
    assert minikernel("run", "--swap", f"{area},pri=3", "--ram", "8M", "/bin/true")[0] == 0
    assert area.read_bytes()[:4096] == header


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--swap", "10"), "--swap 10: a swap area has from 10 to 16777216 pages, not 0"),
        (("--swap", "/nowhere"), "/nowhere: No such file or directory"),
        (("--swap", "/bin/true"), "/bin/true: there is no swap header"),
        (("--policy", "best"), "no policy 'best'"),
        (("--sysctl", "vm.nonsense=1"), "vm.nonsense: no sysctl that can be set"),
        (("--sysctl", "vm.swappiness=201"), "vm.swappiness: b'201' is not from 0 to 200"),
        (("--swap", "8M,pri=x"), "argument --swap: '8M,pri=x' is not SIZE or FILE"),
        (("--sysctl", "swappiness"), "argument --sysctl: 'swappiness' is not NAME=VALUE"),
    ],
)
def test_a_wrong_option_gets_one_line(words: tuple[str, ...], complaint: str) -> None:
    status, output, errors = minikernel("run", *words, "--", "/bin/true")
    assert (status, output) == (125, "")
    assert errors.startswith(f"minikernel: {complaint}")
    assert errors.count("\n") == 1


def test_a_knob_is_set_before_the_program_starts() -> None:
    status, output, _ = minikernel("run", "--sysctl", "vm.swappiness=7", "--", "/bin/cat", "/proc/sys/vm/swappiness")
    assert (status, output) == (0, "7\n")
