"""The application that the commands register with, and what several of them share."""

from typing import Annotated

import typer

from sa2sr import __version__

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


OverridesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Changes, such as seed=1 or pretraining.max_epochs=3."),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="A model folder, exported or not, the run folder of a fine-tuning, or user/name on the Hugging Face hub; "
        "by default what SA2SR_MODEL names, or else the model that comes with sa2sr.",
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(help="A model folder, a run folder, user/name on the hub, or default: that which comes with sa2sr."),
]
EngineOption = Annotated[
    str, typer.Option(help="onnx, torch, or auto: onnx on a CPU where it is installed, otherwise torch.")
]
Int8Option = Annotated[bool, typer.Option("--int8", help="Onnx in 8-bit integers: faster, a little less exact.")]
DeviceOption = Annotated[str, typer.Option(help="Such as cpu or cuda.")]
