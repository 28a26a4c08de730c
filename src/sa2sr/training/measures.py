"""How good predictions are: each metric over all utterances, and over those of each gender and speaker."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, SENTIMENTS
from sa2sr.metrics import MetricName, bootstrap, confusion, edits
from sa2sr.speech.utterances import Utterance

FEWEST_UTTERANCES = 20  # for an interval
FEWEST_SPEAKERS = 10  # for an interval about new speakers; with fewer it is about new utterances of the same ones

_OF_RATINGS: tuple[MetricName, ...] = ("ccc", "pearson", "rmse")
OF_CATEGORIES: dict[str, MetricName] = {
    "uar": "unweighted_recall",
    "weighted_accuracy": "weighted_recall",
    "macro_f1": "macro_f1",
}
_OF_CLASSES: dict[str, dict[str, MetricName]] = {
    "sentiment": {"weighted_recall": "weighted_recall", "unweighted_recall": "unweighted_recall"},
    "category": OF_CATEGORIES,
}

Said = dict[str, list[Any]]  # objective -> N predictions


@dataclass(frozen=True)
class Measure:
    """A metric of one output of the model, over N utterances."""

    output: str  # a dimension, or the name of an objective
    name: str  # under which the metric is reported
    metric: MetricName
    prediction: NDArray[Any]  # (N, ...), as the metric takes it
    truth: NDArray[Any]  # (N,)
    known: NDArray[np.bool_]  # (N,) where there is a truth


@dataclass(frozen=True)
class Classified:
    """What N utterances are, and what a model takes them for, of K classes."""

    names: Sequence[str]  # of the classes
    probabilities: NDArray[np.float64]  # (N, K)
    truth: NDArray[np.int64]  # (N,) -1 where it is not known, or is none of the classes
    others: Counter[str]  # what is none of the classes

    @property
    def best(self) -> NDArray[np.int64]:
        """The most probable class of each, (N,)."""
        best: NDArray[np.int64] = self.probabilities.argmax(1)
        return best


def classified(utterances: Sequence[Utterance], said: Said, categories: Sequence[str]) -> dict[str, Classified]:
    """What a model classifies, by objective: ``sentiment``, and ``category`` of the classes that it knows."""
    sentiments = [None if u.sentiment is None else SENTIMENTS[int(np.argmax(u.sentiment))] for u in utterances]
    tasks = {"sentiment": (SENTIMENTS, sentiments), "category": (categories, [u.category for u in utterances])}
    found = {}
    for task, (names, labels) in tasks.items():
        if task in said:
            numbers = {name: number for number, name in enumerate(names)}
            truth = np.array([-1 if label is None else numbers.get(label, -1) for label in labels])
            others = Counter(label for label in labels if label is not None and label not in numbers)
            found[task] = Classified(names, np.stack(said[task]).astype(float), truth, others)
    return found


def measures(utterances: Sequence[Utterance], said: Said, classes: Mapping[str, Classified]) -> Iterator[Measure]:
    """The metrics of everything that a model says and the utterances have labels for."""
    if "emotion" in said:
        ratings, emotions = np.array([u.ratings for u in utterances]), np.stack(said["emotion"]).astype(float)
        for column, dimension in enumerate(DIMENSIONS):
            known = np.isfinite(ratings[:, column])
            for metric in _OF_RATINGS:
                yield Measure(dimension, metric, metric, emotions[:, column], ratings[:, column], known)
    if "ctc" in said:
        known = np.array([bool(u.text) for u in utterances])
        references = [u.text or "" for u in utterances]
        yield Measure("ctc", "cer", "ratio", *edits(said["ctc"], references, unit="character"), known)
        yield Measure("ctc", "wer", "ratio", *edits(said["ctc"], references, unit="word"), known)
    for task, own in classes.items():
        known = own.truth >= 0
        if task == "sentiment":
            yield Measure(task, "auc", "auc", own.probabilities, own.truth, known)
        for name, metric in _OF_CLASSES[task].items():
            yield Measure(task, name, metric, own.best, own.truth, known)
    for task, name in (("apc", "l1"), ("cpc", "accuracy")):
        if task in said:
            sums, counts = np.array(said[task], float).T
            yield Measure(task, name, "ratio", sums, counts, counts > 0)


def judge(
    utterances: Sequence[Utterance], said: Said, resamples: int, categories: Sequence[str] = ()
) -> dict[str, Any]:
    """All measures over all utterances (``overall``), and over those of each gender, speaker and, of several, corpus.

    Args:
        utterances: N
        said: N predictions of each objective
        resamples: of the bootstrap
        categories: of emotion, that the model knows

    Returns:
        ``{"overall": {"valence": {"utterances": 93, "interval_over": "speakers", "ccc": {"value": 0.41, "low": 0.3,
        "high": 0.5}, ...}, ...}, "by_gender": {"female": {...}}, "by_speaker": {...}, "by_corpus": {},
        "confusion": {"sentiment": {"classes": ["negative", ...], "counts": [[31, 4, 2], ...], "others": {}}}}``.
        A value that does not exist, such as the correlation of a constant, is None. Counts are by true (row) and
        predicted class; ``others`` are utterances whose label is none of the classes, and which count nowhere
    """
    classes = classified(utterances, said, categories)
    found = [measure for measure in measures(utterances, said, classes) if measure.known.any()]
    speakers = np.array([u.speaker for u in utterances], object)
    genders = np.array([u.gender for u in utterances], object)
    corpora = np.array([u.corpus.name for u in utterances], object)

    def over(group: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
        outputs: dict[str, dict[str, Any]] = {}
        for measure in found:
            chosen = group & measure.known
            if chosen.any():
                drawn = _interval_over(speakers[chosen])
                entry = outputs.setdefault(measure.output, {"utterances": int(chosen.sum()), "interval_over": drawn})
                entry[measure.name] = _estimate(measure, chosen, speakers[chosen], drawn, resamples)
        return outputs

    return {
        "overall": over(np.ones(len(utterances), bool)),
        "by_gender": {name: over(genders == name) for name in sorted({*genders} - {None})},
        "by_speaker": {name: over(speakers == name) for name in sorted({*speakers} - {None})},
        "by_corpus": {name: over(corpora == name) for name in several(corpora)},
        "confusion": {task: _confusion(own) for task, own in classes.items() if (own.truth >= 0).any() or own.others},
    }


def _confusion(own: Classified) -> dict[str, Any]:
    known = own.truth >= 0
    counts = confusion(own.best[known], own.truth[known], len(own.names))
    return {"classes": list(own.names), "counts": counts.tolist(), "others": dict(own.others)}


def several(names: NDArray[Any]) -> list[str]:
    """The different names, if there are more than one."""
    different = sorted({*names})
    return different if len(different) > 1 else []


def _interval_over(speakers: NDArray[Any]) -> str | None:
    """What the bootstrap draws: whole speakers where there are enough, so that the interval is about new ones."""
    if len(speakers) < FEWEST_UTTERANCES:
        return None
    return "speakers" if len({*speakers} - {None}) >= FEWEST_SPEAKERS else "utterances"


def _estimate(
    measure: Measure, chosen: NDArray[np.bool_], speakers: NDArray[Any], drawn: str | None, resamples: int
) -> dict[str, float | None]:
    estimate = bootstrap(
        measure.prediction[chosen],
        measure.truth[chosen],
        metric=measure.metric,
        speakers=list(speakers) if drawn == "speakers" else None,
        resamples=resamples if drawn is not None else 0,
    )
    numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high}
    return {name: float(number) if np.isfinite(number) else None for name, number in numbers.items()}
