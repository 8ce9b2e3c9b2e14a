"""What a trace's header says: everything that is needed to run the program again."""

import os
import stat
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from minikernel import __version__
from minikernel.abi.errno import LinuxError
from minikernel.clock import VIRTUAL_EPOCH_NS
from minikernel.config import Bind, Config, Swap
from minikernel.fs.hostfs import HostFs
from minikernel.fs.hostio import host_flags
from minikernel.trace.codec import TraceError, schema

if TYPE_CHECKING:
    from minikernel.kernel import Kernel

LEVEL: Final = "events"
_STAT: Final = (
    *("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size"),
    *("st_atime_ns", "st_mtime_ns", "st_ctime_ns", "st_blocks", "st_blksize", "st_rdev"),
)
_FIRST_INO: Final = 100
_MACHINES: Final = (("x86-64", "pae"), ("i386", "pae"), ("i386", "2level"))
_MAX_NUMBER: Final = 1 << 63
_READ_SIZE: Final = 1 << 20


def make_header(kernel: "Kernel", program: bytes) -> dict[str, Any]:
    """The header of a run of *program*, which has just been loaded."""
    return {
        "made_by": f"minikernel {__version__}",
        "level": LEVEL,
        "program": os.fsdecode(program),
        "config": config_to_json(kernel.config),
        "streams": streams_to_json(kernel),
        "files": host_files(kernel),
        "outside": outside(kernel),
        "events": schema(),
    }


def outside(kernel: "Kernel") -> list[str]:
    """Why this run may go another way next time; empty for one that cannot."""
    reasons = []
    if kernel.config.host_clock:
        reasons.append("the clock is the host's")
    for fd, inode in kernel.vfs.streams.items():
        if inode.is_tty:
            reasons.append(f"descriptor {fd} is a terminal")
    if any(bind.writable for bind in kernel.config.binds):
        reasons.append("a host directory is writable")
    return reasons


# ---- the configuration


