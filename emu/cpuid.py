"""What CPUID answers: one fixed x86-64-v2 processor, the same on every host.

Offered is only what the emulated core executes: no AVX, XSAVE, RDRAND, FSGSBASE or TSX (unicorn.md, trap 13 and 17).
Not offered although it works: "enhanced rep movsb", because the core runs REP one element at a time.
Source: SDM vol. 2, CPUID.
"""

from typing import Final

ANY_SUBLEAF: Final = 0xFFFF_FFFF

FEATURES_EDX: Final = 0x078B_FBFF  # FPU .. CLFSH, MMX, FXSR, SSE, SSE2; no DTES64, ACPI, HT
FEATURES_ECX: Final = (
    1 << 0  # SSE3
    | 1 << 1  # PCLMULQDQ
    | 1 << 9  # SSSE3
    | 1 << 13  # CMPXCHG16B
    | 1 << 19  # SSE4.1
    | 1 << 20  # SSE4.2
    | 1 << 23  # POPCNT
    | 1 << 25  # AES
    | 1 << 31  # running under a hypervisor
)
EXTENDED_EDX: Final = 1 << 11 | 1 << 20 | 1 << 27 | 1 << 29  # SYSCALL, NX, RDTSCP, long mode
EXTENDED_ECX: Final = 1 << 0  # LAHF in 64-bit mode


def _text(words: bytes) -> tuple[int, int, int, int]:
    """Sixteen bytes of text as four registers."""
    padded = words.ljust(16, b"\0")
    a, b, c, d = (int.from_bytes(padded[i : i + 4], "little") for i in (0, 4, 8, 12))
    return a, b, c, d


def answers(*, long_mode: bool) -> list[tuple[int, int, int, int, int, int]]:
    """Rows of (leaf, subleaf, eax, ebx, ecx, edx)."""
    brand = b"minikernel emulated x86 processor"
    extended_edx = EXTENDED_EDX if long_mode else 1 << 20
    vendor = (0x756E_6547, 0x6C65_746E, 0x4965_6E69)  # "Genu" "ntel" "ineI"
    return [
        (0, ANY_SUBLEAF, 7, vendor[0], vendor[1], vendor[2]),
        # Family 6, model 23, stepping 6 (Penryn: glibc does not take its REP MOVS for fast); 8-quadword CLFLUSH lines,
        # one logical processor.
        (1, ANY_SUBLEAF, 0x0001_0676, 0x0001_0800, FEATURES_ECX, FEATURES_EDX),
        (2, ANY_SUBLEAF, 0x0000_FF01, 0, 0, 0),  # descriptor FF: see leaf 4
        (4, 0, 0x0000_0121, 0x01C0_003F, 63, 0),  # 32 KiB L1 data, 8 ways
        (4, 1, 0x0000_0122, 0x00C0_003F, 127, 0),  # 32 KiB L1 code, 4 ways
        (4, 2, 0x0000_0143, 0x01C0_003F, 511, 0),  # 256 KiB L2, 8 ways
        (4, 3, 0x0000_0163, 0x03C0_003F, 8191, 0),  # 8 MiB L3, 16 ways
        (0x8000_0000, ANY_SUBLEAF, 0x8000_0008, 0, 0, 0),
        (0x8000_0001, ANY_SUBLEAF, 0, 0, EXTENDED_ECX if long_mode else 0, extended_edx),
        (0x8000_0002, ANY_SUBLEAF, *_text(brand[:16])),
        (0x8000_0003, ANY_SUBLEAF, *_text(brand[16:32])),
        (0x8000_0004, ANY_SUBLEAF, *_text(brand[32:])),
        (0x8000_0006, ANY_SUBLEAF, 0, 0, 0x0100_6040, 0),  # L2: 256 KiB, 8 ways, 64-byte lines
        (0x8000_0008, ANY_SUBLEAF, 0x3028 if long_mode else 0x2024, 0, 0, 0),  # physical, linear address bits
    ]
