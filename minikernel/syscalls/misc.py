"""The machine and its names, randomness, the log.

Linux: kernel/sys.c, kernel/printk/printk.c, drivers/char/random.c.
"""

from typing import Final

from emu.x86 import PAGE_SHIFT
from minikernel.abi.abi import I386
from minikernel.abi.capability import CAP_SYS_ADMIN, CAP_SYS_BOOT, CAP_SYS_TTY_CONFIG, CAP_SYSLOG
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.random import GRND_INSECURE, GRND_NONBLOCK, GRND_RANDOM
from minikernel.abi.sysinfo import KERNEL_RELEASE, KERNEL_VERSION, UTS_LEN, Sysinfo, Utsname
from minikernel.abi.time import NSEC_PER_SEC
from minikernel.kernel import Kernel
from minikernel.mm.uaccess import copy_from_user, copy_to_user, copy_to_user_partial
from minikernel.syscalls.args import BufOut, GetrandomFlags, Hex, Int, Ptr, Size, SysinfoOut, UtsnameOut
from minikernel.syscalls.entry_types import Entry, full, partial
from minikernel.syscalls.sigaction import call_abi
from minikernel.task.task import Task

PER_MASK: Final = 0xFF
PER_LINUX32: Final = 0x8
READ_IMPLIES_EXEC: Final = 0x0040_0000
UNAME26: Final = 0x0002_0000
_PERSONALITY_QUERY: Final = 0xFFFF_FFFF
_RANDOM_CHUNK: Final = 4096
_MAX_RW_COUNT: Final = 0x7FFF_F000
_LOG_BUF_LEN: Final = 1 << 17


def utsname(kernel: Kernel, task: Task) -> Utsname:
    """The names of the system as *task*'s personality shows them."""
    native_i386 = not kernel.cpu.long_mode
    machine = b"i686" if native_i386 or task.personality & PER_MASK == PER_LINUX32 else b"x86_64"
    release = KERNEL_RELEASE
    if task.personality & UNAME26:
        # override_release(): 6.x tells 2.6.(60 + x).
        minor = int(KERNEL_RELEASE.split(b".")[1])
        release = b"2.6.%d" % (60 + minor)
    return Utsname(b"Linux", kernel.hostname, release, KERNEL_VERSION, machine, kernel.domainname)


def sys_uname(kernel: Kernel, task: Task, buf: UtsnameOut) -> int:
    """uname(2)."""
    copy_to_user(task.mm, buf, utsname(kernel, task).pack())
    return 0


def sys_old_uname(kernel: Kernel, task: Task, buf: Ptr) -> int:
    """olduname, i386: without the domain."""
    copy_to_user(task.mm, buf, utsname(kernel, task).pack_old())
    return 0


def sys_oldold_uname(kernel: Kernel, task: Task, buf: Ptr) -> int:
    """oldolduname, i386: names of eight bytes."""
    copy_to_user(task.mm, buf, utsname(kernel, task).pack_oldold())
    return 0


def _set_name(task: Task, address: int, length: int) -> bytes:
    """A new host or domain name.  Errors: EPERM, EINVAL, EFAULT, in this order."""
    if not task.cred.capable(CAP_SYS_ADMIN):
        raise LinuxError(Errno.EPERM, "naming the machine")
    if not 0 <= length <= UTS_LEN:
        raise LinuxError(Errno.EINVAL, "name of the machine: length")
    return copy_from_user(task.mm, address, length).split(b"\0")[0]


def sys_sethostname(kernel: Kernel, task: Task, name: Ptr, length: Int) -> int:
    """sethostname(2)."""
    kernel.hostname = _set_name(task, name, length)
    return 0


def sys_setdomainname(kernel: Kernel, task: Task, name: Ptr, length: Int) -> int:
    """setdomainname(2)."""
    kernel.domainname = _set_name(task, name, length)
    return 0


