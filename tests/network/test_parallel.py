"""Two processes with gloo that share a batch learn what one process learns that holds it all."""

from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from sa2sr.config import EncoderSettings, FrontEnd, ModelSettings, Objectives
from sa2sr.network.model import SpeechModel
from sa2sr.network.parallel import alone, gather, mean_where, processes
from sa2sr.speech.batches import Batch, Item, share

PROCESSES = 2
CONTEXT: Any = get_context("forkserver")
CONTEXT.set_forkserver_preload(["sa2sr.speech.store", "sa2sr.network.model"])

Together = Callable[..., list[Any]]


def member(rank: int, meeting: Path, function: Callable[..., Any], arguments: tuple[Any, ...], results: Any) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=PROCESSES)
    results.put((rank, function(rank, *arguments)))
    distributed.destroy_process_group()


@pytest.fixture
def together(tmp_path: Path) -> Together:
    """``together(function, ...)`` is the list of what ``function(rank, ...)`` returns in the processes of a group."""

    def run(function: Callable[..., Any], *arguments: Any) -> list[Any]:
        results = CONTEXT.SimpleQueue()
        group = [
            CONTEXT.Process(target=member, args=(rank, tmp_path / "meeting", function, arguments, results))
            for rank in range(PROCESSES)
        ]
        for process in group:
            process.start()
        for process in group:
            process.join(120)
        assert [process.exitcode for process in group] == [0] * PROCESSES
        return [value for _, value in sorted((results.get() for _ in group), key=lambda pair: pair[0])]

    return run


def numbers(size: int) -> tuple[Tensor, Tensor]:
    """Inputs (size, 4) and weights (4, 2)."""
    generator = torch.Generator().manual_seed(size)
    inputs = torch.randn(size, 4, generator=generator, dtype=torch.float64)
    return inputs, torch.randn(4, 2, generator=generator, dtype=torch.float64).requires_grad_()


# --- One process ------------------------------------------------------------------------------------------------------


def test_alone_there_is_nothing_to_share() -> None:
    values = torch.tensor([1.0, 2.0, 6.0, float("nan")])
    assert processes() == 1
    assert gather(values) is values
    assert float(mean_where(values, torch.tensor([True, False, True, False]))) == 3.5
    assert float(mean_where(values, torch.zeros(4, dtype=torch.bool))) == 0


def test_what_is_not_wanted_has_no_gradient() -> None:
    values = torch.tensor([1.0, 2.0, 6.0], requires_grad=True)
    mean_where(values, torch.tensor([True, False, True])).backward()
    assert values.grad is not None
    assert values.grad.tolist() == [0.5, 0, 0.5]


# --- Two processes ----------------------------------------------------------------------------------------------------


def part_of_mean(rank: int, wanted: list[bool]) -> tuple[float, NDArray[np.float64]]:
    inputs, weights = numbers(len(wanted))
    rows = list(range(len(wanted)))[rank::PROCESSES]
    mean = mean_where((inputs[rows] @ weights).sin().sum(1), torch.tensor(wanted)[rows])
    mean.backward()
    assert weights.grad is not None
    return mean.item(), weights.grad.numpy()


@pytest.mark.parametrize(
    "wanted",
    [[True] * 4, [True, False, True, False, True], [False, True, False], [False] * 3],
    ids=["all", "one process has them all", "the other has them all", "none"],
)
def test_a_mean_over_processes(together: Together, wanted: list[bool]) -> None:
    inputs, weights = numbers(len(wanted))
    mean = mean_where((inputs @ weights).sin().sum(1), torch.tensor(wanted))
    mean.backward()
    assert weights.grad is not None
    values, gradients = zip(*together(part_of_mean, wanted), strict=True)
    np.testing.assert_allclose(np.mean(values), mean.item(), rtol=1e-12)
    np.testing.assert_allclose(np.mean(gradients, 0), weights.grad, rtol=1e-12)


