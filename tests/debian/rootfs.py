"""Root file systems of real Debian programs: fetched with apt, unpacked with dpkg-deb, one for each architecture.

A private apt state under ``.cache/debian`` does it all: no root, no change to this machine's packages or architectures,
and the same Debian release everywhere.  ``python -m tests.debian.rootfs`` fetches and unpacks.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent.parent
CACHE: Final = ROOT / ".cache" / "debian"
MIRROR: Final = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
RELEASE: Final = "bookworm"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
ARCHES: Final = {"x86-64": "amd64", "i386": "i386"}
PACKAGES: Final = (
    *("bash", "bc", "binutils", "bison", "brotli", "bsdextrautils", "busybox-static", "bzip2", "coreutils", "cpio"),
    *("dash", "datamash", "dc", "diffutils", "duktape", "ed", "figlet", "file", "findutils", "flex", "gawk", "gforth"),
    *("git", "glpk-utils", "grep", "gzip", "hello", "jq", "libarchive-tools", "libc-bin", "libc6-dev", "libxml2-utils"),
    *("lua5.4", "luajit", "lz4", "m4", "mawk", "minisat", "mksh", "mujs", "nasm", "ncal", "openssl"),
    *("original-awk", "pari-gp", "patch", "perl-base", "python3-minimal", "qrencode", "rhash", "sed", "sqlite3"),
    *("tar", "tcc", "tcl8.6", "tidy", "tree", "units", "unzip", "vim-tiny", "xsltproc", "xxd", "xz-utils", "zip"),
    *("zsh", "zstd"),
    # Of many processes and threads, and with collectors that live by signals.
    *("gcc", "guile-3.0", "make", "pbzip2", "perl", "pigz", "procps", "ruby", "sbcl"),
)
MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
SOURCES: Final = f"deb [signed-by={KEYRING}] {MIRROR} {RELEASE} main\n"


def missing_tools() -> list[str]:
    """What this machine lacks to fetch Debian programs and to run them beside the emulator."""
    tools = [tool for tool in ("apt-get", "dpkg-deb", "tar", "chroot", "unshare") if shutil.which(tool) is None]
    return tools if KEYRING.exists() else [*tools, str(KEYRING)]


def _configuration(arch: str) -> str:
    """An apt.conf that knows nothing of this machine: its own state, cache, sources and one architecture."""
    state = CACHE / "apt" / arch
    return f"""
APT::Architecture "{ARCHES[arch]}";
APT::Architectures {{ "{ARCHES[arch]}"; }};
APT::Sandbox::User "";
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "5";
Acquire::http::Timeout "30";
Debug::NoLocking "true";
Dir::State "{state}";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
Dir::Cache::archives "{CACHE}/pool/{arch}";
Dir::Etc::sourcelist "{state}/sources.list";
Dir::Etc::sourceparts "-";
"""


def _apt(arch: str, *words: str) -> None:
    """Run apt-get on the private state of *arch*; a mirror that fails is asked again, with patience."""
    environment = {**os.environ, "APT_CONFIG": str(CACHE / "apt" / arch / "apt.conf"), "LC_ALL": "C"}
    for pause in (0, 5, 20, 60):
        time.sleep(pause)
        done = subprocess.run(["apt-get", "-q", *words], env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
    raise RuntimeError(f"apt-get {' '.join(words[:2])} for {arch}: {done.stderr[-2000:]}")


def _fetch(arch: str) -> list[Path]:
    """The .deb files of PACKAGES and all they depend on."""
    state, pool = CACHE / "apt" / arch, CACHE / "pool" / arch
    for folder in (state / "lists" / "partial", state / "cache", pool / "partial"):
        folder.mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    (state / "sources.list").write_text(SOURCES)
    (state / "apt.conf").write_text(_configuration(arch))
    _apt(arch, "update")
    _apt(arch, "-y", "--download-only", "install", *PACKAGES)
    return sorted(pool.glob("*.deb"))


def _unpack(debs: list[Path], root: Path) -> None:
    """Unpack *debs* into *root*, with /bin, /lib and their like merged into /usr as Debian's installer does."""
    for name in MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for deb in debs:
        # dpkg-deb -x would put a directory in the place of the link /bin.
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as tar:
            extract = ["tar", "-x", "--keep-directory-symlink", "--no-same-owner", "-C", str(root)]
            subprocess.run(extract, stdin=tar.stdout, check=True)
    for folder in ("dev", "proc", "tmp", "job", "root"):
        (root / folder).mkdir(exist_ok=True)
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")


def rootfs(arch: str) -> Path:
    """The root file system for *arch*, made on the first call and kept in the cache.  Nobody writes to it."""
    key = hashlib.sha256(repr((SOURCES, PACKAGES, MERGED, 2)).encode()).hexdigest()[:16]
    root = CACHE / arch / key
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{arch}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            shutil.rmtree(CACHE / arch, ignore_errors=True)
            partial = CACHE / arch / "partial"
            _unpack(_fetch(arch), partial)
            partial.rename(root)
    return root


if __name__ == "__main__":
    for name in ARCHES:
        sys.stdout.write(f"{rootfs(name)}\n")
