"""/proc: what it lists, what links lead to, and texts whose shape programs parse."""

import os
import re
from pathlib import Path

import pytest

from minikernel.abi.abi import I386, X86_64
from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.open import do_open
from minikernel.procfs import maps, pid_text
from minikernel.procfs.mount import procfs
from tests.minikernel.machine import run_and_audit, shell
from tests.minikernel.syscalls.file_calls import Emulated


@pytest.fixture
def ours(tmp_path: Path) -> Emulated:
    """A machine with one task, /proc mounted."""
    (tmp_path / "file").write_bytes(b"content")
    emulated = Emulated(X86_64, bytes(tmp_path))
    emulated.vfs.mount_at(b"/proc", procfs(emulated.caller.kernel))
    emulated.caller.task.set_comm(b"te st)")
    return emulated


def read(ours: Emulated, name: bytes) -> bytes:
    """The whole text of *name*."""
    task = ours.caller.task
    file = do_open(task.fs, task.cred, name, os.O_RDONLY)
    data = file.read(1 << 20)
    file.put_file()
    return data


def listing(ours: Emulated, name: bytes) -> list[bytes]:
    """The names in directory *name*."""
    task = ours.caller.task
    file = do_open(task.fs, task.cred, name, os.O_RDONLY | os.O_DIRECTORY)
    names = [entry for entry, _, _ in file.read_dir()]
    file.put_file()
    return names


def readlink(ours: Emulated, name: bytes) -> bytes:
    """Where link *name* points."""
    length = ours.call("readlink", ours.put(name + b"\0"), ours.memory() + 4096, 200)
    assert length > 0
    return ours.get(length, 4096)


def test_self_is_the_reader(ours: Emulated) -> None:
    assert readlink(ours, b"/proc/self") == b"1"
    assert b"1" in listing(ours, b"/proc")
    assert read(ours, b"/proc/self/comm") == b"te st)\n"


def test_descriptors_are_magic_links(ours: Emulated) -> None:
    """They lead to the file itself: also when its name is gone, and for a pipe, which never had one."""
    fd = ours.call("open", ours.put(b"/file\0"), os.O_RDWR, 0)
    assert ours.call("unlink", ours.put(b"/file\0")) == 0
    ours.call("pipe2", ours.memory(), 0)
    reader, writer = ours.caller.words(2)
    ours.call("write", writer, ours.put(b"in the pipe"), 11)

    assert listing(ours, b"/proc/self/fd")[2:] == [b"%d" % n for n in (fd, reader, writer)]
    assert readlink(ours, b"/proc/self/fd/%d" % fd) == b"/file (deleted)"
    assert readlink(ours, b"/proc/self/fd/%d" % reader).startswith(b"pipe:[")
    assert read(ours, b"/proc/self/fd/%d" % fd) == b"content"
    assert read(ours, b"/proc/self/fd/%d" % reader) == b"in the pipe"
    assert b"pos:\t0\nflags:\t0100002\n" in read(ours, b"/proc/self/fdinfo/%d" % fd)


def test_root_and_cwd_lead_to_the_tasks_own(ours: Emulated) -> None:
    assert ours.call("mkdir", ours.put(b"/jail\0"), 0o755) == 0
    assert ours.call("chroot", ours.put(b"/jail\0")) == 0

    assert ours.caller.task.fs.root.dentry.name == b"jail"
    assert ours.call("chdir", ours.put(b"/\0")) == 0
    with pytest.raises(LinuxError):
        read(ours, b"/proc/self/root/../file")


def test_a_task_that_is_not_there_has_no_directory(ours: Emulated) -> None:
    for name in (b"/proc/999", b"/proc/01", b"/proc/1x"):
        with pytest.raises(LinuxError) as caught:
            listing(ours, name)
        assert caught.value.errno == Errno.ENOENT


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        (b"/proc/uptime", rb"\d+\.\d\d \d+\.\d\d\n"),
        (b"/proc/loadavg", rb"(\d+\.\d\d ){3}\d+/\d+ \d+\n"),
        (b"/proc/version", rb"Linux version [\d.]+ .*\n"),
        (b"/proc/stat", rb"cpu  (\d+ ){9}\d+\ncpu0 (?s:.*)btime \d+\n(?s:.*)"),
        (b"/proc/meminfo", rb"MemTotal: +\d+ kB\nMemFree: +\d+ kB\nMemAvailable: +\d+ kB\n(?s:.*)"),
        (b"/proc/mounts", rb"/dev/root / ext4 rw,noatime 0 0\n(?s:.*)proc /proc proc rw,relatime 0 0\n"),
        (b"/proc/self/statm", rb"(\d+ ){6}\d+\n"),
        (b"/proc/self/limits", rb"Limit +Soft Limit +Hard Limit +Units +\n(?s:.*)"),
        (b"/proc/self/status", rb"Name:\tte st\)\nUmask:\t0022\nState:\tR \(running\)\n(?s:.*)"),
        (b"/proc/sys/kernel/random/uuid", rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\n"),
        (b"/proc/sys/vm/overcommit_memory", rb"0\n"),
        (b"/proc/self/mountinfo", rb"\d+ 0 \d+:\d+ / / rw,noatime - ext4 /dev/root rw\n(?s:.*)"),
    ],
)
def test_texts_have_the_shape_that_programs_parse(ours: Emulated, name: bytes, pattern: bytes) -> None:
    assert re.fullmatch(pattern, read(ours, name))


