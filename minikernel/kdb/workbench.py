"""What the user has made in a session: variables, commands, what becomes of signals.  It travels with the user."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Block:
    """Lines that are being collected for the command *line*, up to its ``end``."""

    line: str
    lines: list[str] = field(default_factory=list)
    depth: int = 0  # blocks inside it that have begun


@dataclass(slots=True)
class Defined:
    """A command that the user has defined."""

    lines: list[str]
    help: str = "User-defined."


@dataclass(slots=True)
class Workbench:
    """The values."""

    variables: dict[str, int] = field(default_factory=dict)  # without the dollar sign
    defined: dict[str, Defined] = field(default_factory=dict)
    printing: dict[str, bool] = field(default_factory=dict)  # signal -> whether it is told, where the user has said so
    passing: dict[str, bool] = field(default_factory=dict)  # signal -> whether the program gets it
    block: Block | None = None
    pending: list[list[str]] = field(default_factory=list)  # commands of points that have stopped the program
    stopped_at: list[int] = field(default_factory=list)  # the points that have stopped the program here
    following: bool = False  # they are being executed
    goings: int = 0  # how often the program has been let go on
    hushed: bool = False  # the stop is not to be told
    loops: int = 0  # `while`s that are being executed
    calls: int = 0  # defined commands that call each other

    def settle(self) -> None:
        """Another copy of the machine goes on: what was being executed is not."""
        self.block, self.pending = None, []
        self.following = self.hushed = False
        self.loops = self.calls = 0
