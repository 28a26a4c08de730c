"""Autoregressive predictive coding (Chung, Hsu, Tang and Glass, 2019): which frame comes some steps later."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sa2sr.config import ApcSettings
from sa2sr.network.encoder import valid_steps
from sa2sr.network.objectives.base import Criterion
from sa2sr.network.objectives.frames import FramePrediction
from sa2sr.network.parallel import mean_where

if TYPE_CHECKING:
    from sa2sr.speech.batches import Batch
    from sa2sr.speech.utterances import Utterance


class Apc(FramePrediction):
    """(B, T', H) -> (B, T', D): from the state of each step, the frame ``steps`` later. Speech is its own label."""

    criterion = Criterion("apc_l1", +1)

    def __init__(self, dimension: int, settings: ApcSettings, frame_dimension: int) -> None:
        super().__init__()
        self.steps = settings.steps
        self.output = nn.Linear(dimension, frame_dimension)

    def loss(self, states: Tensor, lengths: Tensor, batch: "Batch") -> Tensor:
        """Absolute error, mean over features and over all frames of the batch that are far enough from the start."""
        errors = self._errors(states, lengths, batch)
        return mean_where(errors, torch.ones_like(errors, dtype=torch.bool))

    def _errors(self, states: Tensor, lengths: Tensor, batch: "Batch") -> Tensor:
        """Mean absolute error of each predicted frame, (N,), utterance by utterance."""
        rows, times = valid_steps(lengths - self.steps, states.shape[1]).nonzero(as_tuple=True)
        predicted = self.output(states[rows, times]).float()
        errors: Tensor = (predicted - batch.frames[rows, times + self.steps]).abs().mean(-1)
        return errors

    def predict(self, states: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
        """For each step the frame ``steps`` later, (T', D), the last ones of which nobody has heard."""
        predicted = self.output(states).float().cpu().numpy()
        return [frames[:length] for frames, length in zip(predicted, lengths.tolist(), strict=True)]

    def evaluate(self, states: Tensor, lengths: Tensor, batch: "Batch") -> list[tuple[float, int]]:
        """The sum of the frames' errors in each utterance, and their number."""
        errors = self._errors(states, lengths, batch)
        counts = (lengths - self.steps).clamp(min=0).tolist()
        sums = torch.stack([each.sum() for each in torch.split(errors, counts)])
        return list(zip(sums.tolist(), counts, strict=True))

    def score(self, predictions: Sequence[tuple[float, int]], utterances: Sequence["Utterance"]) -> dict[str, float]:
        """Mean absolute error of a feature, in standard deviations of its filter over the utterance."""
        total, count = (sum(each) for each in zip(*predictions, strict=True)) if predictions else (0.0, 0)
        return {"apc_l1": total / count} if count else {}
