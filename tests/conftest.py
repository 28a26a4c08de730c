import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, EncoderSettings, ModelSettings, Objectives, Scale

# Threads are a loss for networks this small, and the suite already runs in a process a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell lets what it starts in the background ignore interruptions, and so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that is busy is no failure.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

RandomModel = Callable[..., Path]
CLASSES = ("angry", "happy", "neutral", "sad")
SCALE = Scale(name="1-7", low=1, high=7)
Voice = Callable[..., NDArray[np.float32]]


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> RandomModel:
    """``random_model(layers=1, units=8, heads=("emotion",), ...)`` saves a model with random weights.

    A ``gain`` of its weights, but for the emotion regressor's, makes it say more different things.
    """

    def make(
        layers: int = 1,
        units: int = 8,
        heads: Sequence[str] = ("emotion",),
        *,
        seed: int = 0,
        scale: Scale | None = SCALE,
        mean: float = 4.0,
        spread: float = 1.5,
        gain: float = 1.0,
    ) -> Path:
        import torch  # here, since many tests need neither

        from sa2sr.network.model import SpeechModel, save_model

        torch.manual_seed(seed)
        tasks = {head: {"classes": CLASSES} if head == "category" else 1 for head in heads}
        settings = ModelSettings(
            name="random",
            encoder=EncoderSettings(layers=layers, units=units),
            objectives=Objectives.model_validate(tasks),
            scale=scale if "emotion" in heads else None,
        )
        model = SpeechModel(settings)
        for name, weights in model.named_parameters():
            weights.data *= 1 if "emotion" in name else gain
        if "emotion" in heads:
            model.emotion.rating_mean.copy_(torch.full((len(DIMENSIONS),), mean))
            model.emotion.rating_spread.copy_(torch.full((len(DIMENSIONS),), spread))
        folder = tmp_path_factory.mktemp("model")
        save_model(model, folder)
        return folder

    return make


@pytest.fixture(scope="session")
def voice() -> Voice:
    """``voice(seconds, seed=0, rate=16_000)`` is a buzz with a moving pitch, in syllables, and some noise."""

    def make(seconds: float, seed: int = 0, rate: int = 16_000) -> NDArray[np.float32]:
        random = np.random.default_rng(seed)
        time = np.arange(max(1, round(seconds * rate))) / rate
        pitch = random.uniform(80, 250) * (1 + 0.2 * np.sin(2 * np.pi * random.uniform(0.2, 1) * time))
        buzz = 2 * (np.cumsum(pitch) / rate % 1) - 1
        syllables = np.abs(np.sin(2 * np.pi * random.uniform(1, 3) * time + random.uniform(0, 3)))
        return (0.2 * buzz * syllables + 0.01 * random.standard_normal(len(time))).astype(np.float32)

    return make
