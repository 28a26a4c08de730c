"""Running a model over a set of utterances and scoring what it says."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import AutocastKwargs, gather_object

from sa2sr.network.model import SpeechModel
from sa2sr.network.parallel import alone
from sa2sr.speech.batches import BatchLoader, Item, SpeechDataset


@dataclass(frozen=True)
class Predictions:
    """What a model says of the utterances of a set, by objective."""

    values: dict[str, dict[int, Any]]  # objective -> index of the utterance -> prediction
    losses: dict[str, float]  # mean over the utterances with a label, NaN where there are none
    failures: list[str]  # audio that could not be read


@torch.no_grad()
def predict_dataset(
    model: SpeechModel,
    dataset: SpeechDataset,
    batches: Sequence[Sequence[Item]],
    accelerator: Accelerator,
    advance: Callable[[int], None] = lambda count: None,
    *,
    in_full_precision: bool = False,
    recognised: bool | None = None,
) -> Predictions:
    """Run every objective of the model over a set; the processes share the batches.

    Args:
        model: to run
        dataset: the utterances
        batches: of all processes
        accelerator: whose precision is used
        advance: is told how many utterances each batch had
        in_full_precision: whatever the precision of the accelerator
        recognised: emotions are told from what is recognised where the model reads texts, not from transcripts; by
            default as its settings say
    """
    model.eval()
    own = list(batches[accelerator.process_index :: accelerator.num_processes])
    values: dict[str, dict[int, Any]] = {name: {} for name in model.tasks()}
    losses, counts, failures = Counter[str](), Counter[str](), list[str]()
    precise = torch.backends.cudnn.flags(allow_tf32=False)  # as a prediction is
    with alone(), precise, accelerator.autocast(AutocastKwargs(enabled=not in_full_precision)):
        for items, batch in zip(own, BatchLoader(dataset)(own), strict=True):
            failures += batch.failures.values()
            rows = {row: item.index for row, item in enumerate(items) if row not in batch.failures}
            batch = batch.to(accelerator.device)
            states, lengths = model.states(batch.frames, batch.lengths), model.state_lengths(batch.lengths)
            for name, task in model.tasks().items():
                read = model.read_by(name, states, lengths, batch.frames)
                told = batch
                if name == "emotion" and reads_recognised(model, recognised):
                    told = replace(batch, texts=[*model.recogniser.predict(states, lengths)])
                said = task.evaluate(read, lengths, told)
                values[name] |= {index: said[row] for row, index in rows.items()}
                if counted := sum(task.counts(dataset.utterances[index]) for index in rows.values()):
                    losses[name] += counted * float(task.loss(read, lengths, told))  # type: ignore[assignment]
                    counts[name] += counted
            advance(len(items))
    parts = [(values, losses, counts, failures)]
    if accelerator.num_processes > 1:
        parts = gather_object(parts)
    return Predictions(
        values={name: {i: v for part in parts for i, v in part[0][name].items()} for name in values},
        losses={n: _mean(sum(p[1][n] for p in parts), sum(p[2][n] for p in parts)) for n in values},
        failures=[failure for part in parts for failure in part[3]],
    )


def _mean(total: float, count: int) -> float:
    return total / count if count else math.nan


def reads_recognised(model: SpeechModel, wanted: bool | None = None) -> bool:
    """Whether emotions are told from recognised texts: as is wanted, or else as the settings say."""
    emotion = model.settings.objectives.emotion
    if emotion is None or emotion.text is None:
        return False
    return emotion.text.read == "recognised" if wanted is None else wanted


def score_dataset(
    model: SpeechModel, dataset: SpeechDataset, batches: Sequence[Sequence[Item]], accelerator: Accelerator
) -> dict[str, float]:
    """The metrics of every objective over a set, and its mean loss as ``<objective>_loss``."""
    predictions = predict_dataset(model, dataset, batches, accelerator)
    scores: dict[str, float] = {}
    for name, task in model.tasks().items():
        by_index = predictions.values[name]
        indices = sorted(by_index)
        scores |= task.score([by_index[i] for i in indices], [dataset.utterances[i] for i in indices])
        scores[f"{name}_loss"] = predictions.losses[name]
    return scores