def test_stat_has_52_fields_after_the_name(ours: Emulated) -> None:
    """The name may hold spaces and parentheses: programs look for the last one."""
    text = pid_text.stat(ours.caller.task)
    rest = text.rpartition(b")")[2].split()

    assert text.startswith(b"1 (te st)) R ")
    assert len(rest) == 50


def test_status_has_the_hosts_fields_in_the_hosts_order(ours: Emulated) -> None:
    """All that we show, the host shows too, in the same order."""
    theirs = [line.split(b":")[0] for line in Path("/proc/self/status").read_bytes().splitlines()]
    mine = [line.split(b":")[0] for line in pid_text.status(ours.caller.task).splitlines()]

    assert [name for name in theirs if name in mine] == mine


def test_meminfo_has_the_hosts_fields_in_the_hosts_order(ours: Emulated) -> None:
    theirs = [line.split(b":")[0] for line in Path("/proc/meminfo").read_bytes().splitlines()]
    mine = [line.split(b":")[0] for line in read(ours, b"/proc/meminfo").splitlines()]

    assert [name for name in theirs if name in mine] == [name for name in mine if name in theirs]


def test_maps_lines_look_like_the_hosts(ours: Emulated) -> None:
    line = re.compile(
        rb"[0-9a-f]{8,16}-[0-9a-f]{8,16} [r-][w-][x-][ps] [0-9a-f]{8,} [0-9a-f]{2,}:[0-9a-f]{2,} \d+ *(.*)"
    )
    fd = ours.call("open", ours.put(b"/file\0"), os.O_RDONLY, 0)
    assert ours.call("mmap", 0, 4096, 1, 2, fd, 0) > 0
    mine = maps.maps(ours.caller.task).splitlines()
    theirs = Path("/proc/self/maps").read_bytes().splitlines()

    assert all(line.fullmatch(text) for text in mine + theirs)
    named = next(text for text in mine if text.endswith(b"/file"))
    assert named.index(b"/file") == next(text for text in theirs if b"/" in text).index(b"/")
    assert b" r--p " in named


def test_smaps_sums_what_is_mapped(ours: Emulated) -> None:
    ours.put(b"x" * 5000)
    text = maps.smaps(ours.caller.task)
    theirs = re.findall(rb"^(\w+):", Path("/proc/self/smaps").read_bytes().split(b"VmFlags")[0], re.MULTILINE)

    assert re.findall(rb"^(\w+):", text.split(b"VmFlags")[0], re.MULTILINE) == theirs
    assert re.search(rb"^Rss: +8 kB$", text, re.MULTILINE)
    assert b"[rollup]" in maps.smaps_rollup(ours.caller.task)


def test_memory_is_read_and_written_at_its_addresses(ours: Emulated) -> None:
    at = ours.put(b"before")
    task = ours.caller.task
    file = do_open(task.fs, task.cred, b"/proc/self/mem", os.O_RDWR)

    assert file.pread(6, at) == b"before"
    assert file.pwrite(b"after!", at) == 6
    assert ours.get(6) == b"after!"
    with pytest.raises(LinuxError) as caught:
        file.pread(10, 0x10)
    assert caught.value.errno == Errno.EIO
    file.put_file()


