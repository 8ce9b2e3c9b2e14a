"""The end of threads and processes.  Linux: kernel/exit.c (do_exit, do_group_exit, exit_notify, release_task).

Nothing in the kernel runs while a task ends, so a whole process ends in one go: there are no half-dead threads.
"""

from emu.x86 import VirtAddr
from minikernel.abi import signal as s
from minikernel.abi.errno import LinuxError
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.time import ticks
from minikernel.events import SchedProcessExit
from minikernel.mm.slab_objects import uncharge
from minikernel.mm.uaccess import put_user
from minikernel.task.futex import futex_wake
from minikernel.task.jobctl import first_thread, join_group_stop, kill_orphaned_pgrp
from minikernel.task.robust import exit_robust_list
from minikernel.task.task import Process, Task, TaskState

CORE_DUMPED = 0x80


def do_exit(task: Task, code: int) -> None:
    """End one thread; *code* in wait(2)'s form.  The last one takes the process with it."""
    process, kernel = task.process, task.kernel
    if task.state in {TaskState.ZOMBIE, TaskState.DEAD}:
        return
    task.exit_code = code
    if kernel.current is task:
        kernel.update_curr()
    if kernel.tracer.sink is not None:
        kernel.tracer.emit(SchedProcessExit(code))
    if task.blocked_call is not None:
        task.blocked_call.close()
        task.blocked_call = None
    kernel.scheduler.remove(task)
    task.state = TaskState.ZOMBIE
    release_memory(task)
    if task.sysvsem is not None:
        task.sysvsem.put(task.tgid)
        task.sysvsem = None
    kernel.shm.exit_task(task)
    task.files.put()
    task.fs.put()
    if task.stack:
        kernel.stacks.free(task.stack)
        task.stack = 0
    process.threads.remove(task)
    if task.stop_pending and not process.group_exiting and process.threads:
        join_group_stop(task)
    dead = process.dead_usage
    dead.utime += task.utime
    dead.stime += task.stime
    dead.nvcsw += task.nr_voluntary_switches
    dead.nivcsw += task.nr_involuntary_switches
    process.dead_io = [mine + others for mine, others in zip(task.io, process.dead_io, strict=True)]
    if task is not process.leader:
        task.state = TaskState.DEAD
        del kernel.tasks[task.pid]
        uncharge(task.objects)
    if not process.threads:
        if not process.group_exiting:
            process.exit_code = code
        process.group_exiting = True
        _exit_process(task)
    elif not process.group_exiting:
        from minikernel.task.signal import retarget_shared_pending

        retarget_shared_pending(task, ~task.blocked)


def do_group_exit(task: Task, code: int) -> None:
    """End every thread of the process; *code* in wait(2)'s form: status << 8, or the signal."""
    process = task.process
    if not process.group_exiting:
        process.group_exiting = True
        process.exit_code = code
    for thread in list(process.threads):
        do_exit(thread, process.exit_code)


def release_memory(task: Task) -> None:
    """Leave the address space, and tell who waits for this thread through it: mm_release, then exit_mm or exec_mmap."""
    if not task.has_mm:
        return
    exit_robust_list(task)
    if task.kernel.pi_states:
        from minikernel.task.futex_pi import exit_pi_state_list

        exit_pi_state_list(task)
    address, task.clear_child_tid = task.clear_child_tid, 0
    if address and task.mm.users > 1:
        try:
            put_user(task.mm, VirtAddr(address), 0, 4)
            futex_wake(task.kernel, task.mm, address, 1, shared=True)
        except LinuxError:
            pass  # the program unmapped it: nobody can wait there (mm_release ignores it too)
    task.kernel.leave_mm(task)
    end_vfork(task)


def end_vfork(task: Task) -> None:
    """The parent of a vfork goes on: the child has a memory of its own, or none any more (complete_vfork_done)."""
    if task.vfork_done is not None:
        queue, task.vfork_done = task.vfork_done, None
        queue.wake()


