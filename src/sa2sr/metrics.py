"""Metrics of predictions, in numpy alone."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rapidfuzz.distance import Levenshtein
from scipy.stats import rankdata


def ccc(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Concordance correlation coefficient with 1/N statistics (Lin, 1989); NaN where both sides are constant and equal."""
    p, y = np.asarray(prediction, float), np.asarray(truth, float)
    covariance = ((p - p.mean()) * (y - y.mean())).mean()
    denominator = p.var() + y.var() + (p.mean() - y.mean()) ** 2
    return float(2 * covariance / denominator) if denominator > 0 else float("nan")


def auc(scores: NDArray[np.floating], truth: NDArray[np.integer]) -> float:
    """Area under the ROC curve, one class against the rest, mean over the classes that occur: scores (N, K)."""
    areas = []
    for label in np.unique(truth):
        positive = truth == label
        count, rest = positive.sum(), (~positive).sum()
        if rest:
            ranks = rankdata(scores[:, label])
            areas.append((ranks[positive].sum() - count * (count + 1) / 2) / (count * rest))
    return float(np.mean(areas)) if areas else float("nan")


def recall(prediction: NDArray[np.integer], truth: NDArray[np.integer], *, weighted: bool) -> float:
    """Recall, the mean over utterances (weighted) or over classes (unweighted)."""
    hits = prediction == truth
    if weighted:
        return float(hits.mean())
    return float(np.mean([hits[truth == label].mean() for label in np.unique(truth)]))


def error_rate(hypotheses: Sequence[str], references: Sequence[str], *, unit: str) -> float:
    """CER or WER of a set: edits divided by the length of the references; ``unit`` is ``character`` or ``word``."""
    split = (lambda text: text.split()) if unit == "word" else (lambda text: text)
    pairs = [(split(h), split(r)) for h, r in zip(hypotheses, references, strict=True)]
    return sum(Levenshtein.distance(h, r) for h, r in pairs) / max(1, sum(len(r) for _, r in pairs))
