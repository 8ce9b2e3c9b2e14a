"""System V message queues.  Linux: ipc/msg.c, ipc/msgutil.c.

A call that has to wait gives a waiter back; whoever makes it possible does it for the waiter, and wakes it: a message
never lies in a queue while somebody waits for it.
"""

from collections.abc import Callable
from typing import Final, Protocol

from emu.x86 import PAGE_SIZE
from minikernel.abi.capability import CAP_SYS_RESOURCE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.msg import MSG_COPY, MSG_EXCEPT, MSG_NOERROR, MSGMAX, MSGMNB, MSGMNI, MsqidDs
from minikernel.abi.time import NSEC_PER_SEC
from minikernel.fs.cred import Cred
from minikernel.fs.services import KernelServices
from minikernel.ipc.util import S_IRUGO, S_IWUGO, IpcIds, IpcPerm, check_owner, ipc_update_perm, ipcperms, new_perm
from minikernel.wait import WaitQueue

_MSG_HEADER: Final = 48  # struct msg_msg
_SEGMENT_HEADER: Final = 8  # struct msg_msgseg


class IpcServices(KernelServices, Protocol):
    """What queues and semaphores need of the kernel."""

    def acting_tgid(self) -> int:
        """The process that is doing something: task_tgid(current)."""
        ...


class Message:
    """A message, and the kernel's memory that it lies in (struct msg_msg and its segments)."""

    __slots__ = ("_memory", "_slab", "data", "kind")

    def __init__(self, services: IpcServices, kind: int, data: bytes) -> None:
        """Errors: ENOMEM."""
        self._slab = slab = services.node.slab
        self._memory: list[int] = []
        self.kind = kind
        self.data = data
        left, header = len(data), _MSG_HEADER
        try:
            while True:
                size = min(left, PAGE_SIZE - header)
                self._memory.append(slab.kmalloc(header + size))
                left, header = left - size, _SEGMENT_HEADER
                if not left:
                    break
        except LinuxError:
            self.free()
            raise

    def free(self) -> None:
        """It has been received, or is lost (free_msg)."""
        for address in self._memory:
            self._slab.kfree(address)
        self._memory.clear()


class Waiter:
    """A call that waits.  Its *outcome* is there when it is woken: a message, None (it was sent), or an error."""

    __slots__ = ("done", "message", "outcome", "pid", "queue", "size", "wants")

    def __init__(self, pid: int, *, message: Message | None = None, size: int = 0, wants: "Wish | None" = None) -> None:
        self.queue = WaitQueue()
        self.pid = pid
        self.message = message  # of a sender
        self.size = size  # of a receiver's buffer; -1: any, it is cut (MSG_NOERROR)
        self.wants = wants
        self.done = False
        self.outcome: Message | LinuxError | None = None

    def finish(self, outcome: "Message | LinuxError | None") -> None:
        """It need not wait any more."""
        self.done, self.outcome = True, outcome
        self.queue.wake()


class Wish:
    """Which message a receiver wants (convert_mode)."""

    __slots__ = ("is_copy", "kind", "matches")

    def __init__(self, kind: int, flags: int) -> None:
        self.is_copy = bool(flags & MSG_COPY)
        self.kind = kind
        self.matches: Callable[[Message], bool]
        if kind < 0:
            self.matches = lambda message: message.kind <= -kind
        elif flags & MSG_EXCEPT and kind:
            self.matches = lambda message: message.kind != kind
        else:
            self.matches = lambda message: not kind or message.kind == kind

    def choose(self, messages: list[Message]) -> Message | None:
        """The one of *messages* that is received (find_msg)."""
        if self.is_copy:
            return messages[self.kind] if 0 <= self.kind < len(messages) else None
        found = [message for message in messages if self.matches(message)]
        if not found:
            return None
        return min(found, key=lambda message: message.kind) if self.kind < 0 else found[0]


