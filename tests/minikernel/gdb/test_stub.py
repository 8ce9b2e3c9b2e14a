"""Packet by packet: what the stub answers, on both architectures."""

import re
from xml.etree import ElementTree as ET

import pytest

from minikernel.abi.signal import SIGKILL
from minikernel.gdb.points import clear_points
from minikernel.gdb.registers import layout
from tests.minikernel.gdb.talk import talk
from tests.minikernel.kdb.test_machine import left


def hexed(text: str) -> str:
    return text.encode().hex()


def test_features_are_negotiated(arch: str) -> None:
    with talk(arch) as client:
        offered = client("qSupported:multiprocess+;xmlRegisters=i386").split(";")
        assert {"PacketSize=20000", "multiprocess+", "QStartNoAckMode+", "qXfer:features:read+"} <= set(offered)
        assert {"QNonStop-", "fork-events+", "qXfer:siginfo:write+", "binary-upload+"} <= set(offered)
        assert "ReverseStep+" not in offered
        assert client("vMustReplyEmpty") == client("qNonsense") == client("QNonsense:1") == client("W") == ""
        assert client("QNonStop:0") == "OK"
        assert client("QNonStop:1").startswith("E")


def test_the_first_stop_names_the_first_process(arch: str) -> None:
    with talk(arch) as client:
        why = client("?")
        assert why.startswith("T05")
        assert why.endswith("thread:p2.2;core:0;")
        assert client("qC") == "QCp2.2"
        assert client("qfThreadInfo") == "mp2.2"
        assert client("qsThreadInfo") == "l"
        assert client("qAttached:2") == "0"
        assert client("Tp2.2") == "OK"
        assert client("Tp2.3") == "E03"


def test_the_target_description_has_every_register_of_g(arch: str) -> None:
    with talk(arch) as client:
        document = client("qXfer:features:read:target.xml:0,ffff")
        assert document[0] == "l"
        target = ET.fromstring(document[1:])
        sizes = [int(reg.attrib["bitsize"]) for reg in target.iter("reg")]
        numbers = [int(reg.attrib["regnum"]) for reg in target.iter("reg")]
        assert numbers == list(range(len(numbers)))
        assert len(client("g")) == sum(sizes) // 4
        assert target.findtext("architecture") == ("i386:x86-64" if arch == "x86-64" else "i386")
        assert client("qXfer:features:read:other.xml:0,ff").startswith("E")
        pieces = [client(f"qXfer:features:read:target.xml:{at:x},100") for at in range(0, len(document), 0x100)]
        assert "".join(piece[1:] for piece in pieces) == document[1:]
        assert {piece[0] for piece in pieces[:-1]} == {"m"}


def test_every_register_can_be_written_and_read_back(arch: str) -> None:
    with talk(arch) as client:
        client.at("main")
        abi = client.stub.task.abi
        unchanged = {"eflags", "cs", "ss", "ds", "es", "fs", "gs", "fstat", "ftag", "mxcsr", "fctrl", "fop"}
        unchanged |= {"fiseg", "fioff", "foseg", "fooff", "orig_eax", "orig_rax"}
        for register in layout(abi):
            if register.name in unchanged:
                continue
            value = bytes(range(1, register.size)) + b"\0" if register.bank != "base" else b"\1\2\3\4" + bytes(4)
            if register.name.startswith("st"):
                assert client(f"P{2 if register.size == 8 else 0:x}=zz") == "E01"
                value = bytes(7) + b"\x80\xff\x3f"  # 1.0
            assert client(f"P{register.number:x}={value.hex()}") == "OK", register
            assert client(f"p{register.number:x}") == value.hex(), register
        whole = client("g")
        assert client(f"G{whole}") == "OK"
        assert client("g") == whole


def test_flags_and_control_registers_take_what_a_program_may_set(arch: str) -> None:
    with talk(arch) as client:
        by_name = {register.name: register.number for register in layout(client.stub.task.abi)}
        flags = by_name["eflags"]
        assert client(f"P{flags:x}=ffffffff") == "OK"
        assert int.from_bytes(bytes.fromhex(client(f"p{flags:x}")), "little") & 0x3000 == 0  # not IOPL
        for name, value in (("mxcsr", "801f0000"), ("fctrl", "7f020000")):
            assert client(f"P{by_name[name]:x}={value}") == "OK"
            assert client(f"p{by_name[name]:x}") == value
        assert client(f"P{by_name['cs']:x}=10000000").startswith("E")
        assert client(f"P{by_name['ss']:x}=00000000").startswith("E")
        assert client("Pff=00") == client("p") == client("pffff") == "E01"


