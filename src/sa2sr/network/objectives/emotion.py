"""Activation, valence and dominance: the emotion regressor and its concordance loss."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sa2sr.config import DIMENSIONS, EmotionSettings
from sa2sr.metrics import ccc
from sa2sr.network.encoder import valid_steps
from sa2sr.network.objectives.base import Criterion, Objective
from sa2sr.network.objectives.text import TextBranch
from sa2sr.network.parallel import gather

if TYPE_CHECKING:
    from sa2sr.speech.batches import Batch
    from sa2sr.speech.utterances import Corpus, Utterance


class Emotion(Objective):
    """(B, T', H) -> (B, 3): masked convolutions, transformer block, mean and variance over time, linear layer."""

    criterion = Criterion("mean_ccc", -1)
    remedy = "ratings of activation, valence or dominance are needed"
    rating_mean: Tensor
    rating_spread: Tensor

    def __init__(self, dimension: int, settings: EmotionSettings) -> None:
        super().__init__()
        channels = settings.channels
        self.convolutions = nn.ModuleList(
            MaskedConvolution(inputs, channels, kernel, stride)
            for inputs, kernel, stride in zip((dimension, channels), settings.kernels, settings.strides, strict=True)
        )
        self.negative_slope = settings.negative_slope
        self.transformer = nn.TransformerEncoderLayer(
            channels, settings.heads, dim_feedforward=channels, dropout=settings.dropout, batch_first=True
        )
        self.text = TextBranch(settings.text, channels, settings.heads) if settings.text is not None else None
        fused = self.text.dimension if self.text is not None else 2 * channels
        self.output = nn.Linear(fused, len(DIMENSIONS))
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
        return self._standardised(states, lengths, texts) * self.rating_spread + self.rating_mean

    def _standardised(self, states: Tensor, lengths: Tensor, texts: Sequence[str | None] | None) -> Tensor:
        for convolution in self.convolutions:
            states, lengths = convolution(states, lengths)
        valid = valid_steps(lengths, states.shape[1]).unsqueeze(-1)  # (B, T'', 1)
        states = functional.leaky_relu(normalise_samples(states.float(), valid), self.negative_slope)
        states = self.transformer(states, src_key_padding_mask=~valid.squeeze(-1)).float()
        voice = torch.cat(moments(states, valid, dim=(1,)), -1)
        if self.text is not None:
            voice = self.text(states, valid, voice, texts if texts is not None else [None] * len(lengths))
        return self.output(voice).float()  # type: ignore[no-any-return]

    def loss(self, states: Tensor, lengths: Tensor, batch: "Batch") -> Tensor:
        """Sum over the dimensions of 1 - CCC, from the statistics of the batch of all processes.

        Each corpus in the batch has a CCC of its own, weighted by its number of ratings. Over several corpora together
        a CCC would reward telling them apart: their ratings differ in mean and spread, and so do their recordings.
        """
        predictions = gather(self._standardised(states, lengths, batch.texts))
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

    def score(self, predictions: Sequence[NDArray[np.float32]], utterances: Sequence["Utterance"]) -> dict[str, float]:
        """CCC of each dimension (1/N statistics) and their mean, ``mean_ccc``.

        Of several corpora each has its own, such as ``emobank_valence_ccc`` and ``emobank_mean_ccc``; without a
        corpus's name stands the mean over the corpora, so that a large one does not decide alone.
        """
        parts: dict[Corpus, list[tuple[NDArray[np.float32], tuple[float, ...]]]] = {}
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


class MaskedConvolution(nn.Module):
    """A strided convolution over valid frames only: an output frame never sees padding.

    An utterance shorter than the kernel is continued with zeros, and gives one frame.
    """

    def __init__(self, inputs: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(inputs, channels, kernel, stride)

    def forward(self, states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C) and (B,) -> (B, T_out, channels), 0 past the end, and (B,) new lengths."""
        (kernel,), (stride,) = self.convolution.kernel_size, self.convolution.stride
        states = states.masked_fill(~valid_steps(lengths, states.shape[1]).unsqueeze(-1), 0)
        missing = max(0, kernel - states.shape[1])
        outputs = self.convolution(functional.pad(states.transpose(1, 2), (0, missing))).transpose(1, 2)
        lengths = torch.div(lengths - kernel, stride, rounding_mode="floor").clamp(min=0) + 1
        return outputs * valid_steps(lengths, outputs.shape[1]).unsqueeze(-1), lengths


def moments(states: Tensor, valid: Tensor, dim: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and variance (1/N) of (B, T, C) states over ``dim`` where ``valid`` (B, T, 1)."""
    count = valid.expand_as(states).sum(dim, keepdim=True)
    mean = (states * valid).sum(dim, keepdim=True) / count
    variance = ((states - mean) * valid).square().sum(dim, keepdim=True) / count
    return mean.squeeze(dim), variance.squeeze(dim)


def normalise_samples(states: Tensor, valid: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Mean 0 and variance 1 over the valid frames and channels of each utterance, 0 past its end: (B, T, C)."""
    mean, variance = moments(states, valid, dim=(1, 2))
    centred = (states - mean[:, None, None]) * valid
    return centred * torch.rsqrt(variance + epsilon)[:, None, None]


def concordance(prediction: Tensor, truth: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Concordance correlation coefficient of (N,) values with 1/N statistics (Lin, 1989).

    It is 0, with a finite gradient, when either side is constant: so for a batch of one.
    """
    covariance = ((prediction - prediction.mean()) * (truth - truth.mean())).mean()
    spread = prediction.var(correction=0) + truth.var(correction=0)
    return 2 * covariance / (spread + (prediction.mean() - truth.mean()).square() + epsilon)
