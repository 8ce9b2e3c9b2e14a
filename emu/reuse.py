"""Reuse distances of pages, for traces of any length: ``native/reuse.c``."""

import ctypes
from typing import Any, Final, Self

import numpy as np

from emu import native
from emu.native import Prototype

_NR_BUCKETS: Final = 65
_POINTER: Final = ctypes.c_void_p
_FUNCTIONS: Final[tuple[Prototype, ...]] = (
    ("reuse_open", _POINTER, ()),
    ("reuse_close", None, (_POINTER,)),
    ("reuse_touch", ctypes.c_int, (_POINTER, _POINTER, ctypes.c_size_t, _POINTER, _POINTER)),
)


class ReuseDistances:
    """How many different pages were touched between two touches of one."""

    def __init__(self) -> None:
        self._native = native.load()
        native.declare(self._native, _FUNCTIONS)
        self._handle = _POINTER(self._native.reuse_open())
        if not self._handle.value:
            raise MemoryError("the host has no memory for reuse distances")
        self._buckets = np.zeros(_NR_BUCKETS, np.uint64)
        self._first = ctypes.c_uint64(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._native.reuse_close(self._handle)

    def touch(self, pages: "np.ndarray[Any, Any]") -> None:
        """These pages are touched, one after the other; any numbers but 2**64 - 1 name pages."""
        pages = np.ascontiguousarray(pages, np.uint64)
        pointers = pages.ctypes.data, len(pages), self._buckets.ctypes.data, ctypes.byref(self._first)
        if self._native.reuse_touch(self._handle, *pointers):
            raise MemoryError("the host has no memory for reuse distances")

    @property
    def first(self) -> int:
        """Touches of pages that were not touched before."""
        return self._first.value

    @property
    def distances(self) -> dict[int, int]:
        """How often each distance occurred, rounded up to a power of 2; 0: the same page again at once."""
        found = {0 if n == 0 else 1 << n - 1: int(count) for n, count in enumerate(self._buckets)}
        return {distance: count for distance, count in found.items() if count}
