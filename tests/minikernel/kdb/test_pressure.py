"""The debugger's commands for memory pressure, on a machine that swaps."""

import re
from collections.abc import Callable, Iterator

import pytest

from guest.builder import GUEST, Target, build_all, read_program
from minikernel.boot import System
from minikernel.config import Config, Swap
from minikernel.events import Sink, Tracer
from minikernel.kdb import shell
from minikernel.kdb.session import Session
from minikernel.kernel import Kernel
from tests.minikernel.kdb.test_machine import nowhere

Asks = Callable[[str], str]


def start(swap: tuple[Swap, ...]) -> tuple[Session, list[str]]:
    target = Target(read_program(GUEST / "pressure" / "thrash.c"), "x86-64", "static")
    build_all([target])
    config = Config(argv=(bytes(target.path),), ram=8 << 20, swap=swap, sysctls=(("vm.overcommit_memory", "1"),))

    def launch(listen: Callable[[Kernel], Sink]) -> System:
        system = System(config, Tracer())
        system.kernel.tracer.sink = listen(system.kernel)
        system.__enter__()
        system.exec_init()
        return system

    printed: list[str] = []
    assert shell.ROOMS, "importing it makes the commands known"
    return Session(launch, printed.append), printed


@pytest.fixture(scope="module")
def ask() -> Iterator[Asks]:
    """Says a command and gives the answer; the program has just had a page read back from swap."""
    with nowhere():
        session, printed = start((Swap(size=32 << 20),))

        def say(line: str) -> str:
            printed.clear()
            session.execute(line)
            return "".join(text if text.endswith("\n") else text + "\n" for text in printed)

        say("catch fault swap_in")
        assert "read back from slot" in say("run")
        yield say
        session.close()


def test_swap(ask: Asks) -> None:
    assert re.search(r"area 0: /dev/swap0, priority -2, [\d,]+ of 8,191 slots in use", ask("swap"))
    assert re.search(r"[\d,]+ pages written, \d+ read back", ask("swap"))
    slots = ask("swap 0")
    assert re.search(r"^slot \d+: 1 reference, cached in frame 0x", slots, re.MULTILINE)
    assert re.search(r"\.\.\. and [\d,]+ slots more", slots)
    assert "No swap area 7: there are 0." in ask("swap 7")


def test_lists(ask: Asks) -> None:
    text = ask("lru")
    assert text.startswith("policy two-list: ")
    assert [line.split()[0] for line in text.splitlines()[1:]] == [
        *("inactive_anon", "active_anon", "inactive_file", "active_file", "unevictable")
    ]
    assert re.match(r"frame 0x[0-9a-f]+: anonymous memory", ask("lru inactive_anon"))
    assert "No list cold" in ask("lru cold")


def test_what_reclaim_has_done(ask: Asks) -> None:
    text = ask("pressure")
    assert re.search(r"zone DMA\s+[\d,]+ free frames: ", text)
    assert re.search(r"pages taken: [\d,]+ by kswapd, [\d,]+ by direct", text)
    assert "processes killed: 0" in text


def test_a_fault_is_explained_with_its_slot(ask: Asks) -> None:
    text = ask("explain last")
    assert re.search(r"PTE\S* +at 0x[0-9a-f]+: [0-9a-f]+ +not present; the kernel's: in swap, area 0, slot \d+", text)
    assert re.search(r"decision +read back from slot \d+ of /dev/swap0", text)
    assert "decided by do_swap_page (minikernel/mm/swap_fault.py)" in text


def test_an_address_in_swap_is_foreseen(ask: Asks) -> None:
    """The page that was written first, the one reclaimed first."""
    assert re.search(r"not present: slot \d+ of /dev/swap0", in_swap(ask))


def in_swap(ask: Asks) -> str:
    """What pte says of the first address in swap."""
    for line in ask("vmmap").splitlines():
        match = re.match(r"\W*(0x[0-9a-f]+) (0x[0-9a-f]+) rw-p", line)
        for address in range(int(match[1], 16), int(match[2], 16), 4096) if match else ():
            answer = ask(f"pte {address:#x}")
            if "not present: slot" in answer:
                return answer
    return ""


def test_without_swap_there_is_nothing_to_show() -> None:
    with nowhere():
        session, printed = start(())
        session.execute("run")
        session.execute("swap")
        assert any("There is no swap: start with --swap SIZE." in text for text in printed)
        session.close()
