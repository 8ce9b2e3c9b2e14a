"""Memory: thin handlers over minikernel/mm.  Linux: mm/mmap.c, mprotect.c, mlock.c, madvise.c, msync.c."""

from struct import iter_unpack, unpack
from typing import Final

from emu.x86 import PAGE_MASK, PAGE_SHIFT
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MAP_ANONYMOUS, MAP_FIXED, MAP_LOCKED, MAP_NONBLOCK, MAP_POPULATE, MAP_SHARED
from minikernel.kernel import Kernel
from minikernel.mm.brk import do_brk
from minikernel.mm.madvise import do_madvise
from minikernel.mm.mlock import do_mlock, do_mlockall, do_munlock, do_munlockall
from minikernel.mm.mmap import do_mmap
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.mremap import do_mremap
from minikernel.mm.msync import do_mincore, do_msync
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.uaccess import copy_from_user
from minikernel.mm.vma import VM_HUGETLB, VM_LOCKED, VM_SHARED
from minikernel.syscalls.args import (
    Fd,
    Hex,
    Int,
    Madvice,
    MapFlags,
    MlockallFlags,
    MlockFlags,
    MremapFlags,
    MsyncFlags,
    Prot,
    Ptr,
    Size,
    UInt,
    ULong,
)
from minikernel.syscalls.entry_types import Entry, full, partial
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.task import Task

_PROT_MASK: Final = 7
_IOV_MAX: Final = 1024
_PIDFD_SELF: Final = (-10000, -10001)  # PIDFD_SELF_THREAD, PIDFD_SELF_THREAD_GROUP


def _mmap_pgoff(task: Task, addr: int, length: int, prot: int, flags: int, fd: int, pgoff: int) -> int:
    """ksys_mmap_pgoff: find the file, then map."""
    file = None if flags & MAP_ANONYMOUS else task.files.get(fd)
    return do_mmap(task.mm, addr, length, prot, flags, file, pgoff)


def sys_mmap(
    _kernel: Kernel, task: Task, addr: Ptr, length: Size, prot: Prot, flags: MapFlags, fd: Fd, offset: ULong
) -> int:
    """mmap(2)."""
    if offset & PAGE_MASK:
        raise LinuxError(Errno.EINVAL, "mmap: unaligned offset")
    return _mmap_pgoff(task, addr, length, prot, flags, fd, offset >> PAGE_SHIFT)


def sys_mmap2(
    _kernel: Kernel, task: Task, addr: Ptr, length: Size, prot: Prot, flags: MapFlags, fd: Fd, pgoff: Hex
) -> int:
    """mmap2(2), i386: the offset is in pages."""
    return _mmap_pgoff(task, addr, length, prot, flags, fd, pgoff)


def sys_old_mmap(_kernel: Kernel, task: Task, arg: Ptr) -> int:
    """mmap(2), i386: the arguments are in memory."""
    addr, length, prot, flags, fd, offset = unpack("<IIIIiI", copy_from_user(task.mm, arg, 24))
    if offset & PAGE_MASK:
        raise LinuxError(Errno.EINVAL, "mmap: unaligned offset")
    return _mmap_pgoff(task, addr, length, prot, flags, fd, offset >> PAGE_SHIFT)


def sys_munmap(_kernel: Kernel, task: Task, addr: Ptr, length: Size) -> int:
    """munmap(2)."""
    vm_munmap(task.mm, addr, length)
    return 0


def sys_mprotect(_kernel: Kernel, task: Task, start: Ptr, length: Size, prot: Prot) -> int:
    """mprotect(2)."""
    do_mprotect(task.mm, start, length, prot)
    return 0


def sys_mremap(
    _kernel: Kernel, task: Task, addr: Ptr, old_len: Size, new_len: Size, flags: MremapFlags, new_addr: Ptr
) -> int:
    """mremap(2)."""
    return do_mremap(task.mm, addr, old_len, new_len, flags, new_addr)


def sys_brk(_kernel: Kernel, task: Task, brk: Ptr) -> int:
    """brk(2): the break, moved or not."""
    return do_brk(task.mm, brk)


def sys_madvise(_kernel: Kernel, task: Task, start: Ptr, length: Size, behavior: Madvice) -> int:
    """madvise(2)."""
    do_madvise(task.mm, start, length, behavior)
    return 0


def sys_process_madvise(
    _kernel: Kernel, task: Task, pidfd: Fd, vec: Ptr, vlen: Size, behavior: Madvice, flags: UInt
) -> int:
    """process_madvise(2) for the caller itself: bytes that were advised."""
    if flags:
        raise LinuxError(Errno.EINVAL, "process_madvise: flags")
    if vlen > _IOV_MAX:
        raise LinuxError(Errno.EINVAL, "process_madvise: too many ranges")
    data = copy_from_user(task.mm, vec, vlen * 2 * call_abi(task).word)
    if pidfd not in _PIDFD_SELF:
        raise LinuxError(Errno.EBADF, "process_madvise: no process descriptor")
    done = 0
    for start, length in iter_unpack("<QQ" if call_abi(task).word == 8 else "<II", data):
        try:
            do_madvise(task.mm, start, length, behavior)
        except LinuxError:
            if not done:
                raise
            return done
        done += length
    return done


