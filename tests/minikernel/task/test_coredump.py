"""Core files: what gdb sees in them, when there is one, and what it is called."""

import subprocess
import sys
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import NoteSegment

from guest.builder import ROOT
from guest.toolchain import ARCHES, compiler_for

CRASH = """
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
static pthread_barrier_t barrier;
static char text[] = "what was here";
char *secret;
static void *worker(void *ready) { pthread_barrier_wait(ready); for (;;) pause(); }
static __attribute__((noinline)) int deep(int *at, int level) { return level ? deep(at, level - 1) + 1 : *at; }
int main(int argc, char **argv) {
    pthread_t thread;
    pthread_barrier_init(&barrier, 0, 2);
    pthread_create(&thread, 0, worker, &barrier);
    pthread_barrier_wait(&barrier);
    text[0] = 'W';
    secret = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(secret, 4096, MADV_DONTDUMP);
    if (argc > 1)
        prctl(PR_SET_DUMPABLE, 0);
    return deep((int *)8, 3);
}
"""


@pytest.fixture(scope="module", params=ARCHES)
def crash(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program with two threads, one of which reads address 8."""
    directory = tmp_path_factory.mktemp("crash")
    source, program = directory / "crash.c", directory / "crash"
    source.write_text(CRASH)
    command = [*compiler_for(request.param).command, "-g", "-O0", "-o", str(program), str(source), "-lpthread"]
    subprocess.run(command, check=True, capture_output=True)
    return program


def run(directory: Path, script: str) -> str:
    """Run *script* in *directory*, which the guest may write; its output."""
    place = str(directory)
    command = [sys.executable, "-m", "minikernel", "run", "--bind", f"{place}:{place}:rw", "--cwd", place, "--"]
    done = subprocess.run(
        [*command, "/bin/bash", "-c", f"{script}; :"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_core_has_the_threads_the_notes_and_the_memory(crash: Path, tmp_path: Path) -> None:
    assert run(tmp_path, f"ulimit -c unlimited; {crash}; echo $?") == "139\n"
    with (tmp_path / "core").open("rb") as file:
        elf = ELFFile(file)
        assert elf["e_type"] == "ET_CORE"
        (segment,) = (each for each in elf.iter_segments() if isinstance(each, NoteSegment))
        notes = list(segment.iter_notes())
        kinds = [note["n_type"] for note in notes]
        assert kinds[:5] == ["NT_PRSTATUS", "NT_PRPSINFO", "NT_SIGINFO", "NT_AUXV", "NT_FILE"]
        assert kinds.count("NT_PRSTATUS") == 2
        names = notes[4]["n_desc"]["filename"]
        assert bytes(crash) in names
        loads = [each for each in elf.iter_segments() if each["p_type"] == "PT_LOAD"]
        assert any(b"What was here" in each.data() for each in loads)
        assert any(each["p_filesz"] == 0 and each["p_memsz"] == 4096 for each in loads), "MADV_DONTDUMP"
        assert all(each["p_offset"] % 4096 == 0 for each in loads)


def test_gdb_opens_it(crash: Path, tmp_path: Path) -> None:
    run(tmp_path, f"ulimit -c unlimited; {crash}")
    commands = ["bt", "info threads", "print text", "print *(int *)&secret != 0", "print $_siginfo.si_signo"]
    words = [word for command in commands for word in ("-ex", command)]
    gdb = ["gdb", "-q", "-nx", "-batch", *words, str(crash), str(tmp_path / "core")]
    text = subprocess.run(gdb, capture_output=True, text=True, check=True).stdout
    assert "Program terminated with signal SIGSEGV" in text
    assert "#0" in text
    assert "deep (at=0x8, level=0)" in text
    assert "in main (argc=1" in text
    assert text.count("LWP") >= 4, "two threads, told and listed"
    assert '"What was here"' in text
    assert "= 11" in text


def test_where_it_goes_and_how_long_it_is(crash: Path, tmp_path: Path) -> None:
    run(tmp_path, f"{crash}")
    assert not list(tmp_path.iterdir()), "RLIMIT_CORE is 0"
    run(tmp_path, f"ulimit -c 64; {crash}")
    assert (tmp_path / "core").stat().st_size == 64 * 1024
    assert (tmp_path / "core").stat().st_mode & 0o777 == 0o600
    (tmp_path / "core").unlink()
    run(tmp_path, f"ulimit -c unlimited; echo 1 >/proc/sys/kernel/core_uses_pid; {crash}")
    (found,) = tmp_path.iterdir()
    assert found.name.startswith("core.")
    found.unlink()
    pattern = "/proc/sys/kernel/core_pattern"
    assert run(tmp_path, f"ulimit -c unlimited; echo c-%e-%s-%%-%x%p >{pattern}; {crash}; cat {pattern}")[:2] == "c-"
    (found,) = tmp_path.iterdir()
    assert found.name.startswith("c-crash-11-%-")
    found.unlink()
    run(tmp_path, f"ulimit -c unlimited; echo '|/bin/cat' >{pattern}; {crash}")
    run(tmp_path, f"ulimit -c unlimited; {crash} hide")
    run(tmp_path, f"ulimit -c unlimited; ln -s elsewhere core; {crash}; rm core")
    assert not list(tmp_path.iterdir()), "no helpers, nothing of who hides, and no links are followed"
