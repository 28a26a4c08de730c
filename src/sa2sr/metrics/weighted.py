"""The metrics of weighted utterances: weights (R, N) -> values (R,).

A bootstrap resample is nothing but whole-number weights, how often each utterance was drawn, so that many resamples are
a matrix product and no loop; the metric itself is that of equal weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_Metric = Callable[[NDArray[Any], NDArray[Any], Floats], Floats]
MetricName = Literal[
    "ccc", "pearson", "spearman", "rmse", "auc", "weighted_recall", "unweighted_recall", "macro_f1", "ratio"
]

_ROUNDING = 1e-13  # a variance below this part of the squared range is rounding


def of_all(metric: MetricName, prediction: ArrayLike, truth: ArrayLike) -> float:
    """The metric of all utterances, each counted once."""
    p, y = np.asarray(prediction), np.asarray(truth)
    if y.ndim != 1 or p.shape[:1] != y.shape:
        raise ValueError(f"predictions of shape {p.shape} do not fit utterances of shape {y.shape}")
    return float(WEIGHTED[metric](p, y, np.ones((1, len(y))))[0])


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


WEIGHTED: dict[MetricName, _Metric] = {
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
