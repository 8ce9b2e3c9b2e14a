"""What a fault cost the machine: frames, page tables, virtual time, and what had to be moved out for it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from minikernel.report.words import plural

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct


@dataclass(frozen=True, slots=True)
class Meter:
    """What can be counted, at one moment."""

    ns: int  # of virtual time
    free: int  # frames
    tables: int  # of the address space
    rss: int  # pages of it
    scanned: int  # pages that reclaim has looked at
    swapped_out: int

    @classmethod
    def read(cls, kernel: "Kernel", mm: "MmStruct") -> "Meter":
        """Now."""
        stat = kernel.node.vmstat
        return cls(
            ns=kernel.clock.now_ns(),
            free=kernel.node.nr_free,
            tables=mm.pgtable.nr_tables,
            rss=mm.rss,
            scanned=stat["pgscan_direct"] + stat["pgscan_kswapd"],
            swapped_out=stat["pswpout"],
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """The differences."""

    frames: int  # fewer are free
    tables: int
    mapped: int  # pages more in the address space
    ns: int
    scanned: int
    swapped_out: int

    @classmethod
    def between(cls, before: Meter, after: Meter) -> "Cost":
        """From *before* to *after*."""
        return cls(
            frames=before.free - after.free,
            tables=after.tables - before.tables,
            mapped=after.rss - before.rss,
            ns=after.ns - before.ns,
            scanned=after.scanned - before.scanned,
            swapped_out=after.swapped_out - before.swapped_out,
        )

    @property
    def words(self) -> str:
        """A sentence; "nothing" where at most an entry was changed."""
        parts = []
        if self.frames:
            tables = f", {self.tables} of them for page tables" if self.tables else ""
            parts.append(f"{plural(self.frames, 'frame')}{tables}")
        elif self.tables:
            parts.append(plural(self.tables, "page table"))
        if self.mapped > 1:
            parts.append(f"{self.mapped} pages mapped")
        if self.ns:
            parts.append(f"{self.ns / 1000:,.0f} us of virtual time, for I/O")
        if self.scanned:
            parts.append(f"reclaim looked at {plural(self.scanned, 'page')}")
        if self.swapped_out:
            parts.append(f"{plural(self.swapped_out, 'page')} moved out")
        return "; ".join(parts) or "nothing: no frame, no time"

    def values(self) -> dict[str, int]:
        """For programs."""
        return {
            "frames": self.frames,
            "tables": self.tables,
            "mapped": self.mapped,
            "ns": self.ns,
            "scanned": self.scanned,
            "swapped_out": self.swapped_out,
        }