class Queue:
    """A queue: struct msg_queue.  Times in seconds.

    Invariants, checked by ``validate``:
        - *cbytes* is the sum of the messages' sizes, and at most *qbytes*, unless that was lowered;
        - no receiver waits for a message that is there.
    """

    __slots__ = (
        "cbytes",
        "ctime",
        "lrpid",
        "lspid",
        "messages",
        "perm",
        "qbytes",
        "receivers",
        "rtime",
        "senders",
        "stime",
    )

    def __init__(self, perm: IpcPerm, qbytes: int, now: int) -> None:
        self.perm = perm
        self.qbytes = qbytes
        self.cbytes = 0
        self.stime = self.rtime = 0
        self.ctime = now
        self.lspid = self.lrpid = 0
        self.messages: list[Message] = []
        self.receivers: list[Waiter] = []
        self.senders: list[Waiter] = []

    def fits(self, message: Message) -> bool:
        """There is room for it (msg_fits_inqueue)."""
        return len(message.data) + self.cbytes <= self.qbytes and len(self.messages) < self.qbytes

    def status(self) -> MsqidDs:
        """As IPC_STAT shows it."""
        return MsqidDs(
            *(self.perm.to_abi(), self.stime, self.rtime, self.ctime, self.cbytes, len(self.messages), self.qbytes),
            *(self.lspid, self.lrpid),
        )

    def validate(self) -> None:
        """Check the invariants above."""
        where = f"Queue {self.perm.id}"
        assert self.cbytes == sum(len(message.data) for message in self.messages), f"{where}: cbytes"
        for waiter in self.receivers:
            assert waiter.wants is not None, f"{where}: a receiver without a wish"
            assert waiter.wants.choose(self.messages) is None, f"{where}: somebody waits for what is there"


