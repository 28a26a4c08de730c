"""What a training task on encoder states has to offer. A new task is one file beside this one."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from sa2sr.speech.batches import Batch
    from sa2sr.speech.utterances import Utterance


@dataclass(frozen=True)
class Criterion:
    """The metric that decides which epoch is best; the criteria of several objectives are added, sign considered.

    With ``ctc`` and ``sentiment`` that is the paper's M = CER - AUC.
    """

    metric: str
    sign: float  # +1: lower is better, -1: higher is better


class Objective(nn.Module):
    """A task: a loss for training, predictions and their scores for evaluation."""

    criterion: ClassVar[Criterion]
    remedy: ClassVar[str]  # what a user does about a set without labels

    @classmethod
    def build(cls, dimension: int, settings: Any, frame_dimension: int) -> Self:
        """The task on states of size H = ``dimension`` that come from frames of size D = ``frame_dimension``."""
        return cls(dimension, settings)

    @staticmethod
    def with_labels(settings: Any, utterances: Sequence["Utterance"]) -> Any:
        """The settings with what the task has to know of the training set."""
        return settings

    @staticmethod
    @abstractmethod
    def has_label(utterance: "Utterance") -> bool:
        """Whether the utterance carries what this task learns from."""

    def counts(self, utterance: "Utterance") -> bool:
        """Whether the utterance is one of those that the loss is a mean over."""
        return self.has_label(utterance)

    @staticmethod
    def fits(utterance: "Utterance", steps: int) -> bool:
        """Whether the label can be learnt from ``steps`` stacked frames."""
        return True

    @staticmethod
    def objection(utterances: Sequence["Utterance"]) -> str | None:
        """Why the criterion does not exist for a development set in which some have the label; None where it does."""
        return None

    @abstractmethod
    def loss(self, states: Tensor, lengths: Tensor, batch: "Batch") -> Tensor:
        """Scalar loss over the batch of all processes; utterances without the needed label are left out.

        Args:
            states: (B, T', H), 0 past the end of an utterance
            lengths: (B,)
            batch: the labels
        """

    @abstractmethod
    def predict(self, states: Tensor, lengths: Tensor) -> list[Any]:
        """B predictions, in plain Python or numpy."""

    def evaluate(self, states: Tensor, lengths: Tensor, batch: "Batch") -> list[Any]:
        """What :meth:`score` needs of each of B utterances: by default the predictions."""
        return self.predict(states, lengths)

    @abstractmethod
    def score(self, predictions: Sequence[Any], utterances: Sequence["Utterance"]) -> dict[str, float]:
        """Metrics over a set, from what :meth:`evaluate` gave; empty where no utterance has the needed label."""


def class_numbers(labels: Sequence[str | None] | None, numbers: Mapping[str, int], lengths: Tensor) -> Tensor:
    """The classes of a batch, (B,) as its ``lengths``; -1 where a label is not known, or is of no class."""
    found = [-1 if label is None else numbers.get(label, -1) for label in labels or [None] * len(lengths)]
    return torch.tensor(found, device=lengths.device)
