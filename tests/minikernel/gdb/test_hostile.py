"""Whatever a client sends, there is an answer, and the machine is as sound as before."""

import os
import random
from typing import Final

import pytest

from tests.minikernel.gdb.talk import FEATURES, talk

SEEDS: Final = range(int(os.environ.get("GDB_SEEDS", "3")))
PACKETS: Final = 400
TEXT: Final = 0x4C0000  # somewhere in the program
WORDS: Final = (
    *("?", "!", "g", "G", "Gzz", "p0", "p10", "P0=", "P0=0000000000000000", "P11=ffffffff", "Hgp2.2", "Hgp0.0", "Hc-1"),
    *(
        "Hg-1",
        "Hgp2.-1",
        "Tp2.2",
        "T",
        "m",
        "m0,4",
        "M0,1:00",
        "X",
        "x0,10",
        "vCont",
        "vCont;",
        "vCont;s",
        "vCont;s:p2.2",
    ),
    *("vCont;r0,ffffffffffffffff", "vCont;r", "vCont;C1e:p2.2", "vCont;Sff", "vCont;t", "vCont?", "vFile:open:2f,0,0"),
    *("vFile:pread:0,ffff,0", "vFile:pread:0,1,ffffffffffffffff", "vFile:close:0", "vFile:fstat:0", "vFile:setfs:2"),
    *("vFile:readlink:2f70726f632f322f657865", "vFile:open:2f70726f632f322f6d617073,0,0", "vFile:open:00,0,0"),
    *("vFile:unlink:2f746d70", "vFile:pwrite:0,0,x", "vFile:open", "vFile:nonsense", "vFile:setfs:ffffff", "vAttach;2"),
    *("vRun;", "vRun;zz", "vRun;2f6e6f7768657265", "vKill;7", "D;7", "qSupported", "qSupported:x=;+;-;multiprocess+"),
    *(
        "qXfer:features:read:target.xml:0,ffffffff",
        "qXfer:auxv:read::ffffffff,10",
        "qXfer:auxv:read",
        "qXfer:",
        "qXfer",
    ),
    *(
        "qXfer:siginfo:write::ffff:xx",
        "qXfer:libraries-svr4:read:start=ffffffffffffffff;prev=q:0,100",
        "qRcmd,",
        "qRcmd,7073",
    ),
    *(
        "qXfer:exec-file:read:ffff:0,10",
        "qXfer:osdata:read::0,10",
        "qCRC:0,ffffffffffffffff",
        "qSearch:memory:0;1;",
        "qC",
    ),
    *(
        "qRcmd,00ff",
        "qThreadExtraInfo,p9.9",
        "qOffsets",
        "QPassSignals:",
        "QPassSignals:zz",
        "QCatchSyscalls:1",
        "s",
        "c0",
    ),
    *(
        "QCatchSyscalls:0",
        "QNonStop:1",
        "QThreadEvents:9",
        "Z0,400000,1",
        "Z2,400000,ffffffff",
        "Z9,1,1",
        "z0,0,0",
        "Z",
        "S",
        "C",
    ),
    *(
        "D",
        "k",
        "R00",
        "bs",
        "bc",
        "b",
        "qfThreadInfo",
        "qsThreadInfo",
        "qAttached:",
        "qAttached:99",
        "",
        "v",
        "q",
        "Q",
        "\xff",
    ),
)


def packet(chance: random.Random) -> bytes:
    """A packet that is right, almost right, or nothing at all."""
    word = chance.choice(WORDS).encode("latin-1")
    match chance.randrange(6):
        case 0:
            return bytes(chance.randrange(256) for _ in range(chance.randrange(40)))
        case 1:
            cut = chance.randrange(len(word) + 1)
            return word[:cut] + bytes((chance.randrange(256),)) + word[cut + 1 :]
        case 2:
            return word + chance.choice(WORDS).encode("latin-1")
        case 3:
            return b"%s%x,%x" % (chance.choice([b"m", b"x", b"Z0,", b"Z2,"]), TEXT, chance.randrange(1 << 20))
        case _:
            return word


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_no_packet_does_harm(seed: int) -> None:
    chance = random.Random(seed)
    with talk(
        "x86-64" if seed % 2 else "i386", chance.choice(["library", "threads", "fork", "signal", "exec"])
    ) as client:
        for _ in range(PACKETS):
            payload = packet(chance) if client.kernel.exit_code is None else b"vRun;"
            for reply in client.stub.handle(payload):
                assert isinstance(reply, bytes)
            if not client.stub.client.inferiors and client.stub.is_alive:
                client.stub.connected()
        client.stub.handle(b"vRun;")
        client.stub.connected()
        client(FEATURES)
        assert client("?").startswith("T05")
        assert "fork:" in (last := client("vCont;c")) or last[0] in "WT"
