"""generate-core-file: the program as it stands, for gdb."""

from typing import TYPE_CHECKING

from minikernel.kdb.command import CommandError, command

if TYPE_CHECKING:
    from minikernel.kdb.session import Session


@command("generate-core-file [FILE]", "gcore", group="program")
def gcore(session: "Session", arguments: str) -> None:
    """Save the process as a core file on this machine: gcore [FILE], core.PID without one.

    gdb PROGRAM FILE opens it: threads, memory, registers.  The program goes on as before.
    """
    from minikernel.task.coredump import core_image

    task = session.task
    name = arguments or f"core.{task.tgid}"
    try:
        with open(name, "wb") as file:  # noqa: PTH123 - as the user says it
            file.writelines(core_image(task, None))
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}.") from None
    except ValueError:
        raise CommandError("A file's name has no NUL.") from None
    session.print(f"Saved corefile {name}")
