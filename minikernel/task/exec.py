"""execve: one program replaces another.  Linux: fs/exec.c (do_execveat_common, begin_new_exec), binfmt_script.c.

The new address space is built completely before the old one is given up, so every error leaves the caller running.
"""

from collections.abc import Callable
from typing import Final

from emu.cpu import RIP, RSP
from emu.x86 import VirtAddr
from minikernel.abi.abi import Abi
from minikernel.abi.aout import MAGICS
from minikernel.abi.elf import ELFMAG
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.signal import SIG_DFL, SIG_IGN, SIGCHLD, Sigaction, SignalStack
from minikernel.arch.segments import NR_TLS
from minikernel.events import SchedProcessExec
from minikernel.fs.file import OpenFile
from minikernel.fs.open import open_exec
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.slab_objects import uncharge
from minikernel.task.binfmt_elf import load_elf
from minikernel.task.binfmt_script import load_script
from minikernel.task.binprm import BINPRM_BUF_SIZE, BinPrm
from minikernel.task.creds import commit_exec_creds, creds_from_file
from minikernel.task.exec_mm import Image
from minikernel.task.exit import do_exit, release_memory
from minikernel.task.task import Task

_MAX_DEPTH: Final = 5  # interpreters of interpreters
_PER_CLEAR_ON_EXEC: Final = 0x0400000  # READ_IMPLIES_EXEC: a new program says for itself


def _load_aout(task: Task, bprm: BinPrm) -> Image:
    from minikernel.task.binfmt_aout import load_aout  # few runs need it

    return load_aout(task, bprm)


# The kinds of programs: what their files begin with, and who builds their memory (struct linux_binfmt).  Scripts
# come before all of them.
_FORMATS: Final[tuple[tuple[bytes, Callable[[Task, BinPrm], Image]], ...]] = (
    (ELFMAG, load_elf),
    *((magic.to_bytes(2, "little"), _load_aout) for magic in sorted(MAGICS)),
)


def do_execve(task: Task, filename: bytes, argv: list[bytes], envp: list[bytes]) -> None:
    """Replace the program of *task*, which is in the CPU.

    Errors:
        ENOENT, EACCES, ENOEXEC, E2BIG, ENOMEM, ELOOP and what the path walk says; the caller goes on then.
    """
    exec_file(task, filename, open_exec(task.fs, task.cred, filename), argv, envp)


def exec_file(
    task: Task,
    filename: bytes,
    file: OpenFile,
    argv: list[bytes],
    envp: list[bytes],
    *,
    path_inaccessible: bool = False,
) -> None:
    """Replace the program of *task* by *file*, whose reference is handed over; *filename* is what scripts are told.

    *path_inaccessible*: the new program cannot open *filename*.
    """
    kernel = task.kernel
    bprm = BinPrm(filename, filename, file, b"", argv or [b""], envp, task.cred)
    bprm.path_inaccessible = path_inaccessible
    try:
        image = _search_binary_handler(task, bprm)
        _commit(task, bprm, image.abi, image.mm)
    finally:
        bprm.file.put_file()
    _start_thread(task, image)
    if kernel.tracer.sink is not None:
        kernel.tracer.emit(SchedProcessExec(bprm.filename.decode(errors="backslashreplace"), VirtAddr(image.entry)))


def _search_binary_handler(task: Task, bprm: BinPrm) -> Image:
    """Build the new program; a script puts its interpreter in its place, and the search begins again.

    Linux: exec_binprm, search_binary_handler.
    """
    for _ in range(_MAX_DEPTH + 1):
        bprm.head = bprm.file.pread(BINPRM_BUF_SIZE, 0)
        if bprm.head[:2] == b"#!":
            load_script(task, bprm)
            continue
        bprm.cred, bprm.per_clear = task.cred.copy(), 0
        creds_from_file(task, bprm)
        for magic, load in _FORMATS:
            if bprm.head[: len(magic)] == magic:
                return load(task, bprm)
        raise LinuxError(Errno.ENOEXEC, "of no known format")
    raise LinuxError(Errno.ELOOP, "too many interpreters")


def _commit(task: Task, bprm: BinPrm, abi: Abi, mm: MmStruct) -> None:
    """Give up the old program (begin_new_exec): nothing fails any more.

    Errors:
        ENOMEM: no object for a table of descriptors of its own; nothing has changed then.
    """
    process = task.process
    cache = task.files.cache
    spare = 0
    if task.files.users > 1 and cache is not None:
        try:
            spare = cache.alloc()
        except LinuxError:
            mm.destroy()
            raise
    _de_thread(task)
    release_memory(task)
    task.mm = mm
    task.has_mm = True
    task.abi = abi
    if task.files.users > 1:  # unshare_files: close-on-exec is for us alone
        shared, task.files = task.files, task.files.copy(spare)
        shared.put()
    elif cache is not None and spare:
        cache.free(spare)
    task.files.close_on_exec()
    process.actions = process.actions[:]
    for sig, action in enumerate(process.actions):
        if action.handler not in {SIG_DFL, SIG_IGN} or action.flags:
            process.actions[sig] = Sigaction(SIG_IGN) if action.handler == SIG_IGN else Sigaction()
    task.sigstack = SignalStack()
    task.tls = (0,) * NR_TLS
    task.clear_child_tid = 0
    task.robust_list = (0, 0)
    task.rseq = (0, 0, 0)
    task.attributes.exec()
    task.personality &= ~_PER_CLEAR_ON_EXEC
    commit_exec_creds(task, bprm)
    process.exit_signal = SIGCHLD
    for timer in list(process.posix_timers.values()):
        timer.delete()
    task.set_comm(bprm.filename.rsplit(b"/", 1)[-1])


def _de_thread(task: Task) -> None:
    """End the other threads; the caller becomes the leader, with the process's id (de_thread)."""
    kernel, process = task.kernel, task.process
    for thread in list(process.threads):
        if thread is not task:
            do_exit(thread, 0)
    if process.leader is not task:
        old = kernel.tasks[process.pid]
        del kernel.tasks[task.pid]
        uncharge(old.objects)
        task.pid = process.pid
        process.leader = task
        kernel.tasks[task.pid] = task
        kernel.tracer.pid = task.pid


def _start_thread(task: Task, image: Image) -> None:
    """Load the CPU with the first state of the new program (start_thread)."""
    kernel = task.kernel
    cpu = kernel.cpu
    kernel.user_mode.load_tls(task.tls)
    cpu.restore(kernel.user_mode.pristine[image.abi])
    cpu.set_root(task.mm.pgtable.root)
    task.mm.tlb_dirty = False
    cpu.regs[RSP] = image.sp
    cpu.regs[RIP] = image.entry
