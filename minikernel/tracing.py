"""The commands that read traces: show, stats, verify, replay, diff."""

import argparse
import os
import sys

from msgspec.structs import replace

from minikernel.runner import EXIT_FAILURE, EXIT_TIMED_OUT
from minikernel.trace.codec import TraceError
from minikernel.trace.export import strace_lines
from minikernel.trace.text import figures, line, show
from minikernel.trace.trace import Trace

_SHOWN_ANSWERS = 5
EXIT_INTERRUPTED = 130  # as the shell has it: 128 + SIGINT
EXIT_SAME, EXIT_DIFFERENT, EXIT_CANNOT = 0, 1, EXIT_FAILURE


def trace_command(options: argparse.Namespace) -> int:
    """Run the command that *options* name; the exit status of the process."""
    try:
        if options.command in {"diff", "bisect"}:
            with Trace(options.first) as first, Trace(options.second) as second:
                return (_diff if options.command == "diff" else _bisect)(first, second)
        commands = {"verify": _verify, "replay": _replay, "show": _show, "stats": _stats, "export": _export}
        with Trace(options.trace) as trace:
            return commands[options.command](trace, options)
    except TraceError as error:
        sys.stderr.write(f"minikernel: {error}\n")
        return EXIT_CANNOT
    except BrokenPipeError:
        raise  # nobody reads our output: __main__ knows
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED  # Ctrl-C is for us: a program that runs again gets the signals of its record
    except Exception as error:  # noqa: BLE001 - our own bugs end here: 1 would say that runs differ
        from minikernel.report.panic import panic_report

        sys.stderr.write(panic_report(None, error))
        return EXIT_CANNOT


def _warn_of_no_end(trace: Trace, *, follow: bool = False) -> None:
    if not trace.complete and not follow:
        sys.stderr.write(f"minikernel: {trace.path}: the trace has no end: its recorder was killed\n")


def _show(trace: Trace, options: argparse.Namespace) -> int:
    _warn_of_no_end(trace, follow=options.follow)
    write = sys.stdout.write
    if options.level != "events":
        return _show_flow(trace, options)
    if options.symbol:
        raise TraceError("--symbol is for --level blocks and instructions")
    told = show(
        trace,
        pids=options.pid,
        names=options.event,
        start=options.start,
        end=options.end,
        addresses=options.address,
        follow=options.follow,
    )
    for text in strace_lines(told) if options.strace else (line(one) + "\n" for one in told):
        write(text)
        if options.follow:
            sys.stdout.flush()
    sys.stdout.flush()
    return 0


def _export(trace: Trace, options: argparse.Namespace) -> int:
    _warn_of_no_end(trace)
    try:
        if options.format == "parquet":
            from minikernel.trace.parquet import write_parquet

            if options.output == "-":
                raise TraceError("a Parquet file needs a name: -o FILE")
            if options.level == "events":
                write_parquet(trace.events(), options.output)
            else:
                from minikernel.trace.parquet_flow import write_flow_parquet

                write_flow_parquet(trace, options.level, options.output)
            return 0
        if options.format == "drcov":
            from minikernel.trace.drcov import drcov

            data = drcov(trace, options.pid)
            if options.output == "-":
                sys.stdout.buffer.write(data)
                sys.stdout.flush()
            else:
                with open(options.output, "wb") as file:  # noqa: PTH123 - as elsewhere
                    file.write(data)
            return 0
        from minikernel.trace.export import chrome_json

        pieces = (
            chrome_json(trace.events(), str(trace.header.get("program")))
            if options.format == "chrome"
            else strace_lines(trace.events())
        )
        if options.output == "-":
            sys.stdout.writelines(pieces)
            sys.stdout.flush()
        else:
            with open(options.output, "w", encoding="utf-8") as file:  # noqa: PTH123 - as elsewhere
                file.writelines(pieces)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise TraceError(f"{options.output}: {error.strerror}") from None
    return 0


def _show_flow(trace: Trace, options: argparse.Namespace) -> int:
    """Blocks or instructions, and the events between them."""
    from minikernel.trace.flow_text import Filter, show_flow

    if options.follow or options.strace:
        raise TraceError("--follow and --strace are for --level events")
    ranges = [(low, high + 1) for low, high in options.address]
    chosen = Filter(options.pid, options.event, options.symbol, ranges, options.start, options.end)
    for text in show_flow(trace, options.level, chosen):
        sys.stdout.write(text + "\n")
    sys.stdout.flush()
    return 0


def _stats(trace: Trace, options: argparse.Namespace) -> int:
    del options
    sys.stdout.write(figures(trace))
    if trace.flows.recorded:
        from minikernel.trace.flow_stats import flow_figures

        sys.stdout.write(flow_figures(trace))
    sys.stdout.flush()
    return 0


