"""What trainings say in a report: how far they came, at what price, along which curves, and from which commands."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from safetensors import SafetensorError, safe_open

from sa2sr.config import DIMENSIONS, to_yaml
from sa2sr.studies.class_sections import CLASS_COLUMNS
from sa2sr.studies.document import Block, Cell, Code, Column, Picture, Pictures, Section, Table, number_text, printable
from sa2sr.studies.lenient import number
from sa2sr.studies.plots import Curve, curves
from sa2sr.studies.records import Evaluation, TrainingRun

_SCORES = (
    Column("cer", "CER", best="lowest"),
    Column("wer", "WER", best="lowest"),
    Column("auc", "AUC", best="highest"),
    Column("weighted_recall", "weighted recall", best="highest"),
    Column("unweighted_recall", "unweighted recall", best="highest"),
)
_FINETUNED_SCORES = {  # by the task that a fine-tuning is for
    "emotion": (
        *(Column(f"{dimension}_ccc", f"{dimension}, CCC", best="highest") for dimension in DIMENSIONS),
        Column("mean_ccc", "mean CCC", best="highest"),
    ),
    "category": CLASS_COLUMNS,
    "sentiment": _SCORES[2:],
}
_COSTS = (
    Column("best_epoch", "best epoch", digits=1),
    Column("epochs", "epochs", digits=1),
    Column("hours_heard", "hours heard", digits=1),
    Column("minutes", "minutes", digits=1),
    Column("times_real_time", "speed, x real time", digits=0),
)
_STAGES = {"pretraining": "pre-training", "finetuning": "fine-tuning"}
_AXES = {column.key: column.title for column in (*_SCORES, *chain(*_FINETUNED_SCORES.values()))}


def pretraining_section(runs: Sequence[TrainingRun], colours: Mapping[str, int]) -> Section:
    """Pre-training: recognition and sentiment on the development set, costs, curves."""
    table = _table_of_runs(
        "pretraining",
        runs,
        Column("objectives", "objectives"),
        _objectives,
        _SCORES,
        "Best epochs, on the development set: characters and words wrong (CER, WER), and how well negative, neutral "
        "and positive are told apart (area under the ROC curve, one against the rest; recall). "
        "Hours heard count every repetition; the speed includes evaluation.",
    )
    return Section("Pre-training", [table, _curves(runs, "pretraining", ("cer", "auc"), colours)])


def finetuning_section(runs: Sequence[TrainingRun], colours: Mapping[str, int]) -> Section:
    """Fine-tuning: concordance and recalls on the development set, costs, curves."""
    trained = {name for run in runs if run.stage for name, task in run.stage.objectives.active().items() if task.weight}
    scores = [column for task, own in _FINETUNED_SCORES.items() if task in trained for column in own]
    scores = scores or list(_FINETUNED_SCORES["emotion"])  # where no recipe can be read
    table = _table_of_runs(
        "finetuning",
        runs,
        Column("encoder", "encoder"),
        _encoder,
        scores,
        "Best epochs, on the development set, which chose them: so these numbers flatter.",
    )
    return Section("Fine-tuning", [table, _curves(runs, "finetuning", [c.key for c in scores], colours)])


def costs_section(runs: Sequence[TrainingRun], evaluations: Sequence[Evaluation]) -> Section:
    """What each system costs: parameters, minutes of training, and how fast it predicts; means over the seeds."""
    by_path = {os.path.realpath(run.path): run for run in runs}
    columns = [
        Column("system", "system"),
        Column("parameters", "parameters"),
        Column("pretraining_minutes", "pre-training, minutes", digits=1),
        Column("finetuning_minutes", "fine-tuning, minutes", digits=1),
        Column("prediction_real_time", "prediction, x real time", digits=0),
    ]
    speeds: dict[str, list[Cell]] = {}
    for each in evaluations:
        speeds.setdefault(os.path.realpath(each.run or each.path), []).append(each.speed)
    tuned = [run for run in runs if run.stage_name == "finetuning" and run.is_of_grid]
    encoders = {run.path: by_path.get(os.path.realpath(str(run.environment.get("--encoder")))) for run in tuned}
    used = {encoder.path for encoder in encoders.values() if encoder is not None}
    alone = [run for run in runs if run.stage_name == "pretraining" and run.is_of_grid and run.path not in used]
    rows: list[list[Cell]] = []
    for name, own in _by_system([*tuned, *alone]).items():
        pretrained = [encoders.get(run.path, run) for run in own]
        rows.append(
            [
                name,
                parameters(own[0].path / "model"),
                _mean([_minutes(run) for run in pretrained if run is not None]),
                _mean([_minutes(run) for run in own if run.stage_name == "finetuning"]),
                _mean([speed for run in own for speed in speeds.get(os.path.realpath(run.path), [])]),
            ]
        )
    caption = (
        "Parameters of the encoder and of the heads for emotions; those of the pre-training do not count. Systems that "
        "share a pre-training each name its time. How many trainings ran beside each other is not known here. "
        "Predictions are those of the evaluations: in torch, decoding and the start included."
    )
    return Section("Costs", [Table("costs", columns, rows, caption).without_empty_columns()])


def parameters(model: Path) -> int | None:
    """Weights of a model's encoder and heads for emotions, or of its encoder alone; none if it cannot be read.

    A linear regressor may have the model beside it that hears what it reads.
    """
    try:
        with safe_open(model / "model.safetensors", "numpy") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    counted = ("encoder.", "objectives.emotion.", "objectives.category.", "regression.")
    own = sum(int(math.prod(shape)) for name, shape in shapes.items() if name.startswith(counted))
    return own + (parameters(model / "encoder") or 0 if (model / "encoder").is_dir() else 0)


def provenance_section(runs: Sequence[TrainingRun]) -> Section:
    """Commands, versions, machines and recipes."""
    blocks: list[Block] = []
    commands = dict.fromkeys(command for run in runs if (command := _fact(run, "command")))
    if commands:
        blocks.append(Code("\n".join(commands)))
    facts = ("sa2sr", "commit", "python", "torch", "device", "cores", "threads", "platform")
    owners: dict[tuple[Cell, ...], list[str]] = {}
    for run in runs:
        owners.setdefault(tuple(_fact(run, fact) for fact in facts), []).append(_full_name(run))
    rows = [[", ".join(names), *values] for values, names in owners.items()]
    blocks.append(Table("environment", [Column(f, f) for f in ("runs", *facts)], rows).without_empty_columns())
    for (stage, name), own in _by_stage_and_system(runs).items():
        if (recipe := own[0].recipe) is not None:
            # Paths that lie below the working directory are shown from there, as a user would write them.
            text = to_yaml(recipe, defaults=False).replace(f"{Path.cwd()}{os.sep}", "")
            blocks.append(Code(text, title=f"Recipe of {name} ({_STAGES[stage]}), beside the defaults"))
    return Section("Where this comes from", blocks)


def _full_name(run: TrainingRun) -> str:
    return f"{run.name} ({_STAGES[run.stage_name]})"


def _table_of_runs(
    name: str,
    runs: Sequence[TrainingRun],
    kind: Column,
    kind_of: Callable[[TrainingRun], str | None],
    scores: Sequence[Column],
    caption: str,
) -> Table:
    """A row a system, with means over its seeds."""
    several = any(len(own) > 1 for own in _by_system(runs).values())
    rows: list[list[Cell]] = []
    for system, own in _by_system(runs).items():
        cells = [[*_dev_scores(run, scores), *_costs(run)] for run in own]
        means = [_mean(column) for column in zip(*cells, strict=True)]
        rows.append([system, len(own) if several else None, kind_of(own[0]), *means])
    columns = [Column("run", "run"), Column("seeds", "seeds"), kind, *scores, *_COSTS]
    caption += " Means over the seeds." if several else ""
    return Table(name, columns, rows, caption).without_empty_columns()


def _by_system(runs: Sequence[TrainingRun]) -> dict[str, list[TrainingRun]]:
    """Runs of one stage by their system, and by their corpus where there are several."""
    corpora = {run.corpus for run in runs} - {None}
    groups: dict[str, list[TrainingRun]] = {}
    for run in runs:
        name = f"{run.system} ({run.corpus})" if len(corpora) > 1 and run.corpus else run.system
        groups.setdefault(name, []).append(run)
    return groups


def _by_stage_and_system(runs: Sequence[TrainingRun]) -> dict[tuple[str, str], list[TrainingRun]]:
    stages = dict.fromkeys(run.stage_name for run in runs)
    return {
        (stage, name): own
        for stage in stages
        for name, own in _by_system([run for run in runs if run.stage_name == stage]).items()
    }


def _mean(cells: Sequence[Cell]) -> Cell:
    """Of what is known; one cell stays as it is."""
    known = [cell for cell in cells if isinstance(cell, int | float)]
    return sum(known) / len(known) if len(known) > 1 else next(iter(known), None)


def _minutes(run: TrainingRun) -> float | None:
    seconds = number(run.history[-1], "seconds") if run.history else None
    return seconds / 60 if seconds is not None else None


def _curves(runs: Sequence[TrainingRun], stage: str, scores: Sequence[str], colours: Mapping[str, int]) -> Pictures:
    """One picture a loss (training and development), one a score, and one of the criterion; sweeps are left out."""
    pictures = []
    runs = [run for run in runs if run.is_of_grid and not run.is_regression]
    losses = list(dict.fromkeys(name for run in runs for name in run.losses()))
    named = {own[0].path: name for name, own in _by_system(runs).items()}  # one of its seeds names a system

    def line(run: TrainingRun, *keys: str, dashed: bool = False) -> Curve:
        label = "" if dashed else named.get(run.path, "")
        return Curve(label, *run.curve(*keys), series=colours.get(run.system, 0), dashed=dashed)

    for key in losses:
        lines = [line(run, part, key, dashed=part == "train") for run in runs for part in ("train", "dev")]
        pictures += _picture(f"{stage}-{key}", f"{key.removesuffix('_loss')} loss", lines)
    for key in scores:
        pictures += _picture(f"{stage}-{key}", _AXES[key], [line(run, "dev", key) for run in runs])
    pictures += _picture(f"{stage}-criterion", "criterion (lower is better)", [line(run, "criterion") for run in runs])
    of_seeds = " A line a seed." if len(named) < len(runs) else ""
    return Pictures(pictures, ("By epoch: development whole, training dashed." if losses else "By epoch.") + of_seeds)


def _picture(name: str, title: str, lines: Sequence[Curve]) -> list[Picture]:
    drawn = [line for line in lines if line.x]
    return [curves(name, title, drawn)] if drawn else []


def _dev_scores(run: TrainingRun, columns: Sequence[Column]) -> list[Cell]:
    return [number(run.best, "dev", column.key) for column in columns]


def _costs(run: TrainingRun) -> list[Cell]:
    best = next((n for n, line in enumerate(run.history, start=1) if line is run.best), None)
    hours = run.total("speech_hours")
    minutes = _minutes(run)
    return [best, len(run.history), hours, minutes, hours * 60 / minutes if hours and minutes else None]


def _objectives(run: TrainingRun) -> str | None:
    if run.stage is None:
        return None
    active = run.stage.objectives.active().items()
    return ", ".join(f"{name} {number_text(task.weight, 6).rstrip('0').rstrip('.')}" for name, task in active)


def _encoder(run: TrainingRun) -> str | None:
    if run.is_regression:
        return "none: linear regression"
    if run.recipe is None or run.stage is None:
        return None
    encoder = run.recipe.encoder
    size = printable(Path(encoder.name).name) if encoder.name else f"{encoder.layers} x {encoder.units}"
    return f"{size}, frozen" if run.stage.freeze_encoder else size


def _fact(run: TrainingRun, name: str) -> str | None:
    packages = run.environment.get("packages")
    value = run.environment.get(name)
    if value is None and isinstance(packages, dict):
        value = packages.get(name)
    return printable(str(value)[:2000]) if isinstance(value, str | int | float) else None