def sys_mincore(_kernel: Kernel, task: Task, start: Ptr, length: Size, vec: Ptr) -> int:
    """mincore(2)."""
    do_mincore(task.mm, start, length, vec)
    return 0


def sys_msync(_kernel: Kernel, task: Task, start: Ptr, length: Size, flags: MsyncFlags) -> int:
    """msync(2)."""
    do_msync(task.mm, start, length, flags)
    return 0


def sys_mlock(_kernel: Kernel, task: Task, start: Ptr, length: Size) -> int:
    """mlock(2)."""
    do_mlock(task.mm, start, length)
    return 0


def sys_mlock2(_kernel: Kernel, task: Task, start: Ptr, length: Size, flags: MlockFlags) -> int:
    """mlock2(2)."""
    do_mlock(task.mm, start, length, flags)
    return 0


def sys_munlock(_kernel: Kernel, task: Task, start: Ptr, length: Size) -> int:
    """munlock(2)."""
    do_munlock(task.mm, start, length)
    return 0


def sys_mlockall(_kernel: Kernel, task: Task, flags: MlockallFlags) -> int:
    """mlockall(2)."""
    do_mlockall(task.mm, flags)
    return 0


def sys_munlockall(_kernel: Kernel, task: Task) -> int:
    """munlockall(2)."""
    do_munlockall(task.mm)
    return 0


def sys_remap_file_pages(
    _kernel: Kernel, task: Task, start: Ptr, size: Size, prot: Prot, pgoff: ULong, flags: MapFlags
) -> int:
    """remap_file_pages(2): since Linux 4.0 a mapping of its own for the range (mm/mmap.c)."""
    mm, mask = task.mm, call_abi(task).mask
    start &= ~PAGE_MASK
    size &= ~PAGE_MASK
    if prot or not size or start + size > mask or pgoff + (size >> PAGE_SHIFT) > mask:
        raise LinuxError(Errno.EINVAL, "remap_file_pages: protection or range")
    vma = mm.vmas.find(start)
    if vma is None or not vma.flags & VM_SHARED or vma.file is None or start + size > vma.end:
        raise LinuxError(Errno.EINVAL, "remap_file_pages: not one shared mapping of a file")
    if vma.flags & VM_HUGETLB:
        raise LinuxError(Errno.EINVAL, "remap_file_pages: huge pages stay where they are")
    flags = flags & MAP_NONBLOCK | MAP_SHARED | MAP_FIXED | MAP_POPULATE
    if vma.flags & VM_LOCKED:
        flags |= MAP_LOCKED
    vma.file.get_file()  # the new mapping may take the place of the only one that kept it
    try:
        do_mmap(mm, start, size, vma.flags & _PROT_MASK, flags, vma.file, pgoff)
    finally:
        vma.file.put_file()
    return 0


# ---- protection keys: what Linux answers on a CPU that has none (arch/x86/include/asm/pkeys.h)


def sys_pkey_alloc(_kernel: Kernel, _task: Task, _flags: UInt, _init_val: UInt) -> int:
    """pkey_alloc(2): EINVAL."""
    raise LinuxError(Errno.EINVAL, "the CPU has no protection keys")


def sys_pkey_free(_kernel: Kernel, _task: Task, _pkey: Int) -> int:
    """pkey_free(2): EINVAL."""
    raise LinuxError(Errno.EINVAL, "the CPU has no protection keys")


def sys_pkey_mprotect(_kernel: Kernel, task: Task, start: Ptr, length: Size, prot: Prot, pkey: Int) -> int:
    """pkey_mprotect(2): with key -1, mprotect."""
    if pkey != -1:
        raise LinuxError(Errno.EINVAL, "the CPU has no protection keys")
    do_mprotect(task.mm, start, length, prot)
    return 0


ENTRIES: tuple[Entry, ...] = (
    full("mmap", sys_mmap, abi="x86-64"),
    full("mmap", sys_old_mmap, abi="i386"),
    full("mmap2", sys_mmap2),
    full("munmap", sys_munmap),
    full("mprotect", sys_mprotect),
    full("mremap", sys_mremap),
    full("brk", sys_brk),
    full("madvise", sys_madvise),
    partial("process_madvise", sys_process_madvise, "the caller itself (PIDFD_SELF) only"),
    full("mincore", sys_mincore),
    full("msync", sys_msync),
    full("mlock", sys_mlock),
    full("mlock2", sys_mlock2),
    full("munlock", sys_munlock),
    full("mlockall", sys_mlockall),
    full("munlockall", sys_munlockall),
    partial("remap_file_pages", sys_remap_file_pages, "a range inside one shared file mapping, not of huge pages"),
    full("pkey_alloc", sys_pkey_alloc, "EINVAL, as on a CPU without protection keys"),
    full("pkey_free", sys_pkey_free, "EINVAL, as on a CPU without protection keys"),
    full("pkey_mprotect", sys_pkey_mprotect, "key -1 only, as on a CPU without protection keys"),
)
