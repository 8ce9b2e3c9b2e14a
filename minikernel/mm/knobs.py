"""The knobs of /proc/sys/vm that reclaim obeys (Documentation/admin-guide/sysctl/vm.rst)."""

from dataclasses import dataclass, field

from minikernel.mm.thp_knobs import ThpKnobs


@dataclass(slots=True)
class VmKnobs:
    """One machine's; ``Node.vm``."""

    swappiness: int = 60  # 0-200: how readily anonymous pages go, compared with file pages
    oom_kill_allocating_task: int = 0  # the task that asks dies, whoever it is
    oom_dump_tasks: int = 1  # the report lists the candidates
    panic_on_oom: int = 0
    vfs_cache_pressure: int = 100  # how readily dentries and inodes go
    thp: ThpKnobs = field(default_factory=ThpKnobs)
