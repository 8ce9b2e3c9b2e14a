"""The protocol of mm/icache.py on the emulated CPU: code written through one mapping and run through another."""

from collections.abc import Iterator
from typing import Final

import pytest

from emu.cpu import Cpu
from emu.exits import PageFault, Syscall
from emu.physmem import PhysMem
from emu.x86 import PAGE_SHIFT, PAGE_SIZE, PF_I, PF_W, PTE_RW, PTE_XD, Pfn, PhysAddr, VirtAddr
from minikernel.abi.abi import I386
from minikernel.arch.user_mode import UserMode
from minikernel.events import Tracer
from minikernel.mm.icache import note_exec, note_kernel_write, note_write
from minikernel.mm.layout import I386_2LEVEL_LAYOUT, I386_PAE_LAYOUT, X86_64_LAYOUT, KernelLayout
from minikernel.mm.page_alloc import Node
from minikernel.mm.pgtable import PageTable, build_kernel_half

MAIN: Final = 0x0040_0000  # mov [ALIAS + 1], edi; call CODE; int 0x80
CODE: Final = 0x0050_0000  # mov eax, <what was stored last>; ret
ALIAS: Final = 0x0060_0000  # the same frame, writable
STACK: Final = 0x0070_0000
RUN_ONLY: Final = MAIN + 6  # behind the store
_DISTANCE: Final = (CODE - (MAIN + 11)).to_bytes(4, "little")
# ds:[disp32] needs another encoding in 64-bit code; both run as 32-bit code here.
_MAIN_CODE: Final = b"\x89\x3d" + (ALIAS + 1).to_bytes(4, "little") + b"\xe8" + _DISTANCE + b"\xcd\x80"
_CODE_CODE: Final = b"\xb8\0\0\0\0\xc3"

WANTED: Final = {MAIN: "-x", CODE: "-x", ALIAS: "w-", STACK: "w-"}  # what the VMAs would allow


class Vma:
    """What the reverse map looks at."""

    pgoff = 0
    nr_pages = 1

    def __init__(self, start: int) -> None:
        self.start = start


class Jit:
    """One address space, one frame mapped twice, and a kernel of thirty lines."""

    def __init__(self, layout: KernelLayout) -> None:
        self.node = Node(PhysMem(8 << 20), layout, Tracer())
        self.half = build_kernel_half(self.node, layout)
        self.pgtable = PageTable(self.node, self.half)
        self.tlb_dirty = False
        self.cpu = Cpu(self.node.physmem, layout.mode)
        self.frames: dict[int, Pfn] = {}
        for address in (MAIN, CODE, STACK):
            pfn = self.node.alloc_page()
            assert pfn is not None
            self.frames[address] = pfn
        self.frames[ALIAS] = self.frames[CODE]
        self.vmas = {Vma(CODE): self, Vma(ALIAS): self}  # this object is mm and page cache in one
        self.node.mem_map.owner[self.frames[CODE]] = self
        self.write(MAIN, _MAIN_CODE)
        self.write(CODE, _CODE_CODE)
        user = UserMode(self.cpu, self.half, self.pgtable.root)
        self.cpu.restore(user.pristine[I386])
        self.cpu.set_root(self.pgtable.root)
        self.faults = 0

    def write(self, address: int, data: bytes) -> None:
        """What a system call does that stores to user memory."""
        note_kernel_write(self.node, self.frames[address])
        self.node.physmem.write(PhysAddr(self.frames[address] << PAGE_SHIFT), data)

    def fault(self, fault: PageFault) -> None:
        page = fault.address & -PAGE_SIZE
        wanted = WANTED[page]
        pfn = self.frames[page]
        pte = self.pgtable.make_pte(pfn, write=wanted[0] == "w", exec=wanted[1] == "x")
        assert not fault.error_code & PF_W or pte & PTE_RW
        assert not fault.error_code & PF_I or not pte & PTE_XD
        if not pte & PTE_XD:
            note_exec(self.node, pfn)
        elif pte & PTE_RW:
            note_write(self.node, pfn)
        if not self.pgtable.get(page):
            self.node.mem_map.mapcount[pfn] += 1
            self.node.get_page(pfn)
        assert self.pgtable.set(page, pte)
        self.faults += 1

    def run(self, start: int, value: int) -> int:
        """Run from *start* to the system call; what the generated code returned."""
        self.cpu.regs[7] = value
        self.cpu.regs[4] = STACK + 0x800
        self.cpu.regs[16] = start
        while True:
            if self.node.stale_code:
                self.cpu.invalidate_code(self.half.identity_root, self.node.stale_code)
                self.node.stale_code.clear()
            if self.tlb_dirty:
                self.cpu.flush_tlb()
                self.tlb_dirty = False
            match self.cpu.run(10_000):
                case PageFault() as fault:
                    self.fault(fault)
                case Syscall():
                    return self.cpu.regs[0]
                case other:
                    pytest.fail(f"unexpected exit {other} at {self.cpu.regs[16]:#x}")


