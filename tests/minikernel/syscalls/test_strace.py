"""Lines like strace's.  The expected texts are what strace 6.1 printed for the same calls on Linux."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emu.x86 import VirtAddr
from minikernel.abi import signal as s
from minikernel.abi.abi import ABIS, I386, X86_64, Abi
from minikernel.abi.signal import Sigaction, sigmask
from minikernel.abi.syscall_numbers import NUMBERS
from minikernel.events import Event, SchedProcessExit, SignalDeliver, SysEnter, SysExit
from minikernel.syscalls.strace import Strace, enter_call, leave_call, show_result
from minikernel.syscalls.strace_format import quote, show_sigset
from minikernel.syscalls.table import TABLES

BUF = 0x1000


class FakeMemory:
    """Some bytes at BUF, and nothing anywhere else."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    def read_bytes(self, address: int, size: int) -> bytes | None:
        """As a task's memory would be read."""
        at = address - BUF
        return self.data[at : at + size] if at >= 0 and at + size <= len(self.data) else None

    def read_string(self, address: int, limit: int) -> bytes | None:
        """As a task's memory would be read."""
        at = address - BUF
        return self.data[at:].split(b"\0")[0][:limit] if 0 <= at < len(self.data) else None


def line(abi: Abi, name: str, args: tuple[int, ...], ret: int, data: bytes = b"", after: bytes | None = None) -> str:
    """The whole line of a call; memory holds *data* before it and *after* behind it."""
    memory = FakeMemory(data)
    raw = tuple(value & 0xFFFF_FFFF_FFFF_FFFF for value in args) + (0,) * (6 - len(args))
    call = enter_call(abi, NUMBERS[abi.name][name], raw, memory)
    if after is not None:
        memory.data = after
    return f"{call.text}{leave_call(call, ret)} = {show_result(name, ret, call.view.args)}"


FIELDS = ("name", "args", "ret", "data", "expected")


def names(value: object) -> str:
    """Cases go by the name of their call."""
    return value if isinstance(value, str) and "(" not in value else ""


