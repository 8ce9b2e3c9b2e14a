"""Which code ran, in the form of DynamoRIO's drcov: for Lighthouse, Cartographer, bncov and their like.

Version 2 of the text: a table of modules, then 8 bytes for each block that ran, once.  The form is one process's, so
one process is exported.  Code without a file (compiled on the fly, the vDSO) has no place in it.
Source: DynamoRIO, ext/drcovlib/drcovlib.h (bb_entry_t) and drcovlib.c (the tables).
"""

from struct import Struct
from typing import Final

import numpy as np

from minikernel.trace.codec import TraceError
from minikernel.trace.flow_read import Blocks
from minikernel.trace.places import Snapshot
from minikernel.trace.trace import Trace

_BLOCK: Final = Struct("<IHH")  # offset in the module, bytes, number of the module
_MAX_MODULES: Final = 1 << 16


class _Coverage:
    """The modules and blocks of one process."""

    def __init__(self, trace: Trace) -> None:
        self._places = trace.places
        self.modules: dict[tuple[str, int, int], int] = {}  # name, first and last address -> number
        self.blocks: dict[bytes, None] = {}

    def add(self, blocks: Blocks, pid: int) -> None:
        """Count what *pid* ran of *blocks*."""
        mine = blocks.pid == pid
        numbers = self._places.snapshots_of(blocks.pid[mine], blocks.icount[mine])
        rows = np.stack([numbers.astype(np.int64), blocks.address[mine].astype(np.int64), blocks.size[mine]], axis=1)
        for number, address, size in np.unique(rows, axis=0).tolist():
            if number >= 0:
                self._add(self._places.snapshots[number], address, size)

    def _add(self, snapshot: Snapshot, address: int, size: int) -> None:
        mapping = next((m for m in snapshot.mappings if m.start <= address < m.end), None)
        if mapping is None or not mapping.name.startswith("/"):
            return
        parts = [m for m in snapshot.mappings if m.name == mapping.name]
        key = mapping.name, min(m.start for m in parts), max(m.end for m in parts)
        module = self.modules.setdefault(key, len(self.modules))
        if module >= _MAX_MODULES:
            raise TraceError("more modules than drcov can number")
        self.blocks[_BLOCK.pack(address - key[1], size, module)] = None


def drcov(trace: Trace, pid: int | None = None) -> bytes:
    """The file for process *pid*; None: the first one that ran code.

    Raises:
        TraceError: the trace has no blocks, or none of that process.
    """
    if not trace.flows.recorded:
        raise TraceError(f"{trace.path}: the trace has no blocks: record --level blocks")
    found = _Coverage(trace)
    for batch in trace.blocks():
        if pid is None and len(batch):
            pid = int(batch.pid[0])
        if pid is not None:
            found.add(batch, pid)
    if not found.blocks:
        raise TraceError(f"{trace.path}: no block of a file ran in process {pid}")
    lines = ["DRCOV VERSION: 2", "DRCOV FLAVOR: drcov", f"Module Table: version 2, count {len(found.modules)}"]
    lines.append("Columns: id, base, end, entry, path")
    lines += [
        f"{number:>3}, {base:#018x}, {end:#018x}, {0:#018x}, {name}"
        for (name, base, end), number in found.modules.items()
    ]
    lines.append(f"BB Table: {len(found.blocks)} bbs")
    return "\n".join(lines).encode("utf-8", "surrogateescape") + b"\n" + b"".join(sorted(found.blocks))
