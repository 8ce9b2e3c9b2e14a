"""The pool of huge pages, by a guest program: this host may have none, so it says itself what must hold."""

from pathlib import Path

import pytest

from guest.builder import Target, build_all, programs, targets
from tests.guest.test_guest import MACHINES, emulated


def cases() -> list[tuple[Target, tuple[str, ...]]]:
    """The program for each architecture, on each of its machines."""
    found = [target for target in targets(programs()) if target.program.source.name == "hugetlb.c"]
    assert found, "guest/mm/hugetlb.c is gone"
    return [(target, options) for target in found for options in MACHINES[target.arch].values()]


@pytest.mark.slow
@pytest.mark.parametrize(("target", "options"), cases(), ids=lambda value: str(getattr(value, "id", "")))
def test_the_pool_is_what_the_program_expects(target: Target, options: tuple[str, ...], tmp_path: Path) -> None:
    build_all([target])
    result = emulated(target, (*options, "--sysctl", "vm.nr_hugepages=5"), tmp_path)
    text = result.stdout.decode()
    assert "NO: " not in text
    assert [line for line in text.splitlines() if line.startswith("code says")] == [
        f"code says {round_}" for round_ in (1, 2, 3)
    ], result.stderr.decode()
    assert result.status == 0, result.stderr.decode()
