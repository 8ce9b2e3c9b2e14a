"""What a header says comes back; what it should not say is refused."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from minikernel.config import Bind, Config
from minikernel.trace.codec import TraceError
from minikernel.trace.compare import Divergence, compare_events, differing
from minikernel.trace.digest import REGISTERS, Digest
from minikernel.trace.doors import is_answer, stat_from_json, stat_to_json
from minikernel.trace.header import config_from_json, config_to_json, streams_from_json

BYTES = st.binary(max_size=8).filter(lambda data: b"\0" not in data)
CONFIGS = st.builds(
    Config,
    argv=st.lists(BYTES, min_size=1, max_size=3).map(tuple),
    env=st.lists(BYTES, max_size=3).map(tuple),
    cwd=BYTES,
    binds=st.lists(st.builds(Bind, host=BYTES, guest=BYTES, writable=st.booleans()), max_size=2).map(tuple),
    ram=st.integers(1, (1 << 32) - 1),
    cpu=st.just("x86-64"),
    seed=st.integers(0, 99),
    aslr=st.booleans(),
    max_instructions=st.none() | st.integers(1, 1 << 40),
    groups=st.lists(st.integers(0, 9), max_size=3).map(tuple),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 1 << 70) | st.text(max_size=4) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@given(CONFIGS)
def test_a_configuration_comes_back(config: Config) -> None:
    assert config_from_json(config_to_json(config)) == config


def test_the_hosts_time_is_no_part_of_a_run() -> None:
    config = Config(argv=(b"x",), timeout=2.0)

    assert config_from_json(config_to_json(config)) == replace(config, timeout=None)


@given(st.data())
def test_a_changed_configuration_is_refused_or_is_one(data: st.DataObject) -> None:
    value = config_to_json(Config(argv=(b"x",), binds=(Bind(host=b"a", guest=b"b"),)))
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(JSON)
    assert "\n" not in refusal(config_from_json, value)


@given(JSON)
def test_any_json_is_refused_or_is_right(value: Any) -> None:
    for read in (config_from_json, stat_from_json, Digest.from_json, streams_from_json):
        assert "\n" not in refusal(read, value)
    assert "\n" not in refusal(lambda v: streams_from_json({"0": v}), value)
    for question in (
        "root",
        "stat",
        "link",
        "list",
        "mounts",
        "statvfs",
        "file",
        "stream",
        "bind",
        "swap",
        "tree",
        "?",
    ):
        assert is_answer([0, question, "/", 1, value]) in {True, False}
    assert not is_answer(value)


def refusal(read: Any, value: Any) -> str:
    """Why *read* refuses *value*; "" if it does not.  Every other exception is a failure."""
    try:
        read(value)
    except TraceError as error:
        return str(error)
    return ""


def test_what_stat_said_comes_back() -> None:
    here = Path("/").stat()
    again = stat_from_json(stat_to_json(here))

    assert stat_to_json(again) == stat_to_json(here)
    assert (again.st_mode, again.st_mtime) == (here.st_mode, int(here.st_mtime))


def test_the_differences_of_two_digests_are_named() -> None:
    first = Digest(1, 10, 2, (0,) * len(REGISTERS), "aa", "bb", 7, "cc", "dd", "ee", 99)
    second = dataclasses.replace(first, registers=(5, *(0,) * (len(REGISTERS) - 1)), tables="ab", frames=8)

    assert first.differences(first) == []
    assert Digest.from_json(first.as_json()) == first
    assert first.differences(second) == [
        "register rax: 0x0, now 0x5",
        "frames in use: 7, now 8",
        "the page tables",
    ]


def test_the_end_of_one_trace_is_a_difference() -> None:
    from minikernel.events import SchedSwitch

    told = (5, 2, SchedSwitch(2, 3))
    common, divergence = compare_events(iter([told, told]), iter([told]))

    assert common == 1
    assert divergence == Divergence(2, told, None, (told,))
    assert "(the run is over)" in divergence.text()
    assert differing(told, None) == []
    assert compare_events(iter([told]), iter([told])) == (1, None)


@pytest.mark.parametrize("streams", [None, {"3": {}}, {"0": {"kind": "pipe"}}])
def test_damaged_streams_are_refused(streams: Any) -> None:
    with pytest.raises(TraceError, match="streams are damaged"):
        streams_from_json(streams)
