"""The one-piece texts of /proc/PID.  Linux: fs/proc/array.c, fs/proc/base.c, fs/proc_namespace.c."""

from typing import Final

from emu.x86 import PAGE_SHIFT
from minikernel.abi import resource as r
from minikernel.abi.fcntl import O_CLOEXEC
from minikernel.abi.sched import SCHED_FIFO, SCHED_RR
from minikernel.abi.signal import SIG_DFL, SIG_IGN
from minikernel.abi.stat import dev_major, dev_minor
from minikernel.abi.time import ticks
from minikernel.fs.dentry import prepend_path
from minikernel.fs.file import OpenFile
from minikernel.fs.mount import Mount
from minikernel.mm.mm_struct import MmStruct
from minikernel.mm.thp import THP_DISABLED
from minikernel.mm.uaccess import copy_from_user_partial
from minikernel.mm.vma import VM_HUGETLB
from minikernel.procfs.access import ptrace_may_access
from minikernel.task.task import Process, Task, TaskState

_PF_RANDOMIZE: Final = 0x400000  # flags of a task: the only ones that user space may find useful
_PF_EXITING: Final = 0x4
_ESCAPED: Final = b" \t\n\\#"

_LIMITS: Final = (
    (r.RLIMIT_CPU, b"Max cpu time", b"seconds"),
    (r.RLIMIT_FSIZE, b"Max file size", b"bytes"),
    (r.RLIMIT_DATA, b"Max data size", b"bytes"),
    (r.RLIMIT_STACK, b"Max stack size", b"bytes"),
    (r.RLIMIT_CORE, b"Max core file size", b"bytes"),
    (r.RLIMIT_RSS, b"Max resident set", b"bytes"),
    (r.RLIMIT_NPROC, b"Max processes", b"processes"),
    (r.RLIMIT_NOFILE, b"Max open files", b"files"),
    (r.RLIMIT_MEMLOCK, b"Max locked memory", b"bytes"),
    (r.RLIMIT_AS, b"Max address space", b"bytes"),
    (r.RLIMIT_LOCKS, b"Max file locks", b"locks"),
    (r.RLIMIT_SIGPENDING, b"Max pending signals", b"signals"),
    (r.RLIMIT_MSGQUEUE, b"Max msgqueue size", b"bytes"),
    (r.RLIMIT_NICE, b"Max nice priority", b""),
    (r.RLIMIT_RTPRIO, b"Max realtime priority", b""),
    (r.RLIMIT_RTTIME, b"Max realtime timeout", b"us"),
)

_STATE_NAMES: Final = {
    "R": b"R (running)",
    "S": b"S (sleeping)",
    "D": b"D (disk sleep)",
    "T": b"T (stopped)",
    "Z": b"Z (zombie)",
    "X": b"X (dead)",
}


def cmdline(task: Task) -> bytes:
    """The arguments, as they are in memory now, each with its NUL (get_mm_cmdline)."""
    if not task.has_mm:
        return b""
    mm = task.mm
    data = copy_from_user_partial(mm, mm.arg_start, mm.arg_end - mm.arg_start)
    if data and data[-1]:
        # setproctitle(3) wrote over the end: the title goes on in the environment, up to a NUL.
        data += copy_from_user_partial(mm, mm.arg_end, max(mm.env_end - mm.arg_end, 0))
        data = data.partition(b"\0")[0]
    return data


def environ(task: Task) -> bytes:
    """The environment as execve left it."""
    if not task.has_mm:
        return b""
    mm = task.mm
    return copy_from_user_partial(mm, mm.env_start, mm.env_end - mm.env_start)


def auxv(task: Task) -> bytes:
    """The auxiliary vector."""
    return task.mm.saved_auxv if task.has_mm else b""


def comm(task: Task) -> bytes:
    """The name."""
    return task.comm + b"\n"


def limits(task: Task) -> bytes:
    """The resource limits (proc_pid_limits)."""
    lines = [b"%-25s %-20s %-20s %-10s\n" % (b"Limit", b"Soft Limit", b"Hard Limit", b"Units")]
    for number, name, unit in _LIMITS:
        shown = [b"unlimited" if value == r.RLIM_INFINITY else b"%d" % value for value in task.rlimits[number]]
        tail = b"%-10s\n" % unit if unit else b"\n"
        lines.append(b"%-25s %-20s %-20s " % (name, *shown) + tail)
    return b"".join(lines)


def personality(task: Task) -> bytes:
    """The personality."""
    return b"%08x\n" % task.personality


def io(task: Task) -> bytes:
    """What calls of one thread have read and written; bytes of disks are not counted (do_io_accounting)."""
    return _io_text(task.io)


def tgid_io(task: Task) -> bytes:
    """The same of a whole process."""
    counts = zip(task.process.dead_io, *(thread.io for thread in task.process.threads), strict=True)
    return _io_text([sum(column) for column in counts])


def _io_text(counts: list[int]) -> bytes:
    names = (b"rchar", b"wchar", b"syscr", b"syscw", b"read_bytes", b"write_bytes", b"cancelled_write_bytes")
    return b"".join(b"%s: %d\n" % row for row in zip(names, (*counts, 0, 0, 0), strict=True))


def statm(task: Task) -> bytes:
    """Sizes in pages."""
    if not task.has_mm:
        return b"0 0 0 0 0 0 0\n"
    mm = task.mm
    shared = mm.rss_file + mm.rss_shmem
    return b"%d %d %d %d 0 %d 0\n" % (mm.total_vm, mm.rss, shared, _text_pages(task), mm.data_vm + mm.stack_vm)


def _text_pages(task: Task) -> int:
    mm = task.mm
    mask = (1 << PAGE_SHIFT) - 1
    return ((mm.end_code + mask) >> PAGE_SHIFT) - (mm.start_code >> PAGE_SHIFT)


def _signal_masks(task: Task) -> tuple[int, int]:
    """Ignored and caught signals."""
    ignored = caught = 0
    for number, action in enumerate(task.process.actions):
        if number and action.handler == SIG_IGN:
            ignored |= 1 << (number - 1)
        elif number and action.handler != SIG_DFL:
            caught |= 1 << (number - 1)
    return ignored, caught


def _state(task: Task) -> str:
    """The letter of the state; a sleep that only SIGKILL ends is D."""
    return "D" if task.uninterruptible and task.state.value == "S" else task.state.value


def tgid_stat(task: Task) -> bytes:
    """The numbers of a process: times of all its threads."""
    dead = task.process.dead_usage
    threads = task.process.threads
    utime = dead.utime + sum(thread.utime for thread in threads)
    stime = dead.stime + sum(thread.stime for thread in threads)
    return _stat(task, utime, stime)


def stat(task: Task) -> bytes:
    """The numbers of one thread."""
    return _stat(task, task.utime, task.stime)


def _terminal(process: Process) -> tuple[int, int]:
    """The controlling terminal's number and foreground group (new_encode_dev, task_pgrp_nr_ns)."""
    tty = process.tty
    return (tty.number, tty.pgrp or -1) if tty is not None else (0, -1)


def _stat(task: Task, utime: int, stime: int) -> bytes:
    """The 52 numbers (do_task_stat)."""
    ignored, caught = _signal_masks(task)
    process = task.process
    children = process.children_usage
    mm = task.mm if task.has_mm else None
    attributes = task.attributes
    realtime = attributes.policy in {SCHED_FIFO, SCHED_RR}
    priority = -1 - attributes.rt_priority if realtime else 20 + attributes.nice
    seen = ptrace_may_access(task.kernel.current, task)  # addresses are nobody else's business
    shown = mm if seen else None
    low = (1 << 31) - 1
    fields: list[int] = [
        task.ppid, process.pgrp, process.session, *_terminal(process), _PF_RANDOMIZE if mm else _PF_EXITING,
        mm.min_flt if mm else 0, children.minflt, mm.maj_flt if mm else 0, children.majflt,
        ticks(utime), ticks(stime), ticks(children.utime), ticks(children.stime),
        priority, attributes.nice, len(process.threads), 0, ticks(task.start_time),
        mm.total_vm << PAGE_SHIFT if mm else 0, mm.rss if mm else 0, task.rlimits[r.RLIMIT_RSS][0],
        shown.start_code if shown else int(mm is not None), shown.end_code if shown else int(mm is not None),
        shown.start_stack if shown else 0, 0, 0,
        task.pending.mask & low, task.blocked & low, ignored & low, caught & low,
        int(seen and task.state is not TaskState.RUNNING), 0, 0,
        17 if task is not process.leader else process.exit_signal,
        0, attributes.rt_priority, attributes.policy, 0, 0, 0,
        *((shown.start_data, shown.end_data, shown.start_brk, shown.arg_start, shown.arg_end, shown.env_start,
           shown.env_end) if shown else (0,) * 7),
        process.exit_code if seen and process.zombie else 0,
    ]  # fmt: skip
    head = b"%d (%s) %s " % (task.pid, task.comm, _state(task).encode())
    return head + b" ".join(b"%d" % field for field in fields) + b"\n"


def status(task: Task) -> bytes:
    """The same for people (proc_pid_status)."""
    cred = task.cred
    lines = [
        b"Name:\t%s" % task.comm.replace(b"\\", b"\\\\").replace(b"\n", b"\\n"),
        b"Umask:\t%04o" % task.fs.umask,
        b"State:\t%s" % _STATE_NAMES[_state(task)],
        b"Tgid:\t%d" % task.tgid,
        b"Ngid:\t0",
        b"Pid:\t%d" % task.pid,
        b"PPid:\t%d" % task.ppid,
        b"TracerPid:\t0",
        b"Uid:\t%d\t%d\t%d\t%d" % (cred.uid, cred.euid, cred.suid, cred.fsuid),
        b"Gid:\t%d\t%d\t%d\t%d" % (cred.gid, cred.egid, cred.sgid, cred.fsgid),
        b"FDSize:\t%d" % max(64, 1 << (max(len(task.files.fds), 1) - 1).bit_length()),
        b"Groups:\t%s " % b" ".join(b"%d" % group for group in cred.groups),
        b"NStgid:\t%d" % task.tgid,
        b"NSpid:\t%d" % task.pid,
        b"NSpgid:\t%d" % task.process.pgrp,
        b"NSsid:\t%d" % task.process.session,
        b"Kthread:\t0",
    ]
    if task.has_mm:
        lines += _memory_lines(task)
    lines += _signal_lines(task)
    lines += [
        b"Cpus_allowed:\t1",
        b"Cpus_allowed_list:\t0",
        b"Mems_allowed:\t1",
        b"Mems_allowed_list:\t0",
        b"voluntary_ctxt_switches:\t%d" % task.nr_voluntary_switches,
        b"nonvoluntary_ctxt_switches:\t%d" % task.nr_involuntary_switches,
    ]
    return b"\n".join(lines) + b"\n"


def _memory_lines(task: Task) -> list[bytes]:
    """task_mem."""
    mm = task.mm
    text = _text_pages(task)
    rows = (
        (b"VmPeak", max(mm.hiwater_vm, mm.total_vm)),
        (b"VmSize", mm.total_vm),
        (b"VmLck", mm.locked_vm),
        (b"VmPin", 0),
        (b"VmHWM", max(mm.hiwater_rss, mm.rss)),
        (b"VmRSS", mm.rss),
        (b"RssAnon", mm.rss_anon),
        (b"RssFile", mm.rss_file),
        (b"RssShmem", mm.rss_shmem),
        (b"VmData", mm.data_vm),
        (b"VmStk", mm.stack_vm),
        (b"VmExe", text),
        (b"VmLib", max(mm.exec_vm - text, 0)),
        (b"VmPTE", mm.pgtable.nr_tables),
        (b"VmSwap", mm.swapents),
    )
    lines = [b"%s:\t%8d kB" % (name, pages * 4) for name, pages in rows]
    return [
        *lines,
        b"HugetlbPages:\t%8d kB" % (_hugetlb_bytes(mm) >> 10),
        b"CoreDumping:\t0",
        b"THP_enabled:\t%d" % (mm.thp_disabled != THP_DISABLED),
        b"untag_mask:\t0xffffffffffffffff",
    ]


