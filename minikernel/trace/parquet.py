"""A trace as one table of a Parquet file, for tables of any size: the extra ``parquet``.

A row is an event: instruction count, process, event name, and a column for each field that any event has, empty where
this one has none.  Rows are written in groups, so neither the trace nor the table has to fit into memory.
"""

from collections.abc import Iterable
from enum import Enum
from typing import Any, Final

from minikernel.trace.codec import OUR_TYPES, Told, TraceError

GROUP: Final = 1 << 16
"""Rows of a group."""


def write_parquet(events: Iterable[Told], path: str) -> int:
    """Write *events* to the file *path*; how many.

    Raises:
        TraceError: the extra is not installed.
        OSError: the host cannot write.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise TraceError("Parquet needs pyarrow: pip install minikernel[parquet]") from None
    arrow = {
        "int": pa.int64(),
        "address": pa.uint64(),
        "bool": pa.bool_(),
        "str": pa.dictionary(pa.int32(), pa.string()),
        "ints": pa.list_(pa.uint64()),
    }
    kinds = field_kinds()
    columns = [("icount", pa.uint64()), ("pid", pa.int32()), ("event", arrow["str"])]
    columns += [(name, arrow[kind]) for name, kind in kinds.items()]
    schema = pa.schema(columns)
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(events):
            writer.write_batch(pa.RecordBatch.from_pydict(_columns(group, kinds), schema=schema), row_group_size=GROUP)
            count += len(group)
    return count


def field_kinds() -> dict[str, str]:
    """The fields of all events, and how each is stored: ``int``, ``address``, ``bool``, ``str`` or ``ints``."""
    found: dict[str, str] = {}
    for kind in OUR_TYPES:
        for name, form in kind.fields:
            is_address = form == "int" and kind.cls.__annotations__[name] is not int
            stored = "address" if is_address else "str" if form == "enum" else form
            known = found.setdefault(name, stored)
            if known != stored:
                assert {known, stored} == {"int", "address"}, f"field_kinds: {name} is stored in two ways"
                found[name] = "address"
    return found


def _groups(events: Iterable[Told]) -> "Iterable[list[Told]]":
    group: list[Told] = []
    for told in events:
        group.append(told)
        if len(group) == GROUP:
            yield group
            group = []
    if group:
        yield group


def _columns(group: list[Told], kinds: dict[str, str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [None] * len(group) for name in kinds}
    for row, (_, _, event) in enumerate(group):
        for name in event.__struct_fields__:
            columns[name][row] = stored_value(getattr(event, name), kinds[name])
    return {
        "icount": [told[0] for told in group],
        "pid": [told[1] for told in group],
        "event": [told[2].name for told in group],
        **columns,
    }


def stored_value(value: Any, kind: str) -> Any:
    """*value* as a column of *kind* has it: the result of a sigreturn is a whole register, and becomes signed."""
    if isinstance(value, Enum):
        return value.value
    if kind == "ints":
        return list(value)
    return value - (1 << 64) if kind == "int" and value >> 63 > 0 else value
