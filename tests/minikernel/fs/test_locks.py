"""File locks against a model that has one owner a byte, and the search for deadlocks."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from minikernel.abi.fcntl import F_RDLCK, F_UNLCK, F_WRLCK
from minikernel.fs.fdtable import FdTable
from minikernel.fs.locks import FileLock, FileLocks, is_deadlock, new_lock

SIZE = 12
KINDS = (F_RDLCK, F_WRLCK, F_UNLCK)


def wanted(kind: int, start: int, end: int, owner: object, blocker: FileLock | None = None) -> FileLock:
    lock = new_lock(kind, start, end, owner, 1)
    lock.blocker = blocker
    return lock


@given(
    st.lists(
        st.tuples(st.sampled_from(KINDS), st.integers(0, SIZE - 1), st.integers(1, 6), st.integers(0, 2)), max_size=30
    )
)
def test_posix_locks_are_what_a_table_of_bytes_says(requests: list[tuple[int, int, int, int]]) -> None:
    owners = [FdTable() for _ in range(3)]
    locks = FileLocks()
    table: list[dict[int, int]] = [{} for _ in range(SIZE)]  # byte -> owner -> kind
    for kind, start, length, who in requests:
        end = min(start + length, SIZE) - 1
        lock = new_lock(kind, start, end, owners[who], who)
        stands = any(
            F_WRLCK in {kind, held}
            for byte in table[start : end + 1]
            for other, held in byte.items()
            if other != who and kind != F_UNLCK
        )
        if kind != F_UNLCK:
            assert (locks.conflict(lock) is not None) == stands
        if stands:
            continue
        locks.set_posix(lock)
        for byte in table[start : end + 1]:
            byte.pop(who, None)
            if kind != F_UNLCK:
                byte[who] = kind
    for at, byte in enumerate(table):
        held = {lock.pid: lock.kind for lock in locks.posix if lock.start <= at <= lock.end}
        assert held == byte
    spans = sorted((lock.pid, lock.start, lock.end, lock.kind) for lock in locks.posix)
    assert all(a[0] != b[0] or a[2] + 1 < b[1] or a[3] != b[3] for a, b in itertools.pairwise(spans)), (
        "neighbours of one owner and kind are one lock"
    )


def test_a_circle_of_three_is_a_deadlock() -> None:
    a, b, c = FdTable(), FdTable(), FdTable()
    held = {owner: wanted(F_WRLCK, 0, 0, owner) for owner in (a, b, c)}
    waiting = [wanted(F_WRLCK, 0, 0, b, held[c]), wanted(F_WRLCK, 0, 0, c, held[a])]
    assert is_deadlock(wanted(F_WRLCK, 0, 0, a), held[b], waiting)
    assert not is_deadlock(wanted(F_WRLCK, 0, 0, a), held[b], waiting[:1])


def test_the_search_gives_up_after_ten_steps() -> None:
    """As Linux does: MAX_DEADLK_ITERATIONS."""
    owners = [FdTable() for _ in range(13)]
    held = [wanted(F_WRLCK, 0, 0, owner) for owner in owners]
    waiting = [wanted(F_WRLCK, 0, 0, owner, held[n + 1]) for n, owner in enumerate(owners[:-1])]
    waiting.append(wanted(F_WRLCK, 0, 0, owners[-1], held[0]))
    assert not is_deadlock(wanted(F_WRLCK, 0, 0, owners[0]), held[1], waiting)
    assert is_deadlock(wanted(F_WRLCK, 0, 0, owners[0]), held[5], waiting)
