"""What is watched, and who touched it: the program by its instructions, a walk of the page tables, or the kernel.

The CPU stops behind instructions that touch watched memory (``Cpu.set_watches``).  The kernel is Python, and writes
RAM by itself: what it changes is found by comparing when it is done; what it reads, or writes again with the same
content, by standing between it and RAM for as long as somebody asks for that.  A page that moves (copied, swapped,
mapped anew) is followed.  Nothing here knows of a prompt: commands and gdb's stub watch through the same ``Lookout``.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from emu.cpu import GPR_NAMES, RIP
from emu.paging import walk_steps
from emu.watch import READ, WRITE, Hit, Watch, WatchKind
from emu.x86 import PAGE_MASK, PAGE_SIZE, VirtAddr
from minikernel.mm import uaccess
from minikernel.mm.vma import VM_SHARED
from minikernel.report.peek import peek

if TYPE_CHECKING:
    import mmap
    from types import FrameType

    from typing_extensions import Buffer

    from minikernel.kernel import Kernel
    from minikernel.mm.mm_struct import MmStruct

_WORD: Final = (1 << 64) - 1
_MOST_KEPT: Final = 256  # touches between two looks at them


class Memory(NamedTuple):
    """Bytes to watch.

    *kind*: LINEAR addresses of process *tgid*; PHYSICAL addresses, whoever reaches them; ENTRY: what the page tables of
    *tgid* say about the page at *address*, *size* is of no matter then.
    """

    kind: WatchKind
    address: int
    size: int
    access: int  # READ, WRITE or both; an ENTRY is written only
    tgid: int = 0


class Touch(NamedTuple):
    """An access to *memory*, by task *pid*.

    *by* is "cpu", "walk" or "kernel"; *pc* is the instruction (0: the kernel's, or a fetch's).  *old* and *new* are
    all of the memory; empty: there is none.  *address* and *size* are the access's own, linear addresses except of the
    kernel's accesses to PHYSICAL memory; a walk's *address* is the page that was walked to.
    """

    memory: Memory
    access: int
    address: int
    size: int
    old: bytes
    new: bytes
    pid: int
    pc: int
    icount: int
    by: str
    where: str = ""  # the kernel's function, if we stood between it and RAM


class _Noted(NamedTuple):
    """An access by the kernel."""

    memory: Memory
    access: int
    address: int
    size: int
    where: str


class Lookout:
    """Watches memory of one machine.  Who runs that calls ``cpu_ran`` and ``kernel_ran``, and reads ``touches``."""

    def __init__(self, kernel: "Kernel") -> None:
        self.kernel = kernel
        self.watched: tuple[Memory, ...] = ()
        self.touches: list[Touch] = []
        self._contents: dict[Memory, bytes] = {}
        self._armed: list[tuple[Watch, Memory]] = []
        self._real: mmap.mmap | None = None  # RAM, while we stand in front of it
        self._heard = False
        self._noted: list[_Noted] = []

    def watch(self, memories: Sequence[Memory]) -> None:
        """Watch these, and nothing else.

        Raises:
            MachineError: the engine cannot.
        """
        self.watched = tuple(dict.fromkeys(memories))
        self.touches = []
        self.look_again()
        self._stand_between(on=any(m.access & READ or m.kind is WatchKind.PHYSICAL for m in self.watched))

    def look_again(self) -> None:
        """Somebody else, the user, may have changed things: that is nobody's touch."""
        self._contents = {memory: self.content(memory) for memory in self.watched}
        self._arm()

    def content(self, memory: Memory) -> bytes:
        """What is there now; empty: nothing."""
        if memory.kind is WatchKind.PHYSICAL:
            return self.kernel.physmem.ram[memory.address : memory.address + memory.size]
        mm = memory_of(self.kernel, memory.tgid)
        if mm is None:
            return b""
        if memory.kind is WatchKind.ENTRY:
            return entry_of(mm, memory.address)[1]
        data = peek(mm, memory.address, memory.size)
        return data if len(data) == memory.size else b""

    @contextmanager
    def deaf(self) -> "Iterator[None]":
        """What is read meanwhile is read by us."""
        before, self._heard = self._heard, False
        try:
            yield
        finally:
            self._heard = before

    def hear(self, *, on: bool) -> None:
        """Whether the kernel is at work now: otherwise whoever reads RAM is the debugger."""
        self._heard = on

    # ---- what happened

    def cpu_ran(self) -> bool:
        """The CPU has run: whether it stopped for its last instruction, which touched what is in ``touches``."""
        hits = self.kernel.cpu.hits
        if not hits:
            return False
        with self.deaf():
            self._cpu_ran(hits)
        return True

    def _cpu_ran(self, hits: list[Hit]) -> None:
        pc = self.kernel.cpu.hit_pc or 0
        for watch, memory in self._armed:
            own = [hit for hit in hits if hit.watch == watch]
            if not own:
                continue
            new = self.content(memory)
            old, self._contents[memory] = self._contents[memory], new
            by = "walk" if memory.kind is WatchKind.ENTRY else "cpu"
            for hit in {hit.access: hit for hit in reversed(own)}.values():
                if hit.access == READ and memory.kind is not WatchKind.ENTRY and self._missed(watch, own, pc):
                    continue
                before = old if hit.access == WRITE else new
                self._add(memory, hit.access, hit.address, hit.size, before, new, pc, by)

    def _missed(self, watch: Watch, hits: list[Hit], pc: int) -> bool:
        """Whether the load of the instruction at *pc* was beside *watch* after all.

        One that is not aligned arrives as the two aligned ones around it: its operand tells, if it has just one whose
        registers are still as they were.
        """
        cpu, task = self.kernel.cpu, self.kernel.current
        reads = [hit for hit in hits if hit.access == READ]
        if task is None or not task.has_mm or any(hit.size == 1 for hit in reads):
            return False
        from emu.disasm import MAX_INSN_LENGTH, loads

        code = peek(task.mm, pc, MAX_INSN_LENGTH)
        found = loads(code, VirtAddr(pc), bits=cpu.code_bits)
        if len(found) != 1 or not found[0].is_stable or found[0].segment in {"fs", "gs"}:
            return False
        [load] = found
        start = load.displacement
        for name, scale in ((load.base, 1), (load.index, load.scale)):
            start += scale * self._register(name) if name else 0
        start &= task.abi.mask
        at = watch.address
        if watch.kind is WatchKind.PHYSICAL:
            phys = physical_in(task.mm, reads[0].address)
            if phys is None:
                return False
            at += reads[0].address - phys
        around = min(hit.address for hit in reads) - load.size < start < max(hit.address for hit in reads) + load.size
        return around and (start + load.size <= at or at + watch.size <= start)

    def _register(self, name: str) -> int:
        """A register that an address is made of, as it is behind the instruction."""
        regs = self.kernel.cpu.regs
        if name in {"rip", "eip"}:
            return regs[RIP]
        whole = f"r{name[1:]}" if name[0] == "e" else name.removesuffix("d")
        return regs[GPR_NAMES.index(whole)] & (0xFFFF_FFFF if whole != name else _WORD)

    def kernel_ran(self) -> bool:
        """The kernel has run: whether it touched anything that is watched; what moved is followed."""
        with self.deaf():
            return self._kernel_ran()

    def _kernel_ran(self) -> bool:
        found = False
        noted, self._noted = self._noted, []
        reported = set()
        for memory in self.watched:
            new = self.content(memory)
            old, self._contents[memory] = self._contents[memory], new
            for it in noted:
                if it.memory == memory:
                    before = old if it.access == WRITE else new
                    self._add(memory, it.access, it.address, it.size, before, new, 0, "kernel", it.where)
                    reported.add((memory, it.access))
                    found = True
            if new != old and memory.access & WRITE and (memory, WRITE) not in reported:
                self._add(memory, WRITE, memory.address, memory.size, old, new, 0, "kernel")
                found = True
        self._arm()
        self._stand_between(on=self._real is not None)
        return found

    def _add(
        self,
        memory: Memory,
        access: int,
        address: int,
        size: int,
        old: bytes,
        new: bytes,
        pc: int,
        by: str,
        where: str = "",
    ) -> None:
        if len(self.touches) < _MOST_KEPT:
            task = self.kernel.current
            pid = task.pid if task is not None else 0
            icount = self.kernel.cpu.icount
            self.touches.append(Touch(memory, access, address, size, old, new, pid, pc, icount, by, where))

    # ---- the CPU's watches

    def _arm(self) -> None:
        """Have the CPU watch, with the page tables as they are now."""
        armed = [(watch, memory) for memory in self.watched if (watch := self._watch(memory)) is not None]
        if armed != self._armed:
            self.kernel.cpu.set_watches(list(dict.fromkeys(watch for watch, _ in armed)))
            self._armed = armed

    def _watch(self, memory: Memory) -> Watch | None:
        if memory.kind is WatchKind.PHYSICAL:
            return Watch(WatchKind.PHYSICAL, memory.address, memory.size, memory.access)
        mm = memory_of(self.kernel, memory.tgid)
        if mm is None:
            return None
        if memory.kind is WatchKind.LINEAR:
            vma = mm.vmas.find(memory.address)
            if vma is not None and vma.flags & VM_SHARED and (memory.address & PAGE_MASK) + memory.size <= PAGE_SIZE:
                phys = physical_in(mm, memory.address)  # others may have it, too, at other addresses
                return Watch(WatchKind.PHYSICAL, phys, memory.size, memory.access) if phys is not None else None
            return Watch(WatchKind.LINEAR, memory.address, memory.size, memory.access, int(mm.pgtable.root))
        where, raw = entry_of(mm, memory.address)
        return Watch(WatchKind.ENTRY, where, len(raw), WRITE) if raw else None

    # ---- standing between the kernel and RAM

    def _stand_between(self, *, on: bool) -> None:
        """Be in every place where RAM is kept, or give the places back.  A new address space may have been made."""
        kernel = self.kernel
        if on and self._real is None:
            self._real = kernel.physmem.ram
        if self._real is None:
            return
        # It does all that the kernel does with RAM, by its slices.
        ram = cast("mmap.mmap", _Between(self, self._real)) if on else self._real
        kernel.physmem.ram = ram
        for task in kernel.tasks.values():
            if task.has_mm:
                task.mm.ram = ram
        if not on:
            self._real = None

    def note(self, start: int, end: int, access: int) -> None:
        """The kernel, in the caller's caller, accesses these physical addresses."""
        if not self._heard:
            return
        frame = sys._getframe(2)
        for_program = frame.f_globals is uaccess.__dict__
        with self.deaf():  # finding out where things are reads the tables
            for memory, phys, size, address in self._places():
                low, high = max(start, phys), min(end, phys + size)
                if low >= high or not memory.access & access:
                    continue
                if for_program or memory.kind is WatchKind.PHYSICAL:
                    self._noted.append(_Noted(memory, access, address + low - phys, high - low, _name_of(frame)))

    def _places(self) -> "Iterator[tuple[Memory, int, int, int]]":
        """Where watched bytes are in RAM now: memory, physical address, size, and the address that this is for."""
        for memory in self.watched:
            if memory.kind is WatchKind.PHYSICAL:
                yield memory, memory.address, memory.size, memory.address
            elif memory.kind is WatchKind.LINEAR and (mm := memory_of(self.kernel, memory.tgid)) is not None:
                address, end = memory.address, memory.address + memory.size
                while address < end:
                    length = min(PAGE_SIZE - (address & PAGE_MASK), end - address)
                    phys = physical_in(mm, address)
                    if phys is not None:
                        yield memory, phys, length, address
                    address += length


