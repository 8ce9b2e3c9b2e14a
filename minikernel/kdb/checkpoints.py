"""Checkpoints: forked copies of the machine's process that sleep, and how one of them becomes the machine again.

    the machine ── fork ──> checkpoint, asleep on its control socket
                                │  an order arrives: fork again, the checkpoint sleeps on
                                └──> a copy: goes where the order says and tells what it found, or becomes the machine

A copy has the machine's past (RAM, kernel, events heard) from its checkpoint, and the user's things (points, values,
settings) from whoever sent the order.  What the program got from the host lies in a journal, which the order brings.
Only the machine holds the other ends of the control sockets: when it ends without an heir, every checkpoint ends.
"""

import contextlib
import gc
import os
import resource
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from minikernel.fs.hostjournal import Answer, Journal
from minikernel.kdb import watching, wire
from minikernel.kdb.command import CommandError
from minikernel.kdb.machine import Pause, Position, Why

if TYPE_CHECKING:
    from minikernel.kdb.session import Session

Then = Callable[["Session"], Any]
"""What a copy does: a function of a module, or functools.partial of one, for it is pickled."""

SERVICE: Final = 3000
"""What one service of the kernel weighs, in instructions, with all that the debugger notes of it."""

_INTERVAL: Final = 10_000_000  # between two checkpoints: what is run again to go back is a tenth of a second
_LOOK: Final = 64  # turns between two looks at the front end
_MOST: Final = 32
_MOST_PAGES: Final = 1 << 18  # 1 GiB
_FEWEST: Final = 4  # these are kept whatever they weigh
_PATIENCE_MS: Final = 100  # how soon Ctrl-C is noticed while a copy works
_NEAR: Final = 20_000  # instructions in front of a target at which another checkpoint is worth it


def work(position: Position) -> int:
    """How long it takes to run to *position* from the start, in instructions."""
    return position.icount + SERVICE * position.services


@dataclass(slots=True)
class Checkpoint:
    """A sleeping copy, and our end of its control socket."""

    position: Position
    pid: int
    events: int  # told so far
    answers: int  # of the journal, that it has used
    pages: int  # that were unshared since the checkpoint before: what it weighs, at most
    pinned: bool  # nothing before it leads here: never thinned out
    control: socket.socket


@dataclass(frozen=True, slots=True)
class Order:
    """What a copy of a checkpoint is to do."""

    run: Then
    then: Then | None  # None: tell what *run* gives, and end; otherwise become the machine, and answer the request
    user: dict[str, Any]  # Session.users
    answers: list[Answer]  # of the journal, those that the checkpoint has not used
    rows: list[tuple[Position, int, int, int, int, bool]]  # the other checkpoints, whose sockets come along


class Woken(BaseException):
    """A process that is a fresh copy of a checkpoint; it has an order to obey."""

    def __init__(self, order: Order, sockets: list[socket.socket]) -> None:
        super().__init__()
        self.order = order
        self.sockets = sockets  # to whoever gave the order, then those of the checkpoints


