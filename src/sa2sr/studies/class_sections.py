"""What evaluations say of emotion categories in a report: recalls, differences, and what is taken for what."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.metrics import Difference, Estimate, difference, estimate, f1, recall, resampled
from sa2sr.metrics import confusion as confusion_counts
from sa2sr.studies.document import Block, Cell, Column, Picture, Pictures, Section, Table
from sa2sr.studies.plots import confusion, intervals
from sa2sr.studies.systems import RESAMPLES, Resample, System, drawn_groups, drawn_things, over_seeds
from sa2sr.training.measures import OF_CATEGORIES

CLASS_COLUMNS = (
    Column("uar", "UAR", best="highest"),
    Column("weighted_accuracy", "weighted accuracy", best="highest"),
    Column("macro_f1", "macro F1", best="highest"),
)
MOST_SHOWN = 24  # classes, in a picture
_METRICS: dict[str, Callable[..., float]] = {
    "uar": partial(recall, weighted=False),
    "weighted_accuracy": partial(recall, weighted=True),
    "macro_f1": f1,
}
CONFUSION_CAPTION = "Rows are what utterances are, columns what they are taken for, in per cent of the row."


def category_section(
    systems: Sequence[System],
    title: str,
    *,
    resample: Resample = "auto",
    colours: Mapping[str, int],
    prefix: str = "category",
) -> Section:
    """Evaluations of several systems that tell emotions apart, on one set.

    Args:
        systems: the others are compared with the first
        title: of the section
        resample: what the bootstrap draws
        colours: of the systems
        prefix: of the names of tables and pictures
    """
    scores = {system.name: category_scores(system, resample=resample) for system in systems}
    blocks: list[Block] = [_score_table(systems, scores, resample, prefix)]
    uar = {name: found["uar"] for name, found in scores.items() if "uar" in found}
    if uar:
        picture = intervals(f"{prefix}-uar", "UAR", uar, colours=colours, x_label="unweighted average recall")
        blocks.append(Pictures([picture], "Dots are UARs, lines their 95 % intervals."))
    if len(systems) > 1:
        blocks.append(_difference_table(systems, resample, prefix))
    blocks.append(Pictures(_confusions(systems, colours, prefix), f"{CONFUSION_CAPTION} All seeds together."))
    return Section(title, blocks)


def category_scores(system: System, *, resample: Resample = "auto") -> dict[str, Estimate]:
    """UAR, weighted accuracy and macro F1, means over the seeds, with 95 % bootstrap intervals.

    Utterances of classes that the system does not know are left out.
    """
    rows = known_rows(system)
    found = {}
    for name in _METRICS if len(rows) else ():
        drawn = _drawn(system, name, rows, drawn_groups(system, rows.tolist(), resample))
        found[name] = estimate(_mean(system, name, rows), over_seeds(drawn, draw=0))
    return found


def mean_uar(system: System) -> float | None:
    """The UAR, mean over the seeds; none where there is nothing to compute."""
    rows = known_rows(system)
    return _mean(system, "uar", rows) if len(rows) else None


def uar_difference(system: System, reference: System, *, resample: Resample = "auto") -> Difference | None:
    """UAR minus that of a reference on the utterances that both predicted; none if these are none, or the classes
    differ."""
    if {*system.classes} != {*reference.classes}:
        return None
    position = {reference.names[row]: int(row) for row in known_rows(reference)}
    own = [int(row) for row in known_rows(system) if system.names[row] in position]
    if not own:
        return None
    other = [position[system.names[row]] for row in own]
    groups = drawn_groups(reference, other, resample)
    pairs = [(system, np.array(own)), (reference, np.array(other))]
    one, another = (_mean(each, "uar", rows) for each, rows in pairs)
    drawn = [over_seeds(_drawn(each, "uar", rows, groups), draw) for draw, (each, rows) in enumerate(pairs)]
    return difference(one - another, drawn[0] - drawn[1])


def counts_of(system: System) -> NDArray[np.int64]:
    """Counts by true (row) and predicted class, (K, K), of all seeds together."""
    rows = known_rows(system)
    truth = np.tile(system.category_numbers[rows], len(system.evaluations))
    said = system.category_predictions[:, rows].ravel()
    return confusion_counts(said[said >= 0], truth[said >= 0], len(system.classes))


def known_rows(system: System) -> NDArray[np.int64]:
    """The utterances that are of one of the system's classes."""
    return np.flatnonzero(system.category_numbers >= 0)


def _mean(system: System, name: str, rows: NDArray[np.int64]) -> float:
    """Of a metric over the seeds."""
    truth = system.category_numbers[rows]
    return float(np.mean([_METRICS[name](each, truth) for each in system.category_predictions[:, rows]]))


def _drawn(
    system: System, name: str, rows: NDArray[np.int64], groups: Sequence[str | None] | None
) -> NDArray[np.float64]:
    """A metric of every seed in every resample of utterances, (S, R)."""
    truth, said = system.category_numbers[rows], system.category_predictions[:, rows]
    options: dict[str, Any] = {"metric": OF_CATEGORIES[name], "speakers": groups, "resamples": RESAMPLES}
    return np.stack([resampled(each, truth, **options) for each in said])


def _score_table(
    systems: Sequence[System], scores: Mapping[str, Mapping[str, Estimate]], resample: Resample, prefix: str
) -> Table:
    several = any(len(system.evaluations) > 1 for system in systems)
    columns = [Column("system", "system"), *CLASS_COLUMNS, Column("classes", "classes"), Column("seeds", "seeds")]
    columns += [Column("utterances", "utterances"), Column("other", "of other classes")]
    rows: list[list[Cell]] = []
    for system in systems:
        known = known_rows(system)
        labelled = sum(name is not None for name in system.evaluations[0].categories)
        cells: list[Cell] = [scores[system.name].get(column.key) for column in CLASS_COLUMNS]
        seeds = len(system.evaluations) if several else None
        rows.append([system.name, *cells, len(system.classes), seeds, len(known), labelled - len(known) or None])
    caption = (
        "UAR: mean over the classes of the share that is recognised; weighted accuracy: share of all utterances; macro "
        f"F1: mean over the classes. 95 % intervals from {RESAMPLES:,} bootstrap resamples of the "
        f"{drawn_things(systems, resample)}. Utterances of other classes than those of the training count nowhere."
    )
    return Table(f"{prefix}-scores", columns, rows, caption).without_empty_columns()


def _difference_table(systems: Sequence[System], resample: Resample, prefix: str) -> Table:
    first = systems[0]
    columns = [Column("system", f"compared with {first.name}"), Column("uar", "UAR"), Column("uar_p", "p")]
    rows: list[list[Cell]] = []
    for system in systems[1:]:
        found = uar_difference(system, first, resample=resample)
        rows.append([system.name, found, found.p_value if found is not None else None])
    caption = f"UAR minus that of {first.name}, on the same utterances drawn together, and the two-sided p-value."
    return Table(f"{prefix}-differences", columns, rows, caption)


def _confusions(systems: Sequence[System], colours: Mapping[str, int], prefix: str) -> list[Picture]:
    return [
        confusion(
            f"{prefix}-confusion-{number}",
            system.name,
            system.classes,
            counts_of(system),
            series=colours.get(system.name, 0),
        )
        for number, system in enumerate(systems, start=1)
        if len(system.classes) <= MOST_SHOWN
    ]
