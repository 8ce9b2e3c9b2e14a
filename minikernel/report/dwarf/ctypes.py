"""C's types as DWARF describes them, and how C writes them.  DWARF 5, chapter 5; gdb: c-typeprint.c."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from minikernel.report.dwarf import names as n
from minikernel.report.dwarf.dies import Die, Kind

_MAX_DEPTH: Final = 64
_QUALIFIERS: Final = {
    n.TAG_const_type: "const",
    n.TAG_volatile_type: "volatile",
    n.TAG_restrict_type: "restrict",
    n.TAG_atomic_type: "_Atomic",
}
_STRUCTS: Final = {n.TAG_structure_type: "struct", n.TAG_union_type: "union", n.TAG_class_type: "class"}
_POINTERS: Final = {n.TAG_pointer_type: "*", n.TAG_reference_type: "&", n.TAG_rvalue_reference_type: "&&"}


@dataclass(frozen=True, slots=True, eq=False)
class Void:
    """Nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """A type of the language's own: *kind* is int, char, bool, float or complex."""

    name: str
    size: int
    kind: str = "int"
    signed: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Pointer:
    """A pointer, or C++'s reference: *mark* is * or & or &&."""

    to: "Callable[[], CType]"
    size: int
    mark: str = "*"

    @property
    def target(self) -> "CType":
        """What it points to."""
        return self.to()


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """*count* elements; None: as many as there are."""

    element: "CType"
    count: int | None


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """A member; *bits* is not 0 for a bit-field, which begins at bit *bit* of the whole."""

    name: str
    type: "CType"
    offset: int
    bit: int = 0
    bits: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Struct:
    """A struct, union or class, *keyword* says which; its fields are looked at when they are wanted."""

    keyword: str
    name: str
    size: int
    members: Callable[[], tuple[Field, ...]]
    complete: bool = True

    @property
    def fields(self) -> tuple[Field, ...]:
        """Its members in order."""
        return self.members()


@dataclass(frozen=True, slots=True, eq=False)
class Enumeration:
    """An enum."""

    name: str
    size: int
    values: tuple[tuple[str, int], ...]
    signed: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Typedef:
    """Another name."""

    name: str
    of: "Callable[[], CType]"

    @property
    def target(self) -> "CType":
        """What it names."""
        return self.of()


@dataclass(frozen=True, slots=True, eq=False)
class Qualified:
    """const, volatile, restrict or _Atomic."""

    word: str
    target: "CType"


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function."""

    result: "CType"
    parameters: tuple["CType", ...]
    prototyped: bool = True
    variadic: bool = False


CType: TypeAlias = Void | Base | Pointer | Array | Struct | Enumeration | Typedef | Qualified | Function

VOID: Final = Void()


def strip(kind: CType) -> CType:
    """*kind* without other names and qualifiers."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(kind, Typedef | Qualified):
            return kind
        kind = kind.target
    return VOID


def size_of(kind: CType) -> int:
    """Bytes; 0 where that is not known."""
    kind = strip(kind)
    if isinstance(kind, Array):
        return size_of(kind.element) * (kind.count or 0)
    if isinstance(kind, Void | Function):
        return 1  # gdb and gcc agree on that
    assert not isinstance(kind, Typedef | Qualified), "size_of: strip has taken those away"
    return kind.size


def is_integer(kind: CType) -> bool:
    """Whether *kind* is one of C's integer types."""
    kind = strip(kind)
    return isinstance(kind, Enumeration) or (isinstance(kind, Base) and kind.kind in {"int", "char", "bool"})


def is_signed(kind: CType) -> bool:
    """Whether its numbers may be below 0."""
    kind = strip(kind)
    return isinstance(kind, Base | Enumeration) and kind.signed


# ---- how C writes them


def name_of(kind: CType) -> str:
    """The type in one line, as in a cast: ``char *``, ``int (*)(int)``, ``struct {...}``."""
    return declare(kind, "")


