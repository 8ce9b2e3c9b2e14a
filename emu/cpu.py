"""The CPU: runs guest code on page tables in RAM and returns why it stopped.

The only file that touches Unicorn.  It is driven through the native part (``emu/native``) by the shared library
that the ``unicorn`` package ships; importing the package's own Python binding would cost every run 40 ms.
The general registers and RIP are read and written where the engine keeps them, so an exit costs no copying.
"""

import ctypes
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final, TypeAlias

from emu import cpuid, native
from emu.exits import BudgetSpent, CpuException, CpuExit, PageFault, Syscall, SyscallInsn
from emu.paging import PagingMode
from emu.physmem import PhysMem
from emu.x86 import (
    CR0_AM,
    CR0_ET,
    CR0_MP,
    CR0_NE,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_LA57,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    CR4_PAE,
    CR4_PGE,
    CR4_PSE,
    CR4_TSD,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    PAGE_SHIFT,
    PAGE_SIZE,
    VEC_PF,
    Pfn,
    PhysAddr,
    VirtAddr,
)

if TYPE_CHECKING:
    from emu.trace import CpuTrace
    from emu.watch import Hit, Watch

Context: TypeAlias = bytes
"""A saved CPU state: everything user code can see or change, in the engine's own layout."""

# Indices into ``Cpu.regs``: the order of the SDM's register encoding, then RIP.
RAX: Final = 0
RCX: Final = 1
RDX: Final = 2
RBX: Final = 3
RSP: Final = 4
RBP: Final = 5
RSI: Final = 6
RDI: Final = 7
R8: Final = 8
R9: Final = 9
R10: Final = 10
R11: Final = 11
R12: Final = 12
R13: Final = 13
R14: Final = 14
R15: Final = 15
RIP: Final = 16
GPR_NAMES: Final = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))

# Words of struct machine (native/machine.h).
_ICOUNT: Final = 0
_VECTOR: Final = 2
_ERROR_CODE: Final = 3
_SOFTWARE: Final = 4
_CR2: Final = 5
_HOST_ERROR: Final = 6
_ENV_SIZE: Final = 7
_ENV_ADDRESS: Final = 8
_NR_HITS: Final = 12
_HITS_ADDRESS: Final = 13
_HIT_PC: Final = 14
_NR_WORDS: Final = 15

# enum exit_kind (native/machine.h).
_EXIT_BUDGET: Final = 1
_EXIT_SYSCALL: Final = 2
_EXIT_SYSENTER: Final = 3
_EXIT_EXCEPTION: Final = 4
_EXIT_BREAK: Final = 6
_EXIT_TRACE: Final = 7
_EXIT_WATCH: Final = 8

# enum uc_x86_reg of unicorn 2 (unicorn/x86.h).
_REG_CS: Final = 11
_REG_DS: Final = 17
_REG_EFLAGS: Final = 25  # what a 32-bit engine calls it
_REG_RFLAGS: Final = 253
_REG_ES: Final = 28
_REG_FS: Final = 32
_REG_GS: Final = 33
_REG_SS: Final = 49
_REG_CR0: Final = 50
_REG_CR2: Final = 52
_REG_CR3: Final = 53
_REG_CR4: Final = 54
_REG_GDTR: Final = 243
_REG_MSR: Final = 248
_REG_FS_BASE: Final = 250
_REG_GS_BASE: Final = 251

_UC_ERR_EXCEPTION: Final = 21  # writing the register raised an exception

_MSR_SYSENTER_CS: Final = 0x174
_MSR_EFER: Final = 0xC000_0080

VECTOR_INT80: Final = 0x80

_SYSCALL: Final = Syscall(SyscallInsn.SYSCALL)
_INT80: Final = Syscall(SyscallInsn.INT80)
_SYSENTER: Final = Syscall(SyscallInsn.SYSENTER)
_BUDGET_SPENT: Final = BudgetSpent()


class MachineError(RuntimeError):
    """The engine cannot be used on this host, or stopped for a reason of its own."""


