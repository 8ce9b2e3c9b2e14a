"""execve: one program replaces another.  Linux: fs/exec.c (do_execveat_common, begin_new_exec), binfmt_script.c.

The new address space is built completely before the old one is given up, so every error leaves the caller running.
"""

from typing import Final

from emu.cpu import RIP, RSP
from emu.x86 import VirtAddr
from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.capability import CAP_SYS_RAWIO
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import RLIMIT_STACK
from minikernel.abi.signal import SIG_DFL, SIG_IGN, SIGCHLD, Sigaction, SignalStack
from minikernel.arch.segments import NR_TLS
from minikernel.events import SchedProcessExec
from minikernel.fs.file import OpenFile
from minikernel.fs.open import open_exec
from minikernel.mm.address_layout import (
    TASK_SIZE_COMPAT,
    TASK_SIZE_I386,
    TASK_SIZE_X86_64,
    address_layout,
)
from minikernel.mm.mm_struct import MmStruct
from minikernel.task.binfmt_elf import create_tables, load_program, map_vdso
from minikernel.task.binprm import BINPRM_BUF_SIZE, BinPrm, check_arguments, setup_stack
from minikernel.task.elf import ElfFile, read_elf
from minikernel.task.exit import do_exit, end_vfork
from minikernel.task.task import Task

_MAX_DEPTH: Final = 5  # interpreters of interpreters
_PER_CLEAR_ON_EXEC: Final = 0x0400000  # READ_IMPLIES_EXEC: a new program says for itself
_ADDR_NO_RANDOMIZE: Final = 0x0040000
_ADDR_COMPAT_LAYOUT: Final = 0x0200000


def do_execve(task: Task, filename: bytes, argv: list[bytes], envp: list[bytes]) -> None:
    """Replace the program of *task*, which is in the CPU.

    Errors:
        ENOENT, EACCES, ENOEXEC, E2BIG, ENOMEM, ELOOP and what the path walk says; the caller goes on then.
    """
    exec_file(task, filename, open_exec(task.fs, task.cred, filename), argv, envp)


def exec_file(task: Task, filename: bytes, file: OpenFile, argv: list[bytes], envp: list[bytes]) -> None:
    """Replace the program of *task* by *file*, whose reference is handed over; *filename* is what scripts are told."""
    bprm = BinPrm(filename, filename, file, b"", argv or [b""], envp)
    try:
        _search_binary_handler(task, bprm)
    finally:
        bprm.file.put_file()


def _search_binary_handler(task: Task, bprm: BinPrm) -> None:
    """Follow `#!` lines to an ELF file, and load that."""
    while True:
        bprm.head = bprm.file.pread(BINPRM_BUF_SIZE, 0)
        if bprm.head[:2] != b"#!":
            break
        if bprm.depth >= _MAX_DEPTH:
            raise LinuxError(Errno.ELOOP, "too many interpreters")
        bprm.depth += 1
        interpreter, argument = parse_shebang(bprm.head)
        bprm.argv = [interpreter, *([argument] if argument else []), bprm.path, *bprm.argv[1:]]
        bprm.path = interpreter
        file = open_exec(task.fs, task.cred, interpreter)
        bprm.file.put_file()
        bprm.file = file
    _exec_elf(task, bprm, read_elf(bprm.file, bprm.head))


def parse_shebang(head: bytes) -> tuple[bytes, bytes]:
    """Interpreter and its one argument from the first bytes of a script (load_script).  Errors: ENOEXEC."""
    line, newline, _ = head.partition(b"\n")
    words = line[2:].strip(b" \t").split(None, 1) if not line[2:].isspace() else []
    if not words:
        raise LinuxError(Errno.ENOEXEC, "a #! line without an interpreter")
    if not newline and len(head) == BINPRM_BUF_SIZE and len(words) == 1:
        raise LinuxError(Errno.ENOEXEC, "the interpreter's name is too long")
    return words[0], words[1].rstrip(b" \t") if len(words) > 1 else b""


def _exec_elf(task: Task, bprm: BinPrm, elf: ElfFile) -> None:
    kernel = task.kernel
    if elf.abi not in kernel.user_mode.pristine:
        raise LinuxError(Errno.ENOEXEC, f"{elf.abi.name} programs do not run on an i386 machine")
    check_arguments(bprm, task.rlimits[RLIMIT_STACK][0], elf.abi.word)
    interpreter = _open_interpreter(task, elf)
    try:
        mm = _new_mm(task, elf)
        try:
            sp, entry = _build(task, bprm, elf, interpreter, mm)
        except BaseException:
            mm.destroy()
            raise
    finally:
        if interpreter is not None:
            interpreter.file.put_file()
    _commit(task, bprm, elf.abi, mm)
    _start_thread(task, elf.abi, sp, entry)
    if kernel.tracer.sink is not None:
        kernel.tracer.emit(SchedProcessExec(bprm.filename.decode(errors="backslashreplace"), VirtAddr(entry)))


