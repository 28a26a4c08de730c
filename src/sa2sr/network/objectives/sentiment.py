"""Sentiment of what is said: a sequence summariser and a softmax over negative, neutral and positive."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sa2sr.config import SENTIMENTS, SentimentSettings
from sa2sr.metrics import auc, recall
from sa2sr.network.objectives.base import Criterion, Objective
from sa2sr.network.parallel import mean_where
from sa2sr.network.summariser import SUMMARISERS

if TYPE_CHECKING:
    from sa2sr.speech.batches import Batch
    from sa2sr.speech.utterances import Utterance


class Sentiment(Objective):
    """(B, T', H) -> (B, 3) logits, trained on the proxy labels of a text model, or on those of people."""

    criterion = Criterion("auc", -1)
    remedy = "run 'sa2sr label' on it first, or name the column of labels with --sentiment of 'sa2sr prepare table'"

    def __init__(self, dimension: int, settings: SentimentSettings) -> None:
        super().__init__()
        self.summariser = SUMMARISERS[settings.summariser](dimension, settings.units)
        self.dropout = nn.Dropout(settings.dropout)
        self.output = nn.Linear(settings.units, len(SENTIMENTS))

    @staticmethod
    def has_label(utterance: "Utterance") -> bool:
        """The probabilities that a text model gave, or 1 for what people say."""
        return utterance.sentiment is not None

    @staticmethod
    def objection(utterances: Sequence["Utterance"]) -> str | None:
        """An AUC needs two classes."""
        classes = {int(np.argmax(u.sentiment)) for u in utterances if u.sentiment is not None}
        if len(classes) > 1:
            return None
        return f"all of its sentiment labels are {SENTIMENTS[classes.pop()]}, and an AUC needs two classes"

    def logits(self, states: Tensor, lengths: Tensor) -> Tensor:
        """(B, T', H) -> (B, 3)."""
        return self.output(self.dropout(self.summariser(states, lengths)))  # type: ignore[no-any-return]

    def loss(self, states: Tensor, lengths: Tensor, batch: "Batch") -> Tensor:
        """Cross entropy with the most probable class of the label, mean over the batch."""
        known = batch.sentiment.isfinite().all(1)
        targets = torch.where(known[:, None], batch.sentiment, 1.0).argmax(1)
        losses = functional.cross_entropy(self.logits(states, lengths).float(), targets, reduction="none")
        return mean_where(losses, known)

    def predict(self, states: Tensor, lengths: Tensor) -> list[NDArray[np.float32]]:
        """Probabilities of negative, neutral and positive."""
        return list(self.logits(states, lengths).float().softmax(-1).cpu().numpy())

    def score(self, predictions: Sequence[NDArray[np.float32]], utterances: Sequence["Utterance"]) -> dict[str, float]:
        """Area under the ROC curve (one against the rest, macro), weighted and unweighted recall."""
        pairs = [(p, u.sentiment) for p, u in zip(predictions, utterances, strict=True) if u.sentiment is not None]
        if not pairs:
            return {}
        scores = np.stack([p for p, _ in pairs])
        truth = np.array([s for _, s in pairs]).argmax(1)
        return {
            "auc": auc(scores, truth),
            "weighted_recall": recall(scores.argmax(1), truth, weighted=True),
            "unweighted_recall": recall(scores.argmax(1), truth, weighted=False),
        }
