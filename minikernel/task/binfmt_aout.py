"""a.out programs of i386, from before ELF.  Linux: fs/binfmt_aout.c, arch/x86/ia32/ia32_aout.c (up to Linux 5.18).

There is no vDSO and no auxiliary vector, and everything readable is executable: these programs are older than NX.
"""

from emu.x86 import PAGE_MASK, PAGE_SHIFT, VirtAddr, page_align
from minikernel.abi.abi import I386
from minikernel.abi.aout import EXEC_SIZE, MAGICS, OMAGIC, Exec
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MAP_FIXED, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE
from minikernel.abi.resource import RLIMIT_DATA, RLIMIT_STACK
from minikernel.mm.brk import do_brk_flags
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import do_mmap
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.uaccess import copy_to_user
from minikernel.mm.unmapped_area import get_unmapped_area
from minikernel.mm.vma import VM_ACCOUNT, VM_DATA_DEFAULT_FLAGS, VM_EXEC
from minikernel.task.binprm import ArgStrings, BinPrm, check_arguments, copy_to_stack, setup_stack
from minikernel.task.exec_mm import Image, new_mm, randomize, stack_top
from minikernel.task.task import Task


def load_aout(task: Task, bprm: BinPrm) -> Image:
    """Build the address space of an a.out program.

    Errors:
        ENOEXEC: no a.out file, or one with relocations or cut short; ENOMEM: RLIMIT_DATA;
        EPERM: it wants page 0, which mmap_min_addr keeps free.
    """
    header = _read_header(bprm)
    if header.a_data + header.a_bss > task.rlimits[RLIMIT_DATA][0]:
        raise LinuxError(Errno.ENOMEM, "a.out: RLIMIT_DATA")
    check_arguments(bprm, task.rlimits[RLIMIT_STACK][0], I386.word)
    mm = new_mm(task, bprm, I386, read_implies_exec=True)
    try:
        random = task.kernel.random if randomize(task, bprm) else None
        strings = setup_stack(mm, bprm, I386, stack_top(mm, random), executable=True)
        mm.set_exe_file(bprm.file)
        _note_layout(mm, header)
        _map_image(mm, bprm, header)
        _map_zeroes(mm, mm.start_brk, mm.brk)
        sp = _create_tables(mm, strings)
    except BaseException:
        mm.destroy()
        raise
    return Image(I386, mm, sp, header.a_entry)


def _read_header(bprm: BinPrm) -> Exec:
    if len(bprm.head) < EXEC_SIZE:
        raise LinuxError(Errno.ENOEXEC, "not an a.out file")
    header = Exec(bprm.head)
    if header.magic not in MAGICS or header.a_trsize or header.a_drsize:
        raise LinuxError(Errno.ENOEXEC, "not an a.out program")
    if bprm.file.inode.size < header.a_text + header.a_data + header.a_syms + header.text_offset:
        raise LinuxError(Errno.ENOEXEC, "a.out: cut short")
    return header


def _note_layout(mm: MmStruct, header: Exec) -> None:
    mm.start_code = VirtAddr(header.text_address)
    mm.end_code = VirtAddr(header.text_address + header.a_text)
    mm.start_data = VirtAddr(header.data_address)
    mm.end_data = mm.start_brk = VirtAddr(header.bss_address)
    mm.brk = VirtAddr(header.bss_address + header.a_bss)


def _map_image(mm: MmStruct, bprm: BinPrm, header: Exec) -> None:
    """Map text and data, or copy them where the file is not laid out in pages."""
    offset, text = header.text_offset, header.text_address
    if header.magic == OMAGIC or offset & PAGE_MASK:
        _map_zeroes(mm, text, text + header.a_text + header.a_data)
        size = header.a_text + header.a_data
        data = bprm.file.pread(size, offset)
        if len(data) != size:
            raise LinuxError(Errno.ENOEXEC, "a.out: cut short")
        copy_to_user(mm, VirtAddr(text), data)
        return
    for start, size, at, prot in (
        (text, header.a_text, offset, PROT_READ | PROT_EXEC),
        (header.data_address, header.a_data, offset + header.a_text, PROT_READ | PROT_WRITE | PROT_EXEC),
    ):
        if at & PAGE_MASK or start & PAGE_MASK:
            raise LinuxError(Errno.EINVAL, "a.out: a segment is not page-aligned")
        if size:
            do_mmap(mm, start, size, prot, MAP_FIXED | MAP_PRIVATE, bprm.file, at >> PAGE_SHIFT)


def _map_zeroes(mm: MmStruct, start: int, end: int) -> None:
    """Anonymous pages from the page of *start*, if that is its first byte, to that of *end* (vm_brk, set_brk)."""
    start, end = page_align(start), page_align(end)
    if end <= start:
        return
    if end > mm.layout.task_size:
        raise LinuxError(Errno.ENOMEM, "a.out: beyond user space")
    get_unmapped_area(mm, start, end - start, MAP_FIXED)  # also asks whether page 0 may be had
    vm_munmap(mm, start, end - start)
    do_brk_flags(mm, start, end, VM_DATA_DEFAULT_FLAGS | VM_ACCOUNT | VM_EXEC)


def _create_tables(mm: MmStruct, strings: ArgStrings) -> int:
    """argc, argv, envp, and the two vectors below the strings; the stack pointer (create_aout_tables)."""
    argv, envp = strings.argv, strings.envp
    envp_at = (strings.sp & -I386.word) - (len(envp) + 1) * I386.word
    argv_at = envp_at - (len(argv) + 1) * I386.word
    sp = argv_at - 3 * I386.word
    copy_to_stack(mm, sp, I386.pack_words(len(argv), argv_at, envp_at, *argv, 0, *envp, 0))
    mm.start_stack = VirtAddr(sp)
    first = argv or envp or [strings.execfn]
    mm.arg_start = VirtAddr(first[0])
    mm.env_start = mm.arg_end = VirtAddr(envp[0] if envp else strings.execfn)
    mm.env_end = VirtAddr(strings.execfn)
    return sp
