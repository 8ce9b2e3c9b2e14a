"""Programs of many processes and threads run the same every time, to the last byte of RAM.

With another seed for the length of slices the kernel's events come in another order, and the program says the same.
"""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from guest.toolchain import compiler_for
from minikernel.boot import System
from minikernel.config import Config
from minikernel.events import Event, Tracer
from tests.minikernel.machine import output_of, streams

_HEAD: Final = r"""
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define say(...) write(1, text, (unsigned long)snprintf(text, sizeof text, __VA_ARGS__))
static char text[200];
static unsigned long spin(unsigned long n) { volatile unsigned long x = n; while (n--) x = x * 31 + n; return x; }
"""
# Name: declarations, and what main() does.
PROGRAMS: Final = {
    "threads": (
        """
        static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
        static pthread_cond_t turn = PTHREAD_COND_INITIALIZER;
        static long total, next;
        static void *work(void *p) {
            long me = (long)p;
            for (int i = 0; i < 20; i++) {
                spin(20000 + me * 100);
                pthread_mutex_lock(&lock); total += me; pthread_mutex_unlock(&lock);
            }
            pthread_mutex_lock(&lock);
            while (next != me) pthread_cond_wait(&turn, &lock);
            next++;
            pthread_cond_broadcast(&turn);
            pthread_mutex_unlock(&lock);
            return p;
        }
        """,
        """
        pthread_t threads[6];
        for (long i = 0; i < 6; i++) pthread_create(&threads[i], NULL, work, (void *)i);
        for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
        say("%ld %ld\\n", total, next);
        return 6;
        """,
    ),
    "a pipeline": (
        "",
        """
        int ends[5][2], status;
        for (int i = 0; i < 5; i++) pipe(ends[i]);
        for (int i = 0; i < 4; i++)
            if (fork() == 0) {
                unsigned value;
                for (int j = 0; j <= i; j++) close(ends[j][1]);
                while (read(ends[i][0], &value, sizeof value) == sizeof value) {
                    spin(2000);
                    value = value * 3 + i;
                    write(ends[i + 1][1], &value, sizeof value);
                }
                _exit(i);
            }
        for (int i = 1; i < 5; i++) close(ends[i][1]);
        unsigned value, sum = 0, count = 0;
        for (unsigned i = 0; i < 100; i++) write(ends[0][1], &i, sizeof i);
        close(ends[0][1]);
        while (read(ends[4][0], &value, sizeof value) == sizeof value) { sum += value; count++; }
        int codes = 0;
        while (wait(&status) > 0) codes += WEXITSTATUS(status);
        say("%u %u %d\\n", sum, count, codes);
        return 0;
        """,
    ),
    "signals": (
        """
        static volatile int usr, chld, waiting;
        static void on(int sig) { if (sig == SIGCHLD) chld++; else usr++; }
        """,
        """
        sigset_t none, block;
        struct sigaction action = {.sa_handler = on};
        sigaction(SIGCHLD, &action, NULL); sigaction(SIGRTMIN, &action, NULL);
        sigemptyset(&none); sigfillset(&block); sigprocmask(SIG_BLOCK, &block, NULL);
        pid_t parent = getpid();
        for (int i = 0; i < 5; i++)
            if (fork() == 0) {
                for (int j = 0; j < 10; j++) { spin(30000); sigqueue(parent, SIGRTMIN, (union sigval){j}); }
                _exit(0);
            }
        while (usr < 50) sigsuspend(&none);
        while (wait(NULL) > 0) {}
        say("%d %d\\n", usr, chld > 0);
        return usr;
        """,
    ),
    "timers": (
        """
        static volatile int alarms;
        static void on(int sig) { alarms++; }
        """,
        """
        struct itimerval every = {{0, 300}, {0, 300}};
        struct sigaction action = {.sa_handler = on, .sa_flags = SA_RESTART};
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &every, NULL);
        if (fork() == 0) {
            struct timespec t = {0, 250000};
            for (int i = 0; i < 20; i++) { nanosleep(&t, NULL); spin(100000); }
            _exit(3);
        }
        int timer = timerfd_create(CLOCK_MONOTONIC, 0), ep = epoll_create1(0), ticks = 0;
        struct itimerspec period = {{0, 700000}, {0, 700000}};
        struct epoll_event event = {.events = EPOLLIN};
        timerfd_settime(timer, 0, &period, NULL);
        epoll_ctl(ep, EPOLL_CTL_ADD, timer, &event);
        while (ticks < 20) {
            unsigned long long n;
            if (epoll_wait(ep, &event, 1, -1) == 1 && read(timer, &n, 8) == 8) ticks += n;
            spin(100000);
        }
        int status;
        while (alarms < 30) spin(1000);
        setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
        wait(&status);
        say("%d %d\\n", ticks >= 20, WEXITSTATUS(status));
        return 0;
        """,
    ),
    "forks": (
        "",
        """
        int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), status;
        char *private = malloc(1 << 18);
        memset(private, 1, 1 << 18);
        for (int i = 0; i < 8; i++)
            if (fork() == 0) {
                for (int at = 0; at < 1 << 18; at += 4096) { private[at] += i; spin(3000); }
                for (int at = 0; at < 1 << 18; at += 4096) shared[i] += private[at];
                _exit(i);
            }
        int sum = 0, codes = 0;
        while (wait(&status) > 0) codes += WEXITSTATUS(status);
        for (int i = 0; i < 8; i++) sum += shared[i];
        say("%d %d\\n", sum, codes);
        return 0;
        """,
    ),
}


