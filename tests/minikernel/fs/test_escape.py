"""Nothing outside the root and the binds is ever read or written."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import RESOLVE_BENEATH, RESOLVE_IN_ROOT
from minikernel.fs import dirops
from minikernel.fs.cred import Cred
from minikernel.fs.hostdoor import HostDoor
from minikernel.fs.namei import lookup_at
from minikernel.fs.open import do_open
from minikernel.fs.vfs import Vfs
from tests.minikernel.fs.conftest import MakeVfs
from tests.minikernel.fs.fake import FakeServices

ROOT = Cred()


@dataclass
class HostBind:
    host: bytes
    guest: bytes
    writable: bool = False


@pytest.fixture
def jail(tmp_path: Path) -> Path:
    """A root directory with a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "jail"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "file").write_bytes(b"inside")
    return root


def read(vfs: Vfs, name: bytes) -> bytes:
    """The content of *name*."""
    file = do_open(vfs.fs_struct(), ROOT, name, os.O_RDONLY)
    data = file.read(1 << 16)
    file.put_file()
    return data


@pytest.mark.parametrize(
    "name",
    [b"/../secret", b"/dir/../../secret", b"/dir/../../../../../../secret", b"..//../secret", b"/./../secret"],
)
def test_dotdot_stays_in_the_root(make_vfs: MakeVfs, jail: Path, name: bytes) -> None:
    vfs = make_vfs(jail)

    with pytest.raises(LinuxError) as caught:
        read(vfs, name)
    assert caught.value.errno == Errno.ENOENT


def test_symbolic_links_are_seen_from_inside(make_vfs: MakeVfs, jail: Path, tmp_path: Path) -> None:
    """A link of the host that leads outside leads to the same name inside, which is not there."""
    (jail / "absolute").symlink_to(tmp_path / "secret")
    (jail / "relative").symlink_to("../secret")
    (jail / "deep").symlink_to("/dir/file")
    vfs = make_vfs(jail)

    for name in (b"/absolute", b"/relative"):
        with pytest.raises(LinuxError):
            read(vfs, name)
    assert read(vfs, b"/deep") == b"inside"


def test_writing_through_a_link_makes_a_file_inside(make_vfs: MakeVfs, jail: Path, tmp_path: Path) -> None:
    (jail / "out").symlink_to("../secret")
    vfs = make_vfs(jail)
    file = do_open(vfs.fs_struct(), ROOT, b"/out", os.O_WRONLY | os.O_CREAT, 0o644)
    file.write(b"changed")
    file.put_file()

    assert read(vfs, b"/secret") == b"changed"
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_a_file_that_became_a_link_is_not_followed(make_vfs: MakeVfs, jail: Path, tmp_path: Path) -> None:
    """The host swaps a file for a link between our lookup and our open."""
    vfs = make_vfs(jail)
    fs = vfs.fs_struct()
    place = lookup_at(fs, ROOT, b"/dir/file")
    (jail / "dir" / "file").unlink()
    (jail / "dir" / "file").symlink_to(tmp_path / "secret")

    with pytest.raises(LinuxError) as caught:
        place.inode.open(place, os.O_RDONLY).read(100)
    assert caught.value.errno in {Errno.EIO, Errno.ESTALE, Errno.ELOOP}


def test_a_directory_that_became_a_link_is_not_followed(make_vfs: MakeVfs, jail: Path, tmp_path: Path) -> None:
    vfs = make_vfs(jail)
    fs = vfs.fs_struct()
    directory = lookup_at(fs, ROOT, b"/dir")
    (jail / "dir").rename(jail / "old")
    (jail / "dir").symlink_to(tmp_path)

    with pytest.raises(LinuxError):
        lookup_at(fs, ROOT, b"secret", start=directory)


def test_a_directory_that_left_the_root_does_not_take_us_along(make_vfs: MakeVfs, jail: Path, tmp_path: Path) -> None:
    """After the host moved a directory out, `..` of it is still ours."""
    vfs = make_vfs(jail)
    fs = vfs.fs_struct()
    fs.cwd = lookup_at(fs, ROOT, b"/dir")
    lookup_at(fs, ROOT, b"file")
    (jail / "dir").rename(tmp_path / "dir")

    with pytest.raises(LinuxError):
        lookup_at(fs, ROOT, b"../secret")


