"""Overlapping windows over audio, which is cut the same whether it is all there or still coming in."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from sa2sr.speech.features import Waveform

Part = tuple[int, Waveform]  # where it begins, in samples, and what is in it
LONGEST_WINDOW = 600.0  # seconds
_SHORTEST, _LONGEST = 0.01, 1e9  # seconds; more samples cannot be counted


def check_longest(longest: float) -> None:
    """Check the duration of a row at most, in seconds.

    Raises:
        ValueError: if no row has such a duration
    """
    if not _SHORTEST <= longest <= _LONGEST:
        raise ValueError(f"longest must be a duration from {_SHORTEST:g} to {_LONGEST:g} seconds, not {longest}")


@dataclass(frozen=True)
class Windows:
    """A window of ``duration`` begins every ``hop``, both in seconds.

    The last window is the first that reaches the end of the audio, and ends there: it alone may be shorter.
    """

    duration: float = 6.0
    hop: float = 2.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: naming what is allowed
        """
        if not _SHORTEST <= self.hop <= self.duration <= LONGEST_WINDOW:
            raise ValueError(
                f"windows of {self.duration:g} s every {self.hop:g} s: "
                f"needs {_SHORTEST:g} <= hop <= window <= {LONGEST_WINDOW:g} s, so that every sample is heard"
            )

    @classmethod
    def of(cls, window: float | None, hop: float | None = None) -> "Windows | None":
        """The windows that a user asks for, if any; without a hop they do not overlap.

        Raises:
            ValueError: naming what is allowed
        """
        if window is None:
            if hop is not None:
                raise ValueError(f"a hop ({hop:g} s) needs a window")
            return None
        return cls(window, window if hop is None else hop)


class Cutter:
    """Cuts a waveform that comes in blocks into windows. It keeps less than a window."""

    def __init__(self, windows: Windows, sampling_rate: int) -> None:
        self.size = round(windows.duration * sampling_rate)
        self.hop = max(1, round(windows.hop * sampling_rate))
        self.start = 0  # of the next window
        self.heard = 0  # samples that have been in a window
        self._waiting: Waveform = np.empty(0, np.float32)  # its first ``_length`` samples are those from ``start`` on
        self._length = 0

    def push(self, block: Waveform) -> list[Part]:
        """Take a block and give the windows that it completes."""
        if self._length + len(block) < self.size:
            self._keep(block)
            return []
        waiting = np.concatenate([self._waiting[: self._length], block])
        count = (len(waiting) - self.size) // self.hop + 1
        begins = range(0, count * self.hop, self.hop)
        parts = [(self.start + begin, waiting[begin : begin + self.size]) for begin in begins]
        self.heard = parts[-1][0] + self.size
        self.start += count * self.hop
        self._length = 0
        self._keep(waiting[count * self.hop :])
        return parts

    def flush(self) -> list[Part]:
        """Give the last window, if some of the audio has been in none."""
        unheard = self.start + self._length > self.heard
        return [(self.start, self._waiting[: self._length])] if unheard else []

    def _keep(self, block: Waveform) -> None:
        """Copy a block to what waits, whose room doubles, so that small blocks do not move it each time."""
        length = self._length + len(block)
        if length > len(self._waiting):
            roomy = np.empty(min(self.size, max(length, 2 * len(self._waiting))), np.float32)
            roomy[: self._length] = self._waiting[: self._length]
            self._waiting = roomy
        self._waiting[self._length : length] = block
        self._length = length


def cut(blocks: Iterable[Waveform], windows: Windows, sampling_rate: int) -> Iterator[Part]:
    """The windows of a waveform that comes in blocks."""
    cutter = Cutter(windows, sampling_rate)
    for block in blocks:
        yield from cutter.push(block)
    yield from cutter.flush()
