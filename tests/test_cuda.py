"""On a GPU: what the CPU says. Skipped where there is none; ACCELERATE_USE_CPU=false tests all trainings on it too."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa2sr.config import DIMENSIONS, EncoderSettings, FrontEnd
from sa2sr.inference.clips import Clip, array_clips
from sa2sr.inference.model import Model, load
from sa2sr.network.encoder import LstmEncoder

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

CLOSE = 1e-5 * 6  # of the scale 1-7
LENGTHS = (1, 2, 17, 300, 333)


@pytest.fixture(scope="module", params=[(1, 8), (5, 192)], ids=["small", "full"])
def folder(request: pytest.FixtureRequest, random_model: Callable[..., Path]) -> Path:
    return random_model(*request.param, heads=("emotion", "ctc", "sentiment"), gain=4)


@pytest.fixture(scope="module")
def clips(voice: Callable[..., NDArray[np.float32]]) -> list[Clip]:
    waveforms = [voice(seconds, seed) for seed, seconds in enumerate((0.01, 0.2, 1.0, 2.5, 4.0, 11.0))]
    waveforms.append(np.zeros(20_000, np.float32))
    settings = FrontEnd()
    return [
        clip
        for number, each in enumerate(waveforms)
        for clip in array_clips(each, 16_000, str(number), settings, longest=30, shortest=0.5)
    ]


@pytest.mark.parametrize("direction", ["both", "forward"])
def test_states_and_gradients_of_an_encoder(direction: str) -> None:
    torch.manual_seed(0)
    encoder = LstmEncoder(120, EncoderSettings.model_validate({"layers": 3, "units": 64, "direction": direction}))
    lengths = torch.tensor(LENGTHS)
    frames = torch.randn(len(LENGTHS), max(LENGTHS), 120)

    def run(device: str) -> tuple[Tensor, dict[str, Tensor]]:
        encoder.to(device).zero_grad()
        with torch.backends.cudnn.flags(allow_tf32=False):
            states = encoder(frames.to(device), lengths.to(device))
            weighting = torch.randn(states.shape, generator=torch.Generator().manual_seed(1))
            (states * weighting.to(device)).sum().backward()
        return states.detach().cpu(), {name: weights.grad.cpu().clone() for name, weights in encoder.named_parameters()}

    (states, gradients), (ours, our_gradients) = run("cpu"), run("cuda")
    torch.testing.assert_close(ours, states, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        assert float((our_gradients[name] - gradient).norm() / gradient.norm()) < 1e-5, name
    for row, length in enumerate(LENGTHS):
        assert not ours[row, length:].any()


def test_predictions_are_those_of_the_cpu_alone_or_in_company(folder: Path, clips: list[Clip]) -> None:
    frames = [clip.frames for clip in clips]
    on_cpu, on_gpu = load(folder, engine="torch"), load(folder, device="cuda")
    heads = ("ctc", "sentiment")
    expected, together = on_cpu.engine.hear(frames, heads), on_gpu.engine.hear(frames, heads)
    alone = [on_gpu.engine.hear([each], heads)[0] for each in frames]
    for want, *found in zip(expected, together, alone, strict=True):
        for one in found:
            np.testing.assert_allclose(one.emotions, want.emotions, rtol=0, atol=CLOSE)
            np.testing.assert_allclose(one.sentiment, want.sentiment, rtol=0, atol=1e-5)
            assert one.transcript == want.transcript


def test_a_stream_says_what_the_whole_recording_does(folder: Path, voice: Callable[..., NDArray[np.float32]]) -> None:
    model: Model = load(folder, device="cuda")
    samples = voice(9.3, 5)
    offline = model.predict(samples, 16_000, window=3, hop=1)
    stream = model.stream(16_000, window=3, hop=1)
    rows = [row for start in range(0, len(samples), 4_001) for row in stream.push(samples[start : start + 4_001])]
    rows += stream.flush()
    values = [np.array([[getattr(row, name) for name in DIMENSIONS] for row in table]) for table in (offline, rows)]
    np.testing.assert_allclose(*values, rtol=0, atol=CLOSE)
