"""System V segments beyond what a guest program may do to the host: limits, ids, orphans, failures on the way."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from emu.x86 import PAGE_SIZE
from minikernel.abi.abi import I386, X86_64
from minikernel.abi.errno import Errno
from minikernel.abi.ipc import IPC_CREAT, IPC_INFO, IPC_PRIVATE, IPC_RMID, IPC_STAT
from minikernel.abi.mman import PROT_READ
from minikernel.abi.shm import SHM_INFO, SHM_LOCK, SHM_RDONLY, SHM_REMAP, SHMMNI
from minikernel.ipc.shm import Shm
from minikernel.ipc.validate import validate_shm
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.uaccess import copy_from_user, copy_to_user
from minikernel.mm.validate import validate_node
from tests.minikernel.syscalls.calls import Caller

BASE = 0x4000_0000


def audit(caller: Caller) -> None:
    """Frames, mappings, segments: everything agrees."""
    shm = caller.kernel.shm
    validate_shm(shm, caller.machine.mms)
    validate_node(caller.machine.node, caller.machine.mms, [segment.mapping for segment in shm.ids])


def make(caller: Caller, size: int = PAGE_SIZE, key: int = IPC_PRIVATE) -> int:
    """A new segment's id."""
    made = caller.call("shmget", key, size, IPC_CREAT | 0o600)
    assert made >= 0
    return made


def test_ids_are_not_used_again_soon() -> None:
    """The index goes round in 64, and the sequence number grows when it starts anew."""
    caller = Caller()
    seen = []
    for _ in range(65):
        seen.append(make(caller))
        assert caller.call("shmctl", seen[-1], IPC_RMID) == 0

    assert seen == [*range(64), 1 << 15]
    assert caller.call("shmctl", 0, IPC_STAT, caller.scratch) == -Errno.EINVAL


def test_more_segments_than_a_cycle_have_room() -> None:
    caller = Caller()
    ids = [make(caller) for _ in range(200)]

    assert len(set(ids)) == 200
    assert caller.call("shmctl", 0, SHM_INFO, caller.scratch) == max(one & 0x7FFF for one in ids)
    audit(caller)


def test_next_id_is_given_if_it_is_free() -> None:
    caller = Caller()
    caller.kernel.shm.ids.next_id = (5 << 15) + 77

    assert [make(caller), make(caller)] == [(5 << 15) + 77, 0]
    caller.kernel.shm.ids.next_id = (6 << 15) + 77
    assert make(caller) == (6 << 15) + 78
    last = (1 << 31) - 1
    caller.kernel.shm.ids.next_id = last
    assert make(caller) == last
    caller.kernel.shm.ids.next_id = last
    assert caller.call("shmget", IPC_PRIVATE, 1, 0o600) == -Errno.ENOSPC
    audit(caller)


def test_limits() -> None:
    caller = Caller()
    shm = caller.kernel.shm
    shm.ctlmax, shm.ctlall, shm.ctlmni = 8 * PAGE_SIZE, 10, 3

    assert caller.call("shmget", IPC_PRIVATE, 8 * PAGE_SIZE + 1, 0o600) == -Errno.EINVAL
    make(caller, 8 * PAGE_SIZE)
    assert caller.call("shmget", IPC_PRIVATE, 2 * PAGE_SIZE + 1, 0o600) == -Errno.ENOSPC
    make(caller)
    make(caller)
    shm.ctlall = 100
    assert caller.call("shmget", IPC_PRIVATE, 1, 0o600) == -Errno.ENOSPC
    assert caller.call("shmctl", 0, IPC_INFO, caller.scratch) == 2
    assert caller.words(5, size=8) == [8 * PAGE_SIZE, 1, 3, 3, 100]
    audit(caller)


@pytest.mark.parametrize(("abi", "largest"), [(X86_64, (1 << 64) - (1 << 24) - 1), (I386, (1 << 32) - (1 << 24) - 1)])
def test_default_limits_are_those_of_the_word(abi: type, largest: int) -> None:
    shm = Shm(Caller(abi).kernel, abi)  # type: ignore[arg-type]  # parametrize knows no Abi

    assert (shm.ctlmax, shm.ctlall, shm.ctlmni) == (largest, largest, SHMMNI)


def test_orphans_go_when_the_sysctl_says_so() -> None:
    """kernel.shm_rmid_forced: what a task made goes at its end, or with the last detach."""
    caller = Caller()
    shm = caller.kernel.shm
    other = caller.add_task(2, X86_64)
    theirs = caller.call("shmget", IPC_PRIVATE, 1, 0o600, task=other)
    ours = make(caller)
    shm.exit_task(other)
    assert {segment.perm.id for segment in shm.ids} == {theirs, ours}

    shm.rmid_forced = True
    shm.destroy_orphaned()
    assert {segment.perm.id for segment in shm.ids} == {ours}

    where = caller.call("shmat", ours, 0, 0)
    shm.exit_task(caller.task)
    assert len(shm.ids) == 1
    assert caller.call("shmdt", where) == 0
    assert not len(shm.ids)
    audit(caller)


def test_an_attach_that_fails_is_not_counted() -> None:
    """Out of memory at every allocation on the way."""
    caller = Caller()
    shmid = make(caller, 4 * PAGE_SIZE)
    caller.task.mm.sysctl.max_map_count = 0

    assert caller.call("shmat", shmid, 0, 0) == -Errno.ENOMEM
    assert next(iter(caller.kernel.shm.ids)).nattch == 0
    audit(caller)
    assert caller.call("shmctl", shmid, IPC_RMID) == 0
    audit(caller)