@dataclass(frozen=True)
class Run:
    """All there is to see of a run: its result, and how it came to it."""

    code: int
    output: bytes
    events: int
    order: str  # a hash of all kernel events with the instruction count and task of each
    icount: int
    ram: str  # a hash of all RAM at the end


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every program, for both architectures."""
    folder = tmp_path_factory.mktemp("programs")
    for name, (declarations, body) in PROGRAMS.items():
        source = folder / "source.c"
        source.write_text(f"{_HEAD}{declarations}int main(void)\n{{{body}}}\n")
        for arch in ("x86-64", "i386"):
            target = folder / f"{name} {arch}"
            command = [*compiler_for(arch).command, "-O1", "-static", "-pthread", "-w", "-o", str(target), str(source)]
            subprocess.run(command, check=True)
    return folder


def _run(config: Config) -> Run:
    events, order = 0, hashlib.sha256()

    def sink(icount: int, pid: int, event: Event) -> None:
        nonlocal events
        events += 1
        order.update(f"{icount} {pid} {event.text()}\n".encode())

    tracer = Tracer()
    tracer.sink = sink
    with streams(b"") as (out, _), System(config, tracer) as system:
        system.exec_init()
        code = system.run()
        kernel = system.kernel
        ram = hashlib.sha256(kernel.physmem.view8).hexdigest()
        icount = kernel.cpu.icount
        output = output_of(out)
    kernel.cpu.close()
    return Run(code, output, events, order.hexdigest(), icount, ram)


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["x86-64", "i386 on x86-64", "i386"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_the_same_twice_and_otherwise_with_another_seed(name: str, machine: str, folder: Path) -> None:
    arch, _, rest = machine.partition(" ")
    cpu = "x86-64" if rest else arch

    def config(seed: int | None) -> Config:
        path = f"/{name} {arch}".encode()
        return Config(argv=(path,), root=bytes(folder), ram=16 << 20, cpu=cpu, schedule_seed=seed)

    plain = _run(config(None))
    assert plain.events > 100
    assert _run(config(None)) == plain
    seeded = [_run(config(seed)) for seed in (1, 2)]
    assert _run(config(1)) == seeded[0]
    for run in seeded:
        assert (run.code, run.output) == (plain.code, plain.output)
        assert run.order != plain.order
    assert seeded[0].order != seeded[1].order


@pytest.mark.slow
def test_a_shell_with_pipelines_runs_the_same_twice(tmp_path: Path) -> None:
    script = b"""
    trap 'echo trapped' USR1; (sleep 0.01; kill -USR1 $$) & wait
    i=0; while [ $i -lt 5 ]; do i=$((i + 1)); (echo $i; exit $i) | cat | tr 0-9 a-j & done; wait
    seq 2000 | sort -r | head -3 | tr '\\n' ' '; echo $(echo nested | rev)
    """
    runs = [
        _run(
            Config(
                argv=(b"/bin/sh", b"-c", script),
                env=(b"PATH=/usr/bin:/bin",),
                cwd=bytes(tmp_path),
                ram=64 << 20,
                schedule_seed=seed,
            )
        )
        for seed in (None, None, 5)
    ]
    assert runs[0] == runs[1]
    assert runs[0].code == runs[2].code == 0
    assert sorted(runs[0].output.split()) == sorted(runs[2].output.split())
    assert runs[0].order != runs[2].order
