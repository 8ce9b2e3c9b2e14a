"""Breakpoints, watchpoints and steps backwards: each leads to where a run forward has been."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.minikernel.kdb.test_travel import Prompt, config


@pytest.fixture
def prompt(arch: str) -> Iterator[Prompt]:
    with Prompt(config(arch)) as it:
        it("handle SIGUSR1 nostop")
        yield it


def stops(prompt: Prompt, count: int) -> list[tuple[int, int]]:
    """Where the next stops are."""
    found = []
    for _ in range(count):
        prompt("continue")
        found.append(prompt.where())
    return found


@pytest.mark.slow
def test_breakpoints_are_met_in_the_other_order(prompt: Prompt) -> None:
    prompt("break leaf")
    forth = stops(prompt, 4)
    for expected in reversed(forth[:-1]):
        assert "Breakpoint 1, " in prompt("reverse-continue")
        assert prompt.where() == expected
    assert "No more reverse-execution history." in prompt("rc")
    assert prompt.where()[0] == 0
    assert "already hit 7 times" in prompt("info breakpoints")


@pytest.mark.slow
def test_conditions_ignore_counts_and_temporary_breakpoints_hold_backwards(prompt: Prompt) -> None:
    prompt("break leaf")
    forth = stops(prompt, 4)
    prompt("goto +400")
    prompt("condition 1 *(int*)&counter == 1")
    prompt("rc")
    assert prompt.where() == forth[1]
    prompt("goto +4000")
    prompt("condition 1")
    prompt("ignore 1 2")
    prompt("rc")
    assert prompt.where() == forth[1]
    prompt("delete")
    prompt("tbreak leaf")
    assert "Temporary breakpoint 2, " in prompt("rc")
    assert prompt.where() == forth[0]
    assert "No breakpoints" in prompt("info breakpoints")


@pytest.mark.slow
def test_a_watchpoint_stops_in_front_of_the_write_with_the_values_exchanged(prompt: Prompt) -> None:
    prompt("watch *(int*)&counter")
    forth = stops(prompt, 3)
    text = prompt("rc")
    assert "Old value = 6\nNew value = 3\n" in text
    assert "leaf (n=3) at story.c:13" in text
    assert prompt.where()[0] == forth[2][0] - 1
    assert "Old value = 3\nNew value = 1\n" in prompt("rc")
    prompt("stepi")
    assert prompt.where() == forth[1]


@pytest.mark.slow
def test_events_and_signals_stop_a_run_backwards(prompt: Prompt) -> None:
    prompt("handle SIGUSR1 stop")
    prompt("catch exit")
    prompt("catch fork")
    texts = [prompt("continue") for _ in range(3)]
    assert ["SIGUSR1" in texts[0], "forked" in texts[1], "exits" in texts[2]] == [True] * 3
    assert "forked" in prompt("rc")
    there = prompt.front.request("state", None)
    assert "SIGUSR1" in prompt("rc")
    assert "forked" in prompt("continue")
    assert prompt.front.request("state", None) == there


@pytest.mark.slow
def test_calls_are_gone_over_and_left_backwards(prompt: Prompt) -> None:
    prompt("break *leaf")
    prompt("continue")
    prompt("continue")
    inside = prompt.where()
    prompt("finish")
    after = prompt.where()
    prompt("reverse-nexti")
    call = prompt.where()
    prompt("stepi")
    assert prompt.where() == inside
    assert "Run back to call of" in prompt("reverse-finish")
    assert prompt.where() == call
    prompt("delete")
    prompt("nexti")
    assert prompt.where() == after
    assert "outermost" in prompt("goto 10") + prompt("reverse-finish")


@pytest.mark.slow
def test_lines_are_undone_into_calls_and_over_them(prompt: Prompt) -> None:
    def line(text: str) -> tuple[str, int]:
        name, number = re.findall(r"(?:^| in )(\w+) \(.*\) at story\.c:(\d+)", text, re.MULTILINE)[-1]
        return name, int(number)

    prompt("break middle")
    prompt("continue")
    prompt("finish")
    assert line(prompt("reverse-next")) == ("main", 36)
    prompt("delete")
    prompt("break leaf")
    prompt("continue")
    prompt("delete")
    prompt("finish")
    assert line(prompt("reverse-step")) == ("leaf", 15)
    assert line(prompt("reverse-step")) == ("leaf", 14)
    assert line(prompt("reverse-next 2")) == ("leaf", 12)
    assert line(prompt("reverse-next")) == ("middle", 21)


@pytest.mark.slow
def test_the_writer_of_memory_is_found_in_this_process_its_parent_and_the_kernel(prompt: Prompt) -> None:
    prompt("break _exit")
    prompt("continue")
    here = prompt.where()
    text = prompt("last-write *(int*)&counter")
    assert "has it from process 2" in text
    assert "in on_usr1 () at story.c:28" in text
    assert "0xa became 0x64" in text
    text = prompt("last-write page")
    assert re.search(r"in main \(\) at story\.c:3\d", text)
    where = re.search(r"goto (\d+) is in front", text)
    assert where
    assert prompt.where() == here
    prompt("delete")
    prompt(f"goto {where[1]}")
    before = prompt("x/1gx &page") if "x86" in text else ""
    prompt("stepi")
    assert prompt("x/1gx &page") != before
    assert "wants" in prompt("last-write")
    assert "Cannot access" in prompt("last-write *(int*)8")


@pytest.mark.slow
def test_what_became_of_the_page_tables_is_told_in_words(prompt: Prompt) -> None:
    prompt("break middle")
    prompt("continue")
    text = prompt("pt-diff start")
    assert re.search(r"mapped: present writable user accessed dirty", text)
    assert prompt("pt-diff -0") == "The page tables are the same.\n"
    assert "wants" in prompt("pt-diff")
    assert "No more" in prompt("pt-diff -99999999")


@pytest.mark.slow
def test_time_goes_back_in_files_and_what_points_execute_is_executed(prompt: Prompt, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("break leaf\ncontinue\ncontinue\nreverse-continue\nprint 1\n")
    text = prompt(f"source {script}")
    assert text.count("Breakpoint 1, ") == 3
    assert text.endswith("$1 = 1\n")
    for line in ("commands 1", "print 42", "end", "continue"):
        text = prompt(line)
    assert "$2 = 42" in text
    assert "$3 = 42" in prompt("rc")
    for line in ("if 1", "rsi"):
        prompt(line)
    assert "not inside other commands" in prompt("end")
    assert "nothing.kdb" in prompt("source /nothing.kdb")


@pytest.mark.slow
def test_a_watched_local_is_followed_back_in_its_frame(prompt: Prompt) -> None:
    """`sum` of middle, which leaf does not have: the program is in leaf most of the time."""
    prompt("break middle")
    prompt("continue")
    prompt("watch sum")
    prompt("delete 1")
    forth = [prompt("continue") for _ in range(3)]
    back = [prompt("rc") for _ in range(2)]
    values = [re.findall(r"(?:Old|New) value = (-?\d+)", text) for text in [*forth, *back]]
    assert values[1:] == [["0", "1"], ["1", "4"], ["4", "1"], ["1", "0"]]
    assert all("in middle (n=4)" in text for text in back)
