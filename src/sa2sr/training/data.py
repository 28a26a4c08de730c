"""What a stage trains and is judged on."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, Augmentation, FrontEnd, Stage
from sa2sr.errors import CorpusError
from sa2sr.network.objectives import OBJECTIVES
from sa2sr.speech.batches import NO_AUGMENTATION, BatchPlan, FrameSource, Item, SpeechDataset, plain_batches
from sa2sr.speech.store import build_store
from sa2sr.speech.utterances import Utterance, UtteranceSet, of_classes, read_utterances, usable


@dataclass(frozen=True)
class StageData:
    """Training and development sets with their sources of frames."""

    train: SpeechDataset
    dev: SpeechDataset
    train_set: UtteranceSet
    dev_set: UtteranceSet
    failures: list[str]  # audio that cannot be read, as far as a feature store knows

    def training_plan(self, stage: Stage, seed: int) -> BatchPlan:
        """The batches of all epochs."""
        utterances = self.train.utterances
        seconds, corpora = [u.seconds for u in utterances], [u.corpus.number for u in utterances]
        return BatchPlan(seconds, stage.batches, stage.augmentation, seed, corpora)

    def dev_batches(self, stage: Stage) -> list[list[Item]]:
        """The batches of an evaluation."""
        return plain_batches([u.seconds for u in self.dev.utterances], stage.batches)


def load_stage_data(stage: Stage, frontend: FrontEnd, seed: int, accelerator: Accelerator) -> StageData:
    """Read the manifests, leave out what cannot be trained on, and build the feature store if the stage uses one.

    Raises:
        CorpusError: if a set is missing, empty, or lacks the labels of an objective
        RecipeError: if its labels are more than the settings of a model hold
    """
    named = stage.objectives.category.classes if stage.objectives.category else ()
    train_set = _read_set("train", stage.train, stage, frontend, stage.augmentation, named)
    classes = named or {u.category for u in train_set.utterances if u.category is not None}
    dev_set = _read_set("dev", stage.dev, stage, frontend, NO_AUGMENTATION, classes)
    if train_set.scale and dev_set.scale and train_set.scale != dev_set.scale:
        raise CorpusError(
            f"the training ratings are on {train_set.scale}, those of the development set on {dev_set.scale}; "
            "the key finetuning.scale of the recipe gives a scale to map both onto"
        )
    if unknown := stage.ratings.keys() - {u.corpus.name for data in (train_set, dev_set) for u in data.utterances}:
        known = ", ".join(corpus.name for corpus in train_set.corpora)
        raise CorpusError(f"ratings of the recipe's stage: there is no corpus '{min(unknown)}'; there are {known}")
    for name, objective in stage.objectives.active().items():
        OBJECTIVES[name].with_labels(objective, train_set.utterances)  # an error now, not after the features
    failures: list[str] = []
    train, train_set = _with_frames(train_set, stage, frontend, stage.augmentation, seed, accelerator, failures)
    dev, dev_set = _with_frames(dev_set, stage, frontend, NO_AUGMENTATION, seed, accelerator, failures)
    return StageData(train, dev, train_set, dev_set, failures)


def _read_set(
    name: str,
    paths: Sequence[Path],
    stage: Stage,
    frontend: FrontEnd,
    augmentation: Augmentation,
    classes: Collection[str],
) -> UtteranceSet:
    """The usable utterances of the manifests; every task of the stage must find labels among them.

    If the task is to tell emotions apart, labels of others than the ``classes`` are left out, where these are known.
    """
    if not paths:
        raise CorpusError(f"no {name} manifest is given; use --{name} FILE, or the key {name} of the recipe's stage")
    tasks = {name: OBJECTIVES[name] for name, objective in stage.objectives.active().items() if objective.weight}
    where, utterances = ", ".join(map(str, paths)), _with_chosen_ratings(read_utterances(paths, stage.scale), stage)
    if "category" in tasks and classes:
        utterances = of_classes(utterances, classes)
    try:
        data = usable(
            utterances,
            frontend,
            tasks,
            shortest=stage.batches.shortest,
            longest=stage.batches.longest,
            fastest=max(augmentation.speeds),
        )
    except CorpusError as error:
        raise CorpusError(f"{where}: the {name} set: {error}") from None
    for task, objective in tasks.items():
        if not any(map(objective.has_label, data.utterances)):
            raise CorpusError(f"{where}: the {name} set has no label for '{task}'; {objective.remedy}")
        if name == "dev" and (reason := objective.objection(data.utterances)):
            raise CorpusError(
                f"{where}: cannot be the dev set, which decides which epoch is best at '{task}': {reason}; "
                "use another or a larger one"
            )
    return data


def _with_chosen_ratings(data: UtteranceSet, stage: Stage) -> UtteranceSet:
    def chosen(utterance: Utterance) -> Utterance:
        wanted = stage.ratings.get(utterance.corpus.name, DIMENSIONS)
        ratings = zip(DIMENSIONS, utterance.ratings, strict=True)
        return replace(utterance, ratings=tuple(rating if name in wanted else math.nan for name, rating in ratings))

    return replace(data, utterances=[*map(chosen, data.utterances)]) if stage.ratings else data


def _with_frames(
    data: UtteranceSet,
    stage: Stage,
    frontend: FrontEnd,
    augmentation: Augmentation,
    seed: int,
    accelerator: Accelerator,
    failures: list[str],
) -> tuple[SpeechDataset, UtteranceSet]:
    """The set as a source of frames, and what is left of it when a store has met audio that cannot be read."""
    if stage.features.source == "on-the-fly" or frontend.kind == "waveform":
        return SpeechDataset(data.utterances, frontend, augmentation, seed=seed), data
    cuts = [utterance.cut for utterance in data.utterances]
    with accelerator.local_main_process_first():  # the others of this machine find the store built
        store = build_store(
            stage.features.store, cuts, frontend, sorted(augmentation.speeds), stage.features.workers or None
        )
    if not store.errors:
        return SpeechDataset(data.utterances, frontend, augmentation, source=store, seed=seed), data
    if len(store.errors) == len(cuts):
        raise CorpusError(f"the audio of none of {len(cuts)} utterances can be read; first: {store.errors[0]}")
    failures += store.errors.values()
    positions = [i for i in range(len(cuts)) if i not in store.errors]
    left_out = data.left_out + Counter({"audio cannot be read": len(store.errors)})
    readable = UtteranceSet([data.utterances[i] for i in positions], left_out, data.scale)
    source = _Selected(store, positions)
    return SpeechDataset(readable.utterances, frontend, augmentation, source=source, seed=seed), readable


@dataclass(frozen=True)
class _Selected:
    """A store seen through the positions of the readable cuts."""

    store: FrameSource
    positions: Sequence[int]

    def __call__(self, index: int, speed: float) -> NDArray[np.floating]:
        return self.store(self.positions[index], speed)
