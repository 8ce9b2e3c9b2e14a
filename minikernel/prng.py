"""The machine's randomness: seeded, so that the same run draws the same numbers.

SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).  Not for secrets:
nothing a deterministic machine draws can be one.
"""

from typing import Final

_MASK: Final = (1 << 64) - 1
_GAMMA: Final = 0x9E37_79B9_7F4A_7C15


class Prng:
    """A stream of random numbers, the same for the same *seed*."""

    __slots__ = ("_state",)

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def next64(self) -> int:
        """A number of 64 bits."""
        self._state = (self._state + _GAMMA) & _MASK
        z = self._state
        z = ((z ^ z >> 30) * 0xBF58_476D_1CE4_E5B9) & _MASK
        z = ((z ^ z >> 27) * 0x94D0_49BB_1331_11EB) & _MASK
        return z ^ z >> 31

    def randbytes(self, count: int, /) -> bytes:
        """Draw *count* bytes."""
        words = [self.next64().to_bytes(8, "little") for _ in range((count + 7) >> 3)]
        return b"".join(words)[:count]
