"""Metrics of predictions and their bootstrap intervals.

Every metric is written once, for weighted utterances: a bootstrap resample is nothing but whole-number weights (how
often each utterance was drawn), so that many resamples are a matrix product and no loop.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rapidfuzz.distance import Levenshtein

Floats = NDArray[np.float64]
_Metric = Callable[[NDArray[Any], NDArray[Any], Floats], Floats]
MetricName = Literal[
    "ccc", "pearson", "spearman", "rmse", "auc", "weighted_recall", "unweighted_recall", "macro_f1", "ratio"
]

_CELLS = 4_000_000  # weights held in memory at once
_ROUNDING = 1e-13  # a variance below this part of the squared range is rounding

# As people write them, in the order in which they are shown.
METRIC_LABELS = {
    "ccc": "CCC",
    "pearson": "Pearson",
    "rmse": "RMSE",
    "cer": "CER",
    "wer": "WER",
    "auc": "AUC",
    "weighted_recall": "weighted recall",
    "unweighted_recall": "unweighted recall",
    "uar": "UAR",
    "weighted_accuracy": "weighted accuracy",
    "macro_f1": "macro F1",
}


# --- Ratings ----------------------------------------------------------------------------------------------------------


def ccc(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Concordance correlation coefficient (Lin, 1989): ``2 cov / (var + var + (difference of the means)^2)``.

    Variances and covariance are divided by N, as Lin's and the emotion challenges' are. With N - 1 the value differs
    where the means do, since the difference of the means is then weighed less.

    Args:
        prediction: shape (N,)
        truth: shape (N,)

    Returns:
        -1..1; 0 if either side is constant; NaN if both are constant and equal, or if there are no utterances
    """
    return _of_all(_ccc, prediction, truth)


