"""Stretches of speech; synthetic voices are speech to the detector when they have formants and a melody."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sa2sr.errors import AudioError, ModelError
from sa2sr.inference import load, voice
from sa2sr.inference.model import Model
from sa2sr.inference.voice import FRAME, RATE, VoiceCutter, VoiceDetector, speech_in

pytestmark = pytest.mark.skipif(find_spec("silero_vad") is None, reason="silero-vad is an extra")

Waveform = NDArray[np.float32]


def vowels(seconds: float, seed: int = 0) -> Waveform:
    """A glottal buzz through the formants of changing vowels, in syllables."""
    random, count = np.random.default_rng(seed), round(seconds * RATE)
    time = np.arange(count) / RATE
    pitch = 120 * (1 + 0.15 * np.sin(2 * np.pi * 0.7 * time + seed))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = np.zeros(count)
    weights = np.clip(np.sin(2 * np.pi * 1.9 * time)[None] * np.array([[1.0], [-1.0]]) + 0.5, 0, 1)
    for formants, weight in zip(((700, 1200, 2600), (300, 2200, 3000)), weights, strict=True):
        for harmonic in range(1, 40):
            hz = harmonic * 120
            gain = sum(1 / (1 + ((hz - f) / 90) ** 2) for f in formants)
            sound += weight * gain * np.sin(harmonic * phase)
    sound *= np.clip(np.sin(2 * np.pi * 3.5 * time) + 0.6, 0, 1)
    sound = 0.3 * sound / np.abs(sound).max() + 0.001 * random.standard_normal(count)
    return sound.astype(np.float32)


def silence(seconds: float, seed: int = 0) -> Waveform:
    return (1e-4 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.float32)


@pytest.fixture(scope="module")
def speech() -> Waveform:
    """Speech from 1 to 3 and from 4.5 to 6 s of 7.3."""
    return np.concatenate([silence(1), vowels(2, 1), silence(1.5), vowels(1.5, 2), silence(1.3)])


def test_probabilities_do_not_depend_on_the_blocks(speech: Waveform) -> None:
    whole = VoiceDetector()
    expected = np.concatenate([whole.push(speech), whole.flush()])
    assert len(expected) == -(-len(speech) // FRAME)
    detector = VoiceDetector()
    cut = np.concatenate([*map(detector.push, np.array_split(speech, 77)), detector.flush()])
    np.testing.assert_allclose(cut, expected, atol=1e-5)
    assert expected.max() > 0.9
    assert expected.min() < 0.1


def test_speech_is_found_where_it_is(speech: Waveform) -> None:
    parts = list(speech_in([speech], 30))
    spans = [(start / RATE, (start + len(part)) / RATE) for start, part in parts]
    assert len(spans) == 2
    for found, expected in zip(spans, ((1, 3), (4.5, 6)), strict=True):
        assert found[0] == pytest.approx(expected[0], abs=0.3)
        assert found[1] == pytest.approx(expected[1], abs=0.3)
    for start, part in parts:
        assert np.array_equal(part, speech[start : start + len(part)])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 116_799), max_size=20, unique=True))
def test_blocks_do_not_matter(cuts: list[int]) -> None:
    waveform = np.concatenate([silence(1), vowels(2, 1), silence(1.5), vowels(1.5, 2), silence(1.3)])
    whole = list(speech_in([waveform], 30))
    found = list(speech_in(np.split(waveform, sorted(cuts)), 30))
    assert [start for start, _ in found] == [start for start, _ in whole]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(found, whole, strict=True))


class Scripted(VoiceDetector):
    """Probabilities that a test prescribes, one a frame."""

    script: list[float]

    def __init__(self) -> None:
        self._told = self._samples = 0

    def push(self, block: Waveform) -> NDArray[np.float32]:
        self._samples += len(block)
        before, self._told = self._told, self._samples // FRAME
        return np.array(self.script[before : self._told], np.float32)

    def flush(self) -> NDArray[np.float32]:
        return np.array(self.script[self._told : -(-self._samples // FRAME)], np.float32)


@settings(max_examples=60, deadline=None)
@given(
    script=st.lists(st.tuples(st.sampled_from([0.0, 0.4, 0.9]), st.integers(1, 40)), min_size=1, max_size=14),
    block=st.integers(1, 9_000),
    longest=st.sampled_from([1.0, 2.5, 30.0]),
)
def test_stretches_are_apart_and_bounded(script: list[tuple[float, int]], block: int, longest: float) -> None:
    Scripted.script = [each for each, count in script for _ in range(count)]
    waveform = np.arange(len(Scripted.script) * FRAME - 100, dtype=np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voice, "VoiceDetector", Scripted)
        cutter = VoiceCutter(longest)
        parts = []
        for start in range(0, len(waveform), block):
            parts += cutter.push(waveform[start : start + block])
            assert len(cutter._kept) <= longest * RATE + block + 2 * FRAME
        parts += cutter.flush()
    end = 0
    for start, part in parts:
        assert start >= end
        end = start + len(part)
        assert 0 < len(part) <= longest * RATE
        assert np.array_equal(part, waveform[start:end])
    heard = np.zeros(len(waveform), bool)
    for start, part in parts:
        heard[start : start + len(part)] = True
    run = 0
    for index, each in enumerate([*Scripted.script, 0.0]):
        if each == 0.9:
            run += 1
            continue
        if run >= voice.SHORTEST:  # nothing that is long and surely speech is lost
            assert heard[(index - run) * FRAME : index * FRAME].all()
        run = 0


def test_rows_are_stretches_of_speech(random_model: Callable[..., Path], speech: Waveform, tmp_path: Path) -> None:
    model: Model = load(random_model())
    table = model.predict(speech, RATE, vad=True)
    expected = [(start / RATE, (start + len(part)) / RATE) for start, part in speech_in([speech], 30)]
    assert [(row.start, row.end) for row in table] == [(round(a, 6), round(b, 6)) for a, b in expected]
    for row in table:
        alone = model.predict(speech[round(row.start * RATE) : round(row.end * RATE)], RATE)[0]
        assert row.valence == pytest.approx(alone.valence, abs=1e-5)
    with pytest.raises(AudioError, match="no speech"):
        model.predict(silence(2), RATE, vad=True)
    with pytest.raises(ValueError, match="not both"):
        model.predict(speech, RATE, vad=True, window=2)


def test_without_silero_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice, "find_spec", lambda name: None)
    voice._network.cache_clear()
    with pytest.raises(ModelError, match=r"pip install 'sa2sr\[vad\]'"):
        VoiceDetector()
    voice._network.cache_clear()
    assert "silero_vad" not in sys.modules  # which would import torch