def sys_sysinfo(kernel: Kernel, task: Task, info: SysinfoOut) -> int:
    """sysinfo(2)."""
    node = kernel.node
    high = [zone for zone in node.zones if zone.is_highmem]
    told = Sysinfo(
        uptime=-(-kernel.clock.now_ns() // NSEC_PER_SEC),
        loads=kernel.load.sysinfo(),
        totalram=sum(zone.managed_pages for zone in node.zones) << PAGE_SHIFT,
        freeram=node.nr_free << PAGE_SHIFT,
        sharedram=0,
        bufferram=0,
        totalswap=node.swap.total_pages << PAGE_SHIFT,
        freeswap=node.swap.nr_free << PAGE_SHIFT,
        procs=len(kernel.tasks),
        totalhigh=sum(zone.managed_pages for zone in high) << PAGE_SHIFT,
        freehigh=sum(zone.nr_free for zone in high) << PAGE_SHIFT,
    )
    copy_to_user(task.mm, info, told.pack(call_abi(task)))
    return 0


def sys_getrandom(kernel: Kernel, task: Task, buf: BufOut, count: Size, flags: GetrandomFlags) -> int:
    """getrandom(2): from the machine's seeded generator."""
    if flags & ~(GRND_NONBLOCK | GRND_RANDOM | GRND_INSECURE):
        raise LinuxError(Errno.EINVAL, "getrandom: unknown flag")
    if flags & GRND_RANDOM and flags & GRND_INSECURE:
        raise LinuxError(Errno.EINVAL, "getrandom: two pools at once")
    count = min(count, _MAX_RW_COUNT)
    done = 0
    while done < count:
        chunk = kernel.random.randbytes(min(count - done, _RANDOM_CHUNK))
        stored = copy_to_user_partial(task.mm, buf + done, chunk)
        done += stored
        if stored < len(chunk):
            break
    if count and not done:
        raise LinuxError(Errno.EFAULT, "getrandom: the buffer")
    return done


def sys_personality(_kernel: Kernel, task: Task, persona: Hex) -> int:
    """personality(2): the previous one."""
    old = task.personality
    if persona != _PERSONALITY_QUERY:
        task.personality = persona
        task.mm.read_implies_exec = bool(persona & READ_IMPLIES_EXEC)
    return call_abi(task).signed(old) if call_abi(task) is I386 else old


def sys_syslog(kernel: Kernel, task: Task, kind: Int, buf: Ptr, length: Int) -> int:
    """syslog(2): the kernel's log."""
    if not 0 <= kind <= 10:
        raise LinuxError(Errno.EINVAL, "syslog: unknown action")
    if kind == 10:
        return _LOG_BUF_LEN
    if kind != 3 and not task.cred.capable(CAP_SYSLOG):
        raise LinuxError(Errno.EPERM, "syslog")
    if kind not in {2, 3, 4}:
        return 0
    if not buf or length < 0:
        raise LinuxError(Errno.EINVAL, "syslog: no buffer")
    lines = [b"<6>[%5d.%06d] %s\n" % (*_stamp(when), text.encode()) for when, text in kernel.messages]
    data = b"".join(lines)[-length:] if length else b""
    copy_to_user(task.mm, buf, data)
    return len(data)


def _stamp(nanoseconds: int) -> tuple[int, int]:
    """Seconds and microseconds of a line of the log."""
    microseconds = nanoseconds // 1000
    return microseconds // 1_000_000, microseconds % 1_000_000


def sys_vhangup(_kernel: Kernel, task: Task) -> int:
    """vhangup(2): there is no terminal to hang up."""
    if not task.cred.capable(CAP_SYS_TTY_CONFIG):
        raise LinuxError(Errno.EPERM, "vhangup")
    return 0


def sys_reboot(_kernel: Kernel, task: Task, magic: Hex, magic2: Hex, _cmd: Hex, _arg: Ptr) -> int:
    """reboot(2): the machine ends with its first task, not otherwise."""
    if not task.cred.capable(CAP_SYS_BOOT):
        raise LinuxError(Errno.EPERM, "reboot")
    if magic != 0xFEE1_DEAD or magic2 not in {672274793, 85072278, 369367448, 537993216}:
        raise LinuxError(Errno.EINVAL, "reboot: not the magic words")
    raise LinuxError(Errno.EPERM, "reboot: the machine ends with its first task")


ENTRIES: tuple[Entry, ...] = (
    full("uname", sys_uname),
    full("olduname", sys_old_uname),
    full("oldolduname", sys_oldold_uname),
    full("sethostname", sys_sethostname),
    full("setdomainname", sys_setdomainname),
    partial("sysinfo", sys_sysinfo, "load averages, shared and buffer memory read 0"),
    full("getrandom", sys_getrandom, "seeded: the same run draws the same numbers"),
    full("personality", sys_personality),
    partial("syslog", sys_syslog, "reading; the log is never cleared, and a reader never waits"),
    full("vhangup", sys_vhangup),
    partial("reboot", sys_reboot, "always EPERM: the machine ends with its first task"),
)
