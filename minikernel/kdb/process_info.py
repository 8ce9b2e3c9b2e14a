"""Commands that show what a program was given: info proc, info auxv, info files."""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT
from minikernel.abi import elf
from minikernel.fs.dentry import d_path
from minikernel.kdb.command import CommandError, command
from minikernel.mm.vma import VM_EXEC, VM_WRITE
from minikernel.report.formats import quoted
from minikernel.report.peek import peek
from minikernel.report.words import rights, size_words

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

_GROUP: Final = "program"
_MAX_TEXT: Final = 1 << 17
_AUXV: Final = {  # getauxval(3)
    elf.AT_NULL: ("AT_NULL", "end of vector"),
    elf.AT_PHDR: ("AT_PHDR", "program headers for program"),
    elf.AT_PHENT: ("AT_PHENT", "size of program header entry"),
    elf.AT_PHNUM: ("AT_PHNUM", "number of program headers"),
    elf.AT_PAGESZ: ("AT_PAGESZ", "system page size"),
    elf.AT_BASE: ("AT_BASE", "base address of interpreter"),
    elf.AT_FLAGS: ("AT_FLAGS", "flags"),
    elf.AT_ENTRY: ("AT_ENTRY", "entry point of program"),
    elf.AT_UID: ("AT_UID", "real user id"),
    elf.AT_EUID: ("AT_EUID", "effective user id"),
    elf.AT_GID: ("AT_GID", "real group id"),
    elf.AT_EGID: ("AT_EGID", "effective group id"),
    elf.AT_PLATFORM: ("AT_PLATFORM", "string identifying platform"),
    elf.AT_HWCAP: ("AT_HWCAP", "CPU capabilities"),
    elf.AT_CLKTCK: ("AT_CLKTCK", "frequency of times()"),
    elf.AT_SECURE: ("AT_SECURE", "was exec setuid-like?"),
    elf.AT_RANDOM: ("AT_RANDOM", "address of 16 random bytes"),
    elf.AT_HWCAP2: ("AT_HWCAP2", "extension of AT_HWCAP"),
    elf.AT_RSEQ_FEATURE_SIZE: ("AT_RSEQ_FEATURE_SIZE", "rseq supported feature size"),
    elf.AT_RSEQ_ALIGN: ("AT_RSEQ_ALIGN", "rseq allocation alignment"),
    elf.AT_EXECFN: ("AT_EXECFN", "file name of executable"),
    elf.AT_SYSINFO: ("AT_SYSINFO", "entry point of system calls"),
    elf.AT_SYSINFO_EHDR: ("AT_SYSINFO_EHDR", "the vDSO's ELF header"),
    elf.AT_MINSIGSTKSZ: ("AT_MINSIGSTKSZ", "minimum stack size for signal delivery"),
}
_TEXTS: Final = frozenset({elf.AT_PLATFORM, elf.AT_EXECFN})
_POINTERS: Final = frozenset({elf.AT_PHDR, elf.AT_BASE, elf.AT_ENTRY, elf.AT_RANDOM, elf.AT_SYSINFO,
                              elf.AT_SYSINFO_EHDR, elf.AT_HWCAP, elf.AT_HWCAP2, *_TEXTS})  # fmt: skip


@command("info proc [PID]", group=_GROUP)
def info_proc(session: "Session", arguments: str) -> None:
    """What a process is running: command line, directory, program, memory; with PID, of that one."""
    task = session.task
    if arguments:
        chosen = session.kernel.tasks.get(session.evaluate(arguments))
        if chosen is None or not chosen.has_mm:
            raise CommandError(f"There is no process {arguments} that has memory.")
        task = chosen
    mm = task.mm
    raw = peek(mm, mm.arg_start, min(mm.arg_end - mm.arg_start, _MAX_TEXT))
    exe = mm.exe_file.path.decode(errors="backslashreplace") if mm.exe_file is not None else "?"
    root = task.fs.root
    session.print(f"process {task.tgid}")
    session.pairs({
        "cmdline": " ".join(quoted(word)[1:-1] for word in raw.rstrip(b"\0").split(b"\0")),
        "cwd": d_path(task.fs.cwd, root).decode(errors="backslashreplace"),
        "exe": exe,
        "root": d_path(root, session.kernel.vfs.namespace.root).decode(errors="backslashreplace"),
        "ids": f"uid {task.cred.uid}, gid {task.cred.gid}, process group {task.process.pgrp}",
        "memory": f"{size_words(mm.total_vm << PAGE_SHIFT)} mapped, {size_words(mm.rss << PAGE_SHIFT)} resident, "
                  f"{size_words(max(mm.hiwater_rss, mm.rss) << PAGE_SHIFT)} at most",
        "code": f"{mm.start_code:#x}-{mm.end_code:#x}",
        "data": f"{mm.start_data:#x}-{mm.end_data:#x}",
        "heap": f"{mm.start_brk:#x}-{mm.brk:#x}",
        "stack": f"begins at {mm.start_stack:#x}",
    })  # fmt: skip


@command("info auxv", group=_GROUP)
def info_auxv(session: "Session", arguments: str) -> None:
    """The auxiliary vector: what the kernel told the program at its start."""
    del arguments
    raw, word = session.mm.saved_auxv, session.word
    for at in range(0, len(raw), 2 * word):
        kind = int.from_bytes(raw[at : at + word], "little")
        value = int.from_bytes(raw[at + word : at + 2 * word], "little")
        name, words = _AUXV.get(kind, ("???", ""))
        shown = f"{value:#x}" if kind in _POINTERS else str(value)
        text = ""
        if kind in _TEXTS:
            text = session.read(value, _MAX_TEXT >> 5).partition(b"\0")[0].decode(errors="backslashreplace")
            shown += f' "{text}"'
        session.print(f"{kind:<4} {name:<20} {words:<40} {shown}")
        session.tell_more("auxv", [{"type": kind, "name": name, "value": value, "text": text or None}])
        if kind == elf.AT_NULL:
            return


@command("info files", "info target", group=_GROUP)
def info_files(session: "Session", arguments: str) -> None:
    """The files that the program is made of: which parts are mapped where, with their sections."""
    del arguments
    mm, symbols = session.mm, session.explainer.symbols
    exe = mm.exe_file.mapping if mm.exe_file is not None else None
    names: dict[int, str] = {}
    for vma in mm.vmas.items:
        if vma.file is None or vma.mapping is None:
            continue
        path = vma.file.path.decode(errors="backslashreplace")
        if id(vma.mapping) not in names:
            names[id(vma.mapping)] = path
            session.print(f"{path}{' (the program)' if vma.mapping is exe else ''}:")
        kind = "code" if vma.flags & VM_EXEC else "data" if vma.flags & VM_WRITE else "constants"
        sections = _sections(symbols.find(mm, vma.start), symbols.find(mm, vma.end - 1))
        session.print(f"  {vma.start:#x} - {vma.end:#x} {rights(vma.flags)} {kind}{sections}")
        told = {"start": vma.start, "end": vma.end, "rights": rights(vma.flags), "file": path}
        session.tell_more("parts", [{**told, "offset": vma.pgoff << PAGE_SHIFT}])


def _sections(first: object, last: object) -> str:
    """The sections at both ends of a mapping, where they are known."""
    names = [getattr(found, "section", "") for found in (first, last)]
    known = list(dict.fromkeys(name for name in names if name))
    return f", {' ... '.join(known)}" if known else ""
