"""How strace(1) shows a value: strings, flags, structures.  Each formatter gets the value and a ``View`` of the call.

A formatter never fails: what cannot be read is shown as its address, as strace does.
"""

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from typing import Final, Protocol

from minikernel.abi import signal as s
from minikernel.abi.abi import Abi
from minikernel.abi.fcntl import AT_FDCWD
from minikernel.abi.ldt import USER_DESC_SIZE, unpack_user_desc
from minikernel.abi.resource import RLIM32_INFINITY, RLIM_INFINITY
from minikernel.syscalls import strace_names

MAX_STRING: Final = 32  # bytes of a string that are shown
MAX_PATH: Final = 4096
_MAX_ELEMENTS: Final = 32
_ESCAPES: Final = {9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


class Memory(Protocol):
    """The calling task's memory, looked at without changing anything."""

    def read_bytes(self, address: int, size: int) -> bytes | None:
        """*size* bytes at *address*; None if they are not all there."""
        ...

    def read_string(self, address: int, limit: int) -> bytes | None:
        """The string at *address* without its NUL, or *limit* bytes of it; None if it is not there."""
        ...


@dataclass(slots=True)
class View:
    """What a formatter may look at: the call's arguments, cast, its memory, and, on the way out, its result."""

    name: str
    abi: Abi
    memory: Memory
    args: list[int]
    index: int = 0  # of the argument being shown
    ret: int | None = None  # None on the way in

    @property
    def next_arg(self) -> int:
        """The argument behind this one: a length, by convention."""
        return self.args[self.index + 1] if self.index + 1 < len(self.args) else 0

    def words(self, address: int, count: int) -> list[int] | None:
        """*count* unsigned words of the ABI at *address*."""
        data = self.memory.read_bytes(address, count * self.abi.word)
        return None if data is None else self.abi.unpack_words(data)


Formatter = Callable[[int, View], str]


def quote(data: bytes, *, limit: int = MAX_STRING, cut: bool = False) -> str:
    """*data* as a C string in quotes; dots follow if there was more than *limit*, or *cut*."""
    shown = data[:limit]
    parts = []
    for at, byte in enumerate(shown):
        if byte in _ESCAPES:
            parts.append(_ESCAPES[byte])
        elif 0x20 <= byte < 0x7F:
            parts.append(chr(byte))
        else:
            following = shown[at + 1] if at + 1 < len(shown) else 0
            parts.append(f"\\{byte:03o}" if 0x30 <= following <= 0x37 else f"\\{byte:o}")
    dots = "..." if cut or len(data) > limit else ""
    return f'"{"".join(parts)}"{dots}'


def pointer(value: int, _view: View | None = None) -> str:
    """An address."""
    return hex(value) if value else "NULL"


def _decimal(value: int, _view: View) -> str:
    return str(value)


def _hex(value: int, _view: View) -> str:
    return hex(value) if value > 0 else str(value)


def _id(value: int, _view: View) -> str:
    return "-1" if value == 0xFFFF_FFFF else str(value)


def _id16(value: int, _view: View) -> str:
    return "-1" if value & 0xFFFF == 0xFFFF else str(value & 0xFFFF)


def _dirfd(value: int, _view: View) -> str:
    return "AT_FDCWD" if value == AT_FDCWD else str(value)


def _mode(value: int, _view: View) -> str:
    return f"{value:#o}".replace("0o", "0") if value else "000"


def _device(value: int, _view: View | None = None) -> str:
    major = value >> 8 & 0xFFF | (value >> 32 & ~0xFFF)
    minor = value & 0xFF | (value >> 12 & 0xFFFF_FF00)
    return f"makedev({major:#x}, {minor:#x})"


def _signal(value: int, _view: View) -> str:
    return s.signal_name(value)


# ---- strings and buffers


def _path(value: int, view: View) -> str:
    data = view.memory.read_string(value, MAX_PATH) if value else None
    return pointer(value) if data is None else quote(data, limit=MAX_PATH)


def _string(value: int, view: View) -> str:
    data = view.memory.read_string(value, MAX_STRING + 1) if value else None
    return pointer(value) if data is None else quote(data)


def _string_vector(value: int, view: View) -> str:
    """argv: quoted; envp: counted, as strace does unless told otherwise."""
    strings = []
    word, at = view.abi.word, value
    while value:
        words = view.words(at, 1)
        if words is None:
            return pointer(value)
        if not words[0]:
            break
        strings.append(words[0])
        at += word
    if not value or view.index >= 2:
        return f"{pointer(value)} /* {len(strings)} vars */" if value else "NULL"
    shown = [_string(address, view) for address in strings[:_MAX_ELEMENTS]]
    return f"[{', '.join(shown)}{', ...' if len(strings) > _MAX_ELEMENTS else ''}]"


def _buffer(value: int, view: View) -> str:
    size = view.next_arg if view.ret is None else view.ret
    if not value:
        return "NULL"
    if size == 0:
        return '""'
    data = view.memory.read_bytes(value, min(size, MAX_STRING))
    if data is None:
        return pointer(value)
    if view.name == "getrandom":
        dots = "..." if size > MAX_STRING else ""
        return '"' + "".join(f"\\x{byte:02x}" for byte in data) + f'"{dots}'
    if view.name == "getcwd":
        return quote(data.rstrip(b"\0"), cut=size > MAX_STRING)
    return quote(data, cut=size > MAX_STRING)


def _iovec(value: int, view: View) -> str:
    count = view.next_arg
    words = view.words(value, 2 * min(count, _MAX_ELEMENTS)) if value else None
    if words is None:
        return pointer(value)
    left = view.ret
    parts = []
    for base, length in zip(words[::2], words[1::2], strict=True):
        size = length if left is None else min(length, left)
        if left is not None:
            left -= size
        data = view.memory.read_bytes(base, min(size, MAX_STRING))
        shown = pointer(base) if data is None else quote(data, cut=size > MAX_STRING)
        parts.append(f"{{iov_base={shown}, iov_len={length}}}")
    return f"[{', '.join(parts)}{', ...' if count > _MAX_ELEMENTS else ''}]"


def _numbers(count: int, size: int) -> Formatter:
    def shown(value: int, view: View) -> str:
        width = size or view.abi.word
        data = view.memory.read_bytes(value, count * width) if value else None
        if data is None:
            return pointer(value)
        numbers = [data[at : at + width] for at in range(0, count * width, width)]
        return f"[{', '.join([str(int.from_bytes(number, 'little', signed=True)) for number in numbers])}]"

    return shown


# ---- structures


def _pairs(wide: bool, second: str, count: int = 1) -> Formatter:
    """One or more (seconds, part of a second) pairs."""
    labels = ("it_interval=", "it_value=") if count == 2 else ("",)

    def shown(value: int, view: View) -> str:
        width = 8 if wide else view.abi.word
        data = view.memory.read_bytes(value, 2 * width * count) if value else None
        if data is None:
            return pointer(value)
        numbers = Struct(f"<{2 * count}{'q' if width == 8 else 'i'}").unpack(data)
        pairs = [
            f"{label}{{tv_sec={numbers[2 * i]}, tv_{second}={numbers[2 * i + 1]}}}" for i, label in enumerate(labels)
        ]
        return pairs[0] if count == 1 else f"{{{', '.join(pairs)}}}"

    return shown


_KINDS: Final = {1: "S_IFIFO", 2: "S_IFCHR", 4: "S_IFDIR", 6: "S_IFBLK", 8: "S_IFREG", 10: "S_IFLNK", 12: "S_IFSOCK"}


def _file_mode(mode: int) -> str:
    kind = _KINDS.get(mode >> 12, f"{mode & 0o170000:#o}".replace("0o", "0"))
    bits = "".join(name + "|" for bit, name in ((0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX"))
                   if mode & bit)  # fmt: skip
    return f"{kind}|{bits}{mode & 0o777:#05o}".replace("0o", "0")


def _stat(layouts: dict[int, Struct], prefix: str = "st_", head: str = "") -> Formatter:
    """A preview of a struct stat: mode, and size or device.  *layouts*: by word size: (mode, rdev, size)."""

    def shown(value: int, view: View) -> str:
        layout = layouts[view.abi.word]
        data = view.memory.read_bytes(value, layout.size) if value else None
        if data is None:
            return pointer(value)
        mode, rdev, size = layout.unpack(data)
        third = f"{prefix}rdev={_device(rdev)}" if mode >> 12 in {2, 6} else f"{prefix}size={size}"
        return f"{{{head}{prefix}mode={_file_mode(mode)}, {third}, ...}}"

    return shown


_STAT: Final = _stat({8: Struct("<24xI12xQq"), 4: Struct("<8xH10xH2xI")})
_STAT64: Final = _stat({8: Struct("<24xI12xQq"), 4: Struct("<16xI12xQ4xq")})


def _statx(value: int, view: View) -> str:
    data = view.memory.read_bytes(value, 256) if value else None
    if data is None:
        return pointer(value)
    mask, mode, size = (int.from_bytes(data[at : at + n], "little") for at, n in ((0, 4), (28, 2), (40, 8)))
    shown_mask = strace_names.show("STATX_", mask)
    return f"{{stx_mask={shown_mask}, stx_attributes=0, stx_mode={_file_mode(mode)}, stx_size={size}, ...}}"


def _limit(value: int, infinity: int, name: str) -> str:
    if value == infinity:
        return name
    return f"{value // 1024}*1024" if value > 1024 and value % 1024 == 0 else str(value)


def _rlimit(wide: bool) -> Formatter:
    def shown(value: int, view: View) -> str:
        width = 8 if wide else view.abi.word
        data = view.memory.read_bytes(value, 2 * width) if value else None
        if data is None:
            return pointer(value)
        infinity = RLIM_INFINITY if width == 8 else RLIM32_INFINITY
        name = "RLIM64_INFINITY" if wide else "RLIM_INFINITY"
        soft, hard = (_limit(number, infinity, name) for number in Struct("<QQ" if width == 8 else "<II").unpack(data))
        return f"{{rlim_cur={soft}, rlim_max={hard}}}"

    return shown


def _utsname(value: int, view: View) -> str:
    data = view.memory.read_bytes(value, 325) if value else None
    if data is None:
        return pointer(value)
    sysname, nodename = (data[at : at + 65].split(b"\0")[0] for at in (0, 65))
    return f"{{sysname={quote(sysname)}, nodename={quote(nodename)}, ...}}"


def _rusage(value: int, view: View) -> str:
    words = view.words(value, 4) if value else None
    if words is None:
        return pointer(value)
    times = [f"{{tv_sec={words[i]}, tv_usec={words[i + 1]}}}" for i in (0, 2)]
    return f"{{ru_utime={times[0]}, ru_stime={times[1]}, ...}}"


def _sysinfo(value: int, view: View) -> str:
    words = view.words(value, 10) if value else None
    if words is None:
        return pointer(value)
    loads = ", ".join([str(load) for load in words[1:4]])
    return f"{{uptime={words[0]}, loads=[{loads}], totalram={words[4]}, freeram={words[5]}, ...}}"


def _cpu_set(value: int, view: View) -> str:
    data = view.memory.read_bytes(value, view.ret) if value and view.ret else None
    if data is None:
        return pointer(value)
    mask = int.from_bytes(data, "little")
    return f"[{' '.join([str(cpu) for cpu in range(mask.bit_length()) if mask >> cpu & 1])}]"


def show_sigset(mask: int) -> str:
    """A set of signals; a large one by what it lacks."""
    everything = (1 << s.NSIG) - 1
    inverted = mask.bit_count() > s.NSIG * 2 // 3
    members = s.sigset_signals(~mask & everything if inverted else mask)
    shown = " ".join([s.signal_name(sig).removeprefix("SIG") for sig in members])
    return f"~[{shown}]" if inverted else f"[{shown}]"


def _sigset(value: int, view: View) -> str:
    data = view.memory.read_bytes(value, 8) if value else None
    return pointer(value) if data is None else show_sigset(s.unpack_sigset(data))


def _sigaction(value: int, view: View) -> str:
    size = s.OLD_SIGACTION_SIZE if view.name == "sigaction" else s.sigaction_size(view.abi)
    data = view.memory.read_bytes(value, size) if value else None
    if data is None:
        return pointer(value)
    action = s.unpack_old_sigaction(data) if view.name == "sigaction" else s.unpack_sigaction(view.abi, data)
    handler = {s.SIG_DFL: "SIG_DFL", s.SIG_IGN: "SIG_IGN"}.get(action.handler, hex(action.handler))
    member = "sa_sigaction" if action.flags & s.SA_SIGINFO else "sa_handler"
    flags = strace_names.show("SA_", action.flags & 0xFFFF_FFFF)
    restorer = f", sa_restorer={pointer(action.restorer)}" if action.flags & s.SA_RESTORER else ""
    return f"{{{member}={handler}, sa_mask={show_sigset(action.mask)}, sa_flags={flags}{restorer}}}"


def _stack(value: int, view: View) -> str:
    data = view.memory.read_bytes(value, s.stack_size(view.abi)) if value else None
    if data is None:
        return pointer(value)
    stack = s.unpack_stack(view.abi, data)
    return f"{{ss_sp={pointer(stack.sp)}, ss_flags={strace_names.show('SS_', stack.flags)}, ss_size={stack.size}}}"


def _wait_status(value: int, view: View) -> str:
    data = view.memory.read_bytes(value, 4) if value and view.ret else None
    if data is None:
        return pointer(value)
    status = int.from_bytes(data, "little")
    sig = status & 0x7F
    if sig == 0:
        return f"[{{WIFEXITED(s) && WEXITSTATUS(s) == {status >> 8 & 0xFF}}}]"
    if sig == 0x7F:
        return f"[{{WIFSTOPPED(s) && WSTOPSIG(s) == {s.signal_name(status >> 8 & 0xFF)}}}]"
    core = " && WCOREDUMP(s)" if status & 0x80 else ""
    return f"[{{WIFSIGNALED(s) && WTERMSIG(s) == {s.signal_name(sig)}{core}}}]"


def _sockaddr(value: int, view: View) -> str:
    size = view.next_arg
    data = view.memory.read_bytes(value, size) if value and 2 <= size <= 128 else None
    if data is None:
        return pointer(value)
    family = int.from_bytes(data[:2], "little")
    name = strace_names.show("AF_", family)
    if family == 1:
        path = data[2:]
        shown = "@" + quote(path[1:], limit=108) if path[:1] == b"\0" else quote(path.split(b"\0")[0], limit=108)
        return f"{{sa_family={name}, sun_path={shown}}}"
    if family == 2 and size >= 8:
        port, address = int.from_bytes(data[2:4], "big"), ".".join([str(byte) for byte in data[4:8]])
        return f'{{sa_family={name}, sin_port=htons({port}), sin_addr=inet_addr("{address}")}}'
    return f"{{sa_family={name}, sa_data={quote(data[2:])}}}"


def _user_desc(value: int, view: View) -> str:
    data = view.memory.read_bytes(value, USER_DESC_SIZE) if value else None
    if data is None:
        return pointer(value)
    desc = unpack_user_desc(data)
    fields = ("seg_32bit", "contents", "read_exec_only", "limit_in_pages", "seg_not_present", "useable")
    shifts = (0, 1, 3, 4, 5, 6)
    bits = [f"{name}={desc.flags >> at & (3 if at == 1 else 1)}" for name, at in zip(fields, shifts, strict=True)]
    number = "-1" if desc.entry_number == 0xFFFF_FFFF else str(desc.entry_number)
    return f"{{entry_number={number}, base_addr={desc.base:#x}, limit={desc.limit:#x}, {', '.join(bits)}}}"


FORMATTERS: Final[dict[str, Formatter]] = {
    "dec": _decimal,
    "hex": _hex,
    "fd": _decimal,
    "dirfd": _dirfd,
    "id": _id,
    "id16": _id16,
    "ptr": pointer,
    "mode": _mode,
    "dev": _device,
    "signal": _signal,
    "path": _path,
    "str": _string,
    "strvec": _string_vector,
    "buf": _buffer,
    "iovec": _iovec,
    "int_at": _numbers(1, 4),
    "long_at": _numbers(1, 0),
    "loff_at": _numbers(1, 8),
    "int_pair": _numbers(2, 4),
    "timespec": _pairs(wide=False, second="nsec"),
    "timespec64": _pairs(wide=True, second="nsec"),
    "timeval": _pairs(wide=False, second="usec"),
    "itimerval": _pairs(wide=False, second="usec", count=2),
    "stat": _STAT,
    "stat64": _STAT64,
    "statx": _statx,
    "rlimit": _rlimit(wide=False),
    "rlimit64": _rlimit(wide=True),
    "rusage": _rusage,
    "sysinfo": _sysinfo,
    "cpu_set": _cpu_set,
    "utsname": _utsname,
    "sigset": _sigset,
    "sigaction": _sigaction,
    "stack_t": _stack,
    "wstatus": _wait_status,
    "sockaddr": _sockaddr,
    "user_desc": _user_desc,
}


def show_argument(show: str, value: int, view: View) -> str:
    """*value* in the way *show* (Kind.show) says."""
    formatter = FORMATTERS.get(show)
    return formatter(value, view) if formatter is not None else strace_names.show(show, value)
