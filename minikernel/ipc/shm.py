"""System V shared memory: segments, and their mappings.  Linux: ipc/shm.c.

A segment is a page cache without a backing store, as a file of tmpfs is; an attach is a shared mapping of it.  The
address space tells of each mapping that comes and goes (``CountedFile``), so that nattch is right after fork,
munmap of a part, exec and exit without a line of this room in them.
"""

from typing import Final, Protocol

from emu.x86 import PAGE_MASK, PAGE_SHIFT
from minikernel.abi.abi import Abi
from minikernel.abi.capability import CAP_IPC_LOCK
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.resource import RLIM_INFINITY
from minikernel.abi.shm import (
    SHM_DEST,
    SHM_HUGE_MASK,
    SHM_HUGE_SHIFT,
    SHM_HUGETLB,
    SHM_LOCKED,
    SHM_NORESERVE,
    SHMMIN,
    SHMMNI,
    Shmid64Ds,
    ShmLimits,
    ShmUse,
)
from minikernel.abi.time import NSEC_PER_SEC
from minikernel.fs.cred import Cred
from minikernel.fs.services import KernelServices
from minikernel.ipc.util import (
    S_IRUGO,
    IpcIds,
    IpcPerm,
    check_owner,
    ipc_update_perm,
    ipcperms,
    new_perm,
)
from minikernel.mm.filemap import PageCache
from minikernel.mm.mapped_file import CountedFile
from minikernel.mm.overcommit import OVERCOMMIT_NEVER

_HUGE_PAGE_LOGS: Final = (0, 21, 30)  # the default, 2 MiB, 1 GiB
_UNLIMITED_ROOM: Final = 1 << 24  # SHMMAX and SHMALL: the largest unsigned long less this


class ShmServices(KernelServices, Protocol):
    """What segments need of the kernel beside what files do."""

    def acting_tgid(self) -> int:
        """The process that is doing something: task_tgid(current)."""
        ...


class Segment:
    """A segment: struct shmid_kernel.  Times in seconds, *size* in bytes as it was asked for.

    *refs* are the id and the attaches; with the last of them the pages go.
    """

    __slots__ = (
        "atime", "cpid", "creator", "ctime", "dtime", "lpid", "mapping", "mlock_uid", "name", "nattch", "perm", "refs",
        "shm", "size",
    )  # fmt: skip

    def __init__(self, shm: "Shm", perm: IpcPerm, size: int, creator: object) -> None:
        self.shm = shm
        self.perm = perm
        self.size = size
        self.name = b"SYSV%08x" % (perm.key & 0xFFFF_FFFF)
        self.mapping = PageCache(shm.services.node, size=size)
        self.creator: object | None = creator  # the task; None: it has ended
        self.cpid = shm.services.acting_tgid()
        self.lpid = 0
        self.atime = self.dtime = 0
        self.ctime = shm.now()
        self.nattch = 0
        self.mlock_uid: int | None = None  # whose RLIMIT_MEMLOCK its lock counts against
        self.refs = 1

    @property
    def nr_pages(self) -> int:
        """Its size in pages."""
        return (self.size + PAGE_MASK) >> PAGE_SHIFT

    def put(self) -> None:
        """One reference less (fput of shm_file)."""
        self.refs -= 1
        if not self.refs:
            self.mapping.destroy()

    def used(self) -> None:
        """The process that acts now is the last one that attached or detached it."""
        self.lpid = self.shm.services.acting_tgid()

    def may_destroy(self) -> bool:
        """Nobody maps it, and nobody may: shm_may_destroy()."""
        return not self.nattch and (self.shm.rmid_forced or bool(self.perm.mode & SHM_DEST))

    def status(self) -> Shmid64Ds:
        """As IPC_STAT shows it."""
        return Shmid64Ds(
            self.perm.to_abi(), self.size, self.atime, self.dtime, self.ctime, self.cpid, self.lpid, self.nattch
        )  # fmt: skip


