"""Clips of similar duration are predicted together, so that little is computed for padding."""

from collections.abc import Iterable, Iterator, Sequence

from sa2sr.inference.clips import Clip
from sa2sr.inference.rows import Failure

BATCH_CLIPS = 64
LOOK_AHEAD_SECONDS = 960.0  # of audio that is sorted by duration before it is batched
LOOK_AHEAD_CLIPS = 512


def look_ahead(clips: Iterable[Clip | Failure]) -> Iterator[list[Clip | Failure]]:
    """As many clips at a time as may be sorted together."""
    items: list[Clip | Failure] = []
    seconds = 0.0
    for item in clips:
        items.append(item)
        seconds += item.end - item.start if isinstance(item, Clip) else 0.0
        if seconds >= LOOK_AHEAD_SECONDS or len(items) >= LOOK_AHEAD_CLIPS:
            yield items
            items, seconds = [], 0.0
    if items:
        yield items


def batched(items: Sequence[Clip | Failure], seconds: float) -> Iterator[list[tuple[int, Clip]]]:
    """The clips with their positions, in batches of similar duration and so many seconds, the short ones first."""
    batch: list[tuple[int, Clip]] = []
    clips = [(index, item) for index, item in enumerate(items) if isinstance(item, Clip)]
    for index, clip in sorted(clips, key=lambda pair: len(pair[1].frames)):
        padded = (clip.end - clip.start) * (len(batch) + 1)
        if batch and (padded > seconds or len(batch) == BATCH_CLIPS):
            yield batch
            batch = []
        batch.append((index, clip))
    if batch:
        yield batch
