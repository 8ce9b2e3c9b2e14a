"""What ran, counted: hot blocks, functions and pages, the mix of instructions, working sets, reuse distances."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import numpy as np

from emu.trace import Column
from emu.x86 import PAGE_SHIFT
from minikernel.trace.flow_read import Blocks, InstructionTable
from minikernel.trace.flow_text import Disassembly
from minikernel.trace.page_use import PageUse
from minikernel.trace.places import joined
from minikernel.trace.trace import Trace

_TOP: Final = 12  # rows of each table
_WINDOWS: Final = 10  # of the working set


class Totals:
    """The sums over all blocks of a trace, taken batch by batch."""

    def __init__(self, trace: Trace, code_pages: PageUse) -> None:
        self.trace = trace
        self.code = trace.flows.code
        nr_blocks = len(self.code)
        self.entered: Column = np.zeros(nr_blocks, np.int64)
        self.retired: Column = np.zeros(nr_blocks, np.int64)  # instructions
        self._by_place: Column = np.zeros(0, np.int64)  # instructions by (snapshot of the mappings + 1, block)
        self.table: InstructionTable | None = trace.flows.instruction_table() if trace.flows.has_code else None
        self._begins: Column = np.zeros(0, np.int64)
        if self.table is not None:
            self._begins = np.zeros(len(self.table.address) + 1, np.int64)
        for batch in trace.blocks():
            self.entered += np.bincount(batch.number, minlength=nr_blocks)
            self.retired += np.bincount(batch.number, batch.retired, nr_blocks).astype(np.int64)
            self._count_instructions(batch.number, batch.retired)
            self._count_places(batch)
            code_pages.touch(batch.icount, batch.pid, batch.address)

    def _count_instructions(self, number: Column, retired: Column) -> None:
        """Each block that ran adds one from its first instruction on, and takes it back behind its last."""
        if self.table is not None:
            first = self.table.first[number]
            size = len(self._begins)
            self._begins += np.bincount(first, minlength=size) - np.bincount(first + retired, minlength=size)

    def _count_places(self, batch: Blocks) -> None:
        snapshots = self.trace.places.snapshots_of(batch.pid, batch.icount)
        sums = np.bincount((snapshots + 1) * len(self.code) + batch.number, batch.retired, len(self._by_place))
        sums[: len(self._by_place)] += self._by_place
        self._by_place = sums.astype(np.int64)

    def by_place(self) -> Iterator[tuple[tuple[str, int], int, int]]:
        """(name and offset of its start, block, instructions), for each place that a block ran at."""
        places = self.trace.places
        for key in np.flatnonzero(self._by_place).tolist():
            snapshot, number = divmod(key, len(self.code))
            address = int(self.code.address[number])
            name = places.name(places.snapshots[snapshot - 1], address) if snapshot else ("", 0)
            yield name, number, int(self._by_place[key])

    @property
    def executed(self) -> Column:
        """How often each instruction of the table retired."""
        return np.cumsum(self._begins)[:-1]


def flow_figures(trace: Trace) -> str:
    """The tables behind those of the events."""
    window = trace.flows.end // _WINDOWS + 1
    code_pages = PageUse(window)
    totals = Totals(trace, code_pages)
    total = int(totals.retired.sum())
    lines = [f"blocks        {int(totals.entered.sum())} ran, {len(totals.code)} different, {total} instructions"]
    lines += _table("block", _hot_blocks(totals), total)
    lines += _table("function", _hot_functions(totals), total)
    if totals.table is not None:
        lines += _table("mix", _mix(totals, totals.table), total)
    lines += code_pages.lines("code")
    code_pages.close()
    if trace.flows.nr_accesses:
        lines += _accesses(trace, window)
    return "\n".join(lines) + "\n"


def _accesses(trace: Trace, window: int) -> list[str]:
    data_pages = PageUse(window)
    count, size = [0, 0], [0, 0]
    for batch in trace.accesses():
        data_pages.touch(batch.icount, batch.pid, batch.address)
        for store in (0, 1):
            sizes = batch.size[batch.store == store]
            count[store] += len(sizes)
            size[store] += int(sizes.sum(dtype=np.int64))
    lines = [f"accesses      {count[0]} loads of {size[0]} bytes, {count[1]} stores of {size[1]} bytes"]
    lines += data_pages.lines("data")
    data_pages.close()
    return lines


def _table(title: str, rows: Counter[str], total: int) -> list[str]:
    ranked = sorted(rows.items(), key=lambda item: (-item[1], item[0]))[:_TOP]
    return [f"{title:<8} {count:>10}  {count * 100 / max(total, 1):5.1f} %  {name}" for name, count in ranked]


def _hot_blocks(totals: Totals) -> Counter[str]:
    rows: Counter[str] = Counter()
    for name, number, count in totals.by_place():
        rows[f"{int(totals.code.address[number]):#x} {joined(name)}"] += count
    return rows


def _hot_functions(totals: Totals) -> Counter[str]:
    rows: Counter[str] = Counter()
    for (name, _), number, count in totals.by_place():
        rows[name or f"page {int(totals.code.address[number]) >> PAGE_SHIFT << PAGE_SHIFT:#x}"] += count
    return rows


def _mix(totals: Totals, table: InstructionTable) -> Counter[str]:
    """Instructions by their mnemonics."""
    executed = totals.executed
    code = Disassembly(totals.trace)
    rows: Counter[str] = Counter()
    for index in np.flatnonzero(executed).tolist():
        words = code.text(int(table.address[index]), int(table.size[index]), int(table.at[index])).split(" ")
        has_prefix = words[0].startswith(("rep", "lock"))
        rows[" ".join(words[: 1 + has_prefix])] += int(executed[index])
    return rows