class ShmFile(CountedFile):
    """What one shmat maps: struct shm_file_data.  The inode number is the segment's id; programs rely on that."""

    __slots__ = ("segment",)

    def __init__(self, segment: Segment, *, writable: bool) -> None:
        path = b"/" + segment.name + b" (deleted)"
        super().__init__(segment.mapping, path=path, ino=segment.perm.id)
        self.segment = segment
        self.writable = writable
        segment.refs += 1

    def put_file(self) -> None:
        """One user less."""
        self.users -= 1
        if not self.users:
            self.segment.put()

    def vm_open(self) -> None:
        """One mapping more: shm_open()."""
        segment = self.segment
        segment.atime = segment.shm.now()
        segment.used()
        segment.nattch += 1

    def vm_close(self) -> None:
        """One mapping less; the last one may take the segment with it: shm_close()."""
        segment = self.segment
        segment.used()
        segment.dtime = segment.shm.now()
        segment.shm.detach(segment)


class Shm:
    """The segments of one machine: the shm part of struct ipc_namespace.

    Invariants, checked by validate.validate_shm():
        - shm_tot is the sum of the segments' pages;
        - nattch of a segment is the number of mappings of it.
    """

    __slots__ = ("ctlall", "ctlmax", "ctlmni", "ids", "locked_shm", "rmid_forced", "services", "tot")

    def __init__(self, services: ShmServices, native: Abi) -> None:
        """*native*: the ABI of the kernel, whose unsigned long limits sizes."""
        self.services = services
        self.ids: IpcIds[Segment] = IpcIds()
        self.ctlmax = self.ctlall = native.mask - _UNLIMITED_ROOM
        self.ctlmni = SHMMNI
        self.rmid_forced = False
        self.tot = 0  # pages
        self.locked_shm: dict[int, int] = {}  # pages that are locked, by user (UCOUNT_RLIMIT_MEMLOCK)

    def now(self) -> int:
        """CLOCK_REALTIME in seconds."""
        return self.services.clock.realtime_ns() // NSEC_PER_SEC

    # ---- shmget

    def get(self, key: int, size: int, flags: int, cred: Cred, creator: object) -> int:
        """The id of the segment with *key*, made if need be: shmget(2).

        Errors:
            EINVAL: a size that is too small, too large, or larger than the segment's.
            ENOENT, EEXIST: by key.  EACCES: the mode.  ENOSPC: limits.  ENOMEM: commit limit, or huge pages.
        """
        found = self.ids.find(key, flags)
        if found is None:
            return self._new_segment(key, size, flags, cred, creator).perm.id
        if found.size < size:
            raise LinuxError(Errno.EINVAL, "shmget: the segment is smaller")
        ipcperms(found.perm, flags, cred)
        return found.perm.id

    def _new_segment(self, key: int, size: int, flags: int, cred: Cred, creator: object) -> Segment:
        """newseg()."""
        if not SHMMIN <= size <= self.ctlmax:
            raise LinuxError(Errno.EINVAL, "shmget: size")
        pages = (size + PAGE_MASK) >> PAGE_SHIFT
        if self.tot + pages > self.ctlall:
            raise LinuxError(Errno.ENOSPC, "shmget: shmall")
        if flags & SHM_HUGETLB:
            if flags >> SHM_HUGE_SHIFT & SHM_HUGE_MASK not in _HUGE_PAGE_LOGS:
                raise LinuxError(Errno.EINVAL, "shmget: no huge pages of that size")
            raise LinuxError(Errno.ENOMEM, "shmget: no huge pages")
        segment = Segment(self, new_perm(key, flags, cred), size, creator)
        noreserve = bool(flags & SHM_NORESERVE) and self.services.node.vm_sysctl.overcommit_memory != OVERCOMMIT_NEVER
        segment.mapping.acct_size(noreserve=noreserve)
        try:
            self.ids.add(segment, self.ctlmni)
        except LinuxError:
            segment.put()
            raise
        self.tot += pages
        return segment

    # ---- the end of a segment

    def detach(self, segment: Segment) -> None:
        """One attach less, and the end of the segment if that was what it waited for."""
        segment.nattch -= 1
        if segment.may_destroy():
            self.destroy(segment)

    def destroy(self, segment: Segment) -> None:
        """Nobody can attach it any more: shm_destroy()."""
        self.tot -= segment.nr_pages
        self.ids.remove(segment)
        self._unlock(segment)
        segment.put()

    def remove(self, shmid: int, cred: Cred) -> None:
        """IPC_RMID: at once if nobody maps it; until then it is without a key (do_shm_rmid).

        Errors:
            EINVAL, EPERM.
        """
        segment = self._owned(shmid, cred)
        if segment.nattch:
            segment.perm.mode |= SHM_DEST
            self.ids.set_key_private(segment)
        else:
            self.destroy(segment)

    def exit_task(self, creator: object) -> None:
        """A task ends: what it made is an orphan, and goes if kernel.shm_rmid_forced says so (exit_shm)."""
        for segment in self.ids:
            if segment.creator is creator:
                segment.creator = None
                if segment.may_destroy():
                    self.destroy(segment)

    def destroy_orphaned(self) -> None:
        """kernel.shm_rmid_forced has been set: orphans that nobody maps go (shm_destroy_orphaned)."""
        for segment in self.ids:
            if segment.creator is None and segment.may_destroy():
                self.destroy(segment)

    # ---- shmctl

    def _owned(self, shmid: int, cred: Cred) -> Segment:
        segment = self.ids.obtain_check(shmid)
        check_owner(segment.perm, cred)
        return segment

    def set_perm(self, shmid: int, owner: tuple[int, int, int], cred: Cred) -> None:
        """IPC_SET: *owner* is user, group, mode.

        Errors:
            EINVAL, EPERM.
        """
        segment = self._owned(shmid, cred)
        ipc_update_perm(segment.perm, *owner)
        segment.ctime = self.now()

    def stat(self, shmid: int, cred: Cred, *, by_index: bool = False, anybody: bool = False) -> Segment:
        """The segment that IPC_STAT, SHM_STAT (*by_index*) or SHM_STAT_ANY (*anybody* too) tells of.

        Errors:
            EINVAL, EACCES.
        """
        segment = self.ids.obtain(shmid) if by_index else self.ids.obtain_check(shmid)
        if not anybody:
            ipcperms(segment.perm, S_IRUGO, cred)
        return segment

    def limits(self) -> ShmLimits:
        """IPC_INFO."""
        return ShmLimits(self.ctlmax, SHMMIN, self.ctlmni, self.ctlmni, self.ctlall)

    def use(self) -> ShmUse:
        """SHM_INFO."""
        mappings = [segment.mapping for segment in self.ids]
        resident, swapped = sum(cache.nr_pages for cache in mappings), sum(len(cache.swapped) for cache in mappings)
        return ShmUse(len(self.ids), self.tot, resident, swapped)

    def lock(self, shmid: int, cred: Cred, limit: int) -> None:
        """SHM_LOCK: its pages are not to be swapped; *limit*: RLIMIT_MEMLOCK in bytes (shmctl_do_lock, shmem_lock).

        Errors:
            EINVAL.  EPERM: another's, or no limit at all.  ENOMEM: the limit.
        """
        segment = self.ids.obtain_check(shmid)
        self._check_locker(segment, cred)
        if not limit and not cred.capable(CAP_IPC_LOCK):
            raise LinuxError(Errno.EPERM, "shmctl: RLIMIT_MEMLOCK is 0")
        if segment.perm.mode & SHM_LOCKED:
            return
        locked = self.locked_shm.get(cred.uid, 0) + segment.nr_pages
        if limit != RLIM_INFINITY and locked > limit >> PAGE_SHIFT and not cred.capable(CAP_IPC_LOCK):
            raise LinuxError(Errno.ENOMEM, "shmctl: RLIMIT_MEMLOCK")
        self.locked_shm[cred.uid] = locked
        segment.mlock_uid = cred.uid
        segment.perm.mode |= SHM_LOCKED
        segment.mapping.unevictable = True

    def unlock(self, shmid: int, cred: Cred) -> None:
        """SHM_UNLOCK.

        Errors:
            EINVAL, EPERM.
        """
        segment = self.ids.obtain_check(shmid)
        self._check_locker(segment, cred)
        self._unlock(segment)

    @staticmethod
    def _check_locker(segment: Segment, cred: Cred) -> None:
        if cred.euid not in {segment.perm.uid, segment.perm.cuid} and not cred.capable(CAP_IPC_LOCK):
            raise LinuxError(Errno.EPERM, "shmctl: another's segment")

    def _unlock(self, segment: Segment) -> None:
        if segment.mlock_uid is None:
            return
        left = self.locked_shm.pop(segment.mlock_uid) - segment.nr_pages
        if left:
            self.locked_shm[segment.mlock_uid] = left
        segment.mlock_uid = None
        segment.perm.mode &= ~SHM_LOCKED
        segment.mapping.unevictable = False
        segment.mapping.node.lru.munlock(segment.mapping.pages.values())
