"""The sentiment objective: what it reads of an utterance, what it learns from, scores beside scikit-learn."""

from collections.abc import Sequence

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from sa2sr.audio import AudioInfo
from sa2sr.config import SentimentSettings
from sa2sr.cuts import make_cut
from sa2sr.network.objectives.sentiment import Sentiment
from sa2sr.speech.batches import Batch
from sa2sr.speech.utterances import Utterance

LENGTHS = st.lists(st.integers(1, 12), min_size=1, max_size=5)
NOTHING = (float("nan"),) * 3


def make(summariser: str = "lstm", dropout: float = 0.0, units: int = 4, dimension: int = 6) -> Sentiment:
    torch.manual_seed(0)
    settings = SentimentSettings.model_validate({"summariser": summariser, "units": units, "dropout": dropout})
    return Sentiment(dimension, settings)


@pytest.fixture(params=["lstm", "attention"])
def sentiment(request: pytest.FixtureRequest) -> Sentiment:
    return make(request.param)


def random_states(lengths: Sequence[int], padding: float = 0.0, spare: int = 0) -> Tensor:
    """(B, T', 6), ``padding`` past the end."""
    generator = torch.Generator().manual_seed(len(lengths))
    states = torch.full((len(lengths), max(lengths) + spare, 6), padding)
    for row, length in enumerate(lengths):
        states[row, :length] = torch.randn(length, 6, generator=generator)
    return states


def labelled(sentiment: Sequence[Sequence[float]]) -> Batch:
    """A batch of which the objective reads the sentiment alone."""
    count = len(sentiment)
    unknown, lengths = torch.full((count, 3), float("nan")), torch.ones(count, dtype=torch.long)
    names = [f"u{i}" for i in range(count)]
    return Batch(names, unknown, lengths, [None] * count, torch.tensor(sentiment), unknown, float(count))


# --- What it reads ----------------------------------------------------------------------------------------------------


@given(lengths=LENGTHS)
@settings(deadline=None, max_examples=25)
def test_the_lstm_gives_its_state_after_the_last_valid_frame(lengths: list[int]) -> None:
    sentiment = make("lstm")
    states = random_states(lengths, padding=100.0, spare=2)
    logits = sentiment.logits(states, torch.tensor(lengths))
    assert isinstance(sentiment.summariser.lstm, nn.LSTM)
    for row, length in enumerate(lengths):
        _, (last, _) = sentiment.summariser.lstm(states[row, :length])
        torch.testing.assert_close(logits[row], sentiment.output(last[0]), atol=1e-6, rtol=0)


@given(lengths=LENGTHS)
@settings(deadline=None, max_examples=25)
def test_attention_weighs_the_valid_frames_alone(lengths: list[int]) -> None:
    sentiment = make("attention")
    summariser = sentiment.summariser
    states = random_states(lengths, padding=100.0, spare=2)
    summary = summariser(states, torch.tensor(lengths)).detach().double().numpy()
    for row, length in enumerate(lengths):
        alone = states[row, :length].double().numpy()
        values = np.tanh(
            alone @ summariser.values.weight.detach().double().numpy().T
            + summariser.values.bias.detach().double().numpy()
        )
        weights = np.exp(values @ summariser.scores.weight.detach().double().numpy()[0])
        np.testing.assert_allclose(summary[row], weights / weights.sum() @ values, atol=1e-6)


def test_padding_and_company_matter_neither_to_logits_nor_to_gradients(sentiment: Sentiment) -> None:
    lengths, count = [5, 9, 1], torch.tensor([5, 9, 1])
    batch = labelled([[1, 0, 0], [0, 0, 1], [0, 1, 0]])
    gradients = []
    for padding, spare in ((0.0, 0), (1e3, 4)):
        sentiment.zero_grad()
        states = random_states(lengths, padding, spare).requires_grad_()
        sentiment.loss(states, count, batch).backward()
        assert states.grad is not None
        for row, length in enumerate(lengths):
            assert not states.grad[row, length:].any()
        gradients.append([p.grad.clone() for p in sentiment.parameters() if p.grad is not None])
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=0)
    assert len(gradients[0]) == len(list(sentiment.parameters()))


def test_sizes() -> None:
    paper = Sentiment(384, SentimentSettings())
    lstm, output = 4 * 64 * (384 + 64 + 2), (64 + 1) * 3
    assert sum(p.numel() for p in paper.parameters()) == lstm + output
    assert paper.logits(torch.zeros(2, 5, 384), torch.tensor([5, 2])).shape == (2, 3)
    small = make("attention")
    assert sum(p.numel() for p in small.parameters()) == (6 + 1) * 4 + (4 + 1) + (4 + 1) * 3