def _open_interpreter(task: Task, elf: ElfFile) -> ElfFile | None:
    if elf.interpreter is None:
        return None
    try:
        file = open_exec(task.fs, task.cred, elf.interpreter)
    except LinuxError as error:
        raise LinuxError(error.errno, f"its interpreter {elf.interpreter.decode(errors='replace')}") from None
    try:
        return _read_interpreter(file, elf.abi)
    except BaseException:
        file.put_file()
        raise


def _read_interpreter(file: OpenFile, abi: Abi) -> ElfFile:
    interpreter = read_elf(file, file.pread(BINPRM_BUF_SIZE, 0))
    if interpreter.abi is not abi:
        raise LinuxError(Errno.ENOEXEC, "its interpreter is for another machine")
    return interpreter


def _new_mm(task: Task, elf: ElfFile) -> MmStruct:
    """An empty address space laid out for *elf* (setup_new_exec, arch_pick_mmap_layout)."""
    kernel = task.kernel
    machine_64bit = kernel.cpu.long_mode
    task_size_32 = TASK_SIZE_COMPAT if machine_64bit else TASK_SIZE_I386
    task_size = TASK_SIZE_X86_64 if elf.abi is X86_64 else task_size_32
    random = kernel.random.next64() | 1 if _randomize(task) else 0
    layout = address_layout(
        task_size,
        stack_limit=task.rlimits[RLIMIT_STACK][0],
        random=random,
        machine_64bit=machine_64bit,
        bottom_up=bool(task.personality & _ADDR_COMPAT_LAYOUT),
    )
    mm = MmStruct(kernel.node, kernel.kernel_half, layout, kernel.tracer, task.rlimits, kernel.vm_sysctl)
    # No PT_GNU_STACK on i386 means a program from before NX: everything readable is executable.
    mm.read_implies_exec = elf.exec_stack is None and elf.abi is I386
    mm.cap_sys_rawio = task.cred.capable(CAP_SYS_RAWIO)
    return mm


def _randomize(task: Task) -> bool:
    return task.kernel.config.aslr and not task.personality & _ADDR_NO_RANDOMIZE


def _build(task: Task, bprm: BinPrm, elf: ElfFile, interpreter: ElfFile | None, mm: MmStruct) -> tuple[int, int]:
    """Fill *mm*: stack, program, interpreter, vDSO, tables; the stack pointer and the first instruction."""
    kernel = task.kernel
    random = kernel.random if _randomize(task) else None
    top = mm.layout.stack_top
    if random is not None:
        pages = 0x3FFFFF if mm.layout.is_64bit else 0x7FF
        top = VirtAddr(top - ((random.next64() & pages) << 12))
    executable = bool(elf.exec_stack) or mm.read_implies_exec
    strings = setup_stack(mm, bprm, elf.abi, top, executable=executable)
    mm.set_exe_file(bprm.file)
    loaded = load_program(mm, elf, interpreter, random)
    image, pfn = kernel.vdso[elf.abi]
    vdso = map_vdso(mm, pfn)
    mm.vdso = vdso
    vsyscall = vdso + image.symbols.get("__kernel_vsyscall", 0)
    sp = create_tables(mm, elf, loaded, strings, vdso, vsyscall, task.cred, kernel.random, secure=False)
    return sp, loaded.start


def _commit(task: Task, bprm: BinPrm, abi: Abi, mm: MmStruct) -> None:
    """Give up the old program (begin_new_exec): from here on nothing fails."""
    kernel, process = task.kernel, task.process
    _de_thread(task)
    kernel.leave_mm(task)
    end_vfork(task)
    task.mm = mm
    task.has_mm = True
    task.abi = abi
    if task.files.users > 1:  # unshare_files: close-on-exec is for us alone
        shared, task.files = task.files, task.files.copy()
        shared.put()
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
        del kernel.tasks[task.pid]
        task.pid = process.pid
        process.leader = task
        kernel.tasks[task.pid] = task
        kernel.tracer.pid = task.pid


def _start_thread(task: Task, abi: Abi, sp: int, entry: int) -> None:
    """Load the CPU with the first state of the new program (start_thread)."""
    kernel = task.kernel
    cpu = kernel.cpu
    kernel.user_mode.load_tls(task.tls)
    cpu.restore(kernel.user_mode.pristine[abi])
    cpu.set_root(task.mm.pgtable.root)
    task.mm.tlb_dirty = False
    cpu.regs[RSP] = sp
    cpu.regs[RIP] = entry
