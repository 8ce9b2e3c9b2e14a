"""``minikernel compare`` and ``--policy``: the same program, every policy, both architectures; figures that add up."""

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from guest.builder import ROOT, Target, build_all, programs, targets
from minikernel.boot import System
from minikernel.config import Config, Swap
from minikernel.events import Event, MmVmscan
from minikernel.mm.page import PG_uptodate
from minikernel.mm.policy import POLICIES, find_policy
from minikernel.report.references import References
from tests.minikernel.machine import run_and_audit, shell, streams

EXPECTED = b"4096 pages, in order: 0 wrong\nscattered: 0 wrong\n"
PRESSURE = ("--ram", "4M", "--swap", "64M")


@pytest.fixture(scope="module")
def overcommit() -> dict[str, Target]:
    """The program that touches as many MiB as it is told, by architecture."""
    found = [target for target in targets(programs(["stress"])) if target.program.name == "stress/overcommit"]
    build_all(found)
    return {target.arch: target for target in found}


def minikernel(*words: str, cwd: Path = ROOT, stdin: str | None = None) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "minikernel", *words]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, cwd=cwd, input=stdin,
        env={"PATH": "/usr/bin:/bin", "LANG": "C", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def pressed(path: Path, policy: str, **options: object) -> Config:
    return Config(
        argv=(bytes(path), b"16"),
        ram=4 << 20,
        swap=(Swap(size=64 << 20),),
        policy=policy,
        **options,  # type: ignore[arg-type]
    )


# ---- each policy on the emulated CPU


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("arch", ["x86-64", "i386"])
def test_four_times_the_ram_to_the_last_byte(overcommit: dict[str, Target], policy: str, arch: str) -> None:
    ended = run_and_audit(pressed(overcommit[arch].path, policy, cpu=arch))
    assert (ended.code, ended.stdout, ended.stderr) == (0, EXPECTED, b"")


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
def test_processes_that_do_not_fit_together_all_finish(policy: str, tmp_path: Path) -> None:
    script = "seq 20000 | sort -r | tac | md5sum; for i in 1 2 3; do seq $i 30000 | sort -n | tail -1 & done; wait"
    native = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=True, env={"LANG": "C"})
    ended = run_and_audit(shell(script, tmp_path, ram=8 << 20, swap=(Swap(size=64 << 20),), policy=policy))
    assert (ended.code, ended.stdout) == (0, native.stdout)


@pytest.mark.slow
def test_a_kswapd_that_works_by_the_clock_keeps_no_machine_alive(overcommit: dict[str, Target]) -> None:
    """Who waits for ever is still found out."""
    done = minikernel("run", *PRESSURE, "--policy", "linux-2.0", str(overcommit["x86-64"].path), "16", "pause")
    assert (done.returncode, done.stdout) == (125, EXPECTED.decode())
    assert "nothing can wake them" in done.stderr


@pytest.mark.slow
def test_linux_2_0s_kswapd_takes_3_or_6_pages_at_a_time(overcommit: dict[str, Target]) -> None:
    taken = Counter[int]()

    def listen(_icount: int, _pid: int, event: Event) -> None:
        if isinstance(event, MmVmscan) and event.by == "kswapd":
            taken[event.nr_reclaimed] += 1

    with streams(b""), System(pressed(overcommit["x86-64"].path, "linux-2.0")) as system:
        system.exec_init()
        system.kernel.tracer.sink = listen
        assert system.run() == 0
    system.kernel.cpu.close()
    assert taken[6] > 10
    assert set(taken) <= {3, 6}


# ---- the reference string


@pytest.mark.slow
def test_listening_changes_nothing_and_hears_every_page(overcommit: dict[str, Target]) -> None:
    config = pressed(overcommit["x86-64"].path, "fifo")
    counts = []
    for interval in (0, 10_000, 1_000_000):
        with streams(b""), System(config) as system:
            references = References(system.kernel, interval) if interval else None
            system.exec_init()
            if references is None:
                assert system.run() == 0
            else:
                system.kernel.tracer.sink = references.sink
                assert system.run(references.run_cpu) == 0
                references.finish()
                used = set().union(*references.samples)
                assert 4096 < len(used) < 4096 + 300
                assert references.nr_uses > 4096 * 2.4
                system.kernel.node.lru.validate()
            stat = system.kernel.node.vmstat
            swapped = (stat["pswpin"], stat["pswpout"])
            counts.append((system.kernel.cpu.icount, system.kernel.clock.now_ns(), *swapped))
        system.kernel.cpu.close()
    assert len(set(counts)) == 1


def test_a_page_keeps_its_name_when_it_is_moved() -> None:
    with System(Config(argv=(b"none",), ram=16 << 20)) as system:
        node = system.kernel.node
        references = References(system.kernel, 1000)
        names = []
        for listed in (False, True):
            old, new = node.alloc_page(), node.alloc_page()
            assert old is not None
            assert new is not None
            for pfn in (old, new):
                node.mem_map.flags[pfn] |= PG_uptodate
            node.lru.note(old)
            if listed:
                node.lru.drain()
            name = references.page_in[old]
            node.lru.replace(old, new)
            assert references.page_in[new] == name
            assert old not in references.page_in
            references.use(new)
            names.append(name)
        references.finish()
        assert [list(sample) for sample in references.samples] == [names]
    system.kernel.cpu.close()


# ---- the command


