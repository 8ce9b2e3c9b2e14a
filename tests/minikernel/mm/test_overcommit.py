"""The commit limit: what counts, and when a promise is refused.  guest/mm/committed.c asks the host, in mode 0."""

from collections.abc import Callable

import pytest

from emu.x86 import PAGE_SIZE
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.ipc import IPC_PRIVATE, IPC_RMID
from minikernel.abi.mman import MAP_FIXED, MAP_NORESERVE, MREMAP_DONTUNMAP, MREMAP_MAYMOVE, PROT_READ
from minikernel.abi.shm import SHM_NORESERVE
from minikernel.mm.brk import do_brk
from minikernel.mm.dup import dup_mm
from minikernel.mm.fault import BusError, Segv
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.mmap import do_mmap, insert_vma
from minikernel.mm.mprotect import do_mprotect
from minikernel.mm.mremap import do_mremap
from minikernel.mm.munmap import vm_munmap
from minikernel.mm.overcommit import OVERCOMMIT_ALWAYS, OVERCOMMIT_NEVER, VmSysctl, vm_commit_limit
from minikernel.mm.vma import VM_ACCOUNT, VM_DATA_DEFAULT_FLAGS, VM_GROWSDOWN, Vma
from tests.minikernel.mm.touch import ANON, BASE, RW, SHARED_ANON, WRITE, Machine, touch
from tests.minikernel.syscalls.calls import Caller

LIMIT = 100  # pages


@pytest.fixture
def machine() -> Machine:
    """One on which 100 pages may be promised, without reserves."""
    machine = Machine()
    sysctl = machine.node.vm_sysctl
    sysctl.overcommit_memory = OVERCOMMIT_NEVER
    sysctl.overcommit_ratio, sysctl.overcommit_kbytes = 0, LIMIT * 4
    sysctl.admin_reserve_kbytes = sysctl.user_reserve_kbytes = 0
    return machine


def refused(errno: Errno, act: Callable[[], object]) -> None:
    with pytest.raises(LinuxError) as caught:
        act()

    assert caught.value.errno == errno


def committed(machine: Machine) -> int:
    machine.validate()
    return machine.node.vm_sysctl.vm_committed_as


def fill(mm: MmStruct, left: int) -> None:
    """Promise all but *left* pages: the limit itself is never reached."""
    sysctl = mm.sysctl
    do_mmap(mm, BASE + (1 << 24), (LIMIT - 1 - left - sysctl.vm_committed_as) * PAGE_SIZE, RW, ANON, None, 0)


def test_the_last_page_is_never_promised(machine: Machine) -> None:
    mm = machine.mm()
    assert vm_commit_limit(machine.node) == LIMIT
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, LIMIT * PAGE_SIZE, RW, ANON, None, 0))
    do_mmap(mm, 0, (LIMIT - 1) * PAGE_SIZE, RW, ANON, None, 0)
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, PAGE_SIZE, RW, ANON, None, 0))

    do_mmap(mm, 0, 1 << 30, PROT_READ, ANON, None, 0)
    assert committed(machine) == LIMIT - 1
    machine.node.vm_sysctl.total_swap_pages = 2
    do_mmap(mm, 0, 2 * PAGE_SIZE, RW, ANON, None, 0)
    assert committed(machine) == LIMIT + 1


def test_mode_1_counts_and_never_refuses(machine: Machine) -> None:
    mm = machine.mm()
    mm.sysctl.overcommit_memory = OVERCOMMIT_ALWAYS
    do_mmap(mm, 0, 1 << 30, RW, ANON, None, 0)

    assert committed(machine) == 1 << 18


def test_ratio_of_the_memory_there_is(machine: Machine) -> None:
    sysctl = machine.node.vm_sysctl
    sysctl.overcommit_kbytes, sysctl.overcommit_ratio = 0, 25

    assert vm_commit_limit(machine.node) == machine.node.totalram_pages // 4