def test_host_fifo_and_device_are_seen_and_never_opened(make_vfs: MakeVfs, jail: Path) -> None:
    """A FIFO of the host is a FIFO, but one of our own: opening it does not touch the host's."""
    os.mkfifo(jail / "fifo")
    vfs = make_vfs(jail)
    fs = vfs.fs_struct()
    assert lookup_at(fs, ROOT, b"/fifo").inode.stat().mode == os.lstat(jail / "fifo").st_mode
    writer = do_open(fs, ROOT, b"/fifo", os.O_RDWR | os.O_NONBLOCK)
    writer.write(b"inside")

    host = os.open(jail / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(host, 100) == b""
    os.close(host)
    assert writer.read(100) == b"inside"
    writer.put_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
def test_host_block_device_node_does_not_open(make_vfs: MakeVfs, jail: Path) -> None:
    os.mknod(jail / "disk", 0o060666, os.makedev(7, 250))
    vfs = make_vfs(jail)

    with pytest.raises(LinuxError) as caught:
        read(vfs, b"/disk")
    assert caught.value.errno == Errno.ENXIO


def test_files_of_the_hosts_kernel_are_shown_empty(make_vfs: MakeVfs) -> None:
    """/sys of the host is a directory without entries; what is not mounted by us in /proc is not there."""
    vfs = make_vfs(Path("/"))
    file = do_open(vfs.fs_struct(), ROOT, b"/sys", os.O_RDONLY | os.O_DIRECTORY)

    assert [name for name, _, _ in file.read_dir()] == [b".", b".."]
    file.put_file()


def test_rename_between_lookup_and_open_on_a_writable_bind(make_vfs: MakeVfs, jail: Path, tmp_path: Path) -> None:
    """Behind a writable bind, too, a name that now is a link to the outside leads nowhere."""
    vfs = make_vfs(jail, (HostBind(bytes(jail / "dir"), b"/mnt", writable=True),))
    fs = vfs.fs_struct()
    place = lookup_at(fs, ROOT, b"/mnt/file")
    (jail / "dir" / "file").unlink()
    (jail / "dir" / "file").symlink_to(tmp_path / "secret")

    with pytest.raises(LinuxError):
        place.inode.open(place, os.O_RDWR)
    with pytest.raises(LinuxError):
        do_open(fs, ROOT, b"/mnt/file", os.O_WRONLY)
    with pytest.raises(LinuxError):
        place.inode.truncate(0)
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_writable_bind_does_not_lead_above_itself(make_vfs: MakeVfs, jail: Path, tmp_path: Path) -> None:
    vfs = make_vfs(jail, (HostBind(bytes(jail / "dir"), b"/mnt", writable=True),))
    fs = vfs.fs_struct()
    file = do_open(fs, ROOT, b"/mnt/../new", os.O_CREAT | os.O_WRONLY, 0o644)
    file.write(b"x")
    file.put_file()
    dirops.symlink(fs, ROOT, b"../../secret", b"/mnt/link")

    with pytest.raises(LinuxError):
        do_open(fs, ROOT, b"/mnt/link", os.O_WRONLY)
    assert sorted(path.name for path in jail.iterdir()) == ["dir"]
    assert (jail / "dir" / "link").is_symlink()
    assert (tmp_path / "secret").read_bytes() == b"secret"


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"../x"])
def test_the_door_takes_plain_names_only(jail: Path, name: bytes) -> None:
    door = HostDoor(bytes(jail))

    with pytest.raises(AssertionError):
        door.lstat(door.root, name)
    door.close()


def test_hostile_names_are_names(services: FakeServices, jail: Path) -> None:
    """Newlines, escapes and bytes that are no UTF-8 travel as they are."""
    name = b"\xff\x1b[31m\n\\ %s"
    (jail / os.fsdecode(name)).write_bytes(b"odd")
    vfs = Vfs(services, bytes(jail))

    assert read(vfs, b"/" + name) == b"odd"
    vfs.shutdown()


def test_chroot_holds_dotdot_and_absolute_links(make_vfs: MakeVfs, jail: Path) -> None:
    (jail / "dir" / "up").symlink_to("/file")
    (jail / "outside").write_bytes(b"outside")
    vfs = make_vfs(jail)
    fs = vfs.fs_struct()
    fs.root = fs.cwd = lookup_at(fs, ROOT, b"/dir")

    assert lookup_at(fs, ROOT, b"up").inode.size == len(b"inside")
    with pytest.raises(LinuxError):
        lookup_at(fs, ROOT, b"../outside")


def test_resolve_flags_hold_a_walk_beneath_its_start(make_vfs: MakeVfs, jail: Path) -> None:
    (jail / "dir" / "abs").symlink_to("/file")
    (jail / "dir" / "up").symlink_to("../dir/file")
    vfs = make_vfs(jail)
    fs = vfs.fs_struct()
    start = lookup_at(fs, ROOT, b"/dir")

    for name in (b"abs", b"up", b"../dir/file", b"/dir/file"):
        with pytest.raises(LinuxError) as caught:
            lookup_at(fs, ROOT, name, start=start, resolve=RESOLVE_BENEATH)
        assert caught.value.errno == Errno.EXDEV
    assert lookup_at(fs, ROOT, b"abs", start=start, resolve=RESOLVE_IN_ROOT).inode.size == len(b"inside")
    assert lookup_at(fs, ROOT, b"../../file", start=start, resolve=RESOLVE_IN_ROOT).inode.size == len(b"inside")
