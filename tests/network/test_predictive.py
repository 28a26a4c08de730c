"""APC and CPC beside plain loops in float64, and a proof that what they predict from has not heard it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from sa2sr.config import ApcSettings, CpcSettings, EncoderSettings, FrontEnd, ModelSettings, Objectives
from sa2sr.network.encoder import valid_steps
from sa2sr.network.model import SpeechModel
from sa2sr.network.objectives import Apc, Cpc, Objective
from sa2sr.speech.batches import Batch

D, H = 6, 5
LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=4)
AMONG = ("batch", "utterance")


def speech(lengths: list[int], seed: int = 0, *, padding: int = 0, fill: float = 0.0) -> tuple[Tensor, Batch]:
    """States (B, T', H) and a batch with frames (B, T', D), both filled up with anything."""
    generator = torch.Generator().manual_seed(seed)
    steps = max(lengths)
    states, frames = (torch.randn(len(lengths), steps, size, generator=generator) for size in (H, D))
    valid = valid_steps(torch.tensor(lengths), steps).unsqueeze(-1)
    states, frames = (
        torch.cat([torch.where(valid, each, fill), torch.full((len(lengths), padding, each.shape[-1]), fill)], 1)
        for each in (states, frames)
    )
    unknown, names = torch.full((len(lengths), 3), math.nan), [f"u{row}" for row in range(len(lengths))]
    return states, Batch(names, frames, torch.tensor(lengths), [None] * len(lengths), unknown, unknown, 1.0)


def make_apc(steps: int = 2) -> Apc:
    torch.manual_seed(0)
    return Apc(H, ApcSettings(steps=steps), D).eval()


def make_cpc(**values: Any) -> Cpc:
    torch.manual_seed(0)
    cpc = Cpc(H, CpcSettings.model_validate({"steps": 2, "units": 4, "negatives": 3} | values), D).eval()
    for weights in cpc.parameters():
        weights.data *= 3  # scores that matter
    return cpc


def arrays(task: Objective) -> dict[str, NDArray[np.float64]]:
    return {name: weights.detach().double().numpy() for name, weights in task.named_parameters()}


# --- The losses -------------------------------------------------------------------------------------------------------


def apc_errors(apc: Apc, states: Tensor, batch: Batch, steps: int) -> list[list[float]]:
    """Of each utterance, of each frame that can be predicted."""
    weights = arrays(apc)
    found: list[list[float]] = []
    x, h = batch.frames.double().numpy(), states.double().numpy()
    for row, length in enumerate(batch.lengths.tolist()):
        found.append([])
        for t in range(length):
            if t + steps < length:
                predicted = weights["output.weight"] @ h[row, t] + weights["output.bias"]
                found[-1].append(sum(abs(predicted[d] - x[row, t + steps, d]) for d in range(D)) / D)
    return found


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.integers(1, 4), st.integers(0, 9))
def test_apc_is_the_error_of_the_frames_that_come(lengths: list[int], steps: int, seed: int) -> None:
    apc, (states, batch) = make_apc(steps), speech(lengths, seed)
    errors = apc_errors(apc, states, batch, steps)
    every = [error for of_one in errors for error in of_one]
    wanted = sum(every) / len(every) if every else 0.0
    assert apc.loss(states, batch.lengths, batch).item() == pytest.approx(wanted, rel=1e-5)
    evaluated = apc.evaluate(states, batch.lengths, batch)
    assert [count for _, count in evaluated] == [len(of_one) for of_one in errors]
    assert [total for total, _ in evaluated] == pytest.approx([sum(of_one) for of_one in errors], rel=1e-5)
    assert apc.score(evaluated, []) == ({"apc_l1": pytest.approx(wanted, rel=1e-5)} if every else {})


def cpc_contrasts(cpc: Cpc, states: Tensor, batch: Batch, among: str) -> list[tuple[int, float, list[float]]]:
    """Row, score of the frame that comes, and scores of the negatives, of each prediction."""
    w = arrays(cpc)
    x, h, lengths = batch.frames.double().numpy(), states.double().numpy(), batch.lengths.tolist()

    def embedded(row: int, t: int) -> NDArray[np.float64]:
        hidden = np.maximum(0, w["embedding.0.weight"] @ x[row, t] + w["embedding.0.bias"])
        result: NDArray[np.float64] = w["embedding.2.weight"] @ hidden + w["embedding.2.bias"]
        return result

    drawn = [(row, t) for row, of_one in enumerate(cpc._draw(batch.names, batch.lengths).tolist()) for t in of_one]
    found, units = [], cpc.settings.units
    for row, length in enumerate(lengths):
        for t in range(length):
            predicted = (w["predictor.weight"] @ h[row, t] + w["predictor.bias"]).reshape(-1, units)
            for ahead in range(1, cpc.settings.steps + 1):
                if t + ahead >= length:
                    continue
                others = [
                    embedded(*each)
                    for each in drawn
                    if each != (row, t + ahead) and lengths[each[0]] > 1 and (each[0] == row or among == "batch")
                ]
                scores = [float(other @ predicted[ahead - 1]) for other in others]
                found.append((row, float(embedded(row, t + ahead) @ predicted[ahead - 1]), scores))
    return found


@settings(max_examples=40, deadline=None)
@given(LENGTHS, st.integers(1, 3), st.integers(1, 4), st.sampled_from(AMONG), st.integers(0, 9))
def test_cpc_is_info_nce(lengths: list[int], steps: int, negatives: int, among: str, seed: int) -> None:
    cpc, (states, batch) = make_cpc(steps=steps, negatives=negatives, among=among), speech(lengths, seed)
    contrasts = cpc_contrasts(cpc, states, batch, among)
    losses = [-p + math.log(sum(math.exp(each) for each in [p, *others])) for _, p, others in contrasts]
    wanted = sum(losses) / len(losses) if losses else 0.0
    assert cpc.loss(states, batch.lengths, batch).item() == pytest.approx(wanted, rel=1e-4, abs=1e-5)
    evaluated = cpc.evaluate(states, batch.lengths, batch)
    contrasts = cpc_contrasts(cpc, states, batch, "utterance")  # so that the company does not matter
    right = [sum(all(p > o for o in others) for r, p, others in contrasts if r == row) for row in range(len(lengths))]
    assert evaluated == [(right[row], sum(r == row for r, _, _ in contrasts)) for row in range(len(lengths))]
    accuracy = {"cpc_accuracy": sum(right) / len(contrasts)} if contrasts else {}
    assert cpc.score(evaluated, []) == pytest.approx(accuracy)


@pytest.mark.parametrize("task", [make_apc(3), make_cpc(steps=3), make_cpc(among="utterance")])
@pytest.mark.parametrize("lengths", [[1], [1, 1, 1]])
def test_utterances_that_end_before_what_is_predicted_cost_nothing(task: Objective, lengths: list[int]) -> None:
    states, batch = speech(lengths)
    states.requires_grad_()
    loss = task.loss(states, batch.lengths, batch)
    assert loss.item() == 0
    loss.backward()
    for each in (states, *task.parameters()):
        assert each.grad is not None
        assert not each.grad.any()
    assert [count for _, count in task.evaluate(states, batch.lengths, batch)] == [0] * len(lengths)


@pytest.mark.parametrize("task", [make_apc(3), make_cpc(), make_cpc(among="utterance")])
@settings(max_examples=15, deadline=None)
@given(lengths=LENGTHS, fill=st.sampled_from([-1e3, 1e4, math.nan]), padding=st.integers(0, 4))
def test_padding_reaches_neither_losses_nor_gradients(
    task: Objective, lengths: list[int], fill: float, padding: int
) -> None:
    results = []
    for values in ({}, {"fill": fill, "padding": padding}):
        task.zero_grad()
        states, batch = speech(lengths, **values)  # type: ignore[arg-type]
        valid = valid_steps(batch.lengths, states.shape[1]).unsqueeze(-1)
        states = states.masked_fill(~valid, 0)  # as the encoder leaves them
        loss = task.loss(states, batch.lengths, batch)
        loss.backward()
        results.append(
            [loss.detach(), *(weights.grad.clone() for weights in task.parameters() if weights.grad is not None)]
        )
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


# --- The negatives ----------------------------------------------------------------------------------------------------


def test_negatives_depend_on_the_utterance_and_the_step_alone() -> None:
    cpc = make_cpc(negatives=50).train()
    names, lengths = ["a", "b", "c"], torch.tensor([40, 7, 1])
    torch.manual_seed(1)
    drawn, later = cpc._draw(names, lengths), cpc._draw(names, lengths)
    torch.manual_seed(1)
    others = cpc._draw(["b", "z", "a"], torch.tensor([7, 9, 40]))
    assert torch.equal(drawn[[1, 0]], others[[0, 2]])
    assert not torch.equal(drawn[0], later[0])
    assert (drawn < lengths[:, None]).all()
    assert {*drawn[1].tolist()} == {*range(7)}
    first, second = (cpc.eval()._draw(names, lengths) for _ in range(2))
    assert torch.equal(first, second)


def test_negatives_are_drawn_evenly() -> None:
    cpc, length = make_cpc(negatives=1000), 10
    counts = torch.zeros(length)
    for number in range(20):
        counts += torch.bincount(cpc._draw([f"u{number}"], torch.tensor([length]))[0], minlength=length)
    expected = 20 * 1000 / length
    assert (counts - expected).square().sum() / expected < 27.9  # chi-square with 9 degrees of freedom, p = 0.001


# --- The past alone ---------------------------------------------------------------------------------------------------


def make_model(direction: str, layers: int = 2, seed: int = 0) -> SpeechModel:
    torch.manual_seed(seed)
    values = {
        "frontend": FrontEnd(filters=2),
        "encoder": {"direction": direction, "layers": layers, "units": 4},
        "objectives": {"apc": 1, "cpc": {"units": 3}},
    }
    return SpeechModel(ModelSettings.model_validate(values)).eval().requires_grad_(False)


def first_to_change(model: SpeechModel, frames: Tensor, lengths: Tensor, changed: int, path: str) -> int:
    """The first step at which a state or a prediction changes when all frames from ``changed`` on do; -1: none."""

    def heard(frames: Tensor) -> Tensor:
        states = getattr(model.encoder, path)(frames, lengths)
        predictions = [model.tasks()["apc"].output(states), model.tasks()["cpc"].predictions(states).flatten(2)]  # type: ignore[operator]
        return torch.cat([states, *predictions], -1)

    other = frames.clone()
    other[:, changed:] += 1 + torch.rand(other[:, changed:].shape, generator=torch.Generator().manual_seed(changed))
    steps = (heard(frames) != heard(other)).any(-1).any(0).nonzero().flatten()
    return int(steps[0]) if len(steps) else -1


@pytest.mark.parametrize("path", ["_padded", "_packed"])
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(2, 20), min_size=1, max_size=4), st.integers(1, 3), st.data())
def test_no_later_frame_reaches_a_state_or_a_prediction(
    path: str, lengths: list[int], layers: int, data: st.DataObject
) -> None:
    changed = data.draw(st.integers(1, max(lengths) - 1))
    frames, count = torch.randn(len(lengths), max(lengths), D), torch.tensor(lengths)
    # The frame that changes is heard at once, and no frame before it is affected.
    assert first_to_change(make_model("forward", layers), frames, count, changed, path) == changed
    # This would be seen: in both directions it reaches the beginning.
    assert first_to_change(make_model("both", layers), frames, count, changed, path) < changed


def test_predictions_are_given_for_the_steps_of_each_utterance() -> None:
    model, lengths = make_model("forward"), torch.tensor([4, 9])
    frames = torch.randn(2, 9, D)
    states = model.states(frames, lengths)
    apc, cpc = (model.tasks()[name].predict(states, lengths) for name in ("apc", "cpc"))
    assert [each.shape for each in apc] == [(4, D), (9, D)]
    assert [each.shape for each in cpc] == [(4, 4, 3), (9, 4, 3)]


def test_the_size_of_states_follows_the_direction() -> None:
    for direction, size in (("both", 8), ("forward", 4)):
        assert make_model(direction).encoder.dimension == size
    assert EncoderSettings.model_validate({"kind": "bilstm"}) == EncoderSettings()  # as older models have it
    assert Objectives.model_validate({"apc": 0, "ctc": 1}).predicting_frames() == []
