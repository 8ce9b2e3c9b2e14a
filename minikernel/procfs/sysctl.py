"""/proc/sys: the knobs that mean something here, and the numbers that programs ask for.

Linux: kernel/sysctl.c, kernel/utsname_sysctl.c, drivers/char/random.c, mm/util.c.
"""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, Union

from minikernel.abi.abi import I386, X86_64
from minikernel.abi.capability import CAP_LAST_CAP
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.sem import SEMMSL
from minikernel.abi.sysinfo import KERNEL_RELEASE, KERNEL_VERSION
from minikernel.fs.fdtable import NR_OPEN
from minikernel.fs.inode import Inode
from minikernel.fs.pipe import PIPE_MAX_SIZE
from minikernel.ipc.util import IPCMNI
from minikernel.kernel import PID_MAX, Kernel
from minikernel.mm.shrinker import drop_slab
from minikernel.procfs.node import ProcDir, ProcFs, ProcText, fixed_dir

_Knob: TypeAlias = tuple[Callable[[], bytes], Callable[[bytes], None] | None]
_Tree: TypeAlias = Mapping[str, Union["_Tree", _Knob, int, bytes]]

_UTS_MAX: Final = 64
_MAX_CORE_PATTERN: Final = 127  # CORENAME_MAX_SIZE, less its NUL
_INT_MAX: Final = (1 << 31) - 1


def set_sysctl(kernel: Kernel, name: str, value: str) -> None:
    """Set knob *name*, as in sysctl(8), dots or slashes between its parts.

    Raises:
        ValueError: no such knob, one that cannot be written, or a value it does not take.
    """
    what: _Tree | _Knob | int | bytes | None = _tree(kernel)
    for part in name.replace("/", ".").split("."):
        what = what.get(part) if isinstance(what, Mapping) else None
    if not isinstance(what, tuple) or what[1] is None:
        raise ValueError(f"{name}: no sysctl that can be set")
    try:
        what[1](value.encode())
    except LinuxError as error:
        raise ValueError(f"{name}: {error.why}") from error


def sysctl_dir(sb: ProcFs, ino: int, kernel: Kernel) -> ProcDir:
    """The directory /proc/sys."""
    numbers = iter(range(ino, ino + (1 << 16)))

    def build(tree: _Tree) -> ProcDir:
        own = next(numbers)
        children: dict[bytes, Inode] = {}
        for name, what in tree.items():
            if isinstance(what, Mapping):
                children[name.encode()] = build(what)
                continue
            make, store = what if isinstance(what, tuple) else _fixed(what)
            mode = 0o444 if store is None else 0o200 if name in {"compact_memory", "drop_caches"} else 0o644
            children[name.encode()] = ProcText(sb, next(numbers), make, mode=mode, store=store)
        return fixed_dir(sb, own, children)

    return build(_tree(kernel))


def _fixed(value: int | bytes) -> _Knob:
    text = value + b"\n" if isinstance(value, bytes) else b"%d\n" % value
    return (lambda: text), None