def _exit_process(task: Task) -> None:
    """The last thread has ended: reparent the children, and tell the parent (exit_notify)."""
    process, kernel = task.process, task.kernel
    process.zombie = True
    process.stopped = process.continued = False
    process.stop_count = process.stop_signal = process.cld_notify = 0
    _exit_timers(process)
    if process.tty is not None and process.session == process.pid:
        process.tty.disassociate(process)
    _reparent_children(kernel_reaper(task), process)
    kill_orphaned_pgrp(kernel, process, None)
    if process.leader is kernel.init:
        kernel.exit_code = process.exit_code
    parent = process.parent
    assert parent is not None, "_exit_process: a process without a parent"
    if parent is kernel.reaper or _notify_parent(process, parent):
        release_process(task, process)


def _exit_timers(process: Process) -> None:
    """Nothing comes any more (exit_itimers, hrtimer_cancel)."""
    if process.real_timer is not None:
        process.real_timer.cancel()
        process.real_timer = None
    process.cpu_timers = None
    for timer in list(process.posix_timers.values()):
        timer.delete()


def _notify_parent(process: Process, parent: Process) -> bool:
    """Tell *parent* that *process* has ended; whether it does not want to wait for it (do_notify_parent)."""
    sig = process.exit_signal
    autoreap = False
    if sig == s.SIGCHLD:
        action = parent.actions[s.SIGCHLD]
        autoreap = action.handler == s.SIG_IGN or bool(action.flags & s.SA_NOCLDWAIT)
        if action.handler == s.SIG_IGN:
            sig = 0
    if sig and parent.threads:
        from minikernel.task.signal import send_signal

        send_signal(first_thread(parent), child_siginfo(process, sig), group=True)
    parent.wait_chldexit.wake()
    return autoreap


def kernel_reaper(task: Task) -> Process:
    """Who adopts the children of *task*'s process: the nearest subreaper, or the kernel (find_new_reaper)."""
    ancestor = task.process.parent
    while ancestor is not None:
        if ancestor.is_subreaper and ancestor.threads:
            return ancestor
        ancestor = ancestor.parent
    return task.kernel.reaper


def _reparent_children(reaper: Process, process: Process) -> None:
    """forget_original_parent, reparent_leader."""
    children, process.children = process.children, []
    for child in children:
        leader = child.leader
        assert leader is not None, "_reparent_children: a process without a leader"
        child.parent = reaper
        reaper.children.append(child)
        child.exit_signal = s.SIGCHLD
        for thread in list(child.threads):
            if thread.pdeath_signal:
                from minikernel.task.signal import send_signal

                sender = process.leader.cred.uid if process.leader is not None else 0
                send_signal(thread, Siginfo(thread.pdeath_signal, pid=process.pid, uid=sender), group=True)
        if child.zombie and (reaper is leader.kernel.reaper or _notify_parent(child, reaper)):
            release_process(leader, child)
        kill_orphaned_pgrp(leader.kernel, child, process)


def release_process(task: Task, process: Process) -> None:
    """Forget a process whose end has been told (release_task)."""
    parent, leader = process.parent, process.leader
    assert parent is not None, "release_process: a process without a parent"
    assert leader is not None, "release_process: a process without a leader"
    parent.children.remove(process)
    leader.state = TaskState.DEAD
    del task.kernel.tasks[leader.pid]
    uncharge(leader.objects)
    uncharge(process.objects)


def child_siginfo(process: Process, sig: int) -> Siginfo:
    """What the signal to the parent, or waitid(2), tell of a child that has ended."""
    leader, code = process.leader, process.exit_code
    assert leader is not None, "child_siginfo: a process without a leader"
    if code & 0x7F:
        si_code, status = s.CLD_DUMPED if code & CORE_DUMPED else s.CLD_KILLED, code & 0x7F
    else:
        si_code, status = s.CLD_EXITED, code >> 8
    times = process.dead_usage
    return Siginfo(
        sig,
        si_code,
        pid=process.pid,
        uid=leader.cred.uid,
        status=status,
        utime=ticks(times.utime),
        stime=ticks(times.stime),
    )
