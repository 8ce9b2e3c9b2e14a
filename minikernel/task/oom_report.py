"""What the kernel log says when memory runs out: who asked, how memory stood, who could die, who does.

Linux: mm/oom_kill.c (dump_header, dump_tasks, __oom_kill_process), mm/show_mem.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from emu.x86 import PAGE_SHIFT, PAGE_SIZE

if TYPE_CHECKING:
    from minikernel.kernel import Kernel
    from minikernel.task.task import Task


def _kib(pages: int) -> int:
    return pages << (PAGE_SHIFT - 10)


def _name(task: Task) -> str:
    return task.comm.decode(errors="replace")


def dump_header(kernel: Kernel, task: Task, order: int, gfp: int) -> Iterator[str]:
    """The report up to the choice, line by line."""
    adj = task.process.oom_score_adj
    yield f"{_name(task)} invoked oom-killer: gfp_mask={gfp:#x}, order={order}, oom_score_adj={adj}"
    yield from _show_mem(kernel)
    if kernel.node.vm_sysctl.oom_dump_tasks:
        yield from _dump_tasks(kernel)


def _show_mem(kernel: Kernel) -> Iterator[str]:
    node = kernel.node
    inactive_anon, active_anon, inactive_file, active_file, unevictable = node.lru.lists()
    yield "Mem-Info:"
    yield f"active_anon:{active_anon} inactive_anon:{inactive_anon}"
    yield f" active_file:{active_file} inactive_file:{inactive_file}"
    yield f" unevictable:{unevictable} free:{node.nr_free}"
    for zone in node.zones:
        low, middle, high = map(_kib, zone.watermark)
        yield (
            f"Node 0 {zone.name} free:{_kib(zone.nr_free)}kB min:{low}kB low:{middle}kB high:{high}kB "
            f"present:{_kib(zone.end_pfn - zone.start_pfn)}kB managed:{_kib(zone.managed_pages)}kB"
        )
        yield f"lowmem_reserve[]: {' '.join(map(str, zone.lowmem_reserve))}"
    for zone in node.zones:
        counts = [(len(blocks), _kib(1 << order)) for order, blocks in enumerate(zone.buddy.free_area)]
        line = " ".join(f"{count}*{size}kB" for count, size in counts)
        yield f"Node 0 {zone.name}: {line} = {sum(count * size for count, size in counts)}kB"
    swap = node.swap
    yield f"{len(swap.cache)} pages in swap cache"
    yield f"Free swap  = {_kib(swap.nr_free)}kB"
    yield f"Total swap = {_kib(swap.total_pages)}kB"
    yield f"{node.mem_map.nr_frames} pages RAM"


def _dump_tasks(kernel: Kernel) -> Iterator[str]:
    yield "Tasks state (memory values in pages):"
    yield (
        "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name"
    )
    for task in kernel.tasks.values():
        if not task.has_mm or task.pid != task.tgid:
            continue
        mm = task.mm
        tables = (mm.pgtable.nr_tables + 1) * PAGE_SIZE
        yield (
            f"[{task.pid:7d}] {task.cred.uid:5d} {task.tgid:5d} {mm.total_vm:8d} {mm.rss:8d} {mm.rss_anon:8d} "
            f"{mm.rss_file:8d} {mm.rss_shmem:9d} {tables:8d} {mm.swapents:8d}         "
            f"{task.process.oom_score_adj:5d} {_name(task)}"
        )


def killed_line(task: Task) -> str:
    """Who dies."""
    mm = task.mm
    return (
        f"Out of memory: Killed process {task.tgid} ({_name(task)}) total-vm:{_kib(mm.total_vm)}kB, "
        f"anon-rss:{_kib(mm.rss_anon)}kB, file-rss:{_kib(mm.rss_file)}kB, shmem-rss:{_kib(mm.rss_shmem)}kB, "
        f"UID:{task.cred.uid} pgtables:{_kib(mm.pgtable.nr_tables + 1)}kB "
        f"oom_score_adj:{task.process.oom_score_adj}"
    )


def reaped_line(task: Task) -> str:
    """What it has left."""
    mm = task.mm
    return (
        f"oom_reaper: reaped process {task.tgid} ({_name(task)}), now anon-rss:{_kib(mm.rss_anon)}kB, "
        f"file-rss:{_kib(mm.rss_file)}kB, shmem-rss:{_kib(mm.rss_shmem)}kB"
    )
