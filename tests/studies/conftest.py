"""A corpus and a recipe so small that a whole study takes seconds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from sa2sr.audio import probe
from sa2sr.config import DIMENSIONS, SENTIMENTS, Scale
from sa2sr.cuts import make_cut, write_cuts

RATE = 8_000
PITCHES = (300.0, 800.0, 2000.0)  # Hz, of what is negative, neutral and positive
WORDS = ("ba", "so", "de")
SETS = {"train": range(12), "dev": range(12, 18), "test": range(18, 30)}


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Manifests of utterances under a second, whose words and feelings are in their pitch."""
    folder = tmp_path_factory.mktemp("tones")
    manifests = {}
    for name, numbers in SETS.items():
        cuts = []
        for number in numbers:
            random, kind, path = np.random.default_rng(number), number % 3, folder / f"{number}.wav"
            time = np.arange(round(RATE * random.uniform(0.3, 0.6))) / RATE
            wave = 0.3 * np.sin(2 * np.pi * PITCHES[kind] * random.uniform(0.95, 1.05) * time)
            soundfile.write(path, wave + 0.01 * random.standard_normal(len(time)), RATE)
            cuts.append(
                make_cut(
                    f"u{number}",
                    path,
                    probe(path),
                    text=WORDS[kind],
                    speaker=f"s{number % 4}",
                    gender=("female", "male")[number % 2],
                    emotion=("sad", "neutral", "happy")[kind],
                    ratings=dict(zip(DIMENSIONS, (2.0 * kind + random.uniform(1, 3, 3)).tolist(), strict=True)),
                    scale=Scale(),
                    custom={"sentiment": [0.8 if i == kind else 0.1 for i in range(len(SENTIMENTS))]},
                )
            )
        manifests[name] = folder / f"{name}.jsonl.gz"
        write_cuts(manifests[name], cuts)
    return manifests


@pytest.fixture
def study_file(tones: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """``study_file(systems=..., sweeps=...)`` writes a study of tiny recipes and returns its path."""
    return lambda **changes: write_study(tmp_path, tones, **changes)


def write_study(folder: Path, tones: dict[str, Path], **changes: Any) -> Path:
    """A study of tiny recipes, and these beside it."""
    stage: dict[str, Any] = {
        "batches": {"utterances": 4},
        "augmentation": {"speeds": [1.0], "probability": 0.0},
        "optimiser": {"rate": 0.01},
        "precision": "fp32",
        "max_epochs": 2,
        "checkpoint_seconds": 1e-9,
    }
    recipe = {
        "name": "tiny",
        "frontend": {"sampling_rate": RATE, "filters": 12},
        "encoder": {"layers": 1, "units": 8},
        "pretraining": {**stage, "objectives": {"ctc": 1, "sentiment": {"weight": 20, "units": 8}}},
        "finetuning": {**stage, "objectives": {"emotion": {"channels": 8, "heads": 2}}},
    }
    (folder / "tiny.yaml").write_text(json.dumps(recipe))
    (folder / "tiny-scratch.yaml").write_text("extends: tiny.yaml\nname: tiny-scratch\npretraining: null\n")
    sets = {part: str(path) for part, path in tones.items()}
    values: dict[str, Any] = {
        "systems": {"none": str(folder / "tiny-scratch.yaml"), "sa2sr": str(folder / "tiny.yaml")},
        "pretraining": {"train": sets["train"], "dev": sets["dev"]},
        "finetuning": {"tones": {"train": sets["train"], "dev": sets["dev"], "tests": {"unseen": sets["test"]}}},
    }
    (folder / "study.yaml").write_text(json.dumps(values | changes))  # which YAML reads too
    return folder / "study.yaml"
