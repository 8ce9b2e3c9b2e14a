"""Where the variables of a frame are, as DWARF says it: in its memory, in registers that callers saved, or nowhere."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from emu.cpu import RIP
from minikernel.kdb.unwind import DWARF_32, DWARF_64, Frame
from minikernel.kdb.values import MAX_AGGREGATE, ExprError, Value, typed
from minikernel.report.dwarf import names as n
from minikernel.report.dwarf.ctypes import CType, is_integer, is_signed, size_of
from minikernel.report.dwarf.cursor import DamagedError
from minikernel.report.dwarf.dies import Die, Kind
from minikernel.report.dwarf.ops import (
    Literal,
    Memory,
    Nowhere,
    Pieces,
    Place,
    Register,
    Single,
    UnavailableError,
    compute,
    place_of,
)
from minikernel.report.dwarf.program import Program, variables_of

if TYPE_CHECKING:
    from minikernel.kdb.session import Session
    from minikernel.report.dwarf.lines import SourceLine
    from minikernel.report.image import Image

_OP_REG0: Final = 0x50
_OPTIMIZED_OUT: Final = "<optimized out>"
_CALL_SITES: Final = frozenset({n.TAG_call_site, n.TAG_GNU_call_site})
_PARAMETERS: Final = frozenset({n.TAG_call_site_parameter, n.TAG_GNU_call_site_parameter})
_SSE: Final = {8: 17, 4: 21}  # DWARF's number of XMM0
_ST0: Final = {8: 33, 4: 11}


@dataclass(frozen=True, slots=True)
class Spot:
    """What the program says about the code that a frame is in."""

    image: "Image"
    bias: int  # from the file's addresses to memory's
    vaddr: int
    scopes: tuple[Die, ...]  # the function, which may be an inlined one, and the blocks in it; () without descriptions
    line: "SourceLine | None"
    physical: Die | None = None  # the function that has the frame

    @property
    def program(self) -> Program:
        """The descriptions of the file."""
        return self.image.program

    @property
    def function(self) -> Die | None:
        """The function."""
        return self.scopes[0] if self.scopes else None


def spots(session: "Session", address: int) -> list[Spot]:
    """The functions that the code at *address* is in: an inlined one first, last the one that has a frame."""
    found = session.explainer.symbols.find(session.mm, address)
    if found is None or found.image is None:
        return []
    image, vaddr = found.image, found.vaddr
    groups: list[list[Die]] = []
    for scope in image.program.scopes(vaddr):
        if scope.tag == n.TAG_inlined_subroutine or not groups:
            groups.append([])
        groups[-1].append(scope)
    line = image.line(vaddr)
    made = []
    for group in reversed(groups or [[]]):
        made.append(Spot(image, address - vaddr, vaddr, tuple(group), line, groups[0][0] if groups else None))
        line = _call_line(image, group[0]) if group else None
    return made


def _call_line(image: "Image", inlined: Die) -> "SourceLine | None":
    """The line that calls a function which has no call."""
    from minikernel.report.dwarf.lines import SourceLine

    if inlined.tag != n.TAG_inlined_subroutine:
        return None
    program = inlined.unit.root.own(n.AT_stmt_list)
    path = image.lines.file(program.number if program is not None else 0, inlined.number(n.AT_call_file))
    return SourceLine(path.rsplit("/", 1)[-1], inlined.number(n.AT_call_line), path)


# ---- variables


def parameters_of(spot: Spot) -> list[Die]:
    """The parameters of the function."""
    if spot.function is None:
        return []
    return [die for die in variables_of(spot.function) if die.tag == n.TAG_formal_parameter]


def locals_of(spot: Spot) -> Iterator[list[Die]]:
    """The variables, by blocks, the innermost first."""
    for scope in reversed(spot.scopes):
        yield [die for die in variables_of(scope) if die.tag == n.TAG_variable]


def find_local(spot: Spot, name: str) -> Die | None:
    """The variable or parameter that *name* means there."""
    for scope in reversed(spot.scopes):
        for die in reversed(variables_of(scope)):
            if die.name == name:
                return die
    return None


def value_of(session: "Session", die: Die, spot: Spot, frame: Frame | None) -> Value:
    """The variable *die*, seen from *frame*.

    Raises:
        UnavailableError: it has no value there, and the text says what is shown instead.
    """
    try:
        return _value(session, die, spot, frame)
    except DamagedError as error:
        raise UnavailableError(f"<error: damaged description: {error}>") from None


def _value(session: "Session", die: Die, spot: Spot, frame: Frame | None) -> Value:
    kind = spot.program.types.of(die.type)
    if size_of(kind) > MAX_AGGREGATE:
        raise UnavailableError(f"<value requires {size_of(kind)} bytes, which is more than is shown>")
    constant = die.get(n.AT_const_value)
    location = die.get(n.AT_location)
    if location is None:
        if constant is None:
            raise UnavailableError(_OPTIMIZED_OUT)
        if constant.kind is Kind.BLOCK:
            return Value(kind, data=constant.data)
        return typed(constant.number, kind)
    expression: bytes | None = location.data
    if location.kind is not Kind.BLOCK:
        expression = die.unit.location(location, spot.vaddr)
    if not expression:
        raise UnavailableError(_OPTIMIZED_OUT)
    context = FrameContext(session, spot, frame)
    return _at(place_of(expression, context), kind, context)


def _at(place: Place, kind: CType, context: "FrameContext") -> Value:
    if isinstance(place, Memory):
        return Value(kind, address=place.address)
    if isinstance(place, Register):
        return _in_register(place, kind, context)
    size = size_of(kind)
    if isinstance(place, Pieces):
        number = shift = 0
        if sum(bits for _, bits, _ in place.parts) > 8 * size + 64:
            raise UnavailableError("<error: the pieces are more than the whole>")
        for part, bits, offset in place.parts:
            piece = _bits_of(part, bits, offset, context)
            number |= piece << shift
            shift += bits
        return Value(kind, data=number.to_bytes(max((shift + 7) // 8, size), "little")[:size])
    if isinstance(place, Nowhere):
        raise UnavailableError(place.why)
    return Value(kind, data=place.data[:size].ljust(size, b"\0"))


def _in_register(place: Register, kind: CType, context: "FrameContext") -> Value:
    data = context.register_bytes(place.number)
    size = size_of(kind)
    if len(data) < size:
        raise UnavailableError(_OPTIMIZED_OUT)
    numbers = DWARF_64 if context.word == 8 else DWARF_32
    if place.number >= len(numbers):
        return Value(kind, data=data[:size])
    ours = numbers[place.number]
    saved = context.saved(ours)
    if saved is not None:
        return Value(kind, address=saved, register=ours)
    return Value(kind, data=data[:size], register=ours)


def _bits_of(part: Single, bits: int, offset: int, context: "FrameContext") -> int:
    """A piece of a value that lies in several places."""
    size = (bits + offset + 7) // 8
    match part:
        case Memory(address):
            data = context.read(address, size)
            if len(data) < size:
                raise UnavailableError(f"<error: Cannot access memory at address {address:#x}>")
        case Register(number):
            data = context.register_bytes(number)
        case Literal(literal):
            data = literal
        case _:
            raise UnavailableError(_OPTIMIZED_OUT)
    return int.from_bytes(data[:size], "little") >> offset & ((1 << bits) - 1)


class FrameContext:
    """What DWARF's expressions may ask about a frame (dwarf/ops.py, Context); without one, about the file's own."""

    def __init__(self, session: "Session", spot: Spot, frame: Frame | None, depth: int = 0) -> None:
        self._session = session
        self._spot = spot
        self._frame = frame
        self._depth = depth
        self.word = session.word

    def _need_frame(self) -> Frame:
        if self._frame is None:
            raise UnavailableError("No frame selected.")
        return self._frame

    def register(self, number: int) -> int:
        """A general register."""
        numbers = DWARF_64 if self.word == 8 else DWARF_32
        if number >= len(numbers):
            raise UnavailableError(_OPTIMIZED_OUT)
        value = self._need_frame().registers[numbers[number]]
        if value is None:
            raise UnavailableError("<not saved>")
        return value

    def register_bytes(self, number: int) -> bytes:
        """Any register; those of the FPU are the same in all frames, as nobody saves them."""
        first = _ST0[self.word]
        kind, base = ("st", first) if first <= number < first + 8 else ("xmm", _SSE[self.word])
        if number < len(DWARF_64 if self.word == 8 else DWARF_32):
            return self.register(number).to_bytes(self.word, "little")
        if not 0 <= number - base < (8 if kind == "st" or self.word == 4 else 16):
            raise UnavailableError(_OPTIMIZED_OUT)
        from minikernel.kdb.registers import fpu

        if self._session.kernel.current is not self._session.task:
            raise UnavailableError("<not saved>")
        state = fpu(self._session)
        return state.st(number - base) if kind == "st" else state.xmm[number - base]

    def saved(self, ours: int) -> int | None:
        """Where a function that this frame called has saved a register of it."""
        frame = self._need_frame()
        return frame.kept.get(ours)

    def read(self, address: int, size: int) -> bytes:
        """Memory."""
        return self._session.read(address, size)

    def cfa(self) -> int:
        """The frame's address."""
        cfa = self._need_frame().cfa
        if not cfa:
            raise UnavailableError(_OPTIMIZED_OUT)
        return cfa

    def frame_base(self) -> int:
        """What DW_OP_fbreg counts from: of the function that the code was inlined into."""
        function = self._spot.physical
        value = function.get(n.AT_frame_base) if function is not None else None
        if value is None or function is None or self._depth > 3:
            raise UnavailableError(_OPTIMIZED_OUT)
        expression: bytes | None = value.data
        if value.kind is not Kind.BLOCK:
            expression = function.unit.location(value, self._spot.vaddr)
        return compute(expression or b"", FrameContext(self._session, self._spot, self._frame, self._depth + 1))

    def relocated(self, vaddr: int) -> int:
        """A file's address in memory."""
        return vaddr + self._spot.bias

    def indexed(self, index: int) -> int:
        """An address of the unit."""
        if self._spot.function is None:
            raise UnavailableError(_OPTIMIZED_OUT)
        return self._spot.function.unit.indexed_address(index)

    def tls(self, offset: int) -> int:
        """A thread-local variable of the program itself: it lies below the thread pointer."""
        session = self._session
        exe = session.mm.exe_file
        pointer = thread_pointer(session)
        if pointer is None or exe is None or self._spot.image.cache is not exe.mapping:
            raise UnavailableError("Cannot find thread-local storage of this library.")
        return pointer - self._spot.image.tls_size + offset

    def called(self, offset: int) -> bytes:
        """The location of another entry."""
        function = self._spot.function
        die = function.unit.at(function.unit.offset + offset) if function is not None else None
        value = die.get(n.AT_location) if die is not None else None
        return value.data if value is not None else b""

    def integer(self, offset: int) -> tuple[int, bool] | None:
        """A base type, if it is an integer."""
        function = self._spot.function
        die = function.unit.at(function.unit.offset + offset) if function is not None else None
        kind = self._spot.program.types.of(die)
        return (size_of(kind), is_signed(kind)) if is_integer(kind) else None

    def entry_value(self, expression: bytes) -> int:
        """What a register was at the entry: the caller's description of its call may say so.  DWARF 5, 3.4.2."""
        frame = self._need_frame()
        view = self._session.view
        caller = view.physical_caller(frame)
        if caller is None or self._depth > 3:
            raise UnavailableError(_OPTIMIZED_OUT)
        for spot in spots(self._session, caller.lookup):
            for scope in reversed(spot.scopes):
                value = _call_value(scope, caller.pc - spot.bias, expression)
                if value is not None:
                    return compute(value, FrameContext(self._session, spot, caller, self._depth + 1))
        raise UnavailableError(_OPTIMIZED_OUT)

    @property
    def pc(self) -> int:
        """Where the frame is."""
        return self._need_frame().registers[RIP] or 0


