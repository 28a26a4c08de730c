"""Classical features: how filterbank energies, loudness and pitch are distributed over an utterance."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import FrontEnd, FunctionalFeatures
from sa2sr.errors import UserError
from sa2sr.speech.features import Waveform, lfbe
from sa2sr.vectors.pitch import pitch

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_PAUSE = 25.0  # decibels below the 95th percentile of loudness
_QUIETEST = 1e-5  # of full scale: -100 dB


def functionals(waveform: Waveform, frontend: FrontEnd, settings: FunctionalFeatures) -> NDArray[np.float64]:
    """The features of an utterance, (F,); NaN where there is no voice to have a pitch.

    Mean, standard deviation, five quantiles and mean absolute change a step of each filter's log energy, of the
    loudness in decibels and of the pitch in octaves; shares of pauses and of voiced steps; the logarithm of the
    duration.

    Args:
        waveform: (samples,), mono, at the rate of the front end
        frontend: filters, windows and steps
        settings: the range of the pitch
    """
    rate, step = frontend.sampling_rate, frontend.step_ms / 1000
    energies = lfbe(waveform, frontend).astype(np.float64)
    loudness = _loudness(waveform, frontend.step_samples)
    octaves = np.log2(pitch(waveform, rate, lowest=settings.lowest_hz, highest=settings.highest_hz, step=step))
    loud = np.quantile(loudness, 0.95) - _PAUSE
    shares = [(loudness < loud).mean(), np.isfinite(octaves).mean(), np.log(len(waveform) / rate)]
    tracks = np.concatenate([_distribution(energies).ravel(), _distribution(loudness[:, None]).ravel()])
    return np.concatenate([tracks, _of_pitch(octaves), shares])


@lru_cache(maxsize=1)
def _smile() -> Any:
    try:
        import opensmile
    except ImportError:
        message = "the features egemaps need the extra of that name (free for research): pip install 'sa2sr[egemaps]'"
        raise UserError(message) from None
    return opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
    )


def egemaps(waveform: Waveform, rate: int) -> NDArray[np.float64]:
    """The 88 functionals of eGeMAPS v02 (Eyben et al., 2016), (88,).

    Raises:
        UserError: if openSMILE is not installed
    """
    found: NDArray[np.float64] = _smile().process_signal(waveform, rate).to_numpy(np.float64).ravel()
    return found


def _loudness(waveform: Waveform, hop: int) -> NDArray[np.float64]:
    """Root mean square of each step, in decibels of full scale."""
    steps = -(-len(waveform) // hop)
    squares = np.pad(waveform.astype(np.float64), (0, steps * hop - len(waveform))).reshape(steps, hop) ** 2
    return np.asarray(20 * np.log10(np.maximum(np.sqrt(squares.mean(1)), _QUIETEST)))


def _distribution(tracks: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, C) -> (8, C)."""
    change = np.abs(np.diff(tracks, axis=0)).mean(0) if len(tracks) > 1 else np.zeros(tracks.shape[1])
    return np.stack([tracks.mean(0), tracks.std(0), *np.quantile(tracks, _QUANTILES, axis=0), change])


def _of_pitch(octaves: NDArray[np.float64]) -> NDArray[np.float64]:
    """As :func:`_distribution`, of the voiced steps; a change is one between two that follow each other."""
    voiced = octaves[np.isfinite(octaves)]
    if not len(voiced):
        return np.full(3 + len(_QUANTILES), np.nan)
    changes = np.abs(np.diff(octaves))
    changes = changes[np.isfinite(changes)]
    change = changes.mean() if len(changes) else 0.0
    return np.array([voiced.mean(), voiced.std(), *np.quantile(voiced, _QUANTILES), change])
