"""The command line: ``minikernel run`` and its sisters.

Exit status: the guest's; 128+N when a signal N killed it; 124 the time of --timeout is up;
125 our own failure or a wrong command line,
126 the program cannot be executed, 127 it was not found.
"""

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from minikernel.config import DEFAULT_RAM, Bind, Config, Swap

EXIT_FAILURE = 125
_TAKE_A_VALUE = frozenset(
    f"--{name}"
    for name in (
        *(
            "root",
            "cwd",
            "env",
            "bind",
            "ram",
            "swap",
            "policy",
            "sysctl",
            "cpu",
            "paging",
            "seed",
            "schedule-seed",
            "clock",
        ),
        *("max-instructions", "max-processes", "max-memory", "timeout", "output", "replay", "load", "gdb"),
        *("level", "pid", "comm", "address", "symbol", "vma", "event"),
    )
) | {"-o"}
_MAX_PRIORITY = 32767  # of a swap area
_LONGEST = 1e9  # seconds
_RUN_USAGE = "minikernel run [OPTIONS] [--] PROGRAM [ARGS...]"
_DEBUG_USAGE = "minikernel debug [OPTIONS] [--] PROGRAM [ARGS...]"
_COMPARE_USAGE = "minikernel compare [--policy A,B,...] [OPTIONS] [--] PROGRAM [ARGS...]"
_RECORD_USAGE = "minikernel record -o TRACE [OPTIONS] [--] PROGRAM [ARGS...]"
_SAMPLE = 50_000  # instructions
_LEVELS = ("events", "blocks", "instructions", "memory")
_SIZES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class UsageError(Exception):
    """The command line asks for something impossible; the message is one line."""


class _Formatter(argparse.HelpFormatter):
    """Help of a fixed width: to ask for the terminal's, argparse imports shutil at every start, which costs 5 ms."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=100)


class _Parser(argparse.ArgumentParser):
    """argparse, with our exit status and one-line errors."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (try `{self.prog} --help`)")


def size(text: str) -> int:
    """Bytes of ``512K``, ``16M``, ``1G`` or a plain number."""
    unit = text[-1:].upper() if text[-1:].isalpha() else ""
    digits = text[: len(text) - len(unit)]
    if unit not in _SIZES or not digits.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 64M")
    return int(digits) * _SIZES[unit]


def bind(text: str) -> Bind:
    """``HOST:GUEST`` or ``HOST:GUEST:rw``."""
    parts = text.split(":")
    if len(parts) not in {2, 3} or not all(parts[:2]) or parts[2:] not in ([], ["rw"], ["ro"]):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:GUEST[:rw]")
    return Bind(host=os.fsencode(parts[0]), guest=os.fsencode(parts[1]), writable=parts[2:] == ["rw"])


def swap(text: str) -> Swap:
    """``SIZE`` or ``FILE``, and ``,pri=N`` behind it."""
    name, comma, option = text.partition(",")
    key, _, number = option.partition("=")
    if comma and (key not in {"pri", "prio"} or not number.isdecimal() or int(number) > _MAX_PRIORITY):
        raise argparse.ArgumentTypeError(f"{text!r} is not SIZE or FILE, or either with ,pri=0 to ,pri={_MAX_PRIORITY}")
    priority = int(number) if comma else None
    if name[:1].isdecimal() and "/" not in name:
        return Swap(size=size(name), priority=priority)
    if not name:
        raise argparse.ArgumentTypeError("a size like 64M or a file that mkswap prepared")
    return Swap(path=os.fsencode(name), priority=priority)


