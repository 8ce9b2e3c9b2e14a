"""Recording blocks, instructions and accesses: tells the CPU what is wanted, and writes what it hands over.

The CPU knows numbers of tasks and ranges of addresses.  Which those are changes while the machine runs: a task is
switched to, a library is mapped.  Events say so, and before the CPU runs again it is told.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from emu.exits import CpuExit
from emu.trace import CpuTrace
from minikernel.events import Event, MmapRegion, SchedProcessExec, SchedProcessExit, SchedSwitch
from minikernel.report.place import display_name
from minikernel.report.symbols import Symbols
from minikernel.trace.flow import ACCESSES, CODE, FLOW, MAPS, encode_accesses, encode_code
from minikernel.trace.format import to_json
from minikernel.trace.select import Selection

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma
    from minikernel.task.task import Task

AddChunk = Callable[[bytes, int, int, bytes], None]
"""Writes a chunk: kind, first instruction count, items, contents."""

_PIECE: Final = 1 << 20  # bytes: what waits in memory, and is lost when we are killed


class FlowRecorder:
    """Records the blocks that *kernel*'s CPU runs, from now to ``finish``.

    The machine is run by ``run`` instead of ``kernel.cpu.run``, and ``sink`` hears its events.
    """

    def __init__(
        self,
        kernel: "Kernel",
        selection: Selection,
        add: AddChunk,
        flush: Callable[[], None],
        *,
        level: str,
    ) -> None:
        """*flush* writes what else is known of the run so far."""
        self._kernel = kernel
        self._flush = flush
        self._selection = selection
        self._add = add
        self._with_code = level != "blocks"
        self._maps = _Maps(kernel, add)
        self._stale = True  # the CPU knows of another task, or of mappings that have changed
        self._run = kernel.cpu.run
        self._trace = kernel.cpu.start_trace(self._write, limit=_PIECE, accesses=level == "memory")

    def sink(self, _icount: int, pid: int, event: Event) -> None:
        """Notice what changes who runs, and where."""
        kind = type(event)
        if kind is SchedSwitch:
            self._stale = True
        elif kind is MmapRegion or kind is SchedProcessExec:
            self._stale = True
            self._maps.changed(self._kernel.tasks.get(pid))
        elif kind is SchedProcessExit:
            self._maps.forget(pid)

    def run(self, budget: int) -> CpuExit:
        """Run the CPU."""
        if self._stale:
            self._stale = False
            self._tell()
        return self._run(budget)

    def _tell(self) -> None:
        """Let the CPU know who runs now."""
        task = self._kernel.current
        assert task is not None, "FlowRecorder._tell: nobody is in the CPU"
        wanted = self._selection.wants_task(task)
        self._trace.set_task(task.pid, on=wanted)
        if not wanted:
            return
        self._maps.look(task)
        if self._selection.has_places:
            self._trace.set_ranges(self._selection.places(task.mm, self._maps.symbols))

    def _write(self, trace: CpuTrace) -> None:
        piece = trace.fetch()
        if piece is None:
            return
        self._flush()
        self._maps.write()
        if len(piece.new_blocks):
            contents = encode_code(piece.new_blocks, with_code=self._with_code)
            self._add(CODE, piece.start, len(piece.new_blocks), contents)
        if piece.rows:
            self._add(FLOW, piece.start, piece.rows, piece.data)
        if piece.accesses:
            self._add(ACCESSES, piece.start, piece.accesses, encode_accesses(piece.access_columns))

    def finish(self) -> None:
        """Write what is left, and let the CPU go on without us."""
        self._write(self._trace)
        self._maps.write()
        self._trace.stop()


class _Maps:
    """Notes what is mapped where in the tasks that run, and the names in those files."""

    def __init__(self, kernel: "Kernel", add: AddChunk) -> None:
        self.symbols = Symbols(kernel.vdso)
        self._kernel = kernel
        self._add = add
        self._versions: dict[int, int] = {}  # of address spaces, by their id()
        self._seen: dict[int, tuple[MmStruct, int]] = {}  # by task
        self._rows: dict[int, list[list[Any]]] = {}  # by task: what was written last
        self._named: set[str] = set()  # files whose symbols are written
        self._pending: list[dict[str, Any]] = []

    def changed(self, task: "Task | None") -> None:
        """Something is mapped, or no longer, where *task* runs."""
        if task is not None and task.has_mm:
            key = id(task.mm)  # alive while it is in _seen
            self._versions[key] = self._versions.get(key, 0) + 1

    def forget(self, pid: int) -> None:
        """Task *pid* has ended."""
        self._seen.pop(pid, None)

    def look(self, task: "Task") -> None:
        """Note the mappings of *task*, which runs now, if they are not those that were noted before."""
        now = task.mm, self._versions.get(id(task.mm), 0)
        seen = self._seen.get(task.pid)
        if seen is not None and seen[0] is now[0] and seen[1] == now[1]:
            return
        self._seen[task.pid] = now
        rows = [self._row(task.mm, vma) for vma in task.mm.vmas.items if _has_a_name(task.mm, vma)]
        if rows == self._rows.get(task.pid):
            return
        self._rows[task.pid] = rows
        entry: dict[str, Any] = {"icount": self._kernel.cpu.icount, "pid": task.pid, "maps": rows}
        entry["comm"] = task.comm.decode(errors="backslashreplace")
        entry["symbols"] = self._new_symbols(task.mm)
        self._pending.append(entry)

    @staticmethod
    def _row(mm: "MmStruct", vma: "Vma") -> list[Any]:
        offset = vma.pgoff << 12 if vma.mapping is not None else 0
        return [vma.start, vma.end, offset, vma.flags & 7, display_name(mm, vma)]

    def _new_symbols(self, mm: "MmStruct") -> dict[str, list[tuple[int, int, str]]]:
        """By the name of the mapping: the symbols of files that were not met before."""
        found = {}
        for vma in mm.vmas.items:
            name = display_name(mm, vma)
            if name not in self._named and (vma.mapping is not None or vma.special is not None):
                self._named.add(name)
                if symbols := self.symbols.in_file(vma):
                    found[name] = symbols
        return found

    def write(self) -> None:
        """Write what is new."""
        if self._pending:
            pending, self._pending = self._pending, []
            self._add(MAPS, pending[0]["icount"], len(pending), to_json(pending))


def _has_a_name(mm: "MmStruct", vma: "Vma") -> bool:
    return vma.mapping is not None or vma.special is not None or display_name(mm, vma).startswith("[")
