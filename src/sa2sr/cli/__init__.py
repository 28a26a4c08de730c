"""The command line: one thin command a verb. Rooms are imported where they are used, so that ``--help`` is quick."""

import os
import sys

import typer

# A module of commands registers them with the application; help lists them in this order.
from sa2sr.cli import corpora, training, inference, serving, sharing, studies  # noqa: F401  # isort: skip
from sa2sr.cli.app import app
from sa2sr.errors import UserError

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; an error that the user can mend is one line on standard error and exit code 2.

    So is one of the file system.
    """
    try:
        app()
    except UserError as error:
        typer.secho(f"sa2sr: {error}", fg="red", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        typer.secho(f"sa2sr: {where}{error.strerror or error}", fg="red", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.secho("sa2sr: interrupted", err=True)
        sys.exit(130)
