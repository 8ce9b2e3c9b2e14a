"""Invariants of the file room, checked: the tree, link counts, reference counts, and who owns which page cache."""

from collections import Counter
from collections.abc import Iterable, Iterator

from minikernel.fs.dentry import Dentry
from minikernel.fs.fdtable import FdTable
from minikernel.fs.file import OpenFile
from minikernel.fs.inode import Inode, SuperBlock
from minikernel.fs.tmpfs import MemDir, Tmpfs
from minikernel.fs.vfs import Vfs
from minikernel.mm.filemap import PageCache


def super_blocks(vfs: Vfs) -> list[SuperBlock]:
    """Every mounted file system, each once."""
    return list({id(mount.sb): mount.sb for mount in vfs.namespace.mounts}.values())


def known_inodes(sb: SuperBlock) -> Iterator[Inode]:
    """The inodes of *sb* that have been looked up or made, each once."""
    seen = {id(sb.root)}
    pending = [sb.root]
    while pending:
        inode = pending.pop()
        yield inode
        if isinstance(inode, MemDir):
            for child in inode.children.values():
                if id(child) not in seen:
                    seen.add(id(child))
                    pending.append(child)


def page_caches(vfs: Vfs, tables: Iterable[FdTable] = ()) -> list[PageCache]:
    """Every page cache that a name or a descriptor leads to; a frame of any other one is leaked, if nobody maps it."""
    inodes = [inode for sb in super_blocks(vfs) for inode in known_inodes(sb)]
    inodes += vfs.streams.values()
    inodes += [file.inode for table in tables for file in table.fds if file is not None]
    return list({id(inode.mapping): inode.mapping for inode in inodes if inode.mapping is not None}.values())


def validate_fs(vfs: Vfs, tables: Iterable[FdTable] = ()) -> None:
    """Assert the invariants of dentries, link counts and open files."""
    tables = list(tables)
    kept = sum(_validate_dentries(root) for root in {id(m.root): m.root for m in vfs.namespace.mounts}.values())
    held = vfs.services.node.objects.dentry.nr_in_use
    assert held == kept, f"validate_fs: {held} objects for dentries are in use, {kept} names are cached"
    for sb in super_blocks(vfs):
        if isinstance(sb, Tmpfs):
            _validate_links(sb)
    _validate_files(tables)


def _validate_dentries(root: Dentry) -> int:
    """Assert what Dentry promises of all below *root*; how many there are."""
    count = 0
    pending = [root]
    while pending:
        dentry = pending.pop()
        for name, child in dentry.children.items():
            where = f"validate_fs: dentry {name!r}"
            assert child.name == name, f"{where} calls itself {child.name!r}"
            assert child.parent is dentry, f"{where} has another parent"
            assert not child.unhashed, f"{where} is listed and unhashed"
            assert child.address, f"{where} has no object"
            count += 1
            if isinstance(dentry.inode, MemDir):
                assert dentry.inode.children.get(name) is child.inode, f"{where} is another inode than its directory's"
            pending.append(child)
    return count


def _validate_links(sb: Tmpfs) -> None:
    """Link counts of a tmpfs are exact: names of a file, 2 and the subdirectories of a directory."""
    names: Counter[int] = Counter()
    inodes = list(known_inodes(sb))
    for inode in inodes:
        if isinstance(inode, MemDir):
            names.update(id(child) for child in inode.children.values())
    for inode in inodes:
        if isinstance(inode, MemDir):
            expected = 2 + sum(child.is_dir for child in inode.children.values())
        else:
            expected = names[id(inode)]
        # A terminal of the host stands in /dev/pts with the host's count.
        if inode.sb is sb:
            assert inode.nlink == expected, f"validate_fs: inode {inode.ino} has nlink {inode.nlink}, not {expected}"


def _validate_files(tables: list[FdTable]) -> None:
    held: Counter[int] = Counter()
    files: dict[int, OpenFile] = {}
    for table in tables:
        for file in table.fds:
            if file is not None:
                held[id(file)] += 1
                files[id(file)] = file
    users: Counter[int] = Counter(id(file.inode) for file in files.values())
    for file in files.values():
        assert not file.released, f"validate_fs: a descriptor refers to {file.path!r}, which was released"
        assert file.refs >= held[id(file)], f"validate_fs: {file.path!r} has {file.refs} of {held[id(file)]} references"
        opened = file.inode.open_count
        assert opened >= users[id(file.inode)], f"validate_fs: {file.path!r} is open {opened} times, or more"
