"""Predicting audio while it comes in."""

from typing import TYPE_CHECKING, Any

import numpy as np

from sa2sr.audio import MAX_CHANNELS, Resampler
from sa2sr.errors import AudioError
from sa2sr.inference.clips import Recording, checked_rate, make_clip, mono
from sa2sr.inference.table import Failure, Heading, Row, on_scale
from sa2sr.inference.windows import Cutter, Part, Windows

if TYPE_CHECKING:
    from sa2sr.inference.model import Model


class Stream:
    """Chunks of audio of any size go in; whenever a window is complete, its row comes out.

    The rows are those of ``model.predict(..., window=, hop=)`` on all of the audio, however it is cut into chunks.
    What is kept is less than a window, however long the stream.

    >>> stream = model.stream(48_000, window=6, hop=2)
    >>> for chunk in microphone:
    ...     for row in stream.push(chunk):
    ...         print(row.end, row.valence)
    >>> rest = stream.flush()
    """

    def __init__(
        self,
        model: "Model",
        sampling_rate: int,
        windows: Windows,
        heading: Heading,
        *,
        channels: int = 1,
        name: str,
    ) -> None:
        """Begin; users call :meth:`sa2sr.Model.stream`.

        Raises:
            AudioError: if no audio has such a sampling rate or so many channels
        """
        if not 1 <= channels <= MAX_CHANNELS:
            raise AudioError(name, f"has {channels} channels; 1 to {MAX_CHANNELS} are possible")
        self.model, self.channels, self.name = model, channels, name
        self.source_rate = checked_rate(sampling_rate, name)
        self.heading, self.closed = heading, False
        self._recording = Recording(name, self.source_rate, channels)
        rate = model.settings.frontend.sampling_rate
        self._resampler, self._cutter = Resampler(self.source_rate, rate), Cutter(windows, rate)

    def push(self, samples: Any) -> list[Row | Failure]:
        """Take the next samples, and give the rows of the windows that they complete: usually none.

        Args:
            samples: (samples,) of a stream with one channel, otherwise (channels, samples). Floating point samples
                have a full scale of 1, integers that of their type

        Raises:
            AudioError: if they are not audio; the stream then goes on as if they had not come
            ValueError: after :meth:`flush`
        """
        if self.closed:
            raise ValueError("the stream is over; begin another one")
        array = np.asarray(samples)
        if array.ndim not in (1, 2) or (1 if array.ndim == 1 else array.shape[0]) != self.channels:
            expected = "(samples,)" if self.channels == 1 else f"({self.channels}, samples)"
            raise AudioError(self.name, f"a chunk must be {expected}, not {array.shape}")
        if not array.size:
            return []
        return self._rows(self._cutter.push(self._resampler.push(mono(array, self.name))))

    def flush(self) -> list[Row | Failure]:
        """End the stream, and give the row of what has been in no window yet, if there is any."""
        if self.closed:
            return []
        self.closed = True
        return self._rows([*self._cutter.push(self._resampler.flush()), *self._cutter.flush()])

    def _rows(self, parts: list[Part]) -> list[Row | Failure]:
        frontend, shortest = self.model.settings.frontend, self.model.shortest
        clips = (make_clip(part, self._recording, frontend, shortest) for part in parts)
        rows = self.model.rows(clips, self.heading.level, self.heading.extras)
        return [on_scale(each, self.model.output_scale(), self.heading.scale) for each in rows]
