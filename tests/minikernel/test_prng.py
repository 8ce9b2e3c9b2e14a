"""The machine's random numbers: a known generator, the same for the same seed."""

from hypothesis import given
from hypothesis import strategies as st

from minikernel.prng import Prng


def test_it_is_splitmix64() -> None:
    """The first numbers of seed 1234567, from the published test vectors of the generator."""
    random = Prng(1234567)

    assert [random.next64() for _ in range(3)] == [
        6457827717110365317, 3203168211198807973, 9817491932198370423
    ]  # fmt: skip


@given(st.integers(-(1 << 70), 1 << 70), st.lists(st.integers(0, 40), max_size=10))
def test_the_same_seed_draws_the_same(seed: int, sizes: list[int]) -> None:
    one, other = Prng(seed), Prng(seed)

    drawn = [one.randbytes(size) for size in sizes]

    assert [len(data) for data in drawn] == sizes
    assert drawn == [other.randbytes(size) for size in sizes]


def test_bytes_are_the_numbers_low_end_first() -> None:
    number = Prng(1).next64()

    assert Prng(1).randbytes(11)[:8] == number.to_bytes(8, "little")
