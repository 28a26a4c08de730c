"""Audio in containers that libsndfile does not read: m4a, mp4, webm, aac and their like, by PyAV (FFmpeg's libraries).

The demuxer is chosen by the first bytes of a file, among a few that read nothing but that file: FFmpeg knows playlists
and protocols too, which a stranger's file must not reach.
"""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.errors import AudioError

SUFFIXES = (".m4a", ".mp4", ".webm", ".aac", ".mov", ".mkv", ".mka", ".3gp", ".wma", ".amr")
_MAGIC = {  # demuxer: position and bytes
    "mov": (4, (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")),
    "matroska": (0, (b"\x1a\x45\xdf\xa3",)),
    "aac": (0, (b"\xff\xf1", b"\xff\xf9")),
    "asf": (0, (b"\x30\x26\xb2\x75",)),
    "amr": (0, (b"#!AMR",)),
}
_SEEK_FROM = 30.0  # seconds into a file, from which on a seek is worth its inexactness
_BEFORE = 1.0  # seconds before the wanted sample where decoding begins after a seek; decoders need some to settle
# Microseconds; in these files a first packet, with which a codec settles, has a time before zero.
_BEGINNING = {"matroska": -1_000_000}
_BLOCK_VALUES = 1 << 17  # samples of all channels that are gathered at a time


def demuxer_of(beginning: bytes) -> str | None:
    """The demuxer of a file that begins so; None where libsndfile is to be asked."""
    for name, (position, magic) in _MAGIC.items():
        if beginning[position:].startswith(magic):
            return name
    return None


class Container:
    """The first audio track of a file.

    Attributes:
        sampling_rate: in Hz
        channels: how many
        samples: per channel, as the file says; what is decoded may differ a little
    """

    def __init__(self, path: Path, demuxer: str) -> None:
        """Open it.

        Raises:
            AudioError: if it has no audio, is damaged, or PyAV is not installed
        """
        try:
            import av
        except ImportError:
            raise AudioError(
                path, "is in a container that needs PyAV: pip install 'sa2sr[av]', or convert it with ffmpeg"
            ) from None
        self.path, self._demuxer, self._av = path, demuxer, av
        av.logging.set_level(av.logging.PANIC)  # what goes wrong is raised
        self._file = path.open("rb")
        # Titles need not be Unicode. PyAV 19 bears that by itself, and does not know the option any more.
        lenient = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
        try:
            # A file object, not a name: FFmpeg then opens nothing by itself.
            self._container: Any = av.open(self._file, format=demuxer, **lenient)
        except (av.FFmpegError, EOFError, ValueError) as error:
            self._file.close()
            raise AudioError(path, f"is not audio that FFmpeg can read ({_reason(error)})") from None
        try:
            tracks = self._container.streams.audio
            if not tracks:
                raise AudioError(path, "has no audio track")
            self._track = tracks[0]
            self._track.codec_context.thread_count = 1
            self.sampling_rate = int(self._track.codec_context.sample_rate)
            self.channels = int(self._track.codec_context.channels)
            self.samples = round(self._seconds() * self.sampling_rate)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> "Container":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()
        self._file.close()

    def blocks(self, start: int, count: int | None) -> Iterator[NDArray[np.float32]]:
        """Decode ``count`` samples from ``start``, a block (samples, channels) at a time.

        Raises:
            AudioError: if they cannot be decoded, possibly after some blocks
        """
        waiting: list[NDArray[np.float32]] = []
        values = 0
        for samples in self._wanted(start, count):
            waiting.append(samples)
            values += samples.size
            if values >= _BLOCK_VALUES:
                yield np.concatenate(waiting)
                waiting, values = [], 0
        if waiting:
            yield np.concatenate(waiting)

    def _wanted(self, start: int, count: int | None) -> Iterator[NDArray[np.float32]]:
        """Of each frame what is asked for, (samples, channels)."""
        end = None if count is None else start + count
        position: int | None = 0
        self._container.seek(_BEGINNING.get(self._demuxer, 0))
        if start >= _SEEK_FROM * self.sampling_rate:
            origin = next((self._time(frame) for frame in self._frames()), 0.0)
            seconds, position = origin + start / self.sampling_rate - _BEFORE, None
            self._container.seek(int(seconds / self._track.time_base), stream=self._track)
        for frame in self._frames():
            if position is None:  # after a seek the time of the first frame says where it is
                position = round((self._time(frame) - origin) * self.sampling_rate)
            samples = self._samples(frame)
            first, last = max(0, start - position), len(samples) if end is None else end - position
            if (wanted := samples[first : max(0, last)]).size:
                yield wanted
            position += len(samples)
            if end is not None and position >= end:
                return

    def _time(self, frame: Any) -> float:
        return float((frame.pts or 0) * self._track.time_base)

    def _frames(self) -> Iterator[Any]:
        try:
            yield from self._container.decode(self._track)
        except (self._av.FFmpegError, EOFError, ValueError) as error:
            raise AudioError(self.path, f"cannot be decoded ({_reason(error)}); is it truncated?") from None

    def _samples(self, frame: Any) -> NDArray[np.float32]:
        """A frame as (samples, channels) of full scale 1."""
        channels = frame.layout.nb_channels
        if frame.sample_rate != self.sampling_rate or channels != self.channels:
            raise AudioError(
                self.path,
                f"changes from {self.channels} channel(s) at {self.sampling_rate} Hz to {channels} at "
                f"{frame.sample_rate} Hz; convert it with ffmpeg",
            )
        array: NDArray[Any] = frame.to_ndarray()
        array = array.T if frame.format.is_planar else array.reshape(-1, channels)
        if np.issubdtype(array.dtype, np.unsignedinteger):
            return (array.astype(np.float32) - np.float32(128)) / np.float32(128)
        full = -float(np.iinfo(array.dtype).min) if np.issubdtype(array.dtype, np.integer) else 1.0
        samples: NDArray[np.float32] = np.ascontiguousarray(array / full, np.float32)
        return samples

    def _seconds(self) -> float:
        """Duration of the track; where it does not say, as in webm and mkv, its packets are counted.

        Such a file may say how long it is as a whole, which its longest track must reach. One from a browser's recorder
        says nothing, and has what it has.
        """
        if self._track.duration:
            return float(self._track.duration * self._track.time_base)
        ends = {track.index: 0.0 for track in self._container.streams}
        try:
            for packet in self._container.demux():
                if packet.pts is not None:
                    end = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    ends[packet.stream.index] = max(ends[packet.stream.index], end)
        except (self._av.FFmpegError, EOFError, ValueError) as error:
            raise AudioError(self.path, f"cannot be decoded ({_reason(error)}); is it truncated?") from None
        promised, found = (self._container.duration or 0) / self._av.time_base, max(ends.values())
        if found < 0.99 * promised - 0.1:
            raise AudioError(self.path, f"is truncated: {found:g} of {promised:g} s are there")
        return ends[self._track.index] - float((self._track.start_time or 0) * self._track.time_base)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0] if str(error) else type(error).__name__
