"""The knobs of /sys/kernel/mm/transparent_hugepage (Documentation/admin-guide/mm/transhuge.rst)."""

from typing import Final

ENABLED: Final = ("always", "madvise", "never")
DEFRAG: Final = ("always", "defer", "defer+madvise", "madvise", "never")


class ThpKnobs:
    """One machine's; ``Node.vm_sysctl.thp``.  No dataclass, as making one costs every start half a millisecond."""

    __slots__ = ("defrag", "enabled", "use_zero_page")

    def __init__(self) -> None:
        self.enabled = "madvise"  # of ENABLED: which mappings get huge pages
        self.defrag = "madvise"  # of DEFRAG: who may reclaim for one
        self.use_zero_page = 1  # a read of untouched memory maps the huge zero page
