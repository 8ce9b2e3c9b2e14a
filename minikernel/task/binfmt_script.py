"""Scripts: a file that begins with `#!` names the program that runs it.  Linux: fs/binfmt_script.c."""

from minikernel.abi.errno import Errno, LinuxError
from minikernel.fs.open import open_exec
from minikernel.task.binprm import BINPRM_BUF_SIZE, BinPrm
from minikernel.task.task import Task


def load_script(task: Task, bprm: BinPrm) -> None:
    """Put the interpreter in the script's place; what that is, is for the other formats to say.

    Errors:
        ENOEXEC: no script, or one that names no interpreter; what opening the interpreter says.
    """
    if bprm.head[:2] != b"#!":
        raise LinuxError(Errno.ENOEXEC, "not a script")
    interpreter, argument = parse_shebang(bprm.head)
    if bprm.path_inaccessible:
        raise LinuxError(Errno.ENOENT, "the interpreter could not open the script: its descriptor closes on exec")
    bprm.argv = [interpreter, *([argument] if argument else []), bprm.path, *bprm.argv[1:]]
    bprm.path = interpreter
    try:
        file = open_exec(task.fs, task.cred, interpreter)
    except LinuxError as error:
        raise LinuxError(error.errno, f"its interpreter {interpreter.decode(errors='replace')}") from None
    bprm.file.put_file()
    bprm.file = file


def parse_shebang(head: bytes) -> tuple[bytes, bytes]:
    """Interpreter and its one argument from the first bytes of a script (load_script).  Errors: ENOEXEC."""
    line, newline, _ = head.partition(b"\n")
    words = line[2:].strip(b" \t").split(None, 1) if not line[2:].isspace() else []
    if not words:
        raise LinuxError(Errno.ENOEXEC, "a #! line without an interpreter")
    if not newline and len(head) == BINPRM_BUF_SIZE and len(words) == 1:
        raise LinuxError(Errno.ENOEXEC, "the interpreter's name is too long")
    return words[0], words[1].rstrip(b" \t") if len(words) > 1 else b""
