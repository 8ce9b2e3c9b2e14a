"""What a reclaim policy is: an object that is told which pages come and go, and says which one to take next.

The mechanism (``vmscan.py``, ``evict.py``) unmaps, writes and frees; a policy only chooses.  So a new one is a few
dozen lines: keep the pages in some order, look at ``scan.referenced``, yield victims.  docs/policies.md writes one.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from emu.x86 import Pfn
from minikernel.mm.page import PG_active, PG_referenced, PG_swapbacked
from minikernel.mm.rmap import page_referenced

if TYPE_CHECKING:
    from minikernel.mm.page_alloc import Node

DEF_PRIORITY: Final = 12  # scanning starts with a 2**-12th of a list (include/linux/mmzone.h)
SWAP_CLUSTER_MAX: Final = 32  # pages to reclaim at a time (include/linux/swap.h)

# The lists that /proc names (enum lru_list).
INACTIVE_ANON: Final = 0
ACTIVE_ANON: Final = 1
INACTIVE_FILE: Final = 2
ACTIVE_FILE: Final = 3
NR_LISTS: Final = 4


class Scan:
    """One attempt to reclaim: what is wanted, what may be done for it, what came of it (struct scan_control)."""

    __slots__ = (
        "by_kswapd", "may_swap", "may_write", "node", "nr_reclaimed", "nr_scanned", "nr_to_reclaim", "pfn_limit",
        "priority",
    )  # fmt: skip

    def __init__(
        self,
        node: "Node",
        nr_to_reclaim: int,
        *,
        pfn_limit: int,
        by_kswapd: bool = False,
        may_write: bool = True,
    ) -> None:
        self.node = node
        self.nr_to_reclaim = nr_to_reclaim
        self.pfn_limit = pfn_limit  # frames from here on lie in zones that do not help
        self.by_kswapd = by_kswapd
        self.may_write = may_write  # GFP_IO and GFP_FS: dirty pages may be written out
        self.may_swap = node.swap.has_room
        self.priority = DEF_PRIORITY
        self.nr_reclaimed = 0
        self.nr_scanned = 0

    @property
    def is_done(self) -> bool:
        """Enough was reclaimed."""
        return self.nr_reclaimed >= self.nr_to_reclaim

    def quota(self, size: int) -> int:
        """How many of *size* pages to look at with this priority: a 2**-priority-th, a cluster at least, never more."""
        return min(size, max(size >> self.priority, SWAP_CLUSTER_MAX))

    def referenced(self, pfn: Pfn) -> int:
        """How many mappings were used since the last call, by the hardware's accessed bits, which are cleared."""
        mem_map = self.node.mem_map
        return page_referenced(mem_map, pfn) if mem_map.mapcount[pfn] else 0

    def used(self, pfn: Pfn) -> bool:
        """Whether the page was used at all since the last call: by a mapping, or by a system call."""
        flags = self.node.mem_map.flags
        touched = flags[pfn] & PG_referenced
        flags[pfn] &= ~PG_referenced
        return bool(self.referenced(pfn)) or touched != 0

    def suits(self, pfn: Pfn) -> bool:
        """Whether freeing *pfn* would help, and is possible as far as is known without trying; counts the look."""
        flags = self.node.mem_map.flags[pfn]
        self.node.vmstat["pgscan_anon" if flags & PG_swapbacked else "pgscan_file"] += 1
        if pfn >= self.pfn_limit:
            return False
        return self.may_swap or not flags & PG_swapbacked


class ReclaimPolicy(Protocol):
    """Which page goes.  To write one, inherit this, and add what has no body here.

    A page is the policy's from ``add`` on until it is yielded by ``victims`` or ``remove``d; a victim that could not be
    taken comes back by ``put_back``.  PG_active is the policy's to use; the mechanism sets it for pages that it wants
    to be kept for a while.  PG_referenced says that a system call used the page since ``Scan.used`` looked last.

    While ``victims`` is suspended, pages may come and go.
    """

    name: ClassVar[str]
    summary: ClassVar[str]  # one line for people

    def __init__(self, node: "Node") -> None:
        """A policy without pages."""
        ...

    def add(self, pfn: Pfn) -> None:
        """A page that may be reclaimed has come."""
        ...

    def remove(self, pfn: Pfn) -> None:
        """It is gone: freed, or locked in memory."""
        ...

    def put_back(self, pfn: Pfn) -> None:
        """A victim stays; with PG_active it is wanted."""
        ...

    def victims(self, scan: Scan) -> Iterator[Pfn]:
        """Pages to take, the most dispensable first; it ends when enough was taken, or this priority has seen enough.

        Those that do not ``Scan.suits`` are never yielded.  Every page looked at counts as ``Scan.nr_scanned``.  At
        priority 0 each page has been looked at once more than it takes to see that nobody uses it.
        """
        ...

    def lists(self) -> tuple[int, int, int, int]:
        """Pages, by INACTIVE_ANON and so on."""
        ...

    def pages(self) -> Iterator[Pfn]:
        """Every page, in the policy's order."""
        ...

    # ---- what a policy may leave out (the bare returns say that these are no omissions)

    def accessed(self, pfn: Pfn) -> None:  # noqa: ARG002 - a default
        """A system call used the page again, which has PG_referenced but not PG_active (mark_page_accessed)."""
        return

    def deactivate(self, pfn: Pfn) -> None:  # noqa: ARG002 - a default
        """The page is not needed soon (MADV_COLD)."""
        return

    def evicted(self, pfn: Pfn) -> object:  # noqa: ARG002 - a default
        """The page is being reclaimed; what to give to ``refault`` should its contents come back: not None.

        Best of a type of the policy's own: what another one remembered comes to ``refault`` as well.
        """
        return ()

    def refault(self, pfn: Pfn, shadow: object) -> None:  # noqa: ARG002 - a default
        """Contents that were evicted are in *pfn* now, which will be ``add``ed."""
        return

    def seed(self, number: int) -> None:  # noqa: ARG002 - a default
        """All chance comes from *number*."""
        return

    def kswapd_pages(self) -> int | None:
        """How many pages kswapd takes before it sleeps; None: until every zone is above its high watermark."""
        return None

    def kswapd_interval(self) -> int | None:
        """When kswapd, which has just taken something, works again by itself, in ns; None: when somebody wakes it."""
        return None


def list_of(flags: int) -> int:
    """Which list a page with *flags* belongs to."""
    return (ACTIVE_ANON if flags & PG_active else INACTIVE_ANON) + (0 if flags & PG_swapbacked else INACTIVE_FILE)
