"""What evaluations say in a report: concordance with intervals, differences from a baseline, scatter plots."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from sa2sr.config import DIMENSIONS
from sa2sr.metrics import Difference, Estimate, bootstrap, paired_bootstrap, pearson, rmse
from sa2sr.studies.document import Block, Cell, Column, Pictures, Section, Table
from sa2sr.studies.plots import intervals, scatter
from sa2sr.studies.records import Evaluation
from sa2sr.training.measures import FEWEST_SPEAKERS

RESAMPLES = 1000
Resample: TypeAlias = Literal["auto", "speakers", "utterances"]


def emotion_section(
    evaluations: Sequence[Evaluation],
    title: str,
    *,
    resample: Resample = "auto",
    colours: Mapping[str, int],
    prefix: str = "emotion",
) -> Section:
    """Evaluations of several systems on one set.

    Args:
        evaluations: one a system; the others are compared with the first
        title: of the section
        resample: what the bootstrap draws; by default speakers where there are enough, as ``sa2sr evaluate`` does
        colours: of the systems
        prefix: of the names of tables and pictures
    """
    concordance = {e.system: concordances(e, resample=resample) for e in evaluations}
    blocks: list[Block] = [_concordance_table(evaluations, concordance, resample, prefix)]
    pictures = [
        intervals(f"{prefix}-{dimension}", dimension, estimates, colours=colours, x_label="CCC")
        for dimension in DIMENSIONS
        if (estimates := {s: by_dim[dimension] for s, by_dim in concordance.items() if dimension in by_dim})
    ]
    blocks.append(Pictures(pictures, "Dots are CCCs, lines their 95 % intervals."))
    if len(evaluations) > 1:
        blocks.append(_difference_table(evaluations[1:], evaluations[0], resample, prefix))
    blocks.append(_other_metrics(evaluations, prefix))
    blocks.append(_scatters(evaluations, concordance, colours, prefix))
    return Section(title, blocks)


def concordances(evaluation: Evaluation, *, resample: Resample = "auto") -> dict[str, Estimate]:
    """CCC of each rated dimension with its 95 % bootstrap interval."""
    estimates = {}
    for index, dimension in enumerate(DIMENSIONS):
        rows = evaluation.rated(index)
        if len(rows) > 1:
            speakers = drawn_speakers(evaluation, rows, resample)
            predicted, rated = evaluation.predictions[rows, index], evaluation.ratings[rows, index]
            estimates[dimension] = bootstrap(predicted, rated, speakers=speakers, resamples=RESAMPLES)
    return estimates


def differences(evaluation: Evaluation, reference: Evaluation, *, resample: Resample = "auto") -> dict[str, Difference]:
    """CCC of each dimension minus that of a reference, on the utterances that both predicted."""
    position = {name: row for row, name in enumerate(reference.names)}
    found = {}
    for index, dimension in enumerate(DIMENSIONS):
        rated = {*reference.rated(index)}
        pairs = [(row, position.get(evaluation.names[row], -1)) for row in evaluation.rated(index)]
        own, other = [a for a, b in pairs if b in rated], [b for _, b in pairs if b in rated]
        if len(own) > 1:
            found[dimension] = paired_bootstrap(
                evaluation.predictions[own, index],
                reference.predictions[other, index],
                reference.ratings[other, index],
                speakers=drawn_speakers(reference, other, resample),
                resamples=RESAMPLES,
            )
    return found


def drawn_speakers(evaluation: Evaluation, rows: Sequence[int], resample: Resample) -> list[str | None] | None:
    """The speakers of rows, if the bootstrap draws them."""
    speakers = [evaluation.speakers[row] for row in rows]
    enough = len({*speakers} - {None}) >= FEWEST_SPEAKERS
    return speakers if resample == "speakers" or (resample == "auto" and enough) else None


def drawn_things(evaluations: Sequence[Evaluation], resample: Resample) -> str:
    """What the bootstrap draws, in a word."""
    drawn = [drawn_speakers(e, range(len(e.names)), resample) for e in evaluations]
    return "utterances" if None in drawn else "speakers"


def _concordance_table(
    evaluations: Sequence[Evaluation],
    concordance: Mapping[str, Mapping[str, Estimate]],
    resample: Resample,
    prefix: str,
) -> Table:
    columns = [
        Column("system", "system"),
        *(Column(dimension, dimension, best="highest") for dimension in DIMENSIONS),
        Column("mean", "mean", best="highest"),
        Column("utterances", "utterances"),
        Column("speakers", "speakers"),
    ]
    rows: list[list[Cell]] = []
    for evaluation in evaluations:
        estimates = concordance[evaluation.system]
        values = [estimate.value for estimate in estimates.values()]
        speakers = len({speaker for speaker in evaluation.speakers if speaker is not None})
        rows.append(
            [
                evaluation.system,
                *(estimates.get(dimension) for dimension in DIMENSIONS),
                float(np.mean(values)) if values else None,
                len(evaluation.names),
                speakers or None,
            ]
        )
    drawn = drawn_things(evaluations, resample)
    caption = (
        f"Concordance correlation coefficient (1/N statistics), with 95 % percentile intervals from {RESAMPLES:,} "
        f"bootstrap resamples of the {drawn}. Where intervals overlap, the table of differences tells more."
    )
    return Table(f"{prefix}-ccc", columns, rows, caption)


def _difference_table(
    evaluations: Sequence[Evaluation], reference: Evaluation, resample: Resample, prefix: str
) -> Table:
    columns = [Column("system", f"compared with {reference.system}")]
    for dimension in DIMENSIONS:
        columns += [Column(dimension, dimension), Column(f"{dimension}_p", "p")]
    columns.append(Column("utterances", "utterances"))
    rows: list[list[Cell]] = []
    for evaluation in evaluations:
        found = differences(evaluation, reference, resample=resample)
        cells: list[Cell] = [evaluation.system]
        for dimension in DIMENSIONS:
            difference = found.get(dimension)
            cells += [difference, difference.p_value] if difference is not None else [None, None]
        rows.append([*cells, len({*evaluation.names} & {*reference.names})])
    caption = (
        f"CCC minus that of {reference.system}, on the same utterances drawn together, and the two-sided p-value. "
        "It is about these utterances and these trained models; other seeds of a training vary too."
    )
    return Table(f"{prefix}-differences", columns, rows, caption)


def _other_metrics(evaluations: Sequence[Evaluation], prefix: str) -> Table:
    columns = [
        Column("system", "system"),
        *(Column(f"{dimension}_pearson", f"{dimension}, Pearson", best="highest") for dimension in DIMENSIONS),
        *(Column(f"{dimension}_rmse", f"{dimension}, RMSE", best="lowest") for dimension in DIMENSIONS),
    ]
    rows: list[list[Cell]] = []
    for evaluation in evaluations:
        cells: list[Cell] = [evaluation.system]
        for metric in (pearson, rmse):
            for index in range(len(DIMENSIONS)):
                chosen = evaluation.rated(index)
                predicted, rated = evaluation.predictions[chosen, index], evaluation.ratings[chosen, index]
                cells.append(metric(predicted, rated) if len(chosen) > 1 else None)
        rows.append(cells)
    scale = evaluations[0].scale
    return Table(f"{prefix}-other", columns, rows, f"RMSE in points of the scale, {scale.low:g} to {scale.high:g}.")


def _scatters(
    evaluations: Sequence[Evaluation],
    concordance: Mapping[str, Mapping[str, Estimate]],
    colours: Mapping[str, int],
    prefix: str,
) -> Pictures:
    pictures = [
        scatter(
            f"{prefix}-scatter-{number}-{dimension}",
            f"{evaluation.system}: {dimension}",
            evaluation.ratings[evaluation.rated(index), index],
            evaluation.predictions[evaluation.rated(index), index],
            low=evaluation.scale.low,
            high=evaluation.scale.high,
            series=colours.get(evaluation.system, 0),
            note=f"CCC {concordance[evaluation.system][dimension].value:.2f}",
        )
        for number, evaluation in enumerate(evaluations, start=1)
        for index, dimension in enumerate(DIMENSIONS)
        if dimension in concordance[evaluation.system]
    ]
    return Pictures(pictures, "Every dot is an utterance; on the line, prediction and rating are equal.")