def test_reserves_are_for_root_and_for_the_user_who_wants_to_look(machine: Machine) -> None:
    """An ordinary task leaves admin_reserve; every task leaves a thirty-second of itself, at most user_reserve."""
    mm, sysctl = machine.mm(), machine.node.vm_sysctl
    sysctl.admin_reserve_kbytes, sysctl.user_reserve_kbytes = 10 * 4, 3 * 4
    do_mmap(mm, BASE, 64 * PAGE_SIZE, PROT_READ, ANON, None, 0)  # total_vm 64: two pages
    room = LIMIT - 10 - 2 - 1
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, (room + 1) * PAGE_SIZE, RW, ANON, None, 0))
    mm.cap_sys_admin = True
    do_mmap(mm, 0, (room + 10) * PAGE_SIZE, RW, ANON, None, 0)
    do_mmap(mm, 0, 1 << 24, PROT_READ, ANON, None, 0)  # a larger one: no more than three pages are asked of it
    sysctl.overcommit_kbytes += 4 * 4

    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, 4 * PAGE_SIZE, RW, ANON, None, 0))
    do_mmap(mm, 0, 3 * PAGE_SIZE, RW, ANON, None, 0)
    machine.validate()


def test_reserves_at_boot() -> None:
    small, large = VmSysctl(), VmSysctl()
    small.init_reserves(32 << 8)  # 32 MiB
    large.init_reserves(16 << 18)

    assert (small.admin_reserve_kbytes, small.user_reserve_kbytes) == (1024, 1024)
    assert (large.admin_reserve_kbytes, large.user_reserve_kbytes) == (8192, 131072)


def test_a_replacement_needs_only_what_is_new(machine: Machine) -> None:
    mm = machine.mm()
    do_mmap(mm, BASE, 60 * PAGE_SIZE, RW, ANON, None, 0)
    do_mmap(mm, BASE, 60 * PAGE_SIZE, RW, ANON | MAP_FIXED, None, 0)
    do_mmap(mm, BASE + 30 * PAGE_SIZE, 60 * PAGE_SIZE, RW, ANON | MAP_FIXED, None, 0)
    assert committed(machine) == 90
    refused(Errno.ENOMEM, lambda: do_mmap(mm, BASE, 101 * PAGE_SIZE, RW, ANON | MAP_FIXED, None, 0))
    assert committed(machine) == 90
    do_mmap(mm, BASE + PAGE_SIZE, 88 * PAGE_SIZE, PROT_READ, ANON | MAP_FIXED, None, 0)
    assert committed(machine) == 2
    vm_munmap(mm, BASE, 90 * PAGE_SIZE)
    assert committed(machine) == 0


def test_noreserve_counts_for_nothing_in_mode_2(machine: Machine) -> None:
    mm = machine.mm()
    do_mmap(mm, 0, PAGE_SIZE, RW, ANON | MAP_NORESERVE, None, 0)
    do_mmap(mm, 0, PAGE_SIZE, RW, SHARED_ANON | MAP_NORESERVE, None, 0)

    assert committed(machine) == 2


def test_every_way_to_grow_is_refused_at_the_limit(machine: Machine) -> None:
    mm = machine.mm()
    mm.start_brk = mm.brk = BASE + (1 << 20)  # type: ignore[assignment]  # a VirtAddr
    do_mmap(mm, BASE, 4 * PAGE_SIZE, PROT_READ, ANON, None, 0)
    grower = do_mmap(mm, BASE + 16 * PAGE_SIZE, 2 * PAGE_SIZE, RW, ANON, None, 0)
    stack = BASE + (1 << 28)
    flags = VM_DATA_DEFAULT_FLAGS | VM_GROWSDOWN | VM_ACCOUNT
    insert_vma(mm, Vma(start=stack - PAGE_SIZE, end=stack, flags=flags, pgoff=1000))  # type: ignore[arg-type]
    fill(mm, 1)
    full = committed(machine)

    refused(Errno.ENOMEM, lambda: do_mprotect(mm, BASE, 2 * PAGE_SIZE, RW))
    refused(Errno.ENOMEM, lambda: do_mremap(mm, grower, 2 * PAGE_SIZE, 4 * PAGE_SIZE, MREMAP_MAYMOVE, 0))
    dont_unmap = MREMAP_MAYMOVE | MREMAP_DONTUNMAP
    refused(Errno.ENOMEM, lambda: do_mremap(mm, grower, 2 * PAGE_SIZE, 2 * PAGE_SIZE, dont_unmap, 0))
    refused(Errno.ENOMEM, lambda: dup_mm(mm))
    refused(Errno.ENOMEM, lambda: do_mmap(mm, 0, 2 * PAGE_SIZE, RW, SHARED_ANON, None, 0))
    assert do_brk(mm, mm.brk + 2 * PAGE_SIZE) == mm.start_brk
    assert isinstance(touch(mm, stack - 3 * PAGE_SIZE, WRITE), Segv)
    assert committed(machine) == full

    do_mprotect(mm, BASE, PAGE_SIZE, RW)
    assert committed(machine) == full + 1 == LIMIT - 1
    do_mprotect(mm, BASE, PAGE_SIZE, PROT_READ)
    assert do_brk(mm, mm.brk + PAGE_SIZE) > mm.start_brk
    do_brk(mm, mm.start_brk)
    assert committed(machine) == full
    assert not isinstance(touch(mm, stack - 2 * PAGE_SIZE, WRITE), Segv)
    assert committed(machine) == full + 1


