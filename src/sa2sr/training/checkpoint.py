"""Checkpoints: everything that a training needs to go on as if it had never stopped, in one file.

The file is safetensors: the tensors of model and optimiser, and the small state as JSON in its metadata. It is written
beside the last one and renamed over it, so a kill at any moment leaves a whole checkpoint. There is no state of random
generators to keep: every step seeds them from the recipe's seed and its own number.
"""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load_file, save

from sa2sr.errors import ModelError
from sa2sr.files import atomic


@dataclass
class TrainingState:
    """Where a training stands, early stopping included."""

    epoch: int = 0
    batch: int = 0  # the next one of the epoch
    step: int = 0  # optimiser steps so far
    best: float = math.inf  # criterion, lower is better
    best_epoch: int = -1
    history_lines: int = 0  # lines of history.jsonl that belong to this state
    seconds: float = 0.0  # spent training so far
    epoch_sums: dict[str, float] = field(default_factory=dict)  # losses, batches and seconds heard in this epoch

    def add(self, **values: float) -> None:
        """Add to the sums of the epoch."""
        for name, value in values.items():
            self.epoch_sums[name] = self.epoch_sums.get(name, 0.0) + value

    def mean_losses(self) -> dict[str, float]:
        """Mean over the batches of the epoch so far, by objective."""
        batches = max(self.epoch_sums.get("batches", 0.0), 1.0)
        return {k: v / batches for k, v in self.epoch_sums.items() if k not in ("batches", "speech_seconds")}

    def begin_next_epoch(self) -> None:
        """The epoch is over and in the history."""
        self.epoch, self.batch, self.epoch_sums = self.epoch + 1, 0, {}
        self.history_lines += 1


def save_checkpoint(
    path: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, state: TrainingState, fingerprint: str
) -> None:
    """Write a checkpoint atomically; ``fingerprint`` names the data that it belongs to."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for index, values in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": torch.as_tensor(value) for name, value in values.items()}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"position": json.dumps(dataclasses.asdict(state)), "fingerprint": fingerprint}
    with atomic(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def load_checkpoint(
    path: Path, model: torch.nn.Module, optimiser: torch.optim.Optimizer, fingerprint: str
) -> TrainingState:
    """Restore model and optimiser in place and return where the training stood.

    Raises:
        ModelError: if the file is damaged, or belongs to another network or other data
    """
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        state, belongs_to = TrainingState(**json.loads(metadata["position"])), metadata["fingerprint"]
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: is not a checkpoint ({error}); remove the run folder to start anew") from None
    if belongs_to != fingerprint:
        raise ModelError(f"{path}: was made from other data than this training has; choose another --out")
    states: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, key = name.split(".", 2)
            states.setdefault(int(index), {})[key] = tensor
    weights = {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    here, there = ({name: tuple(tensor.shape) for name, tensor in w.items()} for w in (model.state_dict(), weights))
    for name in here | there:
        if here.get(name) != there.get(name):
            raise ModelError(
                f"{path}: belongs to another network ({name}: {there.get(name, 'none')} there, "
                f"{here.get(name, 'none')} here); choose another --out"
            )
    model.load_state_dict(weights)
    optimiser.load_state_dict({"state": states, "param_groups": optimiser.state_dict()["param_groups"]})
    return state
