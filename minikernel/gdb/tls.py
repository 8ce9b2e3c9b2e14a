"""Thread-local variables: where a thread has its block of a module.

libthread_db asks glibc itself how its structures are laid out, through symbols that describe fields: three words each,
the bits of an element, the number of elements, the offset in bytes.  So do we.
Source: glibc, nptl_db/structs.def, td_thr_tlsbase.c; Drepper, "ELF Handling For Thread-Local Storage", variant II.
"""

from typing import TYPE_CHECKING, Final

from minikernel.abi.abi import X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.gdb import registers
from minikernel.report.peek import peek

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.task.task import Task

_MAIN_MODULE: Final = 1


def block(session: "Session", task: "Task", link_map: int) -> int:
    """The block of the module that *link_map* describes (0: the program, which is linked statically) of *task*.

    Errors:
        ENODATA: the C library does not say, or the thread has none yet.
    """
    word, pointer = task.abi.word, thread_pointer(session, task)
    module = _MAIN_MODULE
    if link_map:
        module = _read(task, link_map + _field(session, task, "link_map_l_tls_modid")[1], word)
    table = _read(task, pointer + _field(session, task, "pthread_dtvp")[1], word)
    bits, _ = _field(session, task, "dtv_dtv")
    at = table + module * bits // 8 + _field(session, task, "dtv_t_pointer_val")[1]
    found = _read(task, at, word)
    if found != task.abi.mask:
        return found
    if link_map:  # not looked at by this thread yet: it is where the static ones are, or nowhere
        offset = _read(task, link_map + _field(session, task, "link_map_l_tls_offset")[1], word)
        if offset not in {0, task.abi.mask}:
            return pointer - offset & task.abi.mask
    raise LinuxError(Errno.ENODATA, "the thread has not touched the module's variables yet")


def thread_pointer(session: "Session", task: "Task") -> int:
    """The base of FS, or on i386 of the segment in GS."""
    by_name = {register.name: register.number for register in registers.layout(task.abi)}
    name = "fs_base" if task.abi is X86_64 else "gs"
    value = int.from_bytes(registers.read(session.machine, task, [by_name[name]])[0], "little")
    if task.abi is X86_64:
        return value
    slot = (value >> 3) - task.kernel.user_mode.gdt.tls_min
    if not 0 <= slot < len(task.tls):
        raise LinuxError(Errno.ENODATA, "the thread has no pointer to its variables")
    descriptor = task.tls[slot]
    return descriptor >> 16 & 0xFF_FFFF | descriptor >> 56 << 24


def _field(session: "Session", task: "Task", name: str) -> tuple[int, int]:
    """Bits of an element, and offset, of a field that glibc describes."""
    where = next(iter(session.explainer.symbols.addresses(task.mm, f"_thread_db_{name}")), None)
    if where is None:
        raise LinuxError(Errno.ENODATA, "the C library describes no threads")
    return _read(task, where, 4), _read(task, where + 8, 4)


def _read(task: "Task", address: int, size: int) -> int:
    data = peek(task.mm, address, size)
    if len(data) < size:
        raise LinuxError(Errno.EFAULT, f"{address:#x}")
    return int.from_bytes(data, "little")
