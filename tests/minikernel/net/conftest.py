"""Every test gives back what its machines borrowed of the host."""

from collections.abc import Iterator

import pytest

from tests.minikernel.net.machine import MADE


@pytest.fixture(autouse=True)
def _shut_down() -> Iterator[None]:
    """The machines' directories are closed: other tests count on their descriptors."""
    yield
    while MADE:
        MADE.pop().side.vfs.shutdown()
