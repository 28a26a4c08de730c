"""Activation, valence and dominance: the emotion regressor and its concordance loss."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa2sr.config import DIMENSIONS, EmotionSettings
from sa2sr.metrics import ccc
from sa2sr.network.objectives.base import Criterion
from sa2sr.network.objectives.readout import Readout
from sa2sr.network.parallel import gather

if TYPE_CHECKING:
    from sa2sr.speech.batches import Batch
    from sa2sr.speech.utterances import Corpus, Utterance


class Emotion(Readout):
    """(B, T', H) -> (B, 3): the :class:`Readout`, on the scale of the ratings."""

    criterion = Criterion("mean_ccc", -1)
    remedy = "ratings of activation, valence or dominance are needed"
    rating_mean: Tensor
    rating_spread: Tensor

    def __init__(self, dimension: int, settings: EmotionSettings) -> None:
        super().__init__(dimension, settings, len(DIMENSIONS), settings.text)
        # The network works in units of the training ratings' mean and spread, and the numbers leave on their scale.
        self.register_buffer("rating_mean", torch.zeros(len(DIMENSIONS)))
        self.register_buffer("rating_spread", torch.ones(len(DIMENSIONS)))

    @staticmethod
    def has_label(utterance: "Utterance") -> bool:
        """A rating of at least one dimension."""
        return any(map(math.isfinite, utterance.ratings))

    @staticmethod
    def objection(utterances: Sequence["Utterance"]) -> str | None:
        """A CCC needs ratings that differ, and each corpus with ratings has its own."""
        parts: dict[str, list[tuple[float, ...]]] = {}
        for utterance in filter(Emotion.has_label, utterances):
            parts.setdefault(utterance.corpus.name, []).append(utterance.ratings)
        for name, ratings in parts.items():
            if not any(len({*filter(math.isfinite, column)}) > 1 for column in zip(*ratings, strict=True)):
                whose = f"none of the ratings of {name} differ" if len(parts) > 1 else "none of its ratings differ"
                return f"{whose}, and a CCC is of ratings that do"
        return None

    def fit_ratings(self, ratings: Tensor) -> None:
        """Take mean and spread from the training ratings (N, 3), NaN where unknown."""
        for dimension in range(len(DIMENSIONS)):
            known = ratings[:, dimension][ratings[:, dimension].isfinite()].double()
            if len(known):
                self.rating_mean[dimension] = known.mean()
                self.rating_spread[dimension] = known.std(correction=0).clamp(min=1e-3)

    def forward(self, states: Tensor, lengths: Tensor, texts: Sequence[str | None] | None = None) -> Tensor:
        """(B, T', H) -> (B, 3), activation, valence and dominance on the scale of the ratings, not clipped.

        Args:
            states: that are read
            lengths: (B,)
            texts: what is said, for an objective that reads it; none is known by default
        """
        return self.read(states, lengths, texts) * self.rating_spread + self.rating_mean

    def loss(self, states: Tensor, lengths: Tensor, batch: "Batch") -> Tensor:
        """Sum over the dimensions of 1 - CCC, from the statistics of the batch of all processes.

        Each corpus in the batch has a CCC of its own, weighted by its number of ratings. Over several corpora together
        a CCC would reward telling them apart: their ratings differ in mean and spread, and so do their recordings.
        """
        predictions = gather(self.read(states, lengths, batch.texts))
        truth = gather((batch.ratings - self.rating_mean) / self.rating_spread)
        corpora = gather(batch.corpora if batch.corpora is not None else torch.zeros_like(lengths))
        loss = 0.0 * predictions.sum()
        for predicted, rated in zip(predictions.T, truth.T, strict=True):  # (B,)
            known = rated.isfinite()
            for corpus in torch.unique(corpora[known]):
                own = known & (corpora == corpus)
                loss = loss + (own.sum() / known.sum()) * (1 - concordance(predicted[own], rated[own]))
        return loss

    def predict(self, states: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
        """Activation, valence and dominance of each utterance, (3,), on the scale of the ratings."""
        return list(self(states, lengths).float().cpu().numpy())

    def evaluate(self, states: Tensor, lengths: Tensor, batch: "Batch") -> list[NDArray[np.float32]]:
        """As :meth:`predict`; the texts of the batch are what is said."""
        return list(self(states, lengths, batch.texts).float().cpu().numpy())

    @staticmethod
    def score(predictions: Sequence[NDArray[np.floating]], utterances: Sequence["Utterance"]) -> dict[str, float]:
        """CCC of each dimension (1/N statistics) and their mean, ``mean_ccc``.

        Of several corpora each has its own, such as ``emobank_valence_ccc`` and ``emobank_mean_ccc``; without a
        corpus's name stands the mean over the corpora, so that a large one does not decide alone.
        """
        parts: dict[Corpus, list[tuple[NDArray[np.floating], tuple[float, ...]]]] = {}
        for prediction, utterance in zip(predictions, utterances, strict=True):
            parts.setdefault(utterance.corpus, []).append((prediction, utterance.ratings))
        found = {
            corpus.name: scores
            for corpus, part in parts.items()
            if (scores := _concordances(*(np.stack(each) for each in zip(*part, strict=True))))
        }
        all_names = (*(f"{dimension}_ccc" for dimension in DIMENSIONS), "mean_ccc")
        known = {name: [scores[name] for scores in found.values() if name in scores] for name in all_names}
        means = {name: float(np.mean(values)) for name, values in known.items() if values}
        if len(found) < 2:
            return means
        return means | {f"{corpus}_{name}": value for corpus, f in found.items() for name, value in f.items()}


def _concordances(predictions: NDArray[np.floating], ratings: NDArray[np.float64]) -> dict[str, float]:
    """CCC of each dimension that has ratings, and their mean, from (N, 3) and (N, 3)."""
    scores = {}
    for dimension, predicted, rated in zip(DIMENSIONS, predictions.T, ratings.T, strict=True):
        known = np.isfinite(rated)
        if known.sum() > 1:
            scores[f"{dimension}_ccc"] = float(np.nan_to_num(ccc(predicted[known], rated[known])))
    return scores | {"mean_ccc": float(np.mean(list(scores.values())))} if scores else {}


def concordance(prediction: Tensor, truth: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Concordance correlation coefficient of (N,) values with 1/N statistics (Lin, 1989).

    It is 0, with a finite gradient, when either side is constant: so for a batch of one.
    """
    covariance = ((prediction - prediction.mean()) * (truth - truth.mean())).mean()
    spread = prediction.var(correction=0) + truth.var(correction=0)
    return 2 * covariance / (spread + (prediction.mean() - truth.mean()).square() + epsilon)