def config_to_json(config: Config) -> dict[str, Any]:
    """Bytes become text (os.fsdecode), tuples lists."""
    return {name: _plain(value) for name, value in asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if isinstance(value, Struct):
        return {name: _plain(item) for name, item in asdict(value).items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _number_of(value: Any) -> int:
    """A size or a priority; ValueError if it is none."""
    if not _is_number(value, _MAX_NUMBER):
        raise ValueError(f"{value!r} is not a number")
    return int(value)


def config_from_json(value: Any) -> Config:
    """The Config of a header.

    Raises:
        TraceError: it is not one.
    """
    if not isinstance(value, dict) or set(value) != set(Config.__struct_fields__):
        raise TraceError("the header's configuration is not one of this version's")
    read: dict[str, Any] = dict(value)
    try:
        read["argv"] = tuple(os.fsencode(word) for word in value["argv"])
        read["env"] = tuple(os.fsencode(word) for word in value["env"])
        read["root"], read["cwd"] = os.fsencode(value["root"]), os.fsencode(value["cwd"])
        read["binds"] = tuple(
            Bind(host=os.fsencode(b["host"]), guest=os.fsencode(b["guest"]), writable=bool(b["writable"]))
            for b in value["binds"]
        )
        read["swap"] = tuple(
            Swap(
                path=None if s["path"] is None else os.fsencode(s["path"]),
                size=_number_of(s["size"]),
                priority=None if s["priority"] is None else _number_of(s["priority"]),
            )
            for s in value["swap"]
        )
        read["sysctls"] = tuple((str(name), str(text)) for name, text in value["sysctls"])
        read["groups"] = tuple(value["groups"])
    except (TypeError, KeyError, ValueError) as error:
        raise TraceError(f"the header's configuration is damaged: {error}") from None
    optional = ("max_instructions", "max_processes", "max_memory")
    good = (
        all(_is_number(read[name], 0xFFFF_FFFF) for name in ("ram", "uid", "gid", "umask"))
        and all(_is_number(group, 0xFFFF_FFFF) for group in read["groups"])
        and _is_number(read["slice"], _MAX_NUMBER)
        and read["slice"]
        and type(read["seed"]) is int
        and (read["schedule_seed"] is None or type(read["schedule_seed"]) is int)
        and all(read[name] is None or _is_number(read[name], _MAX_NUMBER) for name in optional)
        and all(type(read[name]) is bool for name in ("aslr", "host_clock"))
        and any((read["cpu"], read["paging"]) == machine for machine in _MACHINES)
        and type(read["policy"]) is str
        and bool(read["argv"])
    )
    if not good:
        raise TraceError("the header's configuration is damaged")
    return Config(**{**read, "timeout": None})  # a limit of the host's time is no part of the run


def _is_number(value: Any, largest: int) -> bool:
    return type(value) is int and 0 <= value <= largest


# ---- standard input, output and error


def stream_kind(mode: int, *, is_tty: bool) -> str:
    """What a descriptor of the host is."""
    kinds = {stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket", stat.S_IFREG: "file", stat.S_IFCHR: "device"}
    return "terminal" if is_tty else kinds.get(stat.S_IFMT(mode), "other")


def streams_to_json(kernel: "Kernel") -> dict[str, dict[str, Any]]:
    """What the standard descriptors are, by number; what is no regular file keeps what stat(2) says for the run."""
    found = {}
    for fd, inode in kernel.vfs.streams.items():
        st = inode.pinned or os.fstat(inode.host_fd)
        found[str(fd)] = {
            "kind": stream_kind(st.st_mode, is_tty=inode.is_tty),
            "name": os.fsdecode(inode.name()),
            "flags": host_flags(fd),
            "offset": _offset(fd),
            "stat": [getattr(st, name) for name in _STAT],
        }
    return found


def _offset(fd: int) -> int:
    """Where the next byte is read or written; 0 where there is no such place."""
    try:
        return os.lseek(fd, 0, os.SEEK_CUR)
    except OSError:
        return 0


def recorded_stat(value: Any) -> os.stat_result:
    """The stat_result that a header keeps.

    Raises:
        TraceError: it does not.
    """
    if not isinstance(value, list) or len(value) != len(_STAT) or not all(type(number) is int for number in value):
        raise TraceError("the header's streams are damaged")
    known = dict(zip(_STAT, value, strict=True))
    seconds = [known[f"st_{which}time_ns"] // 10**9 for which in "amc"]
    try:
        return os.stat_result((*(known[name] for name in _STAT[:2]), *value[2:7], *seconds), known)
    except (TypeError, ValueError, OverflowError):
        raise TraceError("the header's streams are damaged") from None


def pin_streams(kernel: "Kernel") -> None:
    """What is no regular file says the same about itself to the end of the run; pipes and sockets, in every run."""
    first: dict[tuple[int, int], int] = {}  # by what they are on the host: two descriptors may be one pipe
    for fd, inode in kernel.vfs.streams.items():
        st = os.fstat(inode.host_fd)
        if stat.S_ISREG(st.st_mode):
            continue
        if stat.S_ISFIFO(st.st_mode) or stat.S_ISSOCK(st.st_mode):
            ino = _FIRST_INO + first.setdefault((st.st_dev, st.st_ino), fd)
            times = (VIRTUAL_EPOCH_NS,) * 3
            numbers = (st.st_mode, ino, kernel.vfs.hostio.dev, 1, kernel.config.uid, kernel.config.gid, 0)
            st = recorded_stat([*numbers, *times, 0, st.st_blksize, 0])
        pin_stream(kernel, fd, st)


def pin_stream(kernel: "Kernel", fd: int, st: os.stat_result) -> None:
    """From now on the guest's descriptor *fd* is what *st* describes, also by the name that /proc/self/fd shows."""
    inode, task = kernel.vfs.streams[fd], kernel.init
    assert task is not None, "pin_stream: nothing is booted"
    inode.pin(st)
    task.files.get(fd).f_path.dentry.name = inode.name()


# ---- host files


def host_files(kernel: "Kernel") -> dict[str, str]:
    """The host's files whose contents were asked for so far, by the guest's name of them: sha256."""
    prefixes = [b"", *(bind.guest.rstrip(b"/") for bind in kernel.config.binds)]
    trees = [mount.sb for mount in kernel.vfs.namespace.mounts if isinstance(mount.sb, HostFs)]
    found: dict[str, str] = {}
    for prefix, sb in zip(prefixes, trees, strict=False):
        for node in sb.door.opened:
            name = prefix + node.path() if sb.root.is_dir else prefix
            try:
                fd = sb.door.open_file(node, os.O_RDONLY)
            except (OSError, LinuxError):
                found[os.fsdecode(name)] = "gone"
                continue
            found[os.fsdecode(name)] = _sha256(fd)
    return dict(sorted(found.items()))


def _sha256(fd: int) -> str:
    """The hash of what *fd* reads; it is closed."""
    from hashlib import sha256

    digest = sha256()
    with open(fd, "rb", buffering=0) as file:
        while data := file.read(_READ_SIZE):
            digest.update(data)
    return digest.hexdigest()
