"""Two processes that share the batches train what one does that has them all."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from sa2sr.config import Recipe, to_yaml
from sa2sr.cuts import Cut, write_cuts
from sa2sr.training.trainer import train


@pytest.fixture
def recipe(make_recipe: Callable[..., Recipe], tone: Callable[..., Cut], tmp_path: Path) -> Recipe:
    """All objectives, of whose labels some are missing, and batches of three, the last of which has one utterance."""
    missing: dict[int, dict[str, Any]] = {2: {"text": None}, 3: {"custom": None}, 4: {"ratings": None}, 6: {"text": ""}}
    write_cuts(tmp_path / "train.jsonl", [tone(number, **missing.get(number, {})) for number in range(8)])
    return make_recipe(
        {
            "pretraining.train": [str(tmp_path / "train.jsonl")],
            "pretraining.objectives": {
                "ctc": {},
                "sentiment": {"weight": 20, "units": 8},
                "emotion": {"weight": 5, "channels": 8, "heads": 2, "dropout": 0.0},
            },
            "pretraining.batches": {"utterances": 3},
            "pretraining.augmentation": {"speeds": [0.9, 1.0], "probability": 0.5, "time_width": 10},
            "pretraining.optimiser": {"rate": 0.003, "accumulate": 2, "clip": 5.0, "warmup_steps": 4},
            "pretraining.features.store": str(tmp_path / "store"),
        }
    )


def without_times(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in entry.items() if key != "seconds"} for entry in history]


def close(value: Any, tolerance: float) -> Any:
    """Something that equals ``value`` when its numbers are close."""
    if isinstance(value, dict):
        return {key: close(each, tolerance) for key, each in value.items()}
    if isinstance(value, list):
        return [close(each, tolerance) for each in value]
    return pytest.approx(value, rel=tolerance, abs=tolerance) if isinstance(value, float) else value


def test_two_processes_train_what_one_does(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # two cannot share a GPU
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = ["-m", "sa2sr", "pretrain", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "two")]
    answer = subprocess.run([*launcher, *command], capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
    printed = answer.stderr.splitlines()
    assert sum(line.startswith("epoch 1 ") for line in printed) == 1  # by one of the two
    of_two = [json.loads(line) for line in (tmp_path / "two" / "history.jsonl").read_text().splitlines()]

    longer = recipe.model_dump(mode="json")
    longer["pretraining"]["max_epochs"] = 3
    one = train(Recipe.model_validate(longer), "pretraining", tmp_path / "one")
    assert [entry["step"] for entry in one.history()] == [3, 6, 9]  # of six batches an epoch
    assert len(of_two) == 2
    assert without_times(of_two) == close(without_times(one.history()[:2]), 1e-5)

    # What two began, one may go on with; only what is random within the network depends on their number.
    two = train(Recipe.model_validate(longer), "pretraining", tmp_path / "two")
    assert without_times(two.history()) == close(without_times(one.history()), 1e-5)
    ours, theirs = (load_file(run.checkpoint) for run in (two, one))
    for name, tensor in ours.items():
        if name.startswith("model.") and "attn.in_proj_bias" not in name:
            # (The bias of the keys changes nothing, so its gradient is rounding alone, which Adam makes a step of.)
            assert (tensor - theirs[name]).abs().max() < 1e-5, name
