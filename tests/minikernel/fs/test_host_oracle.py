"""Any sequence of operations gives on our trees what it gives on the host: results, errors, and the tree after."""

import os
import shutil
import tempfile
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from minikernel.abi.stat import makedev
from minikernel.fs.cred import Cred
from minikernel.fs.dirops import link as do_link
from minikernel.fs.file import RegularFile
from minikernel.fs.namei import lookup_at
from minikernel.fs.open import do_open
from minikernel.fs.tmpfs import Tmpfs
from minikernel.fs.vfs import Vfs
from tests.minikernel.fs.fake import FakeServices
from tests.minikernel.fs.oracle import DEEP, HOST_FLAGS, Host, Ours, attempt, populate

NOBODY = 65534

COMPONENT = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"s", b"t", b"n", b"loop", b".", b".."])
NAME = st.builds(
    lambda parts, slash: b"/".join(parts) + slash,
    st.lists(COMPONENT, min_size=1, max_size=3),
    st.sampled_from([b"", b"", b"", b"/"]),
)
MODE = st.sampled_from([0o755, 0o644, 0o700, 0o600, 0o555, 0o000, 0o777, 0o1777, 0o2775])
FLAGS = st.builds(
    lambda access, extra: access | sum({getattr(os, name) for name in extra}),
    st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR]),
    st.lists(st.sampled_from(HOST_FLAGS), max_size=3),
)
DATA = st.sampled_from([b"", b"x", b"hello world", b"y" * 5000])


class TreeMachine(RuleBasedStateMachine):
    """One tree of ours and one of the host, changed alike."""

    uid = 0
    on_tmpfs = False

    def __init__(self) -> None:
        super().__init__()
        self.scratch = Path(tempfile.mkdtemp())
        self.scratch.chmod(0o755)
        self.umask = os.umask(0o022)
        self.uid = self.uid if os.geteuid() == 0 else os.geteuid()
        services = FakeServices(8 << 20)
        oracle_root, ours_root = self.scratch / "oracle", self.scratch / "ours"
        self.host = Host(populate(oracle_root), self.uid)
        populate(ours_root)
        self.open_tree(oracle_root)
        self.open_tree(ours_root)
        self.vfs = Vfs(services, os.fsencode(ours_root))
        fs = self.vfs.fs_struct()
        cred = Cred(self.uid, self.uid)
        if self.on_tmpfs:
            self.vfs.mount_at(b"/mem", Tmpfs(services, makedev(0, 40)))
            work = b"/mem/" + DEEP
            self.fill_memory(fs, work)
            self.ours = Ours(fs, cred, work)
        else:
            self.ours = Ours(fs, cred)

    def open_tree(self, root: Path) -> None:
        """Let the unprivileged user change half of the tree."""
        if self.uid and os.geteuid() == 0:
            work = root / os.fsdecode(DEEP)
            for path in (work, work / "d", work / "a"):
                os.chown(path, self.uid, self.uid)

    def fill_memory(self, fs: Any, work: bytes) -> None:
        """populate() again, through our own operations."""
        made = b""
        maker = Ours(fs, Cred(), b"/")
        for part in work.strip(b"/").split(b"/"):
            made += b"/" + part
            attempt(partial(maker.mkdir, made, 0o755))
        maker = Ours(fs, Cred(), work)
        maker.write(b"a", os.O_CREAT | os.O_WRONLY, 0o644, b"alpha")
        maker.mkdir(b"d", 0o755)
        maker.write(b"d/b", os.O_CREAT | os.O_WRONLY, 0o644, b"beta" * 2000)
        maker.mkdir(b"d/e", 0o755)
        maker.write(b"d/e/c", os.O_CREAT | os.O_WRONLY, 0o644, b"")
        do_link(fs, Cred(), lookup_at(fs, Cred(), b"a"), b"d/a2")
        for name, target in ((b"s", b"a"), (b"t", b"d/e"), (b"loop", b"loop")):
            maker.symlink(target, name)
        if self.uid and os.geteuid() == 0:
            for name in (b".", b"d", b"a"):
                inode = lookup_at(fs, Cred(), name).inode
                inode.uid = inode.gid = self.uid

    def teardown(self) -> None:
        os.umask(self.umask)
        self.vfs.shutdown()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def same(self, operation: str, *arguments: Any, **keywords: Any) -> None:
        """Both sides do *operation*; their answers are equal."""
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

    @rule(old=NAME, new=NAME)
    def link(self, old: bytes, new: bytes) -> None:
        self.same("link", old, new)

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

    @rule(name=NAME, mode=st.integers(0, 7))
    def access(self, name: bytes, mode: int) -> None:
        self.same("access", name, mode)

    @rule(name=NAME)
    def readlink(self, name: bytes) -> None:
        self.same("readlink", name)

    @rule(name=NAME)
    def listdir(self, name: bytes) -> None:
        self.same("listdir", name)

    @rule(name=NAME, follow=st.booleans())
    def stat(self, name: bytes, follow: bool) -> None:
        self.same("stat", name, follow=follow)

    @precondition(lambda self: self.uid == os.geteuid())
    @invariant()
    def trees_are_equal(self) -> None:
        for name in (b".", b"d", b"d/e", b"n"):
            self.same("listdir", name)
        for name in (b"a", b"b", b"d/b", b"d/a2", b"s", b"t", b"n"):
            self.same("stat", name, follow=False)


