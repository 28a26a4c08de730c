"""What a stage trains and is judged on."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from sa2sr.config import Augmentation, FrontEnd, Stage
from sa2sr.errors import CorpusError
from sa2sr.network.objectives import OBJECTIVES
from sa2sr.speech.batches import NO_AUGMENTATION, BatchPlan, FrameSource, Item, SpeechDataset, plain_batches
from sa2sr.speech.store import build_store
from sa2sr.speech.utterances import UtteranceSet, read_utterances, usable


@dataclass(frozen=True)
class StageData:
    """Training and development sets with their sources of frames."""

    train: SpeechDataset
    dev: SpeechDataset
    train_set: UtteranceSet
    dev_set: UtteranceSet

    def training_plan(self, stage: Stage, seed: int) -> BatchPlan:
        """The batches of all epochs."""
        return BatchPlan([u.seconds for u in self.train.utterances], stage.batches, stage.augmentation, seed)

    def dev_batches(self, stage: Stage) -> list[list[Item]]:
        """The batches of an evaluation."""
        return plain_batches([u.seconds for u in self.dev.utterances], stage.batches)


def load_stage_data(stage: Stage, frontend: FrontEnd, seed: int, accelerator: Accelerator) -> StageData:
    """Read the manifests, leave out what cannot be trained on, and build the feature store if the stage uses one.

    Raises:
        CorpusError: if a set is missing, empty, or lacks the labels of an objective
    """
    tasks = {name: OBJECTIVES[name] for name, objective in stage.objectives.active().items() if objective.weight}
    parts: dict[str, tuple[SpeechDataset, UtteranceSet]] = {}
    for name, paths in (("train", stage.train), ("dev", stage.dev)):
        if not paths:
            raise CorpusError(
                f"no {name} manifest is given; use --{name} FILE, or the key {name} of the recipe's stage"
            )
        augmentation = stage.augmentation if name == "train" else NO_AUGMENTATION
        data = usable(
            read_utterances(paths),
            frontend,
            tasks,
            shortest=stage.batches.shortest,
            longest=stage.batches.longest,
            fastest=max(augmentation.speeds),
        )
        parts[name] = _with_frames(data, stage, frontend, augmentation, seed, accelerator)
        for task, objective in tasks.items():
            if not any(map(objective.has_label, parts[name][1].utterances)):
                where = ", ".join(map(str, paths))
                raise CorpusError(f"{where}: the {name} set has no label for '{task}'; {objective.remedy}")
    _check_scales(parts["train"][1], parts["dev"][1])
    return StageData(parts["train"][0], parts["dev"][0], parts["train"][1], parts["dev"][1])


def _with_frames(
    data: UtteranceSet,
    stage: Stage,
    frontend: FrontEnd,
    augmentation: Augmentation,
    seed: int,
    accelerator: Accelerator,
) -> tuple[SpeechDataset, UtteranceSet]:
    if stage.features.source == "on-the-fly":
        return SpeechDataset(data.utterances, frontend, augmentation, seed=seed), data
    cuts = [utterance.cut for utterance in data.utterances]
    speeds = sorted({*augmentation.speeds})
    with accelerator.local_main_process_first():  # the others of this machine find the store built
        store = build_store(stage.features.store, cuts, frontend, speeds, stage.features.workers)
    if not store.errors:
        return SpeechDataset(data.utterances, frontend, augmentation, source=store, seed=seed), data
    positions = [i for i in range(len(cuts)) if i not in store.errors]
    left_out = data.left_out + Counter({"audio cannot be read": len(store.errors)})
    readable = UtteranceSet([data.utterances[i] for i in positions], left_out, data.scale)
    if not positions:
        raise CorpusError(f"the audio of none of {len(cuts)} utterances can be read; first: {store.errors[0]}")
    source = _Selected(store, positions)
    return SpeechDataset(readable.utterances, frontend, augmentation, source=source, seed=seed), readable


@dataclass(frozen=True)
class _Selected:
    """A store seen through the positions of the readable cuts."""

    store: FrameSource
    positions: Sequence[int]

    def __call__(self, index: int, speed: float) -> NDArray[np.floating]:
        return self.store(self.positions[index], speed)


def _check_scales(train: UtteranceSet, dev: UtteranceSet) -> None:
    if train.scale and dev.scale and train.scale != dev.scale:
        raise CorpusError(f"the training ratings are on {train.scale}, those of the development set on {dev.scale}")
