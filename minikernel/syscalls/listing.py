"""The system call tables as text, as JSON, and as the Markdown of docs/syscalls.md."""

import json as json_module
from typing import TextIO

from minikernel.syscalls.entry_types import Entry, Support
from minikernel.syscalls.table import TABLES

_HEADING = """# System calls

<!-- Made by `python -m minikernel.syscalls.listing`; a test compares. -->

*full*: what Linux does on such a machine.  *partial*: the note says what is missing.  *absent*: `-ENOSYS`; the note
says why, or what programs do then.

"""


def _rows(abi: str | None) -> list[tuple[str, int, Entry]]:
    """(ABI, number, entry), in the order of the numbers.  *abi* None: both."""
    chosen = [name for name in TABLES if abi in {None, name}]
    assert chosen, f"listing: no ABI is called {abi}"
    return [(name, nr, entry) for name in chosen for nr, entry in sorted(TABLES[name].entries.items())]


def counts(abi: str) -> dict[str, int]:
    """How many calls of *abi* have each support level."""
    entries = TABLES[abi].entries.values()
    return {level.value: sum(entry.support is level for entry in entries) for level in Support}


def _summary(abi: str) -> str:
    numbers = counts(abi)
    told = ", ".join([f"{count} {level}" for level, count in numbers.items()])
    return f"{sum(numbers.values())} calls: {told}"


def print_table(file: TextIO, *, json: bool = False, abi: str | None = None) -> None:
    """Print the table of *abi* (None: both) to *file*, for people, or as JSON for programs."""
    rows = _rows(abi)
    if json:
        objects = [
            {"abi": name, "nr": nr, "name": entry.name, "support": entry.support.value, "note": entry.note}
            for name, nr, entry in rows
        ]
        json_module.dump(objects, file, indent=1)
        file.write("\n")
        return
    for name in TABLES:
        if abi not in {None, name}:
            continue
        file.write(f"{name}: {_summary(name)}\n")
        for row_abi, nr, entry in rows:
            if row_abi == name:
                file.write(f"{nr:>4}  {entry.name:<28} {entry.support.value:<8} {entry.note}".rstrip() + "\n")
        file.write("\n")


def markdown() -> str:
    """The text of docs/syscalls.md."""
    parts = [_HEADING]
    for abi, table in TABLES.items():
        parts.append(f"## {abi}\n\n{_summary(abi)}\n\n| nr | name | support | note |\n| ---: | --- | --- | --- |\n")
        parts.extend(
            f"| {nr} | {entry.name} | {entry.support.value} | {entry.note} |\n"
            for nr, entry in sorted(table.entries.items())
        )
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


def main() -> None:
    """Print docs/syscalls.md."""
    print(markdown(), end="")


if __name__ == "__main__":
    main()