def test_dropout_is_for_training() -> None:
    sentiment = make(dropout=0.5, units=32)
    states, lengths = random_states([5, 9]), torch.tensor([5, 9])
    with torch.no_grad():
        one, two = sentiment.logits(states, lengths), sentiment.logits(states, lengths)
        assert not torch.equal(one, two)
        sentiment.eval()
        assert torch.equal(sentiment.logits(states, lengths), sentiment.logits(states, lengths))


# --- What it learns from ----------------------------------------------------------------------------------------------


def test_the_loss_is_cross_entropy_with_the_most_probable_class(sentiment: Sentiment) -> None:
    teacher = [[0.2, 0.5, 0.3], [0.8, 0.1, 0.1], [0.0, 0.4, 0.6], [0.34, 0.33, 0.33]]
    states, lengths = random_states([5, 9, 3, 7]), torch.tensor([5, 9, 3, 7])
    logits = sentiment.logits(states, lengths).detach().double().numpy()
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = -np.log(probabilities[range(4), [1, 0, 2, 0]]).mean()
    assert sentiment.loss(states, lengths, labelled(teacher)).item() == pytest.approx(expected, rel=1e-5)


def test_utterances_without_a_label_do_not_count(sentiment: Sentiment) -> None:
    states, lengths = random_states([5, 9, 3]).requires_grad_(), torch.tensor([5, 9, 3])
    loss = sentiment.loss(states, lengths, labelled([[0, 0, 1], NOTHING, [0, 1, 0]]))
    known = functional.cross_entropy(sentiment.logits(states, lengths)[[0, 2]], torch.tensor([2, 1]))
    assert loss.item() == pytest.approx(known.item(), rel=1e-6)
    loss.backward()
    assert states.grad is not None
    assert states.grad[[0, 2]].any(2).any(1).all()
    assert not states.grad[1].any()


def test_without_any_label_there_is_nothing_to_learn_and_nothing_breaks(sentiment: Sentiment) -> None:
    loss = sentiment.loss(random_states([5, 9]), torch.tensor([5, 9]), labelled([NOTHING, NOTHING]))
    assert loss.item() == 0
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in sentiment.parameters())


def test_in_half_precision_the_loss_is_single(sentiment: Sentiment) -> None:
    states, lengths = random_states([5, 9]), torch.tensor([5, 9])
    exact = sentiment.loss(states, lengths, labelled([[0, 0, 1], [1, 0, 0]])).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = sentiment.loss(states, lengths, labelled([[0, 0, 1], [1, 0, 0]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=0.02)


# --- Predictions and scores -------------------------------------------------------------------------------------------


def utterance(sentiment: Sequence[float] | None) -> Utterance:
    cut = make_cut("a", "/nowhere/a.wav", AudioInfo(16_000, 16_000, 1))
    return Utterance("a", cut, 1.0, sentiment=None if sentiment is None else tuple(sentiment))


def test_predictions_are_probabilities(sentiment: Sentiment) -> None:
    states, lengths = random_states([5, 9]), torch.tensor([5, 9])
    with torch.no_grad():
        predictions = sentiment.predict(states, lengths)
        expected = sentiment.logits(states, lengths).softmax(-1)
    np.testing.assert_allclose(predictions, expected, atol=1e-7)
    np.testing.assert_allclose(np.sum(predictions, 1), 1, rtol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_scores_beside_scikit_learn(sentiment: Sentiment, seed: int) -> None:
    random = np.random.default_rng(seed)
    teacher = random.dirichlet((1, 2, 1), 80)
    predictions = random.dirichlet((1, 1, 1), 80) + 0.3 * teacher
    predictions = (predictions / predictions.sum(1, keepdims=True)).round(1).astype(np.float32)  # with ties
    predictions /= predictions.sum(1, keepdims=True)
    utterances = [utterance(row) for row in teacher]
    utterances[3] = utterances[40] = utterance(None)
    known = [i for i in range(80) if utterances[i].sentiment is not None]
    scores = sentiment.score(list(predictions), utterances)
    truth, chosen = teacher[known].argmax(1), predictions[known].argmax(1)
    one_vs_rest = [
        sklearn.metrics.roc_auc_score(truth == label, predictions[known, label].astype(np.float64))
        for label in range(3)
    ]
    assert scores["auc"] == pytest.approx(np.mean(one_vs_rest))
    assert scores["weighted_recall"] == pytest.approx(sklearn.metrics.recall_score(truth, chosen, average="weighted"))
    assert scores["unweighted_recall"] == pytest.approx(sklearn.metrics.recall_score(truth, chosen, average="macro"))


def test_without_labels_there_is_no_score(sentiment: Sentiment) -> None:
    assert sentiment.score([], []) == {}
    assert sentiment.score([np.ones(3, np.float32)], [utterance(None)]) == {}


def test_which_utterances_can_be_learnt_from() -> None:
    assert Sentiment.has_label(utterance((0.0, 1.0, 0.0)))
    assert not Sentiment.has_label(utterance(None))
    assert Sentiment.fits(utterance(None), steps=1)
