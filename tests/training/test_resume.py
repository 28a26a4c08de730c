"""Trainings that are killed with SIGKILL and started again end with the same bits as one that was left alone."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import load_file

from sa2sr.config import Recipe, to_yaml
from sa2sr.training.trainer import train

Moment = Sequence[tuple[str, str]]  # audit events and file names, one after the other

# Before a file gets its name, or a line, nothing of it counts; after it, all does. These are all the ways to die.
WHILE_FEATURES_ARE_BUILT: list[Moment] = [
    [("os.rename", "*/store/*.safetensors")],
    [("os.rename", "*/store/*.safetensors"), ("tempfile.mkstemp", "*/store/*"), ("os.rename", "*/store/*")],
]
AT_THE_START: list[Moment] = [
    [("os.rename", "*/recipe.yaml")],
    [("os.rename", "*/environment.json")],
    [("os.rename", "*/recipe.yaml"), ("tempfile.mkstemp", "*/.checkpoint*")],  # the first of this process
]
WITHIN_AN_EPOCH: list[Moment] = [
    [("os.rename", "*/checkpoint.safetensors")],
    [("os.rename", "*/checkpoint.safetensors")] * 2,
    [("os.rename", "*/checkpoint.safetensors"), ("os.remove", "*/.checkpoint*"), ("tempfile.mkstemp", "*")],
]
AT_THE_END_OF_AN_EPOCH: list[Moment] = [
    [("open to write", "*/history.jsonl")],
    [("open to write", "*/history.jsonl"), ("os.rename", "*/model.safetensors")],
    [("os.rename", "*/model.safetensors"), ("os.rename", "*/config.yaml")],
    [("os.rename", "*/config.yaml"), ("os.rename", "*/checkpoint.safetensors")],
]
AT_THE_END: list[Moment] = [[("os.rename", "*/metrics.json")]]
WHILE_CALIBRATED: list[Moment] = [[("os.rename", "*/intervals.json")]]


def train_until(moment: Moment, *what: Any) -> None:
    """Train, and die of SIGKILL right before the last event of a moment."""
    left = list(moment)

    def watch(event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            event = "open to write" if values[2] & (os.O_WRONLY | os.O_RDWR) else ""
        elif event not in ("os.rename", "os.remove", "tempfile.mkstemp"):
            return
        name = str(values[1] if event == "os.rename" else values[0])
        if event == left[0][0] and fnmatch(name, left[0][1]):
            del left[0]
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    train(*what)


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[..., ForkServerProcess]]:
    """``start(function, ...)`` calls a function in a process of its own."""
    context = multiprocessing.get_context("forkserver")
    # Imported once, since that takes seconds; torch._dynamo is what the first optimiser imports.
    context.set_forkserver_preload(["sa2sr.training.trainer", "torch._dynamo", "pytest"])
    begun: list[ForkServerProcess] = []

    def begin(function: Callable[..., Any], *values: Any) -> ForkServerProcess:
        begun.append(context.Process(target=function, args=values))
        begun[-1].start()
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.join()


def finish(process: ForkServerProcess) -> None:
    process.join(120)
    assert process.exitcode == 0


@pytest.fixture(scope="module")
def recipe(make_recipe: Callable[..., Recipe]) -> Recipe:
    """Everything random is on, steps are of two batches but for the last of an epoch, each ends with a checkpoint."""
    shared = {
        "max_epochs": 3,
        "checkpoint_seconds": 1e-9,
        "augmentation": {"speeds": [0.9, 1.0, 1.1], "probability": 0.7, "time_width": 10, "frequency_width": 4},
        "optimiser": {"kind": "adamw", "rate": 0.01, "accumulate": 2, "schedule": "cosine", "warmup_steps": 4},
    }
    return make_recipe(
        {
            "encoder": {"layers": 2, "units": 8, "dropout": 0.2},
            "pretraining.objectives.sentiment": {"weight": 20, "units": 8, "summariser": "attention", "dropout": 0.3},
            "finetuning.objectives.emotion": {"channels": 8, "heads": 2, "dropout": 0.2},
        }
        | {f"{stage}.{key}": value for stage in ("pretraining", "finetuning") for key, value in shared.items()}
        | {"finetuning.optimiser.encoder_rate": 0.001}
    )


@pytest.fixture(scope="module")
def uninterrupted(start: Any, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run folders of both stages."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(start(train, recipe, "pretraining", folder / "pretraining"))
    finish(start(train, recipe, "finetuning", folder / "finetuning", folder / "pretraining"))
    return {stage: folder / stage for stage in ("pretraining", "finetuning")}


def with_store(recipe: Recipe, stage: str, folder: Path) -> Recipe:
    """The recipe with a feature store of its own, which is yet to be built."""
    settings = getattr(recipe, stage)
    features = settings.features.model_copy(update={"store": folder / "store"})
    return recipe.model_copy(update={stage: settings.model_copy(update={"features": features})})


def without_times(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != "seconds"}


def check_same(run: Path, other: Path) -> None:
    """Bit for bit the same results, and nothing left lying about."""
    assert (run / "model" / "model.safetensors").read_bytes() == (other / "model" / "model.safetensors").read_bytes()
    for name in ("recipe.yaml", "model/config.yaml"):
        assert (run / name).is_file() == (other / name).is_file()
    calibrations = [folder / "model" / "intervals.json" for folder in (run, other)]
    assert len({path.read_bytes() if path.exists() else None for path in calibrations}) == 1
    ours, theirs = (load_file(folder / "checkpoint.safetensors") for folder in (run, other))
    assert ours.keys() == theirs.keys()
    assert any(name.startswith("optimiser.") for name in ours)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name
    positions = []
    for folder in (run, other):
        with safetensors.safe_open(folder / "checkpoint.safetensors", "pt") as file:
            positions.append(without_times(json.loads(file.metadata()["position"])))
    assert positions[0] == positions[1]
    histories = [[json.loads(line) for line in (f / "history.jsonl").read_text().splitlines()] for f in (run, other)]
    assert [without_times(entry) for entry in histories[0]] == [without_times(entry) for entry in histories[1]]
    metrics = [without_times(json.loads((folder / "metrics.json").read_text())) for folder in (run, other)]
    assert metrics[0] == metrics[1]
    left = [path for path in run.rglob(".*") if path.name != ".lock"]
    assert not left, "temporary files of killed processes"


def test_the_reference_is_worth_the_name(uninterrupted: dict[str, Path]) -> None:
    for folder in uninterrupted.values():
        history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
        assert [entry["step"] for entry in history] == [5, 10, 15]  # of nine batches an epoch, two a step
        assert len({entry["criterion"] for entry in history}) > 1


@pytest.mark.parametrize(
    ("stage", "moments"),
    [
        (
            "pretraining",
            [*WHILE_FEATURES_ARE_BUILT, *AT_THE_START, *WITHIN_AN_EPOCH, *AT_THE_END_OF_AN_EPOCH, *AT_THE_END],
        ),
        ("finetuning", [*WITHIN_AN_EPOCH[1:], *AT_THE_END_OF_AN_EPOCH[1:], *WHILE_CALIBRATED, *AT_THE_END]),
    ],
)
def test_killed_at_every_kind_of_moment(
    stage: str,
    moments: list[Moment],
    start: Any,
    recipe: Recipe,
    uninterrupted: dict[str, Path],
    tmp_path: Path,
) -> None:
    encoder = uninterrupted["pretraining"] if stage == "finetuning" else None
    what = (with_store(recipe, stage, tmp_path), stage, tmp_path / "run", encoder)
    for moment in moments:
        process = start(train_until, moment, *what)
        process.join(120)
        assert process.exitcode == -signal.SIGKILL, f"it never came to {moment}"
    assert not (tmp_path / "run" / "metrics.json").exists()
    finish(start(train, *what))
    check_same(tmp_path / "run", uninterrupted[stage])


def test_killed_at_random(start: Any, recipe: Recipe, uninterrupted: dict[str, Path], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    what = (with_store(recipe, "pretraining", tmp_path), "pretraining", tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    kills = 0
    for renewals in (0, 2, 1, 3, 2):  # of fifteen; an epoch has five steps
        process = start(train, *what)
        seen = {version(checkpoint)}
        while process.is_alive() and len(seen) <= renewals:
            time.sleep(0.002)
            seen.add(version(checkpoint))
        process.join(random.uniform(0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        kills += process.exitcode != 0
    assert kills >= 2
    finish(start(train, *what))
    check_same(tmp_path / "run", uninterrupted["pretraining"])


def version(path: Path) -> int | None:
    """Another number for every file that has had this name."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def test_negatives_are_drawn_again_as_they_were(
    start: Any, make_recipe: Callable[..., Recipe], recipe: Recipe, tmp_path: Path
) -> None:
    assert recipe.pretraining is not None
    predictive = make_recipe(
        {
            "encoder": {"direction": "forward", "layers": 2, "units": 8, "dropout": 0.2},
            "pretraining.objectives": {"sentiment": {"units": 8}, "apc": 1, "cpc": {"units": 4}},
            "pretraining.optimiser": recipe.pretraining.optimiser.model_dump(),
            "pretraining.checkpoint_seconds": 1e-9,
        }
    )
    finish(start(train, predictive, "pretraining", tmp_path / "whole"))
    for moment in WITHIN_AN_EPOCH[1:]:
        process = start(train_until, moment, predictive, "pretraining", tmp_path / "run")
        process.join(120)
        assert process.exitcode == -signal.SIGKILL
    finish(start(train, predictive, "pretraining", tmp_path / "run"))
    check_same(tmp_path / "run", tmp_path / "whole")


def test_the_command_goes_on_where_it_was_killed(
    recipe: Recipe, uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(to_yaml(with_store(recipe, "pretraining", tmp_path)))
    run = tmp_path / "run"
    command = [sys.executable, "-m", "sa2sr", "pretrain", str(tmp_path / "recipe.yaml"), "--out", str(run)]
    for option in ("train", "dev"):
        command += [f"--{option}", *map(str, getattr(recipe.pretraining, option))]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while not list(tmp_path.glob("store/*.safetensors")):  # while it builds the features
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not (run / "metrics.json").exists()
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == f"model: {run / 'model'}\n"
    check_same(run, uninterrupted["pretraining"])