def _diff(first: Trace, second: Trace) -> int:
    from minikernel.trace.compare import compare_events

    _warn_of_no_end(first)
    _warn_of_no_end(second)
    counts = f"{first.nr_events} events in {first.path}, {second.nr_events} in {second.path}"
    same, divergence = compare_events(first.events(), second.events())
    if divergence is not None:
        print(f"{divergence.text(('first', 'second'))}\n{same} events in common; {counts}")
        _tell_host(first, second)
        return EXIT_DIFFERENT
    for ours, theirs in zip(first.digests(), second.digests(), strict=False):
        if ours.after == theirs.after and (state := ours.differences(theirs)):
            print(f"the events are the same ({same}); after event {ours.after} the state is not:")
            print("\n".join(f"  differs: {words}" for words in state))
            _tell_host(first, second)
            return EXIT_DIFFERENT
    print(f"the same: {counts}")
    return EXIT_SAME


def _tell_host(first: Trace, second: Trace) -> None:
    """What the host's files were like in one run and not in the other."""
    from minikernel.trace.doors import other_answers

    words = other_answers(first.answers(), second.answers())
    for text in words[:_SHOWN_ANSWERS]:
        print(f"  note: the host's {ascii(text)[1:-1]}")
    if len(words) > _SHOWN_ANSWERS:
        print(f"  note: and {len(words) - _SHOWN_ANSWERS} more files of the host")


def _bisect(first: Trace, second: Trace) -> int:
    from minikernel.bisect import bisect

    found = bisect(first, second)
    print(f"digests: {found.equal_digests} are the same")
    if found.divergence is None and found.at is None and not found.words:
        print("events:  the same")
        return EXIT_SAME
    if found.divergence is not None:
        print(f"events:  {found.divergence.text(('first', 'second'))}")
    if found.at_start:
        print("memory:  it differs before the first instruction that was compared, so registers decide")
    if found.at is None:
        print("instructions: no difference was found by running both again")
    else:
        print(f"instruction {found.at + 1} is the first that differs:")
        for name, where in zip(("first", "second"), found.where, strict=True):
            print(f"  {name:<7} {where}")
    for words in found.words:
        print(f"  differs: {words}")
    return EXIT_DIFFERENT


# ---- running again


def _replay(trace: Trace, options: argparse.Namespace) -> int:
    """The recorded output and exit status; EXIT_CANNOT if the run went another way."""
    from minikernel.rerun import replay_trace
    from minikernel.trace.replay import write_out

    _warn_of_no_end(trace)
    notes = trace.notes or {}
    found = replay_trace(trace, write_out, compare=options.verify)
    assert found.watcher is not None, "_replay: nothing was watched"
    if found.watcher.divergence is not None:
        return _other_way(trace, found.watcher.divergence.text())
    recorded = notes.get("status")
    if found.status is None:  # the record ends in the middle
        return recorded if recorded == EXIT_TIMED_OUT else 0
    if recorded is not None and found.status != recorded:
        return _other_way(trace, f"it ended with status {found.status}, not {recorded}")
    return found.status


def _other_way(trace: Trace, words: str) -> int:
    sys.stderr.write(f"minikernel: {trace.path}: the replay went another way than the recorded run: {words}\n")
    return EXIT_CANNOT


def _verify(trace: Trace, options: argparse.Namespace) -> int:
    from minikernel.rerun import verify_trace
    from minikernel.trace.header import config_from_json

    _warn_of_no_end(trace)
    config = None
    argv = options.argv[1:] if options.argv[:1] == ["--"] else options.argv
    if argv:
        config = replace(config_from_json(trace.header.get("config")), argv=tuple(map(os.fsencode, argv)))
    found = verify_trace(trace, live=True if options.host else None, config=config)
    watcher, notes = found.watcher, trace.notes or {}
    assert watcher is not None, "_verify: nothing was compared"
    for words in found.changed:
        print(f"note: {words}")
    if watcher.divergence is not None:
        print(watcher.divergence.text())
        for words in found.state:
            print(f"  differs: {words}")
        outside = notes.get("outside", trace.header.get("outside"))
        for reason in outside if isinstance(outside, list) else []:
            print(f"  note: when this was recorded, {reason}")
        return EXIT_DIFFERENT
    if found.status is not None and notes and found.status != notes.get("status"):
        print(f"the runs differ at their end: status {notes.get('status')}, now {found.status}")
        return EXIT_DIFFERENT
    print(f"the same: {watcher.events} events, {watcher.digests} digests")
    return EXIT_SAME
