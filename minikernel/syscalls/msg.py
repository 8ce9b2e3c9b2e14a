"""System V message queues.  Linux: ipc/msg.c."""

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ipc import (
    IPC_INFO,
    IPC_NOWAIT,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    perm_size,
    unpack_perm,
    unpack_perm_old,
)
from minikernel.abi.msg import (
    MSG_COPY,
    MSG_EXCEPT,
    MSG_INFO,
    MSG_STAT,
    MSG_STAT_ANY,
    MSGMNB,
    MSGPOOL,
    msqid_ds_size,
    pack_msginfo,
    unpack_qbytes,
)
from minikernel.ipc.msg import Message, Msg, Waiter, Wish
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user, get_user, put_user
from minikernel.syscalls.args import Hex, Int, IpcKey, Long, MsgctlCmd, Ptr, Size
from minikernel.syscalls.entry_types import Entry, Result, full
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.task import Task
from minikernel.wait import Interrupted


def sys_msgget(kernel: Kernel, task: Task, key: IpcKey, msgflg: Hex) -> int:
    """msgget(2)."""
    return kernel.msg.get(key, msgflg, task.cred)


def sys_msgsnd(kernel: Kernel, task: Task, msqid: Int, msgp: Ptr, msgsz: Size, msgflg: Hex) -> Result:
    """msgsnd(2)."""
    msg, word = kernel.msg, call_abi(task).word
    kind = _signed(get_user(task.mm, msgp, word), word)
    if msgsz > msg.ctlmax or msqid < 0 or kind < 1:
        raise LinuxError(Errno.EINVAL, "msgsnd: size, queue or type")
    message = Message(msg.services, kind, copy_from_user(task.mm, msgp + word, msgsz))
    try:
        waiter = msg.send(msqid, message, task.cred)
    except LinuxError:
        message.free()
        raise
    if waiter is None:
        return 0
    if msgflg & IPC_NOWAIT:
        msg.give_up(msqid, waiter)
        message.free()
        raise LinuxError(Errno.EAGAIN, "msgsnd: the queue is full")
    return _wait_to_send(msg, msqid, message, waiter)


async def _wait_to_send(msg: Msg, msqid: int, message: Message, waiter: Waiter) -> int:
    await _wait(msg, msqid, message, waiter)
    return 0


async def _wait(msg: Msg, msqid: int, message: Message | None, waiter: Waiter) -> Message | None:
    """Wait for *waiter*'s outcome; *message* is lost if there is none.  Errors: EIDRM, E2BIG, ERESTARTNOHAND."""
    try:
        while not waiter.done:
            await waiter.queue.wait()
    except Interrupted:
        if not waiter.done:
            msg.give_up(msqid, waiter)
            if message is not None:
                message.free()
            raise LinuxError(Errno.ERESTARTNOHAND, "a signal came") from None
    except GeneratorExit:  # the task ends here
        if not waiter.done:
            msg.give_up(msqid, waiter)
            if message is not None:
                message.free()
        elif isinstance(waiter.outcome, Message):
            waiter.outcome.free()
        raise
    if isinstance(waiter.outcome, LinuxError):
        raise waiter.outcome
    return waiter.outcome


def sys_msgrcv(kernel: Kernel, task: Task, msqid: Int, msgp: Ptr, msgsz: Size, msgtyp: Long, msgflg: Hex) -> Result:
    """msgrcv(2)."""
    msg = kernel.msg
    if msqid < 0 or msgsz >> (call_abi(task).word * 8 - 1):
        raise LinuxError(Errno.EINVAL, "msgrcv: queue or size")
    if msgflg & MSG_COPY and (msgflg & MSG_EXCEPT or not msgflg & IPC_NOWAIT):
        raise LinuxError(Errno.EINVAL, "msgrcv: MSG_COPY needs IPC_NOWAIT, and no MSG_EXCEPT")
    found = msg.receive(msqid, msgsz, Wish(msgtyp, msgflg), msgflg, task.cred)
    if isinstance(found, Message):
        return _store(task, found, msgp, msgsz)
    if msgflg & IPC_NOWAIT:
        if not msgflg & MSG_COPY:
            msg.give_up(msqid, found)
        raise LinuxError(Errno.ENOMSG, "msgrcv: there is none")
    return _wait_to_receive(task, msg, msqid, found, msgp, msgsz)


async def _wait_to_receive(task: Task, msg: Msg, msqid: int, waiter: Waiter, msgp: int, msgsz: int) -> int:
    message = await _wait(msg, msqid, None, waiter)
    assert message is not None, "_wait_to_receive: woken without a message"
    return _store(task, message, msgp, msgsz)


def _store(task: Task, message: Message, msgp: int, msgsz: int) -> int:
    """Give the message to the caller; it is lost if that fails (do_msg_fill)."""
    word = call_abi(task).word
    data = message.data[:msgsz]
    try:
        put_user(task.mm, msgp, message.kind, word)
        copy_to_user(task.mm, msgp + word, data)
    finally:
        message.free()
    return len(data)


def sys_msgctl(kernel: Kernel, task: Task, msqid: Int, cmd: MsgctlCmd, buf: Ptr) -> int:
    """msgctl(2)."""
    return msgctl(kernel, task, msqid, cmd, buf, old=False)


def msgctl(kernel: Kernel, task: Task, msqid: int, cmd: int, buf: int, *, old: bool) -> int:
    """ksys_msgctl, ksys_old_msgctl; *old*: the structures are those of i386's first msgctl."""
    msg, abi, cred = kernel.msg, call_abi(task), task.cred
    if cmd < 0 or msqid < 0:
        raise LinuxError(Errno.EINVAL, "msgctl: negative")
    if cmd in {IPC_INFO, MSG_INFO}:
        limits = msg.ctlmax, msg.ctlmnb, msg.ctlmni
        if cmd == IPC_INFO:
            info = pack_msginfo(MSGPOOL, MSGMNB, limits, MSGMNB)
        else:
            messages = sum(len(queue.messages) for queue in msg.ids)
            info = pack_msginfo(len(msg.ids), messages, limits, sum(queue.cbytes for queue in msg.ids))
        copy_to_user(task.mm, buf, info)
        return max(msg.ids.max_index, 0)
    if cmd in {IPC_STAT, MSG_STAT, MSG_STAT_ANY}:
        queue = msg.stat(msqid, cred, by_index=cmd != IPC_STAT, anybody=cmd == MSG_STAT_ANY)
        status = queue.status()
        copy_to_user(task.mm, buf, status.pack_old() if old else status.pack(abi))
        return 0 if cmd == IPC_STAT else queue.perm.id
    if cmd == IPC_SET:
        data = copy_from_user(task.mm, buf, msqid_ds_size(abi, perm_size(abi), old=old))
        owner = unpack_perm_old(data) if old else unpack_perm(abi, data)
        msg.set(msqid, owner, unpack_qbytes(abi, data, perm_size(abi), old=old), cred)
    elif cmd == IPC_RMID:
        msg.remove(msqid, cred)
    else:
        raise LinuxError(Errno.EINVAL, f"msgctl: command {cmd}")
    return 0


def _signed(value: int, word: int) -> int:
    return value - (value >> (word * 8 - 1) << (word * 8))


ENTRIES: tuple[Entry, ...] = (
    full("msgget", sys_msgget),
    full("msgsnd", sys_msgsnd),
    full("msgrcv", sys_msgrcv),
    full("msgctl", sys_msgctl),
)
