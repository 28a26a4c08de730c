"""What an audit finds, in the form in which ``audit.json`` keeps it, and how it is computed from predictions.

Predictions are arrays of shape (carriers, 3, voices), NaN where there is none; the 3 are positive, neutral, negative.
Every number is about pairs of one carrier and one voice: the neutral sentence and its twin, said alike. Every interval
is drawn over carriers and over voices, crossed (:func:`sa2sr.metrics.crossed_bootstrap`).
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, Scale, Settings
from sa2sr.metrics import Estimate, MetricName, crossed_bootstrap

Floats = NDArray[np.float64]


class Interval(Settings):
    """A value and its confidence interval; null where there is none."""

    value: float | None
    low: float | None
    high: float | None

    @property
    def estimate(self) -> Estimate:
        """With NaN for null."""
        return Estimate(*(math.nan if bound is None else bound for bound in (self.value, self.low, self.high)))

    def times(self, factor: float) -> "Interval":
        """In another unit."""
        return Interval(**{name: None if bound is None else bound * factor for name, bound in self})


class Shift(Settings):
    """Mean differences between twins."""

    positive: Interval  # positive minus neutral
    negative: Interval  # negative minus neutral
    positive_minus_negative: Interval

    def times(self, factor: float) -> "Shift":
        """In another unit."""
        return Shift(
            positive=self.positive.times(factor),
            negative=self.negative.times(factor),
            positive_minus_negative=self.positive_minus_negative.times(factor),
        )


class Effect(Settings):
    """What the words do to one dimension."""

    unit: Shift  # as a part of the scale, which is 0 to 1
    points: Shift  # of the model's own scale
    positive_rises: Interval  # share of pairs in which the positive twin is above the neutral one; ties count half
    negative_falls: Interval  # share of pairs in which the negative twin is below the neutral one; ties count half
    auc: Interval  # positive against negative sentences, over all of them


class Sentence(Settings):
    """A carrier and its three words."""

    carrier: str
    positive: str
    neutral: str
    negative: str


class Design(Settings):
    """What was said."""

    language: str
    prosody: dict[str, int]
    engine: str
    sentences: tuple[Sentence, ...]
    voices: dict[str, tuple[str, ...]]  # by group; those of "test" are in none of the spoken training sets
    utterances: int
    seconds: dict[str, float]  # mean duration of the sentences of each sentiment
    not_spoken: tuple[str, ...] = ()


class Resampling(Settings):
    """How the intervals were drawn."""

    method: Literal["percentile bootstrap over carriers and voices, crossed"] = (
        "percentile bootstrap over carriers and voices, crossed"
    )
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0


class AuditedModel(Settings):
    """What the words do to the predictions of one model."""

    name: str
    path: str
    model: str  # its own name
    scale: Scale
    utterances: int  # that it gave numbers for
    failures: tuple[str, ...]  # the first of those that it gave none for
    effects: dict[str, Effect]  # by dimension
    valence_by_voices: dict[str, Effect]  # by group of voices, where there are two groups or more
    beyond_first: dict[str, Shift]  # by dimension: how much further than the first model's, on 0 to 1


class Audit(Settings):
    """The content of ``audit.json``."""

    format: Literal[1] = 1
    test: Literal["linguistic sentiment"] = "linguistic sentiment"
    sa2sr: str
    design: Design
    resampling: Resampling
    models: tuple[AuditedModel, ...]
    failed: dict[str, str]  # models that could not be audited, and why


# --- Computing it -----------------------------------------------------------------------------------------------------


def effect(values: Floats, scale: Scale, resampling: Resampling) -> Effect:
    """What the words do to one dimension.

    Args:
        values: predictions on the scale, (carriers, 3, voices)
        scale: of the predictions
        resampling: of the intervals
    """
    span = scale.high - scale.low
    positive, neutral, negative = (values - scale.low).transpose(1, 0, 2) / span
    unit = _shift((values - scale.low) / span, resampling)
    return Effect(
        unit=unit,
        points=unit.times(span),
        positive_rises=_mean(np.heaviside(positive - neutral, 0.5), resampling),
        negative_falls=_mean(np.heaviside(neutral - negative, 0.5), resampling),
        auc=_separation(positive, negative, resampling),
    )


def effects(emotions: Floats, scale: Scale, resampling: Resampling) -> dict[str, Effect]:
    """:func:`effect` of each dimension; emotions of shape (carriers, 3, voices, 3 dimensions)."""
    return {name: effect(emotions[..., index], scale, resampling) for index, name in enumerate(DIMENSIONS)}


def shift_beyond(
    emotions: Floats, scale: Scale, others: Floats, other_scale: Scale, resampling: Resampling
) -> dict[str, Shift]:
    """How much further a model's predictions shift than another's on the same pairs, by dimension, on 0 to 1.

    Emotions of shape (carriers, 3, voices, 3 dimensions).
    """
    apart = emotions / (scale.high - scale.low) - others / (other_scale.high - other_scale.low)
    return {name: _shift(apart[..., index], resampling) for index, name in enumerate(DIMENSIONS)}


def _shift(values: Floats, resampling: Resampling) -> Shift:
    """Of predictions (carriers, 3, voices): positive, neutral and negative sentences."""
    positive, neutral, negative = values.transpose(1, 0, 2)
    return Shift(
        positive=_mean(positive - neutral, resampling),
        negative=_mean(negative - neutral, resampling),
        positive_minus_negative=_mean(positive - negative, resampling),
    )


def _mean(pairs: Floats, resampling: Resampling) -> Interval:
    """The mean of what is known of (carriers, voices)."""
    carriers, voices = np.nonzero(np.isfinite(pairs))
    values = pairs[carriers, voices]
    return _crossed(values, np.ones(len(values)), carriers, voices, "ratio", resampling)


def _separation(positive: Floats, negative: Floats, resampling: Resampling) -> Interval:
    """The area under the ROC curve of positive against negative sentences."""
    both = np.stack([negative, positive])
    truth, carriers, voices = np.nonzero(np.isfinite(both))
    return _crossed(both[truth, carriers, voices], truth, carriers, voices, "auc", resampling)


def _crossed(
    values: Floats,
    truth: NDArray[np.int64] | Floats,
    carriers: NDArray[np.int64],
    voices: NDArray[np.int64],
    metric: MetricName,
    resampling: Resampling,
) -> Interval:
    if not len(values):
        return Interval(value=None, low=None, high=None)
    estimate = crossed_bootstrap(
        values,
        truth,
        carriers.tolist(),
        voices.tolist(),
        metric=metric,
        resamples=resampling.resamples,
        level=resampling.level,
        seed=resampling.seed,
    )
    value, low, high = (
        bound if math.isfinite(bound) else None for bound in (estimate.value, estimate.low, estimate.high)
    )
    return Interval(value=value, low=low, high=high)
