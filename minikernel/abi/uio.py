"""Vectors of buffers, and the flags of preadv2 and pwritev2.

Source: include/uapi/linux/uio.h, include/uapi/linux/fs.h.
"""

from typing import Final

UIO_MAXIOV: Final = 1024

RWF_HIPRI: Final = 0x01
RWF_DSYNC: Final = 0x02
RWF_SYNC: Final = 0x04
RWF_NOWAIT: Final = 0x08
RWF_APPEND: Final = 0x10
RWF_NOAPPEND: Final = 0x20
RWF_SUPPORTED: Final = RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND
