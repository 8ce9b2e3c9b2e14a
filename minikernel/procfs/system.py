"""The files of /proc that speak of the machine.  Linux: fs/proc/*.c, mm/vmstat.c."""

from typing import Final

from emu import cpuid
from emu.x86 import PAGE_SIZE
from minikernel.abi.sysinfo import KERNEL_RELEASE, KERNEL_VERSION
from minikernel.abi.time import NSEC_PER_SEC, ticks
from minikernel.fs.inode import Inode
from minikernel.kernel import Kernel
from minikernel.mm.filemap import PageCache
from minikernel.mm.hugetlb_pool import huge_pfn
from minikernel.mm.overcommit import vm_commit_limit
from minikernel.mm.page import PG_huge
from minikernel.mm.pgtable import PTE_SPECIAL
from minikernel.mm.thp import hpage_order
from minikernel.procfs.buddyinfo import buddyinfo, pagetypeinfo
from minikernel.procfs.node import ProcFs, ProcLink, ProcText
from minikernel.procfs.page import FrameInode, kpagecount, kpageflags
from minikernel.procfs.slabinfo import iomem, slabinfo, vmallocinfo
from minikernel.procfs.sysctl import sysctl_dir
from minikernel.procfs.sysvipc import sysvipc_dir
from minikernel.procfs.vmstat import dirty_pages, node_counters, swaps, vm_events
from minikernel.procfs.zoneinfo import zoneinfo

_FIRST_INO: Final = 0xF000_0010
_SYSVIPC_INO: Final = 0xF010_0000

# Names of /proc/cpuinfo's flags: arch/x86/include/asm/cpufeatures.h.
_EDX: Final = [
    "fpu", "vme", "de", "pse", "tsc", "msr", "pae", "mce", "cx8", "apic", "-", "sep", "mtrr", "pge", "mca",
    "cmov", "pat",
    "pse36", "pn", "clflush", "-", "dts", "acpi", "mmx", "fxsr", "sse", "sse2", "ss", "ht", "tm", "ia64", "pbe",
]  # fmt: skip
_ECX: Final = {
    0: "pni", 1: "pclmulqdq", 9: "ssse3", 13: "cx16", 19: "sse4_1", 20: "sse4_2", 23: "popcnt", 25: "aes",
    31: "hypervisor",
}  # fmt: skip
_EXTENDED_EDX: Final = {11: "syscall", 20: "nx", 27: "rdtscp", 29: "lm"}
_EXTENDED_ECX: Final = {0: "lahf_lm"}
_MHZ: Final = 1000


def system_files(sb: ProcFs, kernel: Kernel) -> dict[bytes, Inode]:
    """The entries of the root that are no processes."""
    makers = {
        b"buddyinfo": lambda: buddyinfo(kernel),
        b"cmdline": lambda: b"minikernel\n",
        b"cpuinfo": lambda: _cpuinfo(kernel),
        b"consoles": lambda: b"",
        b"devices": lambda: _DEVICES,
        b"diskstats": lambda: b"",
        b"filesystems": lambda: _filesystems(kernel),
        b"iomem": lambda: iomem(kernel),
        b"interrupts": lambda: b"           CPU0       \n",
        b"loadavg": lambda: _loadavg(kernel),
        b"meminfo": lambda: meminfo(kernel),
        b"modules": lambda: b"",
        b"pagetypeinfo": lambda: pagetypeinfo(kernel),
        b"partitions": lambda: b"major minor  #blocks  name\n\n",
        b"slabinfo": lambda: slabinfo(kernel),
        b"softirqs": lambda: _SOFTIRQS,
        b"stat": lambda: _stat(kernel),
        b"swaps": lambda: swaps(kernel),
        b"uptime": lambda: _uptime(kernel),
        b"version": lambda: (
            b"Linux version %s (minikernel@minikernel) (python) %s\n" % (KERNEL_RELEASE, KERNEL_VERSION)
        ),
        b"vmallocinfo": lambda: vmallocinfo(kernel),
        b"vmstat": lambda: b"".join(b"%s %d\n" % row for row in (*vmstat(kernel), *vm_events(kernel))),
        b"zoneinfo": lambda: zoneinfo(kernel, vmstat(kernel)),
    }
    files: dict[bytes, Inode] = {}
    for number, name in enumerate(sorted(makers)):
        mode = 0o400 if name in _ROOT_ONLY else 0o444
        files[name] = ProcText(sb, _FIRST_INO + number, makers[name], mode=mode)
    at = _FIRST_INO + len(makers)
    files[b"mounts"] = ProcLink(sb, at, lambda: b"self/mounts")
    files[b"sys"] = sysctl_dir(sb, at + 1, kernel)
    files[b"kpagecount"] = FrameInode(sb, _SYSVIPC_INO + 16, kernel.node, kpagecount)
    files[b"kpageflags"] = FrameInode(sb, _SYSVIPC_INO + 17, kernel.node, kpageflags)
    files[b"net"] = ProcLink(sb, _SYSVIPC_INO + 18, lambda: b"self/net")
    files[b"sysvipc"] = sysvipc_dir(sb, _SYSVIPC_INO, kernel)
    return files


