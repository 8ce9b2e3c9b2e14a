"""Ids and capabilities: who may become whom."""

import struct

import pytest

from minikernel.abi.capability import CAP_SETUID, CAP_SYS_NICE
from tests.minikernel.syscalls.calls import BAD, I386, X86_64, Caller

EPERM, ESRCH, EFAULT, EACCES, EINVAL = -1, -3, -14, -13, -22
KEEP = 0xFFFF_FFFF


def user(*, ruid: int, euid: int, suid: int) -> Caller:
    """A task with these ids and no capabilities."""
    caller = Caller(uid=ruid)
    cred = caller.task.cred
    cred.uid, cred.euid, cred.suid, cred.fsuid = ruid, euid, suid, euid
    return caller


def uids(caller: Caller) -> tuple[int, int, int, int]:
    """Real, effective, saved and file system user id."""
    cred = caller.task.cred
    return cred.uid, cred.euid, cred.suid, cred.fsuid


def test_root_s_setuid_sets_all_and_drops_the_capabilities() -> None:
    caller = Caller()
    held = caller.task.cred.cap_permitted

    assert held
    assert caller.call("setuid", 1000) == 0
    assert uids(caller) == (1000, 1000, 1000, 1000)
    assert (caller.task.cred.cap_permitted, caller.task.cred.cap_effective) == (0, 0)
    assert caller.call("setuid", 0) == EPERM


def test_keepcaps_keeps_the_permitted_set() -> None:
    caller = Caller()
    held = caller.task.cred.cap_permitted

    assert caller.call("prctl", 8, 1) == 0
    assert caller.call("setuid", 1000) == 0
    assert (caller.task.cred.cap_permitted, caller.task.cred.cap_effective) == (held, 0)


def test_a_user_s_setuid_changes_the_effective_id_only() -> None:
    caller = user(ruid=1000, euid=1000, suid=2000)

    assert caller.call("setuid", 2000) == 0
    assert uids(caller) == (1000, 2000, 2000, 2000)
    assert caller.call("setuid", 3000) == EPERM
    assert caller.call("setuid", KEEP) == EINVAL


# (ruid, euid) asked for by a task with (1, 2, 3), and the ids after it: setreuid(2).
SETREUID = [
    ((KEEP, KEEP), 0, (1, 2, 3, 2)),
    ((2, 1), 0, (2, 1, 1, 1)),
    ((KEEP, 3), 0, (1, 3, 3, 3)),
    ((KEEP, 1), 0, (1, 1, 3, 1)),  # the real id as the effective one leaves the saved id alone
    ((3, KEEP), EPERM, (1, 2, 3, 2)),
    ((KEEP, 4), EPERM, (1, 2, 3, 2)),
]


@pytest.mark.parametrize(("asked", "result", "after"), SETREUID)
def test_setreuid(asked: tuple[int, int], result: int, after: tuple[int, ...]) -> None:
    caller = user(ruid=1, euid=2, suid=3)

    assert caller.call("setreuid", *asked) == result
    assert uids(caller) == after


def test_setresuid_takes_any_of_one_s_own() -> None:
    caller = user(ruid=1, euid=2, suid=3)

    assert caller.call("setresuid", 3, KEEP, 1) == 0
    assert uids(caller) == (3, 2, 1, 2)
    assert caller.call("setresuid", KEEP, 9, KEEP) == EPERM
    assert caller.call("getresuid", caller.scratch, caller.scratch + 4, caller.scratch + 8) == 0
    assert caller.words(3) == [3, 2, 1]
    assert caller.call("getresuid", caller.scratch, BAD, caller.scratch) == EFAULT


def test_setfsuid_tells_the_old_one_and_never_fails() -> None:
    caller = user(ruid=1, euid=2, suid=3)

    assert caller.call("setfsuid", 3) == 2
    assert caller.call("setfsuid", 9) == 3
    assert caller.call("setfsuid", KEEP) == 3
    assert caller.task.cred.fsuid == 3


