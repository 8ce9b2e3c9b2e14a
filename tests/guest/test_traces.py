"""A sample of what ``make traces`` does with everything: recorded, replayed, verified, recorded again."""

from pathlib import Path

import pytest

from guest.builder import build_all, programs, targets
from tests.traces import THREADS, Case, guest_cases, round_trip, run_digest

SAMPLE = (
    *("x86-64/thread/storm-4level", "i386/process/fork_cow-2level", "i386/pressure/thrash-pae"),
    "x86-64/files/directories-4level",
)


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in guest_cases() if case.id in SAMPLE], ids=lambda case: str(case.id))
def test_a_program_goes_round(case: Case, tmp_path: Path) -> None:
    build_all([target for target in targets(programs()) if case.id.startswith(f"{target.id}-")])

    assert not round_trip(case, tmp_path)


@pytest.mark.slow
def test_threads_and_signals_have_one_digest() -> None:
    """A thousand runs in ``make traces``, twenty here; other time slices are another run."""
    (target,) = [target for target in targets(programs()) if target.id == THREADS]
    build_all([target])
    digests = {run_digest(target.path, 5) for _ in range(20)}

    assert len(digests) == 1
    assert run_digest(target.path, 6) not in digests
