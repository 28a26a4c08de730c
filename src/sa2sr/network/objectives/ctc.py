"""Transcription: a linear layer over characters and connectionist temporal classification (Graves et al., 2006)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from sa2sr.config import ALPHABET, CtcSettings
from sa2sr.metrics import error_rate
from sa2sr.network.objectives.base import Criterion, Objective
from sa2sr.network.parallel import mean_where
from sa2sr.speech.text import ctc_steps, read_ctc

if TYPE_CHECKING:
    from sa2sr.speech.batches import Batch
    from sa2sr.speech.utterances import Utterance

BLANK = 0
_INDEX = {character: index for index, character in enumerate(ALPHABET, start=1)}


class Ctc(Objective):
    """(B, T', H) -> (B, T', 29) logits: the blank, then the alphabet."""

    criterion = Criterion("cer", +1)
    remedy = "transcripts are needed"

    def __init__(self, dimension: int, settings: CtcSettings) -> None:
        super().__init__()
        self.output = nn.Linear(dimension, 1 + len(ALPHABET))

    @staticmethod
    def has_label(utterance: "Utterance") -> bool:
        """A transcript."""
        return utterance.text is not None

    @staticmethod
    def fits(utterance: "Utterance", steps: int) -> bool:
        """CTC needs a frame a character, and one between two that are equal."""
        return utterance.text is None or ctc_steps(utterance.text) <= steps

    def logits(self, states: Tensor) -> Tensor:
        """(B, T', H) -> (B, T', 29)."""
        return self.output(states)  # type: ignore[no-any-return]

    def loss(self, states: Tensor, lengths: Tensor, batch: "Batch") -> Tensor:
        """Negative log likelihood of the transcript, **summed** over the utterance, mean over the batch.

        The sum is what makes the paper's weight of 200 for the sentiment task balance the two.
        """
        texts = [text if text is not None else "" for text in batch.texts]
        known = torch.tensor([text is not None for text in batch.texts], device=states.device)
        targets = torch.tensor([_INDEX[c] for text in texts for c in text], dtype=torch.long, device=states.device)
        target_lengths = torch.tensor([len(text) for text in texts], device=states.device)
        log_probabilities = self.logits(states).float().log_softmax(-1).transpose(0, 1)  # (T', B, 29)
        if states.device.type == "mps":  # has no CTC
            inputs = (log_probabilities.cpu(), targets.cpu(), lengths.cpu(), target_lengths.cpu())
        else:
            inputs = (log_probabilities, targets, lengths, target_lengths)
        # Utterances shorter than their transcript are dropped beforehand; zero_infinity is the net below that.
        losses = functional.ctc_loss(*inputs, blank=BLANK, reduction="none", zero_infinity=True)
        return mean_where(losses.to(states.device), known)

    def predict(self, states: Tensor, lengths: Tensor) -> list[str]:
        """Greedy transcripts."""
        return greedy_decode(self.logits(states), lengths)

    @staticmethod
    def score(predictions: Sequence[str], utterances: Sequence["Utterance"]) -> dict[str, float]:
        """CER and WER over the set: edits divided by reference length."""
        pairs = [(p, u.text) for p, u in zip(predictions, utterances, strict=True) if u.text]
        if not pairs:
            return {}
        hypotheses, references = zip(*pairs, strict=True)
        return {
            "cer": error_rate(hypotheses, references, unit="character"),
            "wer": error_rate(hypotheses, references, unit="word"),
        }


def greedy_decode(logits: Tensor, lengths: Tensor) -> list[str]:
    """The best class a frame, repetitions joined, blanks removed: (B, T', 29) -> B strings."""
    best = logits.argmax(-1).tolist()
    return [read_ctc(row[:length]) for row, length in zip(best, lengths.tolist(), strict=True)]