def _hugetlb_bytes(mm: MmStruct) -> int:
    """Huge pages of the pool that are mapped (hugetlb_report_usage)."""
    size = mm.node.hugetlb.size
    mappings = [vma for vma in mm.vmas if vma.flags & VM_HUGETLB]
    return sum(len(mm.pgtable.large_leaves(vma.start, vma.end)) for vma in mappings) * size


def _signal_lines(task: Task) -> list[bytes]:
    """task_sig, task_cap, task_seccomp."""
    ignored, caught = _signal_masks(task)
    cred = task.cred
    queued = len(task.pending.queue) + len(task.process.shared_pending.queue)
    return [
        b"Threads:\t%d" % len(task.process.threads),
        b"SigQ:\t%d/%d" % (queued, task.rlimits[r.RLIMIT_SIGPENDING][0]),
        b"SigPnd:\t%016x" % task.pending.mask,
        b"ShdPnd:\t%016x" % task.process.shared_pending.mask,
        b"SigBlk:\t%016x" % task.blocked,
        b"SigIgn:\t%016x" % ignored,
        b"SigCgt:\t%016x" % caught,
        b"CapInh:\t%016x" % cred.cap_inheritable,
        b"CapPrm:\t%016x" % cred.cap_permitted,
        b"CapEff:\t%016x" % cred.cap_effective,
        b"CapBnd:\t%016x" % cred.cap_bset,
        b"CapAmb:\t%016x" % cred.cap_ambient,
        b"NoNewPrivs:\t%d" % task.attributes.no_new_privs,
        b"Seccomp:\t0",
        b"Seccomp_filters:\t0",
        b"Speculation_Store_Bypass:\tnot vulnerable",
        b"SpeculationIndirectBranch:\tnot affected",
    ]


def fdinfo(file: OpenFile, *, cloexec: bool) -> bytes:
    """/proc/PID/fdinfo/N (seq_show)."""
    flags = file.flags | (O_CLOEXEC if cloexec else 0)
    head = b"pos:\t%d\nflags:\t0%o\nmnt_id:\t%d\nino:\t%d\n" % (file.pos, flags, file.f_path.mnt.id, file.inode.ino)
    return head + file.fdinfo()


# ---- mounts


def _escape(text: bytes) -> bytes:
    """mangle: white space, backslash and # as octal."""
    return b"".join(b"\\%03o" % byte if byte in _ESCAPED else bytes((byte,)) for byte in text)


def _visible(task: Task) -> list[tuple[Mount, bytes]]:
    """The mounts below the task's root, with their places seen from it."""
    found = []
    for mount in task.fs.namespace.mounts:
        name, reachable = prepend_path(mount.root_path(), task.fs.root)
        if reachable:
            found.append((mount, _escape(name)))
    return found


def _options(mount: Mount) -> bytes:
    return (
        (b"ro" if mount.sb.readonly else b"rw")
        + (b",nosuid" if mount.nosuid else b"")
        + (b",noatime" if mount.sb.noatime else b",relatime")
    )


def mounts(task: Task) -> bytes:
    """/proc/PID/mounts (show_vfsmnt)."""
    return b"".join(
        b"%s %s %s %s 0 0\n" % (_escape(mount.sb.source), name, mount.sb.fstype, _options(mount))
        for mount, name in _visible(task)
    )


def mountinfo(task: Task) -> bytes:
    """/proc/PID/mountinfo (show_mountinfo)."""
    lines = []
    for mount, name in _visible(task):
        dev = mount.sb.dev
        inside, _ = _inside(mount)
        parent = mount.parent.id if mount.parent is not None else 0
        lines.append(
            b"%d %d %d:%d %s %s %s - %s %s %s\n"
            % (
                mount.id,
                parent,
                dev_major(dev),
                dev_minor(dev),
                inside,
                name,
                _options(mount),
                mount.sb.fstype,
                _escape(mount.sb.source),
                b"ro" if mount.sb.readonly else b"rw",
            )
        )
    return b"".join(lines)


def _inside(mount: Mount) -> tuple[bytes, int]:
    """The root of *mount* as a name inside its file system, and its depth."""
    names: list[bytes] = []
    dentry = mount.root
    while not dentry.is_root:
        names.append(dentry.name)
        dentry = dentry.parent
    return b"/" + b"/".join(_escape(name) for name in reversed(names)), len(names)
