"""The native part, loaded with ctypes: runs the engine, notes exits, keeps the budget, counts instructions.

``PyDLL``, so that a call does not give up and retake the interpreter lock: the emulator has no threads, and
a run returns to Python at every budget.
"""

import ctypes
import os
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

LIBRARY: Final = os.path.join(os.path.dirname(__file__), "libemunative.so")  # noqa: PTH118, PTH120 - pathlib costs 7 ms


Prototype: TypeAlias = tuple[str, Any, tuple[Any, ...]]
"""A function of the library: name, type of the result, types of the arguments."""


class NativeMissingError(RuntimeError):
    """The shared library is absent or does not load; the message says how to build it."""


def load() -> ctypes.PyDLL:
    """Load the shared library and declare its functions.

    Raises:
        NativeMissingError: it was never built, or for another platform.
    """
    try:
        library = ctypes.PyDLL(LIBRARY)
    except OSError as error:
        raise NativeMissingError(
            f"the native part of emu cannot be loaded ({error}); build it with `pip install .`"
        ) from None
    pointer, word, number = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int
    rows: tuple[Prototype, ...] = (
        ("machine_last_error", ctypes.c_char_p, ()),
        ("machine_load", number, (ctypes.c_char_p,)),
        ("machine_open", pointer, (number, pointer, word)),
        ("machine_close", None, (pointer,)),
        ("machine_set_cpuid", number, (pointer, pointer, ctypes.c_size_t)),
        ("machine_run", number, (pointer, ctypes.c_int64)),
        ("machine_step", number, (pointer,)),
        ("machine_set_break", number, (pointer, word, number)),
        ("machine_set_watches", number, (pointer, pointer, ctypes.c_size_t)),
        ("machine_flush_tlb", number, (pointer,)),
        ("machine_flush_code", number, (pointer,)),
        ("machine_remove_code", number, (pointer, word, word)),
        ("machine_reg_read", number, (pointer, number, pointer)),
        ("machine_reg_write", number, (pointer, number, pointer)),
        ("machine_set_inlining", None, (pointer, number)),
        ("machine_nr_sites", word, (pointer,)),
        ("machine_cpl", ctypes.c_uint, (pointer,)),
        ("machine_code_bits", ctypes.c_uint, (pointer,)),
        ("machine_fxsave", None, (pointer, pointer)),
        ("machine_fxrstor", None, (pointer, pointer)),
        ("insn_length", ctypes.c_uint, (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint)),
    )
    declare(library, rows)
    return library


def declare(library: ctypes.PyDLL, rows: Iterable[Prototype]) -> None:
    """Give the functions of *library* their types."""
    for name, result, arguments in rows:
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
