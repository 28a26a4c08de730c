"""Audio becomes clips: what the network reads of a stretch of audio, and what a reader of its numbers should know."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.audio import MAX_CHANNELS, SAMPLING_RATES, probe, read_blocks, read_parts, resample
from sa2sr.config import FrontEnd
from sa2sr.errors import AudioError
from sa2sr.inference.windows import Part, Windows, cut
from sa2sr.speech.features import Frames, Waveform, extract, stack

SILENCE = 1e-4  # the peak of a clip without sound: three steps of 16-bit audio
FULL_SCALE = 0.99  # from here on, a sample may have been cut off
CLIPPED_SHARE = 1e-3  # of the samples, from which on a clip is noted as clipped


@dataclass(frozen=True)
class Clip:
    """A stretch of audio, ready for the network."""

    file: str
    start: float  # seconds
    end: float  # seconds
    note: str  # why its numbers should be read with care
    frames: Frames  # (T', D), stacked


def file_clips(
    path: str | Path, frontend: FrontEnd, *, longest: float, shortest: float, windows: Windows | None = None
) -> Iterator[Clip]:
    """A file as one clip, or as consecutive clips of equal duration where it is longer than ``longest``; or windows.

    Memory is bounded by a clip.

    Args:
        path: the audio file
        frontend: of the model
        longest: duration of a clip at most, in seconds; it does not concern windows
        shortest: shorter clips are noted, in seconds
        windows: overlapping clips instead

    Raises:
        AudioError: if the file cannot be decoded, possibly after some clips
    """
    source_rate, rate = probe(path).sampling_rate, frontend.sampling_rate
    parts = cut(read_blocks(path, rate), windows, rate) if windows else _consecutive(read_parts(path, rate, longest))
    return (make_clip(part, str(path), source_rate, frontend, shortest) for part in parts)


def array_clips(
    samples: Any,
    sampling_rate: int | None,
    name: str,
    frontend: FrontEnd,
    *,
    longest: float,
    shortest: float,
    windows: Windows | None = None,
) -> Iterator[Clip]:
    """An array (samples,) or (channels, samples) as :func:`file_clips` does a file.

    Floating point samples have a full scale of 1, integers that of their type.

    Raises:
        AudioError: if it is not audio, naming what is wrong
    """
    if sampling_rate is None:
        raise AudioError(name, "an array needs its sampling rate, such as predict(samples, 16000)")
    source_rate, rate = checked_rate(sampling_rate, name), frontend.sampling_rate
    waveform = resample(mono(np.asarray(samples), name), source_rate, rate)
    if windows:
        parts = cut([waveform], windows, rate)
    else:
        count = math.ceil(len(waveform) / rate / longest)
        size = math.ceil(len(waveform) / count)
        parts = _consecutive(waveform[begin : begin + size] for begin in range(0, len(waveform), size))
    return (make_clip(part, name, source_rate, frontend, shortest) for part in parts)


def make_clip(part: Part, file: str, source_rate: int, frontend: FrontEnd, shortest: float) -> Clip:
    """A part of a waveform as a clip.

    Args:
        part: where it begins, and its samples at the rate of the model
        file: that it comes from
        source_rate: sampling rate there, in Hz
        frontend: of the model
        shortest: shorter clips are noted, in seconds
    """
    start, waveform = part
    rate = frontend.sampling_rate
    note = "; ".join(_notes(waveform, source_rate, rate, shortest))
    frames = stack(extract(waveform, frontend), frontend.stack)
    return Clip(file, start / rate, (start + len(waveform)) / rate, note, frames)


def checked_rate(sampling_rate: int, name: str) -> int:
    """The sampling rate of an array.

    Raises:
        AudioError: if speech does not have such
    """
    if not SAMPLING_RATES[0] <= sampling_rate <= SAMPLING_RATES[1]:
        raise AudioError(name, f"{sampling_rate} Hz is not the sampling rate of speech")
    return sampling_rate


def _consecutive(waveforms: Iterable[Waveform]) -> Iterator[Part]:
    start = 0
    for waveform in waveforms:
        yield start, waveform
        start += len(waveform)


def _notes(waveform: Waveform, source_rate: int, rate: int, shortest: float) -> Iterator[str]:
    """Why the numbers of a waveform should be read with care, as the network hears it: mono, at its own rate."""
    if len(waveform) < shortest * rate:
        yield "short"
    magnitudes = np.abs(waveform)
    if magnitudes.max() < SILENCE:
        yield "silent"
    # Samples far beyond full scale were never cut off: such a file, or array, has another scale.
    if (magnitudes >= FULL_SCALE).mean() > CLIPPED_SHARE and magnitudes.max() < 1.5:
        yield "clipped"
    if source_rate < rate:
        yield f"upsampled from {source_rate} Hz"


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
        waveform: Waveform = np.atleast_2d(scaled).mean(0).astype(np.float32)
    if not np.isfinite(waveform).all():
        raise AudioError(name, "holds samples that are not finite numbers")
    return waveform