def test_a_fork_promises_as_much_again(machine: Machine) -> None:
    mm = machine.mm()
    do_mmap(mm, BASE, 30 * PAGE_SIZE, RW, ANON, None, 0)
    do_mmap(mm, 0, 10 * PAGE_SIZE, RW, SHARED_ANON, None, 0)
    child = machine.fork(mm)
    assert committed(machine) == 70
    refused(Errno.ENOMEM, lambda: dup_mm(child))
    assert committed(machine) == 70
    machine.destroy(mm)
    assert committed(machine) == 40, "the child still has the shared pages"
    machine.destroy(child)
    assert committed(machine) == 0


def test_files_in_memory_are_promised_page_by_page(machine: Machine) -> None:
    mm = machine.mm()
    file = machine.file(200 * PAGE_SIZE)
    cache = file.cache
    cache.write(0, bytes(3 * PAGE_SIZE))
    assert committed(machine) == 3
    fill(mm, 1)
    shared = do_mmap(mm, 0, 8 * PAGE_SIZE, RW, 1, file, 0)

    assert not isinstance(touch(mm, shared + 4 * PAGE_SIZE, WRITE), BusError)
    assert isinstance(touch(mm, shared + 5 * PAGE_SIZE, WRITE), BusError)
    refused(Errno.ENOSPC, lambda: cache.write(6 * PAGE_SIZE, b"x"))
    assert cache.write(2 * PAGE_SIZE, bytes(3 * PAGE_SIZE)) == PAGE_SIZE, "page 3 is not there, page 2 was"
    cache.punch_hole(PAGE_SIZE, PAGE_SIZE)
    assert committed(machine) == LIMIT - 2
    cache.truncate(0)
    assert cache.nr_committed == 0
    machine.validate()


def test_segments_are_promised_as_a_whole() -> None:
    caller = Caller()
    sysctl = caller.machine.node.vm_sysctl
    sysctl.overcommit_memory, sysctl.overcommit_kbytes = OVERCOMMIT_NEVER, (sysctl.vm_committed_as + 10) * 4
    sysctl.admin_reserve_kbytes = sysctl.user_reserve_kbytes = 0
    start = sysctl.vm_committed_as
    assert caller.call("shmget", IPC_PRIVATE, 20 * PAGE_SIZE, 0o600) == -Errno.ENOMEM
    one = caller.call("shmget", IPC_PRIVATE, 3 * PAGE_SIZE - 1, 0o600)
    other = caller.call("shmget", IPC_PRIVATE, PAGE_SIZE, 0o600 | SHM_NORESERVE)
    assert sysctl.vm_committed_as == start + 4, "in mode 2 SHM_NORESERVE means nothing"
    caller.kernel.shm.ctlmni = 2
    assert caller.call("shmget", IPC_PRIVATE, PAGE_SIZE, 0o600) == -Errno.ENOSPC
    assert caller.call("shmctl", one, IPC_RMID) == caller.call("shmctl", other, IPC_RMID) == 0
    assert sysctl.vm_committed_as == start

    sysctl.overcommit_memory = OVERCOMMIT_ALWAYS
    caller.call("shmget", IPC_PRIVATE, PAGE_SIZE, 0o600 | SHM_NORESERVE)
    assert sysctl.vm_committed_as == start