class Timeline:
    """The checkpoints of one session, and the copies that are made of them."""

    def __init__(self, session: "Session", lifeline: int) -> None:
        self._session = session
        self._poller = select.poll()
        self._poller.register(lifeline, 0)  # its other end is the front end's; hanging up is told in any case
        self._lifeline = lifeline
        self._countdown = _LOOK
        self._due = 0  # work: the next checkpoint is taken there
        self._faults = 0
        self.scouting = False  # this copy will not last
        self.enabled = True
        self.changed = False  # by the user, at some time: the run does not lead here from its start
        self.points: list[Checkpoint] = []  # by position
        self.journal = Journal()

    def begin(self) -> None:
        """A machine has just been made: its past begins here."""
        kernel = self._session.kernel
        self.forget()
        self.changed = False
        self.journal = Journal()
        kernel.vfs.keep_journal(self.journal)
        kernel.vfs.doorbell.lifeline = self._lifeline
        self.enabled = self.why_not() is None
        if self.enabled:
            self.take()

    def why_not(self) -> str | None:
        """Why this run cannot be gone over again; None: it can."""
        kernel = self._session.kernel
        if kernel.clock.is_real:
            return "The run follows the host's clock: it cannot be gone over again."
        if any(bind.writable for bind in kernel.config.binds):
            return "The program may write to the host's files (--bind ...:rw): running again would write again."
        return None

    def begin_here(self) -> None:
        """The user has changed the machine: no run comes to this by itself, and the past begins here."""
        self.changed = True
        del self.journal.answers[self.journal.next :]
        self.forget()
        if self.enabled:
            self.take()

    def forget(self) -> None:
        """End all checkpoints."""
        for checkpoint in self.points:
            checkpoint.control.close()
        self.points.clear()

    # ---- taking them

    def on_turn(self) -> None:
        """Between two services: take a checkpoint if it is time, and end if the front end has gone."""
        self._countdown -= 1
        machine = self._session.machine
        due = machine.icount + SERVICE * machine.position.services >= self._due
        if due or not self._countdown:
            self._countdown = _LOOK
            if self._poller.poll(0):
                raise wire.GoneError("the front end has ended")
        if due and self.enabled and not self.scouting:
            self.take()

    def take(self, *, pinned: bool = False) -> Checkpoint:
        """Make a checkpoint of the present, unless there is one."""
        position = self._session.machine.position
        self._due = work(position) + _INTERVAL
        there = next((each for each in self.points if each.position == position), None)
        if there is not None:
            there.pinned |= pinned
            return there
        gc.freeze()  # looking for garbage in what is shared would unshare it
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            ours.close()
            self._sleep(theirs)
        theirs.close()
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        made = Checkpoint(
            position, pid, self._session.nr_events, self.journal.next, faults - self._faults, pinned, ours
        )
        self._faults = faults
        self._insert(made)
        self._thin()
        return made

    def _insert(self, made: Checkpoint) -> None:
        at = next((i for i, each in enumerate(self.points) if each.position > made.position), len(self.points))
        self.points.insert(at, made)

    def remove(self, checkpoint: Checkpoint) -> None:
        """End *checkpoint*."""
        self.points.remove(checkpoint)
        checkpoint.control.close()

    def _thin(self) -> None:
        """Keep within the bounds: what goes is the one whose gap would be the smallest for its distance from here."""
        while len(self.points) > _MOST or (
            len(self.points) > _FEWEST and sum(each.pages for each in self.points) > _MOST_PAGES
        ):
            here = work(self._session.machine.position)
            best: tuple[float, Checkpoint, Checkpoint] | None = None
            for before, each, after in zip(self.points, self.points[1:], self.points[2:], strict=False):
                if each.pinned:
                    continue
                gap = work(after.position) - work(before.position)
                score = gap / (abs(here - work(each.position)) + _INTERVAL)
                if best is None or score < best[0]:
                    best = score, each, after
            if best is None:
                return
            _, victim, heir = best
            heir.pages = max(heir.pages, victim.pages)
            self.remove(victim)

    # ---- being one

    def _sleep(self, control: socket.socket) -> NoReturn:
        """Be a checkpoint: wait for orders, until nobody can give one any more.

        Raises:
            Woken: in a copy.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.forget()
        poller = select.poll()
        poller.register(control, select.POLLIN)
        poller.register(self._lifeline, 0)
        while True:
            if any(fd == self._lifeline for fd, _ in poller.poll()):
                os._exit(0)
            try:
                order, sockets = wire.receive_with_sockets(control)
            except wire.GoneError:
                os._exit(0)
            if not os.fork():
                control.close()
                raise Woken(order, sockets)
            for each in sockets:
                each.close()

    # ---- sending copies

    def before(self, position: Position) -> Checkpoint:
        """The newest checkpoint that is not behind *position*.

        Raises:
            CommandError: this run cannot be gone over again.
        """
        reason = self.why_not()
        if reason is not None:
            raise CommandError(reason)
        found = [each for each in self.points if each.position <= position]
        if not found:
            raise CommandError("No more reverse-execution history.")
        return found[-1]

    def scout(self, checkpoint: Checkpoint, run: Then) -> Any:
        """What *run* gives in a copy of *checkpoint*.

        Raises:
            CommandError: Ctrl-C, or the copy failed.
        """
        channel = self._send(checkpoint, Order(run, None, self._session.users(), self._tail(checkpoint), []), [])
        try:
            return self._wait(channel)
        finally:
            channel.close()

    def become(self, checkpoint: Checkpoint, run: Then, then: Then) -> NoReturn:
        """Let a copy of *checkpoint* do *run*, and be the machine from then on; it does *then*, and replies with that.

        This process becomes a checkpoint of the present.

        Raises:
            CommandError: Ctrl-C, or the copy failed; everything is as before.
        """
        self._session.flush()
        ours, theirs = socket.socketpair()
        position = self._session.machine.position
        here = Checkpoint(
            position, os.getpid(), self._session.nr_events, self.journal.next, 0, pinned=False, control=ours
        )
        others = [*self.points, *([] if any(each.position == position for each in self.points) else [here])]
        rows = [(each.position, each.pid, each.events, each.answers, each.pages, each.pinned) for each in others]
        order = Order(run, then, self._session.users(), self._tail(checkpoint), rows)
        channel = self._send(checkpoint, order, [each.control for each in others])
        try:
            self._wait(channel)
        except BaseException:
            channel.close()
            ours.close()
            theirs.close()
            raise
        ours.close()
        self.forget()
        channel.send(wire.Shown())
        channel.close()
        self._sleep(theirs)

    def _tail(self, checkpoint: Checkpoint) -> list[Answer]:
        return self.journal.answers[checkpoint.answers :]

    @staticmethod
    def _send(checkpoint: Checkpoint, order: Order, sockets: list[socket.socket]) -> wire.Channel:
        """Give *order* to *checkpoint*; where its copy will answer."""
        ours, theirs = socket.socketpair()
        try:
            wire.send_with_sockets(checkpoint.control, order, [theirs, *sockets])
        except wire.GoneError as error:
            ours.close()
            raise CommandError(
                f"The checkpoint at instruction {checkpoint.position.icount:,} is gone: {error}."
            ) from None
        finally:
            theirs.close()
        return wire.Channel(ours)

    def _wait(self, channel: wire.Channel) -> Any:
        """What a copy tells; Ctrl-C ends it."""
        poller = select.poll()
        poller.register(channel.fileno(), select.POLLIN)
        try:
            pid = channel.receive()
            while not poller.poll(_PATIENCE_MS):
                self._heed_interrupt(pid)
            self._heed_interrupt(pid)
            told = channel.receive()
        except wire.GoneError:
            raise CommandError("The copy of the machine that was sent there has ended.") from None
        if isinstance(told, CommandError):
            raise told
        return told

    def _heed_interrupt(self, pid: int) -> None:
        """Ctrl-C: copy *pid* is not wanted any more.  Raises CommandError."""
        machine = self._session.machine
        if machine.was_interrupted:
            machine.forget_interrupt()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            raise CommandError("Quit: the program is where it was.")

    # ---- being a copy

    def obey(self, order: Order, sockets: list[socket.socket]) -> Then:
        """Do what *order* says; the rest of it, which answers the request.  A scout does not return."""
        first, *others = sockets
        session, channel = self._session, wire.Channel(first)
        channel.send(os.getpid())
        self.points = [
            Checkpoint(*row, control=control) for row, control in zip(order.rows, others, strict=True)
        ]  # fmt: skip
        self.points.sort(key=lambda each: each.position)
        self.journal.answers[self.journal.next :] = order.answers
        self.scouting = order.then is None
        session.adopt(order.user)
        told: Any = None
        try:
            with session.silence():
                told = order.run(session)
        except CommandError as error:
            told = error
        except AssertionError as error:
            told = CommandError(f"The run cannot be gone over again: {error}.")
        channel.send(told)
        if order.then is None or isinstance(told, CommandError):
            os._exit(0)
        try:
            channel.receive()  # the old machine lets go
        except wire.GoneError:  # or not
            os._exit(0)
        channel.close()
        return order.then

    def advance(self, icount: int | None, *, to: Position | None) -> Pause:
        """Run to instruction *icount*, at position *to* there, past all points; leave a checkpoint a little before.

        Raises:
            CommandError: Ctrl-C.
        """
        machine = self._session.machine
        machine.undisturbed = True
        try:
            if icount is not None and icount - machine.icount > 2 * _NEAR and not self.scouting:
                pause = machine.run(until=icount - _NEAR)
                if pause.why is Why.COUNTED:
                    self.take()
            pause = machine.run(to=to) if to is not None else machine.run(until=icount)
        finally:
            machine.undisturbed = False
        self._session.resolve()
        for point in watching.watchpoints(self._session):
            point.old = watching.value_of(self._session, point)
        if pause.why is Why.INTERRUPTED:
            raise CommandError("Quit: the program stopped on the way.")
        return pause
