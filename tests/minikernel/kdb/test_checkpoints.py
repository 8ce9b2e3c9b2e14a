"""Which checkpoints stay: few, close together near the present, and never the first nor a kept one gone."""

import os
import socket
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

from minikernel.kdb.checkpoints import Checkpoint, Timeline
from minikernel.kdb.machine import Position

MILLION = 1_000_000


class Past:
    """A timeline whose checkpoints are no processes."""

    def __init__(self) -> None:
        self.machine = SimpleNamespace(position=Position(0, 0))
        self._pipe = os.pipe()
        self.timeline = Timeline(cast("Any", SimpleNamespace(machine=self.machine)), self._pipe[0])

    def take(self, millions: int, *, pages: int = 10, pinned: bool = False) -> None:
        position = Position(millions * MILLION, 0)
        self.machine.position = position
        end = socket.socket()
        self.timeline._insert(Checkpoint(position, 0, 0, 0, pages, pinned, end))
        self.timeline._thin()

    def left(self) -> list[int]:
        return [each.position.icount // MILLION for each in self.timeline.points]

    def close(self) -> None:
        self.timeline.forget()
        for fd in self._pipe:
            os.close(fd)


def test_a_long_past_has_few_checkpoints_with_gaps_that_grow_with_age() -> None:
    past = Past()
    for at in range(0, 20_000, 10):
        past.take(at, pinned=at == 5_000)
    left = past.left()
    assert len(left) == 32
    assert (left[0], left[-1]) == (0, 19_990)
    assert 5_000 in left
    gaps = [after - before for before, after in pairwise(left)]
    assert gaps[-1] == gaps[-2] == 10
    thirds = [gaps[:10], gaps[10:20], gaps[20:]]
    assert max(thirds[2]) < min(max(thirds[1]), max(thirds[0]))
    past.close()


def test_heavy_checkpoints_are_fewer() -> None:
    past = Past()
    for at in range(0, 300, 10):
        past.take(at, pages=1 << 16)
    assert len(past.left()) == 4
    assert past.left()[0] == 0
    past.close()


def test_a_checkpoint_made_on_a_visit_to_the_past_is_in_its_place() -> None:
    past = Past()
    for at in (0, 40, 10, 30, 20):
        past.take(at)
    assert past.left() == [0, 10, 20, 30, 40]
    past.close()
