"""Every number and every struct layout, against the kernel's headers on this machine."""

from collections.abc import Callable
from types import ModuleType

import pytest

from minikernel.abi import capability, futex, ipc, ldt, mman, numa, prctl, random, resource, sched, shm, siginfo, signal
from minikernel.abi import time as abi_time
from minikernel.abi.abi import ABIS, I386, Abi
from minikernel.abi.ipc import Ipc64Perm
from minikernel.abi.siginfo import Siginfo
from minikernel.abi.signal import Sigaction, SignalStack
from minikernel.abi.sysinfo import Sysinfo, Utsname
from tests.minikernel.abi.conftest import Ask

MODULES = (signal, abi_time, resource, prctl, capability, sched, futex, numa, random, mman, ipc, shm)

# Names that the headers define with another meaning, or for another layer.
OURS = frozenset(
    (
        "RLIM_INFINITY",  # ~0UL there; 64 bits on both ABIs here
        "NSIG",  # 32 in the i386 header
        "SIGRTMAX",  # libc's business
        "SA_RESTORER",
        "CLONE_NEWTIME",
    )
)


def constants(module: ModuleType) -> dict[str, int]:
    """The integer constants of *module*."""
    return {
        name: value
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, int) and not isinstance(value, bool) and not name.startswith("_")
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_constants_are_those_of_the_headers(ask_compiler: Ask, module: ModuleType, abi: Abi) -> None:
    ours = {name: value for name, value in constants(module).items() if name not in OURS}
    theirs = ask_compiler(abi.name, list(ours))

    assert len(theirs) > 2
    mask = 0xFFFF_FFFF
    assert {name: ours[name] & mask for name in theirs} == {name: value & mask for name, value in theirs.items()}


SIZES: dict[str, Callable[[Abi], int]] = {
    "sizeof(siginfo_t)": lambda _abi: siginfo.SIGINFO_SIZE,
    "sizeof(stack_t)": signal.stack_size,
    "sizeof(struct rlimit)": resource.rlimit_size,
    "sizeof(struct rlimit64)": lambda _abi: resource.RLIMIT64_SIZE,
    "sizeof(struct rusage)": lambda abi: len(resource.Rusage().pack(abi)),
    "sizeof(struct sysinfo)": lambda abi: len(Sysinfo(0, (0, 0, 0), 0, 0, 0, 0, 0, 0, 0, 0, 0).pack(abi)),
    "sizeof(struct new_utsname)": lambda _abi: len(Utsname(b"", b"", b"", b"", b"", b"").pack()),
    "sizeof(struct old_utsname)": lambda _abi: len(Utsname(b"", b"", b"", b"", b"", b"").pack_old()),
    "sizeof(struct oldold_utsname)": lambda _abi: len(Utsname(b"", b"", b"", b"", b"", b"").pack_oldold()),
    "sizeof(struct shmid64_ds)": lambda abi: shm.shmid_ds_size(abi, old=False),
    "sizeof(struct ipc64_perm)": ipc.perm_size,
    "sizeof(struct shminfo64)": lambda abi: len(shm.ShmLimits(0, 0, 0, 0, 0).pack(abi, compat=False, old=False)),
    "sizeof(struct shm_info)": lambda abi: len(shm.ShmUse(0, 0, 0, 0).pack(abi)),
    "sizeof(struct user_desc)": lambda _abi: ldt.USER_DESC_SIZE,
    "sizeof(struct __kernel_timespec)": lambda _abi: len(abi_time.pack_timespec64(0)),
    "sizeof(struct __kernel_old_timeval)": lambda abi: len(abi_time.pack_timeval(abi, 0)),
    "sizeof(struct sched_attr)": lambda _abi: sched.SCHED_ATTR_SIZE_VER1,
    "sizeof(struct futex_waitv)": lambda _abi: futex.WAITV.size,
    "sizeof(struct __user_cap_header_struct)": lambda _abi: capability.HEADER.size,
    "sizeof(struct __user_cap_data_struct)": lambda _abi: capability.DATA.size,
}


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_structures_have_the_size_of_the_headers(ask_compiler: Ask, abi: Abi) -> None:
    theirs = ask_compiler(abi.name, list(SIZES))

    assert {name: size(abi) for name, size in SIZES.items()} == theirs


def test_sigactions_have_the_layout_of_the_headers(ask_compiler: Ask) -> None:
    """The headers' struct is the kernel's own on x86-64, and the one of the first sigaction on i386."""
    fields = ["sa_handler", "sa_flags", "sa_restorer", "sa_mask"]
    action = Sigaction(0x11, 0x22, 0x33, 0x44)
    for abi, packed in zip(ABIS, (action.pack(ABIS[0]), action.pack_old()), strict=True):
        asked = ask_compiler(abi.name, [f"offsetof(struct sigaction, {field})" for field in fields])
        found = [packed[offset] for offset in asked.values()]

        assert found == [0x11, 0x22, 0x33, 0x44]


