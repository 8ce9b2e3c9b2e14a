"""Packets: what is cut out of a stream of bytes, however it comes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikernel.gdb.packet import PACKET_SIZE, Decoder, Mark, Packet, encode, escape, escaped_prefix, unescape


def fed(*pieces: bytes) -> list[Packet | Mark]:
    decoder = Decoder()
    return [item for piece in pieces for item in decoder.feed(piece)]


def test_a_packet_has_its_checksum_behind_it() -> None:
    assert encode(b"OK") == b"$OK#9a"
    assert fed(b"$OK#9a") == [Packet(b"OK")]
    assert fed(b"$OK#9A") == [Packet(b"OK")]


def test_a_wrong_checksum_is_told() -> None:
    assert fed(b"$OK#9b$OK#zz$OK#9a") == [Mark.BAD, Mark.BAD, Packet(b"OK")]


def test_acknowledgements_and_interrupts_come_between_packets() -> None:
    assert fed(b"+$?#3f-\x03rubbish+") == [Mark.ACK, Packet(b"?"), Mark.NAK, Mark.INTERRUPT, Mark.ACK]


def test_a_packet_comes_in_any_pieces() -> None:
    assert fed(*(bytes((code,)) for code in b"$qSupported#37")) == [Packet(b"qSupported")]


def test_a_packet_that_begins_anew_replaces_the_one_before() -> None:
    assert fed(b"$half$OK#9a") == [Mark.BAD, Packet(b"OK")]


def test_runs_are_expanded() -> None:
    assert unescape(b"0* ") == b"0000"
    assert unescape(b"*!") is None
    assert unescape(b"0*\x1c") is None
    assert unescape(b"0*") is None
    assert unescape(b"}") is None


def test_a_packet_that_is_too_long_is_thrown_away_and_the_next_is_read() -> None:
    flood = b"$" + b"x" * (2 * PACKET_SIZE) + b"#00"
    decoder = Decoder()
    items = [item for at in range(0, len(flood), 9999) for item in decoder.feed(flood[at : at + 9999])]
    assert items == [Mark.BAD]
    assert len(decoder._kept) == 0
    assert list(decoder.feed(b"$OK#9a")) == [Packet(b"OK")]


def test_nothing_grows_without_end() -> None:
    """Runs of runs, and a packet whose end never comes."""
    assert unescape(b"a" + b"*~" * PACKET_SIZE) is None
    decoder = Decoder()
    for _ in range(8):
        assert list(decoder.feed(b"$" * 3 + b"y" * PACKET_SIZE)) in ([], [Mark.BAD], [Mark.BAD] * 2, [Mark.BAD] * 3)
    assert len(decoder._kept) <= PACKET_SIZE + 4


@given(st.binary(max_size=300))
def test_binary_data_survives_the_way(data: bytes) -> None:
    assert fed(encode(b"X" + escape(data))) == [Packet(b"X" + data)]


@given(st.binary(max_size=100), st.integers(2, 60))
def test_a_prefix_fits_and_is_as_long_as_it_can_be(data: bytes, limit: int) -> None:
    piece, used = escaped_prefix(data, limit)
    assert len(piece) <= limit
    assert unescape(piece) == data[:used]
    assert used == len(data) or len(escape(data[: used + 1])) > limit


@given(st.lists(st.binary(max_size=40)))
def test_no_bytes_do_worse_than_bad_packets(pieces: list[bytes]) -> None:
    for item in fed(*pieces):
        assert isinstance(item, Packet | Mark)


@pytest.mark.parametrize("code", b"$#}*")
def test_what_means_something_is_escaped(code: int) -> None:
    assert escape(bytes((code,))) == bytes((0x7D, code ^ 0x20))