class CopyUpAsRoot(TreeMachine):
    """The host's tree with the copy-up layer, as the user who runs the tests."""


class CopyUpAsNobody(TreeMachine):
    """The same as a user without privileges."""

    uid = NOBODY


class TmpfsAsRoot(TreeMachine):
    """tmpfs."""

    on_tmpfs = True


class TmpfsAsNobody(TreeMachine):
    """tmpfs as a user without privileges."""

    uid = NOBODY
    on_tmpfs = True


SETTINGS = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
def test_copy_up_tree_behaves_as_the_host_for_root() -> None:
    run_state_machine_as_test(CopyUpAsRoot, settings=SETTINGS)


@pytest.mark.slow
def test_copy_up_tree_behaves_as_the_host_for_nobody() -> None:
    run_state_machine_as_test(CopyUpAsNobody, settings=SETTINGS)


@pytest.mark.slow
def test_tmpfs_behaves_as_the_host_for_root() -> None:
    run_state_machine_as_test(TmpfsAsRoot, settings=SETTINGS)


@pytest.mark.slow
def test_tmpfs_behaves_as_the_host_for_nobody() -> None:
    run_state_machine_as_test(TmpfsAsNobody, settings=SETTINGS)


def attributes(root: Path) -> dict[Path, tuple[int, ...]]:
    """Everything about the files below *root*; the access time of regular files alone.

    readlink has no O_NOATIME, and the tests list the directories themselves.
    """
    found: dict[Path, tuple[int, ...]] = {}
    for path in sorted(root.rglob("*")):
        st_ = path.lstat()
        atime = st_.st_atime_ns if S_ISREG(st_.st_mode) else 0
        found[path] = (st_.st_mode, st_.st_ino, st_.st_nlink, st_.st_size, atime, st_.st_mtime_ns, st_.st_ctime_ns)
    return found


def test_the_host_keeps_its_files_as_they_were(tmp_path: Path) -> None:
    """Whatever the guest does, the lower tree is not touched."""
    work = populate(tmp_path / "root")
    for path in (tmp_path / "root").rglob("*"):
        os.utime(path, ns=(10**18, 2 * 10**18), follow_symlinks=False)  # a read would show
    before = attributes(tmp_path / "root")
    vfs = Vfs(FakeServices(), os.fsencode(tmp_path / "root"))
    ours = Ours(vfs.fs_struct(), Cred())
    ours.write(b"a", os.O_RDWR | os.O_TRUNC, 0, b"changed")
    ours.unlink(b"d/b")
    ours.rename(b"d/e", b"moved")
    ours.chmod(b"s", 0o000)
    ours.mkdir(b"new", 0o755)
    file = do_open(ours.fs, ours.cred, b"a", os.O_RDWR)
    vfs.shutdown()

    assert isinstance(file, RegularFile)
    assert file.pread(100, 0) == b"changed"
    assert attributes(tmp_path / "root") == before
    assert (work / "a").read_bytes() == b"alpha"
