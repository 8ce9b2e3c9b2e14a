"""Events, operations and struct epoll_event of epoll(7).

The structure is packed on x86-64, so that i386 and x86-64 programs share it.  Source: include/uapi/linux/eventpoll.h.
"""

from struct import Struct
from typing import Final

from minikernel.abi.poll import POLLERR, POLLHUP, POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM

EPOLL_CTL_ADD: Final = 1
EPOLL_CTL_DEL: Final = 2
EPOLL_CTL_MOD: Final = 3
EPOLL_CLOEXEC: Final = 0o2000000

EPOLLEXCLUSIVE: Final = 1 << 28
EPOLLWAKEUP: Final = 1 << 29
EPOLLONESHOT: Final = 1 << 30
EPOLLET: Final = 1 << 31

EP_PRIVATE_BITS: Final = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE
EPOLLINOUT_BITS: Final = POLLIN | POLLOUT
EPOLLEXCLUSIVE_OK_BITS: Final = (
    POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM | POLLERR | POLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE
)

EPOLL_EVENT: Final = Struct("<IQ")  # events, data
EP_MAX_EVENTS: Final = (1 << 31) // 12
EP_MAX_NESTS: Final = 4
