"""Recording conditions: how an utterance would sound in another room, over another line, cut otherwise.

A network that was trained on one studio's recordings takes their silence, level and noise floor for a part of what
emotions sound like: cut the pauses around an utterance off, and its estimates change. It learns not to from recordings
that differ in these, which :func:`rerecord` makes at random.

Waveforms are (samples,), -1 to 1, and are not changed themselves.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import butter, fftconvolve, sosfilt

from sa2sr.speech.features import Waveform

CHANCE = 0.5  # of each change
LEVEL_DB = (-35.0, 10.0)
SNR_DB = (5.0, 40.0)
NOISE_SLOPE = (0.0, 2.0)  # from white noise to brown
REVERBERATION_SECONDS = (0.1, 0.8)
DIRECT_DB = (0.0, 15.0)
HIGH_PASS_HZ = (50.0, 400.0)
LOW_PASS_HZ = (3000.0, 7000.0)
LOWEST_HZ = 50.0  # that microphones differ in
COLOUR_DB = (-2.0, 2.0)  # an octave

PAUSE_DB = -40.0  # below the loudest


def rerecord(waveform: Waveform, sampling_rate: int, random: np.random.Generator) -> Waveform:
    """Cut pauses off at the ends, reverberate, limit the band, colour it, add noise, change the level.

    Each is done at even chance, in this order.

    Args:
        waveform: (samples,)
        sampling_rate: in Hz
        random: the only source of randomness

    Returns:
        as many samples, or fewer where pauses were cut off, but at least one
    """
    if random.random() < CHANCE:  # a part of either pause, and all of it once in three times
        waveform = cut_pauses(waveform, sampling_rate, *np.minimum(random.uniform(0, 1.5, 2), 1))
    if random.random() < CHANCE:
        room = random.uniform(*REVERBERATION_SECONDS), random.uniform(*DIRECT_DB)
        waveform = reverberate(waveform, sampling_rate, *room, random)
    if random.random() < CHANCE:
        waveform = limit_band(waveform, sampling_rate, random.uniform(*HIGH_PASS_HZ), random.uniform(*LOW_PASS_HZ))
    if random.random() < CHANCE:
        waveform = colour(waveform, sampling_rate, random.uniform(*COLOUR_DB))
    if random.random() < CHANCE:
        waveform = add_noise(waveform, random.uniform(*SNR_DB), random.uniform(*NOISE_SLOPE), random)
    if random.random() < CHANCE:
        waveform = change_level(waveform, random.uniform(*LEVEL_DB))
    return waveform


def cut_pauses(waveform: Waveform, sampling_rate: int, before: float = 1.0, after: float = 1.0) -> Waveform:
    """Cut off shares, 0 to 1, of what is 40 dB below the loudest at the beginning and at the end."""
    size = sampling_rate // 100
    peaks = np.maximum.reduceat(np.abs(waveform), np.arange(0, len(waveform), size))
    loud = np.flatnonzero(peaks > peaks.max() * 10 ** (PAUSE_DB / 20))
    if not loud.size:
        return waveform
    start, end = loud[0] * size, min(len(waveform), (loud[-1] + 1) * size)
    return waveform[int(before * start) : len(waveform) - int(after * (len(waveform) - end))]


def reverberate(
    waveform: Waveform, sampling_rate: int, seconds: float, direct_db: float, random: np.random.Generator
) -> Waveform:
    """Convolve with noise that decays exponentially, as a room's late reverberation does (Polack, 1988).

    Args:
        waveform: (samples,)
        sampling_rate: in Hz
        seconds: until the reverberation is 60 dB down
        direct_db: energy of the direct sound above that of the reverberation
        random: of the noise
    """
    times = np.arange(1, int(seconds * sampling_rate)) / sampling_rate
    tail = random.standard_normal(len(times)) * 10 ** (-3 * times / seconds)
    tail *= 10 ** (-direct_db / 20) / np.linalg.norm(tail)
    response = _as_waveform(np.concatenate([[1.0], tail]))
    return _as_waveform(fftconvolve(waveform, response / np.linalg.norm(response))[: len(waveform)])


def limit_band(waveform: Waveform, sampling_rate: int, low: float, high: float) -> Waveform:
    """Keep what is between two frequencies in Hz; 300 to 3400 are a telephone's."""
    band = low, min(high, 0.45 * sampling_rate)
    return _as_waveform(sosfilt(butter(4, band, "bandpass", fs=sampling_rate, output="sos"), waveform))


def colour(waveform: Waveform, sampling_rate: int, slope_db: float) -> Waveform:
    """Brighter or, below 0, duller by so many decibels an octave, as microphones differ; as loud as before."""
    size = next_fast_len(len(waveform) + sampling_rate // 10, real=True)  # what rings on must not come round
    spectrum = rfft(waveform, size)
    octaves = np.log2(np.maximum(np.arange(len(spectrum)) * sampling_rate / size, LOWEST_HZ) / LOWEST_HZ)
    spectrum *= (10 ** (slope_db * octaves / 20)).astype(np.float32)
    coloured = irfft(spectrum, size)[: len(waveform)]
    loudness = float(np.linalg.norm(waveform)) / max(float(np.linalg.norm(coloured)), 1e-12)
    return _as_waveform(coloured * loudness)


def add_noise(waveform: Waveform, snr_db: float, slope: float, random: np.random.Generator) -> Waveform:
    """Add noise whose power falls as f to the power of ``-slope``: 0 is white, 1 pink, 2 brown."""
    white = random.standard_normal(next_fast_len(len(waveform), real=True), dtype=np.float32)
    spectrum = rfft(white)
    spectrum *= np.arange(1, len(spectrum) + 1, dtype=np.float32) ** np.float32(-slope / 2)
    noise = irfft(spectrum, len(white))[: len(waveform)]
    level = np.linalg.norm(waveform) / max(float(np.linalg.norm(noise)), 1e-12) * 10 ** (-snr_db / 20)
    return _as_waveform(waveform + level * noise)


def change_level(waveform: Waveform, decibels: float) -> Waveform:
    """Louder or softer; what then is beyond full scale is cut off."""
    return _as_waveform(np.clip(waveform * 10 ** (decibels / 20), -1, 1))


def _as_waveform(samples: NDArray[np.floating]) -> Waveform:
    return samples.astype(np.float32)
