"""Runs memory system calls natively, as told on stdin, and reports results and the resulting mappings on stdout.

Input: JSON, a list of sequences of operations; see test_host_oracle.py.  Output: for each sequence a list of results
(0 or more, or -errno), and the mappings of the arena as (start page, end page, rights, flags, offset).
"""

import ctypes
import json
import os
import sys
from typing import Any

PAGE = 4096
ARENA = 0x100_0000_0000
ARENA_PAGES = 64
FILE_PAGES = 8
KEPT_FLAGS = {
    "rd",
    "wr",
    "ex",
    "sh",
    "mr",
    "mw",
    "me",
    "ms",
    "gd",
    "lo",
    "sr",
    "rr",
    "dc",
    "dd",
    "de",
    "ac",
    "nr",
    "wf",
}

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
NR = {"read": 0, "write": 1, "mmap": 9, "mprotect": 10, "munmap": 11, "mremap": 25, "msync": 26, "mincore": 27}
NR |= {"madvise": 28, "mlock": 149, "munlock": 150, "mlock2": 325}


def syscall(name: str, *args: int) -> int:
    result = int(libc.syscall(ctypes.c_long(NR[name]), *[ctypes.c_ulong(arg) for arg in args]))
    return -ctypes.get_errno() if result == -1 else result


def address(page: int) -> int:
    return ARENA + page * PAGE


def run(op: list[Any], fds: dict[str, int], vector: int) -> int:
    name, *raw = op
    args = [int(arg) for arg in raw if not isinstance(arg, str)]
    if name == "mmap":
        page, pages, prot, flags, pgoff = args
        which = str(raw[-1])
        fd = fds[which] if which else (1 << 64) - 1
        result = syscall("mmap", address(page), pages * PAGE, prot, flags, fd, pgoff * PAGE)
        return (result - ARENA) // PAGE if result >= 0 else result
    if name == "mremap":
        page, old, new, flags, target = args
        result = syscall("mremap", address(page), old * PAGE, new * PAGE, flags, address(target))
        if result < 0:
            return result
        if not ARENA <= result < address(ARENA_PAGES):
            syscall("munmap", result, new * PAGE)
            return 1 << 20
        return (result - ARENA) // PAGE
    if name == "store":
        return syscall("read", fds["zero"], address(args[0]), 1)
    if name == "load":
        return syscall("write", fds["sink"], address(args[0]), 1)
    if name == "mincore":
        ctypes.memset(vector, 0, ARENA_PAGES)
        result = syscall("mincore", address(args[0]), args[1] * PAGE, vector)
        return result if result < 0 else int.from_bytes(ctypes.string_at(vector, args[1]), "little")
    return syscall(str(name), address(args[0]), args[1] * PAGE, *args[2:])


def mappings() -> list[list[object]]:
    found: list[list[object]] = []
    with open("/proc/self/smaps") as smaps:  # noqa: PTH123 - as little as possible happens in this process
        for line in smaps:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                start, end = (int(word, 16) for word in words[0].split("-"))
                inside = ARENA <= start < address(ARENA_PAGES)
                if inside:
                    found.append([(start - ARENA) // PAGE, (end - ARENA) // PAGE, words[1], int(words[2], 16) // PAGE])
            elif inside and words[0] == "VmFlags:":
                found[-1].append(sorted(set(words[1:]) & KEPT_FLAGS))
            elif inside and words[0] in {"Rss:", "Anonymous:"}:
                found[-1].append(int(words[1]) // 4)
    return found


def main() -> None:
    file = os.memfd_create("oracle")
    buffer = ctypes.create_string_buffer(ARENA_PAGES)
    vector = ctypes.addressof(buffer)
    fds = {
        "file": file,
        "zero": os.open("/dev/zero", os.O_RDONLY),
        "sink": os.memfd_create("sink"),
        "ro": os.open(f"/proc/self/fd/{file}", os.O_RDONLY),
    }
    answers = []
    for sequence in json.load(sys.stdin):
        os.ftruncate(file, 0)
        os.ftruncate(file, FILE_PAGES * PAGE)
        results = [run(op, fds, vector) for op in sequence]
        answers.append([results, mappings()])
        syscall("munmap", ARENA, ARENA_PAGES * PAGE)
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
