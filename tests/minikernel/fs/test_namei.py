"""The path walk: mounts, limits, flags, and the tables that hang on it."""

import os
from pathlib import Path

import pytest

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import makedev
from minikernel.fs import dirops
from minikernel.fs.cred import Cred
from minikernel.fs.dentry import d_path
from minikernel.fs.fdtable import FdTable
from minikernel.fs.file import can_seek
from minikernel.fs.namei import LOOKUP_EMPTY, lookup_at
from minikernel.fs.open import do_open, open_exec
from minikernel.fs.tmpfs import Tmpfs
from minikernel.fs.vfs import Vfs
from tests.minikernel.fs.conftest import MakeVfs
from tests.minikernel.fs.fake import FakeServices

ROOT = Cred()


@pytest.fixture
def vfs(make_vfs: MakeVfs, tmp_path: Path) -> Vfs:
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "file").write_bytes(b"#!/bin/sh\n")
    (root / "a" / "file").chmod(0o755)
    return make_vfs()


def test_mounts_are_crossed_both_ways(vfs: Vfs, services: FakeServices) -> None:
    vfs.mount_at(b"/a/b", Tmpfs(services, makedev(0, 99)))
    fs = vfs.fs_struct()
    dirops.mkdir(fs, ROOT, b"/a/b/inside", 0o755)

    assert lookup_at(fs, ROOT, b"/a/b/inside").inode.dev == makedev(0, 99)
    assert d_path(lookup_at(fs, ROOT, b"/a/b/inside"), fs.root) == b"/a/b/inside"
    assert d_path(lookup_at(fs, ROOT, b"/a/b/inside/../.."), fs.root) == b"/a"
    with pytest.raises(LinuxError) as caught:
        dirops.rmdir(fs, ROOT, b"/a/b")
    assert caught.value.errno == Errno.EBUSY
    with pytest.raises(LinuxError) as caught:
        dirops.rename(fs, ROOT, b"/a/b/inside", b"/a/c")
    assert caught.value.errno == Errno.EXDEV


def test_stacked_mounts_show_the_last(vfs: Vfs, services: FakeServices) -> None:
    first = vfs.mount_at(b"/a", Tmpfs(services, makedev(0, 98)))
    second = vfs.mount_at(b"/a", Tmpfs(services, makedev(0, 99)))
    fs = vfs.fs_struct()

    assert lookup_at(fs, ROOT, b"/a").mnt is second
    vfs.namespace.unmount(second)
    assert lookup_at(fs, ROOT, b"/a").mnt is first


def test_forty_links_are_followed_and_no_more(vfs: Vfs) -> None:
    fs = vfs.fs_struct()
    for number in range(41):
        dirops.symlink(fs, ROOT, b"l%d" % (number + 1) if number < 40 else b"a", b"/l%d" % number)

    assert lookup_at(fs, ROOT, b"/l1").inode.is_dir
    with pytest.raises(LinuxError) as caught:
        lookup_at(fs, ROOT, b"/l0")
    assert caught.value.errno == Errno.ELOOP


@pytest.mark.parametrize(("length", "fits"), [(255, True), (256, False)])
def test_names_have_255_bytes(vfs: Vfs, length: int, fits: bool) -> None:
    fs = vfs.fs_struct()
    if fits:
        dirops.mkdir(fs, ROOT, b"x" * length, 0o755)
        return
    with pytest.raises(LinuxError) as caught:
        dirops.mkdir(fs, ROOT, b"x" * length, 0o755)
    assert caught.value.errno == Errno.ENAMETOOLONG


def test_an_empty_name_needs_its_flag(vfs: Vfs) -> None:
    fs = vfs.fs_struct(b"/a")

    assert lookup_at(fs, ROOT, b"", flags=LOOKUP_EMPTY) == fs.cwd
    with pytest.raises(LinuxError) as caught:
        lookup_at(fs, ROOT, b"")
    assert caught.value.errno == Errno.ENOENT


def test_deleted_names_are_marked(vfs: Vfs) -> None:
    fs = vfs.fs_struct()
    file = do_open(fs, ROOT, b"/a/file", os.O_RDWR)
    dirops.unlink(fs, ROOT, b"/a/file")

    assert file.path == b"/a/file (deleted)"
    file.write(b"still")
    assert file.pread(5, 0) == b"still"
    file.put_file()