def memory_of(kernel: "Kernel", tgid: int) -> "MmStruct | None":
    """The memory of process *tgid*; None: it has ended, or has not begun."""
    return next((task.mm for task in kernel.tasks.values() if task.tgid == tgid and task.has_mm), None)


def entry_of(mm: "MmStruct", address: int) -> tuple[int, bytes]:
    """The physical address and the bytes of the entry that maps *address*, or would; 0 and empty: there is no table."""
    mode = mm.pgtable.mode
    steps = walk_steps(mm.node.physmem, mode, mm.pgtable.root, VirtAddr(address))
    if not steps or not (steps[-1].leaf or steps[-1].level is mode.levels[-1]):
        return 0, b""
    return int(steps[-1].entry_phys), steps[-1].raw.to_bytes(mode.entry_size, "little")


def _name_of(frame: "FrameType") -> str:
    """The function of our kernel, as ``mm.uaccess.copy_to_user``."""
    module = str(frame.f_globals.get("__name__", "")).removeprefix("minikernel.")
    return f"{module}.{frame.f_code.co_name}"


def physical_in(mm: "MmStruct", address: int) -> int | None:
    """The physical address behind *address*; None: no page is present."""
    mode = mm.pgtable.mode
    steps = walk_steps(mm.node.physmem, mode, mm.pgtable.root, VirtAddr(address))
    if not steps or not steps[-1].leaf:
        return None
    return int(steps[-1].page_address(mode)) + (address & ((1 << steps[-1].level.shift) - 1))


class _Between:
    """Stands where the kernel's rooms keep RAM, passes everything on, and tells of it."""

    def __init__(self, lookout: Lookout, ram: "mmap.mmap") -> None:
        self._note = lookout.note
        self._ram = ram

    def __getitem__(self, key: slice) -> bytes:
        self._note(key.start, key.stop, READ)
        return self._ram[key]

    def __setitem__(self, key: slice, data: "Buffer") -> None:
        self._note(key.start, key.stop, WRITE)
        self._ram[key] = data

    def find(self, what: bytes, start: int, end: int) -> int:
        """As mmap's: it reads up to what it finds."""
        at = self._ram.find(what, start, end)
        self._note(start, end if at < 0 else at + len(what), READ)
        return at
