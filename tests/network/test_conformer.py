"""The conformer beside plain loops in float64, whatever the lengths, the padding and the company."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from sa2sr.config import EncoderSettings, ModelSettings, load_recipe, validate
from sa2sr.errors import ModelError, RecipeError
from sa2sr.inference.graph import build_graph
from sa2sr.network.conformer import ConformerEncoder, rotate
from sa2sr.network.encoder import valid_steps
from sa2sr.network.model import SpeechModel

D = 6
LENGTHS = st.lists(st.integers(1, 17), min_size=1, max_size=4)


def make_encoder(layers: int = 2, dropout: float = 0.0) -> ConformerEncoder:
    torch.manual_seed(0)
    values = {"kind": "conformer", "layers": layers, "units": 8, "heads": 2, "kernel": 5, "dropout": dropout}
    encoder = ConformerEncoder(D, EncoderSettings.model_validate(values)).eval()
    for weights in encoder.parameters():
        weights.data += 0.3 * torch.randn(weights.shape)  # norms and biases too
    return encoder


def random_frames(lengths: list[int], seed: int = 1) -> Tensor:
    return torch.randn(len(lengths), max(lengths), D, generator=torch.Generator().manual_seed(seed))


def by_loops(encoder: ConformerEncoder, frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """One utterance (T', D), as the paper describes the blocks."""
    w = {name: weights.detach().double().numpy() for name, weights in encoder.named_parameters()}

    def linear(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        result: NDArray[np.float64] = x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
        return result

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        centred = x - x.mean(-1, keepdims=True)
        scaled: NDArray[np.float64] = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
        return 1 / (1 + np.exp(-x))

    def feed_forward(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        hidden = linear(norm(x, f"{name}.0"), f"{name}.1")
        return linear(hidden * sigmoid(hidden), f"{name}.4")

    def attention(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        projected = linear(norm(x, f"{name}.norm"), f"{name}.projections")
        joined = np.zeros_like(x)
        for head in range(2):
            q, k, v = (projected[:, 8 * part + 4 * head : 8 * part + 4 * head + 4] for part in range(3))
            # As complex numbers, features 0 and 2 and features 1 and 3, turned by time at two speeds.
            q, k = (each[:, :2] + 1j * each[:, 2:] for each in (q, k))
            for t in range(len(x)):
                scores = []
                for s in range(len(x)):
                    turn = np.exp(1j * (t - s) * np.array([1.0, 10_000**-0.5]))
                    scores.append(float((q[t] * turn * k[s].conj()).real.sum()) / math.sqrt(4))
                shares = np.exp(np.array(scores) - max(scores))
                joined[t, 4 * head : 4 * head + 4] = shares @ v / shares.sum()
        return linear(joined, f"{name}.output")

    def convolution(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        both = linear(norm(x, f"{name}.norm"), f"{name}.gated")
        gated = both[:, :8] * sigmoid(both[:, 8:])
        nearby = np.tile(w[f"{name}.nearby.bias"], (len(x), 1))
        for t in range(len(x)):
            for offset in range(-2, 3):
                if 0 <= t + offset < len(x):
                    nearby[t] += w[f"{name}.nearby.weight"][:, 0, offset + 2] * gated[t + offset]
        inner = norm(nearby, f"{name}.inner_norm")
        return linear(inner * sigmoid(inner), f"{name}.output")

    x = linear(frames, "input")
    for number in range(len(encoder.layers)):
        x = x + 0.5 * feed_forward(x, f"layers.{number}.before")
        x = x + attention(x, f"layers.{number}.attention")
        x = x + convolution(x, f"layers.{number}.convolution")
        x = norm(x + 0.5 * feed_forward(x, f"layers.{number}.after"), f"layers.{number}.norm")
    return x


@settings(max_examples=20, deadline=None)
@given(LENGTHS, st.integers(1, 3), st.integers(0, 5), st.sampled_from([0.0, 1e4, math.nan]))
def test_states_are_those_of_each_utterance_by_itself(
    lengths: list[int], layers: int, padding: int, fill: float
) -> None:
    encoder, frames, count = make_encoder(layers), random_frames(lengths), torch.tensor(lengths)
    valid = valid_steps(count, max(lengths)).unsqueeze(-1)
    longer = torch.cat([torch.where(valid, frames, fill), torch.full((len(lengths), padding, D), fill)], 1)
    with torch.no_grad():
        states = encoder(longer, count)
    for row, length in enumerate(lengths):
        wanted = by_loops(encoder, frames[row, :length].double().numpy())
        np.testing.assert_allclose(states[row, :length], wanted, atol=2e-4, rtol=1e-3)
        assert (states[row, length:] == 0).all()


@settings(max_examples=15, deadline=None)
@given(LENGTHS, st.sampled_from([-1e3, 1e4]))
def test_padding_does_not_reach_gradients(lengths: list[int], fill: float) -> None:
    encoder, frames, count = make_encoder(), random_frames(lengths), torch.tensor(lengths)
    longer = torch.cat([frames, torch.full((len(lengths), 3, D), fill)], 1)
    gradients = [
        torch.autograd.grad(encoder(each, count).sin().sum(), list(encoder.parameters())) for each in (frames, longer)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_rotation_knows_distances_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(8, generator=generator).expand(30, 8) for _ in range(2))
    products = rotate(query) @ rotate(key).T  # (30, 30)
    for distance in (-7, 0, 12):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=1e-4)
    assert products[0].std() > 0.1
    torch.testing.assert_close(rotate(query).norm(dim=-1), query.norm(dim=-1))


def test_the_recipe_is_about_as_large_as_the_papers_encoder() -> None:
    recipe = load_recipe("sa2sr-conformer")
    encoder = ConformerEncoder(recipe.frontend.dimension, recipe.encoder)
    assert round(sum(weights.numel() for weights in encoder.parameters()) / 1e6, 1) == 3.9
    assert recipe.encoder == load_recipe("sa2sr-conformer-small").encoder


def test_dropout_is_for_training() -> None:
    encoder, frames, count = make_encoder(dropout=0.5), random_frames([9]), torch.tensor([9])
    assert torch.equal(encoder(frames, count), encoder(frames, count))
    encoder.train()
    assert not torch.equal(encoder(frames, count), encoder(frames, count))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"direction": "forward"}, "direction must be both"),
        ({"units": 12, "heads": 4}, r"units \(12\) must be a multiple of twice the heads \(4\)"),
        ({"kernel": 4}, r"kernel \(4\) must be odd"),
    ],
)
def test_what_cannot_be_built_is_refused(values: dict[str, int | str], named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        validate(EncoderSettings, {"kind": "conformer"} | values, "here")


def test_there_is_no_graph_of_it() -> None:
    encoder = EncoderSettings(kind="conformer", layers=1, units=8)
    chosen = ModelSettings.model_validate({"encoder": encoder, "objectives": {"ctc": 1}})
    weights = {name: tensor.numpy() for name, tensor in SpeechModel(chosen).state_dict().items()}
    with pytest.raises(ModelError, match=r"cannot be exported.*conformer.*torch engine"):
        build_graph(chosen, weights)
