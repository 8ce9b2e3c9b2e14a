"""Every page cache of a machine, and what a person would call it: the path of a file, a segment, shared memory."""

from typing import TYPE_CHECKING

from minikernel.fs.dentry import d_path
from minikernel.fs.validate import page_caches
from minikernel.mm.filemap import PageCache
from minikernel.task.task import TaskState

if TYPE_CHECKING:
    from minikernel.fs.dentry import Dentry
    from minikernel.kernel import Kernel


def all_caches(kernel: "Kernel") -> list[PageCache]:
    """Whatever has pages, or could have some: by name, descriptor, mapping, segment, or by its frames alone."""
    tables = [task.files for task in kernel.tasks.values() if task.state is not TaskState.ZOMBIE]
    found = {id(cache): cache for cache in page_caches(kernel.vfs, tables)}
    found.update((id(segment.mapping), segment.mapping) for segment in kernel.shm.ids)
    for mm in kernel.address_spaces():
        found.update((id(vma.mapping), vma.mapping) for vma in mm.vmas.items if vma.mapping is not None)
    found.update((id(owner), owner) for owner in kernel.node.mem_map.owner if isinstance(owner, PageCache))
    return list(found.values())


def file_names(kernel: "Kernel") -> dict[int, str]:
    """By the identity of a page cache: the name that says most about it."""
    names: dict[int, str] = {}
    for mm in kernel.address_spaces():
        for vma in mm.vmas.items:
            if vma.mapping is not None and vma.file is not None:
                names[id(vma.mapping)] = vma.file.path.decode(errors="backslashreplace")
    for task in kernel.tasks.values():
        for file in task.files.fds if task.state is not TaskState.ZOMBIE else ():
            if file is not None and file.inode.mapping is not None:
                names[id(file.inode.mapping)] = file.path.decode(errors="backslashreplace")
    root = kernel.vfs.namespace.root
    for mount in kernel.vfs.namespace.mounts:
        top = d_path(mount.root_path(), root).decode(errors="backslashreplace")
        _name_tree(mount.root, top.rstrip("/"), names)
    for segment in kernel.shm.ids:
        names[id(segment.mapping)] = f"{segment.name.decode()} (segment {segment.perm.id})"
    return names


def _name_tree(root: "Dentry", where: str, names: dict[int, str]) -> None:
    """The files below *root*, which is mounted on *where*."""
    pending = [(root, where)]
    while pending:
        dentry, path = pending.pop()
        for name, child in dentry.children.items():
            full = f"{path}/{name.decode(errors='backslashreplace')}"
            if child.inode.mapping is not None:
                names[id(child.inode.mapping)] = full
            pending.append((child, full))
