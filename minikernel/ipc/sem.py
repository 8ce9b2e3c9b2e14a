"""System V semaphores.  Linux: ipc/sem.c.

The operations of one semop happen all at once or not at all.  A call that has to wait gives a waiter back; whoever
changes a value looks through the waiters, those for zero first, and does for them what has become possible.
"""

from collections.abc import Sequence
from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ipc import IPC_NOWAIT
from minikernel.abi.sem import SEM_UNDO, SEMAEM, SEMMNI, SEMMNS, SEMMSL, SEMOPM, SEMVMX, Sembuf, SemidDs
from minikernel.abi.time import NSEC_PER_SEC
from minikernel.fs.cred import Cred
from minikernel.ipc.msg import IpcServices
from minikernel.ipc.util import S_IRUGO, S_IWUGO, IpcIds, IpcPerm, check_owner, ipc_update_perm, ipcperms, new_perm
from minikernel.wait import WaitQueue

_SEM_ARRAY: Final = 256  # struct sem_array
_SEM: Final = 64  # struct sem, a cache line
_UNDO: Final = 64  # struct sem_undo, and two bytes for each semaphore


class Semaphore:
    """One of a set: *pid* changed it last."""

    __slots__ = ("pid", "value")

    def __init__(self) -> None:
        self.value = 0
        self.pid = 0


class SemWaiter:
    """A semop that waits.  *outcome*: None while it does, 0, or the error."""

    __slots__ = ("blocking", "operations", "outcome", "pid", "queue", "undo")

    def __init__(self, operations: Sequence[Sembuf], undo: "Undo | None", pid: int) -> None:
        self.operations = operations
        self.undo = undo
        self.pid = pid
        self.queue = WaitQueue()
        self.outcome: LinuxError | int | None = None
        self.blocking: Sembuf | None = None  # the operation that it waits for

    @property
    def alters(self) -> bool:
        """It changes a value."""
        return any(each.operation for each in self.operations)

    def finish(self, outcome: LinuxError | int) -> None:
        """It need not wait any more."""
        self.outcome = outcome
        self.queue.wake()


class Undo:
    """What is taken back of one set when a process ends: struct sem_undo."""

    __slots__ = ("adjust", "array", "memory")

    def __init__(self, array: "SemArray", memory: int) -> None:
        self.array = array
        self.memory = memory
        self.adjust = [0] * len(array.semaphores)


class UndoList:
    """The undos of the tasks that share it (CLONE_SYSVSEM): struct sem_undo_list."""

    __slots__ = ("sem", "undos")

    def __init__(self, sem: "Sem") -> None:
        self.sem = sem
        self.undos: list[Undo] = []

    def find(self, array: "SemArray") -> Undo:
        """That of *array*, made if need be (find_alloc_undo).  Errors: ENOMEM."""
        for undo in self.undos:
            if undo.array is array:
                return undo
        memory = self.sem.services.node.slab.kmalloc(_UNDO + 2 * len(array.semaphores))
        undo = Undo(array, memory)
        self.undos.append(undo)
        array.undos.append(undo)
        array.undo_lists.append(self)
        return undo

    def take_back(self, pid: int) -> None:
        """The last task that shares it, of process *pid*, ends (exit_sem)."""
        for undo in self.undos[:]:
            self.sem.take_back(undo, pid)
            self.drop(undo)

    def drop(self, undo: Undo) -> None:
        """It means nothing any more."""
        self.undos.remove(undo)
        undo.array.undos.remove(undo)
        undo.array.undo_lists.remove(self)
        self.sem.services.node.slab.kfree(undo.memory)