def declare(kind: CType, inner: str, leaf: Callable[[CType], str] | None = None, depth: int = 0) -> str:
    """A declaration of *inner*, or of nothing, with *kind*; *leaf* writes what the declarators go around."""
    if depth > _MAX_DEPTH:
        return "..."
    if isinstance(kind, Pointer):
        return _declare_pointer(kind, f"{kind.mark}{inner}", leaf, depth)
    if isinstance(kind, Array):
        count = "" if kind.count is None else str(kind.count)
        return declare(kind.element, f"{inner}[{count}]", leaf, depth + 1)
    if isinstance(kind, Function):
        words = [name_of(parameter) for parameter in kind.parameters] + ["..."] * kind.variadic
        listed = ", ".join(words) or ("void" if kind.prototyped else "")
        return declare(kind.result, f"{inner}({listed})", leaf, depth + 1)
    if isinstance(kind, Qualified):
        words, target = [], kind
        while isinstance(target, Qualified) and len(words) < _MAX_DEPTH:
            words.append(target.word)
            target = target.target  # type: ignore[assignment]  # the loop looks again
        order = [word for word in ("const", "volatile", "restrict", "_Atomic") if word in words]
        if isinstance(target, Pointer):
            gap = " " if inner[:1].isidentifier() or inner[:1] in {"*", "("} else ""
            around = f"{target.mark} {' '.join(order)}{gap}{inner}"
            return _declare_pointer(target, around, leaf, depth)
        if isinstance(target, Function | Array):
            return declare(target, inner, leaf, depth + 1)
        return f"{' '.join(order)} {declare(target, inner, leaf, depth + 1)}"
    words_of = leaf(kind) if leaf is not None else short_name(kind)
    return f"{words_of} {inner}" if inner else words_of


def _declare_pointer(kind: Pointer, inner: str, leaf: Callable[[CType], str] | None, depth: int) -> str:
    target = kind.target
    around = f"({inner})" if isinstance(target, Array | Function) else inner
    return declare(target, around, leaf, depth + 1)


def short_name(kind: CType) -> str:
    """The name of what is no declarator."""
    match kind:
        case Void():
            return "void"
        case Struct():
            return f"{kind.keyword} {kind.name or '{...}'}"
        case Enumeration():
            return f"enum {kind.name or '{...}'}"
        case Base() | Typedef():
            return kind.name
        case _:
            return "?"


def expand(kind: CType) -> str:
    """As ``ptype`` shows it: other names resolved, and the members of a struct or enum."""
    for _ in range(_MAX_DEPTH):
        if not isinstance(kind, Typedef):
            break
        kind = kind.target
    return declare(kind, "", lambda leaf: _body(leaf, 0))


def _body(kind: CType, level: int) -> str:
    words: list[str] = []
    for _ in range(_MAX_DEPTH):
        if isinstance(kind, Qualified):
            words.append(kind.word)
        elif not isinstance(kind, Typedef):
            break
        kind = kind.target
    prefix = "".join(f"{word} " for word in words)
    if isinstance(kind, Enumeration):
        return prefix + _enumeration(kind)
    if isinstance(kind, Struct):
        return prefix + _struct(kind, level)
    return prefix + declare(kind, "")


def _enumeration(kind: Enumeration) -> str:
    words, following = [], 0
    for name, value in kind.values:
        words.append(name if value == following else f"{name} = {value}")
        following = value + 1
    return f"enum {kind.name + ' ' if kind.name else ''}{{{', '.join(words)}}}"


def _struct(kind: Struct, level: int) -> str:
    """With its members, indented by *level* columns."""
    margin = " " * (level + 4)
    lines = [f"{kind.keyword} {kind.name + ' ' if kind.name else ''}{{"]
    if not kind.complete:
        lines.append(f"{margin}<incomplete type>")
    elif not kind.fields:
        lines.append(f"{margin}<no data fields>")
    for field in kind.fields:

        def leaf(inner: CType) -> str:
            anonymous = isinstance(inner, Struct | Enumeration) and not inner.name
            return _body(inner, level + 4) if anonymous and not level else short_name(inner)

        bits = f" : {field.bits}" if field.bits else ""
        lines.append(f"{margin}{declare(field.type, field.name, leaf)}{bits};")
    return "\n".join([*lines, " " * level + "}"])


# ---- from DWARF


def _canonical(name: str) -> str:
    """``long unsigned int`` as people write it: ``unsigned long``."""
    words = name.split()
    if len(words) < 2 or not {*words} <= {"long", "short", "unsigned", "signed", "int", "char"}:
        return name
    sizes = [word for word in words if word in {"long", "short"}]
    sign = [word for word in words if word in {"unsigned", "signed"} and (word == "unsigned" or "char" in words)]
    return " ".join([*sign, *(sizes or [word for word in words if word in {"int", "char"}])])