def test_memory_is_read_and_written_in_hexadecimal_and_binary(arch: str) -> None:
    with talk(arch) as client:
        text = client.symbol("text")
        assert client(f"m{text:x},5") == b"text\0".hex()
        assert client(f"M{text:x},2:{b'b$'.hex()}") == "OK"
        assert client(f"x{text:x},4") == "bb\x7d\x04xt"  # b, and b$ escaped
        assert client(b"X%x,3:a#}" % text) == "OK"
        assert client(f"m{text:x},3") == b"a#}".hex()
        assert client("m0,10").startswith("E")
        assert client("M0,1:00").startswith("E")
        assert client(f"M{text:x},2:00") == "E01"
        assert client(f"X{text:x},0:") == "OK"


def test_code_can_be_patched_and_the_copy_is_private(arch: str) -> None:
    with talk(arch) as client:
        leaf = client.symbol("leaf")
        before = client(f"m{leaf:x},1")
        assert client(f"M{leaf:x},1:c3") == "OK"  # it returns at once
        assert client(f"m{leaf:x},1") == "c3" != before
        assert client("vCont;c").startswith("W")
        assert client.kernel.exit_code == 0
    with talk(arch) as client:
        assert client(f"m{leaf:x},1") == before


def test_sums_and_searches(arch: str) -> None:
    with talk(arch) as client:
        text = client.symbol("text")
        client(f"M{text:x},9:{b'123456789'.hex()}")
        assert client(f"qCRC:{text:x},9") == "C376e6e7"  # CRC-32/MPEG-2's check value
        assert client("qCRC:0,4").startswith("E")
        assert client(b"qSearch:memory:%x;20;678" % text) == f"1,{text + 5:x}"
        assert client(b"qSearch:memory:%x;20;absent" % text) == "0"
        assert client(b"qSearch:memory:0;20;absent").startswith("E")
        assert client(b"qSearch:other:0;20;absent") == ""


def test_a_breakpoint_stops_in_front_of_its_instruction_each_time(arch: str) -> None:
    with talk(arch, "threads") as client:
        leaf = client.symbol("leaf")
        assert client(f"Z0,{leaf:x},1;X1,22") == "OK"  # a condition is not for us
        seen = []
        while (reply := client("vCont;c")).startswith("T05swbreak:;"):
            seen.append(re.findall("thread:p2.([0-9a-f]+);", reply)[0])
            assert client.stub.pc(client.stub.task) == leaf
            thread = f"p2.{seen[-1]}"
            assert client("vCont;c").startswith("T05swbreak:;thread"[:12])  # still there: nobody stepped over it
            client(f"z0,{leaf:x},1")
            assert client(f"vCont;s:{thread}").endswith(f"thread:{thread};core:0;")
            client(f"Z0,{leaf:x},1")
        assert sorted(seen) == ["3"] * 3 + ["4"] * 3
        assert reply == "W09;process:2"


def test_a_run_under_a_client_is_the_free_run(arch: str) -> None:
    """Breakpoints, steps over them, watchpoints, system calls, signals: to the last instruction and byte of RAM."""
    with talk(arch, "signal") as client:
        client("D;2")
        client.stub.control.run_free()
        expected = left(client.stub.session.machine)
    with talk(arch, "signal") as client:
        place = f"{client.symbol('on_usr1'):x}"
        client(f"Z0,{place},1")
        client(f"Z4,{client.symbol('counter'):x},4")
        client("QCatchSyscalls:1")
        client("qXfer:libraries-svr4:read::0,1000")
        stops = 0
        while (reply := client("vCont;c"))[0] == "T":
            stops += 1
            if "swbreak" in reply:
                client(f"z0,{place},1")
                assert client("vCont;s:p2.2").startswith("T05")
                client(f"Z0,{place},1")
            elif reply.startswith("T1e"):
                assert client("vCont;S1e:p2.2").startswith("T05")
            client("g")
        clear_points(client.stub.session.machine)
        assert left(client.stub.session.machine) == expected
        assert stops > 20


