"""What a program was when it died, as an ELF file that gdb opens.  Linux: fs/binfmt_elf.c (elf_core_dump), coredump.c.

``core_image`` makes the bytes, of any process that stands still; ``do_coredump`` decides whether and where a dying one
leaves them: RLIMIT_CORE, kernel.core_pattern, PR_SET_DUMPABLE.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from emu.cpu import RIP
from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PTE_P
from minikernel.abi import core as c
from minikernel.abi.abi import I386, X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_CREAT, O_LARGEFILE, O_NOFOLLOW, O_WRONLY, SEEK_SET
from minikernel.abi.resource import RLIMIT_CORE
from minikernel.fs.attr import truncate_inode
from minikernel.fs.open import do_open
from minikernel.mm.pgtable import pte_pfn
from minikernel.mm.uaccess import copy_from_user
from minikernel.mm.vma import VM_DONTDUMP, VM_EXEC, VM_IO, VM_READ, VM_SHARED, VM_WRITE
from minikernel.task.sigframe32 import fsave_from_fxsave

if TYPE_CHECKING:
    from minikernel.abi.siginfo import Siginfo
    from minikernel.fs.file import OpenFile
    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma
    from minikernel.task.task import Task

SUID_DUMP_USER: Final = 1  # what PR_SET_DUMPABLE is for a process that may be dumped
_CHUNK_PAGES: Final = 256
_FSAVE_SIZE: Final = 108  # struct user_i387_ia32_struct
_ZEROES: Final = bytes(PAGE_SIZE)
_ORDER64: Final = (15, 14, 13, 12, 5, 3, 11, 10, 9, 8, 0, 1, 2, 6, 7)  # r15 ... rdi, by number of the register


# ---- the file


def core_image(task: Task, info: Siginfo | None) -> Iterator[bytes]:
    """The core file of *task*'s process, piece by piece; *info*: the signal it dies of.

    The task comes first among the threads.  Nothing of the process is changed, but pages in swap may come back.
    """
    mm, abi = task.mm, task.abi
    vmas = [(vma, dump_size(mm, vma)) for vma in mm.vmas]
    segments = len(vmas) + 1
    notes = b"".join(_notes(task, info))
    offset = c.header_size(abi, segments)
    headers = [c.Segment(c.PT_NOTE, 0, offset, 0, len(notes), 0, 4).pack(abi)]
    start = at = offset + len(notes) + -(offset + len(notes)) % PAGE_SIZE
    for vma, size in vmas:
        flags = vma.flags
        rights = bool(flags & VM_READ) * c.PF_R | bool(flags & VM_WRITE) * c.PF_W | bool(flags & VM_EXEC) * c.PF_X
        length = vma.end - vma.start
        headers.append(c.Segment(c.PT_LOAD, rights, at, vma.start, size, length, PAGE_SIZE).pack(abi))
        at += size
    yield c.pack_header(abi, segments, at) + b"".join(headers) + notes + bytes(start - offset - len(notes))
    for vma, size in vmas:
        for address in range(vma.start, vma.start + size, _CHUNK_PAGES << PAGE_SHIFT):
            end = min(address + (_CHUNK_PAGES << PAGE_SHIFT), vma.start + size)
            yield b"".join(_page(mm, vma, page) for page in range(address, end, PAGE_SIZE))
    if segments >= c.PN_XNUM:
        yield c.pack_extra_section(abi, segments)


def dump_size(mm: MmStruct, vma: Vma) -> int:
    """How many bytes of *vma* are dumped, with the usual coredump_filter of 0x33 (vma_dump_size)."""
    whole = vma.end - vma.start
    if vma.special is not None:
        return whole
    if vma.flags & (VM_DONTDUMP | VM_IO):
        return 0
    if vma.flags & VM_SHARED:
        return whole if vma.mapping is not None and vma.file is None else 0  # shared anonymous memory
    if vma.anon_vma is not None:
        return whole
    if vma.mapping is None or vma.file is None or vma.pgoff or not vma.flags & VM_READ:
        return 0
    return PAGE_SIZE if _page(mm, vma, vma.start).startswith(b"\x7fELF") else 0


def _page(mm: MmStruct, vma: Vma, address: int) -> bytes:
    """A page as the program would see it; zeroes where there is none (get_dump_page)."""
    pte = mm.pgtable.get(address)
    if pte & PTE_P:
        phys = pte_pfn(pte) << PAGE_SHIFT
        return mm.ram[phys : phys + PAGE_SIZE]
    if not pte and vma.mapping is None and vma.special is None:
        return _ZEROES
    try:
        return copy_from_user(mm, address, PAGE_SIZE)
    except LinuxError:  # beyond the end of the file, or not to be read back
        return _ZEROES


# ---- the notes


def _notes(task: Task, info: Siginfo | None) -> Iterator[bytes]:
    """Of the process, and of each of its threads."""
    abi = task.abi
    others = [thread for thread in task.process.threads if thread is not task]
    status, *rest = _thread_notes(task, info)
    yield status
    yield c.pack_note(b"CORE", c.NT_PRPSINFO, _psinfo(task).pack(abi))
    if info is not None:
        yield c.pack_note(b"CORE", c.NT_SIGINFO, info.pack(abi))
    yield c.pack_note(b"CORE", c.NT_AUXV, task.mm.saved_auxv)
    files = [
        (vma.start, vma.end, vma.pgoff, vma.file.path) for vma in task.mm.vmas if vma.file is not None
    ]  # fmt: skip
    if files:
        yield c.pack_note(b"CORE", c.NT_FILE, c.pack_files(abi, PAGE_SIZE, files))
    yield from rest
    for thread in others:
        yield from _thread_notes(thread, info)


def _psinfo(task: Task) -> c.Prpsinfo:
    mm, process = task.mm, task.process
    try:
        words = copy_from_user(mm, mm.arg_start, min(mm.arg_end - mm.arg_start, 79))
    except LinuxError:  # the program has unmapped them
        words = b""
    return c.Prpsinfo(
        state=b"R",
        nice=task.attributes.nice,
        flags=0,
        uid=task.cred.uid,
        gid=task.cred.gid,
        pid=process.pid,
        ppid=task.ppid,
        pgrp=process.pgrp,
        session=process.session,
        comm=task.comm,
        arguments=words.replace(b"\0", b" "),
    )


def _thread_notes(task: Task, info: Siginfo | None) -> list[bytes]:
    """Registers of one thread."""
    kernel, process = task.kernel, task.process
    regs, fxsave = _registers(kernel, task)
    children = process.children_usage
    status = c.Prstatus(
        signo=info.signo if info is not None else 0,
        pending=task.pending.mask | process.shared_pending.mask,
        blocked=task.blocked,
        pid=task.pid,
        ppid=task.ppid,
        pgrp=process.pgrp,
        session=process.session,
        times=(task.utime, task.stime, children.utime, children.stime),
        regs=regs,
    )
    notes = [c.pack_note(b"CORE", c.NT_PRSTATUS, status.pack(task.abi))]
    if task.abi is X86_64:
        notes.append(c.pack_note(b"CORE", c.NT_PRFPREG, fxsave))
    else:
        notes.append(c.pack_note(b"CORE", c.NT_PRFPREG, fsave_from_fxsave(fxsave)[:_FSAVE_SIZE]))
        notes.append(c.pack_note(b"LINUX", c.NT_PRXFPREG, fxsave))
    return notes


def _registers(kernel: Kernel, task: Task) -> tuple[tuple[int, ...], bytes]:
    """Struct user_regs_struct, and the FXSAVE image.  A thread that is not in the CPU is put there for a moment."""
    cpu = kernel.cpu
    if kernel.current is task:
        return _in_cpu(kernel, task), cpu.fxsave()
    mine, root = cpu.save(), cpu.root
    kernel.user_mode.load_tls(task.tls)
    cpu.restore(task.context)
    try:
        return _in_cpu(kernel, task), cpu.fxsave()
    finally:
        if kernel.current is not None:
            kernel.user_mode.load_tls(kernel.current.tls)
        cpu.restore(mine)
        cpu.set_root(root)


def _in_cpu(kernel: Kernel, task: Task) -> tuple[int, ...]:
    cpu = kernel.cpu
    regs = cpu.regs
    segment = cpu.segment
    if task.abi is I386:
        general = (regs[number] for number in (3, 1, 2, 6, 7, 5, 0))  # ebx ecx edx esi edi ebp eax
        data = (segment(name) for name in ("ds", "es", "fs", "gs"))
        return (*general, *data, task.orig_ax, regs[RIP], segment("cs"), cpu.rflags, regs[4], segment("ss"))
    general = (regs[number] for number in _ORDER64)
    data = (segment(name) for name in ("ds", "es", "fs", "gs"))
    here = (regs[RIP], segment("cs"), cpu.rflags, regs[4], segment("ss"), cpu.fs_base, cpu.gs_base)
    return (*general, task.orig_ax, *here, *data)


# ---- whether and where


def do_coredump(task: Task, info: Siginfo) -> bool:
    """Leave a core file, if the process may and wants to; whether it did (do_coredump)."""
    limit = task.rlimits[RLIMIT_CORE][0]
    if task.attributes.dumpable != SUID_DUMP_USER or limit < PAGE_SIZE:
        return False
    kernel = task.kernel
    name = core_name(task, info)
    if name.startswith(b"|"):
        kernel.log(f"Core dump to {name.decode(errors='replace')} pipe: there are no helpers here")
        return False
    try:
        file = do_open(task.fs, task.cred, name, O_CREAT | O_WRONLY | O_NOFOLLOW | O_LARGEFILE, 0o600)
    except LinuxError:
        return False
    try:
        return _write(task, info, file, limit)
    finally:
        file.put_file()


def _write(task: Task, info: Siginfo, file: OpenFile, limit: int) -> bool:
    """The file's contents, up to *limit* bytes; pages of zeroes are holes."""
    inode = file.inode
    if not inode.is_reg or inode.nlink != 1 or inode.uid != task.cred.fsuid:
        return False
    at = 0
    try:
        truncate_inode(inode, 0)
        for piece in core_image(task, info):
            data = piece[: limit - at]
            if data.strip(b"\0"):
                file.seek(at, SEEK_SET)
                file.write(data)
            at += len(data)
            if len(data) < len(piece):
                break
        truncate_inode(inode, at)
    except LinuxError as error:
        if error.errno not in {Errno.ENOSPC, Errno.EFBIG, Errno.ENOMEM, Errno.EDQUOT}:
            raise
        return False
    return True