class SemArray:
    """A set: struct sem_array.  Times in seconds."""

    __slots__ = ("ctime", "memory", "otime", "perm", "semaphores", "undo_lists", "undos", "waiters")

    def __init__(self, perm: IpcPerm, count: int, memory: int, now: int) -> None:
        self.perm = perm
        self.memory = memory
        self.semaphores = [Semaphore() for _ in range(count)]
        self.waiters: list[SemWaiter] = []
        self.undos: list[Undo] = []
        self.undo_lists: list[UndoList] = []  # whose they are, in the same order
        self.otime = 0
        self.ctime = now

    def status(self) -> SemidDs:
        """As IPC_STAT shows it."""
        return SemidDs(self.perm.to_abi(), self.otime, self.ctime, len(self.semaphores))

    def try_operations(self, waiter: SemWaiter) -> bool:
        """Do all of *waiter*'s operations, or none and note which one has to wait (perform_atomic_semop).

        Errors:
            EAGAIN: one would have to wait, and must not; ERANGE: a value or an adjustment becomes too large.
        """
        values: dict[int, int] = {}
        adjust: dict[int, int] = {}
        for each in waiter.operations:
            value = values.get(each.number, self.semaphores[each.number].value)
            if (not each.operation and value) or value + each.operation < 0:
                if each.flags & IPC_NOWAIT:
                    raise LinuxError(Errno.EAGAIN, "semop: it would have to wait")
                waiter.blocking = each
                return False
            value += each.operation
            if value > SEMVMX:
                raise LinuxError(Errno.ERANGE, "semop: the value is too large")
            values[each.number] = value
            if each.flags & SEM_UNDO and waiter.undo is not None:
                change = adjust.get(each.number, waiter.undo.adjust[each.number]) - each.operation
                if not -SEMAEM - 1 <= change <= SEMAEM:
                    raise LinuxError(Errno.ERANGE, "semop: the adjustment is too large")
                adjust[each.number] = change
        for number, value in values.items():
            self.semaphores[number].value = value
            self.semaphores[number].pid = waiter.pid
        for number, change in adjust.items():
            assert waiter.undo is not None, "try_operations: an adjustment of nothing"
            waiter.undo.adjust[number] = change
        return True

    def count(self, number: int, *, for_zero: bool) -> int:
        """How many wait for *number* to rise, or to become zero (count_semcnt)."""
        waiting = [waiter.blocking for waiter in self.waiters]
        return sum(1 for each in waiting if each and each.number == number and (not each.operation) == for_zero)


