"""The libraries that a program's dynamic linker has loaded: struct r_debug and its list of link maps.

Source: System V ABI, "Dynamic Linking"; glibc, elf/link.h (r_debug, link_map); the gdb manual, "Library List Format for
SVR4 Targets".
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from minikernel.gdb.xml import escape
from minikernel.report.peek import peek

if TYPE_CHECKING:
    from minikernel.abi.abi import Abi
    from minikernel.mm.mm_struct import MmStruct

AT_PHDR: Final = 3
AT_PHENT: Final = 4
AT_PHNUM: Final = 5
AT_ENTRY: Final = 9
_PT_DYNAMIC: Final = 2
_PT_PHDR: Final = 6
_DT_DEBUG: Final = 21
_MAX_LIBRARIES: Final = 4096
_MAX_DYNAMIC: Final = 1024
_MAX_NAME: Final = 4096


@dataclass(frozen=True, slots=True)
class LinkMap:
    """One entry of the list: struct link_map at *address*."""

    address: int
    bias: int  # l_addr
    name: bytes
    dynamic: int  # l_ld
    following: int  # l_next
    previous: int


def auxv(mm: "MmStruct", abi: "Abi") -> dict[int, int]:
    """The auxiliary vector, by AT_*."""
    words = abi.unpack_words(mm.saved_auxv)
    return dict(zip(words[::2], words[1::2], strict=False))


def load_bias(mm: "MmStruct", abi: "Abi") -> int:
    """How far the program lies from where its file says: 0 unless it is position-independent."""
    return _program(mm, abi)[0]


def link_maps(mm: "MmStruct", abi: "Abi", start: int = 0) -> list[LinkMap]:
    """What is loaded, the program first; from the entry at *start* on if that is not 0."""
    at = start or _first(mm, abi)
    found: dict[int, LinkMap] = {}
    while at and at not in found and len(found) < _MAX_LIBRARIES:
        words = _words(mm, abi, at, 5)
        if words is None:
            break
        bias, name, dynamic, following, previous = words
        found[at] = LinkMap(at, bias, peek(mm, name, _MAX_NAME).partition(b"\0")[0], dynamic, following, previous)
        at = following
    return list(found.values())


def library_list(mm: "MmStruct", abi: "Abi", annex: bytes) -> bytes:
    """``library-list-svr4``; *annex* may name the entry to begin at: ``start=ADDRESS;prev=ADDRESS``."""
    fields = dict(part.partition(b"=")[::2] for part in annex.split(b";") if part)
    start = _hex(fields.get(b"start", b""))
    main = _first(mm, abi)
    maps = link_maps(mm, abi, start)
    head = f'<library-list-svr4 version="1.0" main-lm="{main:#x}">' if main else '<library-list-svr4 version="1.0">'
    lines = [head]
    for item in maps:
        if item.address == main:
            continue  # the program itself
        place = f'lm="{item.address:#x}" l_addr="{item.bias:#x}" l_ld="{item.dynamic:#x}" lmid="0x0"'
        lines.append(f'<library name="{escape(item.name)}" {place}/>')
    lines.append("</library-list-svr4>")
    return "\n".join(lines).encode()


def _hex(text: bytes) -> int:
    try:
        return int(text, 16) if text else 0
    except ValueError:
        return 0


def _first(mm: "MmStruct", abi: "Abi") -> int:
    """r_map: the first entry; 0 as long as there is none."""
    _, dynamic = _program(mm, abi)
    for index in range(_MAX_DYNAMIC if dynamic else 0):
        words = _words(mm, abi, dynamic + index * 2 * abi.word, 2)
        if words is None or not words[0]:
            break
        if words[0] == _DT_DEBUG:
            debug = _words(mm, abi, words[1], 2)  # r_version, r_map
            return debug[1] if debug is not None else 0
    return 0


def _program(mm: "MmStruct", abi: "Abi") -> tuple[int, int]:
    """The program's load bias, and where its dynamic section is (0: it has none)."""
    vector = auxv(mm, abi)
    headers, size = vector.get(AT_PHDR, 0), vector.get(AT_PHENT, 0)
    bias, dynamic = 0, 0
    for index in range(min(vector.get(AT_PHNUM, 0), 64)):
        data = peek(mm, headers + index * size, size)
        if len(data) < size or size < 8 + 2 * abi.word:
            break
        kind = int.from_bytes(data[:4], "little")
        # p_vaddr is the third word of a 32-bit header, and stands behind the flags in a 64-bit one.
        vaddr = abi.unpack_word(data, 16 if abi.word == 8 else 8)
        if kind == _PT_PHDR:
            bias = headers - vaddr & abi.mask
        elif kind == _PT_DYNAMIC:
            dynamic = vaddr
    return bias, dynamic + bias & abi.mask if dynamic else 0


def _words(mm: "MmStruct", abi: "Abi", address: int, count: int) -> list[int] | None:
    data = peek(mm, address, count * abi.word)
    return abi.unpack_words(data) if len(data) == count * abi.word else None
