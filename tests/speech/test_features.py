"""LFBE beside lhotse's and beside Kaldi's definition written out in float64; normalisation; stacking."""

import math
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from lhotse.features.kaldi.extractors import Fbank, FbankConfig
from lhotse.utils import compute_num_frames_from_samples
from numpy.typing import NDArray

from sa2sr.config import FrontEnd
from sa2sr.speech import features
from sa2sr.speech.features import FLOOR, extract, frame_count, lfbe, normalise, stack

FRONTEND = FrontEnd()
TELEPHONE = FrontEnd(sampling_rate=8_000, filters=23, window_ms=32, step_ms=16)
SEEDS = st.integers(0, 10_000)

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning")  # lhotse's mel scale


def noise(samples: int, seed: int = 0, amplitude: float = 0.3) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-amplitude, amplitude, samples).astype(np.float32)


def lhotse_lfbe(waveform: NDArray[np.float32], frontend: FrontEnd) -> NDArray[np.float32]:
    config = FbankConfig(
        sampling_rate=frontend.sampling_rate,
        num_filters=frontend.filters,
        frame_length=frontend.window_ms / 1000,
        frame_shift=frontend.step_ms / 1000,
        dither=0.0,
        snip_edges=False,
    )
    return np.asarray(Fbank(config).extract(torch.from_numpy(waveform)[None], frontend.sampling_rate))


