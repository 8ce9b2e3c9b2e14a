"""Who allocated each block of frames: the place in the kernel's source.  Linux: mm/page_owner.c.

It costs every allocation a walk up the stack, so it is off unless somebody looks for leaks.
"""

import sys
from typing import Final

_OUR_FILES: Final = ("/page_alloc.py", "/page_owner.py", "/kmem_cache.py", "/slab.py", "/slab_objects.py")


class PageOwner:
    """*sites* has the place by first frame; only those of frames in use mean anything."""

    __slots__ = ("sites",)

    def __init__(self) -> None:
        self.sites: dict[int, str] = {}

    def note(self, pfn: int) -> None:
        """The block at *pfn* has just been handed out."""
        frame = sys._getframe(1)
        while frame.f_back is not None and frame.f_code.co_filename.endswith(_OUR_FILES):
            frame = frame.f_back
        name = frame.f_code.co_filename.rsplit("/", 1)[-1]
        self.sites[pfn] = f"{name}:{frame.f_lineno} {frame.f_code.co_name}"