_ROOT_ONLY: Final = frozenset({b"pagetypeinfo", b"slabinfo", b"vmallocinfo"})

_DEVICES: Final = b"Character devices:\n  1 mem\n  5 /dev/tty\n136 pts\n\nBlock devices:\n"


_SOFTIRQS: Final = b"                    CPU0       \n" + b"".join(
    b"%12s:          0\n" % name
    for name in (b"HI", b"TIMER", b"NET_TX", b"NET_RX", b"BLOCK", b"IRQ_POLL", b"TASKLET", b"SCHED", b"HRTIMER", b"RCU")
)


def _cpuinfo(kernel: Kernel) -> bytes:
    """show_cpuinfo, from what CPUID answers."""
    long_mode = kernel.cpu.long_mode
    rows = {(leaf, sub): regs for leaf, sub, *regs in cpuid.answers(long_mode=long_mode)}
    eax, _, ecx, edx = rows[1, cpuid.ANY_SUBLEAF]
    _, _, extended_ecx, extended_edx = rows[0x8000_0001, cpuid.ANY_SUBLEAF]
    vendor = b"".join(rows[0, cpuid.ANY_SUBLEAF][register].to_bytes(4, "little") for register in (1, 3, 2))
    brand = b"".join(
        register.to_bytes(4, "little") for leaf in (2, 3, 4) for register in rows[0x8000_0000 + leaf, cpuid.ANY_SUBLEAF]
    )
    flags = [name for bit, name in enumerate(_EDX) if edx >> bit & 1 and name != "-"]
    flags += [name for bit, name in _EXTENDED_EDX.items() if extended_edx >> bit & 1]
    flags += [name for bit, name in _ECX.items() if ecx >> bit & 1]
    flags += [name for bit, name in _EXTENDED_ECX.items() if extended_ecx >> bit & 1]
    widths = rows[0x8000_0008, cpuid.ANY_SUBLEAF][0]
    pairs = (
        ("processor\t", "0"),
        ("vendor_id\t", vendor.decode()),
        ("cpu family\t", str(eax >> 8 & 15)),
        ("model\t\t", str((eax >> 4 & 15) | (eax >> 12 & 0xF0))),
        ("model name\t", brand.rstrip(b"\0").decode()),
        ("stepping\t", str(eax & 15)),
        ("cpu MHz\t\t", f"{_MHZ}.000"),
        ("cache size\t", "8192 KB"),
        ("physical id\t", "0"),
        ("siblings\t", "1"),
        ("core id\t\t", "0"),
        ("cpu cores\t", "1"),
        ("apicid\t\t", "0"),
        ("initial apicid\t", "0"),
        ("fpu\t\t", "yes"),
        ("fpu_exception\t", "yes"),
        ("cpuid level\t", str(rows[0, cpuid.ANY_SUBLEAF][0])),
        ("wp\t\t", "yes"),
        ("flags\t\t", " ".join(flags)),
        ("bugs\t\t", ""),
        ("bogomips\t", f"{2 * _MHZ}.00"),
        ("clflush size\t", "64"),
        ("cache_alignment\t", "64"),
        ("address sizes\t", f"{widths & 255} bits physical, {widths >> 8 & 255} bits virtual"),
        ("power management", ""),
    )
    return "".join(f"{name}: {value}\n" if value else f"{name}:\n" for name, value in pairs).encode() + b"\n"


