"""What stands between a person and the machine: paging, settings, completion, help, answers for programs."""

import json
import re
from pathlib import Path

import pytest

from minikernel.kdb.command import COMMANDS, find
from minikernel.kdb.completing import PROVIDERS
from minikernel.kdb.pager import MORE, Pager, visible_length
from minikernel.kdb.settings import Settings
from minikernel.kdb.shell import repeated
from tests.minikernel.kdb.test_sessions import NAMES, bare, commands, session

__all__ = ["bare"]


class Screen:
    """A pager whose questions are answered from a list."""

    def __init__(self, *answers: str, height: int = 4) -> None:
        self.shown = ""
        self.asked: list[str] = []
        self._answers = list(answers)
        self.pager = Pager(Settings(width=20, height=height), self._write, self._ask)
        self.pager.begin()

    def _write(self, text: str) -> None:
        self.shown += text

    def _ask(self, prompt: str) -> str:
        self.asked.append(prompt)
        if not self._answers:
            raise EOFError
        return self._answers.pop(0)


def numbered(count: int) -> str:
    return "".join(f"{number}\n" for number in range(count))


def test_a_screenful_is_shown_at_a_time() -> None:
    screen = Screen("", "")
    screen.pager.write(numbered(3))
    assert (screen.shown, screen.asked) == (numbered(3), [])
    screen.pager.write("3\n4\n5\n6\n")
    assert (screen.shown, screen.asked) == (numbered(7), [MORE, MORE])


def test_q_cuts_off_and_c_asks_no_more() -> None:
    screen = Screen("q")
    screen.pager.write(numbered(10))
    screen.pager.write("more\n")
    assert screen.shown == numbered(3) + "Quit\n"
    screen.pager.begin()
    screen.pager.write("next\n")
    assert screen.shown.endswith("Quit\nnext\n")

    screen = Screen("c")
    screen.pager.write(numbered(100))
    assert (screen.shown, len(screen.asked)) == (numbered(100), 1)


def test_the_end_of_the_input_is_a_q() -> None:
    screen = Screen()
    screen.pager.write(numbered(10))
    assert screen.shown == numbered(3) + "Quit\n"


def test_long_lines_count_as_often_as_they_are_wide() -> None:
    screen = Screen("q", height=5)
    screen.pager.write("x" * 50 + "\n" + numbered(3))
    assert screen.shown == "x" * 50 + "\n0\nQuit\n"
    assert visible_length("\x1b[1;31mred\x1b[0m\tx\n") == 9


def test_without_pagination_nothing_is_asked() -> None:
    for settings in (Settings(pagination=False, height=3), Settings(height=0)):
        shown: list[str] = []
        pager = Pager(settings, shown.append, input)
        pager.begin()
        pager.write(numbered(50))
        assert "".join(shown) == numbered(50)


def test_both_sides_of_the_prompt_heed_the_settings() -> None:
    settings = Settings()
    for line in ("set width 100", "set height unlimited", "set pagination off", "set width many", "set", "show width"):
        settings.heed(line)
    assert (settings.columns(), settings.lines(), settings.pagination) == (100, 0, False)
    settings.heed("set width auto")
    assert settings.width is None


def test_settings_are_shown_and_checked(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        assert it.execute("set width 132")
        assert it.execute("set height unlimited")
        assert it.execute("set pagination off")
        assert it.execute("show")
        assert "".join(printed).splitlines()[:4] == [
            "width         132", "height        unlimited", "pagination    off", "json          off",
        ]  # fmt: skip
        for wrong in ("set width", "set width -1", "set width 99999999", "set pagination perhaps", "show colour"):
            assert not it.execute(wrong)


def test_an_empty_line_goes_on() -> None:
    assert repeated("stepi 5") == "stepi 5"
    assert repeated("x/4i $pc") == "x"
    assert repeated("ps") == ""
    assert repeated("nonsense") == ""


def test_words_are_completed(bare: tuple[str, Path], tmp_path: Path) -> None:
    (tmp_path / "script").touch()
    with session(bare[1]) as (it, _):
        for text, expected in {
            "pa": (2, ["page", "pagecache", "pageflags", "pagewalk"]),
            "info reg": (3, ["registers"]),
            "set pag": (3, ["pagination"]),
            "set pagination o": (1, ["off", "on"]),
            "break st": (2, ["store"]),
            "print *cou": (3, ["counter"]),
            "print 1+$ri": (3, ["$rip" if it.word == 8 else "$ri"][: int(it.word == 8)]),
            "x/2i sto": (3, ["store"]),
            "print ": (0, []),
            "pagewalk cou": (3, ["counter"]),
            "catch sys": (3, ["syscall"]),
            "catch fault cow_": (4, ["cow_copy", "cow_reuse"]),
            "catch syscall mun": (3, ["munlock", "munlockall", "munmap"]),
            "catch signal SIGSE": (5, ["SIGSEGV"]),
            "catch event oom": (3, ["oom_kill"]),
            "task ": (0, ["2"]),
            "help pagec": (5, ["pagecache"]),
            "slab task_s": (6, ["task_struct"]),
            "zone DM": (2, ["DMA", "DMA32"]),
            "nonsense x": (0, []),
            "pagewalk 0x401": (5, ["0x401000"]),  # where a mapping begins
            "info registers ve": (2, ["vector"]),
            "lru ina": (3, ["inactive_anon", "inactive_file"]),
            "vmmap [st": (3, ["[stack]"]),
            "vmmap r-x": (3, ["r-xp"]),
            "xp phy": (3, ["phys("]),
            "syscalls mun": (3, ["munlock", "munlockall", "munmap"]),
            "events oom": (3, ["oom_kill"]),
            "task": (4, ["task"]),
            "pagecache al": (2, ["all"]),
            "set context re": (2, ["regs"]),
            f"source {tmp_path}/scr": (len(f"{tmp_path}/scr"), [f"{tmp_path}/script"]),
        }.items():
            start, words = it.complete(text)
            assert (start if words else 0, words) == (expected[0] if expected[1] else 0, expected[1]), text


def test_every_word_in_capitals_of_a_usage_is_known_or_free(bare: tuple[str, Path]) -> None:
    """A provider that nobody asks is a mistake in a usage, or in PROVIDERS."""
    words = " ".join(word for each in COMMANDS.values() for word in each.placeholders)
    for name in PROVIDERS:
        assert name.rpartition(" ")[2] in words, name
    with session(bare[1]) as (it, _):
        for provider in PROVIDERS.values():
            assert all(isinstance(word, str) for word in provider(it, "c"))


def test_help_teaches(bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        for line, words in {
            "help": ["Looking into the kernel (kernel)", "pagewalk", "apropos"],
            "help kernel": ["pagewalk", "vmmap"],
            "help info": ["info registers", "info threads"],
            "help pw": ["pagewalk ADDRESS", "Walk the page tables"],
            "help all": ["Every process", "Stop in front of LOCATION"],
            "apropos watermark": ["zone"],
        }.items():
            printed.clear()
            assert it.execute(line)
            assert all(word in "".join(printed) for word in words), line
        assert not it.execute("apropos")
        assert not it.execute("apropos (")
        assert not it.execute("apropos flibbertigibbet")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pagewak 1", "`pagewalk`"),
        ("info regsters", "`info registers`"),
        ("brake main", "`break`"),
        ("xyzzy", '"help"'),
    ],
)
def test_a_command_that_does_not_exist_is_corrected(typed: str, meant: str, bare: tuple[str, Path]) -> None:
    with session(bare[1]) as (it, printed):
        assert not it.execute(typed)
        [line] = printed
        assert line.startswith("Undefined command: ")
        assert meant in line
        assert line.count("\n") == 1


