"""A kernel panic: we are wrong, not the guest.  What a developer needs to find out why, instead of a traceback.

Linux: kernel/panic.c; the call trace reads like dump_stack's.
"""

from traceback import extract_tb
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minikernel.kernel import Kernel

_FRAMES = 12


def panic_report(kernel: "Kernel | None", error: BaseException) -> str:
    """Lines for stderr about *error*, which nobody expected; *kernel* None: it happened before there was one."""
    lines = [f"minikernel: kernel panic - not syncing: {type(error).__name__}: {error}"]
    if kernel is not None:
        lines += _state(kernel)
    lines.append("  call trace, innermost first:")
    frames = extract_tb(error.__traceback__)[-_FRAMES:]
    lines += [f"    {frame.name}  {frame.filename}:{frame.lineno}" for frame in reversed(frames)]
    lines.append("  This is a bug in minikernel.  The same command line will show it again: please report it.")
    return "\n".join(lines) + "\n"


def _state(kernel: "Kernel") -> list[str]:
    cpu, task, node = kernel.cpu, kernel.current, kernel.node
    lines = []
    if task is not None:
        name = task.comm.decode(errors="backslashreplace")
        call = f", in system call {task.orig_ax}" if task.orig_ax >= 0 else ""
        lines.append(f"  task   {task.pid} ({name}), {task.abi.name}{call}")
    lines.append(f"  cpu    rip {cpu.regs[16]:#x} rsp {cpu.regs[4]:#x}, {cpu.icount} instructions retired")
    lines.append(f"  memory {node.nr_free} of {node.totalram_pages} frames free, {len(kernel.tasks)} tasks")
    return lines
