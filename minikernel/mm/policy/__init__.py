"""Reclaim policies: which page goes when memory is short.  ``base.py`` says what one is; each other file is one."""

from typing import TYPE_CHECKING

from minikernel.mm.policy.base import ReclaimPolicy
from minikernel.mm.policy.two_list import TwoListPolicy

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

POLICIES: dict[str, type[ReclaimPolicy]] = {policy.name: policy for policy in (TwoListPolicy,)}


def make_policy(name: str, node: "Node") -> ReclaimPolicy:
    """A new policy without pages.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in POLICIES:
        raise ValueError(f"no policy {name!r}; there are {', '.join(POLICIES)}")
    return POLICIES[name](node)