class _Mmr(ctypes.Structure):
    """uc_x86_mmr: a descriptor-table register."""

    _fields_ = (
        ("selector", ctypes.c_uint16),
        ("base", ctypes.c_uint64),
        ("limit", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    )


class _Msr(ctypes.Structure):
    """uc_x86_msr."""

    _fields_ = (("rid", ctypes.c_uint32), ("value", ctypes.c_uint64))


def _library_path() -> str:
    """Where the unicorn package keeps its shared library; the package itself is not imported."""
    spec = find_spec("unicorn")
    if spec is None or not spec.submodule_search_locations:
        raise MachineError("the package `unicorn` is not installed")
    return f"{spec.submodule_search_locations[0]}/lib/libunicorn.so.2"


class Cpu:
    """One x86 CPU over *physmem*, in the paging mode *mode*.

    It starts in ring 0 with paging off; ``start_paging`` and ``enter_user`` bring it to user mode once, and from
    then on tasks are switched by ``save`` and ``restore``.  Ring 0 code is never needed again: the kernel is Python.
    """

    def __init__(self, physmem: PhysMem, mode: PagingMode) -> None:
        self._native = native.load()
        if self._native.machine_load(_library_path().encode()) != 0:
            raise MachineError(self._native.machine_last_error().decode())
        self.physmem = physmem
        self.mode = mode
        self.long_mode = mode.va_bits > 32
        handle = self._native.machine_open(int(self.long_mode), physmem.address, physmem.size)
        if not handle:
            raise MachineError(self._native.machine_last_error().decode())
        self._handle = ctypes.c_void_p(handle)
        self._words = memoryview((ctypes.c_uint64 * _NR_WORDS).from_address(handle)).cast("B").cast("Q")
        env = self._words[_ENV_ADDRESS]
        self.regs = memoryview((ctypes.c_uint64 * 17).from_address(env)).cast("B").cast("Q")
        self._state = memoryview((ctypes.c_ubyte * self._words[_ENV_SIZE]).from_address(env)).cast("B")
        self._run = self._native.machine_run
        self._reg_read, self._reg_write = self._native.machine_reg_read, self._native.machine_reg_write
        self._word = ctypes.c_uint64(0)  # what passes through the two
        self._word_pointer = ctypes.byref(self._word)
        self._image = ctypes.create_string_buffer(512)  # an FXSAVE image on its way
        self._flags = _REG_RFLAGS if self.long_mode else _REG_EFLAGS
        self.root = PhysAddr(0)
        self.trace: CpuTrace | None = None  # what notes the blocks that run: see start_trace
        self._watches: tuple[Watch, ...] = ()
        self.at_break = False  # the last run ended in front of a breakpoint: see set_break
        self._load_cpuid()

    def close(self) -> None:
        """Free the engine.  The registers must not be touched afterwards."""
        if self._handle.value:
            self._native.machine_close(self._handle)
            self._handle.value = None

    # -- running ---------------------------------------------------------------------------------------------

    def run(self, budget: int) -> CpuExit:
        """Run until something happens, at most the block in which *budget* instructions are spent."""
        kind = self._run(self._handle, budget)
        if kind == _EXIT_SYSCALL:
            return _SYSCALL
        if kind == _EXIT_EXCEPTION:
            words = self._words
            vector = words[_VECTOR]
            if vector == VEC_PF and not words[_SOFTWARE]:
                return PageFault(VirtAddr(words[_CR2]), words[_ERROR_CODE])
            return self._exception(vector)
        if kind == _EXIT_BUDGET:
            return _BUDGET_SPENT
        if kind == _EXIT_SYSENTER:
            return _SYSENTER
        if kind == _EXIT_BREAK:
            self.at_break = True
            return _BUDGET_SPENT
        if kind == _EXIT_TRACE:
            return self._run_on(budget)
        if kind == _EXIT_WATCH:
            return _BUDGET_SPENT
        raise self._host_error()

    def set_watches(self, watches: "Sequence[Watch]") -> None:
        """Make ``run`` stop behind instructions that access the memory of *watches*; all others are forgotten.

        Such a stop is ``BudgetSpent``, and ``hits`` says what was accessed; a ``step`` says it, too.

        Raises:
            MachineError: this engine cannot, or has no memory for so many.
        """
        from emu.watch import pack

        array = pack(watches)
        if self._native.machine_set_watches(self._handle, array, len(watches)):
            raise MachineError("this engine takes no watchpoints")
        self._watches = tuple(watches)

    @property
    def hits(self) -> "list[Hit]":
        """What the last run or step did to watched memory; its last instruction did it."""
        number = self._words[_NR_HITS]
        if not number:
            return []
        from emu.watch import unpack

        return unpack(self._words[_HITS_ADDRESS], number, self._watches)

    @property
    def hit_pc(self) -> int | None:
        """The instruction that made ``hits``, which has retired; None: the walk for the fetch of the next one did."""
        return self._words[_HIT_PC] or None

    def set_break(self, address: VirtAddr, *, on: bool) -> None:
        """Make ``run`` stop in front of the instruction at *address*, in any address space, or no longer.

        Such a stop is ``BudgetSpent`` with ``at_break`` set, which the caller clears.  ``step`` goes over it.
        """
        if self._native.machine_set_break(self._handle, address, int(on)):
            raise MachineError("the engine takes no more breakpoints")

    def step(self) -> CpuExit:
        """Run one instruction: ``BudgetSpent`` if it retired quietly, otherwise what it caused."""
        kind = self._native.machine_step(self._handle)
        if kind == 0:
            return _BUDGET_SPENT
        if kind == _EXIT_SYSCALL:
            return _SYSCALL
        if kind == _EXIT_SYSENTER:
            return _SYSENTER
        if kind != _EXIT_EXCEPTION:
            raise self._host_error()
        vector = self._words[_VECTOR]
        if vector == VEC_PF and not self._words[_SOFTWARE]:
            return PageFault(VirtAddr(self._words[_CR2]), self._words[_ERROR_CODE])
        return self._exception(vector)

    def _exception(self, vector: int) -> CpuExit:
        software = bool(self._words[_SOFTWARE])
        if software and vector == VECTOR_INT80:
            return _INT80
        return CpuException(vector, self._words[_ERROR_CODE], software)

    def _host_error(self) -> MachineError:
        return MachineError(f"the engine stopped with error {self._words[_HOST_ERROR]} at {self.regs[RIP]:#x}")

    @property
    def icount(self) -> int:
        """Instructions retired since the CPU was made; every iteration of a REP instruction counts."""
        return self._words[_ICOUNT]

    @icount.setter
    def icount(self, value: int) -> None:
        if self.trace is not None and value == self.icount + 1:
            self.trace.note_emulated()
        self._words[_ICOUNT] = value

    def start_trace(
        self, on_full: "Callable[[CpuTrace], None]", *, limit: int = 1 << 20, accesses: bool = False
    ) -> "CpuTrace":
        """Note every block that runs from now on, and with *accesses* all loads and stores, until ``CpuTrace.stop``.

        *on_full* is called in the middle of a run, with about *limit* packed bytes to be fetched.  It must fetch them
        and leave the machine alone.  A traced run retires the same instructions as any other and stops at the same
        places; blocks are translated anew.
        """
        from emu.trace import CpuTrace

        assert self.trace is None, "Cpu.start_trace: there is a trace already"
        self.trace = CpuTrace(self._native, self._handle, on_full, limit, self._forget_trace, accesses=accesses)
        return self.trace

    def _forget_trace(self) -> None:
        self.trace = None

    def _run_on(self, budget: int) -> CpuExit:
        """The trace was full before the run could go on; nothing of *budget* is spent that ``icount`` does not show."""
        trace = self.trace
        assert trace is not None, "Cpu._run_on: there is no trace"
        trace.on_full(trace)
        return self.run(budget - trace.ran)

    def set_inlining(self, *, on: bool) -> None:
        """Whether blocks count themselves instead of calling a hook; on from the start, off for comparison."""
        self._native.machine_set_inlining(self._handle, int(on))

    @property
    def nr_inlined(self) -> int:
        """Blocks that count themselves so far."""
        return int(self._native.machine_nr_sites(self._handle))

    # -- state -----------------------------------------------------------------------------------------------

    def save(self) -> Context:
        """Copy the CPU state."""
        return bytes(self._state)

    def restore(self, context: Context) -> None:
        """Put a state back.  The caller sets the page-table root afterwards, which flushes the TLB."""
        self._state[:] = context

    @property
    def code_bits(self) -> int:
        """16, 32 or 64: how the code at RIP is decoded."""
        return int(self._native.machine_code_bits(self._handle))

    @property
    def rflags(self) -> int:
        """RFLAGS."""
        return self._read(self._flags)

    @rflags.setter
    def rflags(self, value: int) -> None:
        self._write(self._flags, value)

    @property
    def fs_base(self) -> int:
        """Base address of FS (64-bit machine)."""
        return self._read(_REG_FS_BASE)

    @fs_base.setter
    def fs_base(self, value: int) -> None:
        self._write(_REG_FS_BASE, value)

    @property
    def gs_base(self) -> int:
        """Base address of GS (64-bit machine)."""
        return self._read(_REG_GS_BASE)

    @gs_base.setter
    def gs_base(self, value: int) -> None:
        self._write(_REG_GS_BASE, value)

    def segment(self, name: str) -> int:
        """Selector in segment register *name* ("cs", "ss", "ds", "es", "fs", "gs")."""
        return self._read(_SEGMENTS[name]) & 0xFFFF

    def load_segment(self, name: str, selector: int) -> bool:
        """Load a data segment register; the descriptor is the GDT's.  CS, and SS in ring 3, change by ``restore``.

        False: there is no such descriptor, or it is not for user code; nothing has changed.  A 64-bit engine just
        notes the selectors of DS and ES: their base stays what user code last loaded.
        """
        assert name != "cs", "Cpu.load_segment: ring 3 cannot be written, only entered"
        assert name != "ss" or not self._native.machine_cpl(self._handle), "Cpu.load_segment: the same goes for SS"
        self._word.value = selector
        error = self._reg_write(self._handle, _SEGMENTS[name], self._word_pointer)
        if error == _UC_ERR_EXCEPTION:
            return False
        self._check(error)
        return True

    def fxsave(self) -> bytes:
        """The x87 and SSE state: 512 bytes in FXSAVE's layout."""
        self._native.machine_fxsave(self._handle, self._image)
        return self._image.raw

    def fxrstor(self, image: bytes) -> None:
        """Load the x87 and SSE state from 512 bytes in FXSAVE's layout; reserved MXCSR bits are dropped."""
        assert len(image) == 512, "Cpu.fxrstor: an FXSAVE image has 512 bytes"
        self._image.raw = image
        self._native.machine_fxrstor(self._handle, self._image)

    def control_registers(self) -> dict[str, int]:
        """CR0, CR2, CR3, CR4 and EFER (0 on a machine without long mode), by their names in lower case."""
        found = {name: self._read(register) for name, register in _CONTROL.items()}
        msr = _Msr(_MSR_EFER, 0)
        self._check(self._native.machine_reg_read(self._handle, _REG_MSR, ctypes.byref(msr)))
        return {**found, "efer": msr.value}

    # -- paging and translations -----------------------------------------------------------------------------

    def set_root(self, root: PhysAddr) -> None:
        """Load CR3.  The TLB is flushed; *root* lies below 4 GiB (unicorn.md, trap 5)."""
        assert root < 1 << 32, "Cpu.set_root: the engine keeps 32 bits of CR3"
        self.root = root
        self._write(_REG_CR3, root)

    def flush_tlb(self) -> None:
        """Forget cached translations of addresses.  Needed after every downgrade of an entry."""
        self._native.machine_flush_tlb(self._handle)

    def flush_code(self) -> None:
        """Forget all translated code."""
        self._native.machine_flush_code(self._handle)

    def invalidate_code(self, identity_root: PhysAddr, pfns: list[Pfn]) -> None:
        """Forget code translated from frames *pfns*, whose contents changed behind the engine's back.

        The engine drops translations by linear address, so it is shown *identity_root*, tables that map all RAM
        one to one, user and executable, while it does (unicorn.md, trap 6).
        """
        self._write(_REG_CR3, identity_root)
        remove = self._native.machine_remove_code
        for pfn in pfns:
            remove(self._handle, pfn << PAGE_SHIFT, (pfn << PAGE_SHIFT) + PAGE_SIZE)
        self._write(_REG_CR3, self.root)

    # -- start-up ---------------------------------------------------------------------------------------------

    def start_paging(self, root: PhysAddr) -> None:
        """Turn paging on with *root* in CR3: write protection in ring 0, NX where the mode has it, no user RDTSC."""
        cr4 = CR4_PSE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_TSD
        if self.mode.entry_size == 8:
            cr4 |= CR4_PAE
        if self.mode.va_bits == 57:
            cr4 |= CR4_LA57
        efer = EFER_SCE | (EFER_NXE if self.mode.has_nx else 0) | (EFER_LME | EFER_LMA if self.long_mode else 0)
        self._write(_REG_CR4, cr4)
        self.set_root(root)
        self._write_msr(_MSR_EFER, efer)
        self._write(_REG_CR0, CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG)

    def load_gdt(self, base: VirtAddr, limit: int) -> None:
        """Set the GDT's linear address and limit (size - 1 bytes)."""
        mmr = _Mmr(0, base, limit, 0)
        self._check(self._native.machine_reg_write(self._handle, _REG_GDTR, ctypes.byref(mmr)))

    def set_sysenter_cs(self, selector: int) -> None:
        """Allow SYSENTER, which faults while this MSR is 0."""
        self._write_msr(_MSR_SYSENTER_CS, selector)

    def enter_user(self, iret: VirtAddr, frame: VirtAddr) -> None:
        """Execute the interrupt return at *iret*, with its frame at *frame*; ring 0 ends here.

        Ring 3 cannot be written into the segment registers, only entered (unicorn.md, trap 3).
        """
        self.regs[RSP] = frame
        self.regs[RIP] = iret
        self._native.machine_step(self._handle)
        if self._native.machine_cpl(self._handle) != 3:
            raise MachineError("this build of the engine is laid out otherwise than expected; not found: the CPL")
        self.icount = 0

    # -- private -----------------------------------------------------------------------------------------------

    def _load_cpuid(self) -> None:
        rows = cpuid.answers(long_mode=self.long_mode)
        flat = [word for row in rows for word in row]
        array = (ctypes.c_uint32 * len(flat))(*flat)
        if self._native.machine_set_cpuid(self._handle, array, len(rows)) != 0:
            raise MachineError(self._native.machine_last_error().decode())

    def _check(self, error: int) -> None:
        if error:
            raise MachineError(f"the engine refused a register ({error})")

    def _read(self, register: int) -> int:
        error = self._reg_read(self._handle, register, self._word_pointer)
        if error:
            self._check(error)
        return self._word.value

    def _write(self, register: int, value: int) -> None:
        self._word.value = value
        error = self._reg_write(self._handle, register, self._word_pointer)
        if error:
            self._check(error)

    def _write_msr(self, index: int, value: int) -> None:
        msr = _Msr(index, value)
        self._check(self._native.machine_reg_write(self._handle, _REG_MSR, ctypes.byref(msr)))


_CONTROL: Final = {"cr0": _REG_CR0, "cr2": _REG_CR2, "cr3": _REG_CR3, "cr4": _REG_CR4}
_SEGMENTS: Final = {"cs": _REG_CS, "ss": _REG_SS, "ds": _REG_DS, "es": _REG_ES, "fs": _REG_FS, "gs": _REG_GS}
