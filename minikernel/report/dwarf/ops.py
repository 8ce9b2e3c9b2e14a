"""DWARF expressions: little programs for a stack machine that say where a value is.  DWARF 5, 2.5 and 2.6."""

from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from minikernel.report.dwarf.cursor import Cursor, DamagedError

_MAX_STEPS: Final = 10_000
_MAX_STACK: Final = 256
_MAX_CALLS: Final = 16


class UnavailableError(Exception):
    """A value cannot be known; the text is what a debugger shows for it."""


class Context(Protocol):
    """What an expression may ask for.  Every method raises UnavailableError where there is no answer."""

    @property
    def word(self) -> int:
        """Bytes of an address."""
        ...

    def register(self, number: int) -> int:
        """A register of the frame, by DWARF's number."""
        ...

    def read(self, address: int, size: int) -> bytes:
        """Memory."""
        ...

    def frame_base(self) -> int:
        """The function's DW_AT_frame_base."""
        ...

    def cfa(self) -> int:
        """The frame's canonical address."""
        ...

    def relocated(self, vaddr: int) -> int:
        """Where the file's address *vaddr* is in memory."""
        ...

    def indexed(self, index: int) -> int:
        """Entry *index* of the unit's part of .debug_addr."""
        ...

    def tls(self, offset: int) -> int:
        """Where the thread has the thread-local variable at *offset* of the file's block."""
        ...

    def entry_value(self, expression: bytes) -> int:
        """What *expression* was when the function was entered."""
        ...

    def called(self, offset: int) -> bytes:
        """The location of the entry at *offset* of the unit."""
        ...

    def integer(self, offset: int) -> tuple[int, bool] | None:
        """The bytes and signedness of the base type at *offset* of the unit; None: it is not an integer."""
        ...


@dataclass(frozen=True, slots=True)
class Memory:
    """The value is in memory."""

    address: int


@dataclass(frozen=True, slots=True)
class Register:
    """The value is in a register."""

    number: int


