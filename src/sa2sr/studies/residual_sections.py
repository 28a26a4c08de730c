"""What is left when a prediction is taken from its rating: by gender and by speaker."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS
from sa2sr.studies.document import Block, Cell, Column, Pictures, Table
from sa2sr.studies.plots import Curve, curves
from sa2sr.studies.systems import System

_FEWEST = 2  # speakers, or genders, that are worth a comparison


def residual_blocks(systems: Sequence[System], colours: Mapping[str, int], prefix: str) -> list[Block]:
    """Residuals of systems on one set, as far as speakers and genders are known.

    A residual is a prediction, mean over the seeds, minus its rating: above 0 the system predicts too much.
    """
    blocks: list[Block] = []
    if len({*systems[0].genders} - {None}) >= _FEWEST:
        blocks.append(_gender_table(systems, prefix))
    if len({*systems[0].speakers} - {None}) >= _FEWEST:
        blocks.append(_speaker_table(systems, prefix))
        pictures = [
            curves(
                f"{prefix}-residuals-{dimension}",
                f"residual of {dimension}",
                [_speaker_curve(system, index, colours.get(system.name, 0)) for system in systems],
                x_label="speakers, each system's own order",
                y_label="mean residual",
            )
            for index, dimension in enumerate(DIMENSIONS)
            if all(len(speaker_residuals(system, index)) >= _FEWEST for system in systems)
        ]
        blocks.append(
            Pictures(pictures, "Mean residual of each speaker, from the lowest to the highest: flat is fair.")
        )
    return blocks


def residuals(system: System, dimension: int) -> NDArray[np.float64]:
    """Prediction, mean over the seeds, minus rating, shape (N,), NaN where one of them is unknown."""
    left: NDArray[np.float64] = system.predictions[:, :, dimension].mean(axis=0) - system.ratings[:, dimension]
    return left


def speaker_residuals(system: System, dimension: int) -> dict[str, float]:
    """The mean residual of each speaker with a rating."""
    return _group_means(residuals(system, dimension), system.speakers)


def _group_means(values: NDArray[np.float64], groups: Sequence[str | None]) -> dict[str, float]:
    members: dict[str, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        if group is not None and np.isfinite(value):
            members.setdefault(group, []).append(float(value))
    return {group: float(np.mean(own)) for group, own in sorted(members.items())}


def _gender_table(systems: Sequence[System], prefix: str) -> Table:
    columns = [
        Column("system", "system"),
        Column("gender", "gender"),
        *(Column(f"{dimension}_residual", f"{dimension}, residual") for dimension in DIMENSIONS),
        *(Column(f"{dimension}_rmse", f"{dimension}, RMSE") for dimension in DIMENSIONS),
        Column("utterances", "utterances"),
    ]
    rows: list[list[Cell]] = []
    for system in systems:
        left = [residuals(system, dimension) for dimension in range(len(DIMENSIONS))]
        squares = [_group_means(each**2, system.genders) for each in left]
        means = [_group_means(each, system.genders) for each in left]
        for gender in sorted({gender for gender in system.genders if gender is not None}):
            roots = [float(np.sqrt(of[gender])) if gender in of else None for of in squares]
            count = sum(system.genders[row] == gender for row in system.counted)
            rows.append([system.name, gender, *(of.get(gender) for of in means), *roots, count])
    caption = "Residual: mean of prediction minus rating. RMSE: of the prediction that is the mean over the seeds."
    return Table(f"{prefix}-gender", columns, rows, caption)


def _speaker_table(systems: Sequence[System], prefix: str) -> Table:
    columns = [Column("system", "system"), Column("speakers", "speakers")]
    for dimension in DIMENSIONS:
        columns += [
            Column(f"{dimension}_spread", f"{dimension}, spread", best="lowest"),
            Column(f"{dimension}_farthest", "farthest"),
        ]
    rows: list[list[Cell]] = []
    for system in systems:
        cells: list[Cell] = [system.name, len({*system.speakers} - {None})]
        for index in range(len(DIMENSIONS)):
            means = speaker_residuals(system, index)
            farthest = max(means, key=lambda speaker: abs(means[speaker]), default=None)
            spread = float(np.std([*means.values()], ddof=1)) if len(means) > 1 else None
            cells += [spread, f"{farthest} ({means[farthest]:+.2f})" if farthest is not None else None]
        rows.append(cells)
    caption = (
        "Mean residuals of speakers: their standard deviation, and the speaker who is judged farthest from the "
        "ratings. A part of the spread is chance, the more the fewer utterances a speaker has."
    )
    return Table(f"{prefix}-speakers", columns, rows, caption)


def _speaker_curve(system: System, dimension: int, colour: int) -> Curve:
    ordered = sorted(speaker_residuals(system, dimension).values())
    return Curve(system.name, [float(rank) for rank in range(1, len(ordered) + 1)], ordered, series=colour)
