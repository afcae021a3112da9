"""Failures that a user can act on, each with the exit code that scripts rely on."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the process returns; the table in docs/guide.md explains each."""

    DONE = 0
    BUG = 1
    USAGE = 2
    MODEL = 3
    MEMORY = 4
    PARTIAL = 5
    OUTPUT = 6
    NUMERICS = 7
    BUSY = 75
    HANGUP = 129
    INTERRUPT = 130
    TERMINATED = 143


class VqclipError(Exception):
    """Base of every failure we foresee; its text is one sentence for the user.

    The sentence says what is wrong, where, and what to do. `code` is the process's exit code.
    """

    code = ExitCode.BUG


class UsageError(VqclipError):
    """Bad usage, configuration, prompt or input file, or a device that is not there."""

    code = ExitCode.USAGE


class UnreadableError(UsageError):
    """A file that cannot be read here and now: what is in the way lies outside of it, and may go."""


class ModelError(VqclipError):
    """A model is missing, damaged, refused or cannot be fetched."""

    code = ExitCode.MODEL


class UnreachableError(ModelError):
    """A model cannot be fetched, and no host that has it could be reached."""


class OutOfMemoryError(VqclipError):
    """Not enough memory for what was asked."""

    code = ExitCode.MEMORY


class PartialError(VqclipError):
    """Some of several pictures failed; each one's own reason was told before."""

    code = ExitCode.PARTIAL


class OutputError(VqclipError):
    """The output cannot be written, or would overwrite something."""

    code = ExitCode.OUTPUT


class NumericsError(VqclipError):
    """The optimisation produced NaN or infinity."""

    code = ExitCode.NUMERICS


class BusyError(VqclipError):
    """Another process works on this folder."""

    code = ExitCode.BUSY


class Interrupted(VqclipError):
    """A signal (hang-up, Ctrl-C, SIGTERM) ended the work; the code is 128 + its number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.code = ExitCode(128 + signal_number)
