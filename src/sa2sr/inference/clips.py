"""Audio becomes clips: what the network reads of a stretch of audio, and what a reader of its numbers should know."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.audio import MAX_CHANNELS, SAMPLING_RATES, opened, resample, to_mono
from sa2sr.config import FrontEnd
from sa2sr.errors import AudioError, ModelError
from sa2sr.inference.voice import RATE, speech_in
from sa2sr.inference.windows import Part, Windows, cut
from sa2sr.speech.features import FLOOR, Frames, Waveform, filter_edges, lfbe, normalise, stack

SILENCE = 1e-4  # the peak of a clip without sound: three steps of 16-bit audio
FULL_SCALE = 0.99  # from here on, a sample may have been cut off
CLIPPED_SHARE = 1e-3  # of the samples, from which on a clip is noted as clipped
NARROW_HZ, NARROW_SHARE = 4200.0, 1e-4  # a clip with less of its energy above is noted as narrowband


@dataclass(frozen=True)
class Recording:
    """Where clips come from."""

    file: str
    sampling_rate: int  # Hz
    channels: int = 1
    start: float = 0.0  # seconds, of the first part


@dataclass(frozen=True)
class Clip:
    """A stretch of audio, ready for the network."""

    file: str
    start: float  # seconds
    end: float  # seconds
    note: str  # why its numbers should be read with care
    frames: Frames  # (T', D), stacked; or (samples, 1)


def file_clips(
    path: str | Path,
    frontend: FrontEnd,
    *,
    longest: float,
    shortest: float,
    windows: Windows | None = None,
    vad: bool = False,
    start: float = 0.0,
    end: float | None = None,
) -> Iterator[Clip]:
    """A file as one clip, or as consecutive clips of equal duration where it is longer than ``longest``; or windows.

    Memory is bounded by a clip.

    Args:
        path: the audio file
        frontend: of the model
        longest: duration of a clip at most, in seconds; it does not concern windows
        shortest: shorter clips are noted, in seconds
        windows: overlapping clips instead
        vad: stretches of speech instead
        start: where to begin, in seconds
        end: where to end, in seconds; by default the end of the file

    Raises:
        AudioError: if the file cannot be decoded, possibly after some clips
    """
    rate, duration = frontend.sampling_rate, None if end is None else end - start
    with opened(path) as audio:
        if windows or vad:
            parts = _chosen(audio.blocks(rate, offset=start, duration=duration), rate, windows, longest)
        else:
            parts = _consecutive(audio.parts(rate, longest, offset=start, duration=duration))
        heard = Recording(str(path), audio.info.sampling_rate, audio.info.channels, start)
        for part in parts:
            yield make_clip(part, heard, frontend, shortest)


def array_clips(
    samples: Any,
    sampling_rate: int | None,
    name: str,
    frontend: FrontEnd,
    *,
    longest: float,
    shortest: float,
    windows: Windows | None = None,
    vad: bool = False,
) -> Iterator[Clip]:
    """An array (samples,) or (channels, samples) as :func:`file_clips` does a file.

    Floating point samples have a full scale of 1, integers that of their type.

    Raises:
        AudioError: if it is not audio, naming what is wrong
    """
    if sampling_rate is None:
        raise AudioError(name, "an array needs its sampling rate, such as predict(samples, 16000)")
    source_rate, rate = checked_rate(int(sampling_rate), name), frontend.sampling_rate
    array = np.asarray(samples)
    waveform = resample(mono(array, name), source_rate, rate)
    if windows or vad:
        parts = _chosen([waveform], rate, windows, longest)
    else:
        count = math.ceil(len(waveform) / rate / longest)
        size = math.ceil(len(waveform) / count)
        parts = _consecutive(waveform[begin : begin + size] for begin in range(0, len(waveform), size))
    heard = Recording(name, source_rate, 1 if array.ndim == 1 else array.shape[0])
    return (make_clip(part, heard, frontend, shortest) for part in parts)


def make_clip(part: Part, source: Recording, frontend: FrontEnd, shortest: float) -> Clip:
    """A part of a waveform as a clip.

    Args:
        part: where it begins, and its samples at the rate of the model
        source: that it comes from
        frontend: of the model
        shortest: shorter clips are noted, in seconds
    """
    begin, waveform = part
    rate = frontend.sampling_rate
    energies = lfbe(waveform, frontend)
    note = "; ".join(_notes(waveform, energies, source, frontend, shortest))
    # Waveforms are read as they are; their energies serve the notes alone.
    frames = waveform[:, None] if frontend.kind == "waveform" else stack(normalise(energies, frontend), frontend.stack)
    start, end = (source.start + at / rate for at in (begin, begin + len(waveform)))
    return Clip(source.file, start, end, note, frames)


def checked_rate(sampling_rate: int, name: str) -> int:
    """The sampling rate of an array.

    Raises:
        AudioError: if speech does not have such
    """
    if not SAMPLING_RATES[0] <= sampling_rate <= SAMPLING_RATES[1]:
        raise AudioError(name, f"{sampling_rate} Hz is not the sampling rate of speech")
    return sampling_rate


def _chosen(blocks: Iterable[Waveform], rate: int, windows: Windows | None, longest: float) -> Iterator[Part]:
    """Windows, or stretches of speech where there are none."""
    if windows:
        return cut(blocks, windows, rate)
    if rate != RATE:
        raise ModelError(f"speech is found at {RATE} Hz; the model hears {rate} Hz")
    return speech_in(blocks, longest)


def _consecutive(waveforms: Iterable[Waveform]) -> Iterator[Part]:
    start = 0
    for waveform in waveforms:
        yield start, waveform
        start += len(waveform)


def _notes(
    waveform: Waveform, energies: Frames, source: Recording, frontend: FrontEnd, shortest: float
) -> Iterator[str]:
    """Why the numbers of a waveform should be read with care, as the network hears it: mono, at its own rate."""
    rate = frontend.sampling_rate
    is_short = len(waveform) < shortest * rate
    if is_short:
        yield "short"
    peak = max(float(waveform.max()), -float(waveform.min()))
    if peak < SILENCE:
        yield "silent"
    # Samples far beyond full scale were never cut off: such a file, or array, has another scale.
    if FULL_SCALE <= peak < 1.5 and (np.abs(waveform) >= FULL_SCALE).mean() > CLIPPED_SHARE:
        yield "clipped"
    if source.sampling_rate < rate:
        yield f"upsampled from {source.sampling_rate} Hz"
    elif not is_short and peak >= SILENCE and _is_narrowband(energies, frontend):
        yield "narrowband"
    if source.channels > 2:
        yield f"mixed from {source.channels} channels"


def _is_narrowband(energies: Frames, frontend: FrontEnd) -> bool:
    """Whether next to nothing is above 4 kHz, as after a telephone line, whatever the sampling rate says."""
    high = _filters_above(NARROW_HZ, frontend)
    if not high:
        return False
    # What the floor adds to each energy is taken away again.
    above = float(np.exp(energies[:, -high:]).mean(0, dtype=np.float64).sum()) - high * FLOOR
    below = float(np.exp(energies[:, :-high]).mean(0, dtype=np.float64).sum())
    return above < NARROW_SHARE * (above + below)


@lru_cache
def _filters_above(hz: float, frontend: FrontEnd) -> int:
    return int((filter_edges(frontend)[:-2] >= hz).sum())


def mono(samples: NDArray[Any], name: str) -> Waveform:
    """Mix an array (samples,) or (channels, samples) of any numeric type to a waveform of full scale 1.

    Raises:
        AudioError: if it is not audio, naming what is wrong
    """
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise AudioError(name, f"an array must be (samples,) or (channels, samples), not {samples.shape}")
    if samples.ndim == 2 and samples.shape[0] > MAX_CHANNELS:
        raise AudioError(
            name, f"an array of shape {samples.shape} has {samples.shape[0]} channels: is it (samples, channels)?"
        )
    if np.issubdtype(samples.dtype, np.integer):
        limits = np.iinfo(samples.dtype)
        half = (int(limits.max) - int(limits.min) + 1) / 2
        scaled = (samples - (half + limits.min)) / half
    elif np.issubdtype(samples.dtype, np.floating):
        scaled = samples
    else:
        raise AudioError(name, f"samples must be numbers, not {samples.dtype}")
    with np.errstate(over="ignore"):
        waveform = to_mono(np.atleast_2d(scaled).T)
    if not np.isfinite(waveform).all():
        raise AudioError(name, "holds samples that are not finite numbers")
    return waveform
