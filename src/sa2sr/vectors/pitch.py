"""Pitch by autocorrelation (after Boersma, 1993)."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from sa2sr.speech.features import Waveform

_VOICED = 0.45  # of the autocorrelation at the period: less is noise
_SILENCE = 0.03  # of the loudest frame: what is below is not heard
_OCTAVE_COST = 0.01  # of an octave below the highest pitch: two periods fit as well as one
_BLOCK = 512  # frames at a time


def pitch(waveform: Waveform, rate: int, *, lowest: float, highest: float, step: float = 0.01) -> NDArray[np.float64]:
    """The pitch of a mono waveform in Hz, (T,), one a step; NaN where there is no voice.

    The autocorrelation of a windowed frame is divided by that of the window, so that the height of its peaks says how
    periodic the frame is.

    Args:
        waveform: (samples,)
        rate: in Hz
        lowest: pitch in Hz; a frame holds three of its periods
        highest: pitch in Hz
        step: in seconds
    """
    width, hop = round(3 * rate / lowest), max(1, round(step * rate))
    count = 1 + len(waveform) // hop
    padded = np.pad(waveform.astype(np.float64), (width // 2, width))
    frames = np.lib.stride_tricks.sliding_window_view(padded, width)[::hop][:count]
    loudest = np.abs(waveform).max(initial=0.0)
    blocks = [frames[start : start + _BLOCK] for start in range(0, len(frames), _BLOCK)]
    return np.concatenate([_of_frames(block, rate, lowest, highest, _SILENCE * loudest) for block in blocks])


def _of_frames(
    frames: NDArray[np.float64], rate: int, lowest: float, highest: float, silence: float
) -> NDArray[np.float64]:
    width = frames.shape[1]
    size = next_fast_len(width + int(rate / lowest) + 2, real=True)
    window, of_window = _window(width, size)
    centred = frames - frames.mean(1, keepdims=True)
    power = np.abs(rfft(centred * window, size)) ** 2
    correlation = irfft(power, size)
    first, last = max(2, int(rate / highest)), int(rate / lowest)
    energy = correlation[:, :1]
    periodic = correlation[:, : last + 2] / np.where(energy > 0, energy, 1) / of_window[: last + 2]
    lags = np.arange(first, last + 1)
    middle = periodic[:, first : last + 1]
    before, after = periodic[:, first - 1 : last], periodic[:, first + 1 : last + 2]
    is_peak = (middle > before) & (middle >= after) & (middle > _VOICED)
    score = np.where(is_peak, middle - _OCTAVE_COST * np.log2(lags / first), -np.inf)
    best = score.argmax(1)
    rows = np.arange(len(frames))
    left, top, right = before[rows, best], middle[rows, best], after[rows, best]
    curvature = left - 2 * top + right  # the vertex of a parabola through the peak and its neighbours
    shift = np.where(curvature < 0, 0.5 * (left - right) / np.where(curvature < 0, curvature, 1), 0)
    voiced = np.isfinite(score[rows, best]) & (np.abs(frames).max(1) > silence)
    found: NDArray[np.float64] = np.where(voiced, rate / (lags[best] + shift), np.nan)
    return found


@lru_cache
def _window(width: int, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Hann's window, and its autocorrelation, 1 at the lag 0."""
    window = np.hanning(width + 2)[1:-1]
    correlation = irfft(np.abs(rfft(window, size)) ** 2, size)
    return window, correlation / correlation[0]
