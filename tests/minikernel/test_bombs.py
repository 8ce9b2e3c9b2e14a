"""Programs that want everything: they end in errors inside the guest, the emulator stays up and its books balance."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from guest.toolchain import compiler_for
from minikernel.abi.signal import SIGKILL
from minikernel.config import Config
from tests.minikernel.machine import few_objects, run_and_audit

_HEAD: Final = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static int say(const char *what) { return write(1, what, strlen(what)) < 0; }
static char stack[4096 * 8];
static int sleeper(void *p) { pause(); return 0; }
"""
# Name: what main() does.
BOMBS: Final = {
    "forks that stay": """
        int n = 0;
        pid_t pid;
        while ((pid = fork()) > 0) n++;
        if (pid == 0) { pause(); return 0; }
        say(errno == EAGAIN || errno == ENOMEM ? "refused\\n" : "other\\n");
        kill(0, SIGCONT);
        return 0;
    """,
    "forks that fork": """
        for (int i = 0; i < 12; i++) if (fork() < 0) break;
        while (wait(NULL) > 0) {}
        return 0;
    """,
    "threads": """
        int n = 0;
        while (clone(sleeper, stack + sizeof stack, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD
                     | CLONE_SYSVSEM, NULL) > 0) n++;
        say(errno == EAGAIN ? "refused\\n" : "other\\n");
        _exit(0);
    """,
    "memory": """
        for (;;) {
            char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED) return 3;
            memset(p, 1, 1 << 20);
        }
    """,
    "memory of a child": """
        pid_t pid = fork();
        if (pid == 0) for (;;) memset(mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), 1, 1 << 20);
        int status;
        waitpid(pid, &status, 0);
        say(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL ? "killed\\n" : "other\\n");
        return 0;
    """,
    "stack": """
        volatile char page[65536];
        page[0] = argc;
        signal(SIGSEGV, SIG_DFL);
        return main(argc + page[0], argv) + page[0];
    """,
    "mappings": """
        int n = 0;
        while (mmap(NULL, 4096, n++ & 1 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
               != MAP_FAILED && n < 3000) {}
        return fork() < 0 && errno != ENOMEM;
    """,
    "descriptors": """
        while (open("/dev/null", O_RDONLY) >= 0) {}
        say(errno == EMFILE ? "refused\\n" : "other\\n");
        return 0;
    """,
    "pipes": """
        int ends[2];
        char page[4096] = {0};
        while (pipe2(ends, O_NONBLOCK) == 0) while (write(ends[1], page, sizeof page) > 0) {}
        say("refused\\n");
        return 0;
    """,
    "files": """
        int fd = open("hog", O_RDWR | O_CREAT, 0600);
        char page[65536];
        memset(page, 1, sizeof page);
        while (write(fd, page, sizeof page) > 0) {}
        say(errno == ENOSPC || errno == ENOMEM ? "refused\\n" : "other\\n");
        return 0;
    """,
    "signals": """
        sigset_t all;
        sigfillset(&all);
        sigprocmask(SIG_SETMASK, &all, NULL);
        while (sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0) {}
        say(errno == EAGAIN ? "refused\\n" : "other\\n");
        return 0;
    """,
    "closing everything": """
        for (int fd = 0; fd < 1024; fd++) close(fd);
        int ends[2], status;
        if (pipe(ends) || ends[0] != 0) return 2;
        if (fork() == 0) { write(ends[1], "x", 1); _exit(0); }
        wait(&status);
        return read(0, stack, 1) == 1 && WIFEXITED(status) ? 0 : 4;
    """,
    "unmapping everything": """
        pid_t pid = fork();
        int status;
        if (pid == 0) munmap(0, (long)stack + sizeof stack & ~4095l);
        waitpid(pid, &status, 0);
        say(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV ? "killed\\n" : "other\\n");
        return 0;
    """,
    "programs": """
        char count[20], *args[] = {argv[0], count, NULL};
        int n = argc > 1 ? atoi(argv[1]) : 0;
        if (n == 150) return 0;
        sprintf(count, "%d", n + 1);
        execv("/proc/self/exe", args);
        return 9;
    """,
}
# How each may end: what it says, and its exit code.  A lack of memory kills, as Linux's OOM killer does.
OUTPUTS: Final = {b"refused\n", b"killed\n", b""}
CODES: Final = {
    "memory": {SIGKILL, 3 << 8},
    "stack": {11},
    "forks that stay": {0, SIGKILL},
    "forks that fork": {0, SIGKILL},
    "mappings": {0, SIGKILL},
    # The error comes when all frames are taken: what the program needs next may be one too many.
    "pipes": {0, SIGKILL},
    "files": {0, SIGKILL},
}


@pytest.fixture(scope="module", autouse=True)
def _few_objects() -> Iterator[None]:
    with few_objects():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every bomb, for both architectures."""
    folder = tmp_path_factory.mktemp("bombs")
    for name, body in BOMBS.items():
        source = folder / "bomb.c"
        source.write_text(f"{_HEAD}int main(int argc, char **argv)\n{{{body}}}\n")
        for arch in ("x86-64", "i386"):
            target = folder / f"{name} {arch}"
            command = [*compiler_for(arch).command, "-O0", "-static", "-w", "-o", str(target), str(source)]
            subprocess.run(command, check=True)
    return folder


MACHINES: Final = {
    "x86-64, 16 MiB": ("x86-64", {"ram": 16 << 20}),
    "x86-64, 64 MiB, 30 processes": ("x86-64", {"ram": 64 << 20, "max_processes": 30}),
    "i386, 16 MiB": ("i386", {"ram": 16 << 20, "cpu": "i386"}),
    "i386 on x86-64, few processes": ("i386", {"ram": 64 << 20, "max_processes": 5, "schedule_seed": 1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_inside_the_guest(name: str, machine: str, folder: Path) -> None:
    arch, options = MACHINES[machine]
    path = f"/{name} {arch}".encode()
    config = Config(argv=(path,), root=bytes(folder), **options)  # type: ignore[arg-type]
    ended = run_and_audit(config)
    assert ended.stdout in OUTPUTS
    assert ended.code in CODES.get(name, {0})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("--timeout", "1.5", "/bin/sh", "-c", "while :; do /bin/true; done"), 124, "timed out after 1.5 s"),
        (("--timeout", "20", "/bin/sh", "-c", "sleep 1000000 | cat"), 0, ""),
        (("--max-instructions", "3_000_000", "/bin/sh", "-c", "while :; do :; done"), 125, "instructions"),
        (("--ram", "16M", "/bin/sh", "-c", "x=aaaaaaaa; while :; do x=$x$x; done"), 2, "Out of space"),
        (("--max-processes", "1", "/bin/sh", "-c", "true | true"), 2, "Cannot fork"),
    ],
    ids=["programs", "time", "instructions", "memory", "processes"],
)
def test_the_command_says_how_it_ended(words: tuple[str, ...], status: int, says: str) -> None:
    command = [sys.executable, "-m", "minikernel", "run", *words]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    assert says in done.stderr.decode()
    assert "panic" not in done.stderr.decode()
