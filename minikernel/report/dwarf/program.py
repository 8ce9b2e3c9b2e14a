"""What a file says about its functions, variables and types: by address and by name."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from minikernel.report.dwarf import names as n
from minikernel.report.dwarf.ctypes import CType, Enumeration, Typedef, Types
from minikernel.report.dwarf.cursor import DamagedError
from minikernel.report.dwarf.dies import Debug, Die, Kind, Unit

_BLOCKS: Final = frozenset({n.TAG_lexical_block, n.TAG_inlined_subroutine})
_MAX_DEPTH: Final = 64
_TYPE_WORDS: Final = {
    n.TAG_structure_type: "struct ",
    n.TAG_union_type: "union ",
    n.TAG_enumeration_type: "enum ",
    n.TAG_class_type: "class ",
    n.TAG_typedef: "",
    n.TAG_base_type: "",
}


@dataclass(slots=True)
class _Index:
    """The entries of all units' own levels by name."""

    variables: dict[str, list[Die]] = field(default_factory=dict)
    functions: dict[str, list[Die]] = field(default_factory=dict)
    types: dict[str, list[Die]] = field(default_factory=dict)
    enumerators: dict[str, tuple[Die, int]] = field(default_factory=dict)


class Program:
    """The descriptions in one file.  What is damaged is as if it were not there."""

    def __init__(self, contents: Callable[[str], bytes], word: int) -> None:
        self.word = word
        self._contents = contents
        self._debug: Debug | None = None
        self.types = Types(word)
        self._index: _Index | None = None
        self._local_names: frozenset[str] | None = None

    @property
    def debug(self) -> Debug:
        """Its entries."""
        if self._debug is None:
            self._debug = Debug(self._contents)
        return self._debug

    def directories(self) -> dict[int, str]:
        """Where each line-number program's unit was compiled, by the program's offset."""
        found = {}
        for unit in self.debug.units:
            try:
                at = unit.root.own(n.AT_stmt_list)
                if at is not None:
                    found[at.number] = unit.root.text(n.AT_comp_dir)
            except DamagedError:
                continue
        return found

    # ---- by address

    def scopes(self, vaddr: int) -> list[Die]:
        """The function that contains *vaddr*, then the blocks and inlined functions around it, the innermost last."""
        try:
            unit = self.debug.unit_of(vaddr)
            if unit is None:
                return []
            # Of functions that overlap, which only nested ones do, the one that begins last.
            inside = [die for low, high, die in unit.functions() if low <= vaddr < high]
            return self._inner([inside[-1]], vaddr) if inside else []
        except DamagedError:
            return []

    @staticmethod
    def _inner(found: list[Die], vaddr: int) -> list[Die]:
        while len(found) < _MAX_DEPTH:
            below = next((die for die in found[-1].children if die.tag in _BLOCKS and die.contains(vaddr)), None)
            if below is None:
                break
            found.append(below)
        return found

    # ---- by name

    @property
    def index(self) -> _Index:
        """Everything that has a name outside of functions."""
        if self._index is None:
            self._index = _Index()
            for unit in self.debug.units:
                try:
                    self._add(unit, self._index)
                except DamagedError:
                    continue
        return self._index

    @staticmethod
    def _add(unit: Unit, index: _Index) -> None:
        for die in unit.members():
            if die.tag in _TYPE_WORDS:
                if die.name and not die.flag(n.AT_declaration):
                    index.types.setdefault(_TYPE_WORDS[die.tag] + die.name, []).append(die)
                if die.tag == n.TAG_enumeration_type:
                    for child in die.children:
                        value = child.own(n.AT_const_value)
                        if value is not None and value.kind is Kind.CONSTANT:
                            index.enumerators.setdefault(child.name, (die, value.number))
            elif die.tag == n.TAG_variable:
                if die.own(n.AT_location) is not None or die.own(n.AT_const_value) is not None:
                    index.variables.setdefault(die.name, []).append(die)
            elif die.tag == n.TAG_subprogram and die.entry_pc is not None:
                index.functions.setdefault(die.name, []).append(die)

    def variable(self, name: str, vaddr: int | None) -> Die | None:
        """The variable outside of functions called *name*; that of the file of *vaddr* first."""
        return self._nearest(self.index.variables.get(name, []), vaddr)

    def function(self, name: str, vaddr: int | None = None) -> Die | None:
        """The function called *name* that has code."""
        return self._nearest(self.index.functions.get(name, []), vaddr)

    def _nearest(self, found: list[Die], vaddr: int | None) -> Die | None:
        unit = self.debug.unit_of(vaddr) if vaddr is not None and len(found) > 1 else None
        return next((die for die in found if die.unit is unit), found[0] if found else None)

    def enumerator(self, name: str) -> tuple[Enumeration, int] | None:
        """The constant *name* of an enum."""
        found = self.index.enumerators.get(name)
        if found is None:
            return None
        kind = self.types.of(found[0])
        return (kind, found[1]) if isinstance(kind, Enumeration) else None

    def type_named(self, name: str) -> CType | None:
        """The type *name*: ``struct node``, ``size_t``, ``int``."""
        found = self.index.types.get(name)
        try:
            kind = self.types.of(found[0]) if found else None
        except DamagedError:
            return None
        return kind if not isinstance(kind, Typedef) or kind.name else None

    @property
    def local_names(self) -> frozenset[str]:
        """The names of all variables inside of functions."""
        if self._local_names is None:
            found: set[str] = set()
            for unit in self.debug.units:
                try:
                    for _, _, function in unit.functions():
                        for scope in (function, *_below(function)):
                            if scope.tag in {n.TAG_variable, n.TAG_formal_parameter}:
                                found.add(scope.name)
                except DamagedError:
                    continue
            self._local_names = frozenset(found)
        return self._local_names

    def inlined(self, name: str) -> Iterator[Die]:
        """The places where the function *name* was compiled into others."""
        for unit in self.debug.units:
            try:
                for _, _, function in unit.functions():
                    yield from (
                        die for die in _below(function) if die.tag == n.TAG_inlined_subroutine and die.name == name
                    )
            except DamagedError:
                continue


def _below(die: Die) -> Iterator[Die]:
    pending = [die]
    while pending:
        for child in pending.pop().children:
            yield child
            if child.tag in _BLOCKS:
                pending.append(child)


def variables_of(scope: Die) -> list[Die]:
    """The parameters and variables that *scope* itself declares, in their order; a later one hides an earlier."""
    return [die for die in scope.children if die.tag in {n.TAG_variable, n.TAG_formal_parameter}]
