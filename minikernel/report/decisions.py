"""What each end of the fault path means: the decision in a few words, its reason, and the function that takes it.

Tests compare the functions with those that were seen to decide.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SHIFT, PF_W, PTE_P
from minikernel.abi import signal as s
from minikernel.events import FaultKind
from minikernel.mm import fault as fault_path
from minikernel.mm import file_fault, hugetlb_fault, outcome, stack, swap_fault, thp, wp_fault
from minikernel.mm.pgtable import PTE_SPECIAL, pte_pfn
from minikernel.mm.vma import VM_HUGETLB, VM_SHARED
from minikernel.report.blame import blame
from minikernel.report.place import base_name
from minikernel.report.words import plural, rights, si_code_words, size_words, slot_words

if TYPE_CHECKING:
    from minikernel.mm.mm_struct import MmStruct
    from minikernel.mm.vma import Vma
    from minikernel.report.explanation import Fault

_MODULES: Final = (
    outcome,
    thp,
    hugetlb_fault,
    file_fault,
    wp_fault,
    swap_fault,
    stack,
    fault_path,
)  # defining ones before importers


@dataclass(frozen=True, slots=True)
class Decision:
    """How a fault ended, for people."""

    short: str
    why: str


def served(
    mm: "MmStruct", vma: "Vma", fault: "Fault", kind: FaultKind, *, major: bool, grown: int, function: str
) -> Decision:
    """The decision behind *kind*, which *function* of the fault path took."""
    was_mapped = function.startswith("_wp_page") or bool(fault.pte & PTE_P)
    match kind:
        case FaultKind.ZERO_PAGE:
            decision = Decision(
                "reads as zeroes: the zero page",
                "memory that was never written reads as zeroes, and one frame of zeroes serves all who only read",
            )
        case FaultKind.ANON:
            decision = _anon(grown)
        case FaultKind.FILE_READ:
            decision = _file_read(mm, vma, fault, major=major)
        case FaultKind.FILE_COW:
            decision = _file_cow(vma, fault, major=major, was_mapped=was_mapped)
        case FaultKind.FILE_SHARED:
            decision = _file_shared(vma, fault, major=major, was_mapped=was_mapped)
        case FaultKind.COW_COPY:
            decision = _cow_copy(mm, fault)
        case FaultKind.COW_REUSE:
            decision = Decision(
                "no copy: nobody else has the page",
                "the entry was read-only since the page was shared or protected; it is private, and its frame has "
                "no other user any more, so it only becomes writable",
            )
        case FaultKind.SWAP_IN:
            decision = _swap_in(mm, fault, major=major)
        case FaultKind.STACK_GROWTH:
            decision = Decision(
                f"the stack grew by {size_words(grown)}",
                "the address lies below the stack, which may grow down to it",
            )
        case FaultKind.SPURIOUS:
            decision = Decision(
                "nothing to do: already allowed",
                "the entry allows the access; the translation that the CPU remembered was older",
            )
        case FaultKind.CODE:
            decision = _code(fault)
        case FaultKind.HUGE_ANON:
            decision = Decision(
                "new huge page, zeroed",
                "the first write to an aligned range of anonymous memory that may have huge pages, and a block of "
                "frames is free: one entry of the last level but one maps all of it",
            )
        case FaultKind.HUGE_ZERO_PAGE:
            decision = Decision(
                "reads as zeroes: the huge zero page",
                "memory that was never written reads as zeroes, and one block of zeroes serves all huge pages that "
                "are only read",
            )
    return decision


def _anon(grown: int) -> Decision:
    first = f"stack +{size_words(grown)}; " if grown else ""
    why = "the first write to this page of anonymous memory: it gets a frame of its own, cleared"
    if grown:
        why = f"the address lay below the stack, which grew by {size_words(grown)} down to it; then {why}"
    return Decision(f"{first}new page, zeroed", why)


def _swap_in(mm: "MmStruct", fault: "Fault", *, major: bool) -> Decision:
    if not fault.pte or fault.pte & PTE_P:
        # The kernel's own access: nobody saw the entry before.
        return Decision("read back from swap", "the page had been moved out to make room for others")
    place = slot_words(mm.node, fault.pte)
    if major:
        return Decision(
            f"read back from {place}",
            "the page had been moved out to make room for others; it was read from the backing file, and its "
            "neighbours there perhaps with it: a major fault",
        )
    return Decision(
        f"{place}, in RAM already",
        "the page had been moved out, but is in the swap cache: read back with a neighbour, or for another process",
    )


def _file_words(vma: "Vma", fault: "Fault") -> tuple[str, str]:
    """``page 3``, and ``page 3 of libc.so (offset 0x3000)``."""
    page, offset = f"page {vma.index(fault.address):,}", vma.index(fault.address) << PAGE_SHIFT
    return page, f"{page} of {base_name(fault.place.name)} (offset {offset:#x})"


def _file_read(mm: "MmStruct", vma: "Vma", fault: "Fault", *, major: bool) -> Decision:
    if vma.special is not None:
        return Decision("a page of the kernel's own", f"{vma.special.name} shows a frame that the kernel keeps")
    page, name = _file_words(vma, fault)
    around = max(mm.rss_file + mm.rss_shmem - fault.rss_file - 1, 0) if fault.error_code is not None else 0
    near = f" (+{around} near)" if around else ""
    also = f"; {plural(around, 'neighbour')} came along (fault-around)" if around else ""
    if major and vma.mapping is not None and vma.mapping.is_shmem:
        return Decision(
            f"{page}, back from swap{near}",
            f"{name}, shared memory, had been moved out and was read back: a major fault{also}",
        )
    if major:
        return Decision(
            f"{page}, read in{near}",
            f"{name} was not in the page cache and was read from the host: a major fault{also}",
        )
    return Decision(
        f"{page}, cached{near}",
        f"{name} was in the page cache and only had to be mapped{also}",
    )


def _file_cow(vma: "Vma", fault: "Fault", *, major: bool, was_mapped: bool) -> Decision:
    page, whole = _file_words(vma, fault)
    if vma.special is not None:
        return Decision(
            f"own copy of {base_name(fault.place.name)}", "a write to a page of the kernel's own gets a private copy"
        )
    read = ", after it was read from the host" if major else ""
    if was_mapped:
        return Decision(
            f"own copy of {page}",
            f"the mapping is private and {whole} was so far only read: the file's page stays as it is, "
            "and the program goes on with a copy",
        )
    return Decision(
        f"own copy of {page}",
        f"a write to a private mapping: the program gets a copy of {whole} at once{read}",
    )


def _file_shared(vma: "Vma", fault: "Fault", *, major: bool, was_mapped: bool) -> Decision:
    page, whole = _file_words(vma, fault)
    read = "; it was read from the host" if major else ""
    if was_mapped:
        return Decision(
            f"{page}, now writable",
            f"the mapping is shared and {whole} was clean: the file learns that it is written to (mkwrite: its times "
            "change, room is made for it), and the entry allows it",
        )
    return Decision(
        f"{page}, writable",
        f"the mapping is shared: the program writes to {whole} in the page cache itself{read}",
    )


def _cow_copy(mm: "MmStruct", fault: "Fault") -> Decision:
    if fault.pte & PTE_SPECIAL:
        return Decision(
            "new page, for the zero page",
            "the page was read before and showed the shared zero page; to be written it gets a cleared frame of its "
            "own",
        )
    if fault.pte and not fault.pte & PTE_P:
        return Decision(
            f"own copy, back from {slot_words(mm.node, fault.pte)}",
            "the page had been moved out, and others refer to it still: it was brought back, and the writer got a copy",
        )
    if not fault.pte & PTE_P:
        # The kernel's own access: nobody saw the entry before.
        return Decision("own copy", "others see the page too, or it was the zero page: the writer gets its own")
    old = pte_pfn(fault.pte)
    others = mm.mem_map.mapcount[old]
    return Decision(
        f"own copy: {plural(others, 'other')} had it too",
        f"frame {old:#x} is still mapped {plural(others, 'time')} elsewhere (fork): the writer gets a copy, "
        "the others keep it",
    )


def _code(fault: "Fault") -> Decision:
    if fault.access & PF_W:
        return Decision(
            "a page of code, writable again",
            "another mapping may run this frame: it loses that right until it asks, so that changed code is noticed",
        )
    return Decision(
        "page may be run again",
        "the frame was written through another mapping; code translated from it is dropped before it runs",
    )


def failed(mm: "MmStruct", fault: "Fault", signal: int, code: int, reason: str) -> Decision:
    """The decision not to serve the fault; *reason* is the rule that the kernel named."""
    vma = fault.place.vma
    if not signal:
        return Decision("OUT OF MEMORY", reason)
    ends_as = s.signal_name(signal) if fault.error_code is not None else "EFAULT"
    name, meaning = si_code_words(signal, code)
    why = blame(mm, fault.place, fault.access, signal, code) if fault.error_code is not None else reason
    if reason.startswith("the stack"):
        why = f"{why}; {reason}"
    if signal == s.SIGBUS:
        return Decision(f"{ends_as}: beyond the file's end" if "end" in reason else f"{ends_as}: cannot read", why)
    if code == s.SEGV_ACCERR and vma is not None:
        return Decision(f"{ends_as}: mapping is {rights(vma.flags)}", f"{name}: {why}")
    return Decision(f"{ends_as}: {meaning}", f"{name}: {why}")


_SIMPLE: Final = {
    FaultKind.ZERO_PAGE: "do_anonymous_page",
    FaultKind.ANON: "do_anonymous_page",
    FaultKind.FILE_READ: "do_read_fault",
    FaultKind.COW_COPY: "_wp_page_copy",
    FaultKind.COW_REUSE: "do_wp_page",
    FaultKind.SWAP_IN: "do_swap_page",
    FaultKind.STACK_GROWTH: "_bad_address",
    FaultKind.SPURIOUS: "handle_mm_fault",
    FaultKind.CODE: "_code_fault",
    FaultKind.HUGE_ANON: "do_huge_pmd_anonymous_page",
    FaultKind.HUGE_ZERO_PAGE: "do_huge_pmd_anonymous_page",
}


def function_of(kind: FaultKind, vma: "Vma | None", *, present: bool, large: bool, write: bool) -> str:
    """The function of the fault path that ends in *kind*; *present*, *large*: the entry, or a large leaf, is there."""
    if kind is FaultKind.CODE and write and vma is not None and not vma.flags & VM_HUGETLB:
        return "_wp_page_shared" if vma.flags & VM_SHARED else "do_wp_page"
    if vma is not None and vma.flags & VM_HUGETLB:
        return "hugetlb_code_fault" if kind is FaultKind.CODE else "hugetlb_wp" if large else "hugetlb_no_page"
    if vma is not None and vma.special is not None and not present:
        return "do_special_fault"
    if large and kind in {FaultKind.COW_REUSE, FaultKind.HUGE_ANON}:
        return "do_huge_pmd_wp_page"
    if kind is FaultKind.FILE_COW:
        return "_wp_page_copy" if present else "do_cow_fault"
    if kind is FaultKind.FILE_SHARED:
        return "_wp_page_shared" if present else "do_shared_fault"
    return _SIMPLE[kind]


def where(function: str) -> str:
    """*function* of the fault path, with its file."""
    module = next((module for module in _MODULES if getattr(module, function, None) is not None), fault_path)
    return f"{function} ({module.__name__.replace('.', '/')}.py)"
