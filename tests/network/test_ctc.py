"""CTC beside a slow dynamic programme and beside its definition; greedy decoding; scores beside jiwer."""

from collections.abc import Sequence
from itertools import groupby, product

import jiwer
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from sa2sr.audio import AudioInfo
from sa2sr.config import ALPHABET, CtcSettings
from sa2sr.cuts import make_cut
from sa2sr.network.objectives.ctc import BLANK, Ctc, greedy_decode
from sa2sr.speech.batches import Batch
from sa2sr.speech.text import ctc_steps
from sa2sr.speech.utterances import Utterance

CLASSES = 1 + len(ALPHABET)
TEXTS = st.text(alphabet="ab ", min_size=1, max_size=4)


def transparent() -> Ctc:
    """An objective whose logits are its states."""
    ctc = Ctc(CLASSES, CtcSettings())
    nn.init.eye_(ctc.output.weight)
    nn.init.zeros_(ctc.output.bias)
    return ctc


def transcribed(texts: Sequence[str | None]) -> Batch:
    """A batch of which CTC reads the texts alone."""
    count = len(texts)
    unknown, lengths = torch.full((count, 3), float("nan")), torch.ones(count, dtype=torch.long)
    return Batch([f"u{i}" for i in range(count)], unknown, lengths, list(texts), unknown, unknown, float(count))


