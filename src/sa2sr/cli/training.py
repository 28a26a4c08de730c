"""Commands that train models and measure them."""

import json
from itertools import takewhile
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sa2sr.cli.app import ModelArgument, OverridesArgument, app
from sa2sr.errors import RecipeError, UserError

if TYPE_CHECKING:
    from sa2sr.config import Recipe

_STAGES = {"pretraining": "pretrain", "finetuning": "finetune", "regression": "regress"}  # and their commands
RecipeArgument = Annotated[
    str, typer.Argument(help="A recipe file, or the name of a shipped one: sa2sr, asr, scratch, ...")
]
TrainOption = Annotated[list[Path] | None, typer.Option(help="Manifest to train on; may be repeated.")]
DevOption = Annotated[list[Path] | None, typer.Option(help="Manifest that decides which epoch is best; likewise.")]
MapScaleOption = Annotated[
    bool, typer.Option("--map-scale", help="Map ratings on another scale linearly onto the model's.")
]
RunOption = Annotated[Path, typer.Option("--out", "-o", help="The run folder; an interrupted run in it goes on.")]


@app.command()
def recipe(
    name: Annotated[str | None, typer.Argument(help="A recipe file, or the name of a shipped one.")] = None,
    changes: OverridesArgument = None,
) -> None:
    """Print a recipe with every key that it inherits; without a name, list the shipped recipes.

    Example: sa2sr recipe sa2sr-small seed=1
    """
    from sa2sr.config import load_recipe, shipped_recipes, to_yaml

    if name is None:
        for shipped, path in shipped_recipes().items():
            comment = takewhile(lambda line: line.startswith("#"), path.read_text(encoding="utf-8").splitlines())
            what, *_ = " ".join(line.lstrip("# ") for line in comment).split(". ")
            typer.echo(f"{shipped:30}{what}")
    else:
        typer.echo(to_yaml(load_recipe(name, changes or [])), nl=False)


def _resolved(stage: str, recipe: str, changes: list[str] | None, sets: dict[str, list[Path] | None]) -> "Recipe":
    """The recipe with its changes; an error that says so if it lacks the stage, which they may bring along."""
    from sa2sr.config import load_recipe

    given = [f"{stage}.{name}={json.dumps([str(path) for path in paths])}" for name, paths in sets.items() if paths]
    wrong = ""
    try:
        found = load_recipe(recipe, [*given, *(changes or [])])
    except RecipeError as error:
        found, wrong = load_recipe(recipe), f"\n{error}"
        if getattr(found, stage) is not None:
            raise
    if getattr(found, stage) is not None:
        return found
    there = [f"{name} ('sa2sr {_STAGES[name]}')" for name in _STAGES if getattr(found, name) is not None]
    details = wrong if any(change.startswith(f"{stage}.") for change in changes or []) else ""
    raise RecipeError(f"recipe '{recipe}' has no {stage}; it has {' and '.join(there)}{details}")


def _train(
    stage: str, recipe: str, changes: list[str] | None, sets: dict[str, list[Path] | None], **options: Any
) -> None:
    resolved = _resolved(stage, recipe, changes, sets)
    if stage == "finetuning" and resolved.pretraining is not None and options["start_from"] is None:
        typer.secho(_without_encoder(resolved), fg="yellow", err=True)

    from sa2sr.training.trainer import train

    folder = train(resolved, stage, **options)
    typer.echo(f"model: {folder.model}")


def _without_encoder(recipe: "Recipe") -> str:
    """A warning: the recipe would be trained without what makes it."""
    start, other = f"from {recipe.encoder.name}", "wavlm"
    if recipe.encoder.name is None:
        start, other = "at random", "scratch"
    return (
        f"recipe '{recipe.name}' is for an encoder that 'sa2sr pretrain' has trained, and none is named: this one "
        f"starts {start}; name one with --encoder RUN, or take a recipe without pre-training, such as '{other}'"
    )


@app.command()
def pretrain(
    recipe: RecipeArgument,
    changes: OverridesArgument = None,
    *,
    train: TrainOption = None,
    dev: DevOption = None,
    encoder: Annotated[
        str | None, typer.Option(help="A run or model folder to go on from, on other speech; by default from nothing.")
    ] = None,
    out: RunOption,
) -> None:
    """Pre-train an encoder to transcribe and, with [bold]sa2sr[/], to tell the sentiment of what is said.

    Started again with the same command, an interrupted run goes on where it stopped.

    Example: sa2sr pretrain sa2sr --train cuts/train.jsonl.gz --dev cuts/dev.jsonl.gz --out runs/sa2sr seed=1
    """
    _train("pretraining", recipe, changes, {"train": train, "dev": dev}, out=out, start_from=encoder)


