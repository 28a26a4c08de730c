"""From pre-training on speech alone to a table of emotions, with an encoder that reads the past."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sa2sr
from sa2sr.config import DIMENSIONS, Recipe
from sa2sr.cuts import Cut, write_cuts
from sa2sr.errors import ModelError
from sa2sr.network.model import load_model
from sa2sr.training.evaluate import evaluate
from sa2sr.training.trainer import train

CPC = {"units": 8, "negatives": 4}
SYSTEMS: dict[str, dict[str, Any]] = {
    "apc": {"apc": {"steps": 1}},
    "cpc": {"cpc": CPC},
    "apc-sentiment": {"apc": 1, "sentiment": {"units": 8}},
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_from_speech_to_emotions(
    system: str,
    make_recipe: Callable[..., Recipe],
    manifests: tuple[Path, Path],
    voice: Callable[..., Any],
    tmp_path: Path,
) -> None:
    recipe = make_recipe(
        {
            "encoder.direction": "forward",
            "pretraining.objectives": SYSTEMS[system],
            "pretraining.max_epochs": 5,
            "pretraining.optimiser": {"rate": 0.02},
            "finetuning.max_epochs": 1,
        }
    )
    pretrained = train(recipe, "pretraining", tmp_path / "pretrained")
    history = pretrained.history()
    # There is little to foresee in tones and noise, but some of it is learnt, and the criterion is what it should be.
    for task in SYSTEMS[system]:
        assert history[-1]["train"][f"{task}_loss"] < history[0]["train"][f"{task}_loss"]
    if "apc" in system:
        wanted = [entry["dev"]["apc_l1"] - entry["dev"].get("auc", 0) for entry in history]
    else:
        wanted = [-entry["dev"]["cpc_accuracy"] for entry in history]
    assert [entry["criterion"] for entry in history] == pytest.approx(wanted)

    # Evaluated by itself, a pre-trained model gives the metric of its best epoch.
    found = evaluate(pretrained.path, [manifests[1]], tmp_path / "evaluation", resamples=2).metrics["overall"]
    name, key = ("apc", "l1") if "apc" in system else ("cpc", "accuracy")
    best = history[int(np.argmin(wanted))]["dev"]
    assert found[name][key]["value"] == pytest.approx(best[f"{name}_{key}"], rel=0.02)

    finetuned = train(recipe, "finetuning", tmp_path / "finetuned", start_from=pretrained.path)
    network = load_model(finetuned.path)
    assert [*network.tasks()] == (["sentiment", "emotion"] if "sentiment" in system else ["emotion"])
    assert network.settings.drifted == (("sentiment",) if "sentiment" in system else ())
    wave = voice(1.0, rate=16_000)
    tables = [sa2sr.load(finetuned.path, engine=engine).predict(wave, 16_000) for engine in ("onnx", "torch")]
    for row, other in zip(*(table.rows for table in tables), strict=True):
        for dimension in DIMENSIONS:
            assert getattr(row, dimension) == pytest.approx(getattr(other, dimension), abs=1e-4)


def test_the_encoder_comes_along_and_its_direction_must_be_the_same(
    make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    changes = {"encoder.direction": "forward", "pretraining.objectives": {"apc": 1}, "pretraining.max_epochs": 1}
    recipe = make_recipe(changes | {"finetuning.freeze_encoder": True, "finetuning.max_epochs": 1})
    pretrained = train(recipe, "pretraining", tmp_path / "pretrained")
    finetuned = train(recipe, "finetuning", tmp_path / "finetuned", start_from=pretrained.path)
    before, after = load_model(pretrained.path).encoder, load_model(finetuned.path).encoder
    for name, tensor in before.state_dict().items():
        assert torch.equal(tensor, after.state_dict()[name]), name
    with pytest.raises(ModelError, match=r"encoder\.direction = forward.*has both"):
        train(make_recipe(), "finetuning", tmp_path / "other", start_from=pretrained.path)


def test_ids_that_are_half_of_a_pair(
    make_recipe: Callable[..., Recipe], tone: Callable[..., Cut], tmp_path: Path
) -> None:
    """JSON can write half a surrogate pair, UTF-8 cannot; negatives and the fingerprint of a run depend on ids."""
    for name, numbers in (("train", range(6)), ("dev", range(6, 10))):
        cuts = [tone(number) for number in numbers]
        for number, cut in enumerate(cuts):
            cut.id = f"\ud83d{number}"
        write_cuts(tmp_path / f"{name}.jsonl", cuts)
    recipe = make_recipe(
        {
            "encoder.direction": "forward",
            "pretraining.objectives": {"cpc": CPC},
            "pretraining.train": [str(tmp_path / "train.jsonl")],
            "pretraining.dev": [str(tmp_path / "dev.jsonl")],
        }
    )
    for epochs in (1, 2):
        stage = recipe.pretraining.model_copy(update={"max_epochs": epochs})
        run = train(recipe.model_copy(update={"pretraining": stage}), "pretraining", tmp_path / "run")
    assert len(run.history()) == 2