def kaldi_energies(waveform: NDArray[np.float32], frontend: FrontEnd) -> NDArray[np.float64]:
    """Filterbank energies in float64, sample by sample as Kaldi describes them, for waveforms of any length."""
    size, step, count = frontend.window_samples, frontend.step_samples, frame_count(len(waveform), frontend)
    energies = np.zeros((count, frontend.filters))
    bins = 2 ** math.ceil(math.log2(size))
    hz = np.arange(bins // 2 + 1) * frontend.sampling_rate / bins
    mel = [1127 * math.log(1 + f / 700) for f in (20.0, frontend.sampling_rate / 2 - 400.0)]
    width = (mel[1] - mel[0]) / (frontend.filters + 1)
    for t in range(count):
        frame = []
        for index in range(t * step + step // 2 - size // 2, t * step + step // 2 - size // 2 + size):
            while not 0 <= index < len(waveform):  # reflected at the edges, which occur twice
                index = -index - 1 if index < 0 else 2 * len(waveform) - 1 - index
            frame.append(float(waveform[index]))
        centred = np.array(frame) - np.mean(frame)
        emphasised = centred - 0.97 * np.concatenate([centred[:1], centred[:-1]])
        povey = np.array([(0.5 - 0.5 * math.cos(2 * math.pi * n / (size - 1))) ** 0.85 for n in range(size)])
        power = np.abs(np.fft.rfft(emphasised * povey, bins)) ** 2
        for k in range(frontend.filters):
            distance = np.abs(1127 * np.log(1 + hz / 700) - (mel[0] + (k + 1) * width)) / width
            energies[t, k] = power @ np.clip(1 - distance, 0, None)
    return energies


@given(samples=st.integers(512, 20_000), seed=SEEDS, amplitude=st.sampled_from([0.01, 0.3, 1.0]))
@example(samples=16_000, seed=0, amplitude=0.3)
@settings(max_examples=40, deadline=None)
def test_equals_lhotse(samples: int, seed: int, amplitude: float) -> None:
    waveform = noise(samples, seed, amplitude)
    for frontend in (FRONTEND, TELEPHONE):
        ours, theirs = lfbe(waveform, frontend), lhotse_lfbe(waveform, frontend)
        assert ours.shape == theirs.shape
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=5e-4, rtol=0)


def test_equals_lhotse_on_speech(voice: Callable[..., NDArray[np.float32]]) -> None:
    for seed, seconds in enumerate((0.1, 0.77, 2.0)):
        waveform = voice(seconds, seed)
        np.testing.assert_allclose(lfbe(waveform, FRONTEND), lhotse_lfbe(waveform, FRONTEND), atol=5e-4, rtol=0)


@given(samples=st.integers(1, 600), seed=SEEDS)
@example(samples=1, seed=0)
@example(samples=2, seed=0)
@settings(max_examples=15, deadline=None)
def test_equals_the_definition_however_short(samples: int, seed: int) -> None:
    for frontend in (FRONTEND, TELEPHONE):
        waveform = noise(samples, seed)
        expected = kaldi_energies(waveform, frontend)
        # Beside a strong line of the spectrum, float32 cannot tell a filter without energy from a tiny one.
        np.testing.assert_allclose(
            np.exp(lfbe(waveform, frontend)), np.maximum(expected, FLOOR), rtol=5e-4, atol=1e-6 * expected.max()
        )


@given(samples=st.integers(1, 100_000), frontend=st.sampled_from([FRONTEND, TELEPHONE]))
@settings(deadline=None)
def test_one_frame_a_step(samples: int, frontend: FrontEnd) -> None:
    expected = compute_num_frames_from_samples(samples, frontend.step_ms / 1000, frontend.sampling_rate)
    assert frame_count(samples, frontend) == max(1, expected)


def test_frame_counts_of_waveforms() -> None:
    for samples, frames in [(1, 1), (79, 1), (80, 1), (239, 1), (240, 2), (399, 2), (16_000, 100), (16_079, 100)]:
        assert lfbe(noise(samples), FRONTEND).shape == (frames, 40)


@pytest.mark.parametrize("shape", [(0,), (10, 1), (1, 10), ()])
def test_a_waveform_is_a_line_of_samples(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        lfbe(np.zeros(shape, np.float32), FRONTEND)


def test_blocks_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    waveform = noise(8_000)
    whole = lfbe(waveform, FRONTEND)
    for size in (1, 3, 49, 50, 51):
        monkeypatch.setattr(features, "_BLOCK", size)
        np.testing.assert_allclose(lfbe(waveform, FRONTEND), whole, atol=1e-5, rtol=0)


def test_memory_is_bounded_by_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    waveform = noise(60 * 16_000)
    lfbe(waveform[:100_000], FRONTEND)  # tables
    monkeypatch.setattr(features, "_BLOCK", 256)
    tracemalloc.start()
    lfbe(waveform, FRONTEND)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    windows = (
        4 * FRONTEND.window_samples
    )  # bytes of a frame; all 6,000 windows at once would be 9.6 MB, many times over
    assert peak < 2 * waveform.nbytes + 12 * 256 * windows


def test_silence_is_the_floor_and_normalises_to_nothing() -> None:
    silence = np.zeros(16_000, np.float32)
    np.testing.assert_allclose(lfbe(silence, FRONTEND), math.log(FLOOR), rtol=1e-6)
    for frontend in (FRONTEND, FrontEnd(floor_db=50), FrontEnd(normalised="together", floor_db=50)):
        np.testing.assert_array_equal(extract(silence, frontend), 0)
    np.testing.assert_array_equal(extract(silence + 0.25, FRONTEND), 0)  # an offset is no sound


def test_one_sample_is_a_frame_of_nothing() -> None:
    np.testing.assert_array_equal(extract(np.ones(1, np.float32), FRONTEND), np.zeros((1, 40), np.float32))


def test_sound_between_silences_is_finite() -> None:
    waveform = np.concatenate([np.zeros(5_000), noise(2_000), np.zeros(5_000)]).astype(np.float32)
    assert np.isfinite(extract(waveform, FRONTEND)).all()


@given(samples=st.integers(1_000, 20_000), seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_normalised_frames_have_mean_0_and_variance_1_in_every_filter(samples: int, seed: int) -> None:
    frames = extract(noise(samples, seed), FRONTEND).astype(np.float64)
    np.testing.assert_allclose(frames.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(frames.var(0), 1, atol=1e-5)


@given(seed=SEEDS, offset=st.floats(-20, 20), scale=st.floats(0.1, 10))
@settings(max_examples=20, deadline=None)
def test_normalising_undoes_offset_and_scale(seed: int, offset: float, scale: float) -> None:
    frames = np.random.default_rng(seed).standard_normal((50, 4)).astype(np.float32)
    normalised = normalise(frames, FRONTEND)
    shifted = frames * np.float32(scale) + np.float32(offset)
    np.testing.assert_allclose(normalise(shifted, FRONTEND), normalised, atol=1e-4)
    np.testing.assert_allclose(normalise(normalised, FRONTEND), normalised, atol=1e-5)


@given(seed=SEEDS, floor=st.floats(10, 100))
@settings(max_examples=20, deadline=None)
def test_what_is_far_below_the_loudest_is_raised_to_a_floor(seed: int, floor: float) -> None:
    energies = np.random.default_rng(seed).uniform(-15, 5, (60, 4)).astype(np.float32)
    raised = np.maximum(energies, energies.max() - floor / (10 / math.log(10)))
    floored = FrontEnd(floor_db=floor)
    np.testing.assert_allclose(normalise(energies, floored), normalise(raised, FRONTEND), atol=1e-5)
    np.testing.assert_allclose(normalise(energies + np.float32(3), floored), normalise(energies, floored), atol=1e-5)


def test_a_noise_floor_does_not_matter_below_the_floor() -> None:
    """Digital silence and a quiet room are the same pause."""
    silence, loud = np.zeros(8_000, np.float32), noise(16_000)
    quiet, room = (np.concatenate([silence, loud, pause]) for pause in (silence, np.float32(1e-3) * loud[:8_000]))
    floored = FrontEnd(floor_db=50)
    np.testing.assert_allclose(extract(room, floored), extract(quiet, floored), atol=0.05)
    assert np.abs(extract(room, FRONTEND) - extract(quiet, FRONTEND)).max() > 0.3


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_normalised_together_filters_keep_their_differences(seed: int) -> None:
    energies = np.random.default_rng(seed).normal(0, 3, (60, 4)).astype(np.float32) + np.array(
        [4, 2, 0, -9], np.float32
    )
    normalised = normalise(energies, FrontEnd(normalised="together")).astype(np.float64)
    assert abs(normalised.mean()) < 1e-6
    assert normalised.var() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(normalised, (energies - energies.mean()) / energies.std(), atol=1e-5)


def test_a_constant_filter_becomes_0() -> None:
    frames = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
    frames[:, 1] = -15.9
    normalised = normalise(frames, FRONTEND)
    np.testing.assert_array_equal(normalised[:, 1], 0)
    np.testing.assert_allclose(normalised[:, [0, 2]].std(0), 1, rtol=1e-5)


@given(seed=SEEDS, gain=st.floats(0.05, 3))
@settings(max_examples=20, deadline=None)
def test_loudness_does_not_matter(seed: int, gain: float) -> None:
    waveform = noise(8_000, seed)
    assume(lfbe(waveform * np.float32(min(gain, 1)), FRONTEND).min() > math.log(FLOOR) + 1)
    np.testing.assert_allclose(
        extract(waveform * np.float32(gain), FRONTEND), extract(waveform, FRONTEND), atol=2e-3, rtol=0
    )


@given(steps=st.integers(1, 50), width=st.integers(1, 5))
@settings(deadline=None)
def test_stacking_joins_neighbours_and_fills_up_with_0(steps: int, width: int) -> None:
    frames = noise(steps * 40).reshape(steps, 40) + np.float32(1)
    stacked = stack(frames, width)
    assert stacked.shape == (math.ceil(steps / width), width * 40)
    for step, row in enumerate(stacked):
        for place, frame in enumerate(np.split(row, width)):
            source = step * width + place
            np.testing.assert_array_equal(frame, frames[source] if source < steps else 0)


def test_the_papers_input() -> None:
    """25 ms windows, 10 ms steps, 40 filters; three joined: 120 features every 30 ms."""
    assert (FRONTEND.window_samples, FRONTEND.step_samples, FRONTEND.dimension) == (400, 160, 120)
    assert stack(extract(noise(16_000), FRONTEND), FRONTEND.stack).shape == (34, 120)
