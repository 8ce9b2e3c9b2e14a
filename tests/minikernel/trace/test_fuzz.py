"""A seeded fuzzer: chunks with right checksums and wrong contents are read, and replayed, or refused in one line."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minikernel.rerun import replay_trace
from minikernel.trace.codec import TraceError
from minikernel.trace.doors import is_answer
from minikernel.trace.format import DIGEST, DOORS, EVENTS, FILE, INPUT, NOTES, Reader, Writer, to_json
from minikernel.trace.trace import Trace
from tests.minikernel.trace.test_verify import SH, record

Change = Callable[[bytes, random.Random], bytes]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed trace with input and a child."""
    folder = tmp_path_factory.mktemp("trace")
    return record(folder / "t", "--clear-env", "--pack", "--", SH, "-c", "read x; (echo $x)", stdin=b"in\n")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without the files."""
    folder = tmp_path_factory.mktemp("small")
    return record(folder / "t", "--clear-env", "--", SH, "-c", "read x; (echo $x)", stdin=b"in\n")


def rewritten(trace: Path, target: Path, kind: bytes, change: Change, chance: random.Random) -> Path:
    """The trace again, with one chunk of *kind* changed and every checksum right."""
    with Reader(str(trace)) as reader:
        victims = [chunk for chunk in reader.chunks if chunk.kind == kind]
        victim = chance.choice(victims)
        writer = Writer(str(target), reader.header)
        for chunk in reader.chunks[1:]:
            contents = reader.contents(chunk)
            writer.add(chunk.kind, chunk.icount, chunk.items, change(contents, chance) if chunk == victim else contents)
        writer.finish()
    return target


def spoilt(data: bytes, chance: random.Random) -> bytes:
    """Some bytes overwritten, cut out, or put in."""
    piece = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(piece) + 1)
        match chance.randrange(3):
            case 0:
                piece[at : at + 4] = chance.randbytes(4)
            case 1:
                del piece[at : at + chance.randint(1, 40)]
            case _:
                piece[at:at] = chance.randbytes(chance.randint(1, 9))
    return bytes(piece)


def spoilt_json(data: bytes, chance: random.Random) -> bytes:
    """A value somewhere in it is another one."""
    value = json.loads(data)
    at: Any = value
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            break
        key = chance.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and chance.random() < 0.8:
            at = at[key]
            continue
        at[key] = chance.choice([None, -1, 1 << 70, 0, "x", "\ud800", [], {}, True, 1.5])
        break
    return to_json(value)


def read_all(path: Path) -> str:
    """Everything that a trace gives; why it is refused, or ""."""
    try:
        with Trace(str(path)) as trace:
            list(trace.events())
            trace.digests()
            trace.inputs()
            contents = trace.contents()
            for _, question, _, _, answer in trace.answers():
                if question == "file" and "content" in answer:
                    list(contents.whole(answer))
                    contents.read(0, b"", answer, 100, max(answer["size"] - 50, 0))
            trace.host_signals()
    except TraceError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", [EVENTS, DIGEST, INPUT, DOORS, FILE, NOTES], ids=lambda kind: kind.decode())
def test_wrong_contents_are_refused_or_read(recorded: Path, small: Path, tmp_path: Path, kind: bytes) -> None:
    chance = random.Random(f"{kind!r} 7")
    for number in range(40):
        change = spoilt_json if kind in {DIGEST, DOORS, NOTES} and number % 2 else spoilt
        why = read_all(rewritten(recorded if kind == FILE else small, tmp_path / "bad", kind, change, chance))
        assert "\n" not in why
        assert not why or why.startswith(f"{tmp_path}/bad: ")


@pytest.mark.parametrize("kind", [INPUT, DOORS], ids=lambda kind: kind.decode())
def test_a_replay_of_wrong_contents_ends(small: Path, tmp_path: Path, kind: bytes) -> None:
    """It goes another way, or is refused; whatever the trace says, it is no mistake of ours."""
    chance = random.Random(f"{kind!r} 8")
    outcomes = set()
    for _ in range(60):
        change = spoilt if kind == INPUT else spoilt_json
        bad = rewritten(small, tmp_path / "bad", kind, change, chance)
        try:
            with Trace(str(bad)) as trace:
                outcomes.add("same" if replay_trace(trace, None).same else "other")
        except TraceError as error:
            outcomes.add("refused" if "\n" not in str(error) else "several lines")
    assert {"other"} <= outcomes <= {"same", "other", "refused"}


def test_every_answer_of_a_recording_is_one(recorded: Path) -> None:
    with Trace(str(recorded)) as trace:
        assert all(map(is_answer, trace.answers()))
        assert {"root", "stat", "file", "statvfs", "tree", "mounts"} >= {answer[1] for answer in trace.answers()} - {
            *("link", "list")
        }
