"""The tutorial's examples do what they say: docs/api.md is run, as it stands, in a folder of its own."""

import doctest
import re
import subprocess
from pathlib import Path

import pytest

from guest.toolchain import compiler_for

TUTORIAL = Path(__file__).parents[3] / "docs" / "api.md"


def test_the_tutorial_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    source = re.search(r"```c\n(.*?)```", text, re.DOTALL)
    assert source is not None
    (tmp_path / "words.c").write_text(source[1], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    command = [*compiler_for("x86-64").command, "-static", "-g", "-O1", "-o", "words", "words.c"]
    subprocess.run(command, check=True)
    monkeypatch.setenv("PYTHONPATH", str(TUTORIAL.parents[1]))
    examples = doctest.DocTestParser().get_doctest(text.replace("```", "\n"), {}, "api.md", str(TUTORIAL), 0)
    assert len(examples.examples) > 30
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=report.append)

    assert not report, "".join(report)
