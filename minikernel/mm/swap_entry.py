"""A swap entry: what a page-table entry says of a page that is in swap (Linux: swp_entry_t).

An int that is a non-present page-table entry as it is, in every paging mode, so no conversion is ever needed:

    bit 0      0: not present
    bits 1-5   type: which swap area
    bits 8-    offset: which page of the area; never 0, where the header is, so an entry is never 0

With the 4-byte entries of 2-level paging an area ends at 64 GiB.
"""

from typing import Final

_TYPE_SHIFT: Final = 1
_TYPE_MASK: Final = 0x1F
OFFSET_SHIFT: Final = 8
MAX_SWAPFILES: Final = 28  # Linux: 32, less those for migration, poison and device memory
MAX_OFFSET: Final = (1 << 24) - 1


def make_entry(area: int, offset: int) -> int:
    """The entry for page *offset* of the area of type *area* (swp_entry)."""
    return offset << OFFSET_SHIFT | area << _TYPE_SHIFT


def entry_area(entry: int) -> int:
    """Which area (swp_type)."""
    return entry >> _TYPE_SHIFT & _TYPE_MASK


def entry_offset(entry: int) -> int:
    """Which page of it (swp_offset)."""
    return entry >> OFFSET_SHIFT
