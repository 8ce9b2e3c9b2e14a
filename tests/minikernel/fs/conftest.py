"""A machine's files without a machine."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from minikernel.fs.vfs import Bind, Vfs
from tests.minikernel.fs.fake import FakeServices

MakeVfs = Callable[..., Vfs]


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


@pytest.fixture
def make_vfs(services: FakeServices, tmp_path: Path) -> Iterator[MakeVfs]:
    """A Vfs over a host directory (by default tmp_path/root, which is made)."""
    made: list[Vfs] = []

    def make(root: Path | None = None, binds: tuple[Bind, ...] = ()) -> Vfs:
        if root is None:
            root = tmp_path / "root"
            root.mkdir(exist_ok=True)
        vfs = Vfs(services, bytes(root), binds)
        made.append(vfs)
        return vfs

    yield make
    for vfs in made:
        vfs.shutdown()
