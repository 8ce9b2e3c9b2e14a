"""Whichever allocation of fork, clone, exec or mmap fails: ENOMEM or the OOM path, and nothing is left behind."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from guest.toolchain import compiler_for
from minikernel.abi.abi import I386, X86_64
from minikernel.abi.clone import CLONE_FILES, CLONE_FS, CLONE_SIGHAND, CLONE_THREAD, CLONE_VFORK, CLONE_VM
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.mman import MAP_ANONYMOUS, MAP_POPULATE, MAP_PRIVATE, PROT_READ, PROT_WRITE
from minikernel.abi.signal import SIGKILL
from minikernel.boot import System
from minikernel.config import Config
from minikernel.kernel import Kernel
from minikernel.mm.mmap import do_mmap
from minikernel.mm.uaccess import clear_user
from minikernel.report.audit import assert_nothing_left, table_frames, validate_machine
from minikernel.task.exec import do_execve
from minikernel.task.fork import CloneArgs, kernel_clone
from tests.minikernel.machine import few_objects, streams
from tests.minikernel.task.programs import Machine, program

_MOST: Final = 500  # allocations that one call makes, at the very most
_SPREAD: Final = 8  # regions of 4 MiB with a page in each: fork needs that many tables
_THREAD: Final = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD


def _spread_out(machine: Machine) -> None:
    for region in range(_SPREAD):
        where = do_mmap(
            machine.task.mm,
            0x2000_0000 + (region << 22),
            4096,
            PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS,
            None,
            0,
        )
        clear_user(machine.task.mm, where, 8)


def _clone(flags: int, stack: int = 0) -> Callable[[Machine], object]:
    return lambda machine: kernel_clone(machine.task, CloneArgs(flags=flags, stack=stack))


def _exec(name: str) -> Callable[[Machine], object]:
    arguments = [b"word" * 1000] * 10  # more than one page of stack
    return lambda machine: do_execve(machine.task, b"/" + name.encode(), [name.encode(), *arguments], [b"A=B"])


def _populate(machine: Machine) -> None:
    mm = machine.task.mm
    before = mm.rss
    do_mmap(mm, 0, 16 << 12, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, None, 0)
    if mm.rss < before + 16:
        raise LinuxError(Errno.ENOMEM, "the mapping is there, some of its pages are not: mmap(2) says nothing")


CALLS: Final[dict[str, Callable[[Machine], object]]] = {
    "fork": _clone(0),
    "vfork": _clone(CLONE_VM | CLONE_VFORK),
    "clone of a thread": _clone(_THREAD, stack=0x1000),
    "exec of a 64-bit program": _exec("program64"),
    "exec of a 32-bit program": _exec("program32"),
    "exec of a script": _exec("script"),
    "mmap": _populate,
}


def _call(machine: Machine, name: str) -> Errno | None:
    """The error of call *name*."""
    try:
        CALLS[name](machine)
    except LinuxError as error:
        return error.errno
    return None


@pytest.fixture(scope="module", autouse=True)
def _few_objects() -> Iterator[None]:
    with few_objects():
        yield


def _arm(kernel: Kernel, what: str, n: int | None) -> None:
    """Allocation *n* of a frame, or of an object of the kernel, will fail."""
    (kernel.node if what == "frame" else kernel.node.slab).fail_allocation(n)


@pytest.mark.parametrize("what", ["frame", "object"])
@pytest.mark.parametrize("name", CALLS)
def test_whichever_allocation_of_a_call_fails_nothing_is_left(name: str, what: str, tmp_path: Path) -> None:
    idle = Machine(tmp_path)
    idle.system.power_off()
    tables, failures = table_frames(idle.kernel), 0
    idle.close()
    for n in range(_MOST):
        machine = Machine(tmp_path)
        machine.write("program64", program(X86_64))
        machine.write("program32", program(I386))
        machine.write("script", b"#!/program64 argument\n")
        kernel, task = machine.kernel, machine.task
        _spread_out(machine)
        mm, nr_tasks = task.mm, len(kernel.tasks)
        _arm(kernel, what, n)
        error = _call(machine, name)
        if error is not None:
            failures += 1
            # Clearing the rest of a segment's last page says EFAULT for every reason, as Linux's padzero does.
            assert error == Errno.ENOMEM or (error == Errno.EFAULT and "exec" in name)
            assert task.mm is mm
            assert len(kernel.tasks) == nr_tasks
            assert not task.process.children
        came = what == "frame" or not kernel.node.slab.fails_soon
        _arm(kernel, what, None)
        validate_machine(kernel)
        machine.system.power_off()
        assert_nothing_left(kernel, tables)
        machine.close()
        if error is None and (what == "frame" or not came):
            break
    else:
        pytest.fail("it makes allocations without end")
    assert failures or what == "frame"


# Everything that allocates, in one program: it says with its status what it could not do.
_ALL_OF_IT: Final = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static char stack[16384], big[12288];
static int thread(void *p) { memset(big, 1, sizeof big); return 0; }

int main(int argc, char **argv)
{
    int status, failed = 0, ends[2];
    if (argc > 1) return 5;
    char *p = mmap(NULL, 1 << 14, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return errno == ENOMEM ? 20 : 99;
    memset(p, 1, 1 << 14);
    p = mremap(p, 1 << 14, 1 << 16, MREMAP_MAYMOVE);
    if (p == MAP_FAILED) return errno == ENOMEM ? 20 : 99;
    if (pipe(ends)) return errno == ENOMEM || errno == ENFILE ? 20 : 99;
    pid_t pid = fork();
    if (pid == 0) {
        char *args[] = {argv[0], "again", NULL};
        memset(p, 2, 1 << 13);
        if (write(ends[1], p, 5000) != 5000) _exit(errno == ENOMEM ? 20 : 98);
        execv("/proc/self/exe", args);
        _exit(errno == ENOMEM || errno == EFAULT ? 20 : 97);
    }
    if (pid < 0) return errno == ENOMEM ? 20 : 99;
    if (waitpid(pid, &status, 0) != pid) return 96;
    if (WIFSIGNALED(status) ? WTERMSIG(status) != SIGKILL : WEXITSTATUS(status) != 5) failed = WEXITSTATUS(status);
    pid = clone(thread, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL);
    if (pid < 0) return errno == ENOMEM ? 20 : 99;
    if (waitpid(pid, &status, 0) != pid) return 95;
    return failed == 20 ? 20 : failed ? 94 : 5;
}
"""


