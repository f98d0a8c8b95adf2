"""The two kinds of failure a user can meet; the command line turns each into one line and an exit code."""


class FpgaSqueezeError(Exception):
    """Base of every error that is the user's to mend. `exit_code` is what the command line returns."""

    exit_code = 2


class InputError(FpgaSqueezeError):
    """Bad input or options: says what was expected, what came, and what to do. Exit code 2."""

    exit_code = 2


class NotAheadError(InputError):
    """A bypass needs more of its stream than the main branch does: as a graph that is no chain the network can still be folded."""


class CheckFailedError(FpgaSqueezeError):
    """A check failed (over budget, mismatch, goal not met). Exit code 1."""

    exit_code = 1


class ToolMissingError(InputError):
    """An outside tool (compiler, simulator) is needed and was not found; the message says how to get it."""
