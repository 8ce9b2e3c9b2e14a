"""Attaching and detaching System V segments.  Linux: ipc/shm.c, do_shmat, ksys_shmdt."""

from emu.x86 import PAGE_MASK, PAGE_SIZE, VirtAddr, page_align
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MAP_FIXED, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE
from minikernel.abi.shm import SHM_EXEC, SHM_RDONLY, SHM_REMAP, SHM_RND, SHMLBA
from minikernel.fs.cred import Cred
from minikernel.ipc.shm import Shm, ShmFile
from minikernel.ipc.util import S_IRUGO, S_IWUGO, S_IXUGO, ipcperms
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import do_mmap
from minikernel.mm.munmap import do_munmap
from minikernel.mm.vma import Vma


def do_shmat(shm: Shm, mm: MmStruct, cred: Cred, shmid: int, address: int, flags: int) -> VirtAddr:
    """Map segment *shmid* at *address*, or where there is room (0); where: same name.

    Errors:
        EINVAL: no such segment, an unaligned address without SHM_RND, SHM_REMAP without an address, or something is
            there and SHM_REMAP is not asked.
        EACCES: the mode.  ENOMEM and what else do_mmap says.
    """
    if shmid < 0:
        raise LinuxError(Errno.EINVAL, "shmat: a negative id")
    address, map_flags = _attach_address(address, flags)
    prot, wanted = PROT_READ, S_IRUGO
    if not flags & SHM_RDONLY:
        prot |= PROT_WRITE
        wanted |= S_IWUGO
    if flags & SHM_EXEC:
        prot |= PROT_EXEC
        wanted |= S_IXUGO
    segment = shm.ids.obtain_check(shmid)
    ipcperms(segment.perm, wanted, cred)
    size = segment.size
    if address and not flags & SHM_REMAP:
        if address + size > mm.layout.word_mask:
            raise LinuxError(Errno.EINVAL, "shmat: the address wraps")
        if mm.vmas.overlapping(address, address + size):
            raise LinuxError(Errno.EINVAL, "shmat: something is mapped there")
    file = ShmFile(segment, writable=not flags & SHM_RDONLY)
    # With SHM_REMAP the new mapping may take the place of the only one there was: the segment stays meanwhile.
    segment.nattch += 1
    file.get_file()
    try:
        return do_mmap(mm, address, size, prot, map_flags, file, 0)
    finally:
        file.put_file()
        shm.detach(segment)


def _attach_address(address: int, flags: int) -> tuple[int, int]:
    """Where to attach, and MAP_* flags."""
    if not address:
        if flags & SHM_REMAP:
            raise LinuxError(Errno.EINVAL, "shmat: SHM_REMAP needs an address")
        return 0, MAP_SHARED
    if address & SHMLBA - 1:
        if not flags & SHM_RND:
            raise LinuxError(Errno.EINVAL, "shmat: unaligned")
        address &= -SHMLBA
        if not address and flags & SHM_REMAP:
            raise LinuxError(Errno.EINVAL, "shmat: SHM_REMAP at 0")
    return address, MAP_SHARED | MAP_FIXED


def do_shmdt(mm: MmStruct, address: int) -> None:
    """Unmap what is left of the attach at *address*, parts of it that were split off too: ksys_shmdt.

    Errors:
        EINVAL: unaligned, or nothing was attached there.
    """
    if address & PAGE_MASK:
        raise LinuxError(Errno.EINVAL, "shmdt: unaligned")
    parts = [vma for vma in mm.vmas.items[mm.vmas.first_above(address) :] if _attached_at(vma, address)]
    if not parts:
        raise LinuxError(Errno.EINVAL, "shmdt: nothing is attached there")
    # mremap may have put pages of another segment into this range, at offsets that fit: only the first one's count.
    file = parts[0].file
    assert isinstance(file, ShmFile), "do_shmdt: a part of what?"
    end = address + page_align(file.segment.size)
    for number, vma in enumerate(parts):
        if not number or (vma.file is file and vma.end <= end):
            do_munmap(mm, vma.start, vma.end)
            mm.tell("munmap", vma.start, vma.end, 0, 0)


def _attached_at(vma: Vma, address: int) -> bool:
    """*vma* is a part of a segment that began at *address*."""
    return isinstance(vma.file, ShmFile) and vma.start - address == vma.pgoff * PAGE_SIZE
