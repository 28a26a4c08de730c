"""What a sweep says in a report: concordance against a key of the recipes, or against the amount of labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sa2sr.config import DIMENSIONS
from sa2sr.metrics import Estimate
from sa2sr.studies.document import Cell, Column, Picture, Pictures, Section, Table
from sa2sr.studies.plots import Points, points
from sa2sr.studies.systems import RESAMPLES, Resample, System, concordances, drawn_things

Value = int | float | str


@dataclass(frozen=True)
class SweepResult:
    """A sweep on one test set: the systems at each of its values."""

    name: str
    key: str  # that is swept; ``labels`` for shares of the fine-tuning set
    test_set: str
    systems: Mapping[Value, Sequence[System]]

    @property
    def is_of_labels(self) -> bool:
        """Whether the values are shares of the fine-tuning set."""
        return self.key == "labels"


def sweep_section(sweep: SweepResult, *, colours: Mapping[str, int], prefix: str, resample: Resample) -> Section:
    """A table and a picture a dimension."""
    found = {
        (value, system.name): concordances(system, resample=resample)
        for value, systems in sweep.systems.items()
        for system in systems
    }
    columns = [
        Column("value", "share of the training set" if sweep.is_of_labels else sweep.name),
        Column("system", "system"),
        *(Column(dimension, dimension, best="highest") for dimension in DIMENSIONS),
        Column("mean", "mean", best="highest"),
        *(Column(f"{dimension}_sd", f"{dimension}, SD of seeds") for dimension in DIMENSIONS),
        Column("seeds", "seeds"),
    ]
    rows: list[list[Cell]] = []
    for value, systems in sweep.systems.items():
        for system in systems:
            estimates = found[value, system.name]
            means = [estimate.value for estimate in estimates.values()]
            rows.append(
                [
                    _shown(value, sweep),
                    system.name,
                    *(estimates.get(dimension) for dimension in DIMENSIONS),
                    float(np.mean(means)) if means else None,
                    *(_spread(system.by_seed(index)) for index in range(len(DIMENSIONS))),
                    len(system.evaluations),
                ]
            )
    all_systems = [system for systems in sweep.systems.values() for system in systems]
    what = (
        "Fine-tuned on a share of the utterances, drawn by the seed; a smaller share is part of a larger one."
        if sweep.is_of_labels
        else f"The same recipes but for {sweep.key}."
    )
    caption = (
        f"{what} CCC on {sweep.test_set}, with 95 % intervals from {RESAMPLES:,} bootstrap resamples of the "
        f"{drawn_things(all_systems, resample)}, and of the seeds where there are several."
    )
    pictures = [
        picture
        for dimension in DIMENSIONS
        if (picture := _picture(sweep, dimension, found, colours, f"{prefix}-{dimension}"))
    ]
    title = "Amount of labels" if sweep.is_of_labels else f"Sweep: {sweep.name}"
    return Section(title, [Pictures(pictures, "Lines are 95 % intervals."), Table(prefix, columns, rows, caption)])


def _picture(
    sweep: SweepResult,
    dimension: str,
    found: Mapping[tuple[Value, str], Mapping[str, Estimate]],
    colours: Mapping[str, int],
    name: str,
) -> Picture | None:
    labels = [_shown(value, sweep) for value in sweep.systems]
    lines = []
    for system in dict.fromkeys(system for _, system in found):
        estimates = {
            number: found[value, system][dimension]
            for number, value in enumerate(sweep.systems)
            if dimension in found.get((value, system), {})
        }
        if estimates:
            lines.append(Points(system, [float(n) for n in estimates], [*estimates.values()], colours.get(system, 0)))
    if not lines:
        return None
    x_label = "share of the training set" if sweep.is_of_labels else sweep.key.removeprefix("pretraining.")
    return points(name, dimension, lines, labels=labels, x_label=x_label, y_label="CCC")


def _shown(value: Value, sweep: SweepResult) -> str:
    if sweep.is_of_labels and not isinstance(value, str):
        return f"{100 * value:g} %"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
