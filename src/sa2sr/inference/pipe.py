"""Audio from a pipe: WAV, whose header may not know how long it will be, or raw samples.

A WAV file is ``RIFF <size> WAVE``, then chunks, each an identifier of 4 bytes, a size of 4 and its content: ``fmt ``
says what the samples are and ``data`` holds them. Programs that write to a pipe give sizes of 0 or near 2^32.
"""

import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sa2sr.audio import MAX_CHANNELS
from sa2sr.errors import AudioError

NAME = "-"  # of the pipe, in tables
_CHUNK = 1 << 16  # bytes that are read at a time at most
_LONGEST_CHUNK = 1 << 20  # bytes of a chunk that is not audio
_UNKNOWN_SIZE = 0x7FFFF000  # and more, or 0
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_TYPES = {(_PCM, 8): "u1", (_PCM, 16): "<i2", (_PCM, 32): "<i4", (_FLOAT, 32): "<f4", (_FLOAT, 64): "<f8"}


class Pipe:
    """Audio that comes through a pipe.

    Attributes:
        sampling_rate: in Hz
        channels: how many
    """

    def __init__(self, source: BinaryIO, raw_rate: int | None = None) -> None:
        """Read the header.

        Args:
            source: of bytes, such as ``sys.stdin.buffer``
            raw_rate: sampling rate of raw samples of 16 bits, mono, little-endian; otherwise the pipe carries WAV

        Raises:
            AudioError: if it does not
        """
        self._read_some = getattr(source, "read1", source.read)  # what is there, without waiting for more
        if raw_rate is None:
            code, bits, self.channels, self.sampling_rate, self._left = _read_header(source)
        else:
            code, bits, self.channels, self.sampling_rate, self._left = _PCM, 16, 1, raw_rate, None
        self._promised = self._left or 0  # bytes of audio
        self._bytes = bits // 8  # of a sample
        self._type = "" if (code, bits) == (_PCM, 24) else _TYPES[code, bits]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Samples as they come: (samples,) or (channels, samples), in the type that they have.

        Raises:
            AudioError: after the last ones, if the header promised more
        """
        frame, rest = self._bytes * self.channels, b""
        while content := self._read():
            content = rest + content
            whole = len(content) - len(content) % frame
            rest = content[whole:]
            if whole:
                samples = self._decode(content[:whole]).reshape(-1, self.channels)
                yield samples[:, 0] if self.channels == 1 else samples.T
        if self._left is not None and self._left > 0.01 * self._promised:
            came = self._promised - self._left
            raise AudioError(NAME, f"is truncated: {came} of {self._promised} bytes of audio came")

    def _read(self) -> bytes:
        content: bytes = self._read_some(_CHUNK if self._left is None else min(_CHUNK, self._left))
        if self._left is not None:
            self._left -= len(content)
        return content

    def _decode(self, content: bytes) -> NDArray[Any]:
        if self._type:
            return np.frombuffer(content, self._type)
        wide = np.zeros((len(content) // 3, 4), np.uint8)  # 24 bits become the upper ones of 32
        wide[:, 1:] = np.frombuffer(content, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0]


def _read_header(source: BinaryIO) -> tuple[int, int, int, int, int | None]:
    """Format code, bits of a sample, channels, sampling rate, and bytes of audio where they are known."""
    beginning = source.read(12)
    if not beginning:
        raise AudioError(NAME, "nothing came through the pipe")
    if beginning[:4] not in (b"RIFF", b"RF64") or beginning[8:] != b"WAVE":
        raise AudioError(NAME, "is not WAV; convert it with 'ffmpeg -i ... -f wav -', or give --raw for raw samples")
    form: bytes | None = None
    while len(head := source.read(8)) == 8:
        name, size = head[:4], int.from_bytes(head[4:], "little")
        if name == b"data":
            if form is None:
                raise AudioError(NAME, "is WAV without a description of its samples")
            return *_read_format(form), (None if size == 0 or size >= _UNKNOWN_SIZE else size)
        if size > _LONGEST_CHUNK:
            raise AudioError(NAME, f"is damaged: a chunk {name!r} of {size:,} bytes precedes the audio")
        content = source.read(size + size % 2)
        form = content if name == b"fmt " else form
    raise AudioError(NAME, "ends before its audio begins")


def _read_format(form: bytes) -> tuple[int, int, int, int]:
    if len(form) < 16:
        raise AudioError(NAME, "is WAV with a damaged description of its samples")
    code, channels, rate, _, frame, bits = struct.unpack("<HHIIHH", form[:16])
    if code == _EXTENSIBLE and len(form) >= 26:
        (code,) = struct.unpack("<H", form[24:26])
    if (code, bits) != (_PCM, 24) and (code, bits) not in _TYPES:
        raise AudioError(
            NAME, f"is WAV of format {code} with {bits} bits, which is not supported; use 'ffmpeg -c:a pcm_s16le'"
        )
    if not 1 <= channels <= MAX_CHANNELS or frame != channels * bits // 8:
        raise AudioError(NAME, f"is WAV with a damaged description: {channels} channels in {frame} bytes")
    return code, bits, channels, rate
