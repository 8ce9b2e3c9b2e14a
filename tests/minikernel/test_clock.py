"""The clock: virtual time is what the instructions say, and timers expire in order."""

import time
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from minikernel.clock import VIRTUAL_EPOCH_NS, Clock, RealTime

SECOND: Final = 10**9


class Counter:
    """An instruction count to set."""

    def __init__(self) -> None:
        self.value = 0

    def __call__(self) -> int:
        return self.value


def test_an_instruction_is_a_nanosecond() -> None:
    counter = Counter()
    clock = Clock(counter)
    assert clock.now_ns() == 0
    counter.value = 1234
    assert clock.now_ns() == 1234
    assert clock.realtime_ns() == VIRTUAL_EPOCH_NS + 1234
    assert not clock.is_host


def test_sleep_skips_time_without_instructions() -> None:
    counter = Counter()
    clock = Clock(counter)
    counter.value = 100

    clock.skip_to(SECOND)
    assert clock.now_ns() == SECOND
    clock.skip_to(5)
    assert clock.now_ns() == SECOND, "never back"
    counter.value = 101
    assert clock.now_ns() == SECOND + 1


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), max_size=40), st.lists(st.integers(0, 60), max_size=10))
def test_timers_expire_once_in_order_and_cancelled_ones_never(timers: list[tuple[int, bool]], stops: list[int]) -> None:
    """Those of one instant in the order they were set."""
    counter = Counter()
    clock = Clock(counter)
    seen: list[int] = []
    for number, (deadline, cancelled) in enumerate(timers):
        timer = clock.add_timer(deadline, lambda number=number: seen.append(number))  # type: ignore[misc]
        if cancelled:
            timer.cancel()
    live = sorted((deadline, number) for number, (deadline, cancelled) in enumerate(timers) if not cancelled)
    for now in [*sorted(stops), 100]:
        counter.value = now
        clock.run_expired()
        assert seen == [number for deadline, number in live if deadline <= now]
        left = [deadline for deadline, _ in live if deadline > now]
        assert clock.next_deadline() == (left[0] if left else None)


def test_a_timer_may_set_the_next_one() -> None:
    counter = Counter()
    clock = Clock(counter)
    seen: list[int] = []

    def tick() -> None:
        seen.append(clock.now_ns())
        if len(seen) < 3:
            clock.add_timer(clock.now_ns() + 10, tick)

    clock.add_timer(10, tick)
    for now in range(0, 100, 5):
        counter.value = now
        clock.run_expired()

    assert seen == [10, 20, 30]


def test_many_cancelled_timers_do_not_pile_up() -> None:
    clock = Clock(Counter())
    for _ in range(10_000):
        clock.add_timer(SECOND, lambda: None).cancel()

    assert len(clock._heap) < 2000
    assert clock.next_deadline() is None


def test_the_hosts_clock_goes_by_itself() -> None:
    clock = Clock(Counter(), host=RealTime())
    first = clock.now_ns()
    clock.skip_to(first + 2_000_000)

    assert clock.is_host
    assert clock.now_ns() >= first + 2_000_000
    assert abs(clock.realtime_ns() - time.time_ns()) < SECOND
