"""Keys, ids and permissions, which the three kinds of System V objects share.  Linux: ipc/util.c."""

from collections.abc import Iterator
from itertools import chain
from typing import Final, Generic, Protocol, TypeVar

from msgspec import Struct

from minikernel.abi.capability import CAP_IPC_OWNER, CAP_SYS_ADMIN
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ipc import IPC_CREAT, IPC_EXCL, IPC_PRIVATE, Ipc64Perm
from minikernel.fs.cred import Cred

S_IRUGO: Final = 0o444
S_IWUGO: Final = 0o222
S_IXUGO: Final = 0o111
S_IRWXUGO: Final = 0o777

IPCMNI_SHIFT: Final = 15  # bits of an id that are the index; what is above is the sequence number
IPCMNI: Final = 1 << IPCMNI_SHIFT
_SEQ_MAX: Final = (1 << 31 - IPCMNI_SHIFT) - 1  # ipcid_seq_max(): ids stay positive
_MIN_CYCLE: Final = 64  # ipc_min_cycle: indices that are gone through before the first one is used again
_INVALID_ID: Final = 0xFFFF_FFFF  # no user and no group


class IpcPerm(Struct, kw_only=True):
    """Who owns an object and who may do what: struct kern_ipc_perm."""

    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int
    id: int = -1
    seq: int = 0

    def to_abi(self) -> Ipc64Perm:
        """As *_STAT shows it (kernel_to_ipc64_perm)."""
        return Ipc64Perm(self.key, self.uid, self.gid, self.cuid, self.cgid, self.mode, self.seq)


class IpcObject(Protocol):
    """A segment, a set of semaphores, a queue."""

    @property
    def perm(self) -> IpcPerm:
        """Its owner, key and id."""
        ...


T = TypeVar("T", bound=IpcObject)


def new_perm(key: int, mode: int, cred: Cred) -> IpcPerm:
    """The permissions of an object that *cred* makes (ipc_addid)."""
    return IpcPerm(
        key=key, uid=cred.euid, gid=cred.egid, cuid=cred.euid, cgid=cred.egid, mode=mode & S_IRWXUGO
    )  # fmt: skip


def ipcperms(perm: IpcPerm, flag: int, cred: Cred) -> None:
    """Check that *cred* may do what the mode bits in *flag* say, wherever among them they stand: same name.

    Errors:
        EACCES.
    """
    requested = flag >> 6 | flag >> 3 | flag
    granted = perm.mode
    if cred.euid in {perm.cuid, perm.uid}:
        granted >>= 6
    elif _in_group(cred, perm.cgid) or _in_group(cred, perm.gid):
        granted >>= 3
    if requested & ~granted & 7 and not cred.capable(CAP_IPC_OWNER):
        raise LinuxError(Errno.EACCES, f"ipc: mode {perm.mode:o} does not give {flag:o}")


def _in_group(cred: Cred, gid: int) -> bool:
    """in_group_p()."""
    return cred.in_group(gid)


def check_owner(perm: IpcPerm, cred: Cred) -> None:
    """Check that *cred* may change or remove the object: ipcctl_obtain_check.

    Errors:
        EPERM: neither owner, creator, nor CAP_SYS_ADMIN.
    """
    if cred.euid not in {perm.cuid, perm.uid} and not cred.capable(CAP_SYS_ADMIN):
        raise LinuxError(Errno.EPERM, "ipc: another's object")


def ipc_update_perm(perm: IpcPerm, uid: int, gid: int, mode: int) -> None:
    """IPC_SET: same name.

    Errors:
        EINVAL: an id that stands for nobody.
    """
    if _INVALID_ID in {uid, gid}:
        raise LinuxError(Errno.EINVAL, "ipc: -1 owns nothing")
    perm.uid, perm.gid = uid, gid
    perm.mode = perm.mode & ~S_IRWXUGO | mode & S_IRWXUGO