RLIMIT = struct.pack("<QQ", 8 << 20, 2**64 - 1)
IOV = struct.pack("<QQQQ", BUF + 32, 2, BUF + 34, 4) + b"abcde\n"
STAT = bytes(24) + struct.pack("<I", 0o100644) + bytes(20) + struct.pack("<q", 38015) + bytes(88)
LINES_64: list[tuple[str, tuple[int, ...], int, bytes, str]] = [
    ("brk", (0,), 0x4AC000, b"", "brk(NULL) = 0x4ac000"),
    ("access", (BUF, 6), -2, b"/x\0", 'access("/x", R_OK|W_OK) = -1 ENOENT (No such file or directory)'),
    ("access", (BUF, 0), 0, b"/x\0", 'access("/x", F_OK) = 0'),
    ("openat", (-100, BUF, 0o2000000), 3, b"/a\0", 'openat(AT_FDCWD, "/a", O_RDONLY|O_CLOEXEC) = 3'),
    ("open", (BUF, 0o1102, 0o644), 3, b"/a\0", 'open("/a", O_RDWR|O_CREAT|O_TRUNC, 0644) = 3'),
    ("write", (1, BUF, 10), 10, b'hello\1\n"x"', r'write(1, "hello\1\n\"x\"", 10) = 10'),
    ("write", (1, 0x99, 10), -14, b"", "write(1, 0x99, 10) = -1 EFAULT (Bad address)"),
    ("read", (0, BUF, 4096), 5, b"hello" + bytes(50), 'read(0, "hello", 4096) = 5'),
    ("read", (0, BUF, 4096), 0, b"", 'read(0, "", 4096) = 0'),
    ("read", (9, BUF, 4096), -9, b"x" * 99, "read(9, 0x1000, 4096) = -1 EBADF (Bad file descriptor)"),
    ("getrandom", (BUF, 3, 1), 3, b"\x01\xfe\x41", r'getrandom("\x01\xfe\x41", 3, GRND_NONBLOCK) = 3'),
    ("fstat", (3, BUF), 0, STAT, "fstat(3, {st_mode=S_IFREG|0644, st_size=38015, ...}) = 0"),
    ("close", (99,), -9, b"", "close(99) = -1 EBADF (Bad file descriptor)"),
    ("mprotect", (0x4000, 4096, 0), 0, b"", "mprotect(0x4000, 4096, PROT_NONE) = 0"),
    ("mremap", (0x4000, 4096, 8192, 1), 0x9000, b"", "mremap(0x4000, 4096, 8192, MREMAP_MAYMOVE) = 0x9000"),
    ("madvise", (0x4000, 4096, 4), 0, b"", "madvise(0x4000, 4096, MADV_DONTNEED) = 0"),
    ("arch_prctl", (0x1002, 0x740), 0, b"", "arch_prctl(ARCH_SET_FS, 0x740) = 0"),
    ("prctl", (15, BUF), 0, b"abc\0", 'prctl(PR_SET_NAME, "abc") = 0'),
    ("fcntl", (3, 3), 0x8002, b"", "fcntl(3, F_GETFL) = 0x8002 (flags O_RDWR|O_LARGEFILE)"),
    ("fcntl", (3, 2, 1), 0, b"", "fcntl(3, F_SETFD, FD_CLOEXEC) = 0"),
    ("umask", (0o22,), 0o22, b"", "umask(022) = 022"),
    ("pipe2", (BUF, 0o2000000), 0, struct.pack("<ii", 3, 4), "pipe2([3, 4], O_CLOEXEC) = 0"),
    ("writev", (1, BUF, 2), 6, IOV,
     r'writev(1, [{iov_base="ab", iov_len=2}, {iov_base="cde\n", iov_len=4}], 2) = 6'),
    ("prlimit64", (0, 3, 0, BUF), 0, RLIMIT,
     "prlimit64(0, RLIMIT_STACK, NULL, {rlim_cur=8192*1024, rlim_max=RLIM64_INFINITY}) = 0"),
    ("futex", (0x4000, 129, 1), 0, b"", "futex(0x4000, FUTEX_WAKE_PRIVATE, 1) = 0"),
    ("clock_gettime", (1, BUF), 0, struct.pack("<qq", 5, 7),
     "clock_gettime(CLOCK_MONOTONIC, {tv_sec=5, tv_nsec=7}) = 0"),
    ("rt_sigprocmask", (2, BUF, 0, 8), 0, s.pack_sigset(sigmask(s.SIGCHLD)),
     "rt_sigprocmask(SIG_SETMASK, [CHLD], NULL, 8) = 0"),
    ("rt_sigaction", (2, BUF, 0, 8), 0, Sigaction(1, 0x1400_0000, 0x50).pack(X86_64),
     ("rt_sigaction(SIGINT, {sa_handler=SIG_IGN, sa_mask=[], sa_flags=SA_RESTORER|SA_RESTART, sa_restorer=0x50}, "
      "NULL, 8) = 0")),
    ("nanosleep", (BUF, 0), -516, struct.pack("<qq", 1, 0),
     "nanosleep({tv_sec=1, tv_nsec=0}, NULL) = ? ERESTART_RESTARTBLOCK (Interrupted by signal)"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "args", "ret", "data", "expected"), LINES_64, ids=lambda x: x if type(x) is str else ""
)
def test_a_line_is_what_strace_prints(name: str, args: tuple[int, ...], ret: int, data: bytes, expected: str) -> None:
    assert line(X86_64, name, args, ret, data) == expected


LINES_32: list[tuple[str, tuple[int, ...], int, bytes, str]] = [
    ("mmap2", (0, 4096, 1, 2, 3, 0x22), 0xF7F0_0000, b"",
     "mmap2(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0x22000) = 0xf7f00000"),
    ("pread64", (3, BUF, 50, 5, 1), 2, b"ab", 'pread64(3, "ab", 50, 4294967301) = 2'),
    ("_llseek", (3, 0, 0, BUF, 2), 0, struct.pack("<q", 10), "_llseek(3, 0, [10], SEEK_END) = 0"),
    ("ugetrlimit", (7, BUF), 0, struct.pack("<II", 1024, 2**32 - 1),
     "ugetrlimit(RLIMIT_NOFILE, {rlim_cur=1024, rlim_max=RLIM_INFINITY}) = 0"),
    ("nanosleep", (BUF, 0), 0, struct.pack("<ii", 1, 2), "nanosleep({tv_sec=1, tv_nsec=2}, NULL) = 0"),
    ("clock_gettime64", (0, BUF), 0, struct.pack("<qq", 1, 2),
     "clock_gettime64(CLOCK_REALTIME, {tv_sec=1, tv_nsec=2}) = 0"),
    ("set_thread_area", (BUF,), 0, struct.pack("<IIII", 0xFFFF_FFFF, 0xF000, 0xFFFFF, 0x51),
     ("set_thread_area({entry_number=-1, base_addr=0xf000, limit=0xfffff, seg_32bit=1, contents=0, read_exec_only=0, "
      "limit_in_pages=1, seg_not_present=0, useable=1}) = 0")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "args", "ret", "data", "expected"), LINES_32, ids=lambda x: x if type(x) is str else ""
)
def test_a_line_of_i386_is_what_strace_prints(
    name: str, args: tuple[int, ...], ret: int, data: bytes, expected: str
) -> None:
    assert line(I386, name, args, ret, data) == expected


