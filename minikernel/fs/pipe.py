"""Pipes and FIFOs.

A pipe counts buffers of one page, as Linux does: a write fills up the last buffer only if that was not full,
so many small writes and one large one have the same room (pipe_write merges).

Linux: fs/pipe.c, include/linux/pipe_fs_i.h.
"""

from collections import deque
from typing import Any, Final

from emu.x86 import Pfn
from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.fcntl import O_ACCMODE, O_DIRECT, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY
from minikernel.abi.ioctl import FIONREAD
from minikernel.abi.poll import POLLERR, POLLHUP, READABLE, WRITABLE
from minikernel.abi.stat import S_IFIFO
from minikernel.fs.dentry import Path
from minikernel.fs.file import BrokenPipe, OpenFile, WouldBlock
from minikernel.fs.inode import Inode, SuperBlock
from minikernel.mm.gfp import GFP_KERNEL
from minikernel.mm.page import PG_kernel
from minikernel.mm.page_alloc import Node
from minikernel.wait import WaitQueue

PIPE_BUF: Final = 4096
PIPE_DEF_BUFFERS: Final = 16
PIPE_MAX_SIZE: Final = 1 << 20
_PAGE: Final = 4096
_SPARE_FRAMES: Final = 2
_INFO_WORDS: Final = 20  # struct pipe_inode_info, in kernel words
_BUFFER_WORDS: Final = 5  # struct pipe_buffer


