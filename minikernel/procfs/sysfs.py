"""/sys: the knobs of transparent huge pages, and nothing else yet.  Linux: mm/huge_memory.c (the *_show, *_store)."""

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, Union

from minikernel.abi.errno import Errno, LinuxError
from minikernel.abi.stat import makedev
from minikernel.abi.statfs import SYSFS_MAGIC
from minikernel.fs.inode import Inode
from minikernel.kernel import Kernel
from minikernel.mm.thp import hpage_order, set_enabled
from minikernel.mm.thp_knobs import DEFRAG, ENABLED
from minikernel.procfs.node import ProcDir, ProcFs, ProcText, fixed_dir

_File: TypeAlias = tuple[Callable[[], bytes], Callable[[bytes], None] | None]
_Tree: TypeAlias = Mapping[bytes, Union["_Tree", _File]]

_DEV_SYS: Final = makedev(0, 22)


def sysfs(kernel: Kernel) -> ProcFs:
    """The sys file system of *kernel*."""
    sb = ProcFs(kernel, _DEV_SYS, b"sysfs", SYSFS_MAGIC)

    def build(tree: _Tree) -> ProcDir:
        own = sb.new_ino()
        children: dict[bytes, Inode] = {}
        for name, what in tree.items():
            if isinstance(what, Mapping):
                children[name] = build(what)
                continue
            make, store = what
            children[name] = ProcText(sb, sb.new_ino(), make, mode=0o444 if store is None else 0o644, store=store)
        return fixed_dir(sb, own, children)

    sb.root = build({b"kernel": {b"mm": {b"transparent_hugepage": _transparent_hugepage(kernel)}}})
    return sb


def _transparent_hugepage(kernel: Kernel) -> _Tree:
    node = kernel.node
    thp = node.vm_sysctl.thp

    def set_defrag(mode: str) -> None:
        thp.defrag = mode

    def set_use_zero_page(text: bytes) -> None:
        if text.strip() not in {b"0", b"1"}:
            raise LinuxError(Errno.EINVAL, f"use_zero_page is 0 or 1, not {text!r}")
        thp.use_zero_page = int(text)

    return {
        b"defrag": _choice(DEFRAG, lambda: thp.defrag, set_defrag),
        b"enabled": _choice(ENABLED, lambda: thp.enabled, lambda mode: set_enabled(node, mode)),
        b"hpage_pmd_size": ((lambda: b"%d\n" % (4096 << hpage_order(node))), None),
        b"use_zero_page": ((lambda: b"%d\n" % thp.use_zero_page), set_use_zero_page),
    }


def _choice(modes: tuple[str, ...], get: Callable[[], str], put: Callable[[str], None]) -> _File:
    """A file that shows all *modes*, the one in force in brackets, and takes any of them."""

    def show() -> bytes:
        return " ".join(f"[{mode}]" if mode == get() else mode for mode in modes).encode() + b"\n"

    def store(data: bytes) -> None:
        mode = data.removesuffix(b"\n").decode("latin-1")
        if mode not in modes:
            raise LinuxError(Errno.EINVAL, f"{data!r} is none of {', '.join(modes)}")
        put(mode)

    return show, store
