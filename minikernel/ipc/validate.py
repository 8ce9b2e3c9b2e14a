"""Invariants of the System V segments, as a function that asserts them."""

from collections import Counter
from collections.abc import Iterable

from minikernel.abi.shm import SHM_DEST, SHM_LOCKED
from minikernel.ipc.shm import Segment, Shm, ShmFile
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.vma import VM_COUNTED


def validate_shm(shm: Shm, mms: Iterable[MmStruct]) -> None:
    """Assert what Shm promises; *mms* are all address spaces of the machine."""
    shm.ids.validate()
    mapped: Counter[int] = Counter()
    files: dict[int, set[int]] = {}
    for mm in mms:
        for vma in mm.vmas:
            attached = isinstance(vma.file, ShmFile)
            assert attached == bool(vma.flags & VM_COUNTED), f"validate_shm: {vma.start:#x} is counted wrongly"
            if isinstance(vma.file, ShmFile):
                mapped[id(vma.file.segment)] += 1
                files.setdefault(id(vma.file.segment), set()).add(id(vma.file))
    for segment in shm.ids:
        _validate_segment(segment, mapped[id(segment)], len(files.get(id(segment), ())))
    total = sum(segment.nr_pages for segment in shm.ids)
    assert shm.tot == total, f"validate_shm: shm_tot is {shm.tot}, the segments have {total}"
    locked: Counter[int] = Counter()
    for segment in shm.ids:
        if segment.mlock_uid is not None:
            locked[segment.mlock_uid] += segment.nr_pages
    assert shm.locked_shm == dict(locked), f"validate_shm: locked_shm is {shm.locked_shm}, {dict(locked)} are locked"


def _validate_segment(segment: Segment, mapped: int, files: int) -> None:
    where = f"validate_shm: segment {segment.perm.id}"
    assert segment.nattch == mapped, f"{where} has nattch {segment.nattch}, {mapped} mappings"
    assert segment.refs == files + 1, f"{where} has {segment.refs} references, {files} attaches and an id"
    assert not segment.perm.mode & SHM_DEST or mapped, f"{where} was to go with its last mapping"
    locked = bool(segment.perm.mode & SHM_LOCKED)
    assert locked == (segment.mlock_uid is not None) == segment.mapping.unevictable, f"{where} is locked for nobody"
    assert segment.mapping.size == segment.size, f"{where} has {segment.mapping.size} bytes of {segment.size}"
