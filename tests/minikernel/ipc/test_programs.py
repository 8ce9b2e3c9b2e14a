"""The host's own ipcmk, ipcs and ipcrm on our segments, and a shell that meets the commit limit."""

import shutil
from pathlib import Path

import pytest

from tests.minikernel.machine import run_and_audit, shell

KNOBS = "cd /proc/sys/vm; "


def output(script: str, folder: Path) -> list[list[str]]:
    """What *script* prints, in words; the books are checked before and after the power is off."""
    ended = run_and_audit(shell(script, folder))
    return [line.split() for line in ended.stdout.decode().splitlines() if line]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("ipcmk"), reason="no util-linux here")
def test_util_linux_makes_lists_and_removes(tmp_path: Path) -> None:
    script = (
        "ipcmk -M 10000 -p 0640; ipcmk -M 4096; ipcs -m | tail -n +4; ipcs -m -u | tail -n +3;"
        "ipcs -m -i 1; ipcrm -m 1; ipcs -m | tail -n +4; wc -l < /proc/sysvipc/shm;"
        "ipcrm -a; wc -l < /proc/sysvipc/shm"
    )
    made_0, made_1, *rows = output(script, tmp_path)

    assert (made_0[-1], made_1[-1]) == ("0", "1")
    assert [row[1:] for row in rows[:2]] == [["0", "root", "640", "10000", "0"], ["1", "root", "644", "4096", "0"]]
    assert rows[2:5] == [["segments", "allocated", "2"], ["pages", "allocated", "4"], ["pages", "resident", "0"]]
    assert ["bytes=4096", "lpid=0", "cpid=4", "nattch=0"] in rows
    assert rows[-3][1:4] == ["0", "root", "640"]
    assert rows[-2:] == [["2"], ["1"]]


@pytest.mark.slow
def test_knobs_of_shared_memory(tmp_path: Path) -> None:
    script = (
        "cd /proc/sys/kernel; cat shmmni shm_rmid_forced shm_next_id; echo 5 > shmmni; echo 1 > shm_rmid_forced;"
        "echo 8192 > shmmax; echo 77 > shm_next_id; cat shmmni shm_rmid_forced shmmax shm_next_id;"
        "echo 32769 > shmmni || echo refused; echo x > shmall || echo refused"
    )

    assert [row[-1] for row in output(script, tmp_path)] == [
        *("4096", "0", "-1"),
        *("5", "1", "8192", "77"),
        *("refused", "refused"),
    ]


@pytest.mark.slow
def test_each_of_the_two_ways_to_say_a_limit_puts_the_other_out_of_force(tmp_path: Path) -> None:
    script = KNOBS + (
        "cat overcommit_ratio overcommit_kbytes; echo 4096 > overcommit_kbytes; cat overcommit_ratio overcommit_kbytes;"
        "grep CommitLimit /proc/meminfo; echo 30 > overcommit_ratio; cat overcommit_ratio overcommit_kbytes;"
        "cat admin_reserve_kbytes; echo 10 > user_reserve_kbytes; cat user_reserve_kbytes"
    )
    rows = output(script, tmp_path)

    assert [row[0] for row in rows[:4]] == ["50", "0", "0", "4096"]
    assert rows[4] == ["CommitLimit:", "4096", "kB"]
    assert [row[0] for row in rows[5:]] == ["30", "0", rows[7][0], "10"]
    assert 4096 < int(rows[7][0]) <= 8192


@pytest.mark.slow
def test_a_shell_runs_nothing_beyond_the_limit(tmp_path: Path) -> None:
    """And what it had promised is given back: the same command asks for the same again and again."""
    script = KNOBS + (
        "read_it() { while read name value rest; do [ $name = Committed_AS: ] && echo $value; done < /proc/meminfo; };"
        "ls / > /dev/null; read_it; ls / > /dev/null; sleep 0; read_it;"
        "echo 2 > overcommit_memory; echo 200 > overcommit_kbytes; ls / || echo failed; echo 1 > overcommit_memory;"
        "ls -d /; read_it"
    )
    rows = output(script, tmp_path)

    assert rows == [rows[0], rows[0], ["failed"], ["/"], rows[0]]
