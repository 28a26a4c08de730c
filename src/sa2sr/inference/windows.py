"""Overlapping windows over audio, which is cut the same whether it is all there or still coming in."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from sa2sr.speech.features import Waveform

Part = tuple[int, Waveform]  # where it begins, in samples, and what is in it
LONGEST_WINDOW = 600.0  # seconds


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
        if not 0.01 <= self.hop <= self.duration <= LONGEST_WINDOW:
            raise ValueError(
                f"windows of {self.duration:g} s every {self.hop:g} s: "
                f"needs 0.01 <= hop <= window <= {LONGEST_WINDOW:g} s, so that every sample is heard"
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
        self._waiting: Waveform = np.zeros(0, np.float32)  # from ``start`` on

    def push(self, block: Waveform) -> list[Part]:
        """Take a block and give the windows that it completes."""
        waiting = np.concatenate([self._waiting, block])
        count = max(0, (len(waiting) - self.size) // self.hop + 1)
        begins = range(0, count * self.hop, self.hop)
        parts = [(self.start + begin, waiting[begin : begin + self.size]) for begin in begins]
        if count:
            self.heard = parts[-1][0] + self.size
            self.start += count * self.hop
            waiting = waiting[count * self.hop :].copy()  # so that what has been cut can go
        self._waiting = waiting
        return parts

    def flush(self) -> list[Part]:
        """Give the last window, if some of the audio has been in none."""
        unheard = self.start + len(self._waiting) > self.heard
        return [(self.start, self._waiting)] if unheard else []


def cut(blocks: Iterable[Waveform], windows: Windows, sampling_rate: int) -> Iterator[Part]:
    """The windows of a waveform that comes in blocks."""
    cutter = Cutter(windows, sampling_rate)
    for block in blocks:
        yield from cutter.push(block)
    yield from cutter.flush()
