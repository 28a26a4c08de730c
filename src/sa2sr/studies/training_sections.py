"""What trainings say in a report: how far they came, at what price, along which curves, and from which commands."""

from collections.abc import Mapping, Sequence

from sa2sr.config import DIMENSIONS, to_yaml
from sa2sr.studies.document import Block, Cell, Code, Column, Picture, Pictures, Section, Table, number_text, printable
from sa2sr.studies.plots import Curve, curves
from sa2sr.studies.records import TrainingRun, number

_SCORES = (
    Column("cer", "CER", best="lowest"),
    Column("wer", "WER", best="lowest"),
    Column("auc", "AUC", best="highest"),
    Column("weighted_recall", "weighted recall", best="highest"),
    Column("unweighted_recall", "unweighted recall", best="highest"),
)
_RATING_SCORES = (
    *(Column(f"{dimension}_ccc", f"{dimension}, CCC", best="highest") for dimension in DIMENSIONS),
    Column("mean_ccc", "mean CCC", best="highest"),
)
_COSTS = (
    Column("best_epoch", "best epoch"),
    Column("epochs", "epochs"),
    Column("hours_heard", "hours heard", digits=1),
    Column("minutes", "minutes", digits=1),
    Column("times_real_time", "speed, x real time", digits=0),
)
_AXES = {"cer": "CER", "wer": "WER", "auc": "AUC", "mean_ccc": "mean CCC"} | {
    f"{dimension}_ccc": f"{dimension}, CCC" for dimension in DIMENSIONS
}


def pretraining_section(runs: Sequence[TrainingRun], colours: Mapping[str, int]) -> Section:
    """Pre-training: recognition and sentiment on the development set, costs, curves."""
    table = _without_empty_columns(
        "pretraining",
        [Column("run", "run"), Column("objectives", "objectives"), *_SCORES, *_COSTS],
        [[run.name, _objectives(run), *_dev_scores(run, _SCORES), *_costs(run)] for run in runs],
        "Best epochs, on the development set: characters and words wrong (CER, WER), and how well negative, neutral "
        "and positive are told apart (area under the ROC curve, one against the rest; recall). "
        "Hours heard count every repetition; the speed includes evaluation.",
    )
    return Section("Pre-training", [table, _curves(runs, "pretraining", ("cer", "auc"), colours)])


def finetuning_section(runs: Sequence[TrainingRun], colours: Mapping[str, int]) -> Section:
    """Fine-tuning: concordance on the development set, costs, curves."""
    table = _without_empty_columns(
        "finetuning",
        [Column("run", "run"), Column("encoder", "encoder"), *_RATING_SCORES, *_COSTS],
        [[run.name, _encoder(run), *_dev_scores(run, _RATING_SCORES), *_costs(run)] for run in runs],
        "Best epochs, on the development set, which chose them: so these numbers flatter.",
    )
    return Section("Fine-tuning", [table, _curves(runs, "finetuning", [c.key for c in _RATING_SCORES], colours)])


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
    blocks.append(_without_empty_columns("environment", [Column(f, f) for f in ("runs", *facts)], rows))
    blocks += [
        Code(to_yaml(run.recipe), title=f"Recipe of {_full_name(run)}") for run in runs if run.recipe is not None
    ]
    return Section("Where this comes from", blocks)


def _full_name(run: TrainingRun) -> str:
    return f"{run.name} ({'pre-training' if run.stage_name == 'pretraining' else 'fine-tuning'})"


def _curves(runs: Sequence[TrainingRun], stage: str, scores: Sequence[str], colours: Mapping[str, int]) -> Pictures:
    """One picture a loss (training and development), one a score, and one of the criterion."""
    pictures = []
    losses = list(dict.fromkeys(name for run in runs for name in run.losses()))

    def line(run: TrainingRun, *keys: str, dashed: bool = False) -> Curve:
        label = "" if dashed else run.name
        return Curve(label, *run.curve(*keys), series=colours.get(run.name, 0), dashed=dashed)

    for key in losses:
        lines = [line(run, part, key, dashed=part == "train") for run in runs for part in ("train", "dev")]
        pictures += _picture(f"{stage}-{key}", f"{key.removesuffix('_loss')} loss", lines)
    for key in scores:
        pictures += _picture(f"{stage}-{key}", _AXES[key], [line(run, "dev", key) for run in runs])
    pictures += _picture(f"{stage}-criterion", "criterion (lower is better)", [line(run, "criterion") for run in runs])
    return Pictures(pictures, "By epoch: development whole, training dashed." if losses else "By epoch.")


def _picture(name: str, title: str, lines: Sequence[Curve]) -> list[Picture]:
    drawn = [line for line in lines if line.x]
    return [curves(name, title, drawn)] if drawn else []


def _dev_scores(run: TrainingRun, columns: Sequence[Column]) -> list[Cell]:
    return [number(run.best, "dev", column.key) for column in columns]


def _costs(run: TrainingRun) -> list[Cell]:
    best = next((n for n, line in enumerate(run.history, start=1) if line is run.best), None)
    hours = run.total("speech_hours")
    seconds = number(run.history[-1], "seconds") if run.history else None
    speed = hours * 3600 / seconds if hours and seconds else None
    return [best, len(run.history), hours, seconds / 60 if seconds is not None else None, speed]


def _objectives(run: TrainingRun) -> str | None:
    if run.stage is None:
        return None
    active = run.stage.objectives.active().items()
    return ", ".join(f"{name} {number_text(task.weight, 6).rstrip('0').rstrip('.')}" for name, task in active)


def _encoder(run: TrainingRun) -> str | None:
    if run.recipe is None or run.stage is None:
        return None
    size = f"{run.recipe.encoder.layers} x {run.recipe.encoder.units}"
    return f"{size}, frozen" if run.stage.freeze_encoder else size


def _fact(run: TrainingRun, name: str) -> str | None:
    packages = run.environment.get("packages")
    value = run.environment.get(name)
    if value is None and isinstance(packages, dict):
        value = packages.get(name)
    return printable(str(value)[:2000]) if isinstance(value, str | int | float) else None


def _without_empty_columns(
    name: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]], caption: str = ""
) -> Table:
    kept = [index for index in range(len(columns)) if any(row[index] is not None for row in rows)]
    return Table(name, [columns[i] for i in kept], [[row[i] for i in kept] for row in rows], caption)
