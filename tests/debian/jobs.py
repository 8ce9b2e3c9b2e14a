"""What each Debian program is asked to do: reads jobs.txt, and makes the files that the jobs work on."""

import gzip
import os
import random
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
INPUTS: Final = HERE / "inputs"
MTIME: Final = 1_600_000_000  # of every file, so that listings agree


@dataclass(frozen=True, slots=True)
class Job:
    """One command, run in /job, whose contents count afterwards."""

    id: str
    command: tuple[str, ...]
    stdin: bytes = b""
    unordered: bool = False  # prints names as the directory has them


def read_jobs() -> list[Job]:
    """The lines of jobs.txt."""
    jobs = []
    for line in (HERE / "jobs.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        name, *words = shlex.split(line)
        stdin = b""
        if "<<<" in words:
            words, (text,) = words[: words.index("<<<")], words[words.index("<<<") + 1 :]
            stdin = text.encode().decode("unicode_escape").encode()
        elif "<" in words:
            words, (file,) = words[: words.index("<")], words[words.index("<") + 1 :]
            stdin = (INPUTS / file).read_bytes()
        jobs.append(Job(name.removesuffix("~"), tuple(words), stdin, unordered=name.endswith("~")))
    return jobs


def prepare(folder: Path) -> None:
    """Make *folder* anew, with the same bytes, modes and times every time."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in INPUTS.iterdir():
        shutil.copyfile(path, folder / path.name)
    noise = random.Random(2)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
    words = ["".join(noise.choices(syllables, k=noise.randint(1, 5))) for _ in range(400)]
    lines = [" ".join(noise.choices(words, k=noise.randint(0, 12))) + "." for _ in range(900)]
    listed = [f"word{i}" for i in (0, 3, 1, 4, 9, 2, 6, 5, 8, 7)] + words[:60]
    (folder / "text.txt").write_text("\n".join(lines) + "\n")
    (folder / "words.txt").write_text("\n".join(listed) + "\n")
    noise.shuffle(listed)
    (folder / "shuffled.txt").write_text("\n".join(listed) + "\n")
    (folder / "data.bin").write_bytes(noise.randbytes(256 << 10))
    (folder / "empty").touch()
    rows = [f"{words[i]},{noise.randint(1, 99999)},{noise.choice('xyz')}" for i in range(200)]
    (folder / "table.csv").write_text("\n".join(sorted(rows)) + "\n")
    entries = [f'{{"name": "{word}", "values": [{i}, {i * i}, -1.5]}}' for i, word in enumerate(words[:50])]
    (folder / "data.json").write_text(f"[{', '.join(entries)}]\n")
    (folder / "packed.gz").write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    (folder / "tree" / "inner" / "deep").mkdir(parents=True)
    for i in range(12):
        (folder / "tree" / ("inner" if i % 2 else ".") / f"file{i}").write_text(words[i] * i * 50)
    (folder / "tree" / "link").symlink_to("inner/file1")
    (folder / "tree" / "dangling").symlink_to("nowhere")
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (MTIME, MTIME), follow_symlinks=False)
