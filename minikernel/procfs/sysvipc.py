"""/proc/sysvipc.  Linux: ipc/shm.c (sysvipc_shm_proc_show), msg.c, sem.c, util.c."""

from typing import Final

from emu.x86 import PAGE_SHIFT
from minikernel.ipc.shm import Segment
from minikernel.kernel import Kernel
from minikernel.procfs.node import ProcDir, ProcFs, ProcText, fixed_dir

_WIDE: Final = 21  # columns of a size on a 64-bit kernel
_NARROW: Final = 10


def sysvipc_dir(sb: ProcFs, ino: int, kernel: Kernel) -> ProcDir:
    """The directory /proc/sysvipc."""
    return fixed_dir(
        sb,
        ino,
        {
            b"msg": ProcText(sb, ino + 1, lambda: _msg(kernel)),
            b"sem": ProcText(sb, ino + 2, lambda: _sem(kernel)),
            b"shm": ProcText(sb, ino + 3, lambda: _shm(kernel)),
        },
    )


def _msg(kernel: Kernel) -> bytes:
    """One line for each queue (sysvipc_msg_proc_show)."""
    lines = [
        (
            "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid"
            "      stime      rtime      ctime\n"
        )
    ]
    for queue in kernel.msg.ids if "msg" in vars(kernel) else ():
        perm = queue.perm
        lines.append(
            f"{perm.key:10d} {perm.id:10d}  {perm.mode:4o}  {queue.cbytes:10d} {len(queue.messages):10d} "
            f"{queue.lspid:5d} {queue.lrpid:5d} {perm.uid:5d} {perm.gid:5d} {perm.cuid:5d} {perm.cgid:5d} "
            f"{queue.stime:10d} {queue.rtime:10d} {queue.ctime:10d}\n"
        )
    return "".join(lines).encode()


def _sem(kernel: Kernel) -> bytes:
    """One line for each set (sysvipc_sem_proc_show)."""
    lines = ["       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"]
    for array in kernel.sem.ids if "sem" in vars(kernel) else ():
        perm = array.perm
        lines.append(
            f"{perm.key:10d} {perm.id:10d}  {perm.mode:4o} {len(array.semaphores):10d} {perm.uid:5d} {perm.gid:5d} "
            f"{perm.cuid:5d} {perm.cgid:5d} {array.otime:10d} {array.ctime:10d}\n"
        )
    return "".join(lines).encode()


def _shm(kernel: Kernel) -> bytes:
    """One line for each segment, by index of its id."""
    width = _WIDE if kernel.cpu.long_mode else _NARROW
    head = (
        f"       key      shmid perms {'size':>{width}}  cpid  lpid nattch   uid   gid  cuid  cgid"
        f"      atime      dtime      ctime {'rss':>{width}} {'swap':>{width}}\n"
    )
    return head.encode() + b"".join(_line(segment, width) for segment in kernel.shm.ids)


def _line(segment: Segment, width: int) -> bytes:
    perm = segment.perm
    rss, swapped = segment.mapping.nr_pages << PAGE_SHIFT, len(segment.mapping.swapped) << PAGE_SHIFT
    return (
        f"{perm.key:10d} {perm.id:10d}  {perm.mode:4o} {segment.size:{width}d} {segment.cpid:5d} {segment.lpid:5d}  "
        f"{segment.nattch:5d} {perm.uid:5d} {perm.gid:5d} {perm.cuid:5d} {perm.cgid:5d} "
        f"{segment.atime:10d} {segment.dtime:10d} {segment.ctime:10d} {rss:{width}d} {swapped:{width}d}\n"
    ).encode()