@dataclass(frozen=True, slots=True)
class Literal:
    """The value is nowhere, but it is this."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Nowhere:
    """The value is not there any more, or not yet."""

    why: str = "<optimized out>"


@dataclass(frozen=True, slots=True)
class Pieces:
    """The value lies in several places: (place, size in bits, offset in the place in bits)."""

    parts: tuple[tuple["Single", int, int], ...]


Single: TypeAlias = Memory | Register | Literal | Nowhere
Place: TypeAlias = Single | Pieces


def compute(expression: bytes, context: Context, start: tuple[int, ...] = ()) -> int:
    """The number that *expression* leaves on the stack: an address, or a value if it says so.

    Raises:
        UnavailableError, DamagedError.
    """
    machine = _Machine(context, list(start))
    machine.run(expression)
    if machine.register is not None:
        return context.register(machine.register)
    return machine.pop()


def place_of(expression: bytes, context: Context) -> Place:
    """Where *expression* says that a value is.

    Raises:
        UnavailableError, DamagedError.
    """
    machine = _Machine(context, [])
    machine.run(expression)
    if machine.parts:
        return Pieces(tuple(machine.parts))
    return machine.single()


class _Machine:
    """The stack, and what has been said about the place so far."""

    def __init__(self, context: Context, stack: list[int]) -> None:
        self._context = context
        self._stack = stack
        self._mask = (1 << 8 * context.word) - 1
        self._bits = 8 * context.word
        self._steps = 0
        self.register: int | None = None
        self._literal: bytes | None = None
        self._is_value = False
        self.parts: list[tuple[Single, int, int]] = []
        self._calls = 0
        self._nowhere = False

    def single(self) -> Single:
        """The place of one value or piece."""
        if self.register is not None:
            return Register(self.register)
        if self._literal is not None:
            return Literal(self._literal)
        if self._nowhere or not self._stack:
            return Nowhere()
        if self._is_value:
            return Literal((self._stack[-1] & (1 << 64) - 1).to_bytes(8, "little"))
        return Memory(self._stack[-1] & self._mask)

    def pop(self) -> int:
        """The number on top."""
        if not self._stack:
            raise DamagedError("an empty stack")
        return self._stack.pop()

    def _push(self, value: int) -> None:
        if len(self._stack) >= _MAX_STACK:
            raise DamagedError("a stack that grows for ever")
        self._stack.append(value & self._mask)

    def _signed(self, value: int) -> int:
        value &= self._mask
        return value - (1 << self._bits) if value >> (self._bits - 1) else value

    def _read(self, address: int, size: int) -> int:
        data = self._context.read(address & self._mask, size)
        if len(data) < size:
            raise UnavailableError(f"<error: Cannot access memory at address {address & self._mask:#x}>")
        return int.from_bytes(data, "little")

    def run(self, expression: bytes) -> None:
        """Execute."""
        cursor = Cursor(expression, 0)
        while cursor.pos < cursor.end:
            self._steps += 1
            if self._steps > _MAX_STEPS:
                raise DamagedError("an expression that does not end")
            op = cursor.u8()
            if 0x30 <= op <= 0x4F:
                self._push(op - 0x30)
            elif 0x50 <= op <= 0x6F:
                self.register = op - 0x50
            elif 0x70 <= op <= 0x8F:
                self._push(self._context.register(op - 0x70) + cursor.sleb())
            elif 0x08 <= op <= 0x11:
                self._constant(op, cursor)
            elif 0x19 <= op <= 0x2E and op != 0x28:
                self._arithmetic(op, cursor)
            elif 0x12 <= op <= 0x18:
                self._shuffle(op, cursor)
            else:
                self._other(op, cursor)

    def _constant(self, op: int, cursor: Cursor) -> None:
        if op >= 0x10:
            self._push(cursor.uleb() if op == 0x10 else cursor.sleb())
        else:
            self._push(cursor.number(1 << (op - 8) // 2, signed=bool(op & 1)))

    def _shuffle(self, op: int, cursor: Cursor) -> None:
        depth = {0x12: 0, 0x14: 1}.get(op, 0)
        if op == 0x13:  # drop
            self.pop()
        elif op in {0x12, 0x14, 0x15}:  # dup, over, pick
            depth = cursor.u8() if op == 0x15 else depth
            if depth >= len(self._stack):
                raise DamagedError("a pick below the stack")
            self._push(self._stack[-1 - depth])
        elif op == 0x18:  # xderef
            raise DamagedError("x86 has one space of addresses")
        else:  # swap, rot
            count = 2 if op == 0x16 else 3
            if len(self._stack) < count:
                raise DamagedError("an empty stack")
            self._stack.insert(len(self._stack) - count, self._stack.pop())

    def _arithmetic(self, op: int, cursor: Cursor) -> None:
        if op in {0x19, 0x1F, 0x20, 0x23}:  # abs, neg, not, plus_uconst
            value = self.pop()
            signed = self._signed(value)
            self._push({0x19: abs(signed), 0x1F: -signed, 0x20: ~value}.get(op, value))
            if op == 0x23:
                self._push(self.pop() + cursor.uleb())
            return
        right, left = self.pop(), self.pop()
        sleft, sright = self._signed(left), self._signed(right)
        if op in {0x1B, 0x1D} and not right:
            raise UnavailableError("<division by zero>")
        match op:
            case 0x1A:
                value = left & right
            case 0x1B:
                value = abs(sleft) // abs(sright) * (1 if (sleft < 0) == (sright < 0) else -1)
            case 0x1C:
                value = left - right
            case 0x1D:
                value = left % right
            case 0x1E:
                value = left * right
            case 0x21:
                value = left | right
            case 0x22:
                value = left + right
            case 0x24:
                value = left << right if right < self._bits else 0
            case 0x25:
                value = left >> right if right < self._bits else 0
            case 0x26:
                value = sleft >> min(right, self._bits)
            case 0x27:
                value = left ^ right
            case 0x29:
                value = int(sleft == sright)
            case 0x2A:
                value = int(sleft >= sright)
            case 0x2B:
                value = int(sleft > sright)
            case 0x2C:
                value = int(sleft <= sright)
            case 0x2D:
                value = int(sleft < sright)
            case _:  # 0x2E
                value = int(sleft != sright)
        self._push(value)

    def _other(self, op: int, cursor: Cursor) -> None:
        context = self._context
        match op:
            case 0x03:  # addr
                self._push(context.relocated(cursor.number(context.word)))
            case 0x06:  # deref
                self._push(self._read(self.pop(), context.word))
            case 0x94:  # deref_size
                size = cursor.u8()
                self._push(self._read(self.pop(), min(size, context.word)))
            case 0x28 | 0x2F:  # bra, skip
                offset = cursor.number(2, signed=True)
                if op == 0x2F or self.pop():
                    cursor.pos += offset
                    if not 0 <= cursor.pos <= cursor.end:
                        raise DamagedError("a branch out of the expression")
            case 0x90:  # regx
                self.register = cursor.uleb()
            case 0x91:  # fbreg
                self._push(context.frame_base() + cursor.sleb())
            case 0x92:  # bregx
                self._push(context.register(cursor.uleb()) + cursor.sleb())
            case 0x93:  # piece
                self._end_piece(8 * cursor.uleb(), 0)
            case 0x9D:  # bit_piece
                self._end_piece(cursor.uleb(), cursor.uleb())
            case 0x96:  # nop
                pass
            case 0x98 | 0x99:  # call2, call4
                self._call(cursor.number(2 if op == 0x98 else 4))
            case 0x9B | 0xE0:  # form_tls_address, GNU_push_tls_address
                self._push(context.tls(self.pop()))
            case 0x9C:  # call_frame_cfa
                self._push(context.cfa())
            case 0x9E:  # implicit_value
                self._literal = cursor.block(cursor.uleb())
            case 0x9F:  # stack_value
                self._is_value = True
            case 0xA1 | 0xFB:  # addrx, GNU_addr_index
                self._push(context.relocated(context.indexed(cursor.uleb())))
            case 0xA2 | 0xFC:  # constx, GNU_const_index
                self._push(context.indexed(cursor.uleb()))
            case 0xA3 | 0xF3:  # entry_value
                self._push(context.entry_value(cursor.block(cursor.uleb())))
            case 0xA0 | 0xF2:  # implicit_pointer: to something that has no address
                raise UnavailableError("(synthetic pointer)")
            case _:
                self._typed(op, cursor)

    def _typed(self, op: int, cursor: Cursor) -> None:
        """DWARF 5's values with a type, as far as they are integers."""
        match op:
            case 0xA4 | 0xF4:  # const_type
                kind = self._integer(cursor.uleb())
                self._push(_extended(int.from_bytes(cursor.block(cursor.u8()), "little"), kind))
            case 0xA5 | 0xF5:  # regval_type
                register = cursor.uleb()
                self._push(_extended(self._context.register(register), self._integer(cursor.uleb())))
            case 0xA6 | 0xF6:  # deref_type
                size = cursor.u8()
                kind = self._integer(cursor.uleb())
                self._push(_extended(self._read(self.pop(), min(size, 8)), kind))
            case 0xA8 | 0xA9 | 0xF7 | 0xF9:  # convert, reinterpret
                offset = cursor.uleb()
                if offset:
                    self._push(_extended(self.pop(), self._integer(offset)))
            case _:
                raise UnavailableError(f"<unsupported DWARF operation {op:#x}>")

    def _integer(self, offset: int) -> tuple[int, bool]:
        kind = self._context.integer(offset)
        if kind is None:
            raise UnavailableError("<a floating-point computation>")
        return kind

    def _call(self, offset: int) -> None:
        self._calls += 1
        if self._calls > _MAX_CALLS:
            raise DamagedError("calls without an end")
        self.run(self._context.called(offset))

    def _end_piece(self, bits: int, offset: int) -> None:
        self.parts.append((self.single(), bits, offset))
        self.register, self._literal, self._is_value = None, None, False
        self._stack.clear()


def _extended(value: int, kind: tuple[int, bool]) -> int:
    """*value* cut to a type of so many bytes, and extended by its sign if it has one."""
    size, signed = kind
    bits = 8 * size
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and bits and value >> (bits - 1) else value
