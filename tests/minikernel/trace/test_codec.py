"""Events as columns: every event comes back as it was, and no bytes make the decoder do anything but refuse."""

import tomllib
from enum import Enum
from pathlib import Path
from typing import Any, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikernel import __version__
from minikernel.events import Event, FaultKind, MmFaultResolved, SchedProcessExec, SysEnter, SysExit, field_types
from minikernel.trace.codec import OUR_TYPES, Told, TraceError, decode_events, encode_events, schema, types_of

NUMBERS = st.one_of(
    st.integers(0, 300), st.integers(-(1 << 63), (1 << 64) - 1), st.integers(-(1 << 80), 1 << 80), st.just(0)
)
TEXT = st.text(st.characters(), max_size=12)


def refusal(data: bytes) -> str:
    """Why *data* is refused; "" if it is not.  Every other exception is a failure."""
    try:
        decode_events(data)
    except TraceError as error:
        return str(error)
    return ""


def _values(annotation: Any) -> st.SearchStrategy[Any]:
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return st.sampled_from(annotation)
    if annotation is bool:
        return st.booleans()
    if annotation is str:
        return TEXT
    return st.lists(NUMBERS, max_size=6).map(tuple) if get_origin(annotation) is tuple else NUMBERS


EVENTS: st.SearchStrategy[Event] = st.one_of(
    [st.builds(kind.cls, *map(_values, field_types(kind.cls).values())) for kind in OUR_TYPES]
)
TOLD: st.SearchStrategy[Told] = st.tuples(st.integers(0, 1 << 60), st.integers(0, 32768), EVENTS)


@given(st.lists(TOLD, max_size=30))
def test_events_come_back_as_they_were(batch: list[Told]) -> None:
    assert decode_events(encode_events(batch)) == batch


@given(st.lists(TOLD, max_size=8), st.data())
def test_changed_bytes_are_refused_or_are_other_events(batch: list[Told], data: st.DataObject) -> None:
    encoded = bytearray(encode_events(batch))
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    assert "\n" not in refusal(bytes(encoded))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_are_events(data: bytes) -> None:
    assert "\n" not in refusal(data)


@given(st.lists(TOLD, min_size=1, max_size=8), st.data())
def test_a_beginning_is_refused(batch: list[Told], data: st.DataObject) -> None:
    encoded = encode_events(batch)
    with pytest.raises(TraceError):
        decode_events(encoded[: data.draw(st.integers(0, len(encoded) - 1))])


def test_a_count_that_nobody_could_hold_is_refused_before_anything_is_allocated() -> None:
    with pytest.raises(TraceError, match="a chunk of 4294967295 events"):
        decode_events(b"\xff\xff\xff\xff" + b"C\xff\xff\xff\xff" + bytes(8))


def test_the_header_lists_types_that_this_version_knows() -> None:
    assert types_of(schema()) == OUR_TYPES


@pytest.mark.parametrize("recorded", [None, [1], [[]], [["sys_enter"]], [["no_such", []]], [[["x"], []]]])
def test_a_type_that_is_not_ours_is_refused(recorded: object) -> None:
    with pytest.raises(TraceError):
        types_of(recorded)


def test_a_type_with_other_fields_is_refused() -> None:
    recorded = schema()
    recorded[0][1].pop()
    with pytest.raises(TraceError, match="page_fault_user"):
        types_of(recorded)


def test_numbers_take_few_bytes() -> None:
    calls: list[Told] = []
    for number in range(1000):
        calls.append((number * 100, 2, SysEnter("x86-64", 39, (1, 2, 3, 4, 5, 6))))
        calls.append((number * 100, 2, SysExit("x86-64", 39, 2)))
    assert len(encode_events(calls)) < 20 * len(calls)


def test_a_name_that_is_no_utf8_and_an_enum_survive() -> None:
    batch: list[Told] = [
        (1, 2, SchedProcessExec("/tmp/\udcff", 0x400000)),  # type: ignore[arg-type]  # a plain number will do
        (2, 2, MmFaultResolved(0x1000, FaultKind.COW_COPY, 7, major=True)),  # type: ignore[arg-type]  # same
    ]
    assert decode_events(encode_events(batch)) == batch


def test_the_version_in_headers_is_the_packages() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())

    assert project["project"]["version"] == __version__
