"""What can go wrong with a machine that a program of the host drives.  Every message is one line."""


class GuestError(Exception):
    """The root of the API's exceptions."""


class CannotStartError(GuestError):
    """The program is not there or cannot be executed, or there is no such machine."""


class StuckError(GuestError):
    """Every task sleeps for ever, a limit of the run is reached, or the guest's kernel has panicked."""


class NoTaskError(GuestError):
    """The question is about a task, and none is in the CPU: the program has ended."""


class BadAddressError(GuestError):
    """Memory that is not there, or may not be written.  ``address`` says where."""

    def __init__(self, address: int, why: str) -> None:
        super().__init__(f"{address:#x}: {why}")
        self.address = address


class BadRegisterError(GuestError, KeyError):
    """There is no register of that name in this machine."""

    def __str__(self) -> str:
        return str(self.args[0])


class UnknownSymbolError(GuestError, KeyError):
    """No program or library of the task has a symbol of that name."""

    def __str__(self) -> str:
        return str(self.args[0])