def pearson(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Pearson's correlation; NaN if either side, shape (N,), is constant."""
    return _of_all(_pearson, prediction, truth)


def spearman(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN if either side, shape (N,), is constant."""
    return _of_all(_spearman, prediction, truth)


def rmse(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Root mean squared error, sides of shape (N,); NaN if there are no utterances."""
    return _of_all(_rmse, prediction, truth)


# --- Classes ----------------------------------------------------------------------------------------------------------


def auc(scores: ArrayLike, truth: ArrayLike) -> float:
    """Area under the ROC curve by ranks, ties counted half (Mann and Whitney).

    Args:
        scores: shape (N, K), one class against the rest, mean over the classes that occur; or (N,), of class 1
        truth: class numbers, shape (N,)

    Returns:
        0..1; NaN if fewer than two classes occur
    """
    return _of_all(_auc, scores, truth)


def recall(prediction: ArrayLike, truth: ArrayLike, *, weighted: bool) -> float:
    """Recall of class numbers, shape (N,): over utterances (weighted), or the mean of the classes that occur."""
    return _of_all(_weighted_recall if weighted else _unweighted_recall, prediction, truth)


def f1(prediction: ArrayLike, truth: ArrayLike) -> float:
    """F1 of class numbers, shape (N,): the harmonic mean of recall and precision, mean of the classes that occur, be it
    as predictions alone; 0 for a class that is never right."""
    return _of_all(_macro_f1, prediction, truth)


def confusion(prediction: ArrayLike, truth: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts by true (row) and predicted (column) class, shape (K, K)."""
    p, y = np.asarray(prediction, np.int64), np.asarray(truth, np.int64)
    if p.shape != y.shape or (p.size and not (min(p.min(), y.min()) >= 0 and max(p.max(), y.max()) < classes)):
        raise ValueError(f"classes must be 0 to {classes - 1}, and as many predicted as true")
    return np.bincount(y * classes + p, minlength=classes * classes).reshape(classes, classes)


# --- Transcripts ------------------------------------------------------------------------------------------------------


def error_rate(hypotheses: Sequence[str], references: Sequence[str], *, unit: Literal["character", "word"]) -> float:
    """CER or WER of a corpus: edits of all utterances by the length of all references; NaN without references."""
    return _of_all(_ratio, *edits(hypotheses, references, unit=unit))


def edits(
    hypotheses: Sequence[str], references: Sequence[str], *, unit: Literal["character", "word"]
) -> tuple[Floats, Floats]:
    """Edits (Levenshtein) and length of the reference, in characters or words, of every utterance: two of (N,)."""

    def units(text: str) -> Sequence[str]:
        return text.split() if unit == "word" else text

    pairs = [(units(h), units(r)) for h, r in zip(hypotheses, references, strict=True)]
    distances = [Levenshtein.distance(h, r) for h, r in pairs]
    return np.array(distances, np.float64), np.array([len(r) for _, r in pairs], np.float64)


# --- Intervals --------------------------------------------------------------------------------------------------------


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
    return estimate(_of_all(_METRICS[metric], prediction, truth), drawn, level)


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
    function, p, y = _METRICS[metric], np.asarray(prediction), np.asarray(truth)
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
    function, p, y, weights = _METRICS[metric], np.asarray(prediction), np.asarray(truth), np.asarray(counts, float)
    total = int(weights.sum())
    value = float(function(p, y, weights[None])[0])
    if total < 2:
        return Estimate(value, float("nan"), float("nan"))
    drawn = np.random.default_rng(seed).multinomial(total, weights / total, size=resamples).astype(np.float64)
    return estimate(value, function(p, y, drawn), level)


def paired_bootstrap(
    prediction_a: ArrayLike,
    prediction_b: ArrayLike,
    truth: ArrayLike,
    *,
    metric: MetricName = "ccc",
    speakers: Sequence[Hashable] | None = None,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """The metric of ``a`` minus that of ``b`` on the same utterances, drawn together.

    For the p-value see :func:`difference`; other arguments as for :func:`bootstrap`.
    """
    pairs = [
        resampled(prediction, truth, metric=metric, speakers=speakers, resamples=resamples, seed=seed)
        for prediction in (prediction_a, prediction_b)
    ]
    function = _METRICS[metric]
    value = _of_all(function, prediction_a, truth) - _of_all(function, prediction_b, truth)
    return difference(value, pairs[0] - pairs[1], level)


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
    function, p, y = _METRICS[metric], np.asarray(prediction), np.asarray(truth)
    value = _of_all(function, p, y)
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


# --- The metrics of weighted utterances: weights (R, N) -> values (R,) -----------------------------------------------


def _of_all(function: _Metric, prediction: ArrayLike, truth: ArrayLike) -> float:
    """The metric of all utterances, each counted once."""
    p, y = np.asarray(prediction), np.asarray(truth)
    if y.ndim != 1 or p.shape[:1] != y.shape:
        raise ValueError(f"predictions of shape {p.shape} do not fit utterances of shape {y.shape}")
    return float(function(p, y, np.ones((1, len(y))))[0])


@dataclass(frozen=True)
class _Moments:
    """Means, 1/N variances and covariance of two variables x and y in every resample, each of shape (R,)."""

    mean_x: Floats
    mean_y: Floats
    variance_x: Floats
    variance_y: Floats
    covariance: Floats


def _moments(x: NDArray[Any], y: NDArray[Any], weights: Floats) -> _Moments:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    x0, y0 = x[:1].sum(), y[:1].sum()
    dx, dy = x - x0, y - y0  # moments about a value: constants become exact zeros, and a large mean costs no digits
    sums = weights @ np.stack([dx, dy, dx * dx, dy * dy, dx * dy], axis=1)
    mean_dx, mean_dy, xx, yy, xy = _divide(sums, weights.sum(axis=1, keepdims=True)).T
    variance_x, variance_y = xx - mean_dx**2, yy - mean_dy**2
    variance_x[variance_x <= _ROUNDING * (dx * dx).max(initial=0)] = 0
    variance_y[variance_y <= _ROUNDING * (dy * dy).max(initial=0)] = 0
    covariance = np.where((variance_x == 0) | (variance_y == 0), 0, xy - mean_dx * mean_dy)
    return _Moments(mean_dx + x0, mean_dy + y0, variance_x, variance_y, covariance)


def _ccc(prediction: NDArray[Any], truth: NDArray[Any], weights: Floats) -> Floats:
    m = _moments(prediction, truth, weights)
    return _divide(2 * m.covariance, m.variance_x + m.variance_y + (m.mean_x - m.mean_y) ** 2)


def _pearson(prediction: NDArray[Any], truth: NDArray[Any], weights: Floats) -> Floats:
    m = _moments(prediction, truth, weights)
    return np.clip(_divide(m.covariance, np.sqrt(m.variance_x * m.variance_y)), -1, 1)


def _spearman(prediction: NDArray[Any], truth: NDArray[Any], weights: Floats) -> Floats:
    mean_rank = (weights.sum(axis=1, keepdims=True) + 1) / 2
    dx, dy = _ranks(prediction, weights) - mean_rank, _ranks(truth, weights) - mean_rank
    xx, yy, xy = (np.einsum("rn,rn,rn->r", weights, a, b) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    return np.clip(_divide(xy, np.sqrt(xx * yy)), -1, 1)


def _rmse(prediction: NDArray[Any], truth: NDArray[Any], weights: Floats) -> Floats:
    errors = np.asarray(prediction, np.float64) - truth
    return np.sqrt(_divide(weights @ (errors * errors), weights.sum(axis=1)))


def _auc(scores: NDArray[Any], truth: NDArray[Any], weights: Floats) -> Floats:
    if scores.ndim == 1:
        return _area(_ranks(scores, weights), truth == 1, weights)
    areas = [_area(_ranks(scores[:, label], weights), truth == label, weights) for label in np.unique(truth)]
    return _mean_of_known(areas, len(weights))


def _area(ranks: Floats, positive: NDArray[np.bool_], weights: Floats) -> Floats:
    """Area under the ROC curve of ranks, shape (R, N)."""
    count, rest = weights @ positive, weights @ ~positive
    rank_sum = np.einsum("rn,rn->r", weights[:, positive], ranks[:, positive])
    return _divide(rank_sum - count * (count + 1) / 2, count * rest)


def _weighted_recall(prediction: NDArray[Any], truth: NDArray[Any], weights: Floats) -> Floats:
    return _divide(weights @ (prediction == truth), weights.sum(axis=1))


def _unweighted_recall(prediction: NDArray[Any], truth: NDArray[Any], weights: Floats) -> Floats:
    classes = [truth == label for label in np.unique(truth)]
    recalls = [_divide(weights @ (own & (prediction == truth)), weights @ own) for own in classes]
    return _mean_of_known(recalls, len(weights))


def _macro_f1(prediction: NDArray[Any], truth: NDArray[Any], weights: Floats) -> Floats:
    scores = []
    for label in np.union1d(prediction, truth):
        said, true = prediction == label, truth == label
        scores.append(_divide(2 * (weights @ (said & true)), weights @ said + weights @ true))
    return _mean_of_known(scores, len(weights))


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any], weights: Floats) -> Floats:
    return _divide(weights @ numerator, weights @ denominator)


_METRICS: dict[MetricName, _Metric] = {
    "ccc": _ccc,
    "pearson": _pearson,
    "spearman": _spearman,
    "rmse": _rmse,
    "auc": _auc,
    "weighted_recall": _weighted_recall,
    "unweighted_recall": _unweighted_recall,
    "macro_f1": _macro_f1,
    "ratio": _ratio,
}


def _ranks(values: NDArray[Any], weights: Floats) -> Floats:
    """Mean rank of each value, shape (N,), among as many copies of the values as their weights, shape (R, N), say."""
    if np.isnan(values).any():
        return np.full(weights.shape, np.nan)
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    below = np.concatenate([np.zeros((len(weights), 1)), weights[:, order].cumsum(axis=1)], axis=1)
    first, last = np.searchsorted(ordered, ordered, "left"), np.searchsorted(ordered, ordered, "right")
    ranks = np.empty(weights.shape)
    ranks[:, order] = (below[:, first] + below[:, last] + 1) / 2
    return ranks


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    """The quotient; NaN where the denominator is 0."""
    blank = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    quotient: Floats = np.divide(numerator, denominator, out=blank, where=denominator != 0)
    return quotient


def _mean_of_known(values: Sequence[Floats], count: int) -> Floats:
    """Mean over the first axis, NaN left out, shape (R,)."""
    stacked = np.reshape(values, (-1, count))
    known = np.isfinite(stacked)
    return _divide(np.where(known, stacked, 0).sum(axis=0), known.sum(axis=0))
