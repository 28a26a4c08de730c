"""Audio files become mono waveforms at one sampling rate: the only place where audio is decoded.

Decoding is libsndfile's (wav, flac, mp3, ogg, opus, aiff, au and more) or, of containers such as m4a, mp4, webm and
aac, PyAV's; resampling is soxr's.
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sa2sr.containers import Container, demuxer_of
from sa2sr.errors import AudioError

SUFFIXES = (".wav", ".flac", ".mp3", ".opus", ".ogg", ".aiff", ".aif", ".au", ".w64")
MAX_CHANNELS = 256
SAMPLING_RATES = (1_000, 1_000_000)  # Hz; beyond, a header is wrong, and resampling would blow a file up
_LFS_POINTER = b"version https://git-lfs.github.com"
_BLOCK_VALUES = 1 << 18  # samples of all channels that are decoded at a time
# libsndfile's log of a header that promises more bytes than the file holds
_PROMISED_BYTES = re.compile(r"^\s*(?:data|SSND|Data Size|riff)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_UNKNOWN_LENGTH = 0x7FFFF000  # and more: what programs promise that write to a pipe


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file says of itself, before it is decoded."""

    sampling_rate: int  # Hz
    samples: int  # per channel
    channels: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.sampling_rate


def probe(path: str | Path) -> AudioInfo:
    """Read the header of an audio file.

    Raises:
        AudioError: if the file is missing, empty, not audio, or a Git LFS pointer in place of audio
    """
    with _open(path) as file:
        return _checked_info(path, file)


