"""Errors that a user can mend; the command line prints them without a traceback and exits with 2."""

from pathlib import Path


class UserError(Exception):
    """Something in the input is wrong; the message names the file, the value and the remedy."""


class RecipeError(UserError):
    """A recipe or an override is wrong."""


class CorpusError(UserError):
    """A corpus on disk, or a manifest made from one, cannot be used."""


class AudioError(UserError):
    """An audio file cannot be read."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Exceptions with two arguments need this to come back from a worker process."""
        return AudioError, (self.path, self.reason)


class ModelError(UserError):
    """A model folder cannot be used."""


class SynthesisError(UserError):
    """A text cannot be spoken."""


class TableError(UserError):
    """A table of emotions cannot be read or written."""
