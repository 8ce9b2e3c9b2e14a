"""/proc: its root directory.  Linux: fs/proc/root.c, fs/proc/self.c."""

from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import makedev
from minikernel.fs.inode import Inode
from minikernel.kernel import Kernel
from minikernel.procfs.node import ProcDir, ProcFs, ProcLink
from minikernel.procfs.pid import pid_dir
from minikernel.procfs.system import system_files
from minikernel.task.task import Task

_DEV_PROC: Final = makedev(0, 21)
_ROOT_INO: Final = 1
_SELF_INO: Final = 0xF000_0000
_THREAD_SELF_INO: Final = 0xF000_0001


def procfs(kernel: Kernel) -> ProcFs:
    """The proc file system of *kernel*."""
    sb = ProcFs(kernel, _DEV_PROC)
    static: dict[bytes, Inode] = system_files(sb, kernel)
    static[b"self"] = ProcLink(sb, _SELF_INO, lambda: b"%d" % _current(kernel).tgid)
    static[b"thread-self"] = ProcLink(
        sb, _THREAD_SELF_INO, lambda: b"%d/task/%d" % (_current(kernel).tgid, _current(kernel).pid)
    )

    def find(name: bytes) -> Inode | None:
        inode = static.get(name)
        if inode is not None:
            return inode
        if not name.isdigit() or name[:1] == b"0":
            return None
        task = kernel.tasks.get(int(name))
        return None if task is None else pid_dir(sb, task)

    def names() -> list[bytes]:
        return [*static, *(b"%d" % pid for pid, task in kernel.tasks.items() if task.tgid == pid)]

    sb.root = ProcDir(sb, _ROOT_INO, find, names)
    return sb


def _current(kernel: Kernel) -> Task:
    if kernel.current is None:
        raise LinuxError(Errno.ENOENT, "nobody asks for /proc/self")
    return kernel.current
