"""One message, or a piece of a stream, in a socket's queue, and the memory that it takes.

Linux: struct sk_buff (include/linux/skbuff.h, net/core/skbuff.c), sock_alloc_send_pskb (net/core/sock.c).
"""

from typing import TYPE_CHECKING, Final

from emu.x86 import PAGE_SIZE, Pfn
from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.file import OpenFile
from minikernel.mm.gfp import GFP_KERNEL
from minikernel.mm.page import PG_kernel
from minikernel.mm.page_alloc import Node
from minikernel.mm.slab_layout import KMALLOC_MAX_CACHE_SIZE, KMALLOC_SIZES

if TYPE_CHECKING:
    from minikernel.net.sock import Sock

SKB_BYTES: Final = 256  # sizeof(struct sk_buff), in whole cache lines
SHARED_INFO_BYTES: Final = 320  # sizeof(struct skb_shared_info), likewise
_LINE: Final = 64
MAX_HEAD: Final = PAGE_SIZE - SHARED_INFO_BYTES  # SKB_MAX_HEAD(0)
MAX_ALLOC: Final = 4 * PAGE_SIZE - SHARED_INFO_BYTES  # SKB_MAX_ALLOC
_MAX_FRAGS: Final = 17

Creds = tuple[int, int, int]
"""Who sent a message, or who is at the other end: process id, user, group."""


class Scm:
    """What goes along with a message: struct scm_cookie.  It holds a reference of each file."""

    __slots__ = ("creds", "files")

    def __init__(self, files: list[OpenFile] | None = None, creds: Creds | None = None) -> None:
        self.files = files if files is not None else []
        self.creds = creds

    def release(self) -> None:
        """Nobody takes the files (scm_destroy)."""
        files, self.files = self.files, []
        for file in files:
            file.put_file()


def _rounded(size: int) -> int:
    """What kmalloc gives for *size* bytes (kmalloc_size_roundup)."""
    if size > KMALLOC_MAX_CACHE_SIZE:
        pages = (size + PAGE_SIZE - 1) // PAGE_SIZE
        return PAGE_SIZE << (pages - 1).bit_length()
    return next(held for held in KMALLOC_SIZES if held >= size)


def head_bytes(size: int) -> int:
    """What kmalloc gives for a head with room for *size* bytes (__alloc_skb)."""
    return _rounded(((size + _LINE - 1) & -_LINE) + SHARED_INFO_BYTES)


def split(size: int, head: int) -> tuple[int, int]:
    """How *size* bytes are kept: so many behind the head, which holds *head* at most, and so many in pages."""
    paged = 0
    if size > head:
        paged = min((size - head + PAGE_SIZE - 1) & -PAGE_SIZE, _MAX_FRAGS * PAGE_SIZE, size)
    return size - paged, paged


class Skb:
    """A message in a queue: struct sk_buff.  The bytes are ours; the memory they would take is the machine's.

    Invariant: ``0 <= start <= len(data)``; what lies before *start* was read.
    """

    __slots__ = ("_frames", "_memory", "_node", "address", "charged", "data", "scm", "start", "truesize")

    def __init__(self, node: Node, data: bytes, *, head: int = MAX_ALLOC, address: bytes | None = None) -> None:
        """*address*: the sender's, as a sockaddr.  Errors: ENOBUFS: no memory, nothing is held then."""
        self._node = node
        self._memory: list[int] = []
        self._frames: list[Pfn] = []
        self.data = data
        self.start = 0
        self.address = address
        self.scm: Scm | None = None
        self.charged: Sock | None = None  # whose sndbuf it fills
        linear, paged = split(len(data), head)
        bytes_of_head = head_bytes(linear)
        self.truesize = SKB_BYTES + bytes_of_head + ((paged + PAGE_SIZE - 1) & -PAGE_SIZE)
        try:
            self._memory.append(node.slab.kmalloc(SKB_BYTES))
            self._memory.append(node.slab.kmalloc(bytes_of_head))
        except LinuxError:
            self._give_back()
            raise LinuxError(Errno.ENOBUFS, "no memory for a message") from None
        for _ in range(-(-paged // PAGE_SIZE)):
            pfn = node.alloc_page(GFP_KERNEL)
            if pfn is None:
                self._give_back()
                raise LinuxError(Errno.ENOBUFS, "no frame for a message")
            node.mem_map.flags[pfn] |= PG_kernel
            self._frames.append(pfn)

    def __len__(self) -> int:
        """Bytes not yet read."""
        return len(self.data) - self.start

    def append(self, data: bytes) -> int:
        """Bytes of *data* that fit behind what the last frame holds; they are stored."""
        room = min(len(self._frames) * PAGE_SIZE - len(self.data), len(data))
        if room <= 0:
            return 0
        self.data += data[:room]
        return room

    def uncharge(self) -> None:
        """It is the receiver's now (a TCP segment that was acknowledged)."""
        if self.charged is not None:
            self.charged.wmem -= self.truesize
            self.charged = None

    def charge(self, sock: "Sock") -> None:
        """It counts against *sock*'s send buffer until it is freed (skb_set_owner_w)."""
        self.charged = sock
        sock.wmem += self.truesize

    def _give_back(self) -> None:
        for address in self._memory:
            self._node.slab.kfree(address)
        for pfn in self._frames:
            self._node.put_page(pfn)
        self._memory.clear()
        self._frames.clear()

    def free(self) -> None:
        """It was read, or nobody will: kfree_skb.  Files that went along and were not taken are closed."""
        assert self._memory, "Skb.free: it was freed already"
        self._give_back()
        if self.scm is not None:
            scm, self.scm = self.scm, None
            if scm.files and self.charged is not None:
                self.charged.net.leave_flight(scm.files)
            scm.release()
        if self.charged is not None:
            sock, self.charged = self.charged, None
            sock.wmem -= self.truesize
            sock.write_space()