def test_group_ids_follow_the_same_rules() -> None:
    caller = user(ruid=1, euid=1, suid=1)
    cred = caller.task.cred
    cred.gid, cred.egid, cred.sgid = 10, 20, 30

    assert caller.call("setgid", 30) == 0
    assert caller.call("setregid", 20, KEEP) == EPERM
    assert caller.call("setresgid", KEEP, KEEP, 10) == 0
    assert (caller.call("getgid"), caller.call("getegid"), caller.task.cred.sgid) == (10, 30, 10)


def test_supplementary_groups() -> None:
    caller = Caller()

    assert caller.call("setgroups", 3, caller.put(struct.pack("<III", 30, 10, 20))) == 0
    assert caller.call("getgroups", 0, BAD) == 3
    assert caller.call("getgroups", 2, caller.scratch) == EINVAL
    assert caller.call("getgroups", 8, caller.scratch) == 3
    assert caller.words(3) == [10, 20, 30]
    assert caller.call("setgroups", 65537, caller.scratch) == EINVAL
    assert user(ruid=1, euid=1, suid=1).call("setgroups", 65537, BAD) == EPERM


def test_the_first_calls_of_i386_know_16_bits() -> None:
    caller = Caller(I386)
    caller.task.cred.uid = 70000

    assert caller.call("getuid") == 65534
    assert caller.call("getuid32") == 70000
    assert caller.call("setreuid", 0xFFFF, 5) == 0  # -1 in 16 bits: leave it
    assert (caller.task.cred.uid, caller.task.cred.euid) == (70000, 5)
    assert Caller(X86_64, uid=70000).call("getuid") == 70000


def test_capget_and_capset() -> None:
    caller = Caller()
    header = caller.put(struct.pack("<Ii", 0x20080522, 0))
    data = caller.scratch + 64
    keep = 1 << CAP_SETUID

    assert caller.call("capget", header, data) == 0
    assert caller.words(6, 64)[0] == 0xFFFF_FFFF
    caller.put(struct.pack("<IIIIII", keep, keep, 0, 0, 0, 0), 64)
    assert caller.call("capset", header, data) == 0
    assert caller.task.cred.cap_permitted == keep
    caller.put(struct.pack("<IIIIII", keep | 1 << CAP_SYS_NICE, keep, 0, 0, 0, 0), 64)
    assert caller.call("capset", header, data) == EPERM


def test_an_unknown_capability_version_is_answered_with_ours() -> None:
    caller = Caller()
    header = caller.put(struct.pack("<Ii", 1, 0))

    assert caller.call("capget", header, 0) == 0
    assert caller.words(1) == [0x20080522]
    caller.put(struct.pack("<Ii", 1, 0))
    assert caller.call("capget", header, caller.scratch + 64) == EINVAL


def test_process_groups_and_sessions() -> None:
    caller = Caller()
    child, stranger = caller.add_task(2, X86_64), caller.add_task(3, X86_64)
    child.process.parent = caller.task.process
    child.session = child.pgrp = caller.task.session = caller.task.pgrp = 1
    for args, result in [((0, -1), EINVAL), ((9, 0), ESRCH), ((3, 0), ESRCH), ((2, 3), EPERM), ((2, 0), 0)]:
        assert caller.call("setpgid", *args) == result, args
    assert caller.call("getpgid", 2) == 2
    assert caller.call("setsid") == EPERM
    child.attributes.did_exec = True
    assert caller.call("setpgid", 2, 1) == EACCES
    assert caller.call("setpgid", 0, 0) == EPERM  # a session leader
    assert caller.call("setsid", task=child) == EPERM  # it leads a group
    stranger.pgrp = stranger.session = 1
    assert caller.call("setsid", task=stranger) == 3
    assert caller.call("getsid", 3) == 3
