"""What ``minikernel compare`` found, as a table and as JSON."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from minikernel.config import Config

JSON_VERSION: Final = 1
_MIB: Final = 1 << 20
_COLUMNS: Final = (
    ("minor_faults", "minor"),
    ("major_faults", "major"),
    ("refaults", "refaults"),
    ("pages_swapped_out", "swapped out"),
    ("pages_swapped_in", "swapped in"),
    ("file_pages_reread", "re-read"),
)


@dataclass(frozen=True, slots=True)
class Run:
    """What one policy did.  Pages, but for *time_ns*; *resident*: the most that the program and caches had at once."""

    policy: str
    status: int
    minor_faults: int
    major_faults: int
    refaults: int
    pages_swapped_out: int
    pages_swapped_in: int
    file_pages_reread: int
    pages_scanned: int
    pages_reclaimed: int
    time_ns: int
    resident: int


@dataclass(frozen=True, slots=True)
class Best:
    """Refaults that could not be avoided, and LRU's, with *frames* frames, for the references of one run."""

    frames: int
    min_refaults: int
    lru_refaults: int
    pages: int
    uses: int
    samples: int
    interval: int


def pressed(runs: Sequence[Run]) -> bool:
    """Whether memory was short at all."""
    return any(run.pages_reclaimed for run in runs)


def table(config: Config, runs: Sequence[Run], best: Best | None) -> str:
    """For people: a line for each run, and how the optimum was found."""
    rows = [("policy", *(title for _, title in _COLUMNS), "scanned/taken", "time [ms]")]
    for run in runs:
        ratio = f"{run.pages_scanned / run.pages_reclaimed:.2f}" if run.pages_reclaimed else "-"
        counts = [f"{getattr(run, field):,}" for field, _ in _COLUMNS]
        rows.append((run.policy, *counts, ratio, f"{run.time_ns / 1e6:,.3f}"))
    if best is not None:
        for name, refaults in (("MIN", best.min_refaults), ("LRU", best.lru_refaults)):
            rows.append((name, "", "", f"{refaults:,}", "", "", "", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        words = [name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))]
        lines.append("  ".join(words).rstrip() + "\n")
    return "".join(lines) + _footer(config, runs, best)


def _footer(config: Config, runs: Sequence[Run], best: Best | None) -> str:
    """How the optimum was found, in one line."""
    if not pressed(runs):
        return f"No run had to reclaim a page: the program fits into {config.ram // _MIB} MiB.\n"
    assert best is not None, "_footer: runs without an optimum"
    return (
        f"MIN (Belady's optimum) and LRU: {best.uses:,} uses of {best.pages:,} pages, from the accessed bits every "
        f"{best.interval:,} instructions, and from read and write, of one more run; "
        f"replayed with {best.frames:,} frames, the most that the program and caches had above.\n"
    )


def json_text(config: Config, runs: Sequence[Run], best: Best | None, differing: Sequence[str]) -> str:
    """For programs; *differing*: the policies under which the program did otherwise than under the first."""
    return json.dumps(
        {
            "version": JSON_VERSION,
            "argv": [os.fsdecode(word) for word in config.argv],
            "ram": config.ram,
            "differing": list(differing),
            "runs": [asdict(run) for run in runs],
            "best": asdict(best) if best else None,
        },
        indent=1,
    )
