"""The books of a whole machine: while it runs everything adds up, and after the power is off nothing is left.

``validate_machine`` may be called between two turns of the run loop; ``assert_nothing_left`` after System.power_off().
Both assert, as all validators do; they read everything and change nothing.
"""

import gc
from collections.abc import Iterator

from minikernel.fs.epoll import EpollFile
from minikernel.fs.file import OpenFile
from minikernel.fs.poll import Leg
from minikernel.fs.validate import known_inodes, page_caches, super_blocks, validate_fs
from minikernel.ipc.validate import validate_shm
from minikernel.kernel import Kernel
from minikernel.mm.filemap import PageCache
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.page import PG_kernel, PG_table
from minikernel.mm.validate import validate_node
from minikernel.task.kstack import read_image
from minikernel.task.task import Task, TaskState
from minikernel.wait import WaitQueue


def table_frames(kernel: Kernel) -> int:
    """Frames that hold page tables of address spaces now; those of the kernel half stay for good once made."""
    return sum(1 for flags in kernel.node.mem_map.flags if flags & (PG_table | PG_kernel) == PG_table)


def validate_machine(kernel: Kernel) -> None:
    """Assert that frames, address spaces, files, run queue and wait queues agree with the tasks there are."""
    tasks = list(kernel.tasks.values())
    mms = kernel.address_spaces()
    tables = {id(task.files): task.files for task in tasks if task.state is not TaskState.ZOMBIE}
    validate_fs(kernel.vfs, tables.values())
    validate_shm(kernel.shm, mms)
    for room in ("msg", "sem"):
        if room in vars(kernel):
            getattr(kernel, room).validate()
    caches = [*page_caches(kernel.vfs, tables.values()), *_segment_caches(kernel)]
    if "net" in vars(kernel):
        caches += _validate_net(kernel, caches)
    validate_node(kernel.node, mms, caches)
    for mm in mms:
        users = sum(1 for task in tasks if task.has_mm and task.mm is mm)
        assert mm.users == users, f"validate_machine: an address space has {mm.users} users, {users} tasks use it"
    _validate_objects(kernel, tasks)
    for task in tasks:
        _validate_task(kernel, task)
    kthreads = kernel_threads(kernel)
    assert len(kernel.scheduler.queue) == sum(task.state is TaskState.RUNNING for task in (*tasks, *kthreads)), (
        "validate_machine: the run queue has other tasks than those that run"
    )


def _validate_net(kernel: Kernel, known: list[PageCache]) -> list[PageCache]:
    """Assert what the sockets promise; page caches that only their messages lead to, none of them *known*."""
    from minikernel.net.validate import caches_in_flight, validate_net

    validate_net(kernel.net)
    seen = set(map(id, known))
    return list({id(cache): cache for cache in caches_in_flight(kernel.net) if id(cache) not in seen}.values())


def kernel_threads(kernel: Kernel) -> list[Task]:
    """Tasks of the kernel itself: they stay when all processes are gone."""
    return [kernel.kswapd.task] if kernel.kswapd is not None else []


def _validate_objects(kernel: Kernel, tasks: list[Task]) -> None:
    """The kernel's own objects are as many as there are things they stand for."""
    ended = {TaskState.ZOMBIE, TaskState.DEAD}
    processes = {id(task.process): task.process for task in tasks}
    mms = kernel.address_spaces()
    alive = [task for task in tasks if task.state not in ended]
    counted = {
        "task_struct": len(tasks),
        "pid": len(tasks),
        "cred_jar": len(tasks),
        "signal_cache": len(processes),
        "files_cache": len({id(task.files) for task in alive}),
        "fs_cache": len({id(task.fs) for task in alive}),
        "mm_struct": len(mms),
        "vm_area_struct": sum(len(mm.vma_objects) for mm in mms),
        "anon_vma": len(_anon_vmas(mms)),
    }
    in_use = kernel.node.slab.in_use()
    for name, count in counted.items():
        held = in_use.get(name, 0)
        assert held == count, f"validate_machine: {held} objects of {name} are in use, there are {count}"
    for task in alive:
        mm = task.mm.address if task.has_mm else 0
        image = read_image(task)
        told = (task.pid, task.tgid, task.stack, mm, task.comm)
        assert image == told, f"validate_machine: the task_struct of {told} holds {image}"
    stacks = kernel.stacks.nr_stacks
    assert stacks == len(alive), f"validate_machine: {stacks} kernel stacks, {len(alive)} tasks that run"
    kernel.kernel_half.vmalloc.validate()


def _anon_vmas(mms: list[MmStruct]) -> set[int]:
    """The identities of the owners of anonymous pages that a mapping leads to."""
    owned = [vma.anon_vma for mm in mms for vma in mm.vmas if vma.anon_vma is not None]
    return {id(owner) for anon_vma in owned for owner in anon_vma.chain}


