"""What both kinds of signal frame are built from."""

from msgspec import Struct

from emu.x86 import VirtAddr
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import Sigaction
from minikernel.task.task import Task


class FrameRequest(Struct):
    """A frame to build: below *sp*, for *info*, to enter *action*; *mask* is what sigreturn blocks again.

    *on_altstack*: all of it must lie on the task's alternate stack.
    """

    task: Task
    info: Siginfo
    action: Sigaction
    sp: VirtAddr
    mask: int
    on_altstack: bool

    def check(self, frame: int) -> None:
        """Errors: EFAULT: *frame*, the lowest address written to, leaves the stack it belongs on."""
        stack = self.task.sigstack
        if frame < 0 or (self.on_altstack and not stack.sp < frame <= stack.sp + stack.size):
            raise LinuxError(Errno.EFAULT, "there is no room for the frame")
