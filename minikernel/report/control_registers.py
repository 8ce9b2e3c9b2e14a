"""Control registers and EFER in words.  Source: SDM vol. 3A, 2.5 and 2.2.1."""

from collections.abc import Mapping
from typing import Final

_BITS: Final[Mapping[str, tuple[tuple[int, str], ...]]] = {
    "cr0": ((0, "PE"), (1, "MP"), (2, "EM"), (3, "TS"), (4, "ET"), (5, "NE"), (16, "WP"), (18, "AM"), (29, "NW"),
            (30, "CD"), (31, "PG")),
    "cr3": ((3, "PWT"), (4, "PCD")),
    "cr4": ((0, "VME"), (1, "PVI"), (2, "TSD"), (3, "DE"), (4, "PSE"), (5, "PAE"), (6, "MCE"), (7, "PGE"), (8, "PCE"),
            (9, "OSFXSR"), (10, "OSXMMEXCPT"), (11, "UMIP"), (12, "LA57"), (16, "FSGSBASE"), (17, "PCIDE"),
            (18, "OSXSAVE"), (20, "SMEP"), (21, "SMAP"), (22, "PKE")),
    "efer": ((0, "SCE"), (8, "LME"), (10, "LMA"), (11, "NXE")),
}  # fmt: skip


def control_words(name: str, value: int) -> str:
    """The bits of *value* that are set in register *name*, by their names; what an address register says."""
    words = " ".join(word for bit, word in _BITS.get(name, ()) if value >> bit & 1)
    if name == "cr2":
        return "the address of the last page fault"
    if name == "cr3":
        return f"root table in frame {value >> 12:#x}" + (f" {words}" if words else "")
    return f"[ {words} ]"
