"""Blocks, instructions and accesses as tables of Parquet files: the columns of ``flow_read``, batch by batch."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any, Final

from minikernel.trace.codec import TraceError
from minikernel.trace.flow_read import Accesses, Blocks, Instructions
from minikernel.trace.flow_text import check_level
from minikernel.trace.trace import Trace

_ROWS: Final = {"blocks": Blocks, "instructions": Instructions, "memory": Accesses}
_INTERNAL: Final = frozenset({"number", "at"})  # columns that mean something only beside Flows.code


def write_flow_parquet(trace: Trace, level: str, path: str) -> int:
    """Write the rows of *level* (blocks, instructions, memory) to the file *path*; how many.

    Raises:
        TraceError: the trace has no such level, or the extra is not installed.
        OSError: the host cannot write.
    """
    check_level(trace, level)
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise TraceError("Parquet needs pyarrow: pip install minikernel[parquet]") from None
    names = [field.name for field in fields(_ROWS[level]) if field.name not in _INTERNAL]
    kinds = {"pid": pa.int32(), "size": pa.uint16(), "retired": pa.uint16(), "store": pa.bool_()}
    schema = pa.schema([(name, kinds.get(name, pa.uint64())) for name in names])
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in _batches(trace, level):
            columns = [pa.array(getattr(batch, name)).cast(schema.field(name).type) for name in names]
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
            count += len(batch)
    return count


def _batches(trace: Trace, level: str) -> Iterator[Any]:
    if level == "blocks":
        return trace.blocks()
    return trace.instructions() if level == "instructions" else trace.accesses()
