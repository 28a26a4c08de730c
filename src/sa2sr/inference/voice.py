"""Stretches of speech in audio, found by silero-vad's network, whether the audio is all there or still coming in.

The network says for every 32 ms how probable speech is. A stretch begins where it is probable and ends where it has not
been for a while; some audio at either end is kept, since words begin and end softly.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sa2sr.errors import ModelError
from sa2sr.inference.engine import make_session
from sa2sr.inference.windows import Part
from sa2sr.speech.features import Waveform

RATE = 16_000  # Hz, of what the network hears
FRAME = 512  # samples, which a probability is about
CONTEXT = 64  # samples before them, which it hears too
BEGIN, END = 0.5, 0.35  # probabilities from which on a stretch begins, and below which it may end
PAUSE = 10  # frames (0.32 s) of silence that end a stretch
SHORTEST = 8  # frames (0.26 s); what is shorter is no speech
PADDING = 1_600  # samples (0.1 s) that are kept at either end

_FILE = "silero_vad_16k_sequence.onnx"


class VoiceDetector:
    """Probabilities of speech in a waveform that comes in blocks."""

    def __init__(self) -> None:
        self._session = make_session(_network())
        self._state = {name: np.zeros((1, 1, 128), np.float32) for name in "hc"}
        self._waiting: Waveform = np.zeros(CONTEXT, np.float32)  # with what the next frame hears before it

    def push(self, block: Waveform) -> NDArray[np.float32]:
        """The probabilities of the frames that a block completes, (frames,)."""
        waiting = np.concatenate([self._waiting, block])
        count = (len(waiting) - CONTEXT) // FRAME
        self._waiting = waiting[count * FRAME :].copy()
        return self._probabilities(waiting, count)

    def flush(self) -> NDArray[np.float32]:
        """The probability of the last frame, if it has begun; silence stands in for the rest."""
        missing = -(len(self._waiting) - CONTEXT) % FRAME
        return self.push(np.zeros(missing, np.float32)) if missing else np.zeros(0, np.float32)

    def _probabilities(self, waveform: Waveform, count: int) -> NDArray[np.float32]:
        if not count:
            return np.zeros(0, np.float32)
        frames = np.lib.stride_tricks.sliding_window_view(waveform, CONTEXT + FRAME)[::FRAME][:count]
        found, self._state["h"], self._state["c"] = self._session.run(
            ["speech_probs", "hn", "cn"], {"input": np.ascontiguousarray(frames), **self._state}
        )
        probabilities: NDArray[np.float32] = found
        return probabilities


class VoiceCutter:
    """Cuts stretches of speech out of a waveform that comes in blocks. It keeps less than the longest of them."""

    def __init__(self, longest: float) -> None:
        """Begin.

        Args:
            longest: duration of a stretch at most, in seconds; a longer one is cut where speech is least probable
        """
        self._detector = VoiceDetector()
        self._most = max(2 * SHORTEST, int((longest * RATE - 2 * PADDING) // FRAME))
        self._kept: Waveform = np.zeros(0, np.float32)
        self._offset = 0  # of what is kept, in samples
        self._heard = 0  # samples, in all
        self._frames = 0  # whose probability is known
        self._stretch: list[float] = []  # the probabilities in the stretch that has begun
        self._end = 0  # of the last one, in samples
        self._joined = False  # the stretch goes on where the last one was cut

    def push(self, block: Waveform) -> list[Part]:
        """Take a block and give the stretches that end in it."""
        self._kept = np.concatenate([self._kept, block])
        self._heard += len(block)
        parts = [part for each in self._detector.push(block) for part in self._hear(float(each))]
        self._forget()
        return parts

    def flush(self) -> list[Part]:
        """Give what is left."""
        parts = [part for each in self._detector.flush() for part in self._hear(float(each))]
        if self._stretch:
            parts += self._cut(len(self._stretch) - self._pause(), is_end=True)
        return parts

    def _hear(self, probability: float) -> list[Part]:
        self._frames += 1
        if not self._stretch and probability < BEGIN:
            return []
        self._stretch.append(probability)
        if (pause := self._pause()) >= PAUSE:
            return self._cut(len(self._stretch) - pause, is_end=True)
        if len(self._stretch) >= self._most:
            half = self._most // 2
            return self._cut(half + int(np.argmin(self._stretch[half:])), is_end=False)
        return []

    def _pause(self) -> int:
        """How many frames at the end of the stretch have no speech."""
        return next((n for n, each in enumerate(reversed(self._stretch)) if each >= END), len(self._stretch))

    def _cut(self, count: int, *, is_end: bool) -> list[Part]:
        """The first ``count`` frames of the stretch, unless they are too few; the rest goes on or is silence."""
        begin = (self._frames - len(self._stretch)) * FRAME
        start = max(self._end, begin - (0 if self._joined else PADDING))
        end = min(self._heard, begin + count * FRAME + (PADDING if is_end else 0))
        is_speech = self._joined or not is_end or count >= SHORTEST
        self._stretch = [] if is_end else self._stretch[count:]
        self._joined = not is_end
        if not is_speech or end <= start:
            return []
        self._end = end
        return [(start, self._kept[start - self._offset : end - self._offset].copy())]

    def _forget(self) -> None:
        """Keep no more than the stretch and what may be added before it."""
        needed = max(self._end, (self._frames - len(self._stretch)) * FRAME - PADDING)
        if needed > self._offset:
            self._kept = self._kept[needed - self._offset :].copy()
            self._offset = needed


def speech_in(blocks: Iterable[Waveform], longest: float) -> Iterator[Part]:
    """The stretches of speech in a waveform at 16 kHz that comes in blocks.

    Raises:
        ModelError: if silero-vad is not installed
    """
    cutter = VoiceCutter(longest)
    for block in blocks:
        yield from cutter.push(block)
    yield from cutter.flush()


@lru_cache
def _network() -> Path:
    """The file of the network; silero-vad itself, which imports torch, is not imported."""
    spec = find_spec("silero_vad")
    path = Path(spec.submodule_search_locations[0], "data", _FILE) if spec and spec.submodule_search_locations else None
    if path is None or not path.is_file():
        raise ModelError("finding speech needs silero-vad 6.2.3 or later and onnxruntime: pip install 'sa2sr[vad]'")
    return path
