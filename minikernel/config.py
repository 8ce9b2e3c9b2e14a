"""What a machine is asked to be.  Everything that can change a run is in here, so equal configs run equally."""

import os
from typing import Final

from msgspec import Struct, field

DEFAULT_RAM: Final = 256 << 20
DEFAULT_SLICE: Final = 2_000_000
"""Instructions a task runs before others, timers and Ctrl-C get a chance: some milliseconds of host time."""


class Bind(Struct, frozen=True, kw_only=True):
    """A host directory or file shown at a guest path; *writable*: changes reach the host."""

    host: bytes
    guest: bytes
    writable: bool = False


class Swap(Struct, frozen=True, kw_only=True):
    """A swap area from the start on: a host file that mkswap(8) prepared, or *size* bytes of a temporary one."""

    path: bytes | None = None
    size: int = 0
    priority: int | None = None  # None: below all that were given before


class Config(Struct, frozen=True, kw_only=True):
    """One boot of the machine."""

    argv: tuple[bytes, ...]
    env: tuple[bytes, ...] = ()  # NAME=VALUE
    root: bytes = b"/"  # host directory that the guest sees as /
    cwd: bytes = b"/"  # in the guest
    binds: tuple[Bind, ...] = ()
    ram: int = DEFAULT_RAM  # bytes
    swap: tuple[Swap, ...] = ()
    policy: str = "two-list"  # which page goes when memory is short: mm/policy
    sysctls: tuple[tuple[str, str], ...] = ()  # (vm.swappiness, 10): set before the program starts
    cpu: str = "x86-64"  # or "i386"
    paging: str = "pae"  # of the i386 machine: "pae" or "2level"
    seed: int = 0
    aslr: bool = False
    host_clock: bool = False
    console: bool = False  # a terminal that is standard input is the machine's own, keys and all
    max_instructions: int | None = None
    timeout: float | None = None  # seconds of the host's time
    max_processes: int | None = None  # tasks at one time, threads included
    max_memory: int | None = None  # bytes: RAM is not larger, whatever ``ram`` says
    schedule_seed: int | None = None  # slices of random length, to shake out races
    slice: int = DEFAULT_SLICE
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    groups: tuple[int, ...] = field(default_factory=lambda: tuple(sorted(os.getgroups())))
    umask: int = 0o022
