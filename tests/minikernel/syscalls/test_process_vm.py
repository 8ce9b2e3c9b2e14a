"""Memory of another process, and restartable sequences."""

import struct
from types import SimpleNamespace
from typing import Any, cast

import pytest

from emu.cpu import RIP
from minikernel.abi.signal import SIGSEGV, sigmask
from minikernel.mm.mmap import do_mmap
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.task.rseq import rseq_handle_notify_resume
from minikernel.task.task import Task
from tests.minikernel.syscalls.calls import BAD, X86_64, Caller

EPERM, ESRCH, EBADF, EFAULT, EINVAL = -1, -3, -9, -14, -22


def other_process(caller: Caller, uid: int = 0) -> tuple[Task, int]:
    """Process 2 with a page of memory that says "theirs"."""
    task = caller.add_task(2, X86_64, uid)
    address = int(do_mmap(task.mm, 0, 4096, 3, 0x22, None, 0))
    copy_to_user(task.mm, address, b"theirs")
    return task, address


def vector(*segments: tuple[int, int]) -> bytes:
    """An array of struct iovec."""
    return b"".join([struct.pack("<QQ", *segment) for segment in segments])


def test_memory_is_copied_both_ways_across_segments() -> None:
    caller = Caller()
    task, theirs = other_process(caller)
    local = caller.put(vector((caller.scratch + 1024, 2), (caller.scratch + 2048, 10)))
    remote = caller.put(vector((theirs, 5), (theirs + 5, 1)), 512)

    assert caller.call("process_vm_readv", 2, local, 2, remote, 2, 0) == 6
    assert (caller.get(2, 1024), caller.get(4, 2048)) == (b"th", b"eirs")
    caller.put(b"MI", 1024)
    caller.put(b"NE", 2048)
    assert caller.call("process_vm_writev", 2, local, 2, remote, 2, 0) == 6
    assert copy_from_user(task.mm, theirs, 6) == b"MINErs"


def test_a_copy_ends_where_memory_ends() -> None:
    caller = Caller()
    _, theirs = other_process(caller)
    local = caller.put(vector((caller.scratch + 8192, 9000)))
    for start, result in ((theirs + 4000, 96), (BAD, EFAULT)):
        assert caller.call("process_vm_readv", 2, local, 1, caller.put(vector((start, 9000)), 512), 1, 0) == result


def test_who_may_look() -> None:
    caller = Caller(uid=1000)
    task, theirs = other_process(caller, 1001)
    local, remote = caller.put(vector((caller.scratch + 1024, 6))), caller.put(vector((theirs, 6)), 512)

    assert caller.call("process_vm_readv", 2, local, 1, remote, 1, 0) == EPERM
    assert caller.call("process_vm_readv", 9, local, 1, remote, 1, 0) == ESRCH
    assert caller.call("process_vm_readv", 2, local, 1, remote, 1, 1) == EINVAL
    assert caller.call("process_vm_readv", 2, local, 1025, remote, 1, 0) == EINVAL
    assert caller.call("process_vm_readv", 2, local, 0, remote, 1, 0) == 0
    task.cred = caller.task.cred
    assert caller.call("process_vm_readv", 2, local, 1, remote, 1, 0) == 6


def test_kcmp_tells_what_is_shared() -> None:
    caller = Caller()
    other_process(caller)
    caller.add_task(3, X86_64, thread_of=caller.task).files = caller.task.files
    for kind, with_process, with_thread in [(1, 3, 0), (2, 3, 0), (4, 3, 0), (5, 0, 0), (9, EINVAL, EINVAL)]:
        assert caller.call("kcmp", 1, 2, kind, 0, 0) == with_process
        assert caller.call("kcmp", 1, 3, kind, 0, 0) == with_thread
    assert caller.call("kcmp", 1, 99, 1, 0, 0) == ESRCH
    assert caller.call("kcmp", 1, 1, 0, 5, 5) == EBADF


SIGNATURE = 0x53053053


def with_section(caller: Caller, ip: int, *, abort: int = 0, version: int = 0) -> list[int]:
    """Register a struct rseq whose critical section is 0x20 bytes long, and be at *ip* in it; the registers."""
    regs = [0] * 17
    regs[RIP] = ip
    caller.kernel.cpu = cast("Any", SimpleNamespace(icount=0, regs=regs))
    start = caller.scratch + 4096
    abort = abort or start + 0x100
    caller.put(struct.pack("<I", SIGNATURE), abort - 4 - caller.scratch)
    section = caller.put(struct.pack("<IIQQQ", version, 0, start, 0x20, abort), 1024)
    area = caller.put(bytes(8) + struct.pack("<Q", section) + bytes(16))
    assert caller.call("rseq", area, 32, 0, SIGNATURE) == 0
    return regs


@pytest.mark.parametrize(("offset", "aborted"), [(-1, False), (0, True), (0x1F, True), (0x20, False)])
def test_a_section_left_half_done_is_aborted(offset: int, aborted: bool) -> None:
    caller = Caller()
    start = caller.scratch + 4096
    regs = with_section(caller, start + offset)
    rseq_handle_notify_resume(caller.task)

    assert regs[RIP] == (start + 0x100 if aborted else start + offset)
    assert caller.words(1, 8, 8) == [0]
    assert not caller.task.pending.mask


@pytest.mark.parametrize("wrong", ["abort inside", "version", "signature", "descriptor"])
def test_a_section_that_makes_no_sense_is_a_segfault(wrong: str) -> None:
    caller = Caller()
    start = caller.scratch + 4096
    with_section(
        caller, start, abort=start + 8 if wrong == "abort inside" else 0, version=1 if wrong == "version" else 0
    )  # fmt: skip
    if wrong == "signature":
        caller.put(b"\0\0\0\0", 4096 + 0x100 - 4)
    if wrong == "descriptor":
        caller.put(struct.pack("<Q", BAD), 8)
    rseq_handle_notify_resume(caller.task)

    assert caller.task.pending.mask == sigmask(SIGSEGV)


def test_a_task_without_registration_is_left_alone() -> None:
    caller = Caller()
    rseq_handle_notify_resume(caller.task)

    assert not caller.task.pending.mask
