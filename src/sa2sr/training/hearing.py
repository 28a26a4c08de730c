"""Running a model over the utterances of manifests."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from sa2sr.config import Batches, Scale
from sa2sr.errors import CorpusError
from sa2sr.network.model import SpeechModel
from sa2sr.network.objectives import Objective
from sa2sr.progress import progress
from sa2sr.speech.batches import SpeechDataset, plain_batches
from sa2sr.speech.utterances import Utterance, UtteranceSet, read_utterances
from sa2sr.training.evaluation import predict_dataset
from sa2sr.training.measures import Said

LONGEST = 120.0  # seconds of an utterance, since each is predicted as a whole


@dataclass(frozen=True)
class Heard:
    """What a model says of the utterances of manifests whose audio can be read."""

    utterances: list[Utterance]
    said: Said  # by objective; emotions within the scale
    left_out: Counter[str]
    failures: list[str]  # audio that cannot be read


def hear(
    network: SpeechModel,
    manifests: Sequence[str | Path],
    accelerator: Accelerator,
    tasks: Mapping[str, Objective],
    *,
    map_scale: bool = False,
    recognised: bool | None = None,
) -> Heard:
    """Run a model over the utterances of manifests.

    Args:
        network: the model
        manifests: of cuts
        accelerator: in single precision
        tasks: that some utterance must have a label for
        map_scale: map ratings on another scale linearly onto the model's
        recognised: see :func:`predict_dataset`

    Raises:
        CorpusError: if there are no such labels, or the ratings are on another scale than the model
    """
    data = read_labelled(manifests, tasks, network.settings.scale, map_scale=map_scale)
    frontend = network.settings.frontend
    dataset = SpeechDataset(data.utterances, frontend)
    batches = plain_batches([u.seconds for u in data.utterances], Batches(seconds=frontend.batch_seconds))
    with progress("Utterances", total=len(data.utterances)) as advance:
        predictions = predict_dataset(network, dataset, batches, accelerator, advance=advance, recognised=recognised)
    positions = sorted(next(iter(predictions.values.values())))  # of those whose audio could be read
    if not positions:
        where = ", ".join(map(str, manifests))
        raise CorpusError(f"{where}: no audio can be read; first: {predictions.failures[0]}")
    said = {name: [values[each] for each in positions] for name, values in predictions.values.items()}
    if "emotion" in said:
        said["emotion"] = [within_scale(network.settings.scale, emotions) for emotions in said["emotion"]]
    return Heard([data.utterances[each] for each in positions], said, data.left_out, predictions.failures)


def read_labelled(
    manifests: Sequence[str | Path],
    tasks: Mapping[str, Objective | type[Objective]],
    scale: Scale | None,
    *,
    map_scale: bool = False,
) -> UtteranceSet:
    """The utterances of manifests that a model can be compared with; arguments and errors as for :func:`hear`."""
    data = _short_enough(read_utterances(manifests, scale if map_scale else None))
    where = ", ".join(map(str, manifests))
    _check_labels(data, tasks, where)
    check_scale(data.scale, scale if "emotion" in tasks else None, where)
    return data


def within_scale(scale: Scale | None, emotions: NDArray[np.floating]) -> NDArray[np.floating]:
    """Emotions as every prediction gives them: clipped to the scale."""
    return emotions if scale is None else np.clip(emotions, scale.low, scale.high)


def _short_enough(data: UtteranceSet) -> UtteranceSet:
    kept = [u for u in data.utterances if u.seconds <= LONGEST]
    if not kept:
        raise CorpusError(f"all of {len(data.utterances)} utterances are longer than {LONGEST:g} s; cut them shorter")
    long = Counter({f"longer than {LONGEST:g} s": len(data.utterances) - len(kept)})
    return replace(data, utterances=kept, left_out=data.left_out + long)


def _check_labels(data: UtteranceSet, tasks: Mapping[str, Objective | type[Objective]], where: str) -> None:
    if not any(task.has_label(utterance) for task in tasks.values() for utterance in data.utterances):
        remedies = "; ".join(f"{name}: {task.remedy}" for name, task in tasks.items())
        raise CorpusError(f"{where}: no label to compare the model with ({remedies})")


def check_scale(ratings: Scale | None, model: Scale | None, where: str) -> None:
    """The same numbers must mean the same; the names of scales may differ.

    Raises:
        CorpusError: if they do not
    """
    if ratings is None or model is None or (ratings.low, ratings.high) == (model.low, model.high):
        return
    raise CorpusError(
        f"{where}: the ratings are on the scale {ratings.name} ({ratings.low:g} to {ratings.high:g}), "
        f"but the model predicts on {model.name} ({model.low:g} to {model.high:g}); --map-scale maps them onto it"
    )
