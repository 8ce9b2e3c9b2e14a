"""What both kinds of signal frame are built from."""

from dataclasses import dataclass

from emu.x86 import VirtAddr
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import Sigaction
from minikernel.task.task import Task


@dataclass(slots=True)
class FrameRequest:
    """A frame to build: below *sp*, for *info*, to enter *action*; *mask* is what sigreturn blocks again."""

    task: Task
    info: Siginfo
    action: Sigaction
    sp: VirtAddr
    mask: int
