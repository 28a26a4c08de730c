"""The emotion regressor beside numpy and torchmetrics: padding, lengths, normalisation, concordance, ratings."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torchmetrics.functional
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from sa2sr.audio import AudioInfo
from sa2sr.config import DIMENSIONS, EmotionSettings
from sa2sr.cuts import make_cut
from sa2sr.network.encoder import valid_steps
from sa2sr.network.objectives.emotion import Emotion, concordance
from sa2sr.network.objectives.readout import MaskedConvolution, moments, normalise_samples
from sa2sr.speech.batches import Batch
from sa2sr.speech.utterances import ONE_CORPUS, Corpus, Utterance

SMALL = EmotionSettings(channels=8, heads=2, dropout=0)
LENGTHS = st.lists(st.integers(1, 30), min_size=1, max_size=5)
NAN = float("nan")


def make(dimension: int = 6, emotion: EmotionSettings = SMALL, seed: int = 0) -> Emotion:
    torch.manual_seed(seed)
    return Emotion(dimension, emotion)


def random_states(lengths: Sequence[int], dimension: int = 6, spare: int = 0, padding: float = 0.0) -> Tensor:
    """(B, T', H), ``padding`` past the end."""
    generator = torch.Generator().manual_seed(len(lengths))
    states = torch.randn(len(lengths), max(lengths) + spare, dimension, generator=generator)
    return states.masked_fill(~valid_steps(torch.tensor(lengths), states.shape[1]).unsqueeze(-1), padding)


def rated(ratings: Sequence[Sequence[float]]) -> Batch:
    """A batch of which the regressor reads the ratings alone."""
    count = len(ratings)
    unknown = torch.full((count, 3), NAN)
    lengths = torch.ones(count, dtype=torch.long)
    return Batch(
        [f"u{i}" for i in range(count)], unknown, lengths, [None] * count, unknown, torch.tensor(ratings), float(count)
    )


# --- Masked convolution -----------------------------------------------------------------------------------------------


@given(lengths=LENGTHS, kernel=st.integers(1, 7), stride=st.integers(1, 4), spare=st.integers(0, 4))
@settings(deadline=None, max_examples=50)
def test_padding_never_reaches_an_output(lengths: list[int], kernel: int, stride: int, spare: int) -> None:
    torch.manual_seed(0)
    masked = MaskedConvolution(6, 5, kernel, stride)
    states = random_states(lengths, spare=spare, padding=NAN).requires_grad_()
    outputs, steps = masked(states, torch.tensor(lengths))
    assert steps.tolist() == [max(1, sum(start + kernel <= n for start in range(0, n, stride))) for n in lengths]
    for row, length in enumerate(lengths):
        alone = torch.zeros(1, 6, max(length, kernel))
        alone[0, :, :length] = states[row, :length].T
        expected = masked.convolution(alone)[0].T
        torch.testing.assert_close(outputs[row, : steps[row]], expected, atol=1e-5, rtol=0)
        assert not outputs[row, steps[row] :].any()
    outputs.square().sum().backward()
    assert states.grad is not None
    assert states.grad.isfinite().all()
    assert not states.grad[states.isnan()].any()
    assert all(weights.grad is not None and weights.grad.isfinite().all() for weights in masked.parameters())


def test_lengths_through_the_papers_strides() -> None:
    """Kernels 6 and 3, strides 3 and 2: 30 ms frames become 180 ms frames."""
    first, second = MaskedConvolution(1, 1, 6, 3), MaskedConvolution(1, 1, 3, 2)
    for length, after_first, after_second in [(1, 1, 1), (5, 1, 1), (6, 1, 1), (9, 2, 1), (12, 3, 1), (18, 5, 2), (333, 110, 54)]:  # fmt: skip  # noqa: E501
        states, steps = first(torch.ones(1, length, 1), torch.tensor([length]))
        assert steps.tolist() == [after_first] == [states.shape[1]]
        states, steps = second(states, steps)
        assert steps.tolist() == [after_second] == [states.shape[1]]


# --- Moments and normalisation ----------------------------------------------------------------------------------------


@given(lengths=LENGTHS, offset=st.floats(-50, 50), spread=st.floats(0.01, 10))
@settings(deadline=None, max_examples=40)
def test_moments_and_normalisation_are_those_of_each_utterance(
    lengths: list[int], offset: float, spread: float
) -> None:
    states = (random_states(lengths).double() * spread + offset).requires_grad_()
    valid = valid_steps(torch.tensor(lengths), states.shape[1]).unsqueeze(-1)
    mean, variance = moments(states, valid, dim=(1,))
    normalised = normalise_samples(states, valid, epsilon=1e-5)
    for row, length in enumerate(lengths):
        alone = states[row, :length].detach().numpy()
        np.testing.assert_allclose(mean[row].detach(), alone.mean(0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(variance[row].detach(), alone.var(0), rtol=1e-6, atol=1e-12)
        expected = (alone - alone.mean()) / np.sqrt(alone.var() + 1e-5)
        np.testing.assert_allclose(normalised[row, :length].detach(), expected, rtol=1e-6, atol=1e-9)
        assert not normalised[row, length:].any()
    normalised.pow(3).sum().backward()
    assert states.grad is not None
    assert states.grad.isfinite().all()
    assert not states.grad[~valid.squeeze(-1)].any()


def test_a_constant_utterance_normalises_to_0_with_finite_gradients() -> None:
    states = torch.full((1, 4, 3), 7.0, requires_grad=True)
    normalised = normalise_samples(states, torch.ones(1, 4, 1, dtype=torch.bool))
    assert not normalised.any()
    normalised.sum().backward()
    assert states.grad is not None
    assert states.grad.isfinite().all()


# --- Concordance ------------------------------------------------------------------------------------------------------


def numpy_concordance(prediction: NDArray[np.float64], truth: NDArray[np.float64], ddof: int) -> float:
    covariance = np.cov(prediction, truth, ddof=ddof)
    return float(2 * covariance[0, 1] / (np.trace(covariance) + (prediction.mean() - truth.mean()) ** 2))


@given(size=st.integers(2, 40), shift=st.floats(-3, 3), scale=st.floats(-3, 3), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=50)
def test_concordance_divides_by_n_and_torchmetrics_by_n_minus_1(
    size: int, shift: float, scale: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    truth = random.standard_normal(size)
    prediction = scale * truth + 0.5 * random.standard_normal(size) + shift
    ours = concordance(torch.from_numpy(prediction), torch.from_numpy(truth)).item()
    assert ours == pytest.approx(numpy_concordance(prediction, truth, ddof=0), abs=1e-6)
    theirs = torchmetrics.functional.concordance_corrcoef(torch.from_numpy(prediction), torch.from_numpy(truth)).item()
    assert theirs == pytest.approx(numpy_concordance(prediction, truth, ddof=1), abs=1e-6)
    # Where the means are equal, both divisions give the same.
    centred, centred_truth = prediction - prediction.mean(), truth - truth.mean()
    ours = concordance(torch.from_numpy(centred), torch.from_numpy(centred_truth)).item()
    theirs = torchmetrics.functional.concordance_corrcoef(
        torch.from_numpy(centred), torch.from_numpy(centred_truth)
    ).item()
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_concordance_of_agreement_and_opposition() -> None:
    truth = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    assert float(concordance(truth, truth)) == pytest.approx(1, abs=1e-7)
    assert float(concordance(5 - truth, truth)) == pytest.approx(-1, abs=1e-7)
    assert float(concordance(truth + 1, truth)) == pytest.approx(2 * 1.25 / (2 * 1.25 + 1), abs=1e-7)


def test_gradient_of_concordance() -> None:
    torch.manual_seed(0)
    prediction, truth = torch.randn(2, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda p: concordance(p, truth), (prediction.requires_grad_(),))


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        ([2.0] * 3, [1.0, 2.0, 3.0]),
        ([1.0, 2.0, 3.0], [2.0] * 3),
        ([2.0] * 3, [2.0] * 3),
        ([1.0], [3.0]),
        ([3.0], [3.0]),
    ],
)
def test_constant_sides_have_no_concordance_and_finite_gradients(prediction: list[float], truth: list[float]) -> None:
    values = torch.tensor(prediction, requires_grad=True)
    value = concordance(values, torch.tensor(truth))
    assert value.item() == 0
    value.backward()
    assert values.grad is not None
    assert values.grad.isfinite().all()


# --- The regressor ----------------------------------------------------------------------------------------------------


def test_the_papers_regressor() -> None:
    """384 -> 64 (kernel 6, stride 3) -> 64 (kernel 3, stride 2) -> 4 heads of 16 -> mean and variance, 128 -> 3."""
    emotion = Emotion(384, EmotionSettings())
    shapes = {name: tuple(weights.shape) for name, weights in emotion.named_parameters()}
    assert shapes["convolutions.0.convolution.weight"] == (64, 384, 6)
    assert shapes["convolutions.1.convolution.weight"] == (64, 64, 3)
    assert shapes["transformer.self_attn.in_proj_weight"] == (3 * 64, 64)
    assert shapes["transformer.linear1.weight"] == shapes["transformer.linear2.weight"] == (64, 64)
    assert shapes["output.weight"] == (3, 128)
    convolutions = [m.convolution for m in emotion.convolutions if isinstance(m, MaskedConvolution)]
    assert [c.stride for c in convolutions] == [(3,), (2,)]
    assert emotion.transformer.self_attn.num_heads == 4
    assert emotion.negative_slope == 0.5
    expected = {
        "convolutions": (384 * 6 + 1) * 64 + (64 * 3 + 1) * 64,
        "attention": 3 * (64 + 1) * 64 + (64 + 1) * 64,
        "feed-forward": 2 * (64 + 1) * 64,
        "norms": 2 * 2 * 64,
        "output": (128 + 1) * 3,
    }
    assert sum(weights.numel() for weights in emotion.parameters()) == sum(expected.values())
    with torch.no_grad():
        assert emotion(torch.randn(2, 50, 384), torch.tensor([50, 31])).shape == (2, 3)


def written_out(emotion: Emotion, states: NDArray[np.float64]) -> NDArray[np.float64]:
    """The regressor for one utterance (T', H), step by step in float64 numpy."""
    w = {name: weights.detach().double().numpy() for name, weights in emotion.named_parameters()}
    x = states
    for number, (kernel, stride) in enumerate(((6, 3), (3, 2))):
        weight, bias = (w[f"convolutions.{number}.convolution.{kind}"] for kind in ("weight", "bias"))
        x = np.concatenate([x, np.zeros((max(0, kernel - len(x)), x.shape[1]))])
        starts = range(0, len(x) - kernel + 1, stride)
        x = np.array([np.einsum("kc,ock->o", x[start : start + kernel], weight) + bias for start in starts])
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    x = np.where(x > 0, x, 0.5 * x)

    def norm(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return x * w[f"transformer.{name}.weight"] + w[f"transformer.{name}.bias"]

    queries, keys, values = np.split(
        x @ w["transformer.self_attn.in_proj_weight"].T + w["transformer.self_attn.in_proj_bias"], 3, axis=1
    )
    heads = []
    for q, k, v in zip(*(np.split(m, 2, axis=1) for m in (queries, keys, values)), strict=True):
        weights = np.exp(q @ k.T / math.sqrt(q.shape[1]))
        heads.append(weights / weights.sum(1, keepdims=True) @ v)
    attended = np.concatenate(heads, 1) @ w["transformer.self_attn.out_proj.weight"].T
    x = norm(x + attended + w["transformer.self_attn.out_proj.bias"], "norm1")
    inner = np.maximum(x @ w["transformer.linear1.weight"].T + w["transformer.linear1.bias"], 0)
    x = norm(x + inner @ w["transformer.linear2.weight"].T + w["transformer.linear2.bias"], "norm2")
    pooled = np.concatenate([x.mean(0), x.var(0)])
    raw: NDArray[np.float64] = w["output.weight"] @ pooled + w["output.bias"]
    return raw * emotion.rating_spread.numpy() + emotion.rating_mean.numpy()


@pytest.mark.parametrize("inference", [True, False])
def test_predictions_are_those_of_the_formulas_in_any_company(inference: bool) -> None:
    """Without gradients PyTorch takes another, fused path through the transformer block."""
    emotion = make().eval()
    emotion.fit_ratings(torch.tensor([[1.0, 4, 2], [5, 6, 2], [3, 2, 3]]))
    lengths = [40, 1, 3, 17, 26]
    states = random_states(lengths, spare=7)
    with torch.set_grad_enabled(not inference):
        together = emotion(states, torch.tensor(lengths))
        for row, length in enumerate(lengths):
            expected = written_out(emotion, states[row, :length].double().numpy())
            np.testing.assert_allclose(together[row].detach(), expected, atol=1e-5)
            alone = emotion(states[row : row + 1, :length], torch.tensor([length]))
            np.testing.assert_allclose(alone[0].detach(), expected, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(emotion.predict(states, torch.tensor(lengths)), together.detach(), atol=1e-5)


@given(lengths=LENGTHS, spare=st.integers(0, 9))
@settings(deadline=None, max_examples=20)
def test_padding_does_not_matter(lengths: list[int], spare: int) -> None:
    emotion = make()
    steps = torch.tensor(lengths)
    expected = emotion(random_states(lengths), steps)
    found = emotion(random_states(lengths, padding=NAN), steps)
    longer = torch.cat([random_states(lengths), torch.full((len(lengths), spare, 6), NAN)], 1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(emotion(longer, steps), expected, atol=1e-5, rtol=0)


# --- Ratings, loss, scores --------------------------------------------------------------------------------------------


def test_mean_and_spread_of_the_known_ratings() -> None:
    ratings = np.array([[1, 4, NAN], [5, NAN, NAN], [3, 4, NAN], [NAN, 4, NAN]])
    emotion = make()
    emotion.fit_ratings(torch.tensor(ratings, dtype=torch.float32))
    np.testing.assert_allclose(emotion.rating_mean, [3, 4, 0])  # nothing known: as it was
    np.testing.assert_allclose(emotion.rating_spread, [np.nanstd(ratings[:, 0]), 1e-3, 1], rtol=1e-6)
    assert {"rating_mean", "rating_spread"} <= emotion.state_dict().keys()


def test_predictions_are_on_the_scale_of_the_ratings() -> None:
    states, lengths = random_states([20, 9, 14]), torch.tensor([20, 9, 14])
    emotion = make()
    standardised = emotion(states, lengths)
    emotion.rating_mean.copy_(torch.tensor([4.0, 3.0, 2.0]))
    emotion.rating_spread.copy_(torch.tensor([1.0, 0.5, 2.0]))
    torch.testing.assert_close(
        emotion(states, lengths), standardised * torch.tensor([1, 0.5, 2]) + torch.tensor([4, 3, 2])
    )


def test_the_loss_is_the_sum_of_1_minus_concordance_of_what_is_known() -> None:
    lengths = torch.tensor([20, 9, 14, 31])
    states = random_states(lengths.tolist())
    emotion = make()
    ratings = [[1.0, NAN, 2.0], [5.0, NAN, NAN], [3.0, NAN, 4.0], [2.0, NAN, 7.0]]
    emotion.fit_ratings(torch.tensor([[2.0, 3, 4], [3, 5, 5], [7, 4, 5]]))
    predictions = emotion(states, lengths).detach().double().numpy()
    truth, expected = np.array(ratings), 0.0
    mean, spread = emotion.rating_mean.double().numpy(), emotion.rating_spread.double().numpy()
    for d in (0, 2):
        known = np.isfinite(truth[:, d])
        expected += 1 - numpy_concordance(
            (predictions[known, d] - mean[d]) / spread[d], (truth[known, d] - mean[d]) / spread[d], ddof=0
        )
    assert emotion.loss(states, lengths, rated(ratings)).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [
        ([[3.0, 4.0, 5.0]], 3.0),  # one utterance has no concordance
        ([[3.0, NAN, NAN]], 1.0),
        ([[NAN] * 3] * 4, 0.0),  # nothing to learn
        ([[3.0, 4.0, 5.0]] * 4, 3.0),  # everybody feels the same
    ],
)
def test_batches_that_say_little_have_finite_losses_and_gradients(ratings: list[list[float]], expected: float) -> None:
    emotion = make()
    lengths = torch.tensor([20, 9, 14, 31][: len(ratings)])
    states = random_states(lengths.tolist()).requires_grad_()
    loss = emotion.loss(states, lengths, rated(ratings))
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    loss.backward()
    for tensor in (states, *emotion.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_constant_predictions_have_a_finite_loss_and_learn() -> None:
    emotion = make()
    nn.init.zeros_(emotion.output.weight)
    lengths = torch.tensor([20, 9, 14])
    loss = emotion.loss(random_states([20, 9, 14]), lengths, rated([[1.0, 2, 3], [3, 1, 2], [2, 3, 1]]))
    assert loss.item() == pytest.approx(3)
    loss.backward()
    assert emotion.output.weight.grad is not None
    assert emotion.output.weight.grad.isfinite().all()
    assert emotion.output.weight.grad.any()


def utterance(ratings: Sequence[float], corpus: Corpus = ONE_CORPUS) -> Utterance:
    cut = make_cut("a", "/nowhere/a.wav", AudioInfo(16_000, 16_000, 1))
    return Utterance("a", cut, 1.0, ratings=tuple(ratings), corpus=corpus)


def test_scores_of_a_set() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(1, 7, (50, 3))
    truth[:5, 1] = NAN
    predictions = (np.nan_to_num(truth, nan=4) + random.standard_normal((50, 3))).astype(np.float32)
    scores = make().score(list(predictions), [utterance(row) for row in truth])
    expected = []
    for d, dimension in enumerate(DIMENSIONS):
        known = np.isfinite(truth[:, d])
        expected.append(numpy_concordance(predictions[known, d].astype(float), truth[known, d], ddof=0))
        assert scores[f"{dimension}_ccc"] == pytest.approx(expected[-1], abs=1e-9)
    assert scores["mean_ccc"] == pytest.approx(np.mean(expected), abs=1e-9)


def test_scores_where_little_is_known() -> None:
    emotion, zeros = make(), np.zeros(3, np.float32)
    assert emotion.score([], []) == {}
    assert emotion.score([zeros], [utterance((1, 2, 3))]) == {}  # one utterance has no concordance
    assert emotion.score([zeros] * 2, [utterance((NAN,) * 3)] * 2) == {}
    scores = emotion.score([zeros, zeros], [utterance((1, NAN, 3)), utterance((2, NAN, 3))])
    assert scores == {"activation_ccc": 0, "dominance_ccc": 0, "mean_ccc": 0}


def test_which_utterances_can_be_learnt_from() -> None:
    assert Emotion.has_label(utterance((NAN, 3, NAN)))
    assert not Emotion.has_label(utterance((NAN, NAN, NAN)))
    assert Emotion.fits(utterance((1, 2, 3)), steps=1)


# --- Several corpora --------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=25)
def test_each_corpus_has_a_concordance_of_its_own_by_its_share_of_the_ratings(seed: int) -> None:
    random = np.random.default_rng(seed)
    lengths = torch.from_numpy(random.integers(5, 40, 12))
    states, emotion = random_states(lengths.tolist()), make()
    corpora = random.choice([0, 3, 7], 12)
    ratings = random.uniform(1, 7, (12, 3)) + corpora[:, None]
    ratings[random.random((12, 3)) < 0.3] = NAN
    ratings[corpora == 7, 2] = NAN  # this one does not rate dominance
    batch = dataclasses.replace(rated(ratings.astype(np.float32).tolist()), corpora=torch.from_numpy(corpora))
    predictions = emotion(states, lengths).detach().double().numpy()
    expected = 0.0
    for d in range(3):
        rows = [i for i in range(12) if not math.isnan(ratings[i, d])]
        for corpus in {int(corpora[i]) for i in rows}:
            own = [i for i in rows if corpora[i] == corpus]
            with np.errstate(invalid="ignore"):
                found = np.nan_to_num(numpy_concordance(predictions[own, d], ratings[own, d], ddof=0))
            expected += len(own) / len(rows) * (1 - found)
    assert emotion.loss(states, lengths, batch).item() == pytest.approx(expected, abs=1e-4)


def test_telling_corpora_apart_is_not_rewarded() -> None:
    """Predictions that are constant but for the corpus have no concordance within either, though much over both."""
    predictions = np.array([[2.0] * 3] * 10 + [[6.0] * 3] * 10, np.float32)
    random = np.random.default_rng(0)
    truth = predictions + random.normal(0, 0.5, predictions.shape)
    both = [utterance(row, Corpus(i // 10, "ab"[i // 10])) for i, row in enumerate(truth)]
    one = [utterance(row) for row in truth]
    assert make().score(list(predictions), both)["mean_ccc"] == pytest.approx(0, abs=1e-6)
    assert make().score(list(predictions), one)["mean_ccc"] > 0.9


def test_scores_of_several_corpora_are_their_means() -> None:
    random = np.random.default_rng(0)
    corpora = [Corpus(0, "voices"), Corpus(1, "words"), Corpus(2, "silent")]
    numbers = [0] * 40 + [1] * 8 + [2] * 5
    truth = random.uniform(1, 7, (53, 3))
    truth[40:48, 0] = NAN
    truth[48:] = NAN
    predictions = np.nan_to_num(truth, nan=4.0) + random.normal(0, 1 + np.array(numbers)[:, None], truth.shape)
    order = random.permutation(53)
    utterances = [utterance(truth[i], corpora[numbers[i]]) for i in order]
    scores = make().score([predictions[i].astype(np.float32) for i in order], utterances)

    def own(rows: slice, d: int) -> float:
        return numpy_concordance(predictions[rows, d], truth[rows, d], ddof=0)

    voices, words = slice(0, 40), slice(40, 48)
    expected = {
        "activation_ccc": own(voices, 0),
        "valence_ccc": (own(voices, 1) + own(words, 1)) / 2,
        "dominance_ccc": (own(voices, 2) + own(words, 2)) / 2,
        "voices_activation_ccc": own(voices, 0),
        "voices_valence_ccc": own(voices, 1),
        "voices_dominance_ccc": own(voices, 2),
        "words_valence_ccc": own(words, 1),
        "words_dominance_ccc": own(words, 2),
        "voices_mean_ccc": sum(own(voices, d) for d in range(3)) / 3,
        "words_mean_ccc": (own(words, 1) + own(words, 2)) / 2,
    }
    expected["mean_ccc"] = (expected["voices_mean_ccc"] + expected["words_mean_ccc"]) / 2
    assert scores == pytest.approx(expected, abs=1e-6)


def test_each_corpus_must_have_ratings_that_differ() -> None:
    one, two = Corpus(0, "voices"), Corpus(1, "words")
    good = [utterance((1, 2, 3), one), utterance((2, 2, 3), one), utterance((NAN, NAN, NAN), two)]
    assert Emotion.objection(good) is None
    same = [utterance((3, 3, 3), two), utterance((3, 3, 3), two)]
    assert "of words differ" in str(Emotion.objection(good + same))
    assert "its ratings" in str(Emotion.objection(same))
