"""Who speaks: a sequence summariser and a softmax over the speakers of the training set, or their being forgotten.

With ``reverse`` the gradient that reaches the encoder is turned round (Ganin and Lempitsky, 2015): the head goes on
learning to tell the speakers apart, and the encoder learns to make that impossible.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sa2sr.config import SpeakerSettings, validate
from sa2sr.network.objectives.base import Criterion, Objective, class_numbers
from sa2sr.network.parallel import mean_where
from sa2sr.network.summariser import SUMMARISERS

if TYPE_CHECKING:
    from sa2sr.speech.batches import Batch
    from sa2sr.speech.utterances import Utterance

_MOST_COMPARED = 2000  # utterances, each with each


class Speaker(Objective):
    """(B, T', H) -> (B, K) logits of the K speakers of the training set, from a vector (B, units) of the voice.

    The speakers of a development set are others as a rule, so it is not whether they are named rightly that is scored,
    but whether two utterances of one of them are more alike than those of two: the equal error rate.
    """

    criterion = Criterion("speaker_eer", +1)
    remedy = "names of speakers are needed"

    def __init__(self, dimension: int, settings: SpeakerSettings) -> None:
        super().__init__()
        if settings.reverse:
            self.criterion = Criterion("speaker_eer", -1)  # type: ignore[misc]  # the encoder is to forget
        self.strength = settings.strength if settings.reverse else None
        self.numbers = {name: number for number, name in enumerate(settings.speakers)}
        self.summariser = SUMMARISERS[settings.summariser](dimension, settings.units)
        self.dropout = nn.Dropout(settings.dropout)
        self.output = nn.Linear(settings.units, len(self.numbers))

    @staticmethod
    def with_labels(settings: Any, utterances: Sequence["Utterance"]) -> Any:
        """The settings with the names of the training speakers.

        Raises:
            RecipeError: if these are too many
        """
        speakers = tuple(sorted({u.speaker for u in utterances if u.speaker is not None}))
        return validate(
            SpeakerSettings, settings.model_dump() | {"speakers": speakers}, "the speakers of the training set"
        )

    @staticmethod
    def has_label(utterance: "Utterance") -> bool:
        """The speaker's name."""
        return utterance.speaker is not None

    def counts(self, utterance: "Utterance") -> bool:
        """Whether the speaker is one of the training set."""
        return utterance.speaker in self.numbers

    @staticmethod
    def objection(utterances: Sequence["Utterance"]) -> str | None:
        """An equal error rate needs pairs of utterances by one speaker and by two."""
        speakers = [u.speaker for u in utterances if u.speaker is not None]
        if 1 < len({*speakers}) < len(speakers):
            return None
        return "it needs two speakers, and two utterances of one of them"

    def embeddings(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(B, T', H) -> (B, units)."""
        if self.strength is not None:
            states = _Reversed.apply(states, self.strength)  # type: ignore[no-untyped-call]
        return self.summariser(states, lengths)  # type: ignore[no-any-return]

    def loss(self, states: Tensor, lengths: Tensor, batch: "Batch") -> Tensor:
        """Cross entropy, mean over the utterances of the batch whose speaker is one of the training set.

        In evaluation it is NaN where there is none: a development set of other speakers has no such loss.
        """
        targets = class_numbers(batch.speakers, self.numbers, lengths)
        logits = self.output(self.dropout(self.embeddings(states, lengths)))
        losses = functional.cross_entropy(logits.float(), targets.clamp(min=0), reduction="none")
        known = targets >= 0
        if not self.training and not known.any():
            return losses.new_tensor(math.nan)
        return mean_where(losses, known)

    def predict(self, states: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
        """A vector of length 1 for each voice, (units,): the more alike two are, the larger their inner product."""
        return list(functional.normalize(self.embeddings(states, lengths).float(), dim=-1).cpu().numpy())

    def score(self, predictions: Sequence[NDArray[np.float32]], utterances: Sequence["Utterance"]) -> dict[str, float]:
        """Equal error rate over all pairs of utterances whose speakers are known, of at most 2,000 utterances."""
        known = [(p, u.speaker) for p, u in zip(predictions, utterances, strict=True) if u.speaker is not None]
        known = known[:: -(-len(known) // _MOST_COMPARED) or 1]
        if len({speaker for _, speaker in known}) in (0, 1, len(known)):
            return {}
        voices, speakers = np.stack([each for each, _ in known]), np.array([speaker for _, speaker in known])
        one, other = np.triu_indices(len(known), k=1)
        return {"speaker_eer": equal_error_rate((voices @ voices.T)[one, other], speakers[one] == speakers[other])}


def equal_error_rate(scores: NDArray[np.floating], same: NDArray[np.bool_]) -> float:
    """The share of errors where a threshold of (N,) scores rejects as many of those that are the ``same`` as it takes
    others: 0.5 for chance, 0 for scores that tell all apart. Between two thresholds the shares go in a straight line.
    """
    thresholds, position = np.unique(scores, return_inverse=True)
    of_same, of_other = (np.bincount(position[which], minlength=len(thresholds)) for which in (same, ~same))
    rejected = np.concatenate([[0], of_same.cumsum()]) / same.sum()
    taken = 1 - np.concatenate([[0], of_other.cumsum()]) / (~same).sum()
    return float(np.interp(0, rejected - taken, rejected))


class _Reversed(torch.autograd.Function):
    """The same going forward; the gradient comes back with another sign."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return states.view_as(states)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None