def _validate_task(kernel: Kernel, task: Task) -> None:
    where = f"validate_machine: task {task.pid} ({task.state.name})"
    queued = task in kernel.scheduler.queue
    assert queued == (task.state is TaskState.RUNNING), f"{where} is {'' if queued else 'not '}in the run queue"
    waiting = task.waiting_on is not None and task in task.waiting_on.waiters
    assert waiting == (task.state is TaskState.SLEEPING), f"{where} is {'' if waiting else 'not '}in a wait queue"
    if task.state is TaskState.SLEEPING:
        assert task.blocked_call is not None, f"{where} sleeps outside of a call"


def assert_nothing_left(kernel: Kernel, tables: int) -> None:
    """Assert that the machine, after power_off, holds nothing of its tasks; *tables*: ``table_frames`` after boot."""
    assert not kernel.tasks, f"assert_nothing_left: tasks {sorted(kernel.tasks)}"
    assert not kernel.reaper.children, "assert_nothing_left: processes nobody waits for"
    kthreads = kernel_threads(kernel)
    assert all(task in kthreads for task in kernel.scheduler.queue), "assert_nothing_left: the run queue is not empty"
    assert not kernel.oom.victims, "assert_nothing_left: a victim of the OOM killer is not forgotten"
    assert not kernel.futexes, f"assert_nothing_left: {len(kernel.futexes)} futexes"
    assert not kernel.pi_states, f"assert_nothing_left: {len(kernel.pi_states)} PI futexes"
    assert not kernel.pi_blocked, f"assert_nothing_left: {len(kernel.pi_blocked)} tasks that wait for PI futexes"
    assert not kernel.vfs.lock_waits, "assert_nothing_left: somebody waits for a file lock"
    gc.collect()
    files = [file for file in _open_files(kernel) if not file.released]
    assert not files, f"assert_nothing_left: open files {[file.path for file in files]}"
    _assert_nobody_waits(kernel)
    for sb in super_blocks(kernel.vfs):
        for inode in known_inodes(sb):
            assert not inode.open_count, f"assert_nothing_left: inode {inode.ino} is open {inode.open_count} times"
            locks = inode.locks
            assert locks is None or not (locks.posix or locks.flocks), (
                f"assert_nothing_left: inode {inode.ino} is locked"
            )
    assert not kernel.vfs.anon.inode.open_count, "assert_nothing_left: a file without a name is open"
    left = table_frames(kernel)
    assert left == tables, f"assert_nothing_left: {left} frames of page tables, {tables} after boot"
    if "net" in vars(kernel):
        assert not kernel.net.socks, f"assert_nothing_left: {len(kernel.net.socks)} sockets"
        assert not kernel.net.in_flight, "assert_nothing_left: files in flight"
    validate_fs(kernel.vfs)
    validate_shm(kernel.shm, ())
    validate_node(kernel.node, (), [*page_caches(kernel.vfs), *_segment_caches(kernel)])
    _validate_objects(kernel, [])
    in_use = kernel.node.slab.in_use()
    for name in ("filp", "inode_cache"):
        held = in_use.get(name, 0)
        assert held <= (name == "inode_cache"), f"assert_nothing_left: {held} objects of {name}"
    pipes = [name for name in in_use if name.startswith("kmalloc-")]
    assert not pipes, f"assert_nothing_left: kernel memory {pipes}"


def _segment_caches(kernel: Kernel) -> list[PageCache]:
    """Of System V segments, which live until somebody removes them."""
    return [segment.mapping for segment in kernel.shm.ids]


def _open_files(kernel: Kernel) -> Iterator[OpenFile]:
    """Every OpenFile of this machine that the interpreter still knows."""
    for thing in gc.get_objects():
        if isinstance(thing, OpenFile) and thing.inode.sb.services is kernel:
            yield thing


def _assert_nobody_waits(kernel: Kernel) -> None:
    """No queue that still exists has one of our tasks, or a poll, in it; no epoll watches anything."""
    for thing in gc.get_objects():
        if isinstance(thing, WaitQueue):
            for waiter in thing.waiters:
                assert not isinstance(waiter, Leg), "assert_nothing_left: a poll stands in a wait queue"
                ours = isinstance(waiter, Task) and waiter.kernel is kernel and waiter not in kernel_threads(kernel)
                assert not ours, f"assert_nothing_left: a dead task stands in a wait queue: {waiter}"
        elif isinstance(thing, EpollFile) and thing.inode.sb.services is kernel:
            assert not thing.items, "assert_nothing_left: a released epoll watches files"
