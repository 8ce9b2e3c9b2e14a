"""Timers that are files."""

import pytest

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.poll import POLLIN
from minikernel.fs.anon import AnonFs
from minikernel.fs.file import WouldBlock
from minikernel.task.posix_timers import WallClock
from minikernel.task.timerfd import TimerFile
from tests.minikernel.task.timed import MS, Timed


@pytest.fixture
def machine() -> Timed:
    made = Timed()
    made.sleep(1000 * MS)
    return made


def timer_file(machine: Timed, *, realtime: bool = False) -> TimerFile:
    anon = AnonFs(machine.kernel, 9)
    path = anon.path(b"anon_inode:[timerfd]", anon.inode)
    return TimerFile(path, 0, int(not realtime), WallClock(machine.kernel, realtime=realtime))


def ticks(file: TimerFile) -> int:
    """What a read gives; 0: it would wait."""
    try:
        return int.from_bytes(file.read(8), "little")
    except WouldBlock:
        return 0


def test_a_oneshot_timer_is_read_once(machine: Timed) -> None:
    file = timer_file(machine)
    assert file.set(5 * MS, 0, 0, absolute=False) == (0, 0)
    assert (ticks(file), file.poll()) == (0, 0)
    assert file.get() == (5 * MS, 0)
    machine.sleep(5 * MS)

    assert file.poll() == POLLIN
    assert file.get() == (0, 0)
    assert (ticks(file), ticks(file)) == (1, 0)


def test_a_periodic_timer_counts_what_nobody_read(machine: Timed) -> None:
    file = timer_file(machine)
    file.set(5 * MS, 10 * MS, 0, absolute=False)
    machine.sleep(37 * MS)
    assert ticks(file) == 4
    assert file.get() == (8 * MS, 10 * MS)
    machine.sleep(8 * MS)

    assert ticks(file) == 1


def test_looking_at_a_periodic_timer_keeps_its_count(machine: Timed) -> None:
    file = timer_file(machine)
    file.set(5 * MS, 10 * MS, 0, absolute=False)
    machine.sleep(27 * MS)
    assert file.get() == (8 * MS, 10 * MS)
    machine.sleep(8 * MS)

    assert ticks(file) == 4


def test_setting_anew_forgets_the_count_and_tells_the_old_setting(machine: Timed) -> None:
    file = timer_file(machine)
    file.set(5 * MS, 10 * MS, 0, absolute=False)
    machine.sleep(27 * MS)
    assert file.set(0, 3 * MS, 0, absolute=False) == (8 * MS, 10 * MS)

    assert ticks(file) == 0
    assert file.get() == (0, 3 * MS)


def test_an_absolute_time_that_is_past_expires_at_once(machine: Timed) -> None:
    file = timer_file(machine, realtime=True)
    file.set(1, 0, 0, absolute=True)
    machine.sleep(0)

    assert ticks(file) == 1


def test_a_timer_that_is_closed_does_not_keep_the_clock_busy(machine: Timed) -> None:
    file = timer_file(machine)
    file.set(5 * MS, 0, 0, absolute=False)
    file.put_file()

    assert machine.kernel.clock.next_deadline() is None


def test_a_read_of_less_than_8_bytes_is_einval(machine: Timed) -> None:
    with pytest.raises(LinuxError) as failure:
        timer_file(machine).read(7)

    assert failure.value.errno is Errno.EINVAL


def test_expiry_wakes_who_waits(machine: Timed) -> None:
    file = timer_file(machine)
    file.set(5 * MS, 0, 0, absolute=False)
    (queue,) = file.poll_queues()
    machine.kernel.scheduler.sleep(machine.task, queue)
    machine.sleep(5 * MS)

    assert not queue.waiters


def test_proc_shows_the_setting(machine: Timed) -> None:
    file = timer_file(machine)
    file.set(1500 * MS, 2 * MS, 3, absolute=False)

    assert file.fdinfo() == (
        b"clockid: 1\nticks: 0\nsettime flags: 03\nit_value: (1, 500000000)\nit_interval: (0, 2000000)\n"
    )


def test_ticks_can_be_put_back(machine: Timed) -> None:
    file = timer_file(machine)
    assert file.ioctl(machine.task, 0x4008_5400, machine.put((7).to_bytes(8, "little"))) == 0
    assert ticks(file) == 7
    with pytest.raises(LinuxError) as failure:
        file.ioctl(machine.task, 0x4008_5400, machine.put(bytes(8)))
    assert failure.value.errno is Errno.EINVAL
    with pytest.raises(LinuxError) as failure:
        file.ioctl(machine.task, 0x1234, 0)
    assert failure.value.errno is Errno.ENOTTY