def _tree(kernel: Kernel) -> _Tree:
    vm = kernel.vm_sysctl
    swap, pool = kernel.node.swap, kernel.node.hugetlb

    def knob(name: str, low: int, high: int) -> _Knob:
        return _number(lambda: getattr(vm, name), lambda value: setattr(vm, name, value), low, high)

    def set_overcommit(value: int) -> None:
        vm.overcommit_memory = value

    def set_nr_overcommit(value: int) -> None:
        pool.nr_overcommit = value

    def set_ratio(value: int) -> None:
        vm.overcommit_ratio, vm.overcommit_kbytes = value, 0  # each puts the other out of force

    def set_kbytes(value: int) -> None:
        vm.overcommit_ratio, vm.overcommit_kbytes = 0, value

    def set_admin_reserve(value: int) -> None:
        vm.admin_reserve_kbytes = value

    def set_user_reserve(value: int) -> None:
        vm.user_reserve_kbytes = value

    def set_max_map_count(value: int) -> None:
        vm.max_map_count = value

    def set_hostname(text: bytes) -> None:
        kernel.hostname = text.strip(b"\n")[:_UTS_MAX]

    def set_domainname(text: bytes) -> None:
        kernel.domainname = text.strip(b"\n")[:_UTS_MAX]

    def set_sem(text: bytes) -> None:
        words = text.split()
        if len(words) != 4 or not all(word.isdigit() and len(word) < 11 for word in words):
            raise LinuxError(Errno.EINVAL, f"kernel.sem {text!r}")
        msl, mns, opm, mni = map(int, words)
        if msl > SEMMSL or mni > IPCMNI:
            raise LinuxError(Errno.EINVAL, "kernel.sem: more than there can be")
        kernel.sem.limits = msl, mns, opm, mni

    shm = kernel.shm

    def set_shmmax(value: int) -> None:
        shm.ctlmax = value

    def set_shmall(value: int) -> None:
        shm.ctlall = value

    def set_shmmni(value: int) -> None:
        shm.ctlmni = value

    def set_shm_next_id(value: int) -> None:
        shm.ids.next_id = value

    def set_shm_rmid_forced(value: int) -> None:
        shm.rmid_forced = bool(value)
        if value:
            shm.destroy_orphaned()

    ulong_max = (X86_64 if kernel.cpu.long_mode else I386).mask

    def set_extfrag_threshold(value: int) -> None:
        kernel.compaction.extfrag_threshold = value

    def set_core_pattern(text: bytes) -> None:
        kernel.core_pattern = text.split(b"\n")[0][:_MAX_CORE_PATTERN]

    boot_id = _uuid(kernel)
    return {
        "fs": {
            "file-max": kernel.node.totalram_pages // 10 * 4,
            "file-nr": b"0\t0\t%d" % (kernel.node.totalram_pages // 10 * 4),
            "nr_open": NR_OPEN,
            "pipe-max-size": PIPE_MAX_SIZE,
            "protected_hardlinks": 1,
            "protected_symlinks": 0,
            "mount-max": 100000,
            "overflowgid": 65534,
            "overflowuid": 65534,
            "suid_dumpable": 0,
        },
        "kernel": {
            "arch": b"x86_64" if kernel.cpu.long_mode else b"i686",
            "cap_last_cap": CAP_LAST_CAP,
            "core_pattern": ((lambda: kernel.core_pattern + b"\n"), set_core_pattern),
            "core_uses_pid": _number(
                lambda: kernel.core_uses_pid, lambda value: setattr(kernel, "core_uses_pid", value), 0, 1
            ),
            "domainname": ((lambda: kernel.domainname + b"\n"), set_domainname),
            "hostname": ((lambda: kernel.hostname + b"\n"), set_hostname),
            "msgmax": _number(lambda: kernel.msg.ctlmax, lambda new: setattr(kernel.msg, "ctlmax", new), 0, _INT_MAX),
            "msgmnb": _number(lambda: kernel.msg.ctlmnb, lambda new: setattr(kernel.msg, "ctlmnb", new), 0, _INT_MAX),
            "msgmni": _number(lambda: kernel.msg.ctlmni, lambda new: setattr(kernel.msg, "ctlmni", new), 0, IPCMNI),
            "ngroups_max": 65536,
            "ns_last_pid": ((lambda: b"%d\n" % kernel.last_pid), None),
            "osrelease": KERNEL_RELEASE,
            "ostype": b"Linux",
            "overflowgid": 65534,
            "overflowuid": 65534,
            "panic": 0,
            "panic_on_oops": _remembered(0, 0, 1),
            "perf_event_paranoid": 2,
            "pid_max": PID_MAX,
            "random": {
                "boot_id": boot_id,
                "entropy_avail": 256,
                "poolsize": 256,
                "uuid": ((lambda: _uuid(kernel) + b"\n"), None),
            },
            "randomize_va_space": 2 if kernel.config.aslr else 0,
            "sched_autogroup_enabled": 0,
            "sched_rr_timeslice_ms": 100,
            "sched_rt_period_us": 1000000,
            "sched_rt_runtime_us": 950000,
            "sem": ((lambda: b"%d\t%d\t%d\t%d\n" % kernel.sem.limits), set_sem),
            "shm_next_id": _number(lambda: shm.ids.next_id, set_shm_next_id, 0, _INT_MAX),
            "shm_rmid_forced": _number(lambda: int(shm.rmid_forced), set_shm_rmid_forced, 0, 1),
            "shmall": _number(lambda: shm.ctlall, set_shmall, 0, ulong_max),
            "shmmax": _number(lambda: shm.ctlmax, set_shmmax, 0, ulong_max),
            "shmmni": _number(lambda: shm.ctlmni, set_shmmni, 0, IPCMNI),
            "tainted": 0,
            "threads-max": kernel.node.totalram_pages // 8,
            "version": KERNEL_VERSION,
        },
        "net": {"core": {"somaxconn": 4096}},
        "vm": {
            "admin_reserve_kbytes": _number(lambda: vm.admin_reserve_kbytes, set_admin_reserve, 0, ulong_max),
            "compact_memory": ((lambda: b""), lambda data: _compact_memory(kernel, data)),
            "compact_unevictable_allowed": _remembered(1, 0, 1),
            "compaction_proactiveness": _remembered(20, 0, 100),
            "drop_caches": ((lambda: b""), lambda data: _drop_caches(kernel, data)),
            "debug_vm": knob("debug_vm", 0, 1),
            "dirty_background_ratio": _remembered(10, 0, 100),
            "dirty_expire_centisecs": _remembered(3000, 0, _INT_MAX),
            "dirty_ratio": _remembered(20, 0, 100),
            "dirty_writeback_centisecs": _remembered(500, 0, _INT_MAX),
            "extfrag_threshold": _number(lambda: kernel.compaction.extfrag_threshold, set_extfrag_threshold, 0, 1000),
            "legacy_va_layout": 0,
            "lowmem_reserve_ratio": b"256\t256\t32",
            "min_free_kbytes": sum(zone.watermark[0] for zone in kernel.node.zones) * 4,
            "max_map_count": _number(lambda: vm.max_map_count, set_max_map_count, 0, 1 << 30),
            "mmap_min_addr": 65536,
            "nr_hugepages": _number(lambda: pool.persistent, pool.set_nr, 0, _INT_MAX),
            "nr_overcommit_hugepages": _number(lambda: pool.nr_overcommit, set_nr_overcommit, 0, _INT_MAX),
            "oom_dump_tasks": knob("oom_dump_tasks", 0, 1),
            "oom_kill_allocating_task": knob("oom_kill_allocating_task", 0, 1),
            "page-cluster": _number(
                lambda: swap.page_cluster, lambda value: setattr(swap, "page_cluster", value), 0, 31
            ),
            "panic_on_oom": knob("panic_on_oom", 0, 2),
            "swappiness": knob("swappiness", 0, 200),
            "vfs_cache_pressure": knob("vfs_cache_pressure", 0, _INT_MAX),
            "overcommit_kbytes": _number(lambda: vm.overcommit_kbytes, set_kbytes, 0, ulong_max),
            "overcommit_memory": _number(lambda: vm.overcommit_memory, set_overcommit, 0, 2),
            "overcommit_ratio": _number(lambda: vm.overcommit_ratio, set_ratio, 0, _INT_MAX),
            "user_reserve_kbytes": _number(lambda: vm.user_reserve_kbytes, set_user_reserve, 0, ulong_max),
        },
    }


def _remembered(value: int, low: int, high: int) -> _Knob:
    """A knob that Linux heeds in places that this kernel does not have, such as swap: it keeps what it is told."""
    box = [value]
    return _number(lambda: box[0], lambda new: box.__setitem__(0, new), low, high)


def _drop_caches(kernel: Kernel, data: bytes) -> None:
    """Give back every clean page that nobody maps, with 2 every name and inode (drop_caches_sysctl_handler).

    Errors:
        EINVAL.
    """
    text = data.strip(b" \t\n\0")
    if text not in {b"1", b"2", b"3", b"4"}:
        raise LinuxError(Errno.EINVAL, f"drop_caches {data!r}")
    node = kernel.node
    if int(text) & 1 and node.drop_pagecache is not None:
        node.drop_pagecache()
    if int(text) & 2:
        drop_slab(node)


def _compact_memory(kernel: Kernel, data: bytes) -> None:
    """Compact all zones, for a 1 (sysctl_compaction_handler).  Errors: EINVAL."""
    if data.strip(b" \t\n\0") != b"1":
        raise LinuxError(Errno.EINVAL, f"compact_memory {data!r}")
    kernel.compaction.compact_node()


def _number(get: Callable[[], int], put: Callable[[int], None], low: int, high: int) -> _Knob:
    """A knob that is a number from *low* to *high* (proc_dointvec_minmax)."""

    def store(data: bytes) -> None:
        text = data.strip(b" \t\n\0")
        if not text.removeprefix(b"-").isdigit() or not low <= int(text) <= high:
            raise LinuxError(Errno.EINVAL, f"{data!r} is not from {low} to {high}")
        put(int(text))

    return (lambda: b"%d\n" % get()), store


def _uuid(kernel: Kernel) -> bytes:
    """A random UUID (version 4)."""
    data = bytearray(kernel.random.randbytes(16))
    data[6] = data[6] & 0x0F | 0x40
    data[8] = data[8] & 0x3F | 0x80
    text = data.hex().encode()
    return b"-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
