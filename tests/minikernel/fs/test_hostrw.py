"""Behind ``--bind HOST:GUEST:rw`` every operation reaches the host; any sequence of them leaves the same tree."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from minikernel.fs.cred import Cred
from minikernel.fs.open import do_open
from minikernel.fs.vfs import Vfs
from tests.minikernel.fs.conftest import MakeVfs
from tests.minikernel.fs.fake import FakeServices
from tests.minikernel.fs.oracle import DEEP, Host, Ours, attempt, populate
from tests.minikernel.fs.test_host_oracle import DATA, FLAGS, MODE, NAME


@dataclass
class HostBind:
    host: bytes
    guest: bytes
    writable: bool = True


def snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below *root* that the two sides must agree on."""
    found = {}
    for path in sorted(root.rglob("*")):
        st_ = path.lstat()
        content = b""
        if path.is_symlink():
            content = os.fsencode(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(root))] = (st_.st_mode, st_.st_nlink, content)
    return found


class BindMachine(RuleBasedStateMachine):
    """A tree of the host behind a bind, and another one that is changed directly."""

    def __init__(self) -> None:
        super().__init__()
        self.scratch = Path(tempfile.mkdtemp())
        self.umask = os.umask(0o022)
        self.oracle_root, self.bound_root = self.scratch / "oracle", self.scratch / "bound"
        self.host = Host(populate(self.oracle_root), os.geteuid())
        populate(self.bound_root)
        (self.scratch / "root").mkdir()
        bind = HostBind(os.fsencode(self.bound_root), b"/mnt")
        self.vfs = Vfs(FakeServices(8 << 20), os.fsencode(self.scratch / "root"), (bind,))
        self.ours = Ours(self.vfs.fs_struct(), Cred(os.geteuid(), os.getegid()), b"/mnt/" + DEEP)

    def teardown(self) -> None:
        os.umask(self.umask)
        self.vfs.shutdown()
        shutil.rmtree(self.scratch)

    def same(self, operation: str, *arguments: Any, **keywords: Any) -> None:
        theirs = self.host.run(lambda: getattr(self.host, operation)(*arguments, **keywords))
        ours = attempt(lambda: getattr(self.ours, operation)(*arguments, **keywords))

        assert ours == theirs, f"{operation} {arguments}"

    @rule(name=NAME, mode=MODE)
    def mkdir(self, name: bytes, mode: int) -> None:
        self.same("mkdir", name, mode)

    @rule(name=NAME)
    def rmdir(self, name: bytes) -> None:
        self.same("rmdir", name)

    @rule(name=NAME)
    def unlink(self, name: bytes) -> None:
        self.same("unlink", name)

    @rule(old=NAME, new=NAME)
    def rename(self, old: bytes, new: bytes) -> None:
        self.same("rename", old, new)

    @rule(text=NAME, name=NAME)
    def symlink(self, text: bytes, name: bytes) -> None:
        self.same("symlink", text, name)

    @rule(name=NAME, flags=FLAGS, mode=MODE, data=DATA)
    def write(self, name: bytes, flags: int, mode: int, data: bytes) -> None:
        self.same("write", name, flags, mode, data)

    @rule(name=NAME, mode=MODE)
    def chmod(self, name: bytes, mode: int) -> None:
        self.same("chmod", name, mode)

    @rule(name=NAME, size=st.sampled_from([0, 3, 4096, 9000]))
    def truncate(self, name: bytes, size: int) -> None:
        self.same("truncate", name, size)

    @rule(name=NAME)
    def listdir(self, name: bytes) -> None:
        self.same("listdir", name)

    @rule(name=NAME, follow=st.booleans())
    def stat(self, name: bytes, follow: bool) -> None:
        self.same("stat", name, follow=follow)

    @invariant()
    def the_host_has_it(self) -> None:
        if os.geteuid() == 0:
            assert snapshot(self.bound_root) == snapshot(self.oracle_root)


@pytest.mark.slow
def test_bound_tree_becomes_what_the_host_would_make_of_it() -> None:
    run_state_machine_as_test(
        BindMachine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_changes_of_the_host_are_seen_behind_a_writable_bind(make_vfs: MakeVfs, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    vfs = make_vfs(None, (HostBind(bytes(shared), b"/mnt"),))
    ours = Ours(vfs.fs_struct(), Cred(os.geteuid(), os.getegid()), b"/mnt")
    (shared / "f").write_bytes(b"one")
    assert ours.write(b"f", os.O_RDONLY, 0, b"") == b"one"
    (shared / "f").write_bytes(b"two and more")
    assert ours.write(b"f", os.O_RDONLY, 0, b"") == b"two and more"
    (shared / "f").unlink()

    assert ours.listdir(b".") == []


def test_an_unlinked_open_file_lives_on(make_vfs: MakeVfs, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    vfs = make_vfs(None, (HostBind(bytes(shared), b"/mnt"),))
    ours = Ours(vfs.fs_struct(), Cred(os.geteuid(), os.getegid()), b"/mnt")
    file = do_open(ours.fs, ours.cred, b"f", os.O_RDWR | os.O_CREAT, 0o600)
    ours.unlink(b"f")
    file.write(b"still here")

    assert file.pread(100, 0) == b"still here"
    file.put_file()
    assert list(shared.iterdir()) == []


def test_read_only_bind_copies_up(make_vfs: MakeVfs, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "f").write_bytes(b"host")
    vfs = make_vfs(None, (HostBind(bytes(shared), b"/mnt/deep/er", writable=False),))
    ours = Ours(vfs.fs_struct(), Cred(os.geteuid(), os.getegid()), b"/mnt/deep/er")

    assert ours.write(b"f", os.O_RDWR, 0, b"mine") == b"mine"
    assert (shared / "f").read_bytes() == b"host"


def test_a_single_file_can_be_bound(make_vfs: MakeVfs, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"1")
    vfs = make_vfs(None, (HostBind(bytes(tmp_path / "one"), b"/etc/one"),))
    ours = Ours(vfs.fs_struct(), Cred(os.geteuid(), os.getegid()), b"/etc")

    assert ours.write(b"one", os.O_RDWR | os.O_APPEND, 0, b"2") == b"12"
    assert (tmp_path / "one").read_bytes() == b"12"
