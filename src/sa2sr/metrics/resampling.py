"""Bootstrap intervals of metrics, and of the differences between systems."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa2sr.metrics.weighted import WEIGHTED, Floats, MetricName, of_all

_CELLS = 4_000_000  # weights held in memory at once


@dataclass(frozen=True)
class Estimate:
    """A value and its confidence interval; the bounds are NaN where there are fewer than two utterances or speakers."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Estimate):
    """A difference, its confidence interval, and the p-value against no difference."""

    p_value: float


def bootstrap(
    prediction: ArrayLike,
    truth: ArrayLike,
    *,
    metric: MetricName = "ccc",
    speakers: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A metric with its percentile bootstrap interval (Efron, 1979).

    Args:
        prediction: as the metric takes it; for ``ratio``, which gives error rates, what :func:`edits` returns first
        truth: as the metric takes it; for ``ratio`` the second of :func:`edits`
        metric: its name
        speakers: who speaks each utterance, to draw whole speakers rather than utterances: the interval is then about
            new speakers. An utterance of speaker None stands for itself
        resamples: how many
        level: of confidence
        seed: the same seed gives the same interval
    """
    drawn = resampled(prediction, truth, metric=metric, speakers=speakers, resamples=resamples, seed=seed)
    return estimate(of_all(metric, prediction, truth), drawn, level)


def resampled(
    prediction: ArrayLike,
    truth: ArrayLike,
    *,
    metric: MetricName = "ccc",
    speakers: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Floats:
    """The metric in every resample of :func:`bootstrap`, shape (R,); none where there are fewer than two to draw.

    The same seed draws the same utterances, or speakers, whatever the predictions: what comes out for one model can be
    set against what comes out for another.
    """
    function, p, y = WEIGHTED[metric], np.asarray(prediction), np.asarray(truth)
    drawn = [function(p, y, weights) for weights in _resamples(len(y), speakers, resamples, seed)]
    return np.concatenate([*drawn, []])


def estimate(value: float, drawn: Floats, level: float = 0.95) -> Estimate:
    """A value with the percentile interval of its resamples, shape (R,)."""
    return Estimate(value, *_interval(drawn, level))


def difference(value: float, drawn: Floats, level: float = 0.95) -> Difference:
    """A difference with the percentile interval of its resamples, shape (R,), and its two-sided p-value.

    The p-value is twice the share of resamples on the rarer side of zero, those at zero on both, one resample added to
    each count so that it is never 0.
    """
    known = drawn[np.isfinite(drawn)]
    rarer = min((known <= 0).sum(), (known >= 0).sum())
    p_value = min(1.0, 2 * (rarer + 1) / (len(known) + 1)) if len(known) else float("nan")
    return Difference(value, *_interval(known, level), float(p_value))


def bootstrap_counts(
    prediction: ArrayLike,
    truth: ArrayLike,
    counts: ArrayLike,
    *,
    metric: MetricName = "spearman",
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """:func:`bootstrap` over utterances that are given as distinct pairs, shape (N,), and how often each occurs."""
    function, p, y, weights = WEIGHTED[metric], np.asarray(prediction), np.asarray(truth), np.asarray(counts, float)
    total = int(weights.sum())
    value = float(function(p, y, weights[None])[0])
    if total < 2:
        return Estimate(value, float("nan"), float("nan"))
    drawn = np.random.default_rng(seed).multinomial(total, weights / total, size=resamples).astype(np.float64)
    return estimate(value, function(p, y, drawn), level)


def crossed_bootstrap(
    prediction: ArrayLike,
    truth: ArrayLike,
    rows: Sequence[Hashable],
    columns: Sequence[Hashable],
    *,
    metric: MetricName,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """:func:`bootstrap` of a crossed design, such as sentences that are all said by the same voices.

    Whole rows and whole columns are drawn, each apart from the other, and an utterance counts as often as its row
    times as often as its column: the interval is about new sentences and new voices. What is peculiar to a pair of
    them counts up to three times, so the interval is rather too wide than too narrow (McCullagh, 2000; Owen, 2007).

    Args:
        prediction: as for :func:`bootstrap`
        truth: as for :func:`bootstrap`; with ones and the metric ``ratio``, the mean of ``prediction``
        rows: the sentence, say, of each utterance
        columns: the voice, say, of each utterance

    Other arguments as for :func:`bootstrap`. The bounds are NaN where there are fewer than two rows or columns.
    """
    function, p, y = WEIGHTED[metric], np.asarray(prediction), np.asarray(truth)
    value = of_all(metric, p, y)
    drawn = [function(p, y, weights) for weights in _crossed_resamples(rows, columns, resamples, seed)]
    return estimate(value, np.concatenate([*drawn, []]), level)


def _resamples(count: int, speakers: Sequence[Hashable] | None, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each utterance is drawn, in pieces of shape (some resamples, N); nothing if there is one to draw."""
    if speakers is not None and len(speakers) != count:
        raise ValueError(f"{len(speakers)} speakers for {count} utterances")
    owners = np.arange(count) if speakers is None else _numbered(speakers)
    clusters = int(owners.max(initial=-1)) + 1
    if clusters < 2:
        return
    generator = np.random.default_rng(seed)
    for some in _pieces(resamples, count):
        weights = _draw(generator, some, clusters)
        yield weights if speakers is None else weights[:, owners]


def _crossed_resamples(
    rows: Sequence[Hashable], columns: Sequence[Hashable], resamples: int, seed: int
) -> Iterator[Floats]:
    """As :func:`_resamples`; nothing if there is one row or one column."""
    if len(rows) != len(columns):
        raise ValueError(f"{len(rows)} rows for {len(columns)} columns: each utterance has one of both")
    owners = [_numbered(rows), _numbered(columns)]
    clusters = [int(own.max(initial=-1)) + 1 for own in owners]
    if min(clusters) < 2:
        return
    generator = np.random.default_rng(seed)
    for some in _pieces(resamples, len(owners[0])):
        of_rows, of_columns = (_draw(generator, some, count) for count in clusters)
        yield of_rows[:, owners[0]] * of_columns[:, owners[1]]


def _pieces(resamples: int, count: int) -> Iterator[int]:
    """How many resamples of ``count`` utterances are held in memory, until all are done."""
    most = max(1, _CELLS // count)
    yield from (min(most, resamples - start) for start in range(0, resamples, most))


def _draw(generator: np.random.Generator, resamples: int, clusters: int) -> Floats:
    """How often each of ``clusters`` is drawn, shape (resamples, clusters)."""
    drawn = generator.integers(clusters, size=(resamples, clusters)) + clusters * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.ravel(), minlength=resamples * clusters).reshape(resamples, clusters)
    return counts.astype(np.float64)


def _numbered(speakers: Sequence[Hashable]) -> NDArray[np.int64]:
    numbers: dict[Hashable, int] = {}
    keys = (("utterance", index) if speaker is None else ("speaker", speaker) for index, speaker in enumerate(speakers))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _interval(values: Floats, level: float) -> tuple[float, float]:
    """Percentiles of the resamples in which the metric exists."""
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