class Msg:
    """The queues of one machine."""

    __slots__ = ("ctlmax", "ctlmnb", "ctlmni", "ids", "services")

    def __init__(self, services: IpcServices) -> None:
        self.services = services
        self.ids: IpcIds[Queue] = IpcIds()
        self.ctlmax = MSGMAX
        self.ctlmnb = MSGMNB
        self.ctlmni = MSGMNI

    def _now(self) -> int:
        return self.services.clock.realtime_ns() // NSEC_PER_SEC

    def get(self, key: int, flags: int, cred: Cred) -> int:
        """The id of the queue with *key*, made if need be: msgget(2).

        Errors:
            ENOENT, EEXIST, EACCES, ENOSPC.
        """
        found = self.ids.find(key, flags)
        if found is None:
            found = Queue(new_perm(key, flags, cred), self.ctlmnb, self._now())
            self.ids.add(found, self.ctlmni)
        else:
            ipcperms(found.perm, flags, cred)
        return found.perm.id

    # ---- sending

    def send(self, msqid: int, message: Message, cred: Cred) -> Waiter | None:
        """Put *message* into the queue, or straight into a receiver's hands; a waiter if there is no room (do_msgsnd).

        Errors:
            EINVAL: no such queue; EACCES.
        """
        queue = self.ids.obtain_check(msqid)
        ipcperms(queue.perm, S_IWUGO, cred)
        if not queue.fits(message):
            waiter = Waiter(self.services.acting_tgid(), message=message)
            queue.senders.append(waiter)
            return waiter
        self._deliver(queue, message, self.services.acting_tgid())
        return None

    def _deliver(self, queue: Queue, message: Message, sender: int) -> None:
        queue.lspid = sender
        queue.stime = self._now()
        for waiter in queue.receivers[:]:
            assert waiter.wants is not None, "_deliver: a receiver without a wish"
            if not waiter.wants.matches(message):
                continue
            queue.receivers.remove(waiter)
            if 0 <= waiter.size < len(message.data):
                waiter.finish(LinuxError(Errno.E2BIG, "msgrcv: the message is longer than the buffer"))
                continue
            queue.rtime, queue.lrpid = self._now(), waiter.pid
            waiter.finish(message)
            return
        queue.messages.append(message)
        queue.cbytes += len(message.data)

    def _room(self, queue: Queue) -> None:
        """There is room again: senders go on, in their order (ss_wakeup)."""
        while queue.senders:
            waiter = queue.senders[0]
            assert waiter.message is not None, "_room: a sender without a message"
            if not queue.fits(waiter.message):
                return
            del queue.senders[0]
            self._deliver(queue, waiter.message, waiter.pid)
            waiter.finish(None)

    # ---- receiving

    def receive(self, msqid: int, size: int, wish: Wish, flags: int, cred: Cred) -> Message | Waiter:
        """The message that *wish* is about, or a waiter (do_msgrcv); a message is the caller's to free.

        Errors:
            EINVAL: no such queue; EACCES; E2BIG: it is longer than *size*.
        """
        queue = self.ids.obtain_check(msqid)
        ipcperms(queue.perm, S_IRUGO, cred)
        found = wish.choose(queue.messages)
        if found is None:
            waiter = Waiter(self.services.acting_tgid(), size=-1 if flags & MSG_NOERROR else size, wants=wish)
            if not wish.is_copy:
                queue.receivers.append(waiter)
            return waiter
        if len(found.data) > size and not flags & MSG_NOERROR:
            raise LinuxError(Errno.E2BIG, "msgrcv: the message is longer than the buffer")
        if wish.is_copy:
            return Message(self.services, found.kind, found.data)
        queue.messages.remove(found)
        queue.cbytes -= len(found.data)
        queue.lrpid, queue.rtime = self.services.acting_tgid(), self._now()
        self._room(queue)
        return found

    def give_up(self, msqid: int, waiter: Waiter) -> None:
        """*waiter* waits no more: a signal came."""
        queue = self.ids.obtain_check(msqid)
        for waiters in (queue.senders, queue.receivers):
            if waiter in waiters:
                waiters.remove(waiter)

    # ---- msgctl

    def stat(self, msqid: int, cred: Cred, *, by_index: bool = False, anybody: bool = False) -> Queue:
        """The queue that IPC_STAT, MSG_STAT (*by_index*) or MSG_STAT_ANY (*anybody* too) tells of.

        Errors:
            EINVAL, EACCES.
        """
        queue = self.ids.obtain(msqid) if by_index else self.ids.obtain_check(msqid)
        if not anybody:
            ipcperms(queue.perm, S_IRUGO, cred)
        return queue

    def set(self, msqid: int, owner: tuple[int, int, int], qbytes: int, cred: Cred) -> None:
        """IPC_SET: *owner* is user, group, mode.

        Errors:
            EINVAL, EPERM.
        """
        queue = self.ids.obtain_check(msqid)
        check_owner(queue.perm, cred)
        if qbytes > self.ctlmnb and not cred.capable(CAP_SYS_RESOURCE):
            raise LinuxError(Errno.EPERM, "msgctl: more bytes than kernel.msgmnb")
        ipc_update_perm(queue.perm, *owner)
        queue.qbytes = qbytes
        queue.ctime = self._now()
        self._room(queue)

    def remove(self, msqid: int, cred: Cred) -> None:
        """IPC_RMID: who waits hears EIDRM (freeque).

        Errors:
            EINVAL, EPERM.
        """
        queue = self.ids.obtain_check(msqid)
        check_owner(queue.perm, cred)
        self.ids.remove(queue)
        for waiter in (*queue.receivers, *queue.senders):
            if waiter.message is not None:
                waiter.message.free()
            waiter.finish(LinuxError(Errno.EIDRM, "the queue was removed"))
        for message in queue.messages:
            message.free()
        queue.messages.clear()

    def validate(self) -> None:
        """Check the invariants of every queue."""
        self.ids.validate()
        for queue in self.ids:
            queue.validate()
