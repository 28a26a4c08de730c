import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from sa2sr.audio import probe
from sa2sr.config import DIMENSIONS, SENTIMENTS, Recipe, Scale
from sa2sr.cuts import Cut, make_cut, write_cuts

RATE = 8_000
PITCHES = (300.0, 800.0, 2000.0)  # Hz, of what is negative, neutral and positive
WORDS = ("ba", "so", "de")


@pytest.fixture(scope="session")
def tone(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Cut]:
    """``tone(7)`` is utterance 7, under a second: what it says and feels like is in its pitch, so it can be learnt."""
    folder = tmp_path_factory.mktemp("tones")

    def make(number: int, **changes: Any) -> Cut:
        random = np.random.default_rng(number)
        kind = number % len(PITCHES)
        path = folder / f"{number}.wav"
        if not path.exists():
            time = np.arange(round(RATE * random.uniform(0.3, 0.6))) / RATE
            wave = 0.3 * np.sin(2 * np.pi * PITCHES[kind] * random.uniform(0.95, 1.05) * time)
            soundfile.write(path, wave + 0.01 * random.standard_normal(len(time)), RATE)
        labels = {
            "text": WORDS[kind],
            "ratings": dict(zip(DIMENSIONS, (2.0 * kind + random.uniform(1, 3, 3)).tolist(), strict=True)),
            "scale": Scale(),
            "custom": {"sentiment": [0.8 if i == kind else 0.1 for i in range(len(SENTIMENTS))]},
        }
        return make_cut(f"u{number}", path, probe(path), **(labels | changes))

    return make


@pytest.fixture(scope="session")
def manifests(tone: Callable[..., Cut], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A training and a development set of a dozen and half a dozen tones."""
    folder = tmp_path_factory.mktemp("cuts")
    write_cuts(folder / "train.jsonl", map(tone, range(12)))
    write_cuts(folder / "dev.jsonl", map(tone, range(12, 18)))
    return folder / "train.jsonl", folder / "dev.jsonl"


@pytest.fixture(scope="session")
def make_recipe(manifests: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    """``make_recipe({"finetuning.max_epochs": 3})``: a tiny network and short trainings, and what is changed in them.

    The keys reach into the recipe by dots; their values replace what is there.
    """
    train, dev = manifests
    store = tmp_path_factory.mktemp("store")

    def make(changes: dict[str, Any] | None = None) -> Recipe:
        def stage(**objectives: Any) -> dict[str, Any]:
            return {
                "train": [str(train)],
                "dev": [str(dev)],
                "objectives": objectives,
                "features": {"store": str(store), "workers": 1},
                "batches": {"utterances": 4},
                "augmentation": {"speeds": [1.0], "probability": 0.0},
                "optimiser": {"rate": 0.01},
                "precision": "fp32",
                "max_epochs": 2,
            }

        values: dict[str, Any] = {
            "name": "tiny",
            "frontend": {"sampling_rate": RATE, "filters": 12},
            "encoder": {"layers": 1, "units": 8},
            "pretraining": stage(ctc={}, sentiment={"weight": 20, "units": 8}),
            "finetuning": stage(emotion={"channels": 8, "heads": 2}),
        }
        for key, value in (changes or {}).items():
            *path, last = key.split(".")
            node = values
            for name in path:
                node = node.setdefault(name, {})
            node[last] = value
        return Recipe.model_validate(values)

    return make


@pytest.fixture(scope="session", autouse=True)
def on_the_cpu() -> Iterator[bool]:
    """Whether it is there that trainings are tested.

    Networks this small are not worth a GPU; ACCELERATE_USE_CPU=false tests trainings on one all the same.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACCELERATE_USE_CPU", os.environ.get("ACCELERATE_USE_CPU", "true"))
        yield os.environ["ACCELERATE_USE_CPU"] == "true" or not torch.cuda.is_available()
