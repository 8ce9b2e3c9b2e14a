"""All file calls in one tuple, for the table."""

from typing import Final

from minikernel.syscalls import (
    epoll,
    file_attr,
    file_copy,
    file_ctl,
    file_dir,
    file_io,
    file_open,
    file_poll,
    file_splice,
    file_stat,
    xattr,
)
from minikernel.syscalls.entry_types import Entry

ENTRIES: Final[tuple[Entry, ...]] = (
    *file_io.ENTRIES,
    *file_open.ENTRIES,
    *file_stat.ENTRIES,
    *file_dir.ENTRIES,
    *file_attr.ENTRIES,
    *file_ctl.ENTRIES,
    *file_poll.ENTRIES,
    *file_copy.ENTRIES,
    *file_splice.ENTRIES,
    *xattr.ENTRIES,
    *epoll.ENTRIES,
)
