"""SpecAugment (Park et al., 2019) on normalised frames; speed perturbation is :func:`sa2sr.audio.change_speed`."""

import numpy as np

from sa2sr.config import Augmentation
from sa2sr.speech.features import Frames, Waveform


def mask(frames: Frames, settings: Augmentation, random: np.random.Generator) -> Frames:
    """Mask random stretches of time and bands of frequency, with ``settings.probability``, by the mean, which is 0.

    Args:
        frames: (T, filters); not changed
        settings: number and width of the masks
        random: the only source of randomness
    """
    if random.random() >= settings.probability:
        return frames
    masked = frames.copy()
    steps, filters = frames.shape
    widest = min(settings.time_width, int(settings.time_fraction * steps))
    for _ in range(settings.time_masks):
        start, width = _stretch(steps, widest, random)
        masked[start : start + width] = 0
    for _ in range(settings.frequency_masks):
        start, width = _stretch(filters, min(settings.frequency_width, filters), random)
        masked[:, start : start + width] = 0
    return masked


def mask_waveform(waveform: Waveform, settings: Augmentation, step: int, random: np.random.Generator) -> Waveform:
    """Silence random stretches of time, as :func:`mask` does of frames; bands of frequency stay as they are.

    Args:
        waveform: (samples,) or (samples, 1); not changed
        settings: number and width of the masks
        step: samples of a frame
        random: the only source of randomness
    """
    if random.random() >= settings.probability:
        return waveform
    masked = waveform.copy()
    widest = min(settings.time_width * step, int(settings.time_fraction * len(masked)))
    for _ in range(settings.time_masks):
        start, width = _stretch(len(masked), widest, random)
        masked[start : start + width] = 0
    return masked


def _stretch(size: int, widest: int, random: np.random.Generator) -> tuple[int, int]:
    width = int(random.integers(0, widest + 1))
    return int(random.integers(0, size - width + 1)), width
