"""Every fault of every guest program is explained: ``make explain-all``.

``python -m tests.explain_all [PATTERN...]`` takes those whose name has one of the patterns.  Each program runs on each
machine that it is for, as in tests/guest; ``Auditor`` says what is checked.  The tests do the same with a few programs.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

from guest.builder import ROOT, Target, programs, targets, try_build
from guest.native import guest_environment, run
from minikernel.boot import System
from minikernel.entry import Deadlock, InstructionLimit, TimeLimit
from tests.guest.test_guest import MACHINES, suits
from tests.minikernel.report.auditor import Auditor

_LIMIT = 300.0  # seconds of one program


def audit(words: list[str], report: Path) -> None:
    """Run as ``minikernel run`` would be told to by *words*; what the auditor found goes to *report*."""
    from minikernel.__main__ import _config, _parser

    options = _parser().parse_args(words)
    with System(_config(options)) as system:
        auditor = Auditor(system.kernel)
        system.kernel.tracer.sink = auditor
        system.exec_init()
        try:
            system.run()
        except (Deadlock, InstructionLimit, TimeLimit) as error:
            print(error, file=sys.stderr)
        system.kernel.tracer.sink = None
    report.write_text(json.dumps({"problems": auditor.problems, "ends": dict(auditor.ends)}))


def check(target: Target, options: tuple[str, ...]) -> tuple[list[str], Counter[str]]:
    """What is wrong with *target* on one machine, and how its faults ended."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    with tempfile.TemporaryDirectory() as cwd, tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        command = [
            *(sys.executable, "-m", "tests.explain_all", "--child", str(report), "run", *options),
            *(*target.program.memory, "--clear-env"),
            *(word for name, value in guest_environment(target).items() for word in ("--env", f"{name}={value}")),
            *("--", str(target.path), *target.program.words("args")),
        ]
        done = run(command, target, Path(cwd), timeout=_LIMIT, environment=environment)
        if not report.exists():
            return [f"no report: status {done.status}\n{done.stderr.decode(errors='replace')[-2000:]}"], Counter()
        found = json.loads(report.read_text())
    return found["problems"], Counter(found["ends"])


def main() -> int:
    """The command line; 1 if a fault was not explained."""
    if sys.argv[1:2] == ["--child"]:
        audit(sys.argv[3:], Path(sys.argv[2]))
        return 0
    parser = argparse.ArgumentParser(description="Explain every fault of every guest program.")
    parser.add_argument("patterns", nargs="*", help="part of a name such as i386/mm/mremap")
    wanted = parser.parse_args().patterns
    chosen = [
        target
        for target in targets(programs())
        if not wanted or any(pattern in target.id for pattern in wanted)
    ]  # fmt: skip
    broken = try_build(chosen)
    bad = False
    total: Counter[str] = Counter()
    for target in chosen:
        for machine, options in MACHINES[target.arch].items():
            if target.id in broken or not suits(target, machine):
                continue
            problems, ends = check(target, options)
            total += ends
            print(f"{target.id}-{machine}: {sum(ends.values())} faults, {len(problems)} problems", flush=True)
            for problem in problems[:5]:
                print(f"    {problem}")
            bad = bad or bool(problems)
    print(f"{sum(total.values()):,} faults: {', '.join(f'{count:,} {end}' for end, count in total.most_common())}")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
