"""Whole runs on a machine that watches every object: no object is used after its end, given back twice, or overrun."""

from pathlib import Path

import pytest

from tests.minikernel.machine import run_and_audit, shell

SCRIPTS = {
    "processes": "for i in 1 2 3; do (echo $i | cat) & done; wait; ls /usr | sort | head -2 >/dev/null; echo done",
    "files": "mkdir -p d/e; for i in 1 2 3; do echo $i > d/e/$i; mv d/e/$i d/$i; done; rm -r d; cat /proc/slabinfo > s",
    "killed": "sleep 5 & kill $!; wait $!; kill -9 $$",
    "caches": "ls -R /usr/share/terminfo /etc/default > /dev/null; echo 3 > /proc/sys/vm/drop_caches; ls /etc/default",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_misused(name: str, tmp_path: Path) -> None:
    ended = run_and_audit(shell(SCRIPTS[name], tmp_path), slab_debug=True)
    assert ended.code == (9 if name == "killed" else 0), ended.stderr
