import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sa2sr.config import EncoderSettings, FrontEnd, ModelSettings, Objectives
from sa2sr.errors import ModelError
from sa2sr.network.model import SpeechModel
from sa2sr.training.checkpoint import TrainingState, load_checkpoint, save_checkpoint

Training = tuple[SpeechModel, torch.optim.Optimizer]


@pytest.fixture
def make_training() -> Callable[..., Training]:
    """A model and its optimiser; with ``seed``, other weights, and with ``steps``, a state of the optimiser."""

    def make(seed: int = 0, steps: int = 0, units: int = 4) -> Training:
        torch.manual_seed(seed)
        model = SpeechModel(
            ModelSettings(
                frontend=FrontEnd(filters=4),
                encoder=EncoderSettings(layers=2, units=units),
                objectives=Objectives.model_validate({"ctc": 1}),
            )
        )
        optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
        for _ in range(steps):
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            optimiser.step()
        return model, optimiser

    return make


def test_everything_comes_back(make_training: Callable[..., Training], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    model, optimiser = make_training(seed=1, steps=3)
    state = TrainingState(epoch=2, batch=7, step=3, best=-1 / 3, best_epoch=1, history_lines=2, seconds=0.1)
    state.add(batches=1, ctc=1 / 7)
    save_checkpoint(path, model, optimiser, state, "data")
    other, its_optimiser = make_training(seed=2)
    assert load_checkpoint(path, other, its_optimiser, "data") == state
    # As good as the same: they go the same way.
    for each, steps in ((model, optimiser), (other, its_optimiser)):
        torch.manual_seed(3)
        for parameter in each.parameters():
            parameter.grad = torch.randn_like(parameter)
        steps.step()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_training_that_has_not_begun(make_training: Callable[..., Training], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.safetensors", *make_training(), TrainingState(), "data")
    assert load_checkpoint(tmp_path / "c.safetensors", *make_training(), "data") == TrainingState()


def test_a_damaged_file_is_refused(make_training: Callable[..., Training], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, *make_training(steps=1), TrainingState(), "data")
    whole = path.read_bytes()
    other = make_training(seed=2)
    before = [parameter.clone() for parameter in other[0].parameters()]
    damaged = [whole[:size] for size in (0, 4, 8, 300, len(whole) // 2, len(whole) - 1)]
    damaged += [b"\xff" * 8 + whole[8:], whole[:8] + b"?" + whole[9:], whole + b"more", b"no checkpoint at all"]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"checkpoint\.safetensors: is not a checkpoint .* remove the run folder"):
            load_checkpoint(path, *other, "data")
    for metadata in ({}, {"position": "{"}, {"position": '{"pickle": 1}'}, {"position": "{}"}):
        save_file({"x": torch.zeros(1)}, path, metadata)
        with pytest.raises(ModelError, match="is not a checkpoint"):
            load_checkpoint(path, *other, "data")
    for parameter, value in zip(other[0].parameters(), before, strict=True):
        assert torch.equal(parameter, value)  # nothing of what is refused got in


def test_data_and_network_must_be_the_same(make_training: Callable[..., Training], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, *make_training(steps=1), TrainingState(), "data")
    with pytest.raises(ModelError, match=r"checkpoint\.safetensors: was made from other data .* another --out"):
        load_checkpoint(path, *make_training(), "other data")
    with pytest.raises(ModelError, match=r"belongs to another network \(encoder\.\S+: \(16, 12\) there, \(20, 12\) h"):
        load_checkpoint(path, *make_training(units=5), "data")


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_the_last_checkpoint(make_training: Callable[..., Training], tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, *make_training(steps=1), TrainingState(step=1), "data")
    tensors = load_file(path)
    with full_disk(1000), pytest.raises(Exception, match="large"):
        save_checkpoint(path, *make_training(steps=2), TrainingState(step=2), "data")
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert load_checkpoint(path, *make_training(), "data") == TrainingState(step=1)
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in load_file(path).items())
