"""Going back and forth in time, by commands: undoing instructions, places in the run, checkpoints."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from minikernel.config import Bind, Config
from minikernel.kdb.command import COMMANDS
from tests.minikernel.kdb.conftest import build
from tests.minikernel.kdb.walks import front_of


class Prompt:
    """Somebody who types commands and reads what comes."""

    def __init__(self, config: Config) -> None:
        self._context = front_of(config)

    def __enter__(self) -> Self:
        self.front, self._shown = self._context.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._context.__exit__(None, None, None)

    def __call__(self, line: str) -> str:
        """What *line* shows."""
        self._shown.clear()
        self.front.execute(line)
        return "".join(self._shown)

    def where(self) -> tuple[int, int]:
        """Instruction count and address."""
        state = self.front.request("state", None)
        return state["position"][0], state["registers"][16]


def config(arch: str, **options: object) -> Config:
    return Config(argv=(bytes(build(arch, "story")),), env=(), ram=16 << 20, **options)  # type: ignore[arg-type]


@pytest.fixture
def prompt(arch: str) -> Iterator[Prompt]:
    with Prompt(config(arch)) as it:
        yield it


@pytest.mark.slow
def test_instructions_are_undone_one_by_one_and_by_the_dozen(prompt: Prompt) -> None:
    prompt("goto 5000")
    forth = [prompt.where()]
    for _ in range(6):
        prompt("stepi")
        forth.append(prompt.where())
    for expected in reversed(forth[:-1]):
        prompt("rsi")
        assert prompt.where() == expected
    prompt("stepi 6")
    prompt("reverse-stepi 6")
    assert prompt.where() == forth[0]
    prompt("rsi 5000")
    assert prompt.where()[0] == 0
    assert "No more reverse-execution history." in prompt("rsi")
    assert prompt.where()[0] == 0


@pytest.mark.slow
def test_a_place_is_a_count_a_distance_or_an_event(prompt: Prompt) -> None:
    assert prompt("goto 3000").startswith("=>")
    prompt("goto -1000")
    assert prompt.where()[0] == 2000
    prompt("goto +1500")
    assert prompt.where()[0] == 3500
    prompt("goto event 30")
    first, text = prompt.where(), prompt("when")
    assert re.search(" 3[01] events", text)
    prompt("goto event 25")
    assert prompt.where()[0] <= first[0]
    prompt("goto event 30")
    assert prompt.where() == first
    assert prompt("when") == text
    prompt("goto start")
    assert prompt.where()[0] == 0
    for wrong in ("goto", "goto nowhere", "goto -1", "goto event 0", "goto event"):
        assert not prompt.front.execute(wrong)
    assert prompt.where()[0] == 0


@pytest.mark.slow
def test_the_end_can_be_undone(prompt: Prompt) -> None:
    prompt("handle SIGUSR1 nostop")
    assert "exited" in prompt("continue")
    assert "not being run" in prompt("stepi")
    assert "=>" in prompt("rsi")
    assert "exited" in prompt("continue")


@pytest.mark.slow
def test_what_the_user_has_made_stays_whatever_the_machine_was(prompt: Prompt) -> None:
    prompt("goto 3000")
    assert prompt("print 42") == "$1 = 42\n"
    prompt("break main")
    prompt("goto 1000")
    assert prompt("print $1 + 1") == "$2 = 43\n"
    assert "main" in prompt("info breakpoints")
    assert "Breakpoint 1, " in prompt("continue")


@pytest.mark.slow
def test_checkpoints_are_kept_shown_and_let_go(prompt: Prompt) -> None:
    prompt("goto 2000")
    assert prompt("checkpoint") == "Checkpoint at instruction 2,000.\n"
    rows = re.findall(r"^ *(\d+) +([\d,]+) .*?(yes)?$", prompt("info checkpoints"), re.MULTILINE)
    assert ("1", "2,000", "yes") in rows
    assert prompt("delete checkpoint 1") == ""
    assert "2,000" not in prompt("info checkpoints")
    for wrong in ("0", "1", "", "nine"):
        assert not prompt.front.execute(f"delete checkpoint {wrong}")


@pytest.mark.slow
def test_a_run_that_the_host_has_a_part_in_does_not_go_back(arch: str, tmp_path: Path) -> None:
    with Prompt(config(arch, host_clock=True)) as prompt:
        prompt("stepi 3")
        assert prompt("rsi") == "The run follows the host's clock: it cannot be gone over again.\n"
    bind = Bind(host=bytes(tmp_path), guest=b"/mnt", writable=True)
    with Prompt(config(arch, binds=(bind,))) as prompt:
        prompt("stepi 3")
        assert "rw" in prompt("goto 1")


@pytest.mark.slow
@pytest.mark.parametrize("stdin", ["pipe", "file"])
def test_what_was_read_is_read_again_and_what_was_written_is_not_written_twice(stdin: str, tmp_path: Path) -> None:
    text = b"one\ntwo\n" * 20
    (tmp_path / "text").write_bytes(text)
    commands = ["continue", "rsi 50", "goto 1000", "continue", "goto start", "catch syscall read", "continue", "delete"]
    words = [word for line in [*commands, "continue"] for word in ("-ex", line)]
    command = [sys.executable, "-m", "minikernel", "debug", "--batch", *words, "--", "/bin/cat"]
    with (tmp_path / "text").open("rb") as file:
        given: dict[str, Any] = {"input": text} if stdin == "pipe" else {"stdin": file}
        done = subprocess.run(command, capture_output=True, timeout=60, check=False, **given)
    assert done.stdout.count(text) == 1
    assert done.stdout.count(b"two") == 20
    assert done.stdout.count(b"exited normally") == 3
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_a_replayed_run_goes_back_too_whatever_clock_it_followed(tmp_path: Path) -> None:
    us, trace = [sys.executable, "-m", "minikernel"], str(tmp_path / "trace")
    recorded = [*us, "record", "-o", trace, "--clock", "host", "--swap", "16M", "/bin/echo", "hello"]
    subprocess.run(recorded, check=True, capture_output=True, timeout=60)
    words = [word for line in ("continue", "rsi 20", "goto 500", "continue") for word in ("-ex", line)]
    done = subprocess.run(
        [*us, "debug", "--batch", *words, "--replay", trace], capture_output=True, timeout=60, check=False
    )
    assert done.stdout.count(b"hello") == 1
    assert done.stdout.count(b"exited normally") == 2
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_what_the_user_changes_is_where_the_past_begins(prompt: Prompt, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"\x07")
    prompt("break middle")
    prompt("continue")
    prompt(f"restore {tmp_path / 'data'} binary &counter")
    here = prompt.where()
    prompt("stepi 40")
    prompt("goto start")
    assert prompt.where() == here
    assert prompt("print *(u8*)&counter") == "$1 = 7\n"
    assert "No more" in prompt("rsi")
    assert "cannot be saved" in prompt(f"save {tmp_path / 'saved'}")


@pytest.mark.slow
def test_programs_get_one_object_for_a_step_back_too(arch: str) -> None:
    words = [word for line in ("goto 2000", "reverse-stepi", "last-write $sp", "rsi 99999") for word in ("-ex", line)]
    command = [
        sys.executable,
        "-m",
        "minikernel",
        "debug",
        "--json",
        "--batch",
        *words,
        "--",
        str(build(arch, "story")),
    ]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["command"] for answer in answers] == words[1::2]
    assert [answer["position"]["icount"] for answer in answers] == [2000, 1999, 1999, 0]
    assert answers[2]["data"]["icount"] < 2000
    assert "No more reverse-execution history." in answers[3]["output"]


@pytest.mark.slow
def test_no_argument_of_a_command_about_time_does_worse_than_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # for `save`
    with Prompt(config("x86-64")) as prompt:
        prompt("goto 200")
        for name in [each.name for each in COMMANDS.values() if each.group == "time"]:
            for odd in ("-1", "99999999999999999999999", "(", "\x00", "/nowhere/it 1"):
                prompt(f"{name} {odd}")
            assert prompt("print 1").startswith("$")
            prompt("goto 200")