def test_pagemap_tells_the_frame(ours: Emulated) -> None:
    at = ours.put(b"x")
    task = ours.caller.task
    file = do_open(task.fs, task.cred, b"/proc/self/pagemap", os.O_RDONLY)
    entry = int.from_bytes(file.pread(8, at // 4096 * 8), "little")

    assert entry >> 63
    assert ours.caller.kernel.physmem.read((entry & ((1 << 55) - 1)) << 12, 1) == b"x"  # type: ignore[arg-type]
    assert file.pread(8, 8) == bytes(8)
    file.put_file()


def test_knobs_are_checked(ours: Emulated) -> None:
    task, kernel = ours.caller.task, ours.caller.kernel
    file = do_open(task.fs, task.cred, b"/proc/sys/vm/overcommit_memory", os.O_WRONLY)
    file.write(b"2\n")
    assert kernel.vm_sysctl.overcommit_memory == 2
    for bad in (b"3", b"x", b"-1"):
        with pytest.raises(LinuxError) as caught:
            file.write(bad)
        assert caught.value.errno == Errno.EINVAL
    file.put_file()
    with pytest.raises(LinuxError) as caught:
        do_open(task.fs, ours.caller.add_task(2, X86_64, 1000).cred, b"/proc/sys/kernel/hostname", os.O_WRONLY)
    assert caught.value.errno == Errno.EACCES


def test_i386_machine_aligns_maps_for_its_own_width(tmp_path: Path) -> None:
    emulated = Emulated(I386, bytes(tmp_path))

    assert maps.maps(emulated.caller.task)


def test_every_file_can_be_read(ours: Emulated) -> None:
    """No text of /proc fails, for a task with and without memory."""
    task = ours.caller.task
    done = 0
    pending = [b"/proc"]
    while pending:
        name = pending.pop()
        for entry in listing(ours, name)[2:]:
            path = name + b"/" + entry
            inode = do_open(task.fs, task.cred, path, os.O_PATH | os.O_NOFOLLOW).inode
            if inode.is_dir:
                pending.append(path)
            elif inode.is_reg and entry not in {b"mem", b"pagemap"} and inode.mode & 0o444:
                read(ours, path)
                done += 1
    assert done > 80


def test_what_is_private_of_a_process_is_hidden_from_another_user(tmp_path: Path) -> None:
    """environ, maps, mem and the links are for the owner and for CAP_SYS_PTRACE; stat and status are for all."""
    script = """
        sleep 5 & p=$!
        setpriv --reuid 1000 --regid 1000 --clear-groups /bin/sh -c "
            for f in maps mem environ auxv syscall smaps; do cat /proc/$p/\\$f >/dev/null 2>&1 && echo \\$f; done
            readlink /proc/$p/exe /proc/$p/cwd; cat /proc/$p/wchan; echo
            cut -d' ' -f2,3,26-28 /proc/$p/stat; grep Name /proc/$p/status; ls /proc/self/fd >/dev/null && echo mine"
        cat /proc/$p/wchan; readlink /proc/$p/exe; kill $p
    """
    ended = run_and_audit(shell(script, tmp_path))
    assert ended.stdout == b"0\n(sleep) S 1 1 0\nName:\tsleep\nmine\nhrtimer_nanosleep/usr/bin/sleep\n"


def test_oom_score_adj_is_inherited_and_checked(tmp_path: Path) -> None:
    script = """
        echo 500 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj /proc/self/oom_adj
        echo 1001 2>/dev/null > /proc/self/oom_score_adj || echo refused
        echo -17 > /proc/self/oom_adj; cat /proc/self/oom_score_adj /proc/self/oom_score
    """
    assert run_and_audit(shell(script, tmp_path)).stdout == b"500\n8\nrefused\n-1000\n0\n"


def test_procps_reads_the_machine(tmp_path: Path) -> None:
    """ps, free, vmstat, top, pmap, pgrep, uptime and w find what they look for, and complain about nothing."""
    script = """
        ps -eo pid,ppid,stat,comm; pgrep -l sh; free | grep -c :; vmstat | wc -l; top -bn1 | grep -c Tasks
        pmap $$ | grep -c 'stack'; uptime | grep -c average; w | wc -l; ps aux | wc -l; ps -ef | wc -l
        vmstat -s | grep -c memory; pmap -X $$ | tail -1 | wc -w
    """
    ended = run_and_audit(shell(script, tmp_path))
    lines = ended.stdout.splitlines()
    assert lines[0].split() == [b"PID", b"PPID", b"STAT", b"COMMAND"]
    assert [line.split()[-1] for line in lines[1:3]] == [b"sh", b"ps"]
    assert lines[3].endswith(b" sh")
    assert lines[4:11] == [b"2", b"3", b"1", b"2", b"1", b"2", b"4"]
    assert ended.stderr == b""


def test_knobs_keep_what_they_are_told_and_caches_can_be_dropped(tmp_path: Path) -> None:
    script = """
        cd /proc/sys/vm; echo 10 > swappiness; cat swappiness; echo 201 2>/dev/null > swappiness || cat swappiness
        cat /usr/bin/bash > /dev/null; before=$(awk '/^Cached/ { print $2 }' /proc/meminfo)
        echo 3 > drop_caches; after=$(awk '/^Cached/ { print $2 }' /proc/meminfo)
        [ $after -lt $((before - 900)) ] && echo dropped; stat -c %a drop_caches
    """
    assert run_and_audit(shell(script, tmp_path)).stdout == b"10\n10\ndropped\n200\n"


def test_processor_time_of_tasks_that_have_ended_counts(tmp_path: Path) -> None:
    script = (
        "(i=0; while [ $i -lt 6000 ]; do i=$((i+1)); done); read c u n s i r < /proc/stat; [ $u -gt 3 ] && echo yes"
    )
    assert run_and_audit(shell(script, tmp_path)).stdout == b"yes\n"


def test_io_counts_what_calls_moved(ours: Emulated) -> None:
    """Calls on descriptors that are not open do not count; a blocked one does when it is over."""
    null = ours.call("open", ours.put(b"/dev/null\0"), os.O_RDWR, 0)
    ours.call("write", null, ours.memory(), 1000)
    ours.call("write", 99, ours.memory(), 10)
    ours.call("read", null, ours.memory(), 10)
    fd = ours.call("open", ours.put(b"/file\0"), os.O_RDONLY, 0)
    ours.call("pread64", fd, ours.memory(), 5, 2)

    assert read(ours, b"/proc/self/io").startswith(b"rchar: 5\nwchar: 1000\nsyscr: 2\nsyscw: 1\nread_bytes: 0\n")
