"""How a page fault may end, and telling it.  Linux: vm_fault_t, include/linux/mm_types.h."""

from typing import Final, TypeAlias

from msgspec import Struct

from emu.x86 import Pfn, VirtAddr
from minikernel.abi.errno import Errno, LinuxError
from minikernel.events import FaultKind, MmFaultFailed, MmFaultResolved
from minikernel.mm.mm_struct import MmStruct

SIGBUS: Final = 7
SIGSEGV: Final = 11
SEGV_MAPERR: Final = 1  # address not mapped
SEGV_ACCERR: Final = 2  # mapped, but not for this access
BUS_ADRERR: Final = 2  # beyond the end of the file


class Served(Struct, frozen=True):
    """The access may be tried again.  *major*: it needed I/O."""

    kind: FaultKind
    major: bool = False


class Segv(Struct, frozen=True):
    """SIGSEGV with si_code *code*; *reason* names the rule for a human."""

    code: int
    reason: str


class BusError(Struct, frozen=True):
    """SIGBUS with si_code *code*."""

    code: int
    reason: str


class OutOfMemory(Struct, frozen=True):
    """No frame: someone has to be killed, then the access is tried again."""


FaultOutcome: TypeAlias = Served | Segv | BusError | OutOfMemory

# One object per way to be served: the hot path builds nothing.
SERVED: Final = {kind: Served(kind) for kind in FaultKind}
SERVED_ANON: Final = SERVED[FaultKind.ANON]
SERVED_MAJOR: Final = {kind: Served(kind, major=True) for kind in FaultKind}
_OUT_OF_MEMORY: Final = OutOfMemory()


# ---- the ends of the path


def served(mm: MmStruct, kind: FaultKind, address: int, pfn: int) -> Served:
    """Tell and return that a minor fault was served."""
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultResolved(VirtAddr(address), kind, Pfn(pfn)))
    return SERVED[kind]


def segv(mm: MmStruct, address: int, code: int, reason: str) -> Segv:
    """Tell and return that the access was wrong."""
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultFailed(VirtAddr(address), SIGSEGV, code, reason))
    return Segv(code, reason)


def bus_error(mm: MmStruct, address: int, reason: str) -> BusError:
    """Tell and return that the mapping has no page there."""
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultFailed(VirtAddr(address), SIGBUS, BUS_ADRERR, reason))
    return BusError(BUS_ADRERR, reason)


def oom(mm: MmStruct, address: int) -> OutOfMemory:
    """Tell and return that there is no frame."""
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultFailed(VirtAddr(address), 0, 0, "out of memory: no frame for the page or its tables"))
    return _OUT_OF_MEMORY


def failed(mm: MmStruct, address: int, error: LinuxError) -> OutOfMemory | BusError:
    """What an error of the page cache becomes: vmf_error()."""
    if error.errno == Errno.ENOMEM:
        return oom(mm, address)
    return bus_error(mm, address, f"the file's page could not be had: {error}")


def served_file(mm: MmStruct, kind: FaultKind, address: int, pfn: int, *, major: bool) -> Served:
    """served(), of a file's page: perhaps with I/O."""
    if major:
        mm.maj_flt += 1
    else:
        mm.min_flt += 1
    if mm.tracer.sink is not None:
        mm.tracer.emit(MmFaultResolved(VirtAddr(address), kind, Pfn(pfn), major))
    return SERVED_MAJOR[kind] if major else SERVED[kind]