class Sem:
    """The sets of one machine."""

    __slots__ = ("ids", "limits", "services", "used")

    def __init__(self, services: IpcServices) -> None:
        self.services = services
        self.ids: IpcIds[SemArray] = IpcIds()
        self.limits = SEMMSL, SEMMNS, SEMOPM, SEMMNI  # kernel.sem
        self.used = 0  # semaphores of all sets

    def _now(self) -> int:
        return self.services.clock.realtime_ns() // NSEC_PER_SEC

    def get(self, key: int, count: int, flags: int, cred: Cred) -> int:
        """The id of the set with *key*, made with *count* semaphores if need be: semget(2).

        Errors:
            EINVAL: the count; ENOENT, EEXIST, EACCES, ENOSPC, ENOMEM.
        """
        if not 0 <= count <= self.limits[0]:
            raise LinuxError(Errno.EINVAL, "semget: count")
        found = self.ids.find(key, flags)
        if found is None:
            return self._new_array(key, count, flags, cred).perm.id
        if count > len(found.semaphores):
            raise LinuxError(Errno.EINVAL, "semget: the set is smaller")
        ipcperms(found.perm, flags, cred)
        return found.perm.id

    def _new_array(self, key: int, count: int, flags: int, cred: Cred) -> SemArray:
        """newary()."""
        if not count:
            raise LinuxError(Errno.EINVAL, "semget: an empty set")
        if self.used + count > self.limits[1]:
            raise LinuxError(Errno.ENOSPC, "semget: semmns")
        memory = self.services.node.slab.kmalloc(_SEM_ARRAY + count * _SEM)
        array = SemArray(new_perm(key, flags, cred), count, memory, self._now())
        try:
            self.ids.add(array, self.limits[3])
        except LinuxError:
            self.services.node.slab.kfree(memory)
            raise
        self.used += count
        return array

    # ---- semop

    def operate(self, semid: int, operations: Sequence[Sembuf], undos: UndoList | None, cred: Cred) -> SemWaiter | None:
        """Do the operations of semop(2), or wait for them.

        Errors:
            EINVAL: no such set; EFBIG: no such semaphore; EACCES, EAGAIN, ERANGE, ENOMEM.
        """
        array = self.ids.obtain_check(semid)
        if max(each.number for each in operations) >= len(array.semaphores):
            raise LinuxError(Errno.EFBIG, "semop: the set is smaller")
        alters = any(each.operation for each in operations)
        ipcperms(array.perm, S_IWUGO if alters else S_IRUGO, cred)
        undo = undos.find(array) if undos is not None and any(each.flags & SEM_UNDO for each in operations) else None
        waiter = SemWaiter(operations, undo, self.services.acting_tgid())
        if not array.try_operations(waiter):
            array.waiters.append(waiter)
            return waiter
        array.otime = self._now()
        if alters:
            self._changed(array)
        return None

    def _changed(self, array: SemArray) -> None:
        """Do what has become possible: what waits for zero first, then in the order of coming (do_smart_update)."""
        again = True
        while again:
            again = False
            for waiter in sorted(array.waiters, key=lambda each: each.alters):
                try:
                    if not array.try_operations(waiter):
                        continue
                    outcome: LinuxError | int = 0
                except LinuxError as error:
                    outcome = error
                array.waiters.remove(waiter)
                array.otime = self._now()
                waiter.finish(outcome)
                if waiter.alters and not outcome:
                    again = True
                    break

    def give_up(self, semid: int, waiter: SemWaiter) -> None:
        """*waiter* waits no more: a signal came, or its time is over."""
        self.ids.obtain_check(semid).waiters.remove(waiter)

    # ---- the end of a process

    def take_back(self, undo: Undo, pid: int) -> None:
        """Apply the adjustments (exit_sem): values stay between 0 and the largest."""
        array = undo.array
        changed = False
        for semaphore, change in zip(array.semaphores, undo.adjust, strict=True):
            if change:
                semaphore.value = min(max(semaphore.value + change, 0), SEMVMX)
                semaphore.pid = pid
                changed = True
        if changed:
            array.otime = self._now()
            self._changed(array)

    # ---- semctl

    def stat(self, semid: int, cred: Cred, *, by_index: bool = False, anybody: bool = False) -> SemArray:
        """The set that IPC_STAT, SEM_STAT (*by_index*) or SEM_STAT_ANY (*anybody* too) tells of.

        Errors:
            EINVAL, EACCES.
        """
        array = self.ids.obtain(semid) if by_index else self.ids.obtain_check(semid)
        if not anybody:
            ipcperms(array.perm, S_IRUGO, cred)
        return array

    def obtain(self, semid: int, cred: Cred, *, write: bool) -> SemArray:
        """A set whose values are asked for or set.  Errors: EINVAL, EACCES."""
        array = self.ids.obtain_check(semid)
        ipcperms(array.perm, S_IWUGO if write else S_IRUGO, cred)
        return array

    def set_values(self, array: SemArray, values: dict[int, int]) -> None:
        """SETVAL, SETALL: adjustments of these semaphores are forgotten.  Errors: ERANGE."""
        if any(not 0 <= value <= SEMVMX for value in values.values()):
            raise LinuxError(Errno.ERANGE, "semctl: a value")
        pid = self.services.acting_tgid()
        for number, value in values.items():
            array.semaphores[number].value = value
            array.semaphores[number].pid = pid
            for undo in array.undos:
                undo.adjust[number] = 0
        array.ctime = self._now()
        self._changed(array)

    def set_perm(self, semid: int, owner: tuple[int, int, int], cred: Cred) -> None:
        """IPC_SET: *owner* is user, group, mode.  Errors: EINVAL, EPERM."""
        array = self.ids.obtain_check(semid)
        check_owner(array.perm, cred)
        ipc_update_perm(array.perm, *owner)
        array.ctime = self._now()

    def remove(self, semid: int, cred: Cred) -> None:
        """IPC_RMID: who waits hears EIDRM (freeary).  Errors: EINVAL, EPERM."""
        array = self.ids.obtain_check(semid)
        check_owner(array.perm, cred)
        for undo, owner in list(zip(array.undos, array.undo_lists, strict=True)):
            owner.drop(undo)
        self.ids.remove(array)
        self.used -= len(array.semaphores)
        for waiter in array.waiters:
            waiter.finish(LinuxError(Errno.EIDRM, "the set was removed"))
        array.waiters.clear()
        self.services.node.slab.kfree(array.memory)

    def validate(self) -> None:
        """Check that values are in their range, and that nobody waits for what is possible."""
        self.ids.validate()
        assert self.used == sum(len(array.semaphores) for array in self.ids), "Sem: used"
        for array in self.ids:
            for semaphore in array.semaphores:
                assert 0 <= semaphore.value <= SEMVMX, f"Sem: set {array.perm.id} has the value {semaphore.value}"
            for waiter in array.waiters:
                each = waiter.blocking
                assert each is not None, f"Sem: set {array.perm.id}: somebody waits for nothing"
                value = array.semaphores[each.number].value
                stuck = value + each.operation < 0 or (not each.operation and value) or len(waiter.operations) > 1
                assert stuck, f"Sem: set {array.perm.id}: somebody waits for what is possible"