class IpcIds(Generic[T]):
    """The objects of one kind: struct ipc_ids.

    An id is an index and a sequence number, so that the id of an object that is gone does not soon name another one.

    Invariants, checked by validate():
        - an object stands at the index of its id;
        - ``keys`` holds exactly the objects whose key is not IPC_PRIVATE.
    """

    __slots__ = ("_cursor", "_last_idx", "keys", "next_id", "objects", "seq")

    def __init__(self) -> None:
        self.objects: dict[int, T] = {}  # by index
        self.keys: dict[int, T] = {}
        self.seq = 0
        self.next_id = -1  # /proc/sys/kernel/*_next_id: the id that the next object shall have, if it is free
        self._last_idx = -1
        self._cursor = 0  # where the search for a free index goes on (idr_next)

    def __len__(self) -> int:
        return len(self.objects)

    def __iter__(self) -> Iterator[T]:
        """By index."""
        return iter([self.objects[index] for index in sorted(self.objects)])

    @property
    def max_index(self) -> int:
        """The largest index in use, -1 if there is none (ipc_get_maxidx)."""
        highest: int = max(self.objects, default=-1)
        return highest

    def add(self, made: T, limit: int) -> None:
        """Give *made* an id and make its key known: ipc_addid, ipc_idr_alloc.

        Errors:
            ENOSPC: there are *limit* objects.
        """
        if len(self) >= min(limit, IPCMNI):
            raise LinuxError(Errno.ENOSPC, "ipc: as many objects as there may be")
        perm = made.perm
        wanted, self.next_id = self.next_id, -1
        if wanted < 0:
            index = self._free_index()
            if index <= self._last_idx:
                self.seq = self.seq + 1 if self.seq + 1 < _SEQ_MAX else 0
            self._last_idx = index
            perm.seq = self.seq
        else:
            index = next((at for at in range(wanted % IPCMNI, IPCMNI) if at not in self.objects), -1)
            if index < 0:
                raise LinuxError(Errno.ENOSPC, f"ipc: no index from {wanted % IPCMNI} on is free")
            perm.seq = wanted >> IPCMNI_SHIFT
        perm.id = (perm.seq << IPCMNI_SHIFT) + index
        self.objects[index] = made
        if perm.key != IPC_PRIVATE:
            self.keys[perm.key] = made

    def _free_index(self) -> int:
        """The next free index, going round (idr_alloc_cyclic)."""
        end = min(max(len(self) * 3 // 2, _MIN_CYCLE), IPCMNI)
        start = self._cursor
        for index in chain(range(start, end), range(min(start, end))):
            if index not in self.objects:
                self._cursor = index + 1
                return index
        raise AssertionError("IpcIds: fewer objects than indices, and no index is free")

    def remove(self, gone: T) -> None:
        """Forget *gone*: ipc_rmid."""
        self.set_key_private(gone)
        del self.objects[gone.perm.id % IPCMNI]

    def set_key_private(self, kept: T) -> None:
        """Nobody finds *kept* by its key any more: ipc_set_key_private."""
        if kept.perm.key != IPC_PRIVATE:
            del self.keys[kept.perm.key]
            kept.perm.key = IPC_PRIVATE

    def obtain(self, wanted: int) -> T:
        """The object at the index of id *wanted*: ipc_obtain_object_idr.

        Errors:
            EINVAL: there is none.
        """
        found = self.objects.get(wanted % IPCMNI)
        if found is None:
            raise LinuxError(Errno.EINVAL, f"ipc: no object {wanted}")
        return found

    def obtain_check(self, wanted: int) -> T:
        """The object with id *wanted*: ipc_obtain_object_check.

        Errors:
            EINVAL: there is none, or another one has its index by now.
        """
        found = self.obtain(wanted)
        if found.perm.seq != wanted >> IPCMNI_SHIFT:
            raise LinuxError(Errno.EINVAL, f"ipc: object {wanted} is gone")
        return found

    def find(self, key: int, flags: int) -> T | None:
        """What *_get finds: the object with *key*; None: one is to be made (ipcget).

        Errors:
            ENOENT: there is none, and IPC_CREAT is not asked.  EEXIST: there is one, and IPC_EXCL is.
        """
        found = None if key == IPC_PRIVATE else self.keys.get(key)
        if found is None:
            if key != IPC_PRIVATE and not flags & IPC_CREAT:
                raise LinuxError(Errno.ENOENT, f"ipc: nothing has key {key:#x}")
            return None
        if flags & IPC_CREAT and flags & IPC_EXCL:
            raise LinuxError(Errno.EEXIST, f"ipc: key {key:#x} is taken")
        return found

    def validate(self) -> None:
        """Assert the invariants above."""
        for index, held in self.objects.items():
            perm = held.perm
            assert perm.id == (perm.seq << IPCMNI_SHIFT) + index, f"IpcIds: id {perm.id} stands at index {index}"
        named = {held.perm.key: held for held in self.objects.values() if held.perm.key != IPC_PRIVATE}
        assert named == self.keys, "IpcIds: keys and objects differ"