class Types:
    """The types of one file, each made once."""

    def __init__(self, word: int) -> None:
        self._word = word
        self._made: dict[int, CType] = {}
        self._depth = 0  # types that contain the one being made

    def of(self, die: Die | None) -> CType:
        """The type that *die* describes; void for None."""
        if die is None:
            return VOID
        made = self._made.get(die.offset)
        if made is None:
            self._made[die.offset] = VOID  # what a type that contains itself contains
            self._depth += 1
            if self._depth < _MAX_DEPTH:
                self._made[die.offset] = self._make(die)
            self._depth -= 1
            made = self._made[die.offset]
        return made

    def _later(self, die: Die) -> Callable[[], CType]:
        """The type of *die*, looked at when it is wanted: pointers may lead in circles."""
        return lambda: self.of(die.type)

    def _make(self, die: Die) -> CType:
        tag = die.tag
        if tag == n.TAG_base_type:
            return self._base(die)
        if tag in _POINTERS:
            return Pointer(self._later(die), die.number(n.AT_byte_size, self._word), _POINTERS[tag])
        if tag == n.TAG_typedef:
            return Typedef(die.name, self._later(die))
        if tag in _QUALIFIERS:
            return Qualified(_QUALIFIERS[tag], self.of(die.type))
        if tag in _STRUCTS:
            return self._struct(die)
        if tag == n.TAG_array_type:
            return self._array(die)
        if tag == n.TAG_enumeration_type:
            return self._enumeration(die)
        if tag in {n.TAG_subroutine_type, n.TAG_subprogram}:
            return self.function(die)
        return Base(die.name or "<unknown type>", die.number(n.AT_byte_size))

    @staticmethod
    def _base(die: Die) -> Base:
        encoding, size = die.number(n.AT_encoding), die.number(n.AT_byte_size)
        kinds = {
            n.ATE_boolean: ("bool", False),
            n.ATE_float: ("float", True),
            n.ATE_complex_float: ("complex", True),
            n.ATE_signed: ("int", True),
            n.ATE_unsigned: ("int", False),
            n.ATE_signed_char: ("char", True),
            n.ATE_unsigned_char: ("char", False),
            n.ATE_UTF: ("char" if size == 1 else "int", False),
        }
        kind, signed = kinds.get(encoding, ("int", False))
        return Base(_canonical(die.name), size, kind, signed)

    def _struct(self, die: Die) -> Struct:
        made: list[tuple[Field, ...]] = []

        def members() -> tuple[Field, ...]:
            if not made:
                made.append(())
                made[0] = self._fields(die)
            return made[0]

        complete = not die.flag(n.AT_declaration)
        return Struct(_STRUCTS[die.tag], die.name, die.number(n.AT_byte_size), members, complete)

    def _fields(self, die: Die) -> tuple[Field, ...]:
        found = []
        for child in die.children:
            if child.tag not in {n.TAG_member, n.TAG_inheritance} or child.flag(n.AT_external):
                continue
            kind = self.of(child.type)
            offset = child.number(n.AT_data_member_location)
            bits = child.number(n.AT_bit_size)
            bit = 8 * offset
            if bits and child.get(n.AT_data_bit_offset) is not None:
                bit = child.number(n.AT_data_bit_offset)
            elif bits:  # up to DWARF 3: counted from the most significant bit of the storage
                storage = 8 * child.number(n.AT_byte_size, size_of(kind))
                bit = 8 * offset + storage - child.number(n.AT_bit_offset) - bits
            found.append(Field(child.name, kind, offset, bit, bits))
        return tuple(found)

    def _array(self, die: Die) -> CType:
        kind = self.of(die.type)
        counts: list[int | None] = []
        for child in die.children:
            if child.tag != n.TAG_subrange_type:
                continue
            upper, count = child.own(n.AT_upper_bound), child.own(n.AT_count)
            if count is not None and count.kind is Kind.CONSTANT:
                counts.append(count.number)
            elif upper is not None and upper.kind is Kind.CONSTANT:
                # gcc says -1, in as many bits as it likes, for an array of no elements.
                counts.append(upper.number + 1 if upper.number < 1 << 31 else 0)
            else:
                counts.append(None)
        for count_ in reversed(counts or [None]):
            kind = Array(kind, count_)
        return kind

    def _enumeration(self, die: Die) -> Enumeration:
        values = []
        for child in die.children:
            value = child.own(n.AT_const_value)
            if value is not None and value.kind is Kind.CONSTANT:
                values.append((child.name, value.number))
        size = die.number(n.AT_byte_size)
        signed = any(value < 0 for _, value in values)
        return Enumeration(die.name, size, tuple(values), signed)

    def function(self, die: Die) -> Function:
        """The type of a function, or what a pointer to one points to."""
        parameters, variadic = [], False
        for child in die.origin.children:
            if child.tag == n.TAG_formal_parameter:
                parameters.append(self.of(child.type))
            elif child.tag == n.TAG_unspecified_parameters:
                variadic = True
        return Function(self.of(die.type), tuple(parameters), die.flag(n.AT_prototyped), variadic)
