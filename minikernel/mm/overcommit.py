"""How much memory may be promised: the commit limit.  Linux: mm/util.c, Documentation/mm/overcommit-accounting.rst.

A promise is kept in one of two ways, and counted where it is kept: a mapping with VM_ACCOUNT counts its pages while it
is in an address space (``MmStruct._account``), shared memory while it exists (``PageCache.nr_committed``).  So nothing
is ever taken back after an error, and a recount is a sum (``validate.validate_node``).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT
from minikernel.abi.errno import Errno, LinuxError
from minikernel.mm.thp_knobs import ThpKnobs

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.page_alloc import Node

DEFAULT_MAX_MAP_COUNT: Final = 65530

OVERCOMMIT_GUESS: Final = 0
OVERCOMMIT_ALWAYS: Final = 1
OVERCOMMIT_NEVER: Final = 2

_KB_SHIFT: Final = PAGE_SHIFT - 10
_ADMIN_RESERVE_MAX_KB: Final = 1 << 13
_USER_RESERVE_MAX_KB: Final = 1 << 17


class VmSysctl:
    """The knobs of /proc/sys/vm that address spaces and reclaim obey, and what they govern; one for a machine.

    *vm_committed_as*: pages that are promised.  *total_swap_pages*: what swap adds to the limits.  *current_mm*: the
    address space of the task that acts, for shared memory, which belongs to none (None: the kernel itself acts).
    """

    __slots__ = (
        "admin_reserve_kbytes",
        "current_mm",
        "debug_vm",
        "max_map_count",
        "oom_dump_tasks",
        "oom_kill_allocating_task",
        "overcommit_kbytes",
        "overcommit_memory",
        "overcommit_ratio",
        "panic_on_oom",
        "swappiness",
        "thp",
        "total_swap_pages",
        "user_reserve_kbytes",
        "vfs_cache_pressure",
        "vm_committed_as",
    )

    def __init__(self) -> None:
        self.max_map_count = DEFAULT_MAX_MAP_COUNT
        self.overcommit_memory = OVERCOMMIT_GUESS
        self.overcommit_ratio = 50  # percent of RAM, unless overcommit_kbytes says it in KiB
        self.overcommit_kbytes = 0
        self.admin_reserve_kbytes = 0
        self.user_reserve_kbytes = 0
        self.swappiness = 60  # 0-200: how readily anonymous pages go, compared with file pages
        self.oom_kill_allocating_task = 0  # the task that asks dies, whoever it is
        self.oom_dump_tasks = 1  # the report lists the candidates
        self.panic_on_oom = 0  # nobody is killed: the machine stops
        self.vfs_cache_pressure = 100  # how readily dentries and inodes go, in percent
        self.thp = ThpKnobs()
        self.debug_vm = 0  # ours: check the lists, the slots and the free frames after every reclaim (CONFIG_DEBUG_VM)
        self.total_swap_pages = 0
        self.vm_committed_as = 0
        self.current_mm: Callable[[], MmStruct | None] = lambda: None

    def init_reserves(self, free_pages: int) -> None:
        """A thirty-second of what is free at boot, within bounds: init_admin_reserve, init_user_reserve."""
        free_kbytes = free_pages << _KB_SHIFT
        self.admin_reserve_kbytes = min(free_kbytes // 32, _ADMIN_RESERVE_MAX_KB)
        self.user_reserve_kbytes = min(free_kbytes // 32, _USER_RESERVE_MAX_KB)


def vm_commit_limit(node: "Node") -> int:
    """Pages that mode 2 lets be promised: CommitLimit, same name."""
    sysctl = node.vm_sysctl
    if sysctl.overcommit_kbytes:
        allowed = sysctl.overcommit_kbytes >> _KB_SHIFT
    else:
        in_pool = node.hugetlb.total << node.hugetlb.order
        allowed = (node.totalram_pages - in_pool) * sysctl.overcommit_ratio // 100
    return allowed + sysctl.total_swap_pages


def vm_enough_memory(node: "Node", mm: "MmStruct | None", pages: int) -> None:
    """Check that *pages* more may be promised to *mm*, None: to the kernel: __vm_enough_memory.

    It only looks; whoever keeps the promise counts it.

    Errors:
        ENOMEM: more than the machine and its swap have (mode 0), or the commit limit (mode 2).
    """
    sysctl = node.vm_sysctl
    if sysctl.overcommit_memory == OVERCOMMIT_GUESS:
        if pages > node.totalram_pages + sysctl.total_swap_pages:
            raise LinuxError(Errno.ENOMEM, f"{pages} pages are more than the machine has")
        return
    if sysctl.overcommit_memory == OVERCOMMIT_ALWAYS:
        return
    allowed = vm_commit_limit(node)
    if mm is not None:
        if not mm.cap_sys_admin:
            allowed -= sysctl.admin_reserve_kbytes >> _KB_SHIFT
        # One process shall not take so much that its user cannot even look for it.
        allowed -= min(mm.total_vm // 32, sysctl.user_reserve_kbytes >> _KB_SHIFT)
    if sysctl.vm_committed_as + pages >= allowed:
        raise LinuxError(Errno.ENOMEM, f"{pages} pages more than may be promised")
