"""The views of the kernel's own memory have Linux's shape and the machine's figures."""

import re
from pathlib import Path

import pytest

from emu.x86 import PAGE_SIZE
from minikernel.abi.abi import X86_64
from minikernel.abi.errno import LinuxError
from minikernel.fs.namei import lookup_at
from minikernel.procfs.buddyinfo import extfrag_index, pagetypeinfo, unusable_index
from minikernel.procfs.mount import procfs
from minikernel.procfs.slabinfo import iomem, slabinfo, vmallocinfo
from tests.minikernel.machine import run_and_audit, shell
from tests.minikernel.syscalls.file_calls import Emulated

LINE = re.compile(r"([a-z][\w-]*) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) : tunables +0 +0 +0 : slabdata +(\d+) +(\d+) +0")


@pytest.fixture
def ours(tmp_path: Path) -> Emulated:
    emulated = Emulated(X86_64, bytes(tmp_path))
    emulated.vfs.mount_at(b"/proc", procfs(emulated.caller.kernel))
    return emulated


def test_slabinfo_is_what_the_caches_say(ours: Emulated) -> None:
    kernel = ours.caller.kernel
    slab = kernel.node.slab
    held = slab.kmalloc_cache(100).alloc_bulk(40)
    version, header, *lines = slabinfo(kernel).decode().splitlines()

    assert version == "slabinfo - version: 2.1"
    assert header.startswith("# name ")
    rows = {found[1]: [int(word) for word in found.groups()[1:]] for line in lines if (found := LINE.fullmatch(line))}
    assert list(rows) == list(slab.caches)[::-1]
    for name, (active, total, size, per_slab, pages, slabs, _) in rows.items():
        cache = slab.caches[name]
        assert cache.nr_in_use <= active <= total == slabs * per_slab, name
        assert per_slab == pages * PAGE_SIZE // size, name
    assert rows["kmalloc-128"][:3] == [64, 64, 128]
    slab.kmalloc_cache(100).free_bulk(held)


def test_vmallocinfo_names_who_asked(ours: Emulated) -> None:
    kernel = ours.caller.kernel
    vmalloc = kernel.kernel_half.vmalloc
    address = vmalloc.vmalloc(3 * PAGE_SIZE, "test")
    frame = vmalloc.vmalloc_to_page(address)
    vmalloc.vmap([frame], "other")
    lines = vmallocinfo(kernel).decode().splitlines()

    assert lines[-2] == f"0x{address:016x}-0x{address + 4 * PAGE_SIZE:016x}   16384 test pages=3 vmalloc N0=3"
    assert lines[-1].endswith("    8192 other pages=1 vmap")


def test_iomem_shows_all_of_ram(ours: Emulated) -> None:
    end = 0
    for line in iomem(ours.caller.kernel).decode().splitlines():
        found = re.fullmatch(r"([0-9a-f]{8})-([0-9a-f]{8}) : (System RAM|Reserved)", line)
        assert found, line
        assert int(found[1], 16) == end
        end = int(found[2], 16) + 1
    assert end == ours.caller.kernel.physmem.size


def test_only_root_reads_them(ours: Emulated) -> None:
    for name in (b"/proc/slabinfo", b"/proc/vmallocinfo"):
        task = ours.caller.task
        assert lookup_at(task.fs, task.cred, name).inode.mode & 0o777 == 0o400


@pytest.mark.slow
def test_tools_read_them(tmp_path: Path) -> None:
    script = "slabtop -o | grep -c task_struct; vmstat -m | grep -c dentry; grep -E '^(S|KernelSt)' /proc/meminfo"
    ended = run_and_audit(shell(script, tmp_path))
    tops, vmstat, *meminfo = ended.stdout.decode().splitlines()

    assert (tops, vmstat) == ("1", "1")
    rows = {name: int(size) for name, size in re.findall(r"(\w+): +(\d+) kB", "\n".join(meminfo))}
    assert rows["Slab"] == rows["SReclaimable"] + rows["SUnreclaim"] > 100
    assert rows["KernelStack"] >= 32


def test_dropping_caches_gives_names_back(tmp_path: Path) -> None:
    script = (
        "ls -lR /usr/share/terminfo /etc/default >/dev/null; grep ^dentry /proc/slabinfo;"
        "echo 2 > /proc/sys/vm/drop_caches; grep ^dentry /proc/slabinfo"
    )
    ended = run_and_audit(shell(script, tmp_path))
    before, after = (int(line.split()[2]) for line in ended.stdout.decode().splitlines())
    assert after < before


def test_a_bad_word_for_drop_caches_is_refused(ours: Emulated) -> None:
    from minikernel.procfs.sysctl import _drop_caches

    with pytest.raises(LinuxError, match="EINVAL"):
        _drop_caches(ours.caller.kernel, b"5\n")


def test_pagetypeinfo_has_the_shape_of_the_host_s(ours: Emulated) -> None:
    """Titles and columns; the host's zones and numbers are its own."""
    node = ours.caller.kernel.node
    ours_lines = pagetypeinfo(ours.caller.kernel).decode().splitlines()
    shapes = [re.sub(r"\d+", "N", re.sub(r" +", " ", line)) for line in ours_lines]
    zone = "Node N, zone DMA, type Movable" + " N" * 11 + " "
    assert shapes[:4] == [
        "Page block order: N", "Pages per block: N", "",
        "Free pages count per migrate type at order" + " N" * 11 + " ",
    ]  # fmt: skip
    assert zone in shapes
    assert (
        shapes[-2 - shapes[::-1].index("Number of blocks type Unmovable Movable Reclaimable HighAtomic Isolate ")] == ""
    )
    free = sum(
        int(count) << order
        for line in ours_lines
        if ", type" in line
        for order, count in enumerate(line.split("type")[1].split()[1:])
    )
    assert free == sum(zone.buddy.nr_free for zone in node.zones)


def test_the_indices_are_fractions(ours: Emulated) -> None:
    kernel = ours.caller.kernel
    assert re.match(rb"Node 0, zone      DMA -1\.000 -1\.000 ", extfrag_index(kernel))
    assert re.match(rb"Node 0, zone      DMA 0\.000 0\.\d{3} ", unusable_index(kernel))