class Pipe:
    """The bytes between writers and readers: struct pipe_inode_info.

    Invariants:
        - ``length`` is the sum of the buffers' lengths, less the *head* bytes that were read of the first one;
        - no buffer is empty or longer than a page, and *head* is less than the first one's length;
        - there are at most ``max_buffers`` buffers;
        - ``frames`` has a frame of RAM for each buffer, and up to two more (tmp_page): what pipes hold is memory
          of the machine's, although the bytes are ours;
        - while it is open it has two pieces of kernel memory, for itself and for the list of its buffers.
    """

    __slots__ = (
        "_memory",
        "_node",
        "buffers",
        "frames",
        "head",
        "length",
        "max_buffers",
        "opened_read",
        "opened_write",
        "packets",
        "readable",
        "readers",
        "writable",
        "writers",
    )

    def __init__(self, node: Node) -> None:
        self._node = node
        self._memory: list[int] = []  # of kmalloc
        self.frames: list[Pfn] = []
        self.buffers: deque[bytes] = deque()
        self.packets: deque[bool] = deque()  # whether the buffer of the same index is a packet (O_DIRECT)
        self.head = 0
        self.length = 0
        self.max_buffers = PIPE_DEF_BUFFERS
        self.readers = 0
        self.writers = 0
        self.opened_read = 0  # r_counter, w_counter: how often each end was opened
        self.opened_write = 0
        self.readable = WaitQueue()  # readers wait here, and openers for writing
        self.writable = WaitQueue()  # writers wait here, and openers for reading

    def hold(self) -> None:
        """Somebody opens it: it needs its memory (alloc_pipe_info).  Errors: ENOMEM."""
        if self._memory:
            return
        slab = self._node.slab
        self._memory.append(slab.kmalloc(_INFO_WORDS * slab.word))
        try:
            self._memory.append(slab.kmalloc(self.max_buffers * _BUFFER_WORDS * slab.word))
        except LinuxError:
            self._release_memory()
            raise

    def _release_memory(self) -> None:
        for address in self._memory:
            self._node.slab.kfree(address)
        self._memory.clear()

    def _has_frame(self) -> bool:
        """Whether there is memory for one more buffer."""
        if len(self.frames) > len(self.buffers):
            return True
        pfn = self._node.alloc_page(GFP_KERNEL)
        if pfn is None:
            return False
        self._node.mem_map.flags[pfn] |= PG_kernel
        self.frames.append(pfn)
        return True

    def _append(self, part: bytes, *, packet: bool = False) -> bool:
        """One more buffer; False without memory for it, or room."""
        if len(self.buffers) >= self.max_buffers or not self._has_frame():
            return False
        self.buffers.append(part)
        self.packets.append(packet)
        self.length += len(part)
        return True

    def _free_frames(self, keep: int) -> None:
        """Give back the frames that nothing needs, but for *keep*."""
        while len(self.frames) > len(self.buffers) + keep:
            self._node.put_page(self.frames.pop())

    def clear(self) -> None:
        """Nobody has the pipe open any more: what it holds is gone (free_pipe_info)."""
        self.buffers.clear()
        self.packets.clear()
        self.head = self.length = 0
        self._free_frames(0)
        self._release_memory()

    def drop_unused(self) -> None:
        """Forget everything if nobody has the pipe open."""
        if not self.readers and not self.writers:
            self.clear()

    def take(self, count: int) -> bytes:
        """Up to *count* bytes from the front; a packet ends the read and loses its rest."""
        parts: list[bytes] = []
        left = count
        was_full = len(self.buffers) >= self.max_buffers
        while left and self.buffers:
            buffer = self.buffers[0]
            part = buffer[self.head : self.head + left]
            parts.append(part)
            left -= len(part)
            self.head += len(part)
            self.length -= len(part)
            packet = self.packets[0]
            if packet or self.head == len(buffer):
                self.length -= len(buffer) - self.head
                self.buffers.popleft()
                self.packets.popleft()
                self.head = 0
            if packet:
                break
        if len(self.frames) > len(self.buffers) + _SPARE_FRAMES:
            self._free_frames(_SPARE_FRAMES)
        if was_full and len(self.buffers) < self.max_buffers:
            self.writable.wake(key=WRITABLE)
        return b"".join(parts)

    def splice_to(self, target: "Pipe", size: int, *, keep: bool) -> int:
        """Up to *size* bytes go to *target*, buffer by buffer, and with *keep* stay here too; how many bytes.

        Linux: fs/splice.c (splice_pipe_to_pipe, link_pipe).
        """
        moved = 0
        skip = self.head
        for buffer in list(self.buffers):
            part = buffer[skip : skip + size - moved]
            skip = 0
            if not part or not target._append(part):
                break
            moved += len(part)
        if not keep:
            self.take(moved)
        if moved:
            target.readable.wake(key=READABLE)
        return moved

    def put_back(self, data: bytes) -> None:
        """Bytes that a reader took and could not store return to the front."""
        if self.head:
            data += self.buffers.popleft()[self.head :]
            self.packets.popleft()
            self.head = 0
        for start in range((len(data) - 1) // _PAGE * _PAGE, -1, -_PAGE):
            self.buffers.appendleft(data[start : start + _PAGE])
            self.packets.appendleft(False)
        self.length = sum(len(buffer) for buffer in self.buffers)

    def _fits_last(self, size: int) -> bool:
        """Whether *size* bytes can join the last buffer; what was read of it keeps its place in the page."""
        return bool(self.buffers) and not self.packets[-1] and len(self.buffers[-1]) + size <= _PAGE

    def store(self, data: bytes, *, packet: bool) -> int:
        """Store as much of *data* as there is room for; how many bytes."""
        done = 0
        # Linux puts the part that does not fill whole pages into the last buffer, if all of it fits there.
        head = len(data) % _PAGE
        if head and not packet and self._fits_last(head):
            self.buffers[-1] += data[:head]
            self.length += head
            done = head
        while done < len(data):
            part = data[done : done + _PAGE]
            if not self._append(part, packet=packet):
                break
            done += len(part)
        if not done and len(self.buffers) < self.max_buffers:
            raise LinuxError(Errno.ENOMEM, "no frame for the pipe")
        if done:
            self.readable.wake(key=READABLE)
        return done

    def store_pages(self, data: bytes, first: int) -> int:
        """Store what there is room for of *data*, pages of a file of which the first has *first* bytes; how much."""
        done = 0
        while done < len(data):
            part = data[done : done + (_PAGE if done else first)]
            if not self._append(part):
                break
            done += len(part)
        if done:
            self.readable.wake(key=READABLE)
        return done

    def fits(self, size: int) -> bool:
        """Whether *size* bytes (at most PIPE_BUF) can be stored at once."""
        return len(self.buffers) < self.max_buffers or (size < _PAGE and self._fits_last(size))

    def resize(self, size: int) -> int:
        """F_SETPIPE_SZ: room for *size* bytes, rounded up to a power of two of pages.

        Errors:
            EBUSY: it holds more.  EINVAL: more than 2 GiB.  ENOMEM.
        """
        if size > 1 << 31:
            raise LinuxError(Errno.EINVAL, "a pipe of more than 2 GiB")
        buffers = 1
        while buffers * _PAGE < size:
            buffers *= 2
        if buffers < len(self.buffers):
            raise LinuxError(Errno.EBUSY, "the pipe holds more")
        if self._memory and buffers != self.max_buffers:
            slab = self._node.slab
            address = slab.kmalloc(buffers * _BUFFER_WORDS * slab.word)
            slab.kfree(self._memory[1])
            self._memory[1] = address
        grown = buffers > self.max_buffers
        self.max_buffers = buffers
        if grown:
            self.writable.wake()
        return buffers * _PAGE


class PipeInode(Inode):
    """The inode of a pipe without a name; opened again through /proc/PID/fd it is the same pipe."""

    __slots__ = ("pipe",)

    def __init__(self, sb: SuperBlock, ino: int) -> None:
        super().__init__(sb, ino, S_IFIFO | 0o600)
        self.pipe = Pipe(sb.services.node)

    def put(self) -> None:
        """The last end was closed: the inode has no name that keeps it."""
        if not self.open_count:
            self.free_object()

    def open(self, path: Path, flags: int) -> OpenFile:
        """One more end."""
        return open_fifo(path, flags, self.pipe)


class PipeFile(OpenFile):
    """One end of a pipe, or both (a FIFO opened with O_RDWR)."""

    __slots__ = ("pipe",)

    def __init__(self, path: Path, flags: int, pipe: Pipe) -> None:
        """Errors: ENOMEM."""
        pipe.hold()
        try:
            super().__init__(path, flags)
        except LinuxError:
            pipe.drop_unused()
            raise
        self.pipe = pipe
        if self.readable:
            pipe.readers += 1
            pipe.opened_read += 1
        if self.writable:
            pipe.writers += 1
            pipe.opened_write += 1

    def release(self) -> None:
        """An end is closed: the other side learns it."""
        pipe = self.pipe
        pipe.readers -= self.readable
        pipe.writers -= self.writable
        pipe.drop_unused()
        pipe.readable.wake()
        pipe.writable.wake()

    def read(self, count: int) -> bytes:
        """Bytes from the pipe; b"" when it is empty and has no writers."""
        pipe = self.pipe
        if not count:
            return b""
        if pipe.buffers:
            return pipe.take(count)
        if not pipe.writers:
            return b""
        raise WouldBlock(pipe.readable, "the pipe is empty")

    def unread(self, data: bytes) -> None:
        """Put back."""
        self.pipe.put_back(data)

    def write(self, data: bytes) -> int:
        """Bytes into the pipe: up to PIPE_BUF all or none, more in parts."""
        pipe = self.pipe
        if not data:
            return 0
        if not pipe.readers:
            raise BrokenPipe("nobody reads")
        if len(data) <= PIPE_BUF and not pipe.fits(len(data)):
            raise WouldBlock(pipe.writable, "the pipe is full")
        done = pipe.store(data, packet=bool(self.flags & O_DIRECT))
        if not done:
            raise WouldBlock(pipe.writable, "the pipe is full")
        return done

    def poll(self) -> int:
        """pipe_poll."""
        pipe = self.pipe
        mask = 0
        if self.readable:
            if pipe.buffers:
                mask |= READABLE
            if not pipe.writers and pipe.opened_write:
                mask |= POLLHUP
        if self.writable:
            if len(pipe.buffers) < pipe.max_buffers:
                mask |= WRITABLE
            if not pipe.readers:
                mask |= POLLERR
        return mask

    def poll_queues(self) -> tuple[WaitQueue, ...]:
        """Those of its directions."""
        pipe = self.pipe
        return ((pipe.readable,) if self.readable else ()) + ((pipe.writable,) if self.writable else ())

    def ioctl(self, task: Any, request: int, arg: int) -> int:
        """FIONREAD: bytes in the pipe."""
        if request != FIONREAD:
            return super().ioctl(task, request, arg)
        from minikernel.mm.uaccess import copy_to_user

        copy_to_user(task.mm, arg, self.pipe.length.to_bytes(4, "little"))
        return 0


def open_fifo(path: Path, flags: int, pipe: Pipe) -> OpenFile:
    """fifo_open, as far as it goes without waiting.

    The file is made even if the other end is missing: ``fifo_wait`` says whether, and where, to wait for it.

    Errors:
        ENXIO: for writing, without waiting, and nobody reads.
    """
    mode = flags & O_ACCMODE
    if mode == O_WRONLY and flags & O_NONBLOCK and not pipe.readers and not isinstance(path.inode, PipeInode):
        raise LinuxError(Errno.ENXIO, "nobody reads the FIFO")
    file = PipeFile(path, flags, pipe)
    if mode in {O_RDONLY, O_RDWR}:
        pipe.writable.wake()
    if mode in {O_WRONLY, O_RDWR}:
        pipe.readable.wake()
    return file


def fifo_wait(file: OpenFile, opened: int) -> WaitQueue | None:
    """Where the opener of a FIFO waits for the other end; None if it need not, as with a pipe without a name.

    *opened* is how often the other end had been opened when the wait began (r_counter, w_counter).
    """
    if not isinstance(file, PipeFile) or file.readable == file.writable or isinstance(file.inode, PipeInode):
        return None
    pipe = file.pipe
    if file.readable:
        if pipe.writers or file.flags & O_NONBLOCK or pipe.opened_write != opened:
            return None
        return pipe.readable
    return None if pipe.readers or pipe.opened_read != opened else pipe.writable


def other_end_opened(file: OpenFile) -> int:
    """How often the other end of *file* was opened so far."""
    if not isinstance(file, PipeFile):
        return 0
    return file.pipe.opened_write if file.readable else file.pipe.opened_read