def _call_value(scope: Die, back: int, expression: bytes) -> bytes | None:
    """What the call in *scope* that returns to *back* passes where *expression* says."""
    for site in scope.children:
        if site.tag not in _CALL_SITES:
            continue
        if site.address(n.AT_call_return_pc) != back and site.address(n.AT_low_pc) != back:
            continue
        for parameter in site.children:
            location = parameter.own(n.AT_location)
            value = parameter.own(n.AT_call_value) or parameter.own(n.AT_GNU_call_site_value)
            matches = location is not None and location.data == expression
            if parameter.tag in _PARAMETERS and matches and value is not None:
                return value.data
    return None


def thread_pointer(session: "Session") -> int | None:
    """The base of the segment that the task's thread-local variables are found by; None: not known."""
    if session.word == 8:
        return session.register("fs_base")
    descriptor = next((entry for entry in session.task.tls if entry), 0)
    return (descriptor >> 16 & 0xFF_FFFF | descriptor >> 32 & 0xFF00_0000) if descriptor else None


def lookup(session: "Session", name: str) -> Value | None:
    """What *name* means in the chosen frame: a variable, a function or a constant of the program; None: nothing.

    Raises:
        ExprError: it has no value there.
    """
    try:
        return _lookup(session, name)
    except UnavailableError as error:
        words = str(error)
        raise ExprError("value has been optimized out" if words == _OPTIMIZED_OUT else words) from None
    except DamagedError:
        return None


