"""The command line: one thin command a verb. Rooms are imported where they are used, so that ``--help`` is quick."""

import sys
from typing import Annotated

import typer

from sa2sr import __version__
from sa2sr.errors import UserError

app = typer.Typer(
    name="sa2sr",
    help="Activation, valence and dominance from speech, with a sentiment-aware speech encoder.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sa2sr {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; an error that the user can mend is one line on standard error and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.secho(f"sa2sr: {error}", fg="red", err=True)
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except KeyboardInterrupt:
        typer.secho("sa2sr: interrupted", err=True)
        sys.exit(130)
