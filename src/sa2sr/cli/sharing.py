"""Commands that give models to others."""

from pathlib import Path
from typing import Annotated

import typer

from sa2sr.cli.app import ModelArgument, app

HalfOption = Annotated[bool, typer.Option("--half", help="Weights in half precision: half the size.")]
LeanOption = Annotated[
    bool, typer.Option("--lean", help="Without heads that only served a training, and the names of its speakers.")
]
WithoutOption = Annotated[
    list[str] | None, typer.Option("--without", help="Without this head, such as category; may be repeated.")
]
CardOption = Annotated[
    Path | None,
    typer.Option(help="What only you know of it, as YAML; by default card.yaml in its folder or run folder."),
]
LicenceOption = Annotated[
    str | None, typer.Option("--licence", "--license", help="Of the weights, such as cc-by-nc-sa-4.0.")
]


@app.command()
def pack(
    model: ModelArgument,
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    *,
    half: HalfOption = False,
    lean: LeanOption = False,
    without: WithoutOption = None,
    card: CardOption = None,
    licence: LicenceOption = None,
    name: Annotated[
        str | None, typer.Option(help="By which others will load it, for its card; by default that of the folder.")
    ] = None,
) -> None:
    """Copy a model with what others need: settings, weights, intervals, and a model card with what was measured.

    The card, README.md, has what 'sa2sr evaluate' found of the model in its run folder. Example:

    sa2sr pack runs/emotion my-model --half --licence cc-by-nc-sa-4.0
    """
    from sa2sr.sharing.pack import pack as pack_model

    options = {"half": half, "lean": lean, "without": without or (), "card": card, "licence": licence}
    for path in sorted(pack_model(model, out, **options, name=name).iterdir()):  # type: ignore[arg-type]
        typer.echo(f"{path} ({path.stat().st_size / 1e6:.2f} MB)")


@app.command()
def push(
    model: ModelArgument,
    name: Annotated[str, typer.Argument(help="user/name on the Hugging Face hub, or user/name@branch.")],
    *,
    half: HalfOption = False,
    lean: LeanOption = False,
    without: WithoutOption = None,
    card: CardOption = None,
    licence: LicenceOption = None,
    private: Annotated[bool, typer.Option("--private", help="Only for those who are let in.")] = False,
    message: Annotated[str | None, typer.Option("--message", help="Of the commit.")] = None,
) -> None:
    """Share a model with its card on the Hugging Face hub, where everybody can load it as user/name.

    Log in first with 'hf auth login', or set HF_TOKEN. Example:

    sa2sr push runs/emotion user/emotion --licence cc-by-nc-sa-4.0

    sa2sr predict call.wav --model user/emotion
    """
    from sa2sr.sharing.pack import push as push_model

    options = {"half": half, "lean": lean, "without": without or (), "card": card, "licence": licence}
    typer.echo(push_model(model, name, **options, private=private, message=message))  # type: ignore[arg-type]
