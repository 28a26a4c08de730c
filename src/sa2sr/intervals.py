"""How far predictions may be off: intervals by split conformal prediction, one width a dimension.

On rated utterances that the network was not trained on, the absolute residuals |prediction - rating| are measured. Of n
of them the half width at a level is the k-th smallest, k = ceil(level * (n + 1)): of utterances like these, at least
that share of ratings lies within prediction +- half width, on average over calibration sets (Vovk et al., 2005; Lei et
al., 2018). The n + 1 counts the new utterance; where k > n there are too few residuals for the level, and no finite
width keeps the promise.

The promise is about utterances that are exchangeable with those measured: of the same kind of speech, speakers and
raters. Residuals of one speaker resemble each other, so that a few speakers say less than many utterances suggest.
Where speakers are few, each can be left out of one of several trainings, whose residuals are then pooled
(cross-conformal prediction: Vovk, 2015; Barber et al., 2021, on how near it comes to the promise).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from sa2sr.config import DIMENSIONS, Scale, Settings

LEVEL = 0.9  # of the intervals in a table, where none is asked for
REPORTED_LEVELS = (0.8, 0.9, 0.95)
MOST_RESIDUALS = 999  # that are kept: any level in steps of 0.001 is then as exact as with all of them
MOST_MANIFESTS = 100  # that are named

Floats = NDArray[np.float64]
Residual = Annotated[float, Field(ge=0, le=1e9)]


class Residuals(Settings):
    """Of one dimension, as they are kept: all of them, or 999 evenly spaced ones."""

    utterances: int = Field(ge=1)
    speakers: int = Field(ge=0)  # 0: not known
    sizes: tuple[Residual, ...] = Field(min_length=1, max_length=MOST_RESIDUALS)  # ascending, on the model's scale

    @model_validator(mode="after")
    def _possible(self) -> "Residuals":
        if len(self.sizes) != min(self.utterances, MOST_RESIDUALS):
            raise ValueError(f"{len(self.sizes)} sizes cannot come from {self.utterances} utterances")
        if any(later < earlier for earlier, later in zip(self.sizes, self.sizes[1:], strict=False)):
            raise ValueError("sizes must ascend")
        return self

    def half_width(self, level: float) -> float:
        """The half width at a level between 0 and 1; infinite where there are too few residuals for it."""
        rank = _rank(level, len(self.sizes))
        return self.sizes[rank - 1] if rank <= len(self.sizes) else math.inf

    @property
    def highest_level(self) -> float:
        """Above it there is no interval."""
        return len(self.sizes) / (len(self.sizes) + 1)


class Calibration(Settings):
    """What ``intervals.json`` of a model folder holds: the residuals of each dimension that had ratings.

    ``cuts`` are the last two parts of the manifests' paths, such as ``msp/dev.jsonl.gz``.
    """

    format: Literal[1] = 1
    cuts: tuple[Annotated[str, Field(max_length=600)], ...] = Field(default=(), max_length=MOST_MANIFESTS)
    trainings: int = Field(default=1, ge=1)  # whose residuals are pooled
    activation: Residuals | None = None
    valence: Residuals | None = None
    dominance: Residuals | None = None

    @property
    def dimensions(self) -> dict[str, Residuals]:
        """The dimensions that are calibrated, and their residuals."""
        return {name: residuals for name in DIMENSIONS if (residuals := getattr(self, name)) is not None}

    def half_widths(self, level: float) -> Floats:
        """Of activation, valence and dominance, (3,): infinite where there are none or too few residuals."""
        known = self.dimensions
        return np.array([known[name].half_width(level) if name in known else math.inf for name in DIMENSIONS])


def calibration(
    predictions: ArrayLike, ratings: ArrayLike, speakers: Sequence[str | None] = (), cuts: Sequence[str | Path] = ()
) -> Calibration:
    """Measure residuals.

    Args:
        predictions: (N, 3), as they are given to users: clipped to the scale
        ratings: (N, 3), NaN where unknown
        speakers: of the N utterances, None where unknown
        cuts: the manifests that they come from
    """
    residuals = np.abs(np.asarray(predictions, float) - np.asarray(ratings, float)).reshape(-1, len(DIMENSIONS))
    names = np.array([*speakers] or [None] * len(residuals), object)
    found: dict[str, Any] = {}
    for column, dimension in enumerate(DIMENSIONS):
        known = np.isfinite(residuals[:, column])
        if known.any():
            sizes = tuple(thinned(residuals[known, column]).tolist())
            count = len({*names[known]} - {None})
            found[dimension] = Residuals(utterances=int(known.sum()), speakers=count, sizes=sizes)
    sources = tuple("/".join(Path(path).resolve().parts[-2:]) for path in cuts)
    return Calibration(cuts=sources[:MOST_MANIFESTS], **found)


def pooled(parts: Sequence[Calibration]) -> Calibration:
    """The residuals of several trainings on different parts of a corpus, each on what it was not trained on.

    Utterances and speakers are added up, those that several trainings were measured on too.
    """
    found: dict[str, Any] = {}
    for dimension in DIMENSIONS:
        known = [each.dimensions[dimension] for each in parts if dimension in each.dimensions]
        if known:
            found[dimension] = _together(known)
    cuts = dict.fromkeys(name for each in parts for name in each.cuts)
    trainings = sum(each.trainings for each in parts)
    return Calibration(cuts=tuple(cuts)[:MOST_MANIFESTS], trainings=trainings, **found)


def _together(parts: Sequence[Residuals]) -> Residuals:
    sizes = np.concatenate([each.sizes for each in parts])
    stand_for = np.concatenate([np.full(len(each.sizes), each.utterances / len(each.sizes)) for each in parts])
    return Residuals(
        utterances=sum(each.utterances for each in parts),
        speakers=sum(each.speakers for each in parts) if all(each.speakers for each in parts) else 0,
        sizes=tuple(thinned(sizes, stand_for=stand_for).tolist()),
    )


def thinned(residuals: ArrayLike, most: int = MOST_RESIDUALS, stand_for: ArrayLike = 1.0) -> Floats:
    """At most ``most`` of the residuals, ascending: those with ranks ceil(j * (n + 1) / (most + 1)), j = 1, 2, ...

    A half width that is taken from these is never below that from all of them, and equal at each multiple of
    1 / (most + 1).

    Args:
        residuals: (n,)
        most: that are kept
        stand_for: how many utterances each stands for, where some have been thinned before
    """
    found = np.asarray(residuals, float)
    order = np.argsort(found, kind="stable")
    utterances = np.cumsum(np.broadcast_to(np.asarray(stand_for, float), found.shape)[order])
    count = round(utterances[-1])
    if count <= most:
        return found[order]
    ranks = -(-np.arange(1, most + 1) * (count + 1) // (most + 1))
    kept: Floats = found[order][np.searchsorted(utterances, ranks - 1e-6)]
    return kept


def bounds(predictions: ArrayLike, half_widths: ArrayLike, scale: Scale) -> tuple[Floats, Floats]:
    """Low and high ends of the intervals of (N, 3) or (3,) predictions, within the scale; NaN where there are none.

    No rating is beyond its scale, so that what is cut off there costs no coverage.
    """
    centre, half = np.asarray(predictions, float), np.asarray(half_widths, float)
    half = np.where(np.isfinite(half), half, np.nan)
    return np.clip(centre - half, scale.low, scale.high), np.clip(centre + half, scale.low, scale.high)


def coverage(predictions: ArrayLike, ratings: ArrayLike, half_widths: ArrayLike, scale: Scale) -> list[dict[str, Any]]:
    """What intervals hold in truth, of each dimension: ratings within them (a share), their mean width, how many.

    Args:
        predictions: (N, 3), clipped to the scale
        ratings: (N, 3), NaN where unknown
        half_widths: (3,)
        scale: of both

    Returns:
        ``{"utterances": 93, "half_width": 1.2, "coverage": 0.91, "mean_width": 2.3}`` for each dimension, or an empty
        dictionary where there is no interval or no rating
    """
    predicted, truth, halves = (np.asarray(each, float) for each in (predictions, ratings, half_widths))
    low, high = bounds(predicted, halves, scale)
    within = np.abs(predicted - truth) <= halves + 1e-9  # half widths are differences, which round
    found: list[dict[str, Any]] = []
    for column, half in enumerate(halves):
        known = np.isfinite(truth[:, column])
        if not known.any() or not np.isfinite(half):
            found.append({})
            continue
        found.append(
            {
                "utterances": int(known.sum()),
                "half_width": float(half),
                "coverage": float(within[known, column].mean()),
                "mean_width": float((high - low)[known, column].mean()),
            }
        )
    return found


def _rank(level: float, count: int) -> int:
    # Rounded first, since 0.9 * 10 must not be a little more than 9.
    return max(1, math.ceil(round(level * (count + 1), 9)))
