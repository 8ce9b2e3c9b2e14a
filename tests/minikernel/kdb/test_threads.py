"""Several tasks of one memory: breakpoints, watchpoints and steps in each."""

import re

from tests.minikernel.kdb.conftest import build
from tests.minikernel.kdb.test_sessions import session


def test_a_breakpoint_stops_each_thread_and_steps_stay_in_it(arch: str) -> None:
    program = build(arch, "threads")
    with session(program.parent, program=program.name) as (it, printed):
        it.execute("break work")
        seen = []
        for command in ("run", "continue"):
            printed.clear()
            it.execute(command)
            assert "work (argument=0x" in "".join(printed)
            task = it.kernel.current
            assert task is not None
            seen.append(task.pid)
            it.execute("stepi 20")
            assert it.kernel.current is task
        assert seen == [3, 4]
        printed.clear()
        it.execute("threads")
        states = re.findall(r"^[* ] +(\d+) +2 ([RS]) threads", "".join(printed), re.MULTILINE)
        assert {"2", "4"} <= {pid for pid, _ in states}


def test_a_watchpoint_sees_what_every_thread_writes(arch: str) -> None:
    program = build(arch, "threads")
    with session(program.parent, program=program.name) as (it, printed):
        it.execute("tbreak work")
        it.execute("run")
        it.execute("watch *(int*)&shared")
        for _ in range(6):
            it.execute("continue")
        assert re.findall(r"New value = (\d+)", "".join(printed)) == ["1", "2", "3", "5", "7", "9"]
        it.execute("delete")
        it.execute("continue")
        assert printed[-1] == "[Inferior 1 (process 2) exited normally]\n"