SIGINFOS = (
    (Siginfo(signal.SIGSEGV, signal.SEGV_ACCERR, addr=0x1234), {"si_addr": 0x1234}),
    (Siginfo(signal.SIGTERM, pid=7, uid=9), {"si_pid": 7, "si_uid": 9}),
    (Siginfo(40, signal.SI_QUEUE, pid=7, uid=9, value=0x55), {"si_pid": 7, "si_uid": 9, "si_value": 0x55}),
    (
        Siginfo(signal.SIGALRM, signal.SI_TIMER, timer_id=3, overrun=4, value=5),
        {"si_tid": 3, "si_overrun": 4, "si_value": 5},
    ),
    (
        Siginfo(signal.SIGCHLD, signal.CLD_EXITED, pid=7, uid=9, status=3, utime=4, stime=5),
        {"si_pid": 7, "si_uid": 9, "si_status": 3, "si_utime": 4, "si_stime": 5},
    ),
    (Siginfo(signal.SIGIO, signal.POLL_IN, band=6, fd=8), {"si_band": 6, "si_fd": 8}),
    (
        Siginfo(signal.SIGSYS, signal.SYS_SECCOMP, addr=0x99, syscall=5, arch=6),
        {"si_call_addr": 0x99, "si_syscall": 5, "si_arch": 6},
    ),
)


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
@pytest.mark.parametrize(("info", "fields"), SIGINFOS, ids=lambda x: x.layout.value if isinstance(x, Siginfo) else "")
def test_siginfo_fields_lie_where_the_headers_say(
    ask_compiler: Ask, abi: Abi, info: Siginfo, fields: dict[str, int]
) -> None:
    head = {"si_signo": info.signo, "si_code": info.code & 0xFF}
    expected = head | fields
    offsets = ask_compiler(abi.name, [f"offsetof(siginfo_t, {name})" for name in expected])
    packed = info.pack(abi)

    assert [packed[offset] for offset in offsets.values()] == [value & 0xFF for value in expected.values()]


SEGMENT = shm.Shmid64Ds(Ipc64Perm(1, 2, 3, 4, 5, 6, 7), 8, 9, 10, 11, 12, 13, 14)
SEGMENT_FIELDS = {
    **{f"shm_perm.{name}": at for at, name in enumerate(("key", "uid", "gid", "cuid", "cgid", "mode", "seq"), 1)},
    "shm_segsz": 8,
    "shm_atime": 9,
    "shm_dtime": 10,
    "shm_ctime": 11,
    "shm_cpid": 12,
    "shm_lpid": 13,
    "shm_nattch": 14,
}


def test_old_segments_have_the_layout_of_the_headers(ask_compiler: Ask) -> None:
    """struct shmid_ds and struct shminfo: i386's first shmctl."""
    offsets = ask_compiler("i386", [f"offsetof(struct shmid_ds, {field})" for field in SEGMENT_FIELDS])
    sizes = ask_compiler("i386", ["sizeof(struct shmid_ds)", "sizeof(struct shminfo)"])
    packed = SEGMENT.pack_old()

    assert [packed[offset] for offset in offsets.values()] == list(SEGMENT_FIELDS.values())
    limits = shm.ShmLimits(1 << 63, 2, 3, 4, 5).pack(I386, compat=True, old=True)
    assert [len(packed), len(limits)] == list(sizes.values())
    assert limits[:4] == b"\xff\xff\xff\x7f"


@pytest.mark.parametrize("abi", ABIS, ids=lambda abi: abi.name)
def test_other_fields_lie_where_the_headers_say(ask_compiler: Ask, abi: Abi) -> None:
    info = Sysinfo(1, (2, 3, 4), 5, 6, 7, 8, 9, 10, 11, 12, 13).pack(abi)
    usage = resource.Rusage(utime=1_000_000_000, maxrss=3, minflt=4, majflt=5, nvcsw=6, nivcsw=7).pack(abi)
    stack = SignalStack(1, 2, 3).pack(abi)
    cases = {
        "struct sysinfo": (info, {"uptime": 1, "loads[2]": 4, "totalram": 5, "freeram": 6, "freeswap": 10,
                                  "procs": 11, "totalhigh": 12, "freehigh": 13, "mem_unit": 1}),
        "struct rusage": (usage, {"ru_utime": 1, "ru_maxrss": 3, "ru_minflt": 4, "ru_majflt": 5, "ru_nvcsw": 6,
                                  "ru_nivcsw": 7}),
        "stack_t": (stack, {"ss_sp": 1, "ss_flags": 2, "ss_size": 3}),
        "struct shmid64_ds": (SEGMENT.pack(abi), SEGMENT_FIELDS),
        "struct shminfo64": (shm.ShmLimits(1, 2, 3, 4, 5).pack(abi, compat=False, old=False),
                             {"shmmax": 1, "shmmin": 2, "shmmni": 3, "shmseg": 4, "shmall": 5}),
        "struct shm_info": (shm.ShmUse(1, 2, 3, 4).pack(abi),
                            {"used_ids": 1, "shm_tot": 2, "shm_rss": 3, "shm_swp": 4}),
    }  # fmt: skip
    for name, (packed, fields) in cases.items():
        offsets = ask_compiler(abi.name, [f"offsetof({name}, {field})" for field in fields])

        assert [packed[offset] for offset in offsets.values()] == list(fields.values()), name
