"""SpecAugment: what is masked, how much of it, and how often."""

from itertools import groupby

import numpy as np
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sa2sr.config import Augmentation
from sa2sr.speech.augmentation import mask, mask_waveform
from sa2sr.speech.features import Frames


def numbers(steps: int, filters: int = 40) -> Frames:
    """No element is 0, so that a mask shows."""
    return np.random.default_rng(0).uniform(1, 2, (steps, filters)).astype(np.float32)


def stretches(masked: NDArray[np.bool_]) -> list[int]:
    """Lengths of the runs of true."""
    return [len(list(run)) for is_masked, run in groupby(masked.tolist()) if is_masked]


SETTINGS = st.builds(
    Augmentation,
    probability=st.just(1.0),
    time_masks=st.integers(0, 3),
    time_width=st.integers(1, 60),
    time_fraction=st.floats(0, 1),
    frequency_masks=st.integers(0, 3),
    frequency_width=st.integers(1, 60),
)


@given(steps=st.integers(1, 120), filters=st.integers(1, 40), augmentation=SETTINGS, seed=st.integers(0, 2**32))
@settings(deadline=None)
def test_masks_are_whole_steps_and_filters_within_the_limits(
    steps: int, filters: int, augmentation: Augmentation, seed: int
) -> None:
    frames = numbers(steps, filters)
    before = frames.copy()
    masked = mask(frames, augmentation, np.random.default_rng(seed))
    np.testing.assert_array_equal(frames, before)
    zero = masked == 0
    lines, columns = zero.all(1), zero.all(0)
    expected = lines[:, None] | columns if not (lines.all() or columns.all()) else np.ones_like(zero)
    np.testing.assert_array_equal(zero, expected)
    np.testing.assert_array_equal(masked[~zero], frames[~zero])
    if not columns.all():
        longest = min(augmentation.time_width, int(augmentation.time_fraction * steps))
        assert len(stretches(lines)) <= augmentation.time_masks
        assert lines.sum() <= augmentation.time_masks * longest
    if not lines.all():
        assert len(stretches(columns)) <= augmentation.frequency_masks
        assert columns.sum() <= augmentation.frequency_masks * augmentation.frequency_width


def test_an_utterance_is_masked_with_the_probability() -> None:
    frames, random = numbers(50), np.random.default_rng(0)
    for probability in (0.0, 0.3, 0.5, 1.0):
        augmentation = Augmentation(probability=probability)
        count = sum(mask(frames, augmentation, random) is not frames for _ in range(2_000))
        assert abs(count - 2_000 * probability) <= 5 * np.sqrt(2_000 * probability * (1 - probability))


def test_widths_are_uniform_and_masks_may_lie_anywhere() -> None:
    """SpecAugment draws a width from 0 to its limit, then a start from all at which the mask fits."""
    frames, random = numbers(100), np.random.default_rng(0)
    only_time = Augmentation(probability=1, time_masks=1, time_width=9, frequency_masks=0)
    only_frequency = Augmentation(probability=1, time_masks=0, frequency_masks=1, frequency_width=9)
    for augmentation, axis in ((only_time, 1), (only_frequency, 0)):
        masks = [(mask(frames, augmentation, random) == 0).all(axis) for _ in range(3_000)]
        widths = np.bincount([line.sum() for line in masks], minlength=10)
        assert scipy.stats.chisquare(widths).pvalue > 1e-3
        singles = np.bincount([line.argmax() for line in masks if line.sum() == 1], minlength=len(masks[0]))
        assert scipy.stats.chisquare(singles).pvalue > 1e-3


def test_a_time_mask_covers_a_part_of_a_short_utterance() -> None:
    augmentation = Augmentation(probability=1, time_masks=1, time_width=40, time_fraction=0.2, frequency_masks=0)
    covered = [(mask(numbers(20), augmentation, np.random.default_rng(seed)) == 0).all(1).sum() for seed in range(200)]
    assert max(covered) == 4
    np.testing.assert_array_equal(mask(numbers(1), augmentation, np.random.default_rng(0)), numbers(1))


def test_the_same_generator_gives_the_same_masks() -> None:
    augmentation = Augmentation(probability=1)
    one, two, other = (mask(numbers(100), augmentation, np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()


@given(SETTINGS, st.integers(1, 20_000), st.integers(1, 320), st.integers(0, 2**32 - 1))
def test_a_waveform_is_silenced_as_frames_are_masked_in_time(
    chosen: Augmentation, samples: int, step: int, seed: int
) -> None:
    waveform = np.random.default_rng(0).uniform(0.1, 1, samples).astype(np.float32)
    before = waveform.copy()
    masked = mask_waveform(waveform, chosen, step, np.random.default_rng(seed))
    assert np.array_equal(waveform, before)
    widest = min(chosen.time_width * step, int(chosen.time_fraction * samples))
    silent = stretches(masked == 0)
    assert len(silent) <= chosen.time_masks
    assert sum(silent) <= chosen.time_masks * widest
    assert np.array_equal(masked[masked != 0], before[masked != 0])
    assert np.array_equal(mask_waveform(waveform, chosen, step, np.random.default_rng(seed)), masked)
    never = chosen.model_copy(update={"probability": 0.0})
    assert mask_waveform(waveform, never, step, np.random.default_rng(seed)) is waveform
