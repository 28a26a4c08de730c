"""The run folder: what was asked for, what happened, and where to go on.

::

    RUN/recipe.yaml             the resolved recipe
    RUN/environment.json        versions, commit, device, threads
    RUN/history.jsonl           one line an epoch
    RUN/checkpoint.safetensors  to resume from
    RUN/metrics.json            of the best epoch, when finished
    RUN/model/                  the best epoch's model, calibrated on the development set when finished
"""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from sa2sr.config import Recipe, load_recipe, to_yaml
from sa2sr.errors import ModelError, RecipeError, UserError
from sa2sr.files import claimed, read_json, remove_remainders, write_json, write_text
from sa2sr.network.folder import ENCODER_FILE, INTERVALS_FILE, SETTINGS_FILE, WEIGHTS_FILE

# May differ between a training and its continuation: they say how long or where, not what.
_FREE_KEYS = ("max_epochs", "patience", "checkpoint_seconds", "tensorboard", "features")


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run, and what is kept in them."""

    path: Path

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def environment_file(self) -> Path:
        """Stage, versions, commit, device, threads."""
        return self.path / "environment.json"

    @property
    def checkpoint(self) -> Path:
        """To resume from."""
        return self.path / "checkpoint.safetensors"

    @property
    def history_file(self) -> Path:
        """One JSON object a line and epoch."""
        return self.path / "history.jsonl"

    @property
    def metrics_file(self) -> Path:
        """The metrics of the best epoch, when finished."""
        return self.path / "metrics.json"

    @property
    def model(self) -> Path:
        """The best epoch's model folder."""
        return self.path / "model"

    def begin(self, recipe: Recipe, stage: str, start_from: str | Path | None = None) -> Recipe | None:
        """Write what was asked for, or check that a run that goes on was asked for the same.

        Returns:
            the recipe of a run that goes on, which may say otherwise how long or where

        Raises:
            RecipeError: naming the first key that differs, the stage or the model that it starts from
        """
        beside = {"stage": stage, "--encoder": str(start_from) if start_from is not None else None}
        earlier = load_recipe(self.recipe_file) if self.recipe_file.exists() and self._has_begun() else None
        if earlier is not None:
            before = _comparable(earlier) | beside | self._beside_recipe(beside)
            if difference := _first_difference(before, _comparable(recipe) | beside):
                raise RecipeError(
                    f"{self.path}: holds a run of another recipe ({difference}); choose another --out, or remove it"
                )
        write_text(self.recipe_file, to_yaml(recipe))
        write_json(self.environment_file, beside | environment())
        return earlier

    def _has_begun(self) -> bool:
        """Whether there is anything that another training would destroy; a regression has no checkpoint."""
        return any(path.exists() for path in (self.checkpoint, self.history_file, self.metrics_file, self.model))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep the folder to this training; of a training in several processes, the main one does.

        Raises:
            UserError: if another training is at work in it
        """
        if os.environ.get("RANK", "0") != "0":
            yield
            return
        busy = UserError(f"{self.path}: another training is at work in this folder; choose another --out")
        with claimed(self.path / ".lock", busy):
            remove_remainders(*self._files())
            yield

    def _files(self) -> list[Path]:
        written = [self.recipe_file, self.environment_file, self.checkpoint, self.history_file, self.metrics_file]
        return [*written, *(self.model / name for name in (SETTINGS_FILE, WEIGHTS_FILE, ENCODER_FILE, INTERVALS_FILE))]

    def _beside_recipe(self, names: Iterable[str]) -> dict[str, Any]:
        """What was asked for beside the recipe, as far as it is known."""
        try:
            known = read_json(self.environment_file)
        except ValueError:
            return {}
        return {name: known[name] for name in names if name in known}

    def history(self) -> list[dict[str, Any]]:
        """The epochs so far."""
        if not self.history_file.exists():
            return []
        return [json.loads(line) for line in self.history_file.read_text(encoding="utf-8").splitlines()]

    def keep_history(self, lines: int) -> None:
        """Drop what was written after the checkpoint that a run goes on from.

        Raises:
            ModelError: if some of what was written before it is gone
        """
        written = []
        if self.history_file.exists():
            written = self.history_file.read_text(encoding="utf-8").splitlines(keepends=True)
        if len(written) < lines:
            raise ModelError(
                f"{self.history_file}: has lost lines: {len(written)} are left of {lines}; "
                "remove the run folder to start anew"
            )
        if len(written) > lines:
            write_text(self.history_file, "".join(written[:lines]))

    def add_history(self, entry: dict[str, Any]) -> None:
        """Append an epoch."""
        with self.history_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def finish(self, metrics: dict[str, Any]) -> None:
        """Write the metrics of the best epoch."""
        write_json(self.metrics_file, metrics)


def environment() -> dict[str, Any]:
    """What a result may depend on, beside recipe and data."""
    packages = ("sa2sr", "torch", "numpy", "accelerate", "lhotse", "soundfile", "soxr")
    return {
        "command": _command(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: metadata.version(name) for name in packages},
        "commit": _commit(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _command() -> str:
    """As a shell would take it; ``python -m sa2sr`` is the same as ``sa2sr``."""
    program = Path(sys.argv[0])
    name = "sa2sr" if program.parts[-2:] == ("sa2sr", "__main__.py") else program.name
    return shlex.join([name, *sys.argv[1:]])


def fingerprint(names: Iterable[str]) -> str:
    """A digest of the utterances that a run trains on."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(name.encode(errors="backslashreplace") + b"\0")
    return digest.hexdigest()[:32]


def _commit() -> str | None:
    folder = Path(__file__).resolve().parents[3]
    if not (folder / ".git").exists():  # installed, perhaps within a repository of something else
        return None
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


def _comparable(recipe: Recipe) -> dict[str, Any]:
    values = recipe.model_dump(mode="json")
    for stage in ("pretraining", "finetuning"):
        for key in _FREE_KEYS:
            (values[stage] or {}).pop(key, None)
    return values


def _first_difference(before: Any, now: Any, path: str = "") -> str | None:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(k for k in now if k not in before)]:
            if found := _first_difference(before.get(key), now.get(key), f"{path}.{key}".lstrip(".")):
                return found
        return None
    return None if before == now else f"{path}: {before} there, {now} now"
