"""The load average, against the formula and what a machine shows."""

from pathlib import Path

from minikernel.task.loadavg import LoadAverage
from tests.minikernel.machine import run_and_audit, shell

SECOND = 1_000_000_000


def test_a_minute_of_two_tasks_is_two_thirds_of_two() -> None:
    """1 - 1/e after one minute, for the first average; after an hour all three have arrived."""
    load = LoadAverage(0)
    for second in range(61):
        load.update(second * SECOND, 2)
    assert load.text().startswith(b"1.2")
    for second in range(61, 7200):
        load.update(second * SECOND, 2)
    assert load.text() == b"2.00 2.00 2.00"
    assert load.sysinfo() == (2 << 16, 2 << 16, 2 << 16)


def test_sleeping_for_a_year_takes_no_time() -> None:
    load = LoadAverage(0)
    load.update(100 * SECOND, 1)
    load.update(365 * 86400 * SECOND, 0)
    assert load.text() == b"0.00 0.00 0.00"


def test_sleepers_do_not_count(tmp_path: Path) -> None:
    script = "sleep 1000 & sleep 100; cut -d' ' -f1-3 /proc/loadavg; kill $!"
    assert run_and_audit(shell(script, tmp_path)).stdout == b"0.00 0.00 0.00\n"