@pytest.fixture(params=[X86_64_LAYOUT, I386_PAE_LAYOUT, I386_2LEVEL_LAYOUT], ids=lambda layout: layout.name)
def jit(request: pytest.FixtureRequest) -> Iterator[Jit]:
    machine = Jit(request.param)
    yield machine
    machine.cpu.close()


def test_code_stored_through_another_mapping_runs_as_stored(jit: Jit) -> None:
    """Twelve rounds in one address space; every second one only runs, so that translations are in use."""
    for round_ in range(12):
        assert jit.run(MAIN, 0x1000 + round_) == 0x1000 + round_
        assert jit.run(RUN_ONLY, 0xBAD) == 0x1000 + round_


def test_a_round_costs_two_faults_where_there_is_nx_and_none_without(jit: Jit) -> None:
    jit.run(MAIN, 1)
    before = jit.faults
    jit.run(MAIN, 2)

    assert jit.faults - before == (2 if jit.half.mode.has_nx else 0)
    jit.run(RUN_ONLY, 0)
    assert jit.faults - before == (2 if jit.half.mode.has_nx else 0), "running again costs nothing"


def test_code_that_the_kernel_writes_runs_as_written(jit: Jit) -> None:
    jit.run(MAIN, 1)
    for value in range(5):
        jit.write(CODE, b"\xb8" + value.to_bytes(4, "little"))
        assert jit.run(RUN_ONLY, 0xBAD) == value


def test_a_frame_of_code_with_a_new_life_runs_its_new_contents(jit: Jit) -> None:
    """Unmapped, freed, allocated again and mapped at the same place."""
    assert jit.run(MAIN, 7) == 7
    old = jit.frames[CODE]
    for page in (CODE, ALIAS):
        jit.pgtable.clear(page)
        jit.node.mem_map.mapcount[old] -= 1
        jit.node.put_page(old)
    jit.tlb_dirty = True
    jit.node.put_page(old)
    assert jit.node.alloc_page() == old
    jit.node.mem_map.owner[old] = jit
    jit.node.physmem.write(PhysAddr(old << PAGE_SHIFT), b"\xb8\x2a\0\0\0\xc3")

    assert jit.run(RUN_ONLY, 0xBAD) == 42


def test_without_the_protocol_the_cpu_runs_stale_code() -> None:
    """The fact that all this is about; should it go away, icache.py can too."""
    jit = Jit(X86_64_LAYOUT)
    for page, rights in WANTED.items():
        pte = jit.pgtable.make_pte(jit.frames[page], write=rights[0] == "w", exec=rights[1] == "x")
        assert jit.pgtable.set(VirtAddr(page), pte)

    results = [jit.run(MAIN, value) for value in range(4)]

    jit.cpu.close()
    assert results != [0, 1, 2, 3]