def test_remap_over_the_last_attach_of_a_removed_segment_keeps_it() -> None:
    caller = Caller()
    shmid = make(caller, 2 * PAGE_SIZE)
    where = caller.call("shmat", shmid, BASE, 0)
    copy_to_user(caller.task.mm, where, b"still here")
    caller.call("shmctl", shmid, IPC_RMID)

    assert caller.call("shmat", shmid, BASE, SHM_REMAP) == BASE
    assert copy_from_user(caller.task.mm, BASE, 10) == b"still here"
    audit(caller)
    assert caller.call("shmdt", BASE) == 0
    assert caller.call("shmat", shmid, BASE, 0) == -Errno.EINVAL
    audit(caller)


def test_the_lock_of_a_removed_segment_is_given_back() -> None:
    caller = Caller()
    shmid = make(caller, 3 * PAGE_SIZE)
    caller.call("shmctl", shmid, SHM_LOCK)
    shm = caller.kernel.shm
    assert shm.locked_shm == {0: 3}
    assert next(iter(shm.ids)).mapping.unevictable

    caller.call("shmctl", shmid, IPC_RMID)
    assert shm.locked_shm == {}
    audit(caller)


def test_two_attaches_never_become_one_mapping() -> None:
    """Neighbours of one segment, with offsets that fit: each has a file of its own."""
    caller = Caller()
    shmid = make(caller, PAGE_SIZE)
    for page in range(3):
        assert caller.call("shmat", shmid, BASE + page * PAGE_SIZE, 0) > 0

    assert next(iter(caller.kernel.shm.ids)).nattch == 3
    assert caller.call("munmap", BASE, 3 * PAGE_SIZE) == 0
    assert next(iter(caller.kernel.shm.ids)).nattch == 0
    audit(caller)


class ShmMachine(RuleBasedStateMachine):
    """Any sequence of calls, forks and exits keeps the books; contents are those of a dict of bytearrays."""

    @initialize()
    def boot(self) -> None:
        self.caller = Caller()
        self.mms: list[MmStruct] = [self.caller.task.mm]
        self.contents: dict[int, bytearray] = {}

    def _task(self, which: int) -> MmStruct:
        mm = self.mms[which % len(self.mms)]
        self.caller.task.mm = mm
        return mm

    @rule(pages=st.integers(1, 4))
    def make(self, pages: int) -> None:
        if len(self.contents) < 6:
            self.contents[make(self.caller, pages * PAGE_SIZE)] = bytearray(pages * PAGE_SIZE)

    @rule(which=st.integers(0, 5), seg=st.integers(0, 5), at=st.integers(0, 15), flags=st.sampled_from([0, SHM_RDONLY]))
    def attach(self, which: int, seg: int, at: int, flags: int) -> None:
        self._task(which)
        if self.contents:
            shmid = sorted(self.contents)[seg % len(self.contents)]
            self.caller.call("shmat", shmid, BASE + at * PAGE_SIZE, flags | (SHM_REMAP if at % 2 else 0))

    @rule(which=st.integers(0, 5), at=st.integers(0, 15))
    def detach(self, which: int, at: int) -> None:
        self._task(which)
        self.caller.call("shmdt", BASE + at * PAGE_SIZE)
        self._forget()

    @rule(which=st.integers(0, 5), at=st.integers(0, 15), pages=st.integers(1, 4))
    def unmap(self, which: int, at: int, pages: int) -> None:
        self._task(which)
        self.caller.call("munmap", BASE + at * PAGE_SIZE, pages * PAGE_SIZE)
        self._forget()

    @rule(which=st.integers(0, 5), at=st.integers(0, 15), pages=st.integers(1, 4), prot=st.sampled_from([0, 1, 3]))
    def protect(self, which: int, at: int, pages: int, prot: int) -> None:
        self._task(which)
        self.caller.call("mprotect", BASE + at * PAGE_SIZE, pages * PAGE_SIZE, prot & (3 if which % 2 else PROT_READ))

    @rule(which=st.integers(0, 5), seg=st.integers(0, 5))
    def remove(self, which: int, seg: int) -> None:
        self._task(which)
        if self.contents:
            self.caller.call("shmctl", sorted(self.contents)[seg % len(self.contents)], IPC_RMID)
            self._forget()

    @rule(which=st.integers(0, 5))
    def fork(self, which: int) -> None:
        if len(self.mms) < 4:
            child = self.caller.machine.fork(self._task(which))
            self.mms.append(child)

    @rule(which=st.integers(0, 5))
    def exit(self, which: int) -> None:
        if len(self.mms) > 1:
            mm = self._task(which)
            self.mms.remove(mm)
            self.caller.machine.destroy(mm)
            self._task(0)
            self._forget()

    @rule(which=st.integers(0, 5), at=st.integers(0, 15), value=st.integers(1, 255))
    def store(self, which: int, at: int, value: int) -> None:
        mm = self._task(which)
        address = BASE + at * PAGE_SIZE
        vma = mm.vmas.find(address)
        if vma is not None and vma.flags & 2 and vma.file is not None:
            copy_to_user(mm, address, bytes([value]))
            self.contents[vma.file.ino][vma.index(address) * PAGE_SIZE] = value

    def _forget(self) -> None:
        left = {segment.perm.id for segment in self.caller.kernel.shm.ids}
        self.contents = {shmid: data for shmid, data in self.contents.items() if shmid in left}

    @invariant()
    def books_agree(self) -> None:
        audit(self.caller)
        for segment in self.caller.kernel.shm.ids:
            assert segment.mapping.read(0, segment.size) == bytes(self.contents[segment.perm.id])


TestShmMachine = ShmMachine.TestCase
TestShmMachine.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
