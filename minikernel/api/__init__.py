"""The machine for programs: ``from minikernel import Machine`` (docs/api.md)."""

from minikernel.api.errors import (
    BadAddressError,
    BadRegisterError,
    CannotStartError,
    GuestError,
    NoTaskError,
    StuckError,
    UnknownSymbolError,
)
from minikernel.api.machine import Checkpoint, Machine
from minikernel.api.views import Fault, Mapping, Occurrence, Syscall, TableEntry, TaskView

__all__ = [
    "BadAddressError",
    "BadRegisterError",
    "CannotStartError",
    "Checkpoint",
    "Fault",
    "GuestError",
    "Machine",
    "Mapping",
    "NoTaskError",
    "Occurrence",
    "StuckError",
    "Syscall",
    "TableEntry",
    "TaskView",
    "UnknownSymbolError",
]
