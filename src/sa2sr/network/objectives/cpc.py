"""Contrastive predictive coding (van den Oord, Li and Vinyals, 2018): which frames come next, and which do not.

A frame is compared by an embedding of its own, which hears nothing but this frame. From a state one linear layer for
each step ahead predicts the embedding that is to come, and the InfoNCE loss is the cross entropy of telling it, by
its inner product with the prediction, from those of other frames, the negatives.

Every utterance gives the same number of its frames as negatives. They are drawn by its name and by a number which is
drawn for the step of the training, so that they depend on neither the company of the utterance nor on how many
processes share the batch; in evaluation that number is always the same.
"""

import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sa2sr.config import CpcSettings
from sa2sr.network.encoder import valid_steps
from sa2sr.network.objectives.base import Criterion
from sa2sr.network.objectives.frames import FramePrediction
from sa2sr.network.parallel import gather, mean_where, rank

if TYPE_CHECKING:
    from sa2sr.speech.batches import Batch
    from sa2sr.speech.utterances import Utterance

_MANY = 1 << 20  # more rows than a process has


class Contrast(NamedTuple):
    """The N predictions of a batch that look some steps ahead."""

    rows: Tensor  # (N,) of the utterances
    positive: Tensor  # (N,) scores of the frames that come
    negative: Tensor  # (N, M) scores of others, -inf where one is the frame that comes


class Cpc(FramePrediction):
    """(B, T', H) -> (B, T', steps, E): predictions of the embeddings of the next frames."""

    criterion = Criterion("cpc_accuracy", -1)

    def __init__(self, dimension: int, settings: CpcSettings, frame_dimension: int) -> None:
        super().__init__()
        self.settings = settings
        units = settings.units  # E
        self.embedding = nn.Sequential(nn.Linear(frame_dimension, units), nn.ReLU(), nn.Linear(units, units))
        self.predictor = nn.Linear(dimension, settings.steps * units)

    def predictions(self, states: Tensor) -> Tensor:
        """(B, T', H) -> (B, T', steps, E)."""
        return self.predictor(states).float().unflatten(-1, (self.settings.steps, -1))  # type: ignore[no-any-return]

    def loss(self, states: Tensor, lengths: Tensor, batch: "Batch") -> Tensor:
        """InfoNCE, mean over all predictions of the batch whose frame comes before the end of the utterance."""
        losses = torch.cat(
            [
                torch.cat([positive[:, None], negative], 1).logsumexp(1) - positive
                for _, positive, negative in self._contrasts(states, lengths, batch, self.settings.among)
            ]
        )
        return mean_where(losses, torch.ones_like(losses, dtype=torch.bool))

    def _contrasts(self, states: Tensor, lengths: Tensor, batch: "Batch", among: str) -> Iterator[Contrast]:
        """The predictions one step ahead, two steps ahead, ..., beside the negatives of the batch or the utterance."""
        within = valid_steps(lengths, states.shape[1]).unsqueeze(-1)
        embeddings = self.embedding(batch.frames.masked_fill(~within, 0)).float()  # (B, T', E)
        predictions = self.predictions(states)
        drawn = self._draw(batch.names, lengths)  # (B, M)
        row = torch.arange(len(lengths), device=lengths.device)
        negatives, owner = embeddings[row[:, None], drawn], (row + _MANY * rank())[:, None].expand_as(drawn)
        own = owner[:, :1]
        if among == "batch":
            useful = lengths > 1  # neither is a frame alone predicted, nor has an unreadable utterance more
            negatives, owner, drawn = (gather(each[useful].flatten(0, 1))[None] for each in (negatives, owner, drawn))
        for ahead in range(1, self.settings.steps + 1):
            rows, times = valid_steps(lengths - ahead, states.shape[1]).nonzero(as_tuple=True)
            scores = predictions[:, :, ahead - 1] @ negatives.transpose(1, 2)  # (B, T', M)
            is_positive = (owner == own)[:, None] & (drawn[:, None] == self._times(states)[:, None] + ahead)
            yield Contrast(
                rows,
                (predictions[rows, times, ahead - 1] * embeddings[rows, times + ahead]).sum(-1),
                scores.masked_fill(is_positive, float("-inf"))[rows, times],
            )

    @staticmethod
    def _times(states: Tensor) -> Tensor:
        return torch.arange(states.shape[1], device=states.device)

    def _draw(self, names: Sequence[str], lengths: Tensor) -> Tensor:
        """(B, negatives) frames of each utterance."""
        key = torch.randint(1 << 62, (1,)) if self.training else torch.zeros(1, dtype=torch.long)
        (number,) = gather(key.to(lengths.device))[:1].tolist()
        drawn = []
        for name, length in zip(names, lengths.tolist(), strict=True):
            generator = torch.Generator().manual_seed(number ^ zlib.crc32(name.encode(errors="backslashreplace")))
            drawn.append(torch.randint(length, (self.settings.negatives,), generator=generator))
        return torch.stack(drawn).to(lengths.device)

    def predict(self, states: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
        """For each step the embeddings predicted for the next ones, (T', steps, E)."""
        predictions = self.predictions(states).cpu().numpy()
        return [each[:length] for each, length in zip(predictions, lengths.tolist(), strict=True)]

    def evaluate(self, states: Tensor, lengths: Tensor, batch: "Batch") -> list[tuple[int, int]]:
        """How many predictions of each utterance fit the frame that comes better than its negatives, of how many.

        The negatives are those of the utterance alone, so that the numbers are the same in any batch.
        """
        right, count = (torch.zeros_like(lengths) for _ in range(2))
        for rows, positive, negative in self._contrasts(states, lengths, batch, "utterance"):
            right.index_add_(0, rows, (positive[:, None] > negative).all(1).to(right.dtype))
            count.index_add_(0, rows, torch.ones_like(rows))
        return list(zip(right.tolist(), count.tolist(), strict=True))

    def score(self, predictions: Sequence[tuple[int, int]], utterances: Sequence["Utterance"]) -> dict[str, float]:
        """The share of predictions that fit the frame that comes better than negatives of the same utterance."""
        right, count = (sum(each) for each in zip(*predictions, strict=True)) if predictions else (0, 0)
        return {"cpc_accuracy": right / count} if count else {}
