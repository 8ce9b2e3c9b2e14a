"""A program about to replace another: struct linux_binprm, and its argument strings on the new stack.

Linux: fs/exec.c (copy_strings, setup_arg_pages), include/linux/binfmts.h.
"""

from typing import Final

from msgspec import Struct

from emu.x86 import PAGE_SHIFT, PAGE_SIZE, VirtAddr, page_align
from minikernel.abi.abi import Abi
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import RLIMIT_STACK
from minikernel.fs.cred import Cred
from minikernel.fs.file import OpenFile
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import insert_vma
from minikernel.mm.uaccess import copy_to_user
from minikernel.mm.vma import VM_ACCOUNT, VM_DATA_DEFAULT_FLAGS, VM_EXEC, VM_GROWSDOWN, Vma

MAX_ARG_STRLEN: Final = 32 * PAGE_SIZE
BINPRM_BUF_SIZE: Final = 256
_STK_LIM: Final = 8 << 20
_ARG_MIN: Final = 32 * PAGE_SIZE  # ARG_MAX: always allowed
_STACK_EXPAND: Final = 128 << 10  # mapped below the strings from the start


class BinPrm(Struct):
    """What execve was asked for.  Scripts change *path*, *file* and *argv*; *filename* is what the caller said."""

    filename: bytes  # AT_EXECFN; its last part names the task
    path: bytes  # of *file*
    file: OpenFile
    head: bytes  # the first BINPRM_BUF_SIZE bytes
    argv: list[bytes]
    envp: list[bytes]
    cred: Cred  # what the new program will be
    secure: bool = False  # AT_SECURE: it is more than its caller
    per_clear: int = 0  # personality bits it does not inherit
    path_inaccessible: bool = False  # *path* leads through a descriptor that the new program does not have


class ArgStrings(Struct):
    """Where the strings are; *sp* is below them."""

    sp: int
    argv: list[int]
    envp: list[int]
    execfn: int


def check_arguments(bprm: BinPrm, stack_limit: int, word: int) -> None:
    """Refuse what would not leave room on the stack (bprm_stack_limits).  Errors: E2BIG."""
    strings = [*bprm.argv, *bprm.envp]
    if any(len(text) >= MAX_ARG_STRLEN for text in strings):
        raise LinuxError(Errno.E2BIG, "an argument of 128 KiB or more")
    limit = max(min(_STK_LIM // 4 * 3, stack_limit // 4), _ARG_MIN)
    pointers = (len(strings) + 1) * word
    if pointers >= limit or sum(len(text) + 1 for text in strings) > limit - pointers:
        raise LinuxError(Errno.E2BIG, "the arguments and the environment are too long")


def setup_stack(mm: MmStruct, bprm: BinPrm, abi: Abi, top: int, *, executable: bool) -> ArgStrings:
    """Map the stack below *top* and copy the strings to its upper end.

    Errors:
        ENOMEM: no frame for it.
    """
    size = sum(len(text) + 1 for text in (*bprm.argv, *bprm.envp, bprm.filename)) + abi.word
    limit = mm.rlimits[RLIMIT_STACK][0]
    length = page_align(size)
    length += _STACK_EXPAND if length + _STACK_EXPAND <= limit else max(limit // PAGE_SIZE * PAGE_SIZE - length, 0)
    flags = VM_DATA_DEFAULT_FLAGS | VM_GROWSDOWN | VM_ACCOUNT | (VM_EXEC if executable else 0)
    start = top - length
    mm.charge(length >> PAGE_SHIFT)
    insert_vma(mm, Vma(start=VirtAddr(start), end=VirtAddr(top), flags=flags, pgoff=start >> PAGE_SHIFT))
    sp = top - abi.word
    sp -= len(bprm.filename) + 1
    blob = bprm.filename + b"\0"
    execfn = sp
    envp, argv = [0] * len(bprm.envp), [0] * len(bprm.argv)
    for texts, where in ((bprm.envp, envp), (bprm.argv, argv)):
        for index in range(len(texts) - 1, -1, -1):
            sp -= len(texts[index]) + 1
            where[index] = sp
    blob = b"".join(text + b"\0" for text in (*bprm.argv, *bprm.envp)) + blob
    copy_to_stack(mm, sp, blob)
    return ArgStrings(sp, argv, envp, execfn)


def copy_to_stack(mm: MmStruct, address: int, data: bytes) -> None:
    """Fill the new program's stack, which is mapped and writable: only frames can be missing.

    Errors:
        ENOMEM: no frame for it.  (Linux kills the caller or says E2BIG or EFAULT, by where it happens.)
    """
    try:
        copy_to_user(mm, VirtAddr(address), data)
    except LinuxError:
        raise LinuxError(Errno.ENOMEM, "no memory for the new program's stack") from None
