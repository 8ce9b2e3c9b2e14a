"""What system calls set about a task, beside its ids and signals: one object, inherited as Linux does.

Linux: fields of struct task_struct, signal_struct, cred (securebits) and mm_struct (dumpable, def_flags).
"""

from typing import Final

from minikernel.abi.sched import SCHED_NORMAL

DEFAULT_TIMER_SLACK_NS: Final = 50_000
SUID_DUMP_DISABLE: Final = 0
SUID_DUMP_USER: Final = 1
TSC_ENABLE: Final = 1


class Attributes:
    """Attributes of one task.  A new thread or process gets a ``fork()`` of its maker's."""

    __slots__ = (
        "default_timer_slack_ns",
        "did_exec",
        "dumpable",
        "io_flusher",
        "mce_kill",
        "mdwe",
        "membarrier",
        "memory_merge",
        "mempolicy",
        "nice",
        "no_new_privs",
        "policy",
        "reset_on_fork",
        "rt_priority",
        "securebits",
        "timer_slack_ns",
        "tsc_mode",
    )

    def __init__(self) -> None:
        self.policy = SCHED_NORMAL
        self.nice = 0
        self.rt_priority = 0
        self.reset_on_fork = False
        self.timer_slack_ns = self.default_timer_slack_ns = DEFAULT_TIMER_SLACK_NS
        self.dumpable = SUID_DUMP_USER
        self.no_new_privs = False
        self.securebits = 0
        self.tsc_mode = TSC_ENABLE
        self.mempolicy = (0, 0)  # MPOL_* mode with its flags, and the set of nodes
        self.membarrier = 0  # the MEMBARRIER_CMD_REGISTER_* that were done
        self.mdwe = 0
        self.mce_kill = 2  # PR_MCE_KILL_DEFAULT
        self.io_flusher = False
        self.memory_merge = False
        self.did_exec = False  # execve was called since fork: setpgid(2) of the parent comes too late

    def fork(self) -> "Attributes":
        """What a child starts with (copy_process, sched_fork)."""
        child = Attributes()
        for name in Attributes.__slots__:
            setattr(child, name, getattr(self, name))
        child.default_timer_slack_ns = self.timer_slack_ns
        child.did_exec = False
        if self.reset_on_fork:
            child.reset_on_fork = False
            if child.policy != SCHED_NORMAL:
                child.policy, child.rt_priority = SCHED_NORMAL, 0
            child.nice = max(child.nice, 0)
        return child

    def exec(self) -> None:
        """What a new program keeps and loses (begin_new_exec, setup_new_exec)."""
        self.dumpable = SUID_DUMP_USER
        self.securebits &= ~(1 << 4)  # SECURE_KEEP_CAPS
        self.membarrier = 0
        self.mdwe = 0
        self.memory_merge = False
        self.did_exec = True
