"""The knobs of /sys/kernel/mm/transparent_hugepage (Documentation/admin-guide/mm/transhuge.rst)."""

from dataclasses import dataclass
from typing import Final

ENABLED: Final = ("always", "madvise", "never")
DEFRAG: Final = ("always", "defer", "defer+madvise", "madvise", "never")


@dataclass(slots=True)
class ThpKnobs:
    """One machine's; ``Node.vm.thp``."""

    enabled: str = "madvise"  # of ENABLED: which mappings get huge pages
    defrag: str = "madvise"  # of DEFRAG: who may reclaim for one
    use_zero_page: int = 1  # a read of untouched memory maps the huge zero page
