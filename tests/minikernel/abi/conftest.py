"""What the C compiler says about the kernel's own headers: numbers and struct layouts, for both ABIs."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HEADERS = """
#include <stddef.h>
#include <linux/types.h>
#include <linux/time.h>
#include <linux/time_types.h>
#include <linux/resource.h>
#include <linux/sysinfo.h>
#include <linux/utsname.h>
#include <linux/prctl.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <linux/rseq.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/sched/types.h>
#include <linux/mempolicy.h>
#include <linux/wait.h>
#include <linux/poll.h>
#include <linux/ipc.h>
#include <linux/shm.h>
#include <asm/prctl.h>
#include <asm/ldt.h>
#include <asm/mman.h>
#include <asm/signal.h>
#include <asm/siginfo.h>
"""

Ask = Callable[[str, list[str]], dict[str, int]]
FLAGS = {"x86-64": "-m64", "i386": "-m32"}


@pytest.fixture(scope="session")
def ask_compiler(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """A function (ABI, C expressions) -> the low 32 bits of their values; one that is an undefined macro is left out.

    Nothing is linked or run: the values are read from the assembler text, as Kbuild reads its asm-offsets.
    """
    compiler = shutil.which("gcc")
    if compiler is None or not Path("/usr/include/linux/rseq.h").exists():
        pytest.skip("no gcc, or no kernel headers, to compare with")

    def ask(abi: str, expressions: list[str]) -> dict[str, int]:
        lines = []
        for index, expression in enumerate(expressions):
            known = f"#ifdef {expression}\n" if expression.isidentifier() and expression.isupper() else "#if 1\n"
            lines.append(known + f'asm volatile("->{index} %c0" :: "i"((int)({expression})));\n#endif\n')
        source = tmp_path_factory.mktemp("ask") / "ask.c"
        source.write_text(HEADERS + "void ask(void) {\n" + "".join(lines) + "}\n")
        command = [compiler, FLAGS[abi], "-w", "-O1", "-fno-pic", "-S", "-o", "-", str(source)]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return {expressions[int(i)]: int(value) for i, value in re.findall(r"->(\d+) \$?(-?\d+)", text)}

    return ask
