"""Pitch and functionals of sounds whose properties are known."""

from typing import Any

import numpy as np
import pytest

from sa2sr.config import FrontEnd, FunctionalFeatures
from sa2sr.vectors.functionals import functionals
from sa2sr.vectors.pitch import pitch

RATE = 16_000
FRONTEND = FrontEnd()


def buzz(hz: Any, seconds: float = 0.5, rate: int = RATE) -> Any:
    """A sawtooth with a constant or changing pitch, of few enough harmonics that none is folded."""
    time = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hz, time.shape)) / rate
    return (0.1 * sum(np.sin(k * phase) / k for k in range(1, 8))).astype(np.float32)


@pytest.mark.parametrize("rate", [8_000, 16_000])
@pytest.mark.parametrize("hz", [80.0, 123.4, 220.0, 440.0])
def test_a_steady_pitch_is_found(hz: float, rate: int) -> None:
    found = pitch(buzz(hz, rate=rate), rate, lowest=75, highest=500)
    assert len(found) == 51
    inner = found[5:-5]
    assert np.isfinite(inner).all()
    np.testing.assert_allclose(inner, hz, rtol=0.005)


def test_a_glide_is_followed() -> None:
    hz = np.linspace(100, 200, RATE)
    found = pitch(buzz(hz, 1.0), RATE, lowest=75, highest=500)
    expected = hz[np.minimum(np.arange(len(found)) * 160, RATE - 1)]
    np.testing.assert_allclose(found[5:-5], expected[5:-5], rtol=0.02)


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32) * 0.1
    assert np.isfinite(pitch(noise, RATE, lowest=75, highest=500)).mean() < 0.05
    assert np.isnan(pitch(np.zeros(RATE, np.float32), RATE, lowest=75, highest=500)).all()


def test_functionals_say_what_was_changed() -> None:
    low, high = (functionals(buzz(hz), FRONTEND, FunctionalFeatures()) for hz in (110.0, 220.0))
    quiet = functionals(0.1 * buzz(110.0), FRONTEND, FunctionalFeatures())
    assert low.shape == (8 * FRONTEND.filters + 8 + 8 + 3,)
    of_loudness, of_pitch = 8 * FRONTEND.filters, 8 * FRONTEND.filters + 8
    assert high[of_pitch] - low[of_pitch] == pytest.approx(1, abs=0.01)  # an octave
    assert low[of_loudness] - quiet[of_loudness] == pytest.approx(20, abs=0.01)  # decibels
    assert low[-1] == pytest.approx(np.log(0.5))
    np.testing.assert_allclose(low[of_pitch:], quiet[of_pitch:], rtol=1e-3)


def test_pauses_and_silence() -> None:
    half = functionals(np.concatenate([buzz(150.0), np.zeros(RATE // 2, np.float32)]), FRONTEND, FunctionalFeatures())
    assert half[-3] == pytest.approx(0.5, abs=0.02)
    assert half[-2] == pytest.approx(0.5, abs=0.04)
    silence = functionals(np.zeros(1, np.float32), FRONTEND, FunctionalFeatures())
    unknown = np.isnan(silence)
    assert unknown.sum() == 8  # of a pitch
    assert np.isfinite(silence[~unknown]).all()