@app.command()
def finetune(
    recipe: RecipeArgument,
    changes: OverridesArgument = None,
    *,
    train: TrainOption = None,
    dev: DevOption = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="A pre-trained run or model folder, or user/name; without it the encoder starts at random."),
    ] = None,
    out: RunOption,
) -> None:
    """Train a model to predict activation, valence and dominance, from a pre-trained encoder or from none.

    With [bold]sa2sr-categories[/] it also tells emotions apart, such as angry and sad.

    Started again with the same command, an interrupted run goes on where it stopped.

    Example: sa2sr finetune sa2sr --encoder runs/sa2sr --train train.jsonl.gz --dev dev.jsonl.gz --out runs/emotion
    """
    _train("finetuning", recipe, changes, {"train": train, "dev": dev}, out=out, start_from=encoder)


@app.command()
def regress(
    recipe: RecipeArgument,
    changes: OverridesArgument = None,
    *,
    train: TrainOption = None,
    dev: Annotated[
        list[Path] | None, typer.Option(help="Manifest on which penalties are chosen; may be repeated.")
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="A pre-trained run or model folder, for recipes that need its words or voices.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder.")],
) -> None:
    """Fit a linear regressor from a fixed vector of each utterance, of its words or its sound, to emotions.

    Example: sa2sr regress text-tfidf --train cuts/train.jsonl.gz --dev cuts/dev.jsonl.gz --out runs/tfidf
    """
    from sa2sr.training.regression import regress as fit

    folder = fit(_resolved("regression", recipe, changes, {"train": train, "dev": dev}), out, start_from=encoder)
    scores = folder.history()[-1]["dev"]
    typer.echo("development set: " + "  ".join(f"{name} {value:.3f}" for name, value in scores.items()))
    typer.echo(f"model: {folder.model}")


@app.command()
def evaluate(
    model: Annotated[
        str,
        typer.Argument(help="A model folder, a run folder, user/name on the hub, default, or a submission (.csv)."),
    ],
    manifests: Annotated[list[Path], typer.Argument(metavar="CUTS", help="Manifests with labels.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; by default evaluation/... of the run or the model.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Of the bootstrap, which gives the intervals.")] = 1000,
    map_scale: MapScaleOption = False,
    read: Annotated[
        str | None,
        typer.Option(help="Of a model that reads beside hearing: reference (transcripts) or recognised (its own)."),
    ] = None,
) -> None:
    """Measure what a model predicts against the labels of cuts, for all utterances and by gender and speaker.

    Of emotions: CCC, Pearson's correlation and RMSE. Of transcripts: CER and WER. Of sentiment: AUC and recalls. Of
    categories: UAR, weighted accuracy and macro F1. What is taken for what is shown too.
    Writes metrics.json and predictions.csv. In place of a model, predictions of any system can be measured: a table
    with the columns FileName, EmoAct, EmoVal and EmoDom, as the MSP-Podcast challenges have them. Examples:

    sa2sr evaluate runs/emotion cuts/test.jsonl.gz

    sa2sr evaluate submission.csv cuts/msp/test1.jsonl.gz
    """
    if read not in (None, "reference", "recognised"):
        raise UserError(f"--read {read}: must be reference or recognised")

    from sa2sr.training.evaluate import evaluate as evaluate_model
    from sa2sr.training.evaluation_tables import print_evaluation

    print_evaluation(evaluate_model(model, manifests, out, resamples=resamples, map_scale=map_scale, read=read))


@app.command()
def calibrate(
    model: ModelArgument,
    manifests: Annotated[list[Path] | None, typer.Argument(metavar="CUTS", help="Manifests with ratings.")] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(help="Another training of the same system, whose own calibration is added; may be repeated."),
    ] = None,
    map_scale: MapScaleOption = False,
) -> None:
    """Measure how far a model is off, and keep that in its folder: the intervals of its predictions come from it.

    A fine-tuning does this on its development set. Do it again on rated speech of your own kind, which the model was
    not trained on, and preferably of many speakers. Where speakers are few, train several times, each time with other
    speakers for development, and pool what all of them found. Writes intervals.json into the model folder. Examples:

    sa2sr calibrate runs/emotion cuts/calls.jsonl.gz

    sa2sr calibrate runs/final --pool runs/fold1 --pool runs/fold2 --pool runs/fold3
    """
    if not manifests and not pool:
        raise UserError("name cuts to calibrate on, or other trainings with --pool")

    from sa2sr.intervals import LEVEL
    from sa2sr.training.calibration import calibrate as calibrate_model

    for dimension, residuals in calibrate_model(
        model, manifests or [], pool=pool or [], map_scale=map_scale
    ).dimensions.items():
        speakers = f" of {residuals.speakers:,} speakers" if residuals.speakers else ""
        half_width = residuals.half_width(LEVEL)
        width = f"+-{half_width:.2f} at {100 * LEVEL:g} %" if isfinite(half_width) else "too few for an interval"
        typer.echo(f"{dimension:<11}{residuals.utterances:>7,} utterances{speakers}: {width}")
