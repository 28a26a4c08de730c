"""Transcripts beside the voice: what they change, and what must not change."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sa2sr.config import EmotionSettings
from sa2sr.network.objectives import Emotion
from sa2sr.speech.batches import Batch

LENGTHS = [40, 9, 25]
TEXTS: list[str | None] = ["it is good", None, "bad bad bad day"]


def make_emotion(unit: str, fusion: str) -> Emotion:
    torch.manual_seed(0)
    text = {"unit": unit, "fusion": fusion, "size": 6, "units": 5, "buckets": 50}
    emotion = Emotion(7, EmotionSettings.model_validate({"channels": 8, "heads": 2, "text": text}))
    for name, weights in emotion.named_parameters():
        weights.data *= 1 if "norm" in name else 2
    return emotion.eval()


def states_of(rows: list[int], padding: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    each = [torch.randn(length, 7, generator=generator) for length in LENGTHS]
    lengths = torch.tensor([LENGTHS[row] for row in rows])
    padded = torch.full((len(rows), int(lengths.max()) + padding, 7), 9.0)
    for target, row in zip(padded, rows, strict=True):
        target[: LENGTHS[row]] = each[row]
    return padded, lengths


@pytest.mark.parametrize("unit", ["word", "character"])
@pytest.mark.parametrize("fusion", ["concatenation", "gate", "attention"])
def test_words_count_and_company_does_not(fusion: str, unit: str) -> None:
    emotion = make_emotion(unit, fusion)
    with torch.no_grad():
        together = emotion(*states_of([0, 1, 2], padding=7), TEXTS)
        for row, text in enumerate(TEXTS):
            alone = emotion(*states_of([row], padding=0), [text])
            torch.testing.assert_close(alone[0], together[row], rtol=1e-4, atol=1e-5)
        others = emotion(*states_of([0, 1, 2], padding=7), ["it is bad", "good", "bad bad day bad"])
        assert ((others - together).abs().max(1).values > 1e-3).all()  # other words, and another order of them
        nothing = emotion(*states_of([1], padding=0))
        torch.testing.assert_close(nothing[0], together[1])  # no text, and one that is not known
        torch.testing.assert_close(emotion(*states_of([1], padding=0), [""])[0], together[1])


@pytest.mark.parametrize("fusion", ["concatenation", "gate", "attention"])
def test_evaluation_reads_the_texts_of_the_batch(fusion: str) -> None:
    emotion = make_emotion("word", fusion)
    states, lengths = states_of([0, 1, 2], padding=0)
    labels: Any = {"sentiment": torch.zeros(3, 3), "ratings": torch.tensor([[1.0, 2, 3], [2, 5, 1], [4, 3, 2]])}
    batch = Batch(["a", "b", "c"], states, lengths, TEXTS, seconds=1.0, **labels)
    with torch.no_grad():
        expected = emotion(states, lengths, TEXTS).numpy()
        np.testing.assert_array_equal(np.stack(emotion.evaluate(states, lengths, batch)), expected)
    emotion.train().loss(states, lengths, batch).backward()  # type: ignore[no-untyped-call]
    for name, weights in emotion.named_parameters():
        assert weights.grad is not None, name
        assert weights.grad.isfinite().all(), name
    assert emotion.text is not None
    assert emotion.text.embedding.weight.grad is not None
    assert emotion.text.embedding.weight.grad.abs().sum() > 0


def test_long_texts_are_cut() -> None:
    emotion = make_emotion("character", "gate")
    assert emotion.text is not None
    numbers = emotion.text._numbers("ab " * 5000)
    assert len(numbers) == 2000
    assert emotion.text._numbers("ab é") == [3, 4, 1]