def read(
    path: str | Path,
    sampling_rate: int,
    *,
    offset: float = 0.0,
    duration: float | None = None,
    channels: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """Decode a file, or a part of it, to a mono waveform.

    Args:
        path: the audio file
        sampling_rate: of the result, in Hz
        offset: where to begin, in seconds
        duration: how much to read, in seconds; to the end by default
        channels: which channels to average, from 0; all by default

    Returns:
        (samples,) float32, finite. Full scale is 1; a file in a float format may exceed it

    Raises:
        AudioError: if nothing can be decoded there
    """
    with _open(path) as file:
        info = _checked_info(path, file)
        start, count = _span(path, info, offset, duration)
        if channels is not None and (not channels or min(channels) < 0 or max(channels) >= info.channels):
            raise AudioError(path, f"has {info.channels} channel(s), so channels {list(channels)} do not exist")
        kept = slice(None) if channels is None else list(channels)
        mono = [to_mono(block[:, kept]) for block in _blocks(path, file, info, start, count)]
    waveform = mono[0] if len(mono) == 1 else np.concatenate(mono)
    return resample(waveform, info.sampling_rate, sampling_rate)


class Audio:
    """An audio file that is open.

    Attributes:
        info: what it says of itself
    """

    def __init__(self, path: str | Path, decoder: "_Decoder") -> None:
        self.path, self._decoder = path, decoder
        self.info = _checked_info(path, decoder)

    def blocks(
        self, sampling_rate: int, *, offset: float = 0.0, duration: float | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Decode it, or a part of it, in blocks of some seconds at most which, joined, are what :func:`read` gives.

        Args:
            sampling_rate: of the blocks, in Hz
            offset: where to begin, in seconds
            duration: how much to read, in seconds; to the end by default

        Raises:
            AudioError: if it cannot be decoded, possibly after some blocks
        """
        start, count = _span(self.path, self.info, offset, duration)
        resampler = Resampler(self.info.sampling_rate, sampling_rate)
        for block in _blocks(self.path, self._decoder, self.info, start, count):
            yield resampler.push(to_mono(block))
        yield resampler.flush()

    def parts(
        self, sampling_rate: int, longest: float, *, offset: float = 0.0, duration: float | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Likewise, in consecutive parts of equal duration; memory is bounded by a part, and nothing is decoded twice.

        Args:
            sampling_rate: of the parts, in Hz
            longest: duration of a part at most, in seconds (and half a second, where a header promises too little)
            offset: where to begin, in seconds
            duration: how much to read, in seconds; to the end by default

        Raises:
            AudioError: if it cannot be decoded, possibly after some parts
        """
        start, samples = _span(self.path, self.info, offset, duration)
        left = self.info.samples - start
        seconds = (left if samples is None else min(left, samples)) / self.info.sampling_rate
        count = math.ceil(seconds / longest)
        size = math.ceil((longest if count == 1 else seconds / count) * sampling_rate)
        slack = sampling_rate // 2
        waiting = np.zeros(0, np.float32)
        for waveform in self.blocks(sampling_rate, offset=offset, duration=duration):
            waiting = np.concatenate([waiting, waveform]) if waiting.size else waveform
            while len(waiting) > size + slack:
                yield waiting[:size]
                waiting = waiting[size:]
        if len(waiting):
            yield waiting


@contextmanager
def opened(path: str | Path) -> Iterator[Audio]:
    """Open an audio file.

    Raises:
        AudioError: as :func:`probe`
    """
    with _open(path) as decoder:
        yield Audio(path, decoder)


def verify(path: str | Path) -> AudioInfo:
    """Decode a whole file, in bounded memory, and count what comes out.

    Headers of compressed files may promise a little more or less than the decoder gives; these numbers are exact.

    Raises:
        AudioError: if :func:`read` could not read the file
    """
    with _open(path) as file:
        info = _checked_info(path, file)
        samples = sum(len(block) for block in _blocks(path, file, info, 0, None))
    return AudioInfo(info.sampling_rate, samples, info.channels)


def to_mono(samples: NDArray[np.floating]) -> NDArray[np.float32]:
    """Average the channels: (samples, channels) -> (samples,), an array of its own.

    The channels are added one after the other, in double precision, so that what comes out depends neither on how they
    lie in memory nor on where the audio was cut.
    """
    if samples.shape[1] == 1:
        return samples[:, 0].astype(np.float32)
    total = np.zeros(len(samples))
    for channel in samples.T:
        total += channel
    mean: NDArray[np.float32] = (total / samples.shape[1]).astype(np.float32)
    return mean


def resample(waveform: NDArray[np.float32], source_rate: float, target_rate: float) -> NDArray[np.float32]:
    """Change the sampling rate of a mono waveform (soxr, high quality)."""
    if source_rate == target_rate or waveform.size == 0:
        return np.ascontiguousarray(waveform, np.float32)
    resampled: NDArray[np.float32] = soxr.resample(waveform.astype(np.float32, copy=False), source_rate, target_rate)
    # A handful of samples can resample to none; one sample is still audio.
    return resampled if resampled.size else waveform[:1].astype(np.float32)


class Resampler:
    """Resamples a mono waveform that comes in blocks; the results, joined, are what :func:`resample` gives of all."""

    def __init__(self, source_rate: int, target_rate: int) -> None:
        equal = source_rate == target_rate
        self._stream = None if equal else soxr.ResampleStream(source_rate, target_rate, 1, dtype="float32")
        self._first = np.zeros(0, np.float32)
        self._nothing_came = True

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take (samples,) and give what is ready, which may be nothing yet."""
        if self._stream is None:
            return np.ascontiguousarray(block, np.float32)
        self._first = self._first if self._first.size else block[:1].astype(np.float32)
        return self._given(self._stream.resample_chunk(block.astype(np.float32, copy=False)))

    def flush(self) -> NDArray[np.float32]:
        """Give the rest; the waveform is over."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest = self._given(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))
        return self._first if self._nothing_came else rest  # as in `resample`

    def _given(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        self._nothing_came = self._nothing_came and not waveform.size
        return waveform


def change_speed(waveform: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Play ``factor`` times as fast: duration divided by, and pitch multiplied by ``factor``."""
    # soxr wants rates of ordinary size; only their ratio matters.
    return resample(waveform, 16_000 * factor, 16_000)


class _Decoder(Protocol):
    """An open file."""

    sampling_rate: int  # Hz
    samples: int  # per channel, as the file says
    channels: int

    def blocks(self, start: int, count: int | None) -> Iterator[NDArray[np.float32]]:
        """Decode ``count`` samples from ``start``, a block (samples, channels) at a time."""


@contextmanager
def _open(path: str | Path) -> Iterator[_Decoder]:
    """The decoder of a file, which is chosen by its first bytes."""
    path = Path(path)
    beginning = _beginning(path)
    demuxer = demuxer_of(beginning)
    if demuxer is not None:
        with Container(path, demuxer) as container:
            yield container
        return
    try:
        # Bytes, since names on POSIX need not be Unicode
        file = soundfile.SoundFile(os.fsencode(path) if os.name == "posix" else str(path))
    except (soundfile.LibsndfileError, TypeError) as error:
        # raw formats need parameters that a file does not carry, hence TypeError
        reason = getattr(error, "error_string", error)
        raise AudioError(path, f"is not audio that libsndfile can read ({reason})") from None
    with file:
        yield _SoundFile(path, file)


class _SoundFile:
    """A file that libsndfile decodes."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path, self._file = path, file
        self.sampling_rate, self.samples, self.channels = int(file.samplerate), int(file.frames), int(file.channels)
        for promised, found in _PROMISED_BYTES.findall(file.extra_info):
            if int(found) < 0.99 * int(promised) and int(promised) < _UNKNOWN_LENGTH:
                raise AudioError(path, f"is truncated: {found} of {promised} bytes of audio are there")
        if file.format == "OGG" and _ends_within_page(path):
            raise AudioError(path, "is truncated: it ends within an Ogg page")

    def blocks(self, start: int, count: int | None) -> Iterator[NDArray[np.float32]]:
        """As :meth:`_Decoder.blocks`."""
        size = max(1, _BLOCK_VALUES // self.channels)
        left = math.inf if count is None else count
        try:
            if start:
                self._file.seek(start)
            while left and len(block := self._file.read(int(min(size, left)), dtype="float32", always_2d=True)):
                left -= len(block)
                yield block
        except soundfile.LibsndfileError as error:
            raise AudioError(self.path, f"cannot be decoded ({error}); is it truncated?") from None


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS leaves in place of audio that it has not fetched."""
    try:
        with path.open("rb") as raw:
            return raw.read(len(_LFS_POINTER)) == _LFS_POINTER
    except OSError:
        return False


def _beginning(path: Path) -> bytes:
    """The first bytes of a file."""
    try:
        if not path.is_file():
            raise AudioError(path, "is not a file" if path.exists() else "does not exist")
        with path.open("rb") as raw:
            beginning = raw.read(len(_LFS_POINTER))
    except OSError as error:
        raise AudioError(path, f"cannot be opened ({error.strerror})") from None
    except ValueError as error:  # a NUL byte in the name
        raise AudioError(path, f"is not a file name ({error})") from None
    if not beginning:
        raise AudioError(path, "is empty (0 bytes)")
    if beginning == _LFS_POINTER:
        raise AudioError(path, "is a Git LFS pointer, not audio; fetch the audio with 'git lfs pull'")
    return beginning


def _span(path: str | Path, info: AudioInfo, offset: float, duration: float | None) -> tuple[int, int | None]:
    """Where to begin and how much to decode, in samples of the file."""
    if not math.isfinite(offset) or not (duration is None or 0 < duration < math.inf):
        raise AudioError(path, f"cannot be read from {offset:g} s for {duration} s")
    start = round(min(max(offset, -1.0), info.seconds) * info.sampling_rate)  # products of larger numbers overflow
    if not 0 <= start < info.samples:
        raise AudioError(path, f"begins at {offset:g} s, but the file has {info.seconds:g} s")
    most = math.inf if duration is None else duration * info.sampling_rate
    return start, None if math.isinf(most) else max(1, round(most))


def _checked_info(path: str | Path, file: _Decoder) -> AudioInfo:
    if not SAMPLING_RATES[0] <= file.sampling_rate <= SAMPLING_RATES[1] or not 0 < file.channels <= MAX_CHANNELS:
        raise AudioError(path, f"is not speech: {file.channels} channel(s) at {file.sampling_rate} Hz")
    if file.samples <= 0:
        raise AudioError(path, "holds no samples")
    return AudioInfo(file.sampling_rate, file.samples, file.channels)


def _blocks(
    path: str | Path, file: _Decoder, info: AudioInfo, start: int, count: int | None
) -> Iterator[NDArray[np.float32]]:
    """Decode ``count`` samples from ``start``, a block (samples, channels) at a time: at least one, all finite."""
    expected = info.samples - start if count is None else min(count, info.samples - start)
    decoded = 0
    for block in file.blocks(start, count):
        if not np.isfinite(block).all():
            raise AudioError(path, "holds samples that are not finite numbers")
        decoded += len(block)
        yield block
    if decoded == 0:
        raise AudioError(path, "holds no samples")
    if decoded < 0.99 * expected - info.sampling_rate * 0.1:
        raise AudioError(path, f"is truncated: {decoded} of {expected} samples could be decoded")


def _ends_within_page(path: str | Path) -> bool:
    """Whether the last page of an Ogg file is cut off; libsndfile silently leaves out such a page, up to a second."""
    longest = 27 + 255 + 255 * 255  # bytes of a page
    with Path(path).open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - longest))
        ending = file.read(longest)
    begin = ending.rfind(b"OggS\0")
    if begin < 0 or len(ending) < begin + 27:
        return True
    segments = ending[begin + 27 : begin + 27 + ending[begin + 26]]
    return len(ending) < begin + 27 + ending[begin + 26] + sum(segments)