def test_one_thread_steps_while_the_others_are_held(arch: str) -> None:
    with talk(arch, "threads") as client:
        client.at("leaf")
        other = next(task for task in client.stub.control.all_threads() if task.pid not in {2, 3})
        before = bytes(other.context)
        for _ in range(20):
            assert client("vCont;s:p2.3").endswith("thread:p2.3;core:0;")
        assert bytes(other.context) == before
        assert client(f"vCont;s:p2.{other.pid:x};c").endswith(f"thread:p2.{other.pid:x};core:0;")


def test_a_thread_that_waits_for_one_that_is_held_says_so(arch: str) -> None:
    with talk(arch, "threads") as client:
        client.at("leaf")
        console, stop = client.replies("vCont;c:p2.2")  # it joins the others
        assert "waits for one that is held" in bytes.fromhex(console[1:]).decode()
        assert stop.startswith("T00")
        assert client("vCont;c") == "W09;process:2"


def test_a_call_that_a_thread_sleeps_in_is_made_again_when_its_registers_were_changed(arch: str) -> None:
    with talk(arch, "threads") as client:
        client.at("leaf")
        client("Hgp2.2")
        assert client("p0").startswith("00feff")  # -ERESTARTSYS
        number = client.kernel.tasks[2].orig_ax
        assert client(f"P1={client('p1')}") == "OK"
        assert client.kernel.tasks[2].blocked_call is None
        assert client.kernel.tasks[2].orig_ax == number
        assert client("vCont;c") == "W09;process:2"


def test_thread_local_variables_are_found(arch: str) -> None:
    with talk(arch, "threads") as client:
        client.at("leaf")
        at = {thread: int(client(f"qGetTLSAddr:p2.{thread},0,0"), 16) for thread in (2, 3)}
        values = {thread: client(f"m{address:x},40") for thread, address in at.items()}
        assert "03000000" in values[2]
        assert "0a000000" in values[3]
        assert client("qGetTLSAddr:p2.2,0,ffffffffffff0000").startswith("E")
        assert client("qGetTLSAddr:p2.2") == "E01"


def test_range_stepping_ends_outside_of_the_range(arch: str) -> None:
    with talk(arch) as client:
        client.at("leaf")
        leaf = client.symbol("leaf")
        reply = client(f"vCont;r{leaf:x},{leaf + 4:x}:p2.2;c")
        assert reply.startswith("T05")
        assert leaf + 4 <= client.stub.pc(client.stub.task) < leaf + 32


def test_watchpoints_of_three_kinds(arch: str) -> None:
    with talk(arch) as client:
        guarded = client.symbol("guarded")
        assert client(f"Z3,{guarded:x},4") == "OK"
        assert f"rwatch:{guarded:x};" in client("vCont;c")
        assert client(f"z3,{guarded:x},4") == "OK"
        assert client(f"Z2,{guarded:x},4") == "OK"
        assert f"T05watch:{guarded:x};" in client("vCont;c")
        assert client(f"m{guarded:x},4") == "0c000000"
        assert client(f"z2,{guarded:x},4") == "OK"
        assert client(f"Z4,{guarded:x},4") == "OK"
        assert f"awatch:{guarded:x};" in client("vCont;c")  # printf's argument
        assert client(f"z4,{guarded:x},4") == "OK"
        assert client(f"Z2,{guarded:x},0") == "E01"
        assert client(f"Z5,{guarded:x},4") == ""
        assert client("vCont;c").startswith("W02")


@pytest.mark.parametrize("verdict", ["deliver", "forget", "replace"])
def test_a_signal_is_the_clients_to_deliver(arch: str, verdict: str) -> None:
    with talk(arch, "signal") as client:
        assert client("vCont;c").startswith("T1e")  # SIGUSR1, as gdb counts
        info = client("qXfer:siginfo:read::0,80")
        assert info[:5] == "l\x0a\0\0\0"
        assert client({"deliver": "vCont;C1e:p2.2", "forget": "vCont;c", "replace": "vCont;C09:p2.2"}[verdict]) == {
            "deliver": "W0a;process:2", "forget": "W00;process:2", "replace": "X09;process:2",
        }[verdict]  # fmt: skip


