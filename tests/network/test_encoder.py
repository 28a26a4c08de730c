"""The encoder beside `nn.LSTM` over packed sequences in float64, whatever the lengths, the padding and the company."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sa2sr.config import EncoderSettings, FrontEnd
from sa2sr.network.encoder import LstmEncoder, reversal, reverse_within, valid_steps

DIMENSION = 6  # of the frames
DIRECTIONS = ("both", "forward")
LENGTHS = st.lists(st.integers(1, 17), min_size=1, max_size=5)


def make_encoder(
    layers: int = 2, units: int = 4, dropout: float = 0.0, seed: int = 0, direction: str = "both"
) -> LstmEncoder:
    torch.manual_seed(seed)
    values = {"layers": layers, "units": units, "dropout": dropout, "direction": direction}
    encoder = LstmEncoder(DIMENSION, EncoderSettings.model_validate(values))
    for weights in encoder.parameters():  # larger than at the start, so that every gate is at work
        weights.data *= 2
    return encoder


def random_frames(lengths: list[int], seed: int = 1) -> Tensor:
    return torch.randn(len(lengths), max(lengths), DIMENSION, generator=torch.Generator().manual_seed(seed))


def reference(encoder: LstmEncoder) -> nn.LSTM:
    """The same weights in one `nn.LSTM`, in float64."""
    first, layers = encoder.layers[0], len(encoder.layers)
    assert isinstance(first, nn.LSTM)
    both = first.bidirectional
    lstm = nn.LSTM(DIMENSION, first.hidden_size, layers, batch_first=True, bidirectional=both).double()
    for number, layer in enumerate(encoder.layers):
        for name, weights in layer.named_parameters():
            getattr(lstm, name.replace("_l0", f"_l{number}")).data.copy_(weights.data)
    return lstm


def packed_states(lstm: nn.LSTM, frames: Tensor, lengths: Tensor) -> Tensor:
    packed = nn.utils.rnn.pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True, total_length=frames.shape[1])[0]


def close(found: Tensor, wanted: Tensor, tolerance: float) -> bool:
    found, wanted = found.detach().double(), wanted.detach()
    return bool((found - wanted).abs().max() <= tolerance * wanted.abs().max().clamp(min=1))


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("path", ["forward", "_padded", "_packed"])
@settings(max_examples=15, deadline=None)
@given(lengths=LENGTHS, layers=st.integers(1, 3), seed=st.integers(0, 99))
def test_states_and_gradients_are_those_of_a_packed_lstm(
    path: str, direction: str, lengths: list[int], layers: int, seed: int
) -> None:
    encoder = make_encoder(layers, seed=seed, direction=direction)
    lstm, count = reference(encoder), torch.tensor(lengths)
    frames = random_frames(lengths, seed)
    ours, theirs = frames.clone().requires_grad_(), frames.double().requires_grad_()
    states, wanted = getattr(encoder, path)(ours, count), packed_states(lstm, theirs, count)
    assert close(states, wanted, 1e-6)
    weighting = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    (states * weighting).sum().backward()
    (wanted * weighting).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert close(ours.grad, theirs.grad, 2e-6)
    for number, layer in enumerate(encoder.layers):
        for name, weights in layer.named_parameters():
            assert close(weights.grad, getattr(lstm, name.replace("_l0", f"_l{number}")).grad, 5e-6), name


def test_both_paths_agree_at_the_papers_size() -> None:
    torch.manual_seed(0)
    encoder = LstmEncoder(FrontEnd().dimension, EncoderSettings())
    frames, lengths = torch.randn(3, 60, FrontEnd().dimension), torch.tensor([60, 13, 41])
    with torch.no_grad():
        assert torch.allclose(encoder._padded(frames, lengths), encoder._packed(frames, lengths), atol=1e-6)


def test_the_paper_has_four_million_parameters() -> None:
    encoder = LstmEncoder(FrontEnd().dimension, EncoderSettings())
    count = sum(weights.numel() for weights in encoder.parameters())
    first, others = 4 * 192 * (120 + 192 + 2), 4 * 192 * (384 + 192 + 2)
    assert count == 2 * (first + 4 * others)
    assert round(count / 1e6, 2) == 4.03
    assert encoder.dimension == 384


def test_forward_alone_the_size_is_that_of_the_paper() -> None:
    """The recipes of tasks that read only the past have these units."""
    encoder = LstmEncoder(FrontEnd().dimension, EncoderSettings(direction="forward", units=328))
    count = sum(weights.numel() for weights in encoder.parameters())
    assert count == 4 * 328 * (120 + 328 + 2) + 4 * 4 * 328 * (328 + 328 + 2)
    assert round(count / 1e6, 2) == 4.04
    assert encoder.dimension == 328


@settings(max_examples=20, deadline=None)
@given(lengths=LENGTHS, filling=st.sampled_from([0.0, -1e3, 1e4]), direction=st.sampled_from(DIRECTIONS))
def test_padding_reaches_neither_states_nor_gradients(lengths: list[int], filling: float, direction: str) -> None:
    encoder, count = make_encoder(3, direction=direction), torch.tensor(lengths)
    frames = random_frames(lengths)
    valid = valid_steps(count, frames.shape[1]).unsqueeze(-1)
    longer = torch.cat([torch.where(valid, frames, filling), torch.full((len(lengths), 4, DIMENSION), filling)], 1)
    states, padded = encoder(frames, count), encoder(longer, count)
    assert (padded[:, frames.shape[1] :] == 0).all()
    assert (states * ~valid == 0).all()
    assert torch.allclose(padded[:, : frames.shape[1]], states, atol=1e-6)
    wanted = torch.autograd.grad(states.square().sum(), list(encoder.parameters()))
    found = torch.autograd.grad(padded.square().sum(), list(encoder.parameters()))
    assert all(torch.allclose(f, w, atol=1e-4, rtol=1e-4) for f, w in zip(found, wanted, strict=True))


@settings(max_examples=20, deadline=None)
@given(LENGTHS, st.sampled_from(DIRECTIONS))
def test_the_company_in_a_batch_does_not_matter(lengths: list[int], direction: str) -> None:
    encoder, frames = make_encoder(3, direction=direction), random_frames(lengths)
    with torch.no_grad():
        together = encoder(frames, torch.tensor(lengths))
        for row, length in enumerate(lengths):
            alone = encoder(frames[row : row + 1, :length], torch.tensor([length]))
            assert torch.allclose(alone[0], together[row, :length], atol=1e-6)


@pytest.mark.parametrize("layers", [2, 3])
def test_dropout_is_between_layers_and_the_same_in_both_orders(layers: int) -> None:
    lengths, keep = [9, 4, 7], 0.5
    encoder = make_encoder(layers, dropout=1 - keep)
    frames, count = random_frames(lengths), torch.tensor(lengths)
    torch.manual_seed(5)
    states = encoder.train()(frames, count)
    torch.manual_seed(5)  # what is kept is drawn for steps, utterances and features, in this order
    kept = [torch.empty(9, 3, 8).bernoulli_(keep).transpose(0, 1) / keep for _ in range(layers - 1)]
    wanted = frames.double()
    for number, layer in enumerate(encoder.layers):
        if number:
            wanted = wanted * kept[number - 1]
        lstm = nn.LSTM(wanted.shape[-1], 4, batch_first=True, bidirectional=True).double()
        lstm.load_state_dict({name: weights.double() for name, weights in layer.state_dict().items()})
        wanted = packed_states(lstm, wanted, count)
    assert close(states, wanted, 1e-6)
    without = make_encoder(layers)(frames, count)
    assert not torch.allclose(states, without, atol=1e-2)
    assert torch.equal(encoder.eval()(frames, count), without)


def test_dropout_of_packed_sequences_keeps_the_mean_of_what_a_layer_reads() -> None:
    encoder = make_encoder(2, dropout=0.3).train()
    for weights in encoder.layers[1].parameters():
        weights.data *= 0.05  # where the layer is nearly linear, the mean of its states is that of its input's
    frames, count = random_frames([6, 3]), torch.tensor([6, 3])
    with torch.no_grad():
        mean = torch.stack([encoder._packed(frames, count) for _ in range(400)]).mean(0)
        wanted = encoder.eval()._packed(frames, count)
    assert torch.allclose(mean, wanted, atol=0.003)
    assert wanted.abs().max() > 0.01


def transparent_encoder(dropout: float, direction: str, units: int = 8) -> LstmEncoder:
    """Two layers; each direction of the second shows the first units of what it reads, as tanh(tanh(x))."""
    encoder = make_encoder(2, units, dropout, direction=direction)
    last = encoder.layers[1]
    for weights in last.parameters():
        weights.data.zero_()
    for suffix in ("", "_reverse") if direction == "both" else ("",):
        bias = getattr(last, f"bias_ih_l0{suffix}").data
        bias[:units] = bias[3 * units :] = 100  # the gates of input and output are open,
        bias[units : 2 * units] = -100  # that of memory is closed,
        getattr(last, f"weight_ih_l0{suffix}").data[2 * units : 3 * units, :units] = torch.eye(units)  # and x comes in
    return encoder


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("path", ["_padded", "_packed"])
def test_dropout_takes_its_share_and_scales_the_rest(path: str, direction: str) -> None:
    rate, lengths = 0.3, [100, 60, 80]
    encoder, frames, count = transparent_encoder(rate, direction), random_frames(lengths), torch.tensor(lengths)
    encode, valid = getattr(encoder, path), valid_steps(count, 100)
    with torch.no_grad():
        torch.manual_seed(0)
        dropped, again = encode(frames, count), encode(frames, count)
        encoder.eval()
        whole = encode(frames, count)
        assert torch.equal(encode(frames, count), whole)
    # Both directions read the same input, and so have lost the same of it.
    assert torch.allclose(dropped[..., :8], dropped[..., -8:], atol=1e-6)
    assert not torch.equal(dropped, again)
    found, exact = (states[valid][:, :8].double().atanh().atanh() for states in (dropped, whole))
    kept = found != 0
    assert torch.allclose(found[kept], exact[kept] / (1 - rate), atol=1e-5, rtol=1e-4)
    assert abs(int(kept.sum()) - (1 - rate) * kept.numel()) < 4 * (kept.numel() * rate * (1 - rate)) ** 0.5
    # Single features of single steps are lost, neither whole features nor whole steps.
    assert (~kept).any(0).all()
    assert kept.any(0).all()
    assert kept.any(1).float().mean() > 0.99


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("path", ["_padded", "_packed"])
def test_dropout_spares_the_input_and_the_states(path: str, direction: str) -> None:
    encoder = make_encoder(1, dropout=0.9, direction=direction)
    frames, count = random_frames([5, 9]), torch.tensor([5, 9])
    trained = getattr(encoder, path)(frames, count)
    assert torch.equal(trained, getattr(encoder.eval(), path)(frames, count))
    assert trained[valid_steps(count, 9)].all()


@pytest.mark.parametrize("path", ["_padded", "_packed"])
def test_gradients_pass_through_dropout(path: str) -> None:
    """A step along the gradient changes the result by the square of its length, the same dropout both times."""
    encoder, count = make_encoder(3, dropout=0.5).double(), torch.tensor([5, 9])
    frames = random_frames([5, 9]).double()

    def result() -> Tensor:
        torch.manual_seed(3)
        total: Tensor = getattr(encoder, path)(frames, count).sin().sum()
        return total

    before = result()
    before.backward()
    step, square = 1e-6, 0.0
    for weights in encoder.parameters():
        assert weights.grad is not None
        square += weights.grad.square().sum().item()
        weights.data += step * weights.grad
    assert (result() - before).item() / step == pytest.approx(square, rel=1e-4)


@settings(deadline=None)
@given(LENGTHS)
def test_reversal_turns_each_sequence_round_within_its_length(lengths: list[int]) -> None:
    sequences = random_frames(lengths).transpose(0, 1)  # (T', B, D)
    index = reversal(torch.tensor(lengths), max(lengths))
    turned = reverse_within(sequences, index)
    for row, length in enumerate(lengths):
        assert torch.equal(turned[:length, row], sequences[:length, row].flip(0))
        assert torch.equal(turned[length:, row], sequences[length:, row])
    assert torch.equal(reverse_within(turned, index), sequences)


@pytest.mark.parametrize("lengths", [[1], [5], [3, 5, 1]])
def test_gradient_of_the_reversal(lengths: list[int]) -> None:
    index = reversal(torch.tensor(lengths), max(lengths))
    sequences = torch.randn(max(lengths), len(lengths), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: reverse_within(s, index), sequences)
    sliced = torch.randn(max(lengths), len(lengths), 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: reverse_within(s[..., 1:3], index), sliced)


def test_bf16_is_close_to_fp32() -> None:
    encoder, frames, lengths = make_encoder(3), random_frames([17, 9]), torch.tensor([17, 9])
    with torch.autocast("cpu", torch.bfloat16):
        states = encoder(frames, lengths)
    wanted = encoder(frames, lengths)
    assert torch.allclose(states.float(), wanted, atol=0.05)
    assert (states[1, 9:] == 0).all()
