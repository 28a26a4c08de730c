"""Running a model over a set of utterances and scoring what it says."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from sa2sr.network.model import SpeechModel
from sa2sr.network.parallel import alone
from sa2sr.speech.batches import Item, SpeechDataset, load_batches


@dataclass(frozen=True)
class Predictions:
    """What a model says of the utterances of a set, by objective."""

    values: dict[str, dict[int, Any]]  # objective -> index of the utterance -> prediction
    losses: dict[str, float]  # mean over the utterances
    failures: list[str]  # audio that could not be read


@torch.no_grad()
def predict_dataset(
    model: SpeechModel,
    dataset: SpeechDataset,
    batches: Sequence[Sequence[Item]],
    accelerator: Accelerator,
    workers: int = 0,
) -> Predictions:
    """Run every objective of the model over a set; the processes share the batches."""
    model.eval()
    own = list(batches[accelerator.process_index :: accelerator.num_processes])
    values: dict[str, dict[int, Any]] = defaultdict(dict)
    sums: dict[str, float] = defaultdict(float)
    failures: list[str] = []
    count = 0
    with alone(), accelerator.autocast():
        for items, (batch, unreadable) in zip(own, load_batches(dataset, own, workers), strict=True):
            failures += unreadable
            batch = batch.to(accelerator.device)
            states = model.states(batch.frames, batch.lengths)
            for name, task in model.tasks().items():
                said = task.predict(states, batch.lengths)
                values[name] |= {item.index: value for item, value in zip(items, said, strict=True)}
                sums[name] += len(items) * float(task.loss(states, batch.lengths, batch))
            count += len(items)
    parts = [(dict(values), dict(sums), count, failures)]
    if accelerator.num_processes > 1:
        parts = gather_object(parts)
    merged: dict[str, dict[int, Any]] = {name: {} for name in model.tasks()}
    for part, *_ in parts:
        for name, by_index in part.items():
            merged[name] |= by_index
    total = sum(count for _, _, count, _ in parts)
    losses = {name: sum(part.get(name, 0.0) for _, part, _, _ in parts) / max(total, 1) for name in merged}
    return Predictions(merged, losses, [failure for *_, some in parts for failure in some])


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