@pytest.mark.slow
def test_the_table_is_the_same_every_time_and_nobody_beats_the_optimum(overcommit: dict[str, Target]) -> None:
    words = ("compare", *PRESSURE, "--json", str(overcommit["x86-64"].path), "16")
    first, second = minikernel(*words), minikernel(*words)
    assert (first.returncode, first.stderr) == (0, EXPECTED.decode())
    assert (first.stdout, first.stderr) == (second.stdout, second.stderr)
    told = json.loads(first.stdout)
    assert [run["policy"] for run in told["runs"]] == list(POLICIES)
    best = told["best"]
    assert 0 < best["min_refaults"] <= best["lru_refaults"]
    for run in told["runs"]:
        assert run["refaults"] >= best["min_refaults"]
        assert run["pages_swapped_in"] <= run["refaults"] <= run["pages_swapped_in"] + run["file_pages_reread"] + 64
        assert run["pages_scanned"] >= run["pages_reclaimed"] > 4096
        assert 700 < run["resident"] <= best["frames"] < 1024


@pytest.mark.slow
def test_a_table_for_people(overcommit: dict[str, Target]) -> None:
    done = minikernel("compare", "--policy", "fifo,clock", *PRESSURE, "--", str(overcommit["i386"].path), "8")
    lines = done.stdout.splitlines()
    assert lines[0].split()[0] == "policy"
    assert [line.split()[0] for line in lines[1:5]] == ["fifo", "clock", "MIN", "LRU"]
    assert len(lines) == 6
    assert re.search(r"every 50,000 instructions.* with \d+ frames", lines[5])


@pytest.mark.slow
def test_a_program_that_fits_is_told_so_and_its_status_is_ours() -> None:
    done = minikernel("compare", "--policy", "two-list,arc", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert done.returncode == 7
    assert done.stderr == "out\nerr\n"
    assert done.stdout.endswith("No run had to reclaim a page: the program fits into 256 MiB.\n")
    assert "MIN" not in done.stdout


@pytest.mark.slow
def test_runs_that_differ_are_told_loudly(tmp_path: Path) -> None:
    """The program looks at what the policy did."""
    (tmp_path / "big").write_bytes(bytes(8 << 20))
    script = (
        "cat big > /dev/null; grep -c ZZZ big; set -- $(grep nr_inactive_file /proc/vmstat); grep ctive /proc/meminfo"
    )
    done = minikernel("compare", "--policy", "two-list,mglru", "--ram", "8M", "sh", "-c", script, cwd=tmp_path)
    assert done.returncode == 125
    assert "THE RUNS DIFFER: output or status under mglru" in done.stderr


@pytest.mark.slow
def test_a_file_on_stdin_is_read_by_every_run_from_where_it_stood(tmp_path: Path) -> None:
    (tmp_path / "input").write_text("skipped\nread\n")
    with (tmp_path / "input").open("rb") as file:
        file.seek(len("skipped\n"))
        done = subprocess.run(
            [sys.executable, "-m", "minikernel", "compare", "--policy", "fifo,clock", "cat"],
            stdin=file, capture_output=True, check=False, cwd=ROOT,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"read\n")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--policy", "fifo,belady", "true"], 125, "no policy 'belady'; there are two-list ("),
        (["--policy", "fifo,", "true"], 125, "no policy ''"),
        (["--clock", "host", "true"], 125, "virtual clock"),
        (["--swap", "/no/such", "true"], 125, "/no/such"),
        (["--ram", "1K", "true"], 125, "RAM must be"),
        (["--sample", "0", "true"], 125, "not a positive number"),
        (["/no/such/program"], 127, "not found"),
        ([], 125, "no program to run"),
    ],
)
def test_a_mistake_is_one_line(words: list[str], status: int, message: str) -> None:
    done = minikernel("compare", *words)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith("minikernel: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


# ---- a policy of one's own


def test_help_lists_the_policies() -> None:
    done = minikernel("run", "--policy", "help")
    assert done.returncode == 0
    for name in POLICIES:
        assert f"{name} " in done.stdout
        assert find_policy(name).summary in done.stdout


@pytest.mark.slow
def test_the_tutorials_policy_works(overcommit: dict[str, Target], tmp_path: Path) -> None:
    text = (ROOT / "docs" / "policies.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    words = ("--policy", "fifo,mine:FilesFirst", *PRESSURE, "--json", str(overcommit["x86-64"].path), "16")
    done = minikernel("compare", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, EXPECTED.decode())
    fifo, mine = json.loads(done.stdout)["runs"]
    assert mine["policy"] == "mine:FilesFirst"
    assert 0 < mine["refaults"] != fifo["refaults"]


@pytest.mark.slow
def test_a_policy_that_fails_while_it_works_ends_the_comparison(overcommit: dict[str, Target], tmp_path: Path) -> None:
    """It is part of the kernel then: a panic, told once."""
    code = """
from minikernel.mm.policy.fifo import FifoPolicy

class Bad(FifoPolicy):
    def victims(self, scan):
        raise KeyError("lost")
"""
    (tmp_path / "mine.py").write_text(code)
    words = ("compare", "--policy", "fifo,mine:Bad", *PRESSURE, str(overcommit["x86-64"].path), "16")
    done = minikernel(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(EXPECTED.decode())
    assert "KeyError: 'lost'" in done.stderr
    assert done.stderr.endswith("minikernel: the run under mine:Bad has died\n")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class FilesFirst: pass", "does not inherit"),
        ("1 +", "SyntaxError"),
        ("raise SystemError('no\\nway')", "SystemError: no"),
        ("", "AttributeError"),
    ],
)
def test_a_bad_policy_of_ones_own_is_one_line(code: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(code)
    done = minikernel("run", "--policy", "mine:FilesFirst", "true", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith("minikernel: policy 'mine:FilesFirst': ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
