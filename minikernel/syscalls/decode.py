"""From registers to a handler's arguments: one small compiled function for each shape of signature.

A shape is a sequence of widths, e.g. (int, ulong, ulong); handlers of one shape share the code that casts
the registers.  Compiled at the first call, so that a run pays for the shapes it meets and no others.

Linux: ``__do_sys##name`` and the casts around it (SYSCALL_DEFINEx, include/linux/syscalls.h;
arch/x86/include/asm/syscall_wrapper.h for which register is which).
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias, cast

from minikernel.abi.abi import Abi
from minikernel.syscalls.args import INT, LONG, UINT, ULONG, Kind
from minikernel.syscalls.entry_types import Handler, Result

Caller: TypeAlias = Callable[[Any, Any, Sequence[int]], Result]
"""Called with (kernel, task, registers in SDM order)."""

_NR_IMPLICIT: Final = 2  # kernel and task come before the arguments
_MAX_ARGS: Final = 6

_makers: dict[tuple[Abi, tuple[str, ...]], Callable[[Handler], Caller]] = {}


def signature(handler: Handler) -> tuple[tuple[str, Kind], ...]:
    """The arguments of *handler* after kernel and task: their names and kinds."""
    hints = {name: hint for name, hint in handler.__annotations__.items() if name != "return"}
    arguments = []
    for name, hint in list(hints.items())[_NR_IMPLICIT:]:
        assert isinstance(hint, Kind), f"signature: {handler.__name__}: {name} is annotated with no type of args.py"
        arguments.append((name, hint))
    assert len(arguments) <= _MAX_ARGS, f"signature: {handler.__name__} has more than six arguments"
    return tuple(arguments)


def cast_register(abi: Abi, width: str, value: int) -> int:
    """A raw 64-bit register *value* as C sees it through a parameter of *width* under *abi*."""
    bits = 8 * abi.word if width in {LONG, ULONG} else 32
    value &= (1 << bits) - 1
    if width in {INT, LONG}:
        sign = 1 << (bits - 1)
        return (value ^ sign) - sign
    return value


def _expression(abi: Abi, width: str, register: int) -> str:
    """Source text that does ``cast_register`` for one register."""
    raw = f"regs[{register}]"
    if width == ULONG and abi.word == 8:
        return raw
    if width == LONG and abi.word == 8:
        return f"({raw} ^ 0x8000000000000000) - 0x8000000000000000"
    if width in {UINT, ULONG}:
        return f"{raw} & 0xFFFFFFFF"
    return f"({raw} & 0xFFFFFFFF ^ 0x80000000) - 0x80000000"


def _compile_maker(abi: Abi, widths: tuple[str, ...]) -> Callable[[Handler], Caller]:
    """A function that turns a handler with arguments of *widths* into a Caller."""
    casts = [_expression(abi, width, abi.arg_registers[i]) for i, width in enumerate(widths)]
    source = (
        "def make(handler):\n"
        "    def call(kernel, task, regs):\n"
        f"        return handler({', '.join(['kernel', 'task', *casts])})\n"
        "    return call\n"
    )
    namespace: dict[str, Any] = {}
    # Only the widths above and register numbers reach the source: nothing of the guest does.
    exec(compile(source, f"<syscall {abi.name} {widths}>", "exec"), namespace)  # noqa: S102 - generated just above
    return cast("Callable[[Handler], Caller]", namespace["make"])


def compile_caller(abi: Abi, handler: Handler) -> Caller:
    """A Caller that casts the argument registers of *abi* and calls *handler*."""
    shape = (abi, tuple([kind.width for _, kind in signature(handler)]))
    maker = _makers.get(shape)
    if maker is None:
        maker = _makers[shape] = _compile_maker(*shape)
    return maker(handler)
