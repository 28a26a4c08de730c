"""What the network makes of a clip becomes a row."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, SENTIMENTS, Scale
from sa2sr.inference.clips import Clip
from sa2sr.inference.engine import Outputs
from sa2sr.inference.rows import INTERVALS, Failure, Row
from sa2sr.intervals import bounds


def make_row(
    clip: Clip,
    outputs: Outputs,
    scale: Scale | None,
    categories: Sequence[str],
    half_widths: NDArray[np.float64] | None,
) -> Row | Failure:
    """The row of a clip, or a failure if the numbers are not finite.

    Args:
        clip: what was heard
        outputs: what it is taken for
        scale: of activation, valence and dominance; None where the model does not predict them
        categories: of emotion, that the model tells apart
        half_widths: of the intervals, (3,); None: there are none
    """
    told = (outputs.emotions if scale is not None else None, outputs.sentiment, outputs.category)
    if not all(np.isfinite(numbers).all() for numbers in told if numbers is not None):
        return Failure(clip.file, f"the model gives no finite numbers from {clip.start:.2f} s on")
    cells: dict[str, Any] = dict.fromkeys(DIMENSIONS, math.nan)
    if scale is not None:
        emotions = outputs.emotions.astype(float).clip(scale.low, scale.high)
        cells = dict(zip(DIMENSIONS, _rounded(emotions), strict=True))
        if half_widths is not None:
            ends = _rounded(np.stack(bounds(emotions, half_widths, scale), 1).ravel())  # low, high, low, ...
            cells |= {name: x if math.isfinite(x) else None for name, x in zip(INTERVALS, ends, strict=True)}
    if outputs.sentiment is not None:
        cells |= zip(SENTIMENTS, _rounded(outputs.sentiment), strict=True)
    if outputs.category is not None:
        cells["emotion"] = categories[int(outputs.category.argmax())]
        cells["probabilities"] = dict(zip(categories, _rounded(outputs.category), strict=True))
    start, end = round(clip.start, 6), round(clip.end, 6)
    return Row(clip.file, start, end, note=clip.note, transcript=outputs.transcript, **cells)


def _rounded(numbers: NDArray[np.floating]) -> list[float]:
    return [round(float(x), 6) for x in numbers]
