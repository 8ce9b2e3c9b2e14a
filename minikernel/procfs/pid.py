"""/proc/PID.  Linux: fs/proc/base.c, fs/proc/fd.c."""

from collections.abc import Callable
from typing import Final

from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.dentry import Path, d_path
from minikernel.fs.file import OpenFile
from minikernel.fs.inode import Inode
from minikernel.procfs import maps, pid_mem, pid_more, pid_text
from minikernel.procfs.access import check_access, owner_of, ptrace_may_access
from minikernel.procfs.clear_refs import clear_refs, read_refused
from minikernel.procfs.net import net_dir
from minikernel.procfs.node import ProcDir, ProcFs, ProcLink, ProcText
from minikernel.task.task import Task

_INO_SHIFT: Final = 12  # numbers of a process's entries: above its own
_FD_BASE: Final = 0x1000_0000  # and of its descriptors

_Maker = Callable[[Task], bytes]


def _private(make: _Maker) -> _Maker:
    """*make*, for those who may look into the process."""

    def checked(task: Task) -> bytes:
        check_access(task)
        return make(task)

    return checked


# Name -> text and mode; tid_base_stuff and tgid_base_stuff of fs/proc/base.c.
_TEXTS: Final[tuple[tuple[bytes, _Maker, int], ...]] = (
    (b"cmdline", pid_text.cmdline, 0o444),
    (b"environ", _private(pid_text.environ), 0o400),
    (b"auxv", _private(pid_text.auxv), 0o400),
    (b"status", pid_text.status, 0o444),
    (b"statm", pid_text.statm, 0o444),
    (b"limits", pid_text.limits, 0o444),
    (b"maps", _private(maps.maps), 0o444),
    (b"smaps", _private(maps.smaps), 0o444),
    (b"smaps_rollup", _private(maps.smaps_rollup), 0o444),
    (b"numa_maps", _private(pid_more.numa_maps), 0o444),
    (b"personality", _private(pid_text.personality), 0o400),
    (b"syscall", _private(pid_more.syscall), 0o400),
    (b"wchan", lambda t: pid_more.wchan(t) if ptrace_may_access(t.kernel.current, t) else b"0", 0o444),
    (b"cgroup", lambda _: b"0::/\n", 0o444),
    (b"cpuset", lambda _: b"/\n", 0o444),
    (b"oom_score", pid_more.oom_score, 0o444),
    (b"schedstat", pid_more.schedstat, 0o444),
    (b"timerslack_ns", pid_more.timerslack_ns, 0o666),
    (b"coredump_filter", lambda _: b"00000033\n", 0o644),
    (b"uid_map", pid_more.id_map, 0o644),
    (b"gid_map", pid_more.id_map, 0o644),
    (b"projid_map", pid_more.id_map, 0o644),
    (b"setgroups", lambda _: b"allow\n", 0o644),
    (b"loginuid", lambda _: b"4294967295", 0o644),
    (b"sessionid", lambda _: b"4294967295", 0o444),
    (b"mounts", pid_text.mounts, 0o444),
    (b"mountinfo", pid_text.mountinfo, 0o444),
)


def pid_dir(sb: ProcFs, task: Task) -> ProcDir:
    """The directory of *task*."""
    return _Pid(sb, task, threads=True).directory(task.pid << _INO_SHIFT)


