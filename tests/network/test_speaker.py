"""Speaker identification, its reversal, and the equal error rate beside its definition."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sa2sr.audio import AudioInfo
from sa2sr.config import Objectives, SpeakerSettings, validate
from sa2sr.cuts import make_cut
from sa2sr.errors import RecipeError
from sa2sr.network.objectives.speaker import Speaker, equal_error_rate
from sa2sr.speech.batches import Batch
from sa2sr.speech.utterances import Utterance

H = 5
NAMES = ("ann", "bo", "cy")


def make_speaker(**values: Any) -> Speaker:
    torch.manual_seed(0)
    return Speaker(H, SpeakerSettings.model_validate({"units": 4, "speakers": NAMES} | values))


def spoken_by(speakers: Sequence[str | None]) -> tuple[Tensor, Batch]:
    states = torch.randn(len(speakers), 7, H, generator=torch.Generator().manual_seed(1))
    unknown, names = torch.full((len(speakers), 3), float("nan")), [f"u{row}" for row in range(len(speakers))]
    lengths = torch.full((len(speakers),), 7)
    batch = Batch(names, states, lengths, [None] * len(names), unknown, unknown, 1.0, speakers=list(speakers))
    return states, batch


def utterances(speakers: Sequence[str | None]) -> list[Utterance]:
    cut = make_cut("u", "u.wav", AudioInfo(8000, 8000, 1))
    return [Utterance(f"u{number}", cut, 1.0, speaker=speaker) for number, speaker in enumerate(speakers)]


def test_the_loss_is_of_the_known_speakers_alone() -> None:
    task = make_speaker()
    states, batch = spoken_by(["cy", "somebody else", None, "ann"])
    probabilities = task.output(task.summariser(states, batch.lengths)).double().softmax(-1)
    wanted = -(probabilities[0, 2].log() + probabilities[3, 0].log()) / 2
    assert task.loss(states, batch.lengths, batch).item() == pytest.approx(wanted.item(), rel=1e-5)
    for nobody in (spoken_by([None] * 4)[1], spoken_by(["x"] * 4)[1]):
        assert task.train().loss(states, batch.lengths, nobody).item() == 0
        assert task.eval().loss(states, batch.lengths, nobody).isnan()


def test_reversed_the_head_learns_the_same_and_the_encoder_the_opposite() -> None:
    gradients = []
    for values in ({}, {"reverse": True, "strength": 0.3}):
        task = make_speaker(**values)
        states, batch = spoken_by(NAMES)
        task.loss(states.requires_grad_(), batch.lengths, batch).backward()
        assert states.grad is not None
        gradients.append((states.grad, [weights.grad for weights in task.parameters()]))
    (plain, of_head), (turned, of_other) = gradients
    torch.testing.assert_close(turned, -0.3 * plain)
    assert plain.abs().max() > 1e-4
    for one, other in zip(of_head, of_other, strict=True):
        torch.testing.assert_close(one, other)


def test_the_criterion_follows_what_the_encoder_is_to_learn() -> None:
    assert (make_speaker().criterion.sign, make_speaker(reverse=True).criterion.sign) == (1, -1)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_equal_error_rate_by_definition(pairs: list[tuple[int, bool]]) -> None:
    scores, same = np.array([score for score, _ in pairs], float), np.array([each for _, each in pairs])
    if same.all() or not same.any():
        return
    errors = [((scores[same] < limit).mean(), (scores[~same] >= limit).mean()) for limit in np.arange(-0.5, 6)]
    for (rejected, taken), (more, less) in pairwise(errors):
        if rejected <= taken and more >= less:
            # rejected + x (more - rejected) = taken + x (less - taken)
            x = (taken - rejected) / max(more - rejected + taken - less, 1e-12)
            assert equal_error_rate(scores, same) == pytest.approx(rejected + x * (more - rejected))
            break
    else:
        pytest.fail("there is always such a place")


@pytest.mark.parametrize(
    ("scores", "same", "wanted"),
    [
        ([1, 2, 3, 4], [False, False, True, True], 0),
        ([4, 3, 2, 1], [False, False, True, True], 1),
        ([1, 1, 1, 1], [False, False, True, True], 0.5),
        ([1, 2, 3, 4], [False, True, False, True], 0.5),
    ],
)
def test_equal_error_rate_of_what_is_clear(scores: list[float], same: list[bool], wanted: float) -> None:
    assert equal_error_rate(np.array(scores), np.array(same)) == wanted


def test_voices_are_scored_by_pairs_whoever_they_are() -> None:
    task = make_speaker()
    voices = [np.array(each, np.float32) for each in ([1, 0, 0, 0], [0.9, 0.1, 0, 0], [0, 1, 0, 0], [0, 0.9, 0.1, 0])]
    new = utterances(["x", "x", "y", "y"])
    assert task.score(voices, new) == {"speaker_eer": 0}
    assert task.score([voices[0], voices[2], *voices[1::2]], new)["speaker_eer"] > 0.5
    assert task.score(voices, utterances(["x", None, None, None])) == {}
    assert Speaker.objection(new) is None
    for impossible in (["x", "x"], ["x", "y", None], [None]):
        assert Speaker.objection(utterances(impossible)) is not None


def test_the_settings_learn_the_names() -> None:
    settings = Speaker.with_labels(SpeakerSettings(units=8), utterances(["bo", None, "ann", "bo"]))
    assert settings == SpeakerSettings(units=8, speakers=("ann", "bo"))
    with pytest.raises(RecipeError, match="names of 9,999 speakers are more"):
        validate(Objectives, {"speaker": {"speakers": [f"speaker {n}" for n in range(9999)]}}, "here")


def test_voices_have_length_one() -> None:
    states, batch = spoken_by(NAMES)
    with torch.no_grad():
        voices = make_speaker(summariser="lstm").predict(states, batch.lengths)
    for voice in voices:
        assert np.linalg.norm(voice) == pytest.approx(1, rel=1e-5)