def test_the_last_user_of_a_removed_file_frees_its_frames(vfs: Vfs, services: FakeServices) -> None:
    fs = vfs.fs_struct()
    do_open(fs, ROOT, b"/old", os.O_RDWR | os.O_CREAT, 0o600)  # from here on there are objects for a file
    before = services.node.nr_free
    file = do_open(fs, ROOT, b"/new", os.O_RDWR | os.O_CREAT, 0o600)
    file.write(bytes(100_000))
    assert services.node.nr_free == before - 25
    dirops.unlink(fs, ROOT, b"/new")
    file.get_file()  # a mapping
    file.put_file()
    assert services.node.nr_free == before - 25
    file.put_file()

    assert services.node.nr_free == before


def test_execve_refuses_what_is_no_program(vfs: Vfs) -> None:
    fs = vfs.fs_struct()
    file = open_exec(fs, ROOT, b"/a/file")
    assert file.read(2) == b"#!"
    for name, error in ((b"/a", Errno.EACCES), (b"/dev/null", Errno.EACCES), (b"/no", Errno.ENOENT)):
        with pytest.raises(LinuxError) as caught:
            open_exec(fs, ROOT, name)
        assert caught.value.errno == error
    with pytest.raises(LinuxError) as caught:
        do_open(fs, ROOT, b"/a/file", os.O_WRONLY)
    assert caught.value.errno == Errno.ETXTBSY
    file.put_file()
    writer = do_open(fs, ROOT, b"/a/file", os.O_WRONLY)
    with pytest.raises(LinuxError) as caught:
        open_exec(fs, ROOT, b"/a/file")
    assert caught.value.errno == Errno.ETXTBSY
    writer.put_file()


def test_root_needs_an_execute_bit_to_execute(vfs: Vfs) -> None:
    fs = vfs.fs_struct()
    do_open(fs, ROOT, b"/plain", os.O_WRONLY | os.O_CREAT, 0o644).put_file()

    with pytest.raises(LinuxError) as caught:
        open_exec(fs, ROOT, b"/plain")
    assert caught.value.errno == Errno.EACCES


def test_descriptors_are_the_lowest_free(vfs: Vfs) -> None:
    fs, files = vfs.fs_struct(), FdTable()
    taken = [files.add(do_open(fs, ROOT, b"/dev/null", os.O_RDWR), 10) for _ in range(4)]
    files.close(1)
    files.close(2)

    assert taken == [0, 1, 2, 3]
    assert files.add(do_open(fs, ROOT, b"/dev/null", os.O_RDWR), 10, minimum=2) == 2
    assert files.add(do_open(fs, ROOT, b"/dev/null", os.O_RDWR), 10, cloexec=True) == 1
    assert files.add(do_open(fs, ROOT, b"/dev/null", os.O_RDWR), 10) == 4
    copy = files.copy()
    files.close_on_exec()
    assert files.open_fds() == [0, 2, 3, 4]
    assert copy.open_fds() == [0, 1, 2, 3, 4]
    files.close_all()
    assert not copy.get(1).released
    copy.put()
    assert copy.open_fds() == []


def test_devices_do_what_they_are_for(vfs: Vfs) -> None:
    fs = vfs.fs_struct()
    null, zero, full, random = (
        do_open(fs, ROOT, b"/dev/" + name, os.O_RDWR) for name in (b"null", b"zero", b"full", b"urandom")
    )
    assert null.read(10) == b""
    assert null.write(b"gone") == 4
    assert zero.read(4) == bytes(4)
    assert len(random.read(32)) == 32
    with pytest.raises(LinuxError) as caught:
        full.write(b"x")
    assert caught.value.errno == Errno.ENOSPC
    assert all(can_seek(file) for file in (null, zero, full, random))
    for file in (null, zero, full, random):
        file.put_file()


def test_a_device_node_anywhere_is_found_by_its_number(vfs: Vfs) -> None:
    fs = vfs.fs_struct()
    dirops.mknod(fs, ROOT, b"/a/z", 0o020666, makedev(1, 5))
    dirops.mknod(fs, ROOT, b"/a/unknown", 0o020666, makedev(77, 5))

    assert do_open(fs, ROOT, b"/a/z", os.O_RDONLY).read(2) == b"\0\0"
    with pytest.raises(LinuxError) as caught:
        do_open(fs, ROOT, b"/a/unknown", os.O_RDONLY)
    assert caught.value.errno == Errno.ENXIO
    with pytest.raises(LinuxError) as caught:
        dirops.mknod(fs, Cred(1000, 1000), b"/a/mine", 0o020666, makedev(1, 5))
    assert caught.value.errno == Errno.EACCES