@pytest.fixture(scope="module", params=["x86-64", "i386"])
def binary(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, without a dynamic loader."""
    folder = tmp_path_factory.mktemp("all")
    source, target = folder / "all.c", folder / "all"
    source.write_text(_ALL_OF_IT)
    subprocess.run([*compiler_for(request.param).command, "-O1", "-static", "-w", "-o", target, source], check=True)
    return target


def _run_with_failure(binary: Path, what: str, n: int) -> tuple[int, bool]:
    """How it ended, and whether an allocation failed."""
    with streams(b""), System(Config(argv=(bytes(binary),), root=bytes(binary.parent), ram=16 << 20)) as system:
        kernel = system.kernel
        tables = table_frames(kernel)
        system.exec_init(b"/all")
        _arm(kernel, what, n)
        code = system.run()
        came = not kernel.node.slab.fails_soon if what == "object" else kernel.node.zones[0].pcp_high != 0
        _arm(kernel, what, None)
        validate_machine(kernel)
        system.power_off()
        assert_nothing_left(kernel, tables)
    kernel.cpu.close()
    return code, came


@pytest.mark.slow
@pytest.mark.parametrize("what", ["frame", "object"])
@pytest.mark.parametrize("offset", range(4))
def test_whichever_allocation_of_a_run_fails_the_guest_is_told(binary: Path, offset: int, what: str) -> None:
    """ENOMEM from the call, or the task that needed the page is killed, as by Linux's OOM killer."""
    for n in range(offset, _MOST, 4):
        code, came = _run_with_failure(binary, what, n)
        if not came:
            assert code == 5 << 8
            return
        assert code in {5 << 8, 20 << 8, SIGKILL}, f"allocation {n}: exit code {code:#x}"
    pytest.fail("it makes allocations without end")
