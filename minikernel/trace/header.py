"""What a trace's header says: everything that is needed to run the program again."""

import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from minikernel import __version__
from minikernel.abi.errno import LinuxError
from minikernel.config import Bind, Config, Swap
from minikernel.fs.hostdoor import HostDoor
from minikernel.fs.hostfs import Door, HostFs
from minikernel.trace.codec import TraceError, schema
from minikernel.trace.contents import hash_of
from minikernel.trace.doors import is_host_text, stat_from_json

if TYPE_CHECKING:
    from minikernel.kernel import Kernel

_MADE_BY: Final = f"minikernel {__version__}"
_MACHINES: Final = (("x86-64", "pae"), ("i386", "pae"), ("i386", "2level"))
_MAX_NUMBER: Final = 1 << 63


def make_header(
    kernel: "Kernel",
    program: bytes,
    streams: dict[str, Any],
    files: dict[str, str],
    *,
    packed: bool,
    level: str,
    selection: dict[str, Any],
) -> dict[str, Any]:
    """The header of a run of *program*, which has just been loaded; *selection* of *level* is recorded of it."""
    return {
        "made_by": _MADE_BY,
        "level": level,
        "selection": selection,
        "packed": packed,
        "program": os.fsdecode(program),
        "config": config_to_json(kernel.config),
        "constants": constants(),
        "streams": streams,
        "files": files,
        "outside": outside(kernel),
        "events": schema(),
    }


def outside(kernel: "Kernel") -> list[str]:
    """Why this run may go another way next time; empty for one that cannot."""
    reasons = []
    if any(bind.writable for bind in kernel.config.binds):
        reasons.append("a host directory was writable")
    return reasons


def constants() -> dict[str, int]:
    """The numbers that our kernel's modules define, as far as they are loaded: with others it is another kernel.

    A module's private names carry its name; the others are one number wherever they are imported.  Linux's own
    numbers (abi) are left out.
    """
    foreign = {name for module in _modules("minikernel.abi.") for name in vars(module)}
    found = {}
    for module in _modules("minikernel."):
        room = module.__name__.removeprefix("minikernel.")
        if room.startswith(("abi.", "trace.", "report.", "kdb.", "testing", "tracing")):
            continue
        for name, value in vars(module).items():
            if type(value) is int and name.isupper() and name not in foreign:
                found[f"{room}.{name}" if name.startswith("_") else name] = value
    return dict(sorted(found.items()))


def _modules(prefix: str) -> list[ModuleType]:
    return [module for name, module in sorted(sys.modules.items()) if name.startswith(prefix)]


def changes(header: dict[str, Any], notes: dict[str, Any] | None, config: Config, files: dict[str, str]) -> list[str]:
    """What is not what it was when *header* and *notes* were written, in words: arguments, files, our kernel."""
    recorded = config_from_json(header.get("config"))
    words = []
    for number in range(max(len(recorded.argv), len(config.argv))):
        was, now = (_word(argv, number) for argv in (recorded.argv, config.argv))
        if was != now:
            words.append(f"argument {number} is {now}, was {was}")
    hashes: dict[str, Any] = {}
    for source in (header, notes or {}):
        found = source.get("files")
        hashes |= found if isinstance(found, dict) else {}
    words += [f"{name} is not the file it was (sha256)" for name, sha in files.items() if hashes.get(name, sha) != sha]
    if header.get("made_by") != _MADE_BY:
        words.append(f"this is {_MADE_BY}, the trace was made by {str(header.get('made_by'))[:40]}")
    numbers = header.get("constants")
    ours = constants()
    for name, was in numbers.items() if isinstance(numbers, dict) else ():
        if ours.get(name, was) != was:
            words.append(f"the kernel's {name} is {ours[name]}, was {was}")
    return words


def _word(argv: tuple[bytes, ...], number: int) -> str:
    return ascii(os.fsdecode(argv[number])) if number < len(argv) else "missing"


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
        and all(type(read[name]) is bool for name in ("aslr", "console", "host_clock"))
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


def streams_from_json(value: Any) -> dict[int, dict[str, Any]]:
    """What a header says about the streams, by descriptor.

    Raises:
        TraceError: it is damaged.
    """
    if not isinstance(value, dict) or not set(value) <= {"0", "1", "2"}:
        raise TraceError("the header's streams are damaged")
    for stream in value.values():
        kinds = {"kind": str, "name": str, "flags": int, "offset": int}
        if not isinstance(stream, dict) or any(type(stream.get(name)) is not kind for name, kind in kinds.items()):
            raise TraceError("the header's streams are damaged")
        if not is_host_text(stream["name"]):
            raise TraceError("the header's streams are damaged")
        if "sha256" in stream and (type(stream["sha256"]), type(stream.get("size"))) != (str, int):
            raise TraceError("the header's streams are damaged")
        stat_from_json(stream.get("stat"))
    return {int(fd): stream for fd, stream in value.items()}


# ---- host files


def guest_name(kernel: "Kernel", door: Door, path: bytes) -> str:
    """What the guest calls the file *path* behind *door*."""
    prefixes = [b"", *(bind.guest.rstrip(b"/") for bind in kernel.config.binds)]
    trees = [mount.sb for mount in kernel.vfs.namespace.mounts if isinstance(mount.sb, HostFs)]
    for prefix, sb in zip(prefixes, trees, strict=False):
        if sb.door is door:
            return os.fsdecode(prefix + path if sb.root.is_dir else prefix)
    return os.fsdecode(path)


def host_files(kernel: "Kernel") -> dict[str, str]:
    """The host's files whose contents were asked for so far, by the guest's name of them: sha256."""
    found: dict[str, str] = {}
    for mount in kernel.vfs.namespace.mounts:
        door = mount.sb.door if isinstance(mount.sb, HostFs) else None
        if not isinstance(door, HostDoor):
            continue
        for node in door.opened:
            name = guest_name(kernel, door, node.path())
            try:
                fd = door.open_file(node, os.O_RDONLY)
            except (OSError, LinuxError):
                found[name] = "gone"
                continue
            try:
                found[name] = hash_of(fd)[0]
            finally:
                os.close(fd)
    return dict(sorted(found.items()))