def test_a_handler_runs_before_the_breakpoint_where_its_signal_came(arch: str) -> None:
    with talk(arch, "signal") as client:
        assert client("vCont;c").startswith("T1e")
        client(f"Z0,{client.stub.pc(client.stub.task):x},1")
        assert client("vCont;C1e:p2.2").startswith("T05swbreak")
        assert client(f"m{client.symbol('counter'):x},4") == "0a000000"
        assert client("vCont;c").startswith("T05swbreak")


def test_what_may_pass_does_not_stop(arch: str) -> None:
    with talk(arch, "signal") as client:
        assert client("QPassSignals:e;10;14;1e") == "OK"
        assert client("vCont;c") == "W0a;process:2"


def test_siginfo_of_a_fault_can_be_read_and_changed(arch: str) -> None:
    with talk(arch, "segv") as client:
        assert client("vCont;c").startswith("T0b")
        at = 16 if arch == "x86-64" else 12
        assert client(f"qXfer:siginfo:read::{at:x},4") == "m\x10\0\0\0"
        assert client(b"qXfer:siginfo:write::%x:\x20\0\0\0" % at) == "4"
        assert client(f"qXfer:siginfo:read::{at:x},4") == "m\x20\0\0\0"
        assert client("vCont;C0b:p2.2") == "X0b;process:2"


def test_system_calls_stop_at_their_entry_and_at_their_return(arch: str) -> None:
    write = 1 if arch == "x86-64" else 4
    orig = {"x86-64": 57, "i386": 41}[arch]
    with talk(arch) as client:
        assert client(f"QCatchSyscalls:1;{write:x}") == "OK"
        assert f"syscall_entry:{write:x};" in client("vCont;c")
        number = bytes.fromhex(client(f"p{orig:x}"))
        assert int.from_bytes(number, "little") == write
        assert client("p0")[:2] == "da"  # -ENOSYS, as under ptrace
        assert f"syscall_return:{write:x};" in client("vCont;c")
        assert client("QCatchSyscalls:0") == "OK"
        assert client("QCatchSyscalls:2") == "E01"
        assert client("vCont;c").startswith("W02")


def test_a_system_call_can_be_replaced_at_its_entry(arch: str) -> None:
    """What write(2) is kept from doing it has not done: printf fails, and nothing else happens."""
    write, orig = (1, 57) if arch == "x86-64" else (4, 41)
    with talk(arch) as client:
        client(f"QCatchSyscalls:1;{write:x}")
        client("vCont;c")
        assert client(f"P{orig:x}={'ff' * (8 if arch == 'x86-64' else 4)}") == "OK"
        client("QCatchSyscalls:0")
        assert client("vCont;c").startswith("W02")


def test_a_fork_gives_a_second_process(arch: str) -> None:
    with talk(arch, "fork") as client:
        reply = client("vCont;c:p2.-1")
        assert "fork:p3.3;" in reply
        assert client("qfThreadInfo") == "mp2.2,p3.3"
        assert client("qAttached:3") == "0"
        client("Hgp3.3")
        counter = client.symbol("counter")
        assert client(f"Z0,{client.symbol('in_child'):x},1") == "OK"
        assert client("vCont;c:p3.-1").endswith("thread:p3.3;core:0;")
        client(f"z0,{client.symbol('in_child'):x},1")
        client(f"M{counter:x},4:05000000")
        client("Hgp2.2")
        assert client(f"m{counter:x},4") == "00000000"
        assert client("vCont;c") == "W07;process:3"
        assert client("vCont;c") == "W07;process:2"
        assert client("qfThreadInfo") == "l"
        assert client("?").startswith("W07")
        assert client("vCont;c").startswith("E")


def test_a_child_that_is_let_go_runs_by_itself(arch: str) -> None:
    with talk(arch, "fork") as client:
        assert "fork:p3.3;" in client("vCont;c")
        assert client("D;3") == "OK"
        assert client("D;3") == client("D;99") == "E03"
        assert client("vCont;c") == "W07;process:2"


def test_vfork_exec_and_their_end(arch: str) -> None:
    with talk(arch, "exec") as client:
        assert "vfork:p3.3;" in client("vCont;c")
        assert client("D;2") == "OK"
        program = bytes(client.program).hex()
        reply = client("vCont;c:p3.-1")
        assert f"exec:{program};" in reply
        assert client("qXfer:exec-file:read:3:0,fff") == f"l{client.program}"
        assert client("vCont;c") == "W09;process:3"