def core_name(task: Task, info: Siginfo) -> bytes:
    """What kernel.core_pattern and core_uses_pid make of it (format_corename)."""
    kernel, process = task.kernel, task.process
    mm = task.mm
    executable = mm.exe_file.path if mm.exe_file is not None else task.comm
    values = {
        b"%": b"%",
        b"p": b"%d" % process.pid,
        b"P": b"%d" % process.pid,
        b"i": b"%d" % task.pid,
        b"I": b"%d" % task.pid,
        b"u": b"%d" % task.cred.uid,
        b"g": b"%d" % task.cred.gid,
        b"d": b"%d" % task.attributes.dumpable,
        b"s": b"%d" % info.signo,
        b"t": b"%d" % (kernel.clock.realtime_ns() // 1_000_000_000),
        b"h": kernel.hostname,
        b"e": task.comm,
        b"f": executable.rpartition(b"/")[2],
        b"E": executable.replace(b"/", b"!"),
        b"c": b"%d" % task.rlimits[RLIMIT_CORE][0],
    }
    pattern, name = kernel.core_pattern, b""
    at = 0
    while at < len(pattern):
        char = pattern[at : at + 1]
        if char == b"%":
            at += 1
            name += values.get(pattern[at : at + 1], b"")
        else:
            name += char
        at += 1
    if kernel.core_uses_pid and b"%p" not in pattern and not pattern.startswith(b"|"):
        name += b".%d" % process.pid
    return name
