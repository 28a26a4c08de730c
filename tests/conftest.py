import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, EncoderSettings, FrontEnd, ModelSettings, Objectives, Scale

# Threads are a loss for networks this small, and the suite already runs in a process a core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell lets what it starts in the background ignore interruptions, and so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that is busy is no failure.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

RandomModel = Callable[..., Path]
PretrainedFolder = Callable[..., Path]
TINY = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
TINY_WHISPER = {
    "d_model": 16,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "num_mel_bins": 20,
    "max_source_positions": 50,  # a second at a time
    "vocab_size": 30,
    **{f"{name}_token_id": number for number, name in enumerate(("pad", "bos", "eos", "decoder_start"))},
}
PRETRAINED: dict[str, dict[str, Any]] = {
    "wav2vec2": TINY | {"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    "wav2vec2-group": TINY | {"feat_extract_norm": "group"},
    "hubert": TINY | {"feat_extract_norm": "layer", "conv_bias": True},
    "wavlm": TINY | {"feat_extract_norm": "group", "num_buckets": 16, "max_bucket_distance": 40},
    "wavlm-layer": TINY | {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "num_buckets": 16},
    "whisper": TINY_WHISPER,
}
CLASSES = ("angry", "happy", "neutral", "sad")
SCALE = Scale(name="1-7", low=1, high=7)
Voice = Callable[..., NDArray[np.float32]]


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> RandomModel:
    """``random_model(layers=1, units=8, heads=("emotion",), ...)`` saves a model with random weights.

    A ``gain`` of its weights, but for the emotion regressor's, makes it say more different things. Other keys are those
    of its front end.
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
        **frontend: Any,
    ) -> Path:
        import torch  # here, since many tests need neither

        from sa2sr.network.model import SpeechModel, save_model

        torch.manual_seed(seed)
        tasks = {head: {"classes": CLASSES} if head == "category" else 1 for head in heads}
        settings = ModelSettings(
            name="random",
            frontend=FrontEnd(**frontend),
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


@pytest.fixture(scope="session")
def pretrained_folder(tmp_path_factory: pytest.TempPathFactory) -> PretrainedFolder:
    """``pretrained_folder("wavlm")`` is a tiny encoder with random weights, as the library saves them."""
    folders: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in folders:
            import torch
            import transformers

            torch.manual_seed(0)
            config = transformers.AutoConfig.for_model(name.partition("-")[0], **PRETRAINED[name])
            model = transformers.AutoModel.from_config(config)
            for parameter, weights in model.named_parameters():
                if weights.ndim > 1 and "embed_positions" not in parameter:  # initial weights say next to nothing
                    weights.data *= 5
            folders[name] = tmp_path_factory.mktemp(name)
            model.save_pretrained(folders[name])
            extractor = transformers.WhisperFeatureExtractor if name == "whisper" else None
            (extractor or transformers.Wav2Vec2FeatureExtractor)(do_normalize=True).save_pretrained(folders[name])
        return folders[name]

    return make
