"""Memory pressure for minutes: ``python -m tests.stress [--minutes N] [--seed N]``.

Programs that fork, map, share, touch and verify run over and over, on machines of other sizes, paging modes, reclaim
policies and time slices each time, with the kernel's books checked after every reclaim and its memory counted at the
end.  The choice is a function of the seed; a run that goes wrong is printed as the command line that shows it again.
"""

import argparse
import random
import shlex
import subprocess
import sys
import time
from typing import Final

from guest.builder import ROOT, build_all, programs, targets
from minikernel.mm.policy import POLICIES

# Program -> sizes of RAM and swap in MiB that it gets along with.
PROGRAMS: Final = {
    "pressure/swapstorm": ((8, 96), (12, 96), (16, 64), (24, 64)),
    "pressure/thrash": ((4, 32), (6, 32), (8, 32)),
    "pressure/seven": ((12, 64), (16, 64), (24, 64)),
    "ipc/shm_random": ((4, 32), (6, 32)),
    "process/fork_cow": ((4, 16), (5, 16)),
    "stress/mappings": ((5, 64), (8, 64)),
    "stress/malloc": ((6, 64), (8, 64)),
}
MACHINES: Final = {
    "x86-64": ((),),
    "i386": ((), ("--cpu", "i386", "--paging", "pae"), ("--cpu", "i386", "--paging", "2level")),
}


def main() -> int:
    """The command line; 1 if a run went wrong."""
    parser = argparse.ArgumentParser(prog="stress", description="Run programs short of memory for minutes.")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    wanted = [
        target
        for target in targets(programs())
        if target.program.name in PROGRAMS and target.variant == target.program.variants[0]
    ]
    build_all(wanted)
    chance = random.Random(options.seed)
    natively = {
        target: subprocess.run([str(target.path)], capture_output=True, check=False, cwd="/tmp").stdout
        for target in wanted
    }
    end = time.monotonic() + 60 * options.minutes
    runs = wrong = 0
    while time.monotonic() < end:
        target = chance.choice(wanted)
        ram, swap = chance.choice(PROGRAMS[target.program.name])
        command = [
            *(sys.executable, "-m", "minikernel", "run", "--leaks", "--sysctl", "vm.debug_vm=1"),
            *("--ram", f"{ram}M", "--swap", f"{swap // 2}M,pri=1", "--swap", f"{swap}M,pri={chance.randint(0, 2)}"),
            *("--policy", chance.choice(sorted(POLICIES)), "--schedule-seed", str(chance.randint(1, 10**6))),
            *("--sysctl", f"vm.swappiness={chance.choice((0, 10, 60, 100, 200))}"),
            *chance.choice(MACHINES[target.arch]),
            *("--cwd", "/tmp", "--", str(target.path)),
        ]
        done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT, timeout=600)
        runs += 1
        if done.stdout != natively[target] or not done.stderr.endswith(b"nothing is lost\n"):
            wrong += 1
            print(f"WRONG: {shlex.join(command)}\n{done.stdout[-500:].decode()}\n{done.stderr[-800:].decode()}")
    print(f"{runs} runs, {wrong} of them wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
