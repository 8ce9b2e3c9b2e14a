"""After any walk back and forth the machine is, bit for bit, what it is in a run that went straight there."""

import pytest

from minikernel.config import Config, Swap
from tests.minikernel.kdb.conftest import build
from tests.minikernel.kdb.walks import walk


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", "processes", "memory"])
def test_a_walk_ends_where_a_straight_run_does(arch: str, kind: str) -> None:
    config = Config(
        argv=(bytes(build(arch, "walk")), kind.encode()),
        env=(b"LANG=C",),
        ram=(6 if kind == "memory" else 16) << 20,
        swap=(Swap(size=16 << 20),) if kind == "memory" else (),
        slice=20_011,
    )
    walk(config, places=6, moves=6, seed=5)
