"""What a pre-trained model hears in utterances: their words, and whose voice it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sa2sr.config import Batches
from sa2sr.errors import ModelError
from sa2sr.network.model import SpeechModel
from sa2sr.network.objectives.speaker import Speaker
from sa2sr.progress import progress
from sa2sr.speech.batches import BatchLoader, SpeechDataset, plain_batches
from sa2sr.speech.utterances import Utterance
from sa2sr.vectors.beam import Decoder


@dataclass(frozen=True)
class Hearing:
    """By the positions of utterances; those whose audio cannot be read have none."""

    texts: dict[int, str]  # in the alphabet of the recogniser; empty without a decoder
    voices: dict[int, NDArray[np.float32]]  # (units,), of length 1; empty where they are not asked for
    failures: dict[int, str]


@torch.inference_mode()
def listen(network: SpeechModel, utterances: Sequence[Utterance], decoder: Decoder | None, *, voices: bool) -> Hearing:
    """Run a model over utterances.

    Raises:
        ModelError: if it has not learnt what is asked of it
    """
    recogniser = network.recogniser if decoder is not None else None
    speakers = checked_speakers(network) if voices else None
    device = next(network.parameters()).device
    frontend = network.settings.frontend
    dataset = SpeechDataset(utterances, frontend)
    batches = plain_batches([u.seconds for u in utterances], Batches(seconds=frontend.batch_seconds))
    heard = Hearing({}, {}, {})
    with progress("Utterances", total=len(utterances)) as advance:
        for items, batch in zip(batches, BatchLoader(dataset)(batches), strict=True):
            heard.failures.update({items[row].index: reason for row, reason in batch.failures.items()})
            batch = batch.to(device)
            states, steps = network.states(batch.frames, batch.lengths), network.state_lengths(batch.lengths)
            rows = [row for row in range(len(items)) if row not in batch.failures]
            if recogniser is not None and decoder is not None:
                logits = recogniser.logits(states).float().log_softmax(-1).cpu().numpy()
                lengths = steps.tolist()
                heard.texts.update({items[row].index: decoder(logits[row, : lengths[row]]) for row in rows})
            if speakers is not None:
                found = speakers.predict(states, steps)
                heard.voices.update({items[row].index: found[row] for row in rows})
            advance(len(items))
    return heard


def checked_speakers(network: SpeechModel) -> Speaker:
    """The speaker head of a model, or ModelError."""
    task = network.tasks().get("speaker")
    if not isinstance(task, Speaker) or "speaker" in network.settings.drifted:
        raise ModelError(f"the model '{network.settings.name}' knows no voices; one pre-trained on speaker does")
    return task
