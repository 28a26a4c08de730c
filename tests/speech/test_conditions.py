"""Recording conditions: each change does what it says, and nothing that a training could stumble over."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.signal import welch

from sa2sr.speech import conditions
from sa2sr.speech.conditions import add_noise, change_level, colour, cut_pauses, limit_band, rerecord, reverberate
from sa2sr.speech.features import Waveform

RATE = 16_000


def tone(seconds: float = 1.0, hz: float = 1000.0, level: float = 0.3) -> Waveform:
    return (level * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


def pause(seconds: float) -> Waveform:
    return np.zeros(int(seconds * RATE), np.float32)


def decibels(samples: Waveform) -> float:
    return float(10 * np.log10(np.mean(samples.astype(float) ** 2)))


CHANGES: dict[str, Callable[[Waveform, int, np.random.Generator], Waveform]] = {
    "all": rerecord,
    "pauses": lambda waveform, rate, random: cut_pauses(waveform, rate),
    "room": lambda waveform, rate, random: reverberate(waveform, rate, 0.3, 5, random),
    "band": lambda waveform, rate, random: limit_band(waveform, rate, 300, 3400),
    "colour": lambda waveform, rate, random: colour(waveform, rate, -3),
    "noise": lambda waveform, rate, random: add_noise(waveform, 10, 1, random),
    "level": lambda waveform, rate, random: change_level(waveform, 20),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@given(
    samples=st.integers(1, 3000),
    rate=st.sampled_from([8000, 16_000, 44_100]),
    level=st.sampled_from([0.0, 1e-5, 0.3, 1.0]),
    seed=st.integers(0, 1000),
)
@example(samples=1, rate=8000, level=0.0, seed=0)
@settings(max_examples=60, deadline=None)
def test_anything_stays_a_waveform_and_is_not_changed_itself(
    change: Callable[..., Waveform], samples: int, rate: int, level: float, seed: int
) -> None:
    waveform = (level * np.random.default_rng(seed).uniform(-1, 1, samples)).astype(np.float32)
    before = waveform.copy()
    found = change(waveform, rate, np.random.default_rng(seed))
    assert found.dtype == np.float32
    assert 1 <= len(found) <= samples
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(waveform, before)
    np.testing.assert_array_equal(change(waveform, rate, np.random.default_rng(seed)), found)


@pytest.mark.parametrize(("before", "after"), [(1.0, 1.0), (0.0, 1.0), (0.5, 0.25), (0.0, 0.0)])
def test_pauses_are_cut_off_at_the_ends_alone(before: float, after: float) -> None:
    speech = np.concatenate([tone(0.5), pause(0.3), tone(0.5, level=0.02)])
    waveform = np.concatenate([pause(1.0), speech, pause(0.6)])
    found = cut_pauses(waveform, RATE, before, after)
    expected = waveform[int(before * RATE) : len(waveform) - int(after * 0.6 * RATE)]
    np.testing.assert_array_equal(found, expected)


def test_silence_is_no_pause() -> None:
    assert len(cut_pauses(pause(0.5), RATE)) == RATE // 2


@pytest.mark.parametrize(("snr", "slope"), [(5.0, 0.0), (20.0, 1.0), (40.0, 2.0)])
def test_noise_has_its_level_and_its_spectrum(snr: float, slope: float) -> None:
    waveform = tone(4.0)
    noise = add_noise(waveform, snr, slope, np.random.default_rng(0)) - waveform
    assert decibels(waveform) - decibels(noise) == pytest.approx(snr, abs=0.05)
    frequencies, power = welch(noise, RATE, nperseg=1024)
    inner = (frequencies > 100) & (frequencies < 7000)
    assert -np.polyfit(np.log(frequencies[inner]), np.log(power[inner]), 1)[0] == pytest.approx(slope, abs=0.1)


@pytest.mark.parametrize(("seconds", "direct"), [(0.1, 0.0), (0.4, 15.0), (0.8, 5.0)])
def test_reverberation_decays_by_60_decibels_in_its_time(seconds: float, direct: float) -> None:
    click = np.concatenate([np.ones(1, np.float32), pause(1.5)])
    found = reverberate(click, RATE, seconds, direct, np.random.default_rng(0))
    tail = found[1 : int(seconds * RATE)]
    assert 10 * np.log10(found[0] ** 2 / np.sum(tail**2)) == pytest.approx(direct, abs=0.01)
    early, late = tail[: len(tail) // 2], tail[len(tail) // 2 :]
    assert decibels(early) - decibels(late) == pytest.approx(30, abs=2)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-3)


def test_the_band_of_a_telephone() -> None:
    def lost(hz: float) -> float:
        return decibels(tone(hz=hz)) - decibels(limit_band(tone(hz=hz), RATE, 300, 3400)[RATE // 4 :])

    assert lost(1000) == pytest.approx(0, abs=0.1)
    assert min(lost(60), lost(7500)) > 30


@pytest.mark.parametrize("slope", [-3.0, 2.0])
def test_a_colour_is_a_slope_and_no_level(slope: float) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 20 * RATE).astype(np.float32)
    found = colour(noise, RATE, slope)
    assert decibels(found) == pytest.approx(decibels(noise), abs=0.01)
    (frequencies, power), (_, before) = welch(found, RATE, nperseg=2048), welch(noise, RATE, nperseg=2048)
    inner = (frequencies > 100) & (frequencies < 7000)
    gained = 10 * np.log10(power[inner] / before[inner])
    assert np.polyfit(np.log2(frequencies[inner]), gained, 1)[0] == pytest.approx(slope, abs=0.02)
    click = np.concatenate([np.ones(1, np.float32), pause(1.0)])
    assert np.abs(colour(click, RATE, slope)[-RATE // 2 :]).max() < 1e-4  # nothing comes round to the other end


def test_a_level_that_would_pass_full_scale_is_cut_off() -> None:
    assert decibels(change_level(tone(level=0.3), -35)) == pytest.approx(decibels(tone(level=0.3)) - 35, abs=0.01)
    loud = change_level(tone(level=0.9), 10)
    assert np.abs(loud).max() == 1
    assert 0 < decibels(loud) - decibels(tone(level=0.9)) < 10


def test_each_change_comes_at_even_chance_and_within_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by what is called, over many utterances."""
    calls: dict[str, list[list[float]]] = {}
    for name in ("cut_pauses", "reverberate", "limit_band", "colour", "add_noise", "change_level"):

        def counted(waveform: Waveform, *options: object, real: Callable[..., Waveform], name: str) -> Waveform:
            calls.setdefault(name, []).append([float(x) for x in options if isinstance(x, float)])
            return real(waveform, *options)

        monkeypatch.setattr(conditions, name, partial(counted, real=getattr(conditions, name), name=name))
    waveform = np.concatenate([pause(0.1), tone(0.1), pause(0.1)])
    for seed in range(400):
        rerecord(waveform, RATE, np.random.default_rng(seed))
    limits = {
        "cut_pauses": [(0.0, 1.0)] * 2,
        "reverberate": [conditions.REVERBERATION_SECONDS, conditions.DIRECT_DB],
        "limit_band": [conditions.HIGH_PASS_HZ, conditions.LOW_PASS_HZ],
        "colour": [conditions.COLOUR_DB],
        "add_noise": [conditions.SNR_DB, conditions.NOISE_SLOPE],
        "change_level": [conditions.LEVEL_DB],
    }
    for name, spans in limits.items():
        assert len(calls[name]) / 400 == pytest.approx(conditions.CHANCE, abs=0.1)
        for (low, high), values in zip(spans, zip(*calls[name], strict=True), strict=True):
            assert low <= min(values) < low + 0.1 * (high - low)
            assert high - 0.1 * (high - low) < max(values) <= high
