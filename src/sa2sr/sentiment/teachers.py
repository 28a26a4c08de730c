"""Teachers: text models that tell the sentiment of a transcript."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sa2sr.errors import UserError


@runtime_checkable
class Teacher(Protocol):
    """A text model that tells negative, neutral and positive apart."""

    @property
    def name(self) -> str:
        """The model and its version: the same name means the same probabilities."""

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Probabilities in the order of :data:`sa2sr.config.SENTIMENTS`, shape (N, 3); every row sums to 1."""


def teacher_from_name(spec: str, *, batch_size: int = 32, labels: Sequence[str] | None = None) -> Teacher:
    """The teacher that is meant by ``vader`` or ``transformers:<folder or hub id>``.

    Args:
        spec: which teacher
        batch_size: texts in a batch, for teachers that read batches
        labels: what the outputs of a transformers model mean, where its own configuration does not say

    Raises:
        UserError: if there is no such teacher
        ModelError: if its model cannot be used
    """
    kind, _, model = spec.partition(":")
    if spec == "vader":
        from sa2sr.sentiment.vader import VaderTeacher

        return VaderTeacher()
    if kind == "transformers" and model:
        from sa2sr.sentiment.transformer import TransformerTeacher

        return TransformerTeacher(model, batch_size=batch_size, labels=labels)
    raise UserError(f"there is no teacher '{spec}'; use vader, or transformers:<folder or hub id>")


def natural_case(text: str) -> str:
    """Lower-case a text that has no lower-case letter.

    Corpora such as LibriSpeech transcribe in capitals, which a teacher would take for shouting.
    """
    return text.lower() if text.isupper() else text
