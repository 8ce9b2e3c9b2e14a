"""Set-user-id programs, file capabilities, ambient capabilities: as on the host, whose root runs the same scripts."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from minikernel.abi.capability import CAP_VALID_MASK
from tests.minikernel.machine import run_and_audit, shell

# The program that gets privileges, and what it shows: its status, and AT_UID .. AT_SECURE of its auxiliary vector.
_COPY = """
    umask 022; mkdir prog; chmod 755 . prog; cp /usr/bin/grep prog/show
    cp /usr/bin/od prog/od; cp /usr/bin/readlink prog/rl
    show() { "$@" prog/show -E '^(Uid|Gid|Cap(Inh|Prm|Eff|Amb)|NoNew)' /proc/self/status || echo failed; }
    secure() { "$@" prog/od -A n -t d8 -w16 -v /proc/self/auxv | grep -E '^ +(11|12|13|14|23) '; }
    user="setpriv --reuid 1000 --regid 1000 --clear-groups"
"""
_CASES = {
    "a user": "show $user",
    "root": "show env",
    "set-user-id": "chmod 4755 prog/*; show $user; secure $user",
    "set-group-id": "chgrp 7 prog/*; chmod 2755 prog/*; show $user; secure $user; show env; secure env",
    "set-group-id without x": "chgrp 7 prog/*; chmod 2745 prog/*; show $user; secure $user",
    "both, of another": "chown 5:6 prog/*; chmod 6755 prog/*; show $user; secure $user; show env; secure env",
    "no_new_privs": "chmod 6755 prog/*; show $user --no-new-privs; secure $user --no-new-privs",
    "file capabilities": "setcap cap_net_raw,cap_kill+ep prog/*; show $user; secure $user; show env",
    "inheritable": "setcap cap_kill+ei prog/*; show $user --inh-caps +kill; show $user",
    "not effective": "setcap cap_kill+p prog/*; show $user; secure $user",
    "bounded": "setcap cap_kill+ep prog/*; show $user --bounding-set -kill; setcap cap_kill+p prog/*;"
    " show $user --bounding-set -kill",
    "file capabilities and set-user-id": "chmod 4755 prog/*; setcap cap_kill+ep prog/*; show $user; secure $user",
    "ambient": "show $user --inh-caps +kill,+chown --ambient-caps +kill,+chown; chmod 2755 prog/*; chgrp 7 prog/show;"
    " chmod 2755 prog/show; show $user --inh-caps +kill --ambient-caps +kill",
    "noroot": "show setpriv --securebits +noroot; chmod 4755 prog/*; show $user --securebits +noroot",
    "a script has its interpreter's rights": "printf '#!/bin/sh\\nid -u\\n' > prog/sc; chmod 4755 prog/sc;"
    " $user prog/sc",
    "unreadable": "chmod 0711 prog/*; $user prog/rl /proc/self/exe | sed 's,.*/,,'; $user prog/od -N 4 /proc/self/auxv",
}


@pytest.mark.parametrize("case", _CASES)
def test_privileges_as_on_the_host(tmp_path: Path, case: str) -> None:
    if os.geteuid():
        pytest.skip("the host's oracle needs root")
    tmp_path.chmod(0o755)
    script = _COPY + _CASES[case]
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder in (mine, theirs):
        folder.mkdir()
    for parent in (tmp_path.parent, tmp_path.parent.parent):
        parent.chmod(0o755)
    environment = {"PATH": "/usr/sbin:/usr/bin:/bin", "LANG": "C"}
    native = subprocess.run(
        ["/bin/sh", "-c", script],
        cwd=theirs,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    ended = run_and_audit(shell("PATH=/usr/sbin:$PATH;" + script, mine))

    # The host may withhold capabilities from us.
    held = re.search(r"^CapBnd:\t(.*)", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert held is not None
    assert ended.stdout.decode().replace(f"{CAP_VALID_MASK:016x}", held[1]) == native.stdout.decode()
