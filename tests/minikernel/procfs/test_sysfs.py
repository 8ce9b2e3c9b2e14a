"""/sys and the knobs of huge pages: what they show, what they take, and what comes of it."""

import os
from pathlib import Path

import pytest

from minikernel.abi.abi import X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.prctl import PR_GET_THP_DISABLE, PR_SET_THP_DISABLE
from minikernel.fs.open import do_open
from minikernel.mm.vma import VM_HUGEPAGE
from minikernel.procfs.mount import procfs
from minikernel.procfs.sysctl import set_sysctl
from minikernel.procfs.sysfs import sysfs
from tests.minikernel.syscalls.file_calls import Emulated

THP = b"/sys/kernel/mm/transparent_hugepage/"


@pytest.fixture
def ours(tmp_path: Path) -> Emulated:
    """A machine with one task, /proc and /sys mounted."""
    emulated = Emulated(X86_64, bytes(tmp_path))
    emulated.vfs.mount_at(b"/proc", procfs(emulated.caller.kernel))
    emulated.vfs.mount_at(b"/sys", sysfs(emulated.caller.kernel))
    return emulated


def read(ours: Emulated, name: bytes) -> bytes:
    task = ours.caller.task
    file = do_open(task.fs, task.cred, name, os.O_RDONLY)
    data = file.read(1 << 20)
    file.put_file()
    return data


def write(ours: Emulated, name: bytes, data: bytes) -> None:
    task = ours.caller.task
    file = do_open(task.fs, task.cred, name, os.O_WRONLY)
    try:
        assert file.write(data) == len(data)
    finally:
        file.put_file()


def test_the_files_there_are(ours: Emulated) -> None:
    task = ours.caller.task
    file = do_open(task.fs, task.cred, THP, os.O_RDONLY | os.O_DIRECTORY)
    names = [name for name, _, _ in file.read_dir()]
    file.put_file()
    assert names[2:] == [b"defrag", b"enabled", b"hpage_pmd_size", b"use_zero_page"]
    assert read(ours, THP + b"hpage_pmd_size") == b"2097152\n"
    assert b"sysfs /sys sysfs rw,relatime 0 0\n" in read(ours, b"/proc/self/mounts")
    assert b"nodev\tsysfs\n" in read(ours, b"/proc/filesystems")


def test_enabled(ours: Emulated) -> None:
    node = ours.caller.kernel.node
    assert read(ours, THP + b"enabled") == b"always [madvise] never\n"
    assert node.thp_mask == VM_HUGEPAGE
    write(ours, THP + b"enabled", b"always\n")
    assert read(ours, THP + b"enabled") == b"[always] madvise never\n"
    write(ours, THP + b"enabled", b"never")
    assert node.thp_mask == 0
    with pytest.raises(LinuxError) as caught:
        write(ours, THP + b"enabled", b"sometimes\n")
    assert caught.value.errno == Errno.EINVAL
    assert read(ours, THP + b"enabled") == b"always madvise [never]\n"


def test_defrag_and_zero_page(ours: Emulated) -> None:
    thp = ours.caller.kernel.node.vm_sysctl.thp
    assert read(ours, THP + b"defrag") == b"always defer defer+madvise [madvise] never\n"
    write(ours, THP + b"defrag", b"defer+madvise\n")
    assert thp.defrag == "defer+madvise"
    assert read(ours, THP + b"use_zero_page") == b"1\n"
    write(ours, THP + b"use_zero_page", b"0\n")
    assert thp.use_zero_page == 0
    with pytest.raises(LinuxError):
        write(ours, THP + b"use_zero_page", b"2\n")


def test_the_pool_by_its_sysctls(ours: Emulated) -> None:
    kernel = ours.caller.kernel
    set_sysctl(kernel, "vm.nr_hugepages", "1")
    write(ours, b"/proc/sys/vm/nr_overcommit_hugepages", b"3\n")
    assert read(ours, b"/proc/sys/vm/nr_hugepages") == b"1\n"
    assert kernel.node.hugetlb.nr_overcommit == 3
    meminfo = read(ours, b"/proc/meminfo")
    for line in (
        b"HugePages_Total:       1\n", b"HugePages_Free:        1\n", b"HugePages_Rsvd:        0\n",
        b"HugePages_Surp:        0\n", b"Hugepagesize:       2048 kB\n", b"Hugetlb:            2048 kB\n",
    ):  # fmt: skip
        assert line in meminfo
    write(ours, b"/proc/sys/vm/nr_hugepages", b"0\n")
    assert b"HugePages_Total:       0\n" in read(ours, b"/proc/meminfo")


def test_thp_disable(ours: Emulated) -> None:
    """With the exception for advised mappings, which came with Linux 6.18."""

    def prctl(*args: int) -> int:
        return ours.call("prctl", *args)

    assert prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 0
    assert prctl(PR_SET_THP_DISABLE, 1, 2, 0, 0) == 0
    assert prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 3
    assert b"THP_enabled:\t1\n" in read(ours, b"/proc/self/status")
    assert prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0
    assert prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1
    assert b"THP_enabled:\t0\n" in read(ours, b"/proc/self/status")
    for args in ((1, 4, 0), (0, 2, 0), (1, 0, 1)):
        assert prctl(PR_SET_THP_DISABLE, *args, 0) == -Errno.EINVAL
    assert prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0) == 0
    assert prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 0
