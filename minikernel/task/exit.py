"""The end of tasks.  Linux: kernel/exit.c (do_exit, do_group_exit)."""

from minikernel.events import SchedProcessExit
from minikernel.task.task import Task, TaskState


def do_exit(task: Task, code: int) -> None:
    """End one thread; *code* in wait(2)'s form.  The last one takes the process with it."""
    process, kernel = task.process, task.kernel
    if task.state in {TaskState.ZOMBIE, TaskState.DEAD}:
        return
    task.exit_code = code
    if kernel.tracer.sink is not None:
        kernel.tracer.emit(SchedProcessExit(code))
    if task.blocked_call is not None:
        task.blocked_call.close()
        task.blocked_call = None
    kernel.scheduler.remove(task)
    task.state = TaskState.ZOMBIE
    process.threads.remove(task)
    if process.threads:
        return
    if not process.group_exiting:
        process.exit_code = code
    process.group_exiting = True
    release(task)


def do_group_exit(task: Task, code: int) -> None:
    """End every thread of the process; *code* in wait(2)'s form: status << 8, or the signal."""
    process = task.process
    if not process.group_exiting:
        process.group_exiting = True
        process.exit_code = code
    for thread in list(process.threads):
        do_exit(thread, process.exit_code)


def release(task: Task) -> None:
    """Give back what the process held: memory, files, its place among the tasks."""
    kernel = task.kernel
    kernel.leave_mm(task)
    task.files.put()
    task.state = TaskState.DEAD
    del kernel.tasks[task.pid]
    if task is kernel.init:
        kernel.exit_code = task.process.exit_code