def sysctl(text: str) -> tuple[str, str]:
    """``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def variable(text: str) -> bytes:
    """``NAME=VALUE``."""
    if not text.partition("=")[0] or "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return os.fsencode(text)


def count(text: str) -> int:
    """A positive number; underscores allowed."""
    digits = text.replace("_", "")
    if not digits.isdecimal() or not int(digits):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return int(digits)


def seconds(text: str) -> float:
    """A positive time in seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value < _LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="minikernel",
        formatter_class=_Formatter,
        description="A glass-box Linux: run programs and see what their kernel does.",
    )
    # Given the name, argparse need not work out a usage line, for which it would import shutil.
    commands = parser.add_subparsers(
        dest="command", prog="minikernel", metavar="COMMAND", required=True, parser_class=_Parser
    )
    run = commands.add_parser(
        "run", help="run a Linux program", usage=_RUN_USAGE, formatter_class=_Formatter, allow_abbrev=False
    )
    run.add_argument("--gdb", metavar="[HOST:]PORT|-", default=None,
                     help="wait for gdb's `target remote` at a port (of this host, unless told) or a pipe")  # fmt: skip
    _add_run(run)
    record = commands.add_parser(
        "record",
        help="run a program and write its trace",
        usage=_RECORD_USAGE,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    record.add_argument("-o", "--output", metavar="TRACE", required=True, help="the file to write")
    record.add_argument("--pack", action="store_true", help="store the host's files, too: TRACE is replayed anywhere")
    _add_levels(record)
    _add_run(record)
    _add_trace_commands(commands)
    _add_debug(
        commands.add_parser(
            "debug", help="run a Linux program in the debugger", usage=_DEBUG_USAGE, formatter_class=_Formatter,
            allow_abbrev=False,
        )
    )  # fmt: skip
    _add_compare(
        commands.add_parser(
            "compare", help="run a program under several reclaim policies", usage=_COMPARE_USAGE,
            formatter_class=_Formatter, allow_abbrev=False,
        )
    )  # fmt: skip
    table = commands.add_parser(
        "syscalls", formatter_class=_Formatter, help="list the system calls and how far each goes"
    )
    table.add_argument("--json", action="store_true", help="print the table as JSON")
    table.add_argument("--abi", choices=("x86-64", "i386"), help="only this table")
    return parser


def _add_levels(record: argparse.ArgumentParser) -> None:
    what = record.add_argument_group("what is recorded (a filter may be repeated: any of them)")
    what.add_argument("--level", choices=_LEVELS, default="events", help="each has what those before it have")
    what.add_argument("--pid", metavar="N", type=count, action="append", default=[], help="only of this task")
    what.add_argument("--comm", metavar="NAME", type=os.fsencode, action="append", default=[],
                      help="only of tasks of this name")  # fmt: skip
    what.add_argument("--address", metavar="A[-B]", type=address_range, action="append", default=[],
                      help="only what touches these addresses")  # fmt: skip
    what.add_argument("--symbol", metavar="NAME", action="append", default=[], help="only in this function or variable")
    what.add_argument("--vma", metavar="NAME", action="append", default=[],
                      help="only in this mapping: a file's name, [heap], [stack]")  # fmt: skip
    what.add_argument("--event", metavar="NAME", action="append", default=[], help="only events of this name")


def _selection(options: argparse.Namespace) -> None:
    """Put together what `record` is to record, in ``options.selection``; None: everything."""
    ranges = [(low, high + 1) for low, high in options.address]
    filters = (options.pid, options.comm, ranges, options.symbol, options.vma, options.event)
    options.selection = None
    if any(filters):
        from minikernel.trace.select import Selection

        options.selection = Selection(*map(tuple, filters))


def _add_trace_commands(commands: "argparse._SubParsersAction[_Parser]") -> None:
    show = commands.add_parser("show", formatter_class=_Formatter, help="print a trace, one event a line")
    show.add_argument("trace", metavar="TRACE")
    show.add_argument("--level", choices=_LEVELS, default="events", help="what is printed, between the events")
    show.add_argument("--pid", metavar="N", type=count, action="append", default=[], help="only of this task")
    show.add_argument("--symbol", metavar="NAME", action="append", default=[], help="only code of this function")
    show.add_argument("--event", metavar="NAME", action="append", default=[], help="only events of this name")
    show.add_argument("--from", dest="start", metavar="N", type=position, default=0, help="from this instruction on")
    show.add_argument("--to", dest="end", metavar="N", type=position, default=None, help="up to this instruction")
    show.add_argument("--address", metavar="A[-B]", type=address_range, action="append", default=[],
                      help="only what touches these addresses")  # fmt: skip
    show.add_argument("--strace", action="store_true", help="system calls and signals as strace prints them")
    show.add_argument("--follow", action="store_true", help="wait for what is still being recorded")
    export = commands.add_parser("export", formatter_class=_Formatter, help="a trace for other programs")
    export.add_argument("trace", metavar="TRACE")
    export.add_argument("--format", choices=("strace", "chrome", "drcov", "parquet"), required=True,
                        help="text; JSON for Perfetto; coverage, of --level blocks; a table")  # fmt: skip
    export.add_argument("-o", "--output", metavar="FILE", default="-", help="default: standard output")
    export.add_argument("--level", choices=_LEVELS, default="events", help="parquet: what the rows are")
    export.add_argument("--pid", metavar="N", type=count, help="drcov: of this process (default: the first)")
    stats = commands.add_parser("stats", formatter_class=_Formatter, help="count what is in a trace")
    stats.add_argument("trace", metavar="TRACE")
    verify = commands.add_parser(
        "verify", formatter_class=_Formatter, help="run a trace's program again and compare: 0 same, 1 different"
    )
    verify.add_argument("trace", metavar="TRACE")
    verify.add_argument("--host", action="store_true", help="look at this host's files, even if TRACE holds its own")
    verify.add_argument("argv", metavar="-- PROGRAM ARGS", nargs=argparse.REMAINDER, help="run this instead")
    again = commands.add_parser(
        "replay", formatter_class=_Formatter, help="run a trace's program again, from what the trace knows"
    )
    again.add_argument("trace", metavar="TRACE")
    again.add_argument("--verify", action="store_true", help="compare every event, not only the digests")
    diff = commands.add_parser("diff", formatter_class=_Formatter, help="where two traces part: 0 same, 1 different")
    diff.add_argument("first", metavar="A")
    diff.add_argument("second", metavar="B")
    bisect = commands.add_parser(
        "bisect",
        formatter_class=_Formatter,
        help="the first instruction at which two traces part, by running both again",
    )
    bisect.add_argument("first", metavar="A")
    bisect.add_argument("second", metavar="B")


def address_range(text: str) -> tuple[int, int]:
    """``0x401000``, or ``0x401000-0x402fff``: first and last address."""
    first, dash, last = text.partition("-")
    try:
        low = int(first, 16)
        high = int(last, 16) if dash else low
    except ValueError:
        low, high = 1, 0
    if not 0 <= low <= high < 1 << 64:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address or two: 0x401000-0x401fff")
    return low, high


def position(text: str) -> int:
    """A count of instructions; underscores allowed."""
    return 0 if text == "0" else count(text)


def _add_run(run: argparse.ArgumentParser) -> None:
    _add_machine(run)
    show = run.add_argument_group("what you see (on stderr)")
    show.add_argument("--strace", action="store_true", help="print every system call")
    show.add_argument("--explain", action="store_true", help="explain every page fault")
    show.add_argument("--stats", metavar="FILE.json", nargs="?", const="-", help="print figures at the end")
    show.add_argument("--leaks", action="store_true", help="say at the end what memory was not given back (slow)")
    run.add_argument("argv", metavar="PROGRAM [ARGS...]", nargs=argparse.REMAINDER)


def _add_compare(compare: argparse.ArgumentParser) -> None:
    _add_machine(compare)
    compare.set_defaults(policy=None)  # all
    how = compare.add_argument_group("the comparison (--policy takes a list: A,B,...; without it, all)")
    how.add_argument("--json", action="store_true", help="print the figures as JSON")
    how.add_argument("--sample", metavar="N", type=count, default=_SAMPLE,
                     help=f"instructions between looks at the accessed bits (default {_SAMPLE})")  # fmt: skip
    compare.add_argument("argv", metavar="PROGRAM [ARGS...]", nargs=argparse.REMAINDER)


def _add_debug(debug: argparse.ArgumentParser) -> None:
    _add_machine(debug)
    debug.add_argument("--replay", metavar="TRACE", help="debug the recorded run in TRACE; no PROGRAM is given")
    debug.add_argument("--load", metavar="FILE", help="go on where `save FILE` was; no PROGRAM is given")
    what = debug.add_argument_group("commands, in their order, before the prompt")
    what.add_argument("-x", metavar="FILE", dest="commands", type=lambda word: ("file", word), action="append",
                      default=[], help="execute the commands in FILE")  # fmt: skip
    what.add_argument("-ex", metavar="CMD", dest="commands", type=lambda word: ("command", word), action="append",
                      help="execute CMD")  # fmt: skip
    what.add_argument("--batch", action="store_true", help="leave after them; status 1 if one failed")
    what.add_argument("--json", action="store_true", help="answer every command with one JSON object on a line")
    debug.add_argument("argv", metavar="PROGRAM [ARGS...]", nargs=argparse.REMAINDER)


def _add_machine(run: argparse.ArgumentParser) -> None:
    what = run.add_argument_group("what the program sees")
    what.add_argument("--root", metavar="DIR", help="host directory that is / (default: the host's own /, read-only)")
    what.add_argument("--cwd", metavar="DIR", help="working directory, a path in the guest")
    what.add_argument("--env", metavar="K=V", type=variable, action="append", default=[], help="set a variable")
    what.add_argument("--clear-env", action="store_true", help="start from an empty environment")
    what.add_argument(
        "--bind", metavar="H:G[:rw]", type=bind, action="append", default=[], help="show host path H at guest path G"
    )
    machine = run.add_argument_group("the machine")
    machine.add_argument("--ram", metavar="SIZE", type=size, default=DEFAULT_RAM, help="4M to 3G (default 256M)")
    machine.add_argument(
        "--swap", metavar="SIZE|FILE[,pri=N]", type=swap, action="append", default=[],
        help="swap to a temporary file of SIZE, or to FILE, made by mkswap",
    )  # fmt: skip
    machine.add_argument(
        "--policy", metavar="NAME", default="two-list", help="which page is reclaimed: two-list, ...; `help` lists them"
    )
    machine.add_argument(
        "--sysctl", metavar="NAME=VALUE", type=sysctl, action="append", default=[], help="such as vm.swappiness=10"
    )
    machine.add_argument("--cpu", choices=("x86-64", "i386"), default="x86-64")
    machine.add_argument("--paging", choices=("pae", "2level"), default=None, help="of an i386 machine (default pae)")
    machine.add_argument("--seed", metavar="N", type=int, default=None, help="of all randomness; turns ASLR on")
    machine.add_argument("--clock", choices=("virtual", "host"), default="virtual")
    machine.add_argument("--max-instructions", metavar="N", type=count, default=None, help="stop after N instructions")
    machine.add_argument(
        "--schedule-seed", metavar="N", type=int, default=None, help="random time slices, to find races"
    )
    bounds = run.add_argument_group("limits of the run")
    bounds.add_argument("--timeout", metavar="SECONDS", type=seconds, default=None, help="stop after this time: 124")
    bounds.add_argument("--max-processes", metavar="N", type=count, default=None, help="tasks at one time: EAGAIN")
    bounds.add_argument("--max-memory", metavar="SIZE", type=size, default=None, help="RAM is at most SIZE: ENOMEM")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the process's exit status."""
    # Nothing made at start-up becomes garbage: looking for some while modules are loaded is a twentieth of a short run.
    gc.disable()
    _open_closed_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(_protect_stats(words))
        if getattr(options, "policy", None) == "help":
            _print_policies()
            return 0
        if options.command == "run" and options.gdb is not None:
            from minikernel.remote import remote_command

            return remote_command(_config(options), options)
        if options.command in {"run", "record"}:
            from minikernel.runner import run_command

            if options.command == "record":
                _selection(options)
            return run_command(_config(options), options)
        if options.command == "compare":
            from minikernel.compare import compare_command

            return compare_command(_config(options), options)
        if options.command == "debug":
            from minikernel.debug import debug_command, debug_replay, debug_saved

            if options.load is not None:
                return debug_saved(options)
            if options.replay is not None:
                return debug_replay(options)

            return debug_command(_config(options), options)
        if options.command != "syscalls":
            from minikernel.tracing import trace_command

            return trace_command(options)
        from minikernel.syscalls.listing import print_table

        print_table(sys.stdout, json=options.json, abi=options.abi)
    except UsageError as error:
        print(f"minikernel: {error}", file=sys.stderr)
        return EXIT_FAILURE
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    return 0


def _print_policies() -> None:
    from minikernel.mm.policy import POLICIES, find_policy

    for name in POLICIES:
        print(f"{name:10} {find_policy(name).summary}")
    print("MODULE:CLASS  your own; docs/policies.md says how")


def _is_at_terminal() -> bool:
    """Standard input is a terminal, and ours to read from now."""
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _open_closed_streams() -> None:
    """Let our own messages go nowhere if we were started with a standard stream closed.

    The descriptor itself stays closed: the guest is to find what we were given.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            import fcntl

            low = os.open(os.devnull, os.O_WRONLY)
            high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 10)
            os.close(low)
            setattr(sys, name, os.fdopen(high, "w"))


def _protect_stats(words: list[str]) -> list[str]:
    """``--stats`` takes its file only after ``=``: the next word may be the program."""
    protected = list(words)
    skip = False
    for index, word in enumerate(words[1:], 1):
        if skip:
            skip = False
        elif word == "--" or not word.startswith("-"):
            break
        elif word == "--stats":
            protected[index] = "--stats=-"
        else:
            skip = word in _TAKE_A_VALUE
    return protected


def _working_directory() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - pathlib costs every start 7 ms
    except OSError as error:
        raise UsageError(f"the working directory is not there: {error.strerror}") from None


def _config(options: argparse.Namespace) -> Config:
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if not argv or not argv[0]:
        raise UsageError("no program to run (try `minikernel run --help`)")
    if options.paging and options.cpu != "i386":
        raise UsageError("--paging is for --cpu i386; an x86-64 machine has four levels")
    env: dict[bytes, bytes] = {} if options.clear_env else dict(os.environb)
    for assignment in options.env:
        name, _, value = assignment.partition(b"=")
        env[name] = value
    root = options.root if options.root is not None else "/"
    cwd = options.cwd
    if cwd is None:
        cwd = _working_directory() if options.root is None else "/"
    return Config(
        argv=tuple(os.fsencode(word) for word in argv),
        env=tuple(name + b"=" + value for name, value in env.items()),
        root=os.fsencode(root),
        cwd=os.fsencode(cwd),
        binds=tuple(options.bind),
        ram=options.ram,
        swap=tuple(options.swap),
        policy=options.policy or "two-list",
        sysctls=tuple(options.sysctl),
        cpu=options.cpu,
        paging=options.paging or "pae",
        seed=options.seed or 0,
        aslr=options.seed is not None,
        host_clock=options.clock == "host",
        console=options.command in {"run", "record"} and _is_at_terminal(),
        max_instructions=options.max_instructions,
        timeout=options.timeout,
        max_processes=options.max_processes,
        max_memory=options.max_memory,
        schedule_seed=options.schedule_seed,
    )


if __name__ == "__main__":
    sys.exit(main())
