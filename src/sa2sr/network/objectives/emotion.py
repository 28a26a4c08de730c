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
from sa2sr.network.parallel import gather

if TYPE_CHECKING:
    from sa2sr.speech.batches import Batch
    from sa2sr.speech.utterances import Utterance


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
        self.output = nn.Linear(2 * channels, len(DIMENSIONS))
        # The network works in units of the training ratings' mean and spread, and the numbers leave on their scale.
        self.register_buffer("rating_mean", torch.zeros(len(DIMENSIONS)))
        self.register_buffer("rating_spread", torch.ones(len(DIMENSIONS)))

    @staticmethod
    def has_label(utterance: "Utterance") -> bool:
        """A rating of at least one dimension."""
        return any(map(math.isfinite, utterance.ratings))

    @staticmethod
    def objection(utterances: Sequence["Utterance"]) -> str | None:
        """A CCC needs ratings that differ."""
        for ratings in zip(*(u.ratings for u in utterances), strict=True):
            if len({*filter(math.isfinite, ratings)}) > 1:
                return None
        return "none of its ratings differ, and a CCC is of ratings that do"

    def fit_ratings(self, ratings: Tensor) -> None:
        """Take mean and spread from the training ratings (N, 3), NaN where unknown."""
        for dimension in range(len(DIMENSIONS)):
            known = ratings[:, dimension][ratings[:, dimension].isfinite()].double()
            if len(known):
                self.rating_mean[dimension] = known.mean()
                self.rating_spread[dimension] = known.std(correction=0).clamp(min=1e-3)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(B, T', H) -> (B, 3), activation, valence and dominance on the scale of the ratings, not clipped."""
        return self._standardised(states, lengths) * self.rating_spread + self.rating_mean

    def _standardised(self, states: Tensor, lengths: Tensor) -> Tensor:
        for convolution in self.convolutions:
            states, lengths = convolution(states, lengths)
        valid = valid_steps(lengths, states.shape[1]).unsqueeze(-1)  # (B, T'', 1)
        states = functional.leaky_relu(normalise_samples(states.float(), valid), self.negative_slope)
        states = self.transformer(states, src_key_padding_mask=~valid.squeeze(-1)).float()
        mean, variance = moments(states, valid, dim=(1,))
        return self.output(torch.cat([mean, variance], -1)).float()  # type: ignore[no-any-return]

    def loss(self, states: Tensor, lengths: Tensor, batch: "Batch") -> Tensor:
        """Sum over the dimensions of 1 - CCC, from the statistics of the batch of all processes."""
        predictions = gather(self._standardised(states, lengths))
        truth = gather((batch.ratings - self.rating_mean) / self.rating_spread)
        return sum(
            (
                1 - concordance(predictions[:, d][known], truth[:, d][known])
                for d in range(len(DIMENSIONS))
                if (known := truth[:, d].isfinite()).any()
            ),
            start=0.0 * predictions.sum(),
        )

    def predict(self, states: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
        """Activation, valence and dominance of each utterance, (3,), on the scale of the ratings."""
        return list(self(states, lengths).float().cpu().numpy())

    def score(self, predictions: Sequence[NDArray[np.float32]], utterances: Sequence["Utterance"]) -> dict[str, float]:
        """CCC of each dimension (1/N statistics) and their mean."""
        truth = np.array([u.ratings for u in utterances]).reshape(-1, len(DIMENSIONS))
        predicted = np.stack(list(predictions)) if len(predictions) else np.zeros((0, len(DIMENSIONS)))
        scores = {}
        for index, dimension in enumerate(DIMENSIONS):
            known = np.isfinite(truth[:, index])
            if known.sum() > 1:
                scores[f"{dimension}_ccc"] = float(np.nan_to_num(ccc(predicted[known, index], truth[known, index])))
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
