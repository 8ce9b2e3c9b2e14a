"""Reclaim policies: which page goes when memory is short.  ``base.py`` says what one is; each other file is one.

They are imported by name: a run needs one of them.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

from minikernel.mm.policy.base import ReclaimPolicy

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

POLICIES: Final = {
    "two-list": "minikernel.mm.policy.two_list:TwoListPolicy",
    "clock": "minikernel.mm.policy.clock:ClockPolicy",
    "fifo": "minikernel.mm.policy.fifo:FifoPolicy",
    "random": "minikernel.mm.policy.random:RandomPolicy",
    "aging": "minikernel.mm.policy.aging:AgingPolicy",
    "arc": "minikernel.mm.policy.arc:ArcPolicy",
    "mglru": "minikernel.mm.policy.mglru:MglruPolicy",
    "linux-2.0": "minikernel.mm.policy.linux20:Linux20Policy",
}
"""Where each is; in this order they are listed."""


def find_policy(name: str) -> type[ReclaimPolicy]:
    """The policy of that name, or the class that ``package.module:Class`` names, of a module of the user's.

    Raises:
        ValueError: there is none, or it cannot be used; the message is one line.
    """
    place = POLICIES.get(name, name)
    if ":" not in place:
        known = "; ".join(f"{each.name} ({each.summary})" for each in map(find_policy, POLICIES))
        raise ValueError(f"no policy {name!r}; there are {known}")
    module, _, member = place.partition(":")
    try:
        if name not in POLICIES and (here := os.getcwd()) not in sys.path:  # noqa: PTH109 - pathlib costs 7 ms
            sys.path.append(here)  # an installed command does not look where it is called
        found = getattr(import_module(module), member)
    except Exception as error:  # noqa: BLE001 - somebody else's module may do anything while it is imported
        raise ValueError(f"policy {name!r}: {type(error).__name__}: {_first_line(error)}") from None
    if not isinstance(found, type) or ReclaimPolicy not in found.__mro__:
        raise ValueError(f"policy {name!r}: it does not inherit minikernel.mm.policy.base.ReclaimPolicy")
    return found


def make_policy(name: str, node: "Node", seed: int = 0) -> ReclaimPolicy:
    """A new policy without pages, whose chance comes from *seed*.

    Raises:
        ValueError: there is none of that name, or it cannot be used.
    """
    policy = find_policy(name)
    try:
        made = policy(node)
    except Exception as error:  # somebody else's class may do anything while it is made
        if name in POLICIES:
            raise  # our own bug
        raise ValueError(f"policy {name!r}: {type(error).__name__}: {_first_line(error)}") from None
    made.seed(seed)
    return made


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
