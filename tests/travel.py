"""``make travel``: walks back and forth through a run of over 100 million instructions, 50 processes and swap.

Each place that a walk comes to is compared with what it is in a straight run: RAM, registers, FPU, clock, events.
"""

import argparse

from bench.travel import crowd
from tests.minikernel.kdb.walks import walk


def main() -> None:
    """The command line; an AssertionError tells what is different, and by which commands."""
    parser = argparse.ArgumentParser(prog="travel", description="Walk back and forth through a long run.")
    parser.add_argument("--moves", type=int, default=12, help="how many places are gone to (default: 12)")
    parser.add_argument("--seed", type=int, default=1, help="of the walk (default: 1)")
    options = parser.parse_args()
    for arch in ("x86-64", "i386"):
        walk(crowd(arch), places=9, moves=options.moves, seed=options.seed)
        print(f"{arch}: {options.moves} moves, every place as in a straight run")


if __name__ == "__main__":
    main()