def random_logits(lengths: Sequence[int], seed: int = 0) -> Tensor:
    """(B, T', 29), large and random past the end too."""
    return 3 * torch.randn(len(lengths), max(lengths), CLASSES, generator=torch.Generator().manual_seed(seed))


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(-1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def classes(text: str) -> list[int]:
    return [1 + ALPHABET.index(character) for character in text]


def forward_algorithm(log_probabilities: NDArray[np.float64], text: str) -> float:
    """-log p(text) of (T', 29): Graves et al. (2006), equations 6 to 8, in float64."""
    labels = [BLANK]
    for label in classes(text):
        labels += [label, BLANK]
    alpha = np.full(len(labels), -np.inf)
    alpha[:2] = log_probabilities[0, labels[:2]]
    for frame in log_probabilities[1:]:
        before = alpha.copy()
        for s, label in enumerate(labels):
            ways = [before[s]]
            if s >= 1:
                ways.append(before[s - 1])
            if s >= 2 and label not in (BLANK, labels[s - 2]):
                ways.append(before[s - 2])
            alpha[s] = np.logaddexp.reduce(ways) + frame[label]
    return -float(np.logaddexp(alpha[-1], alpha[-2]))


def by_definition(log_probabilities: NDArray[np.float64], text: str) -> float:
    """-log of the sum over all paths that become the text when repetitions are joined and blanks removed."""
    wanted, total = classes(text), -np.inf
    for path in product(sorted({BLANK, *wanted}), repeat=len(log_probabilities)):
        if [label for label, _ in groupby(path) if label != BLANK] == wanted:
            total = np.logaddexp(total, log_probabilities[range(len(path)), path].sum())
    return -float(total)


@given(text=TEXTS, spare=st.integers(0, 2), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_the_loss_of_an_utterance_is_the_sum_over_all_paths(text: str, spare: int, seed: int) -> None:
    steps = ctc_steps(text) + spare
    logits = random_logits([steps], seed)
    log_probabilities = log_softmax(logits[0].double().numpy())
    loss = transparent().loss(logits, torch.tensor([steps]), transcribed([text])).item()
    assert loss == pytest.approx(by_definition(log_probabilities, text), rel=1e-5)
    assert loss == pytest.approx(forward_algorithm(log_probabilities, text), rel=1e-5)


@given(texts=st.lists(st.none() | TEXTS, min_size=1, max_size=5), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=25)
def test_losses_are_summed_over_utterances_and_averaged_over_those_with_a_text(
    texts: list[str | None], seed: int
) -> None:
    random = np.random.default_rng(seed)
    lengths = [ctc_steps(text or "") + int(random.integers(1, 30)) for text in texts]
    logits = random_logits(lengths, seed)
    loss = transparent().loss(logits, torch.tensor(lengths), transcribed(texts)).item()
    expected = [
        forward_algorithm(log_softmax(logits[row, :length].double().numpy()), text)
        for row, (length, text) in enumerate(zip(lengths, texts, strict=True))
        if text is not None
    ]
    assert loss == pytest.approx(np.mean(expected) if expected else 0, rel=1e-5)


def test_the_loss_grows_with_the_utterance() -> None:
    """What the weight of 200 for the sentiment task stands on: nothing is divided by the length of the text."""
    untrained = [
        transparent().loss(torch.zeros(1, 2 * n, CLASSES), torch.tensor([2 * n]), transcribed(["ab" * (n // 2)])).item()
        for n in (20, 40, 80)
    ]
    assert untrained[1] == pytest.approx(2 * untrained[0], rel=0.1)
    assert untrained[2] == pytest.approx(4 * untrained[0], rel=0.1)


def test_gradients() -> None:
    """Of the states, beside finite differences of the dynamic programme; none past the end, none without a text."""
    texts, lengths = ["ab", None, "b a"], [4, 6, 5]
    logits = random_logits(lengths).requires_grad_()
    transparent().loss(logits, torch.tensor(lengths), transcribed(texts)).backward()
    assert logits.grad is not None
    random, step = np.random.default_rng(0), 1e-6
    for row, (text, length) in enumerate(zip(texts, lengths, strict=True)):
        assert not logits.grad[row, length:].any()
        if text is None:
            assert not logits.grad[row].any()
            continue
        direction = random.standard_normal((length, CLASSES))
        base = logits[row, :length].detach().double().numpy()
        up, down = (forward_algorithm(log_softmax(base + sign * step * direction), text) for sign in (1, -1))
        slope = (up - down) / (2 * step) / 2  # two utterances have a text
        assert float((logits.grad[row, :length].double() * torch.from_numpy(direction)).sum()) == pytest.approx(
            slope, rel=1e-4
        )


def test_without_any_text_there_is_nothing_to_learn_and_nothing_breaks() -> None:
    ctc, logits = transparent(), random_logits([3, 4]).requires_grad_()
    loss = ctc.loss(logits, torch.tensor([3, 4]), transcribed([None, None]))
    assert loss.item() == 0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()
    assert ctc.output.weight.grad is not None
    assert not ctc.output.weight.grad.any()


def test_a_text_that_cannot_fit_costs_nothing_and_breaks_nothing() -> None:
    """Such utterances are dropped beforehand; this is the net below."""
    logits = random_logits([3, 9]).requires_grad_()
    loss = transparent().loss(logits, torch.tensor([3, 9]), transcribed(["aaaa", "ab"]))
    assert loss.item() == pytest.approx(forward_algorithm(log_softmax(logits[1].detach().double().numpy()), "ab") / 2)
    loss.backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert not logits.grad[0].any()


def test_company_and_padding_do_not_matter() -> None:
    lengths, texts = [7, 12, 5], ["ab", "hello you", "it's"]
    logits = random_logits(lengths)
    together = transparent().loss(logits, torch.tensor(lengths), transcribed(texts)).item()
    alone = [
        transparent().loss(logits[i : i + 1, :n], torch.tensor([n]), transcribed(texts[i : i + 1])).item()
        for i, n in enumerate(lengths)
    ]
    assert together == pytest.approx(np.mean(alone), rel=1e-6)


def test_in_half_precision_the_loss_is_computed_in_single() -> None:
    logits, lengths = random_logits([300]), torch.tensor([300])
    exact = forward_algorithm(log_softmax(logits[0].double().numpy()), "some words" * 5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = transparent().loss(logits, lengths, transcribed(["some words" * 5]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact, rel=0.005)


# --- Decoding ---------------------------------------------------------------------------------------------------------


def one_hot(path: Sequence[int]) -> Tensor:
    return nn.functional.one_hot(torch.tensor(path), CLASSES).float()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("--hh-e-ll-l-oo--", "hello"),
        ("aaab", "ab"),
        ("a-a-", "aa"),
        ("----", ""),
        ("-  a b  -", "a b"),
        ("i't-'s", "i't's"),
        ("zzz", "z"),
    ],
)
def test_repetitions_are_joined_and_blanks_removed(path: str, text: str) -> None:
    logits = one_hot([BLANK if character == "-" else 1 + ALPHABET.index(character) for character in path])
    assert greedy_decode(logits[None], torch.tensor([len(path)])) == [text]


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_decoding_reads_no_further_than_the_end(lengths: list[int], seed: int) -> None:
    logits = random_logits(lengths, seed)
    expected = []
    for row, length in zip(logits.numpy(), lengths, strict=True):
        best = [label for label, _ in groupby(row[:length].argmax(-1).tolist()) if label != BLANK]
        expected.append("".join(ALPHABET[label - 1] for label in best).strip())
    assert greedy_decode(logits, torch.tensor(lengths)) == expected
    with torch.no_grad():
        assert transparent().predict(logits, torch.tensor(lengths)) == expected


def test_what_is_certain_costs_nothing_and_is_decoded() -> None:
    """Loss and decoding agree on which class is which character."""
    text = "the five boxing wizards' jumps quack log"
    path = [BLANK]
    for label in classes(text):
        path += [label, BLANK]
    logits, lengths = 50 * one_hot(path)[None], torch.tensor([len(path)])
    assert transparent().loss(logits, lengths, transcribed([text])).item() == pytest.approx(0, abs=1e-4)
    assert greedy_decode(logits, lengths) == [text]


# --- Size, labels and scores ------------------------------------------------------------------------------------------


def test_the_papers_29_classes() -> None:
    assert CLASSES == 29
    ctc = Ctc(384, CtcSettings())
    assert ctc.logits(torch.zeros(2, 5, 384)).shape == (2, 5, 29)
    assert sum(p.numel() for p in ctc.parameters()) == 384 * 29 + 29


def utterance(text: str | None) -> Utterance:
    return Utterance("a", make_cut("a", "/nowhere/a.wav", AudioInfo(16_000, 16_000, 1)), 1.0, text)


def test_which_utterances_can_be_learnt_from() -> None:
    assert Ctc.has_label(utterance("a"))
    assert not Ctc.has_label(utterance(None))
    assert Ctc.fits(utterance("hello"), 6)
    assert not Ctc.fits(utterance("hello"), 5)
    assert Ctc.fits(utterance(None), 1)


@given(st.lists(st.tuples(st.text("ab ", max_size=12), st.text("ab", min_size=1, max_size=5)), min_size=1, max_size=8))
@settings(deadline=None, max_examples=30)
def test_scores_are_edits_by_the_length_of_all_references(pairs: list[tuple[str, str]]) -> None:
    hypotheses, references = ([*column] for column in zip(*pairs, strict=True))
    references = [f"{reference} b" for reference in references]
    hypotheses = [" ".join(hypothesis.split()) for hypothesis in hypotheses]
    utterances = [utterance(text) for text in references]
    scores = transparent().score([*hypotheses, "not counted"], [*utterances, utterance(None)])
    assert scores["cer"] == pytest.approx(jiwer.cer(references, hypotheses))
    assert scores["wer"] == pytest.approx(jiwer.wer(references, hypotheses))


def test_without_references_there_is_no_score() -> None:
    assert transparent().score(["a"], [utterance(None)]) == {}
    assert transparent().score([], []) == {}