def _lookup(session: "Session", name: str) -> Value | None:
    frame = session.view.selected
    spot = session.view.spot(frame)
    if spot is not None:
        die = find_local(spot, name)
        if die is not None:
            return value_of(session, die, spot, frame)
    images = session.explainer.symbols.images(session.mm)
    if spot is not None:  # the file that the code is in comes first
        images.sort(key=lambda pair: pair[0] is not spot.image)
    for image, bias in images:
        program = image.program
        vaddr = spot.vaddr if spot is not None and image is spot.image else None
        die = program.variable(name, vaddr)
        if die is not None:
            return value_of(session, die, Spot(image, bias, vaddr or 0, (die,), None), None)
        die = program.function(name, vaddr)
        if die is not None:
            return Value(program.types.function(die), address=bias + (die.entry_pc or 0))
        constant = program.enumerator(name)
        if constant is not None:
            return typed(constant[1], constant[0])
    return None


def is_local_somewhere(session: "Session", name: str) -> bool:
    """Whether some function of the program or its libraries has a variable called *name*."""
    return any(name in image.program.local_names for image, _ in session.explainer.symbols.images(session.mm))


def type_named(session: "Session", name: str) -> CType | None:
    """The type *name* of the program or its libraries."""
    for image, _ in session.explainer.symbols.images(session.mm):
        kind = image.program.type_named(name)
        if kind is not None:
            return kind
    return None
