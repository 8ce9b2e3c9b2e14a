"""Segment selectors of Linux.  Source: arch/x86/include/asm/segment.h; descriptors: SDM vol. 3A, 3.4.5."""

from typing import Final

from msgspec import Struct

# Descriptors: base 0, limit 4 GiB.
_KERNEL32_CODE: Final = 0x00CF_9B00_0000_FFFF
_KERNEL64_CODE: Final = 0x00AF_9B00_0000_FFFF
_KERNEL_DATA: Final = 0x00CF_9300_0000_FFFF
_USER32_CODE: Final = 0x00CF_FB00_0000_FFFF
_USER64_CODE: Final = 0x00AF_FB00_0000_FFFF
_USER_DATA: Final = 0x00CF_F300_0000_FFFF

NR_TLS: Final = 3


class GdtLayout(Struct, frozen=True):
    """One machine's GDT: the fixed descriptors by index, and where the TLS ones go."""

    entries: tuple[tuple[int, int], ...]  # (index, descriptor)
    size: int  # in descriptors
    kernel_cs: int
    kernel_ds: int
    user_cs64: int | None  # None: a machine without 64-bit mode
    user_cs32: int
    user_ds: int
    tls_min: int  # index of the first TLS descriptor

    def is_tls(self, index: int) -> bool:
        """Whether descriptor *index* belongs to set_thread_area(2)."""
        return self.tls_min <= index < self.tls_min + NR_TLS


X86_64_GDT: Final = GdtLayout(
    entries=(
        (1, _KERNEL32_CODE),
        (2, _KERNEL64_CODE),
        (3, _KERNEL_DATA),
        (4, _USER32_CODE),
        (5, _USER_DATA),
        (6, _USER64_CODE),
    ),
    size=16,
    kernel_cs=2 << 3,
    kernel_ds=3 << 3,
    user_cs64=6 << 3 | 3,
    user_cs32=4 << 3 | 3,
    user_ds=5 << 3 | 3,
    tls_min=12,
)
I386_GDT: Final = GdtLayout(
    entries=((12, _KERNEL32_CODE), (13, _KERNEL_DATA), (14, _USER32_CODE), (15, _USER_DATA)),
    size=32,
    kernel_cs=12 << 3,
    kernel_ds=13 << 3,
    user_cs64=None,
    user_cs32=14 << 3 | 3,
    user_ds=15 << 3 | 3,
    tls_min=6,
)