KEYS: dict[str, type | tuple[type, ...]] = {
    "version": int, "command": str, "name": (str, type(None)), "ok": bool, "error": (str, type(None)), "output": list,
    "data": (dict, type(None)), "position": (dict, type(None)), "done": bool,
}  # fmt: skip


def test_every_answer_for_a_program_is_one_object_on_a_line(bare: tuple[str, Path]) -> None:
    lines = ["stepi", "ps", "# nothing", "print 6*7", "foo", "x/2i $pc", "zone", "vmmap", "help x", "continue", "ps"]
    with session(bare[1]) as (it, printed):
        it.settings.json = True
        for line in lines:
            it.execute(line)
        answers = [json.loads(line) for line in "".join(printed).splitlines()]
    assert [answer["command"] for answer in answers] == [line for line in lines if not line.startswith("#")]
    for answer in answers:
        assert {key: isinstance(answer[key], kind) for key, kind in KEYS.items()} == dict.fromkeys(KEYS, True)
        assert list(answer) == list(KEYS)
        assert answer["ok"] == (answer["error"] is None)
    by_command = {answer["command"]: answer for answer in answers}
    assert by_command["foo"]["name"] is None
    assert by_command["print 6*7"]["output"] == ["$1 = 42"]
    assert by_command["stepi"]["position"]["icount"] == 1
    assert by_command["continue"]["position"] is None
    assert by_command["help x"]["data"]["commands"][0]["name"] == "x"


@pytest.mark.parametrize("name", NAMES)
def test_whatever_a_command_says_is_plain_data(name: str, bare: tuple[str, Path]) -> None:
    """Every line of every recorded session."""
    with session(bare[1], *([b"x"] if name == "crash" else [])) as (it, printed):
        it.settings.json = True
        for line in commands(name):
            if not line.startswith("set json"):
                it.execute(line)
    for line in printed:
        answer = json.loads(line)
        assert list(answer) == list(KEYS)
        assert not any("\x1b" in text for text in answer["output"])


def test_a_script_executes_a_script(bare: tuple[str, Path], tmp_path: Path) -> None:
    inner, outer = tmp_path / "inner", tmp_path / "outer"
    inner.write_text("print 2\nnonsense\nprint 3\n")
    outer.write_text(f"echo one\\ttwo \\\\n\nsource {inner}\nprint 4\n")
    with session(bare[1]) as (it, printed):
        assert not it.execute(f"source {outer}")
        text = "".join(printed)
        assert text.startswith("one\ttwo \\n\n$1 = 2\nUndefined command")
        assert f"{inner}:2: Error in sourced command file." in text
        assert "$2" not in text
        inner.write_text(f"source {inner}\n")
        assert not it.execute(f"source {inner}")
        assert not it.execute("source")
        assert not it.execute(f"source {tmp_path}/nothing")


def test_the_document_describes_the_answers() -> None:
    """docs/debugger.md: its first table has the fields, its second only commands that exist."""
    text = (Path(__file__).parents[3] / "docs" / "debugger.md").read_text()
    fields = text.partition("| field | what it is |")[2].partition("\n\n")[0]
    named = [name for line in fields.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert named == list(KEYS)
    table = text.partition("| command | `data` |")[2].partition("\n\n")[0]
    for line in table.splitlines()[2:]:
        for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
            assert find(name)[0].name == name