def test_the_parent_of_a_vfork_hears_when_it_is_over(arch: str) -> None:
    with talk(arch, "exec") as client:
        assert "vfork:p3.3;" in client("vCont;c")
        assert client("D;3") == "OK"
        assert client("vCont;c").startswith("T05vforkdone:;")
        assert client("vCont;c").startswith("W09")


def test_a_process_is_killed(arch: str) -> None:
    with talk(arch, "fork") as client:
        client("vCont;c")
        assert client("vKill;3") == "OK"
        assert client("vCont;c") == "W00;process:2"
    with talk(arch) as client:
        assert client("vKill;2") == "OK"
        assert client.kernel.exit_code == SIGKILL
        assert client("vKill;2").startswith("E")
    with talk(arch) as client:
        assert client.replies("k") == []
        assert client.kernel.exit_code == SIGKILL


def test_extended_mode_runs_again_and_attaches(arch: str) -> None:
    with talk(arch) as client:
        assert client("!") == "OK"
        assert client("vCont;c").startswith("W02")
        assert client(f"vRun;;{hexed('exit')}").endswith("thread:p2.2;core:0;")
        assert client("vCont;c") == "W09;process:2"
        assert client("vRun;").startswith("T05")
        assert client("vCont;c") == "W09;process:2"
        client(f"vRun;;{hexed('fork')}")
        client("vCont;c")
        client("D;3")
        assert client("vAttach;3").startswith("T00")
        assert client("qAttached:3") == "1"
        assert client("vAttach;3") == client("vAttach;77") == "E03"


def test_documents_about_the_machine(arch: str) -> None:
    with talk(arch, "threads") as client:
        client.at("leaf")
        threads = ET.fromstring(client("qXfer:threads:read::0,ffff")[1:])
        assert [thread.attrib["id"] for thread in threads] == ["p2.2", "p2.3", "p2.4"]
        name = client.program.name[:15]
        assert {thread.attrib["name"] for thread in threads} == {name}
        processes = ET.fromstring(client("qXfer:osdata:read:processes:0,ffff")[1:])
        rows = [{column.attrib["name"]: column.text for column in item} for item in processes]
        assert rows[-1] == {"pid": "2", "user": rows[-1]["user"], "command": name, "cores": "0"}
        assert len(ET.fromstring(client("qXfer:osdata:read:threads:0,ffff")[1:])) >= 3
        assert client("qXfer:osdata:read:nonsense:0,ff").startswith("E")
        memory = ET.fromstring(client("qXfer:memory-map:read::0,ffff")[1:].partition("\n")[2])
        assert memory[0].attrib["type"] == "ram"
        word = 8 if arch == "x86-64" else 4
        vector = client("qXfer:auxv:read::0,ffff").encode("latin-1")[1:]
        assert vector.endswith(bytes(word))
        assert client("qXfer:nonsense:read::0,ff") == ""
        assert client("qThreadExtraInfo,p2.2").endswith(hexed("sleeping in a system call"))
        assert client("qOffsets") == "Text=0;Data=0;Bss=0"
        assert client("qSymbol::") == "OK"


def test_monitor_runs_the_kernel_commands(arch: str) -> None:
    with talk(arch) as client:
        said = bytes.fromhex(client(f"qRcmd,{hexed('ps')}")).decode()
        assert client.program.name[:15] in said
        said = bytes.fromhex(client(f"qRcmd,{hexed('vmmap')}")).decode()
        assert "[stack]" in said
        for line in (
            "continue",
            "shell echo",
            "goto start",
            "source x",
            "dump memory x 0 1",
            "save x",
            "quit",
            "set $x = 1",
        ):
            assert "not for monitor" in bytes.fromhex(client(f"qRcmd,{hexed(line)}")).decode(), line
        assert client("vCont;c").startswith("W02")
        assert "MemTotal" in bytes.fromhex(client(f"qRcmd,{hexed('meminfo')}")).decode()
        assert "Undefined command" in bytes.fromhex(client(f"qRcmd,{hexed('frobnicate')}")).decode()
        assert client("qRcmd,zz") == "E01"


def test_older_packets_step_and_continue(arch: str) -> None:
    with talk(arch) as client:
        assert client("Hcp2.2") == "OK"
        assert client("s").startswith("T05")
        assert client("S00").startswith("T05")
        assert client("Hc-1") == "OK"
        assert client(f"c{client.stub.pc(client.stub.task):x}").startswith("W02")
