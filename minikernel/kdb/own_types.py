"""The types that expressions may name in any program: C's own, and u8 to i64."""

import re
from typing import Final

from minikernel.kdb.values import DOUBLE, LONG
from minikernel.report.dwarf.ctypes import VOID, Base, CType

_SIZED: Final = re.compile(r"([iu])(8|16|32|64)|(u?)int(8|16|32|64)_t")
_SIMPLE: Final[dict[str, CType]] = {
    "void": VOID,
    "_Bool": Base("_Bool", 1, "bool", signed=False),
    "bool": Base("bool", 1, "bool", signed=False),
    "float": Base("float", 4, "float"),
    "double": DOUBLE,
}


def own_type(words: list[str], word: int) -> CType | None:
    """The type that *words* name, where an address has *word* bytes; None if they name none."""
    if len(words) == 1 and words[0] in _SIMPLE:
        return _SIMPLE[words[0]]
    if len(words) == 1 and (match := _SIZED.fullmatch(words[0])):
        signed = match[1] == "i" or (match[1] is None and not match[3])
        return Base(words[0], int(match[2] or match[4]) // 8, "int", signed)
    names = sorted(words)
    if names == ["double", "long"]:
        return Base("long double", 16 if word == 8 else 12, "float")
    signed = "unsigned" not in names
    for sign in ("unsigned", "signed"):
        if sign in names:
            names.remove(sign)
    if len(names) > 1 and "int" in names:
        names.remove("int")
    sizes = {("char",): 1, ("short",): 2, ("int",): 4, (): 4, ("long",): word, ("long", "long"): 8}
    size = sizes.get(tuple(names))
    if size is None:
        return None
    name = " ".join((*(() if signed else ("unsigned",)), *(names or ["int"])))
    return LONG if name == "long" and size == 8 else Base(name, size, "char" if size == 1 else "int", signed)
