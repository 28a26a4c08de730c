"""A waveform becomes frames: log mel filterbank energies (LFBE), normalised per utterance.

One implementation for training, files, streams and ONNX. It is Kaldi's definition (povey window, pre-emphasis
0.97, no dither, edges reflected) in numpy alone, so that predicting needs no torch, and about three times as fast
as the libraries that the tests compare it with.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import rfft

from sa2sr.config import FrontEnd

Waveform = NDArray[np.float32]  # (samples,), mono, -1 to 1
Frames = NDArray[np.float32]  # (T, filters)

PRE_EMPHASIS = np.float32(0.97)
LOW_HZ = 20.0
BELOW_NYQUIST_HZ = 400.0  # the highest filter ends here below half the sampling rate
FLOOR = float(np.finfo(np.float32).eps)  # of an energy, before the logarithm
_BLOCK = 96  # frames at a time: what is computed from them fits into the cache, and is memory that malloc keeps


def frame_count(samples: int, settings: FrontEnd) -> int:
    """Number of frames of a waveform of ``samples``: one a step, rounded, and at least one."""
    step = settings.step_samples
    return max(1, (samples + step // 2) // step)


def lfbe(waveform: Waveform, settings: FrontEnd) -> Frames:
    """Log mel filterbank energies of a mono waveform at ``settings.sampling_rate``.

    Args:
        waveform: (samples,), -1 to 1
        settings: window, step and number of filters

    Returns:
        (T, filters) float32, T = :func:`frame_count`; frame t is centred on sample (t + 1/2) * step

    Raises:
        ValueError: if the waveform is empty or not one-dimensional
    """
    if waveform.ndim != 1 or waveform.size == 0:
        raise ValueError(f"a waveform must have the shape (samples,) and not be empty, got {waveform.shape}")
    frames, offsets = _emphasised_frames(waveform.astype(np.float32, copy=False), settings)
    taper, filters = _povey_window(settings.window_samples), _mel_filters(settings)
    size = _fft_size(settings.window_samples)
    energies: Frames = np.empty((len(frames), settings.filters), np.float32)
    shaped = np.empty((min(_BLOCK, len(frames)), settings.window_samples), np.float32)
    for start in range(0, len(frames), _BLOCK):
        block = slice(start, start + _BLOCK)
        windowed = np.subtract(frames[block], offsets[block], out=shaped[: len(frames) - start])
        windowed *= taper
        spectrum = rfft(windowed, size)
        power = spectrum.real**2
        power += spectrum.imag**2
        np.matmul(power, filters, out=energies[block])
    np.maximum(energies, FLOOR, out=energies)
    np.log(energies, out=energies)
    return energies


def _emphasised_frames(waveform: Waveform, settings: FrontEnd) -> tuple[Frames, Frames]:
    """Overlapping frames after pre-emphasis, (T, window), and what the mean of each still adds to it, (T, 1).

    Kaldi takes the mean off a frame before it emphasises it. Both are linear, so that the waveform is emphasised once
    for all frames, and (1 - 0.97) of its mean taken off a frame afterwards. That differs in the first sample of a
    frame alone, whose predecessor is in no frame of Kaldi's; the window makes it 0.
    """
    window, step = settings.window_samples, settings.step_samples
    count = frame_count(waveform.size, settings)
    before = (window - step) // 2
    after = max(0, (count - 1) * step + window - before - waveform.size)
    padded = np.pad(waveform, (before, after), mode="symmetric")
    emphasised = np.zeros_like(padded)
    np.multiply(padded[:-1], -PRE_EMPHASIS, out=emphasised[1:])
    emphasised[1:] += padded[1:]
    # What adjacent frames share is summed once.
    part = math.gcd(window, step)
    sums = padded[: padded.size // part * part].reshape(-1, part).sum(1)
    offsets = _overlapping(sums, window // part, step // part, count).sum(1, keepdims=True)
    offsets *= np.float32(1 - PRE_EMPHASIS) / window
    return _overlapping(emphasised, window, step, count), offsets


def _overlapping(values: NDArray[np.float32], size: int, step: int, count: int) -> NDArray[np.float32]:
    return np.lib.stride_tricks.sliding_window_view(values, size)[::step][:count]


def normalise(energies: Frames, settings: FrontEnd) -> Frames:
    """Energies of an utterance as the network reads them, (T, filters) to (T, filters).

    What is more than ``floor_db`` below the loudest energy is raised to that. Then each filter, or all of them
    together, get mean 0 and variance 1 over the time of the utterance; what is constant becomes 0.
    """
    if settings.floor_db is not None:
        energies = np.maximum(energies, energies.max() - np.float32(settings.floor_db * math.log(10) / 10))
    frames = energies if settings.normalised == "filters" else energies.reshape(-1, 1)
    centred = frames - frames.mean(0, dtype=np.float64)
    spread = np.sqrt(np.einsum("tf,tf->f", centred, centred) / len(frames))
    centred *= np.where(spread > 1e-5, 1.0 / np.maximum(spread, 1e-5), 0.0)
    normalised: Frames = centred.astype(np.float32).reshape(energies.shape)
    return normalised


def extract(waveform: Waveform, settings: FrontEnd) -> Frames:
    """What the network reads before stacking: normalised LFBE, (T, filters), or the samples themselves, (T, 1)."""
    return waveform[:, None] if settings.kind == "waveform" else normalise(lfbe(waveform, settings), settings)


def stack(frames: Frames, width: int) -> Frames:
    """Join ``width`` adjacent frames and skip the steps between: (T, D) -> (ceil(T / width), width * D).

    The last group is filled with the mean of normalised frames, which is 0.
    """
    if width == 1:
        return frames
    steps, filters = frames.shape
    groups = -(-steps // width)
    stacked = np.zeros((groups * width, filters), frames.dtype)
    stacked[:steps] = frames
    return stacked.reshape(groups, width * filters)


def _fft_size(window: int) -> int:
    """Kaldi rounds up to a power of two, which sets the frequencies of the bins."""
    return 1 << (window - 1).bit_length()


@lru_cache
def _povey_window(size: int) -> NDArray[np.float32]:
    phase = 2 * np.pi * np.arange(size) / (size - 1)
    return ((0.5 - 0.5 * np.cos(phase)) ** 0.85).astype(np.float32)


def filter_edges(settings: FrontEnd) -> NDArray[np.float64]:
    """Frequencies in Hz, (filters + 2,): filter k begins at the k-th, peaks at the next and ends at the one after."""
    edges: NDArray[np.float64] = 700.0 * np.expm1(_mel_edges(settings) / 1127.0)
    return edges


def _mel(hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    return 1127.0 * np.log1p(np.asarray(hz) / 700.0)


def _mel_edges(settings: FrontEnd) -> NDArray[np.float64]:
    low, high = _mel(LOW_HZ), _mel(settings.sampling_rate / 2 - BELOW_NYQUIST_HZ)
    return np.linspace(low, high, settings.filters + 2)


@lru_cache
def _mel_filters(settings: FrontEnd) -> NDArray[np.float32]:
    """Triangles that are equally spaced on the mel scale: (size / 2 + 1, filters)."""
    size = _fft_size(settings.window_samples)
    bins = _mel(np.arange(size // 2 + 1) * settings.sampling_rate / size)[:, None]
    edges = _mel_edges(settings)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - left) / (centre - left), (right - bins) / (right - centre))
    return np.maximum(triangles, 0).astype(np.float32)