class _Pid:
    """The entries of one task's directory."""

    __slots__ = ("owner", "sb", "task", "threads")

    def __init__(self, sb: ProcFs, task: Task, *, threads: bool) -> None:
        self.sb = sb
        self.task = task
        self.threads = threads
        self.owner = owner_of(task)

    def directory(self, ino: int) -> ProcDir:
        """The directory itself."""
        makers = self._makers(ino)

        def find(name: bytes) -> Inode | None:
            maker = makers.get(name)
            return None if maker is None else maker()

        return ProcDir(self.sb, ino, find, lambda: list(makers), owner=self.owner)

    def _makers(self, base: int) -> dict[bytes, Callable[[], Inode]]:
        makers: dict[bytes, Callable[[], Inode]] = {}
        for number, (name, make, mode) in enumerate(_TEXTS, 1):
            makers[name] = self._text_maker(base + number, make, mode)
        at = base + len(_TEXTS) + 1
        io = _private(pid_text.tgid_io if self.threads else pid_text.io)
        makers[b"io"] = self._text_maker(at + 12, io, 0o400)
        makers[b"stat"] = self._text_maker(at + 11, pid_text.tgid_stat if self.threads else pid_text.stat, 0o444)
        makers[b"comm"] = lambda: ProcText(
            self.sb, at, lambda: pid_text.comm(self.task), mode=0o644, owner=self.owner, store=self._set_comm
        )
        for name, ino, get, put in (
            (b"oom_score_adj", at + 1, pid_more.oom_score_adj, pid_more.set_oom_score_adj),
            (b"oom_adj", at + 10, pid_more.oom_adj, pid_more.set_oom_adj),
        ):
            makers[name] = self._knob_maker(ino, get, put)
        makers[b"clear_refs"] = self._knob_maker(at + 13, read_refused, clear_refs, mode=0o200)
        makers[b"mem"] = lambda: pid_mem.ProcPidMem(self.sb, at + 2, self.task, self.owner, pagemap=False)
        makers[b"pagemap"] = lambda: pid_mem.ProcPidMem(self.sb, at + 3, self.task, self.owner, pagemap=True)
        makers[b"exe"] = lambda: self._link(at + 4, self._exe)
        makers[b"cwd"] = lambda: self._link(at + 5, lambda: self.task.fs.cwd)
        makers[b"root"] = lambda: self._link(at + 6, lambda: self.task.fs.root)
        makers[b"fd"] = lambda: ProcDir(self.sb, at + 7, self._find_fd, self._fd_names, mode=0o500, owner=self.owner)
        makers[b"fdinfo"] = lambda: ProcDir(
            self.sb, at + 8, self._find_fdinfo, self._fd_names, mode=0o555, owner=self.owner
        )
        makers[b"net"] = lambda: net_dir(self.sb, self.task.kernel)
        if self.threads:
            makers[b"task"] = lambda: ProcDir(self.sb, at + 9, self._find_thread, self._thread_names, owner=self.owner)
        return makers

    def _text_maker(self, ino: int, make: _Maker, mode: int) -> Callable[[], Inode]:
        return lambda: ProcText(self.sb, ino, lambda: make(self.task), mode=mode, owner=self.owner)

    def _knob_maker(
        self, ino: int, get: _Maker, put: Callable[[Task, bytes], None], *, mode: int = 0o644
    ) -> Callable[[], Inode]:
        return lambda: ProcText(
            self.sb,
            ino,
            lambda: get(self.task),
            mode=mode,
            owner=self.owner,
            store=lambda data: put(self.task, data),
        )

    def _set_comm(self, data: bytes) -> None:
        self.task.set_comm(data.removesuffix(b"\n"))

    # Links

    def _link(self, ino: int, place: Callable[[], Path], mode: int = 0o777) -> ProcLink:
        """A magic link to *place*, shown as the reader sees it."""

        def checked() -> Path:
            check_access(self.task)
            return place()

        return ProcLink(self.sb, ino, lambda: self._seen(checked()), mode=mode, owner=self.owner, place=checked)

    def _seen(self, path: Path) -> bytes:
        reader = self.task.kernel.current
        return d_path(path, reader.fs.root if reader is not None else None)

    def _exe(self) -> Path:
        file = self.task.mm.exe_file if self.task.has_mm else None
        if not isinstance(file, OpenFile):
            raise LinuxError(Errno.ENOENT, "the task runs no file")
        return file.f_path

    # Descriptors

    def _fd_names(self) -> list[bytes]:
        return [b"%d" % fd for fd in self.task.files.open_fds()]

    def _file(self, name: bytes) -> tuple[int, OpenFile] | None:
        if not name.isdigit() or (name[:1] == b"0" and name != b"0"):
            return None
        try:
            return int(name), self.task.files.get_raw(int(name))
        except LinuxError:
            return None

    def _find_fd(self, name: bytes) -> Inode | None:
        found = self._file(name)
        if found is None:
            return None
        fd, file = found
        mode = (0o500 if file.readable else 0) | (0o300 if file.writable else 0)
        return self._link(_FD_BASE + (self.task.pid << _INO_SHIFT) + fd, lambda: file.f_path, mode)

    def _find_fdinfo(self, name: bytes) -> Inode | None:
        found = self._file(name)
        if found is None:
            return None
        fd, file = found
        return ProcText(
            self.sb,
            2 * _FD_BASE + (self.task.pid << _INO_SHIFT) + fd,
            lambda: pid_text.fdinfo(file, cloexec=fd in self.task.files.cloexec),
            owner=self.owner,
        )

    # Threads

    def _thread_names(self) -> list[bytes]:
        return [b"%d" % thread.pid for thread in self.task.process.threads]

    def _find_thread(self, name: bytes) -> Inode | None:
        for thread in self.task.process.threads:
            if b"%d" % thread.pid == name:
                return _Pid(self.sb, thread, threads=False).directory(3 * _FD_BASE + (thread.pid << _INO_SHIFT))
        return None
