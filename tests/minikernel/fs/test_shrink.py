"""Names and inodes that nobody uses can be forgotten, and nobody notices."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from minikernel.fs.cred import Cred
from minikernel.fs.dentry import Path as Place
from minikernel.fs.dirops import mkdir
from minikernel.fs.namei import LOOKUP_FOLLOW, FsStruct, lookup_at
from minikernel.fs.open import do_open
from minikernel.fs.validate import validate_fs
from minikernel.fs.vfs import Vfs
from minikernel.mm.shrinker import drop_slab, shrink_slab
from minikernel.mm.slab_validate import validate_slab
from tests.minikernel.fs.fake import FakeServices

ROOT = Cred()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for folder in ("a", "a/b"):
        (tmp_path / folder).mkdir()
        for number in range(20):
            (tmp_path / folder / f"file{number}").write_text(f"{folder} {number}")
        (tmp_path / folder / "link").symlink_to("file3")
    return tmp_path


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
def vfs(tree: Path, services: FakeServices) -> Iterator[Vfs]:
    made = Vfs(services, bytes(tree))
    yield made
    made.shutdown()


def lookup(fs: FsStruct, name: bytes, flags: int = 0) -> Place:
    return lookup_at(fs, ROOT, name, flags=flags)


def held(services: FakeServices) -> tuple[int, int]:
    objects = services.node.objects
    return objects.dentry.nr_in_use, objects.ext4_inode_cache.nr_in_use


def read_all(vfs: Vfs) -> list[bytes]:
    fs = vfs.fs_struct()
    texts = []
    for folder in (b"/a/", b"/a/b/"):
        for number in range(20):
            file = do_open(fs, ROOT, folder + b"file%d" % number, os.O_RDONLY)
            texts.append(file.read(100))
            file.put_file()
        assert lookup(fs, folder + b"link", LOOKUP_FOLLOW).inode.is_reg
    return texts


def test_what_is_unused_goes_and_comes_back_the_same(vfs: Vfs, services: FakeServices) -> None:
    before = held(services)
    texts = read_all(vfs)
    fs = vfs.fs_struct()
    ino = lookup(fs, b"/a/file1").inode.ino
    assert held(services) > (before[0] + 40, before[1] + 40)

    assert drop_slab(services.node) > 0
    assert held(services) == before
    validate_slab(services.node.slab)
    validate_fs(vfs)
    assert read_all(vfs) == texts
    assert lookup(fs, b"/a/file1").inode.ino == ino
    validate_fs(vfs)


def test_what_is_in_use_stays(vfs: Vfs, services: FakeServices) -> None:
    fs = vfs.fs_struct(b"/a/b")
    file = do_open(fs, ROOT, b"/a/file7", os.O_RDONLY)
    path = lookup(fs, b"/a/b/file2")
    read_all(vfs)
    drop_slab(services.node)

    assert lookup(fs, b"/a/file7").dentry is file.f_path.dentry
    assert lookup(fs, b"/a/b/file2") == path
    assert lookup(fs, b".") == fs.cwd
    assert lookup(fs, b"../b/file2") == path
    assert file.read(100) == b"a 7"
    file.put_file()


def test_what_was_changed_here_stays_changed(vfs: Vfs, services: FakeServices) -> None:
    fs = vfs.fs_struct()
    for name, text in ((b"/a/file1", b"new"), (b"/a/b/made", b"made")):
        file = do_open(fs, ROOT, name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        file.write(text)
        file.put_file()
    mkdir(fs, ROOT, b"/a/b/folder", 0o700)
    lookup(fs, b"/a/file2").inode.mode ^= 0o111
    lookup(fs, b"/a/file4").inode.xattrs = {b"user.x": b"y"}
    mode = lookup(fs, b"/a/file2").inode.mode
    drop_slab(services.node)

    for name, text in ((b"/a/file1", b"new"), (b"/a/b/made", b"made")):
        assert do_open(fs, ROOT, name, os.O_RDONLY).read(100) == text
    assert lookup(fs, b"/a/b/folder").inode.is_dir
    assert lookup(fs, b"/a/file2").inode.mode == mode
    assert lookup(fs, b"/a/file4").inode.xattrs == {b"user.x": b"y"}
    validate_fs(vfs)


def test_a_little_is_taken_when_a_little_is_asked_for(vfs: Vfs, services: FakeServices) -> None:
    nothing_read = held(services)
    read_all(vfs)
    dentries, inodes = held(services)
    shrink_slab(services.node, 3)
    assert held(services) == (dentries - 2 * (dentries >> 3), inodes - 2 * (inodes >> 3))

    assert shrink_slab(services.node, 0) > 0
    assert held(services) == nothing_read
