"""After every run the books balance: no frame, file, task or wait queue is left of programs of many processes."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from guest.builder import Target, build_all, programs, targets
from minikernel.config import Config
from tests.minikernel.machine import run_and_audit, shell

SCRIPTS = {
    "a pipeline": ("seq 100 | sort -rn | head -3 | tr '\\n' ' '", b"100 99 98 "),
    "a reader that leaves": ("yes | head -2", b"y\ny\n"),
    "background jobs that are left behind": ("sleep 1000 & sleep 1000 | cat & echo over", b"over\n"),
    "a FIFO": ("mkfifo f; echo through > f & cat f; wait", b"through\n"),
    "substitutions": ("echo $(echo $(echo deep)) `ls /dev/null`", b"deep /dev/null\n"),
    "a here document": ("cat <<E | tr a-z A-Z\nhello\nE", b"HELLO\n"),
    "files that are removed while open": ("exec 3>f; rm f; echo x >&3; (exec 4<&3); echo ok", b"ok\n"),
    "traps and kill": ("trap 'echo trapped' TERM; (sleep 0.1; kill $$) & wait; wait; echo end", b"trapped\nend\n"),
}


BASH_SCRIPTS = {
    "process substitution": ("cat <(echo one) <(echo two; sleep 0.1)", b"one\ntwo\n"),
    "a coprocess": ("coproc cat; echo hi >&${COPROC[1]}; read -u ${COPROC[0]} l; echo $l; kill %1; wait", b"hi\n"),
    "pipefail": ("set -o pipefail; yes | head -1; echo $?", b"y\n141\n"),
    "a timeout": ("timeout 0.1 sleep 5; echo $?; read -t 0.1 x < <(sleep 5); echo $?", b"124\n142\n"),
}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="no bash here")
@pytest.mark.parametrize("name", BASH_SCRIPTS)
@pytest.mark.parametrize("seed", [None, 1])
def test_a_bash_script_leaves_nothing_behind(name: str, seed: int | None, tmp_path: Path) -> None:
    script, expected = BASH_SCRIPTS[name]
    ended = run_and_audit(
        replace(shell(script, tmp_path, schedule_seed=seed), argv=(b"/bin/bash", b"-c", script.encode()))
    )
    assert (ended.code, ended.stdout) == (0, expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("seed", [None, 1])
def test_a_shell_script_leaves_nothing_behind(name: str, seed: int | None, tmp_path: Path) -> None:
    script, expected = SCRIPTS[name]
    ended = run_and_audit(shell(script, tmp_path, schedule_seed=seed))
    assert (ended.code, ended.stdout, ended.stderr) == (0, expected, b"")


def _io_programs() -> list[Target]:
    return [target for target in targets(programs()) if target.program.name.startswith("io/")]


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    build_all(_io_programs())


@pytest.mark.slow
@pytest.mark.parametrize("target", _io_programs(), ids=lambda target: target.id)
def test_a_guest_program_leaves_nothing_behind(target: Target, tmp_path: Path) -> None:
    """Each of them uses the calls it is about in every way it can; that they do what Linux does is test_guest's."""
    ended = run_and_audit(Config(argv=(bytes(target.path),), cwd=bytes(tmp_path)))
    assert ended.code == 0
    assert b"NO: " not in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 3, 10])
def test_a_fork_bomb_ends_in_errors_inside(limit: int, tmp_path: Path) -> None:
    script = "bomb() { bomb | bomb & }; bomb 2>/dev/null; wait; echo survived"
    ended = run_and_audit(shell(script, tmp_path, max_processes=limit))
    assert ended.stdout in {b"survived\n", b""}
