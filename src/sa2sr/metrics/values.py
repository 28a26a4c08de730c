"""Metrics of predictions: single values."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rapidfuzz.distance import Levenshtein

from sa2sr.metrics.weighted import Floats, of_all

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
    return of_all("ccc", prediction, truth)


def pearson(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Pearson's correlation; NaN if either side, shape (N,), is constant."""
    return of_all("pearson", prediction, truth)


def spearman(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN if either side, shape (N,), is constant."""
    return of_all("spearman", prediction, truth)


def rmse(prediction: ArrayLike, truth: ArrayLike) -> float:
    """Root mean squared error, sides of shape (N,); NaN if there are no utterances."""
    return of_all("rmse", prediction, truth)


# --- Classes ----------------------------------------------------------------------------------------------------------


def auc(scores: ArrayLike, truth: ArrayLike) -> float:
    """Area under the ROC curve by ranks, ties counted half (Mann and Whitney).

    Args:
        scores: shape (N, K), one class against the rest, mean over the classes that occur; or (N,), of class 1
        truth: class numbers, shape (N,)

    Returns:
        0..1; NaN if fewer than two classes occur
    """
    return of_all("auc", scores, truth)


def recall(prediction: ArrayLike, truth: ArrayLike, *, weighted: bool) -> float:
    """Recall of class numbers, shape (N,): over utterances (weighted), or the mean of the classes that occur."""
    return of_all("weighted_recall" if weighted else "unweighted_recall", prediction, truth)


def f1(prediction: ArrayLike, truth: ArrayLike) -> float:
    """F1 of class numbers, shape (N,): the harmonic mean of recall and precision, mean of the classes that occur, be it
    as predictions alone; 0 for a class that is never right."""
    return of_all("macro_f1", prediction, truth)


def confusion(prediction: ArrayLike, truth: ArrayLike, classes: int) -> NDArray[np.int64]:
    """Counts by true (row) and predicted (column) class, shape (K, K)."""
    p, y = np.asarray(prediction, np.int64), np.asarray(truth, np.int64)
    if p.shape != y.shape or (p.size and not (min(p.min(), y.min()) >= 0 and max(p.max(), y.max()) < classes)):
        raise ValueError(f"classes must be 0 to {classes - 1}, and as many predicted as true")
    return np.bincount(y * classes + p, minlength=classes * classes).reshape(classes, classes)


# --- Transcripts ------------------------------------------------------------------------------------------------------


def error_rate(hypotheses: Sequence[str], references: Sequence[str], *, unit: Literal["character", "word"]) -> float:
    """CER or WER of a corpus: edits of all utterances by the length of all references; NaN without references."""
    return of_all("ratio", *edits(hypotheses, references, unit=unit))


def edits(
    hypotheses: Sequence[str], references: Sequence[str], *, unit: Literal["character", "word"]
) -> tuple[Floats, Floats]:
    """Edits (Levenshtein) and length of the reference, in characters or words, of every utterance: two of (N,)."""

    def units(text: str) -> Sequence[str]:
        return text.split() if unit == "word" else text

    pairs = [(units(h), units(r)) for h, r in zip(hypotheses, references, strict=True)]
    distances = [Levenshtein.distance(h, r) for h, r in pairs]
    return np.array(distances, np.float64), np.array([len(r) for _, r in pairs], np.float64)
