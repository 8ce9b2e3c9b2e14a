"""Loading an ELF program into a new address space.

Linux: fs/binfmt_elf.c (load_elf_binary, elf_load, load_elf_interp, create_elf_tables).  Everything happens in an
address space of its own, so a load that fails leaves the caller as it was.
"""

from typing import Final

from msgspec import Struct

from emu.cpuid import FEATURES_EDX
from emu.x86 import PAGE_MASK, PAGE_SHIFT, PAGE_SIZE, Pfn, VirtAddr, page_align
from minikernel.abi import elf as e
from minikernel.abi.abi import I386, X86_64, Abi
from minikernel.abi.elf import PF_R, PF_W, PF_X, Phdr
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import (
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from minikernel.abi.resource import RLIMIT_STACK
from minikernel.abi.signal import MINSIGSTKSZ
from minikernel.fs.cred import Cred
from minikernel.fs.file import OpenFile
from minikernel.fs.open import open_exec
from minikernel.mm.brk import do_brk_flags
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import do_mmap, install_special_mapping
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.uaccess import clear_user
from minikernel.mm.unmapped_area import get_unmapped_area
from minikernel.mm.vma import VM_ACCOUNT, VM_DATA_DEFAULT_FLAGS, VM_EXEC
from minikernel.prng import Prng
from minikernel.task.binprm import BINPRM_BUF_SIZE, ArgStrings, BinPrm, check_arguments, copy_to_stack, setup_stack
from minikernel.task.elf import ElfFile, read_elf
from minikernel.task.exec_mm import Image, new_mm, randomize, stack_top
from minikernel.task.task import Task

CLOCK_TICKS: Final = 100  # AT_CLKTCK: USER_HZ
_ET_DYN_BASE_64: Final = 0x5555_5555_4000  # ELF_ET_DYN_BASE: two thirds of the address space
_ET_DYN_BASE_COMPAT: Final = 0x5655_5000
_ET_DYN_BASE_I386: Final = 0x0040_0000
_BRK_RANDOM: Final = {X86_64: 1 << 30, I386: 32 << 20}


class Loaded(Struct):
    """Where a program went: what the registers and the auxiliary vector need."""

    bias: int
    entry: int  # of the program itself
    start: int  # where execution begins: the interpreter's entry, if there is one
    interpreter_base: int
    phdrs: int  # address of the program headers, 0 if no segment holds them


def load_elf(task: Task, bprm: BinPrm) -> Image:
    """Build the address space of an ELF program (load_elf_binary).

    Errors:
        ENOEXEC: no ELF file that this machine runs; ELIBBAD and what opening and mapping its interpreter say.
    """
    elf = read_elf(bprm.file, bprm.head)
    if elf.abi not in task.kernel.user_mode.pristine:
        raise LinuxError(Errno.ENOEXEC, f"{elf.abi.name} programs do not run on an i386 machine")
    check_arguments(bprm, task.rlimits[RLIMIT_STACK][0], elf.abi.word)
    interpreter = _open_interpreter(task, elf)
    try:
        # No PT_GNU_STACK on i386 means a program from before NX: everything readable is executable.
        mm = new_mm(task, bprm, elf.abi, read_implies_exec=elf.exec_stack is None and elf.abi is I386)
        try:
            return _build(task, bprm, elf, interpreter, mm)
        except BaseException:
            mm.destroy()
            raise
    finally:
        if interpreter is not None:
            interpreter.file.put_file()


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


def _build(task: Task, bprm: BinPrm, elf: ElfFile, interpreter: ElfFile | None, mm: MmStruct) -> Image:
    """Fill *mm*: stack, program, interpreter, vDSO, tables."""
    kernel = task.kernel
    random = kernel.random if randomize(task, bprm) else None
    executable = bool(elf.exec_stack) or mm.read_implies_exec
    strings = setup_stack(mm, bprm, elf.abi, stack_top(mm, random), executable=executable)
    mm.set_exe_file(bprm.file)
    loaded = load_program(mm, elf, interpreter, random)
    image, pfn = kernel.vdso[elf.abi]
    vdso = map_vdso(mm, pfn)
    mm.vdso = vdso
    vsyscall = vdso + image.symbols.get("__kernel_vsyscall", 0)
    sp = create_tables(mm, elf, loaded, strings, vdso, vsyscall, bprm.cred, kernel.random, secure=bprm.secure)
    return Image(elf.abi, mm, sp, loaded.start)


def load_program(mm: MmStruct, elf: ElfFile, interpreter: ElfFile | None, random: Prng | None) -> Loaded:
    """Map *elf* and *interpreter*; *random* is None without ASLR.

    Errors:
        ENOMEM, EINVAL, EFAULT: the segments cannot be mapped as the file wants.
    """
    bias = _map_program(mm, elf, interpreter, random)
    _note_layout(mm, elf, bias)
    _place_brk(mm, elf, interpreter, random)
    base, start = 0, elf.header.e_entry + bias
    if interpreter is not None:
        base = _map_image(mm, interpreter, 0)
        start = base + interpreter.header.e_entry
    if start >= mm.layout.task_size:
        raise LinuxError(Errno.EINVAL, f"the entry point {start:#x} lies outside user space")
    return Loaded(bias, elf.header.e_entry + bias, start, base, _phdr_address(elf, bias))


def _map_program(mm: MmStruct, elf: ElfFile, interpreter: ElfFile | None, random: Prng | None) -> int:
    if not elf.is_dyn:
        for index, phdr in enumerate(elf.loads):
            _map_segment(mm, elf, phdr, 0, MAP_FIXED if index else MAP_FIXED_NOREPLACE)
        return 0
    if interpreter is None:
        return _map_image(mm, elf, 0)  # static PIE, or ld.so by itself: out of the way of what it may load
    base = _ET_DYN_BASE_64 if mm.layout.is_64bit else _dyn_base_32(mm)
    if random is not None:
        base += (random.next64() & ((1 << (28 if mm.layout.is_64bit else 8)) - 1)) << PAGE_SHIFT
    return _map_image(mm, elf, base)


def _dyn_base_32(mm: MmStruct) -> int:
    return _ET_DYN_BASE_COMPAT if mm.layout.task_size > 0xC000_0000 else _ET_DYN_BASE_I386


def _map_image(mm: MmStruct, elf: ElfFile, base: int) -> int:
    """Map a position-independent file as one block, at *base* or, if that is 0, where there is room; its bias."""
    loads = elf.loads
    first = loads[0]
    low = min(phdr.p_vaddr & ~PAGE_MASK for phdr in loads)
    total = page_align(max(phdr.p_vaddr + phdr.p_memsz for phdr in loads)) - low
    if not total:
        raise LinuxError(Errno.EINVAL, "nothing to map")
    alignment = max((p.p_align for p in loads if p.p_align and not p.p_align & (p.p_align - 1)), default=PAGE_SIZE)
    if alignment > PAGE_SIZE:
        base &= ~(alignment - 1)
    flags = MAP_PRIVATE | (MAP_FIXED_NOREPLACE if base else 0)
    where = do_mmap(mm, base + low if base else 0, total, _prot(first), flags, elf.file, 0)
    # The block was only to find the room: the segments are mapped one by one in its place.
    vm_munmap(mm, where, total)
    bias = where - low
    for phdr in loads:
        _map_segment(mm, elf, phdr, bias, MAP_FIXED)
    return bias


def _prot(phdr: Phdr) -> int:
    flags = phdr.p_flags
    return (PROT_READ if flags & PF_R else 0) | (PROT_WRITE if flags & PF_W else 0) | (PROT_EXEC if flags & PF_X else 0)


def _map_segment(mm: MmStruct, elf: ElfFile, phdr: Phdr, bias: int, fixed: int) -> None:
    """Map one PT_LOAD: the file's part, then zeroes (elf_load)."""
    address = bias + phdr.p_vaddr
    offset_in_page = address & PAGE_MASK
    start = address - offset_in_page
    zero_start, zero_end = address + phdr.p_filesz, address + phdr.p_memsz
    if phdr.p_filesz:
        length = page_align(phdr.p_filesz + offset_in_page)
        pgoff = (phdr.p_offset - offset_in_page) >> PAGE_SHIFT
        do_mmap(mm, start, length, _prot(phdr), MAP_PRIVATE | fixed, elf.file, pgoff)
        if zero_end > zero_start and zero_start & PAGE_MASK:
            _pad_zero(mm, phdr, zero_start)
        zero_start = page_align(zero_start)
    else:
        zero_start = start
    zero_end = page_align(zero_end)
    if zero_end > zero_start:
        _vm_brk_flags(mm, zero_start, zero_end, executable=bool(phdr.p_flags & PF_X) or mm.read_implies_exec)


def _vm_brk_flags(mm: MmStruct, start: int, end: int, *, executable: bool) -> None:
    """Map zeroes at [*start*, *end*), in place of what is there: same name."""
    get_unmapped_area(mm, start, end - start, MAP_FIXED)
    vm_munmap(mm, start, end - start)
    do_brk_flags(mm, start, end, VM_DATA_DEFAULT_FLAGS | VM_ACCOUNT | (VM_EXEC if executable else 0))


def _pad_zero(mm: MmStruct, phdr: Phdr, start: int) -> None:
    """Clear the rest of the page in which the file's part ends (padzero)."""
    try:
        clear_user(mm, VirtAddr(start), PAGE_SIZE - (start & PAGE_MASK))
    except LinuxError:
        # A read-only segment keeps what the file has there; Linux accepts that too.
        if phdr.p_flags & PF_W:
            raise


def _note_layout(mm: MmStruct, elf: ElfFile, bias: int) -> None:
    loads = elf.loads
    code = [p for p in loads if p.p_flags & PF_X]
    mm.start_code = VirtAddr(bias + min(p.p_vaddr for p in code or loads))
    mm.end_code = VirtAddr(bias + max((p.p_vaddr + p.p_filesz for p in code), default=0))
    mm.start_data = VirtAddr(bias + max(p.p_vaddr for p in loads))
    mm.end_data = VirtAddr(bias + max(p.p_vaddr + p.p_filesz for p in loads))
    mm.start_brk = mm.brk = VirtAddr(page_align(bias + max(p.p_vaddr + p.p_memsz for p in loads)))


def _place_brk(mm: MmStruct, elf: ElfFile, interpreter: ElfFile | None, random: Prng | None) -> None:
    """Where the heap starts: behind the program, or in the place of one for a program that took mmap's."""
    if elf.is_dyn and interpreter is None:
        base = _ET_DYN_BASE_64 if mm.layout.is_64bit else _dyn_base_32(mm)
        mm.start_brk = mm.brk = VirtAddr(base + PAGE_SIZE)
    if random is not None:
        pages = random.next64() % (_BRK_RANDOM[elf.abi] >> PAGE_SHIFT)
        mm.start_brk = mm.brk = VirtAddr(mm.brk + (pages << PAGE_SHIFT))


def _phdr_address(elf: ElfFile, bias: int) -> int:
    at = elf.header.e_phoff
    for phdr in elf.loads:
        if phdr.p_offset <= at < phdr.p_offset + phdr.p_filesz:
            return at - phdr.p_offset + phdr.p_vaddr + bias
    return 0


def map_vdso(mm: MmStruct, pfn: Pfn) -> int:
    """Show the vDSO's frame; where."""
    return install_special_mapping(mm, 0, [pfn], PROT_READ | PROT_EXEC, "[vdso]")


def create_tables(
    mm: MmStruct,
    elf: ElfFile,
    loaded: Loaded,
    strings: ArgStrings,
    vdso: int,
    vsyscall: int,
    cred: Cred,
    random: Prng,
    *,
    secure: bool,
) -> int:
    """Put argc, argv, envp and the auxiliary vector on the stack; the stack pointer (create_elf_tables)."""
    abi = elf.abi
    sp = strings.sp & ~15
    platform = sp - len(abi.platform) - 1
    random_bytes = platform - 16
    auxv: list[int] = []
    if abi is I386:
        auxv += (e.AT_SYSINFO, vsyscall)
    auxv += (e.AT_SYSINFO_EHDR, vdso, e.AT_MINSIGSTKSZ, MINSIGSTKSZ, e.AT_HWCAP, FEATURES_EDX)
    auxv += (e.AT_PAGESZ, PAGE_SIZE, e.AT_CLKTCK, CLOCK_TICKS, e.AT_PHDR, loaded.phdrs)
    auxv += (e.AT_PHENT, e.phdr_size(abi), e.AT_PHNUM, elf.header.e_phnum, e.AT_BASE, loaded.interpreter_base)
    auxv += (e.AT_FLAGS, 0, e.AT_ENTRY, loaded.entry, e.AT_UID, cred.uid, e.AT_EUID, cred.euid)
    auxv += (e.AT_GID, cred.gid, e.AT_EGID, cred.egid, e.AT_SECURE, int(secure), e.AT_RANDOM, random_bytes)
    auxv += (e.AT_HWCAP2, 0, e.AT_EXECFN, strings.execfn, e.AT_PLATFORM, platform, e.AT_NULL, 0)
    saved_auxv = abi.pack_words(*auxv)
    pointers = abi.pack_words(len(strings.argv), *strings.argv, 0, *strings.envp, 0)
    bottom = (random_bytes - len(saved_auxv) - len(pointers)) & ~15
    copy_to_stack(mm, random_bytes, random.randbytes(16) + abi.platform + b"\0")
    copy_to_stack(mm, bottom, pointers + saved_auxv)
    mm.saved_auxv = saved_auxv
    mm.start_stack = VirtAddr(bottom)
    first = strings.argv or strings.envp or [strings.execfn]
    mm.arg_start = VirtAddr(first[0])
    mm.env_start = mm.arg_end = VirtAddr(strings.envp[0] if strings.envp else strings.execfn)
    mm.env_end = VirtAddr(strings.execfn)
    return bottom