def test_input_is_shown_as_it_was_and_output_as_it_is() -> None:
    assert line(X86_64, "rename", (BUF, BUF + 2), 0, b"a\0b\0", b"x\0y\0") == 'rename("a", "b") = 0'
    assert line(X86_64, "read", (0, BUF, 1), 1, b"a", b"b") == 'read(0, "b", 1) = 1'


def test_a_call_that_is_not_there_is_shown_by_its_registers() -> None:
    assert line(X86_64, "io_uring_setup", (1, 2), -38) == (
        "io_uring_setup(0x1, 0x2, 0x0, 0x0, 0x0, 0x0) = -1 ENOSYS (Function not implemented)"
    )
    call = enter_call(X86_64, 9999, (0,) * 6, FakeMemory())

    assert call.text.startswith("syscall_0x270f(0x0")


def test_strings_are_cut_as_strace_cuts_them() -> None:
    assert quote(b"x" * 33) == '"' + "x" * 32 + '"...'
    assert quote(b"x" * 32) == '"' + "x" * 32 + '"'
    assert quote(b"\0001") == r'"\0001"'  # three digits where a digit follows
    assert quote(b"\0a\xff") == r'"\0a\377"'


@given(st.binary(max_size=32))
def test_quoted_bytes_read_back_as_c_would_read_them(data: bytes) -> None:
    quoted = quote(data)

    assert quoted[1:-1].encode().decode("unicode_escape").encode("latin-1") == data


def test_large_sets_of_signals_are_shown_by_what_they_lack() -> None:
    everything = (1 << 64) - 1

    assert show_sigset(0) == "[]"
    assert show_sigset(sigmask(s.SIGINT, s.SIGCHLD)) == "[INT CHLD]"
    assert show_sigset(everything) == "~[]"
    assert show_sigset(everything & ~sigmask(s.SIGKILL, s.SIGRTMIN)) == "~[KILL RTMIN]"


def enter(name: str, *args: int) -> SysEnter:
    """A call of x86-64 begins."""
    return SysEnter("x86-64", NUMBERS["x86-64"][name], args + (0,) * (6 - len(args)))


def leave(name: str, ret: int) -> SysExit:
    """A call of x86-64 ends."""
    return SysExit("x86-64", NUMBERS["x86-64"][name], ret)


def lines_of(*events: tuple[int, Event]) -> list[str]:
    """What the sink writes for (pid, event)s."""
    written: list[str] = []
    sink = Strace(written.append, FakeMemory())
    for pid, event in events:
        sink(0, pid, event)
    return written


def test_the_end_of_a_program() -> None:
    assert lines_of((1, enter("exit_group", 3)), (1, SchedProcessExit(3 << 8))) == [
        "exit_group(3)                           = ?\n",
        "+++ exited with 3 +++\n",
    ]


def test_a_deadly_signal() -> None:
    assert lines_of(
        (1, SignalDeliver(s.SIGSEGV, s.SEGV_MAPERR, VirtAddr(0))), (1, SchedProcessExit(s.SIGSEGV | 0x80))
    ) == [
        "--- SIGSEGV {si_signo=SIGSEGV, si_code=SEGV_MAPERR} ---\n",
        "+++ killed by SIGSEGV (core dumped) +++\n",
    ]


def test_lines_of_several_tasks_are_broken_where_they_overlap() -> None:
    told = lines_of(
        (1, enter("getpid")), (1, leave("getpid", 1)),
        (1, enter("pause")), (2, enter("getppid")), (2, leave("getppid", 1)), (1, leave("pause", -514)),
    )  # fmt: skip

    assert told == [
        "getpid()                                = 1\n",
        "[pid     1] pause( <unfinished ...>\n",
        "[pid     2] getppid()                               = 1\n",
        "[pid     1] <... pause resumed>)                    = ? ERESTARTNOHAND (To be restarted if no handler)\n",
    ]


def every_call() -> Iterator[tuple[Abi, int]]:
    """Every number of both tables."""
    for abi in ABIS:
        for nr in TABLES[abi.name].entries:
            yield abi, nr


@given(
    st.lists(st.one_of(st.sampled_from((0, 1, BUF, 2**64 - 1)), st.integers(0, 2**64 - 1)), min_size=6, max_size=6),
    st.one_of(st.integers(-600, 200), st.integers(-(2**63), 2**63 - 1)),
    st.binary(max_size=200),
)
def test_no_call_is_too_strange_to_be_shown(raw: list[int], ret: int, data: bytes) -> None:
    for abi, nr in every_call():
        call = enter_call(abi, nr, tuple(raw), FakeMemory(data))
        text = call.text + leave_call(call, ret) + show_result(call.view.name, ret, call.view.args)

        assert "\n" not in text
