"""Swap of a machine that is copied: in memory, begun with what a file holds, which stays as it is."""

import errno
import os
from pathlib import Path

import pytest

from minikernel.abi.errno import LinuxError
from minikernel.fs.swapstore import private_swap_file, private_temporary_swap
from minikernel.mm.swap_area import MAGIC, make_header

PAGE = 4096


def test_a_temporary_area_is_as_mkswap_leaves_it_and_a_fork_has_its_own() -> None:
    store = private_temporary_swap(64 * PAGE)
    assert store.nr_pages == 64
    assert store.read_page(0).endswith(MAGIC)
    store.write_page(3, b"a" * PAGE)
    pid = os.fork()
    if not pid:
        store.write_page(3, b"b" * PAGE)
        os._exit(store.read_page(3) != b"b" * PAGE)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store.read_page(3) == b"a" * PAGE
    store.close()
    with pytest.raises(LinuxError):
        private_temporary_swap(PAGE)


def test_a_file_is_locked_read_and_not_written(tmp_path: Path) -> None:
    path = tmp_path / "swap"
    contents = make_header(16) + b"x" * 15 * PAGE
    path.write_bytes(contents)
    store = private_swap_file(bytes(path))
    assert store.nr_pages == 16
    assert store.read_page(15) == b"x" * PAGE
    store.write_page(15, b"y" * PAGE)
    assert store.read_page(15) == b"y" * PAGE
    with pytest.raises(OSError, match="another machine") as caught:
        private_swap_file(bytes(path))
    assert caught.value.errno == errno.EBUSY
    store.close()
    assert path.read_bytes() == contents
    private_swap_file(bytes(path)).close()
