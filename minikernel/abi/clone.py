"""Flags of clone(2), and struct clone_args.  Source: include/uapi/linux/sched.h."""

from struct import Struct
from typing import Final

CSIGNAL: Final = 0xFF
CLONE_NEWTIME: Final = 0x80  # of clone3 and unshare only: in clone(2) it is part of the signal
CLONE_VM: Final = 0x100
CLONE_FS: Final = 0x200
CLONE_FILES: Final = 0x400
CLONE_SIGHAND: Final = 0x800
CLONE_PIDFD: Final = 0x1000
CLONE_PTRACE: Final = 0x2000
CLONE_VFORK: Final = 0x4000
CLONE_PARENT: Final = 0x8000
CLONE_THREAD: Final = 0x1_0000
CLONE_NEWNS: Final = 0x2_0000
CLONE_SYSVSEM: Final = 0x4_0000
CLONE_SETTLS: Final = 0x8_0000
CLONE_PARENT_SETTID: Final = 0x10_0000
CLONE_CHILD_CLEARTID: Final = 0x20_0000
CLONE_DETACHED: Final = 0x40_0000
CLONE_UNTRACED: Final = 0x80_0000
CLONE_CHILD_SETTID: Final = 0x100_0000
CLONE_NEWCGROUP: Final = 0x200_0000
CLONE_NEWUTS: Final = 0x400_0000
CLONE_NEWIPC: Final = 0x800_0000
CLONE_NEWUSER: Final = 0x1000_0000
CLONE_NEWPID: Final = 0x2000_0000
CLONE_NEWNET: Final = 0x4000_0000
CLONE_IO: Final = 0x8000_0000
CLONE_CLEAR_SIGHAND: Final = 0x1_0000_0000
CLONE_INTO_CGROUP: Final = 0x2_0000_0000
CLONE_NAMESPACES: Final = (
    CLONE_NEWNS
    | CLONE_NEWCGROUP
    | CLONE_NEWUTS
    | CLONE_NEWIPC
    | CLONE_NEWUSER
    | CLONE_NEWPID
    | CLONE_NEWNET
    | CLONE_NEWTIME
)

CLONE_ARGS_SIZE_VER0: Final = 64
CLONE_ARGS_SIZE_VER2: Final = 88
# flags pidfd child_tid parent_tid exit_signal stack stack_size tls, set_tid set_tid_size, cgroup
CLONE_ARGS: Final = Struct("<11Q")
