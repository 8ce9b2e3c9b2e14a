"""Signals read from a file."""

from struct import unpack_from

import pytest

from minikernel.abi import signal as s
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.poll import POLLIN
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import sigmask
from minikernel.abi.timer import SIGNALFD_SIGINFO_SIZE, pack_signalfd_siginfo
from minikernel.fs.anon import AnonFs
from minikernel.fs.file import WouldBlock
from minikernel.task.signalfd import SignalFile
from minikernel.task.task import TaskState
from tests.minikernel.task.timed import Timed

RT = s.SIGRTMIN


@pytest.fixture
def machine() -> Timed:
    made = Timed()
    made.block_signals(s.SIGUSR1, s.SIGUSR2, RT)
    return made


def signal_file(machine: Timed, *signals: int) -> SignalFile:
    anon = AnonFs(machine.kernel, 9)
    return SignalFile(anon.path(b"anon_inode:[signalfd]", anon.inode), 0, machine.kernel, sigmask(*signals))


def signals_in(data: bytes) -> list[int]:
    """ssi_signo of each struct."""
    return [unpack_from("<I", data, at)[0] for at in range(0, len(data), SIGNALFD_SIGINFO_SIZE)]


def test_as_many_signals_are_read_as_fit(machine: Timed) -> None:
    file = signal_file(machine, s.SIGUSR1, RT)
    for sig in (s.SIGUSR2, RT, RT, s.SIGUSR1):
        machine.kill(machine.task, sig)
    assert file.poll() == POLLIN

    assert signals_in(file.read(300)) == [s.SIGUSR1, RT]
    assert signals_in(file.read(4096)) == [RT]
    assert file.poll() == 0
    with pytest.raises(WouldBlock):
        file.read(128)


def test_the_mask_can_be_changed(machine: Timed) -> None:
    file = signal_file(machine, s.SIGUSR1)
    machine.kill(machine.task, s.SIGUSR2)
    assert file.poll() == 0
    file.set_mask(sigmask(s.SIGUSR2, s.SIGKILL))

    assert signals_in(file.read(128)) == [s.SIGUSR2]
    assert file.fdinfo() == b"sigmask:\t0000000000000800\n"


def test_each_process_reads_its_own(machine: Timed) -> None:
    file = signal_file(machine, s.SIGUSR1)
    child = machine.child_of(machine.task.process, 3)
    machine.kill(machine.task, s.SIGUSR1)
    machine.kernel.current = child

    assert file.poll() == 0
    with pytest.raises(WouldBlock):
        file.read(128)


def test_a_signal_wakes_the_reader(machine: Timed) -> None:
    file = signal_file(machine, s.SIGUSR1)
    with pytest.raises(WouldBlock) as blocked:
        file.read(128)
    machine.kernel.scheduler.sleep(machine.task, blocked.value.queue)
    machine.kill(machine.task, s.SIGUSR1)

    assert machine.task.state is TaskState.RUNNING
    assert not machine.task.interrupted


def test_a_read_of_less_than_a_struct_is_einval(machine: Timed) -> None:
    with pytest.raises(LinuxError) as failure:
        signal_file(machine, s.SIGUSR1).read(127)

    assert failure.value.errno is Errno.EINVAL


# Offsets in struct signalfd_siginfo: include/uapi/linux/signalfd.h.
FIELDS = {
    "code": ("<i", 8), "pid": ("<I", 12), "uid": ("<I", 16), "fd": ("<i", 20), "tid": ("<I", 24), "band": ("<I", 28),
    "overrun": ("<I", 32), "status": ("<i", 40), "int": ("<i", 44), "ptr": ("<Q", 48), "utime": ("<Q", 56),
    "stime": ("<Q", 64), "addr": ("<Q", 72), "syscall": ("<i", 84), "call_addr": ("<Q", 88), "arch": ("<I", 96),
}  # fmt: skip


@pytest.mark.parametrize(
    ("info", "fields"),
    [
        (Siginfo(s.SIGUSR1, s.SI_USER, pid=5, uid=6, value=7), {"code": 0, "pid": 5, "uid": 6}),
        (
            Siginfo(RT, s.SI_QUEUE, pid=5, uid=6, value=0xFFFF_FFFF),
            {"code": -1, "pid": 5, "uid": 6, "int": -1, "ptr": 0xFFFF_FFFF},
        ),
        (
            Siginfo(RT, s.SI_TIMER, timer_id=3, overrun=4, value=5),
            {"code": -2, "tid": 3, "overrun": 4, "int": 5, "ptr": 5},
        ),
        (
            Siginfo(s.SIGCHLD, s.CLD_KILLED, pid=5, uid=6, status=9, utime=10, stime=11),
            {"code": 2, "pid": 5, "uid": 6, "status": 9, "utime": 10, "stime": 11},
        ),
        (Siginfo(s.SIGSEGV, s.SEGV_MAPERR, addr=0x1234), {"code": 1, "addr": 0x1234}),
        (Siginfo(s.SIGIO, s.POLL_IN, band=65, fd=3), {"code": 1, "band": 65, "fd": 3}),
        (
            Siginfo(s.SIGSYS, s.SYS_SECCOMP, addr=0x10, syscall=39, arch=0x4000_0003),
            {"code": 1, "syscall": 39, "call_addr": 0x10, "arch": 0x4000_0003},
        ),
    ],
)
def test_only_the_fields_of_the_signal_are_filled(info: Siginfo, fields: dict[str, int]) -> None:
    data = pack_signalfd_siginfo(info)
    found = {name: unpack_from(form, data, at)[0] for name, (form, at) in FIELDS.items()}

    assert len(data) == SIGNALFD_SIGINFO_SIZE
    assert {name: value for name, value in found.items() if value} == {k: v for k, v in fields.items() if v}
