"""The line discipline by itself: whatever is typed, its books are right and nothing is invented.

What each key does is compared with this machine's Linux by guest/tty/lines.c.
"""

from hypothesis import given
from hypothesis import strategies as st

from minikernel.abi import termios as t
from minikernel.abi.signal import SIGINT
from minikernel.abi.termios import Termios
from minikernel.tty.ldisc import N_TTY_BUF_SIZE, LineDiscipline


class Screen:
    """A terminal that remembers."""

    def __init__(self) -> None:
        self.termios = Termios()
        self.shown = b""
        self.signals: list[int] = []
        self.stopped = False
        self.ldisc = LineDiscipline(self)

    def translated(self, char: int) -> bytes:
        return self.ldisc.output.process(char, self.termios)

    def put(self, data: bytes) -> None:
        self.shown += data

    def signal(self, sig: int) -> None:
        self.signals.append(sig)

    def flush_output(self) -> None:
        self.shown = b""

    def input_flushed(self) -> None:
        pass

    def readable(self) -> None:
        pass

    def set_stopped(self, *, stopped: bool) -> None:
        self.stopped = stopped
        if not stopped:
            self.ldisc.output_goes_on()

    def set(self, **modes: int) -> None:
        """Other modes."""
        old, self.termios = self.termios, self.termios.copy()
        for name, value in modes.items():
            setattr(self.termios, name, value)
        self.ldisc.modes_changed(old)


SPECIAL = b"a\t \n\r\x7f\x15\x17\x16\x12\x04\x13\x11"
KEYS = st.binary(max_size=80) | st.lists(st.sampled_from(SPECIAL) | st.just(0xC3), max_size=60).map(bytes)
FLAGS = st.integers(0, 0o377777)
STEPS = st.one_of(
    st.tuples(st.just("type"), KEYS),
    st.tuples(st.just("read"), st.integers(1, 50)),
    st.tuples(st.just("lflag"), FLAGS),
    st.tuples(st.just("iflag"), FLAGS),
    st.tuples(st.just("oflag"), FLAGS),
    st.tuples(st.just("flush"), st.none()),
)


@given(st.lists(STEPS, max_size=40))
def test_whatever_happens_the_books_are_right(steps: list[tuple[str, object]]) -> None:
    screen = Screen()
    for what, value in steps:
        if what == "type":
            assert isinstance(value, bytes)
            assert 0 <= screen.ldisc.receive(value) <= len(value)
        elif what == "read":
            assert isinstance(value, int)
            canonical = screen.termios.lflag & t.ICANON
            there, ready = screen.ldisc.nr_readable, screen.ldisc.available()
            data = screen.ldisc.read(value)
            assert len(data) <= min(value, there or 0)
            assert data or not there or not ready or canonical
        elif what == "flush":
            screen.ldisc.flush()
            assert not screen.ldisc.nr_readable
        else:
            assert isinstance(value, int)
            screen.set(**{what: value})
        screen.ldisc.validate()


@given(KEYS)
def test_without_modes_what_is_typed_is_what_is_read_and_nothing_is_shown(keys: bytes) -> None:
    screen = Screen()
    screen.set(lflag=0, iflag=0)
    assert screen.ldisc.receive(keys) == len(keys)
    assert screen.ldisc.read(len(keys) + 1) == keys
    assert not screen.shown


def test_a_full_buffer_takes_no_more_but_a_line_without_end_can_be_ended() -> None:
    screen = Screen()
    screen.set(lflag=0, iflag=0)
    assert screen.ldisc.receive(bytes(5000)) == N_TTY_BUF_SIZE - 1
    screen = Screen()
    assert screen.ldisc.receive(b"x" * 5000 + b"\nmore") == 5001
    assert screen.ldisc.read(9999) == b"x" * (N_TTY_BUF_SIZE - 1) + b"\n"
    assert screen.ldisc.receive(b"more\n") == 5


def test_a_key_is_a_signal_and_forgets_what_was_typed() -> None:
    screen = Screen()
    screen.ldisc.receive(b"one\ntwo\x03three\n")
    assert screen.signals == [SIGINT]
    assert screen.ldisc.read(99) == b"three\n"
    assert screen.shown == b"^Cthree\r\n"


def test_a_stopped_terminal_shows_the_echo_later() -> None:
    screen = Screen()
    screen.ldisc.receive(b"\x13ab")
    assert len(screen.shown) == 0
    screen.ldisc.receive(b"\x11")
    assert screen.shown == b"ab"


def test_the_structures_have_linux_s_sizes_and_keep_what_they_do_not_say() -> None:
    modes = Termios()
    assert (len(modes.pack()), len(modes.pack2()), len(modes.pack_old())) == (36, 44, 18)
    assert modes.with_new(modes.pack2()).pack2() == modes.pack2()
    modes.lflag |= 0x20000
    modes.cc = bytes(range(19))
    again = modes.with_new(modes.pack_old())
    assert (again.lflag, again.cc) == (modes.lflag, modes.cc)
