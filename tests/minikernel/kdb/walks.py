"""Walks back and forth through a run, compared with a straight one: what a machine is at a place does not depend on how
it got there."""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from minikernel.config import Config
from minikernel.debug import session_maker
from minikernel.kdb.front import Front
from minikernel.kdb.session import Session
from tests.minikernel.kdb.test_machine import nowhere

State = dict[str, Any]


def different(found: State, expected: State) -> State:
    """What is not as it should be."""
    return {name: (value, expected[name]) for name, value in found.items() if value != expected[name]}


def state_of(session: Session) -> Callable[[Any], State]:
    """A handler that says all that a machine is."""

    def tell(_payload: Any) -> State:
        kernel = session.kernel
        cpu = kernel.cpu
        return {
            "position": tuple(session.machine.position),
            "ram": hashlib.sha256(kernel.physmem.ram).hexdigest(),
            "registers": tuple(cpu.regs),
            "flags": cpu.rflags,
            "fpu": hashlib.sha256(cpu.fxsave()).hexdigest(),
            "task": kernel.current.pid if kernel.current is not None else 0,
            "tasks": sorted(kernel.tasks),
            "clock": kernel.clock.now_ns(),
            "events": session.nr_events,
            "last": [str(event) for event in list(session.events)[-1:]],
            "switches": kernel.nr_switches,
            "calls": kernel.nr_syscalls,
            "end": kernel.exit_code,
        }

    return tell


@contextmanager
def front_of(config: Config) -> Iterator[tuple[Front, list[str]]]:
    """The front end of a debugger on *config*, and what it shows.  The program writes to nowhere."""
    shown: list[str] = []
    front = Front(shown.append)
    with nowhere():
        try:
            front.start(session_maker(config), {"state": state_of})
            yield front, shown
        finally:
            front.close()


def straight(config: Config, places: int) -> tuple[dict[int, State], State]:
    """What the machine is at so many places of a run that only goes forward, and at its end."""
    with front_of(config) as (front, _):
        front.execute("goto 1000000000000")
        length = front.request("state", None)["position"][0]
    states = {}
    with front_of(config) as (front, _):
        for number in range(1, places):
            count = length * number // places
            front.execute(f"goto {count}")
            states[count] = front.request("state", None)
        front.execute("goto 1000000000000")
        return states, front.request("state", None)


def walk(config: Config, *, places: int, moves: int, seed: int) -> None:
    """Go to *places*, from one to another, *moves* times, and assert that they are what they are in a straight run."""
    expected, end = straight(config, places)
    length = end["position"][0]
    chance = random.Random(seed)
    with front_of(config) as (front, shown):
        for _ in range(moves):
            count = chance.choice([*expected, length])
            path = []
            for _ in range(chance.randrange(3)):
                command = chance.choice(["reverse-stepi", "stepi", "goto"])
                argument = chance.randrange(length) if command == "goto" else chance.choice([1, 1, 2, 17, 300])
                path.append(f"{command} {argument}")
                front.execute(path[-1])
            path.append(f"goto {count}" if count < length else "goto 1000000000000")
            assert front.execute(path[-1]), (path, shown[-3:])
            found = different(front.request("state", None), expected[count] if count < length else end)
            assert not found, (path, found)
        front.execute("goto 1000000000000")
        assert different(front.request("state", None), end) == {}
