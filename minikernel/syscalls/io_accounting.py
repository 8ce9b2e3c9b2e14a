"""/proc/PID/io: bytes that calls moved, and how many calls did.  Linux: include/linux/sched/xacct.h (add_rchar).

Only the calls that count pay for it: the table puts ``counted`` around their callers.
"""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeAlias

from minikernel.abi.errno import Errno, LinuxError
from minikernel.kernel import Kernel
from minikernel.syscalls.entry_types import Result
from minikernel.task.task import Task

_Caller: TypeAlias = Callable[[Any, Any, Sequence[int]], Result]

# Indices into Task.io.
RCHAR: Final = 0
WCHAR: Final = 1
SYSCR: Final = 2
SYSCW: Final = 3

_READS: Final = (RCHAR,)
_WRITES: Final = (WCHAR,)
_KINDS: Final[dict[str, tuple[int, ...]]] = {
    **dict.fromkeys(("read", "pread64", "readv", "preadv", "preadv2"), _READS),
    **dict.fromkeys(("write", "pwrite64", "writev", "pwritev", "pwritev2"), _WRITES),
    **dict.fromkeys(("sendfile", "sendfile64", "copy_file_range"), (RCHAR, WCHAR)),
}


def counted(name: str, caller: _Caller) -> _Caller:
    """*caller* of system call *name*, with what it moves added to its task's counts if it is of that kind."""
    kinds = _KINDS.get(name)
    if kinds is None:
        return caller

    def call(kernel: Kernel, task: Task, regs: Sequence[int]) -> Result:
        try:
            result = caller(kernel, task, regs)
        except LinuxError as error:
            if error.errno is not Errno.EBADF:
                _add(task, kinds, 0)
            raise
        if type(result) is int:
            _add(task, kinds, result)
            return result
        return _later(task, kinds, result)  # type: ignore[arg-type]  # not an int: it is the coroutine

    return call


def _add(task: Task, kinds: tuple[int, ...], moved: int) -> None:
    io = task.io
    for kind in kinds:
        io[kind + SYSCR] += 1
        if moved > 0:
            io[kind] += moved


async def _later(task: Task, kinds: tuple[int, ...], call: Coroutine[Any, Any, int]) -> int:
    """The call blocks: it counts when it is over."""
    try:
        moved = await call
    except LinuxError:
        _add(task, kinds, 0)
        raise
    _add(task, kinds, moved)
    return moved