def _filesystems(kernel: Kernel) -> bytes:
    """The kinds there are; all without a device but the root's."""
    kinds = sorted({mount.sb.fstype for mount in kernel.vfs.namespace.mounts} | {b"tmpfs", b"pipefs", b"proc"})
    return b"".join((b"\t" if kind == b"ext4" else b"nodev\t") + kind + b"\n" for kind in kinds)


def _loadavg(kernel: Kernel) -> bytes:
    """loadavg_proc_show."""
    running = sum(task.state.value == "R" for task in kernel.tasks.values())
    return b"%s %d/%d %d\n" % (kernel.load.text(), running, len(kernel.tasks), kernel.last_pid)


def cached_pages(kernel: Kernel) -> tuple[int, int]:
    """Frames of page caches: all of them, and those without a backing store (shmem)."""
    total = shmem = 0
    seen: set[int] = set()
    for owner in kernel.node.mem_map.owner:
        if type(owner) is PageCache and id(owner) not in seen:
            seen.add(id(owner))
            total += owner.nr_pages
            shmem += owner.nr_pages if owner.is_shmem else 0
    return total, shmem


def meminfo(kernel: Kernel) -> bytes:
    """meminfo_proc_show."""
    node = kernel.node
    slab, vmalloc = node.slab, kernel.kernel_half.vmalloc
    cached, shmem = cached_pages(kernel)
    spaces = kernel.address_spaces()
    anon = sum(mm.rss_anon for mm in spaces)
    mapped = sum(mm.rss_file + mm.rss_shmem for mm in spaces)
    tables = sum(mm.pgtable.nr_tables + 1 for mm in spaces)
    free = node.nr_free
    inactive_anon, active_anon, inactive_file, active_file, unevictable = node.lru.lists()
    swap = node.swap
    huge_pages = 1 << hpage_order(node)
    pool = node.hugetlb
    counts = {
        "HugePages_Total": pool.total,
        "HugePages_Free": len(pool.free),
        "HugePages_Rsvd": pool.reserved,
        "HugePages_Surp": pool.surplus,
    }
    rows = (
        ("MemTotal", node.totalram_pages),
        ("MemFree", free),
        ("MemAvailable", free + cached - shmem + slab.nr_reclaimable // 2),
        ("Buffers", 0),
        ("Cached", cached),
        ("SwapCached", len(swap.cache)),
        ("Active", active_anon + active_file),
        ("Inactive", inactive_anon + inactive_file),
        ("Active(anon)", active_anon),
        ("Inactive(anon)", inactive_anon),
        ("Active(file)", active_file),
        ("Inactive(file)", inactive_file),
        ("Unevictable", unevictable),
        ("Mlocked", unevictable),
        ("SwapTotal", swap.total_pages),
        ("SwapFree", swap.nr_free),
        ("Dirty", dirty_pages(kernel)),
        ("Writeback", 0),
        ("AnonPages", anon),
        ("Mapped", mapped),
        ("Shmem", shmem),
        ("KReclaimable", slab.nr_reclaimable),
        ("Slab", slab.nr_reclaimable + slab.nr_unreclaimable),
        ("SReclaimable", slab.nr_reclaimable),
        ("SUnreclaim", slab.nr_unreclaimable),
        ("KernelStack", kernel.stacks.nr_stacks * kernel.stacks.size // PAGE_SIZE),
        ("PageTables", tables),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", vm_commit_limit(node)),
        ("Committed_AS", node.vm_sysctl.vm_committed_as),
        ("VmallocTotal", (vmalloc.end - 1 - vmalloc.start) / PAGE_SIZE),
        ("VmallocUsed", vmalloc.nr_pages),
        ("VmallocChunk", 0),
        ("Percpu", 0),
        ("AnonHugePages", anon_thps(kernel) * huge_pages),
        ("ShmemHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FileHugePages", 0),
        ("FilePmdMapped", 0),
        ("HugePages_Total", None),
        ("HugePages_Free", None),
        ("HugePages_Rsvd", None),
        ("HugePages_Surp", None),
        ("Hugepagesize", huge_pages),
        ("Hugetlb", pool.total * huge_pages),
    )
    return "".join(
        f"{name + ':':<16}{counts[name]:>8}\n" if pages is None else f"{name + ':':<16}{int(pages * 4):>8} kB\n"
        for name, pages in rows
    ).encode()


def anon_thps(kernel: Kernel) -> int:
    """Blocks that some large leaf maps as transparent huge pages (NR_ANON_THPS); a block counts once."""
    spaces = kernel.address_spaces()
    blocks = set()
    for mm in spaces:
        leaves = mm.pgtable.large_leaves(0, mm.layout.task_size)
        blocks |= {huge_pfn(leaf) for _, leaf in leaves if not leaf & PTE_SPECIAL}
    flags = kernel.node.mem_map.flags
    return sum(1 for pfn in blocks if not flags[pfn] & PG_huge)


def _cpu_ticks(kernel: Kernel) -> tuple[int, int, int]:
    """User, system and idle time in ticks."""
    user = kernel.cpu.icount  # a nanosecond each, also those of tasks that have ended; the kernel's own take no time
    return ticks(user), 0, ticks(max(kernel.clock.now_ns() - user, 0))


def _stat(kernel: Kernel) -> bytes:
    """show_stat."""
    user, system, idle = _cpu_ticks(kernel)
    times = b"%d 0 %d %d 0 0 0 0 0 0" % (user, system, idle)
    boot = (kernel.clock.realtime_ns() - kernel.clock.now_ns()) // NSEC_PER_SEC
    running = sum(task.state.value == "R" for task in kernel.tasks.values())
    return (
        b"cpu  %s\ncpu0 %s\nintr 0\nctxt %d\nbtime %d\nprocesses %d\nprocs_running %d\nprocs_blocked 0\n"
        b"softirq 0 0 0 0 0 0 0 0 0 0 0\n"
        % (times, times, kernel.nr_switches, boot, kernel.nr_forks + 1, max(running, 1))
    )


def _uptime(kernel: Kernel) -> bytes:
    now = kernel.clock.now_ns() // 10_000_000
    idle = _cpu_ticks(kernel)[2]
    return b"%d.%02d %d.%02d\n" % (now // 100, now % 100, idle // 100, idle % 100)


def vmstat(kernel: Kernel) -> tuple[tuple[bytes, int], ...]:
    """vmstat_show, the counts of pages that exist."""
    cached, shmem = cached_pages(kernel)
    spaces = kernel.address_spaces()
    lists = node_counters(kernel)
    return (
        (b"nr_free_pages", kernel.node.nr_free),
        (b"nr_anon_pages", sum(mm.rss_anon for mm in spaces)),
        (b"nr_mapped", sum(mm.rss_file + mm.rss_shmem for mm in spaces)),
        (b"nr_file_pages", cached),
        (b"nr_slab_reclaimable", kernel.node.slab.nr_reclaimable),
        (b"nr_slab_unreclaimable", kernel.node.slab.nr_unreclaimable),
        (b"nr_kernel_stack", kernel.stacks.nr_stacks * kernel.stacks.size >> 10),
        (b"nr_dirty", dirty_pages(kernel)),
        (b"nr_writeback", 0),
        (b"nr_shmem", shmem),
        (b"nr_page_table_pages", sum(mm.pgtable.nr_tables + 1 for mm in spaces)),
        (b"nr_anon_transparent_hugepages", anon_thps(kernel)),
        *lists,
    )
