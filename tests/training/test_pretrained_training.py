"""Pre-trained encoders, from the library's folder to a table of emotions."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

import sa2sr
from sa2sr.config import DIMENSIONS, Recipe
from sa2sr.errors import ModelError
from sa2sr.inference.export import export
from sa2sr.network.model import load_model
from sa2sr.training.evaluate import evaluate
from sa2sr.training.trainer import train
from tests.conftest import PretrainedFolder, Voice
from tests.training.test_resume import finish, start, train_until

__all__ = ["start"]  # a fixture

MakeRecipe = Callable[..., Recipe]


def emotions(model: sa2sr.Model, *audio: Any, **options: Any) -> Any:
    return np.array([[getattr(row, d) for d in DIMENSIONS] for row in model.predict(*audio, **options)])


@pytest.mark.parametrize("name", ["wavlm", "whisper"])
def test_from_a_folder_to_a_table(
    name: str, make_recipe: MakeRecipe, pretrained_folder: PretrainedFolder, voice: Voice, tmp_path: Path
) -> None:
    folder = shutil.copytree(pretrained_folder(name), tmp_path / "original")
    changes = {"encoder": {"kind": "transformers", "name": str(folder), "freeze": "none"}}
    changes |= {"pretraining.max_epochs": 6, "pretraining.optimiser": {"rate": 0.003}}
    changes |= {f"{stage}.features.store": str(tmp_path / "store") for stage in ("pretraining", "finetuning")}
    recipe = make_recipe(changes)
    pretrained = train(recipe, "pretraining", tmp_path / "pretrained")
    history = pretrained.history()
    assert history[-1]["train"]["ctc_loss"] < 0.5 * history[0]["train"]["ctc_loss"]
    assert history[-1]["train"]["sentiment_loss"] < history[0]["train"]["sentiment_loss"]
    assert not (tmp_path / "store").exists()

    shutil.rmtree(folder)  # from now on the encoder is in the run folder
    frozen = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"freeze": "all"})})
    finetuned = train(frozen, "finetuning", tmp_path / "finetuned", start_from=pretrained.path)
    before, after = (load_file(run.model / "model.safetensors") for run in (pretrained, finetuned))
    changed = {key for key in before if key.startswith("encoder.") and not torch.equal(before[key], after[key])}
    assert changed == {"encoder.mixture"}

    shutil.move(finetuned.model, tmp_path / "elsewhere")
    model = sa2sr.load(tmp_path / "elsewhere")
    assert (model.settings.frontend.sampling_rate, model.settings.frontend.step_ms) == (16_000, 20)
    paths = [tmp_path / f"{n}.wav" for n in range(3)]
    for number, (path, seconds) in enumerate(zip(paths, (0.7, 1.6, 0.2), strict=True)):
        soundfile.write(path, voice(seconds, number), 16_000, subtype="FLOAT")
    together = emotions(model, paths)
    alone = np.concatenate([emotions(model, path) for path in paths])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert np.ptp(together, axis=0).max() > 1e-3
    for row, path in zip(model.predict(paths, level=0.5), paths, strict=True):
        assert row.file == str(path)
        assert row.valence_low is not None
    evaluation = evaluate(tmp_path / "elsewhere", recipe.finetuning.dev if recipe.finetuning else [], tmp_path / "e")
    assert evaluation.metrics["utterances"] == 6

    long = voice(2.5, 7)
    windows = emotions(model, long, 16_000, window=1.0, hop=0.5)
    stream = model.stream(16_000, window=1.0, hop=0.5)
    rows = [row for begin in range(0, len(long), 3_000) for row in stream.push(long[begin : begin + 3_000])]
    rows += stream.flush()
    assert len(rows) == len(windows) == 4
    np.testing.assert_allclose([[getattr(row, d) for d in DIMENSIONS] for row in rows], windows, atol=1e-4)

    message = "cannot be exported or run by the onnx engine: its encoder is of the kind transformers"
    with pytest.raises(ModelError, match=message):
        export(tmp_path / "elsewhere", tmp_path / "exported")
    with pytest.raises(ModelError, match=message):
        sa2sr.load(tmp_path / "elsewhere", engine="onnx")


def test_fine_tuning_alone_with_adapters(
    make_recipe: MakeRecipe, pretrained_folder: PretrainedFolder, voice: Voice, tmp_path: Path
) -> None:
    encoder = {"kind": "transformers", "name": str(pretrained_folder("hubert")), "lora": {"rank": 2}}
    recipe = make_recipe({"encoder": encoder, "pretraining": None, "finetuning.max_epochs": 3})
    run = train(recipe, "finetuning", tmp_path / "run")
    losses = [entry["train"]["emotion_loss"] for entry in run.history()]
    assert losses[-1] < losses[0]
    network = load_model(run.path)
    weights = network.encoder.state_dict()
    theirs = load_file(pretrained_folder("hubert") / "model.safetensors")
    kept = [name for name in weights if name.replace("backbone.model.", "").replace(".base_layer", "") in theirs]
    assert len(kept) > 40
    for name in kept:
        assert torch.equal(weights[name], theirs[name.replace("backbone.model.", "").replace(".base_layer", "")])
    adapters = [each for name, each in weights.items() if "lora_B" in name]
    assert all(each.any() for each in adapters)
    assert len(sa2sr.load(run.path).predict(voice(0.5), 16_000).rows) == 1


def test_the_regressor_alone_can_be_trained(
    make_recipe: MakeRecipe, pretrained_folder: PretrainedFolder, tmp_path: Path
) -> None:
    encoder = {"kind": "transformers", "name": str(pretrained_folder("wav2vec2"))}
    changes = {"pretraining": None, "finetuning.max_epochs": 1, "finetuning.freeze_encoder": True}
    run = train(make_recipe({"encoder": encoder} | changes), "finetuning", tmp_path / "run")
    weights, theirs = (
        load_model(run.path).encoder.state_dict(),
        load_file(pretrained_folder("wav2vec2") / "model.safetensors"),
    )
    for name, each in weights.items():
        if name != "mixture":
            assert torch.equal(each, theirs[name.removeprefix("backbone.model.")]), name


def test_a_stage_goes_on_from_an_encoder_of_its_own_kind_alone(
    make_recipe: MakeRecipe, pretrained_folder: PretrainedFolder, tmp_path: Path
) -> None:
    lstm = train(make_recipe({"pretraining.max_epochs": 1}), "pretraining", tmp_path / "lstm")
    encoder = {"kind": "transformers", "name": str(pretrained_folder("wav2vec2"))}
    with pytest.raises(ModelError, match=r"was trained with encoder\.kind = lstm, but the recipe 'tiny' has transform"):
        train(make_recipe({"encoder": encoder}), "finetuning", tmp_path / "run", start_from=lstm.path)


def test_going_on_is_never_stopping(
    start: Any, make_recipe: MakeRecipe, pretrained_folder: PretrainedFolder, tmp_path: Path
) -> None:
    """Killed within an epoch, with dropout, adapters, speeds, masks and checkpointing on."""
    encoder = {
        "kind": "transformers",
        "name": str(pretrained_folder("wavlm")),
        "lora": {"rank": 2, "dropout": 0.2},
        "checkpointing": True,
    }
    shared = {
        "max_epochs": 2,
        "checkpoint_seconds": 1e-9,
        "augmentation": {"speeds": [0.9, 1.1], "every_speed": False, "probability": 0.7, "time_width": 5},
    }
    recipe = make_recipe({"encoder": encoder} | {f"pretraining.{key}": value for key, value in shared.items()})
    finish(start(train, recipe, "pretraining", tmp_path / "whole"))
    killed = start(
        train_until, [("os.rename", "*/checkpoint.safetensors")] * 3, recipe, "pretraining", tmp_path / "cut"
    )
    killed.join(120)
    assert killed.exitcode == -9
    finish(start(train, recipe, "pretraining", tmp_path / "cut"))
    for name in ("checkpoint.safetensors", "model/model.safetensors"):
        whole, cut = (load_file(tmp_path / run / name) for run in ("whole", "cut"))
        assert whole.keys() == cut.keys()
        for key, weights in whole.items():
            assert torch.equal(weights, cut[key]), key