def part_of_gathering(rank: int, sizes: list[int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    inputs, weights = numbers(sum(sizes))
    mine = inputs.split(sizes)[rank]
    everything = gather(mine @ weights)
    everything.std().backward()  # of all, so that it needs the rows of the others
    assert weights.grad is not None
    return everything.detach().numpy(), weights.grad.numpy()


@pytest.mark.parametrize("sizes", [[2, 2], [3, 1], [1, 4]])
def test_gathering_rows_that_differ_in_number(together: Together, sizes: list[int]) -> None:
    inputs, weights = numbers(sum(sizes))
    everything = inputs @ weights
    everything.std().backward()
    assert weights.grad is not None
    gathered, gradients = zip(*together(part_of_gathering, sizes), strict=True)
    for rows in gathered:
        np.testing.assert_allclose(rows, everything.detach(), rtol=1e-12)
    np.testing.assert_allclose(np.mean(gradients, 0), weights.grad, rtol=1e-12)


def part_of_evaluation(rank: int) -> list[float]:
    values = torch.tensor([1.0 + rank, 5.0])
    with alone():
        inside = [float(mean_where(values, values > 0)), float(len(gather(values))), float(processes())]
        with alone():
            pass
        inside.append(float(processes()))
    try:
        with alone():
            raise KeyError
    except KeyError:
        return [*inside, float(processes())]


def test_in_an_evaluation_every_process_is_alone(together: Together) -> None:
    assert together(part_of_evaluation) == [[3.0, 2.0, 1.0, 1.0, 2.0], [3.5, 2.0, 1.0, 1.0, 2.0]]


# --- A whole training step --------------------------------------------------------------------------------------------


def model_and_batch(items: list[Item], among: str = "batch") -> tuple[SpeechModel, Batch]:
    """A small network with all tasks, and the part of a batch of five that the items name."""
    torch.manual_seed(0)
    settings = ModelSettings(
        frontend=FrontEnd(filters=2),
        encoder=EncoderSettings(layers=1, units=3),
        objectives=Objectives.model_validate(
            {
                "ctc": 1,
                "sentiment": {"weight": 2, "units": 4},
                "apc": {"steps": 3},
                "cpc": {"steps": 3, "units": 4, "negatives": 3, "among": among},
                "emotion": {"channels": 4, "heads": 2, "dropout": 0},
            }
        ),
    )
    generator = torch.Generator().manual_seed(1)
    nothing = float("nan")
    lengths = [12, 9, 15, 7, 10]
    frames = [torch.randn(length, 6, generator=generator) for length in lengths]
    ratings = torch.tensor([[1, 2, 3], [4, nothing, 2], [5, 1, nothing], [2, 6, nothing], [3, 3, 3]])
    texts = ["ab", None, "a b", "c", None]
    sentiment = torch.tensor([[1, 0, 0], [0, 0, 1.0], [nothing] * 3, [0, 1, 0], [0.2, 0.5, 0.3]])
    unknown = torch.full((3,), nothing)

    rows = [item.index for item in items]
    blank = [item.blank for item in items]
    parts = [torch.zeros(1, 6) if b else frames[r] for r, b in zip(rows, blank, strict=True)]
    batch = Batch(
        names=[f"u{row}" for row in rows],
        frames=torch.nn.utils.rnn.pad_sequence(parts, batch_first=True),
        lengths=torch.tensor([len(part) for part in parts]),
        texts=[None if b else texts[r] for r, b in zip(rows, blank, strict=True)],
        sentiment=torch.stack([unknown if b else sentiment[r] for r, b in zip(rows, blank, strict=True)]),
        ratings=torch.stack([unknown if b else ratings[r] for r, b in zip(rows, blank, strict=True)]),
        seconds=1.0,
        corpora=torch.tensor([0 if b else r % 2 for r, b in zip(rows, blank, strict=True)]),
    )
    return SpeechModel(settings), batch


def learn(model: torch.nn.Module, batch: Batch) -> tuple[dict[str, float], dict[str, NDArray[np.float32]]]:
    """The loss of every task and the gradient of their weighted sum."""
    losses = model(batch)
    (losses["ctc"] + 2 * losses["sentiment"] + losses["apc"] + losses["cpc"] + losses["emotion"]).backward()
    gradients = {name.removeprefix("module."): p.grad.numpy() for name, p in model.named_parameters()}
    return {name: loss.item() for name, loss in losses.items()}, gradients


def part_of_step(rank: int, items: list[Item], among: str) -> tuple[dict[str, float], dict[str, NDArray[np.float32]]]:
    model, batch = model_and_batch(share(items, rank, PROCESSES), among)
    return learn(DistributedDataParallel(model), batch)


@pytest.mark.parametrize(("size", "among"), [(5, "batch"), (4, "utterance"), (1, "batch")])
def test_a_step_of_two_processes_is_that_of_one(together: Together, size: int, among: str) -> None:
    items = [Item(0, index, 1.0) for index in range(size)]
    losses, gradients = learn(*model_and_batch(items, among))
    (first, of_first), (second, of_second) = together(part_of_step, items, among)
    for name, loss in losses.items():
        assert (first[name] + second[name]) / 2 == pytest.approx(loss, rel=1e-5)
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(of_first[name], of_second[name])
        np.testing.assert_allclose(of_first[name], gradient, atol=5e-6 * max(1, np.abs(gradient).max()), rtol=0)
    assert any(np.abs(gradient).max() > 1e-3 for gradient in gradients.values())
