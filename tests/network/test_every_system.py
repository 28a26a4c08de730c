"""Every encoder with every task: neither padding nor company matters, and what is loaded says what was saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sa2sr.config import EncoderSettings, ModelSettings
from sa2sr.network.model import SpeechModel, load_model, save_model
from sa2sr.network.objectives import OBJECTIVES
from sa2sr.network.pretrained.loading import frontend_of
from sa2sr.speech.batches import Batch
from tests.conftest import PRETRAINED

ENCODERS: dict[str, dict[str, Any]] = {
    "lstm": {"layers": 2, "units": 6},
    "forward": {"direction": "forward", "layers": 2, "units": 6},
    "conformer": {"kind": "conformer", "layers": 2, "units": 8, "heads": 2, "kernel": 5},
    **{name: {"kind": "transformers", "name": name} for name in PRETRAINED},
}
LENGTHS = [23, 4, 11]
NAMES = ["ann", "bo", "cy"]
CLASSES = ["angry", "happy", "sad"]
SAMPLES = 800  # of a waveform, for each of the LENGTHS


def make_settings(encoder: str, tasks: dict[str, Any]) -> ModelSettings:
    values: dict[str, Any] = {"frontend": {"filters": 3}, "encoder": ENCODERS[encoder], "objectives": tasks}
    if encoder in PRETRAINED:  # of which no state knows the past alone
        configuration = {"model_type": encoder.partition("-")[0]} | PRETRAINED[encoder]
        values["frontend"] = frontend_of(configuration)
        values["encoder"] = EncoderSettings.model_validate(ENCODERS[encoder]).with_configuration(configuration)
        values["objectives"] = {name: task for name, task in tasks.items() if name not in ("apc", "cpc")}
        inputs = [each for each in tasks["emotion"]["inputs"] if each != "frames"]  # samples are no frames to read
        values["objectives"]["emotion"] = tasks["emotion"] | {"inputs": inputs}
    return ModelSettings.model_validate(values | {"scale": {}})


READS: dict[str, dict[str, Any]] = {  # what emotions are told from
    "states": {"inputs": ["states"]},
    "everything": {"inputs": ["frames", "states", "posteriors", "sentiment"]},
    "text": {"inputs": [], "text": {"unit": "character", "size": 6, "units": 5}},
}


def make_model(encoder: str, summariser: str, reads: str) -> SpeechModel:
    torch.manual_seed(0)
    chosen = {"summariser": summariser, "units": 5}
    tasks = {
        "ctc": {},
        "sentiment": chosen,
        "apc": {},
        "cpc": {"units": 4},
        "speaker": {**chosen, "speakers": NAMES},
        "emotion": {"channels": 8, "heads": 2, **READS[reads]},
        "category": {"channels": 8, "heads": 2, "classes": CLASSES, "counts": [5, 1, 2]},
    }
    assert tasks.keys() == OBJECTIVES.keys()
    model = SpeechModel(make_settings(encoder, tasks)).eval().requires_grad_(False)
    for name, weights in model.named_parameters():
        weights.mul_(1 if "norm" in name else 2)
    return model


def make_batch(encoder: str, rows: list[int], padding: int, fill: float) -> Batch:
    generator = torch.Generator().manual_seed(1)
    scale, dimension = (SAMPLES, 1) if encoder in PRETRAINED else (1, 9)
    frames = [torch.randn(length * scale, dimension, generator=generator) for length in LENGTHS]
    lengths = torch.tensor([len(frames[row]) for row in rows])
    padded = torch.full((len(rows), int(lengths.max()) + padding * scale, dimension), fill)
    for each, row in zip(padded, rows, strict=True):
        each[: len(frames[row])] = frames[row]
    sentiment = torch.eye(3)[rows]
    ratings = torch.tensor([[1.0, 5, 3], [4, 2, 2], [6, 3, 7]])[rows]
    names = [NAMES[row] for row in rows]
    texts, categories = [("a b", "c", "d")[row] for row in rows], [CLASSES[row] for row in rows]
    labels: dict[str, Any] = {"speakers": [*names], "categories": categories}
    return Batch(names, padded, lengths, texts, sentiment, ratings, 1.0, **labels)


def said(model: SpeechModel, batch: Batch) -> dict[str, list[Any]]:
    states, lengths = model.states(batch.frames, batch.lengths), model.state_lengths(batch.lengths)
    found: dict[str, list[Any]] = {}
    for name, task in model.tasks().items():
        read = model.read_by(name, states, lengths, batch.frames)
        found[name] = task.predict(read, lengths)
        found[f"{name} evaluated"] = task.evaluate(read, lengths, batch)
    return found


@pytest.mark.parametrize(
    ("summariser", "reads"), [("lstm", "states"), ("attention", "everything"), ("attention", "text")]
)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_neither_padding_nor_company_matters(encoder: str, summariser: str, reads: str) -> None:
    model = make_model(encoder, summariser, reads)
    together = said(model, make_batch(encoder, [0, 1, 2], padding=6, fill=50.0))
    for row in range(len(LENGTHS)):
        for name, (alone,) in said(model, make_batch(encoder, [row], padding=0, fill=0.0)).items():
            if isinstance(alone, str):
                assert alone == together[name][row]
            else:
                np.testing.assert_allclose(alone, together[name][row], rtol=1e-4, atol=1e-4, err_msg=name)
    # If utterances were all the same, the equality would mean nothing.
    for name in ("emotion", "category", "sentiment", "speaker"):
        assert np.ptp(together[f"{name} evaluated"], axis=0).max() > 0.01, name


@pytest.mark.parametrize("reads", ["everything", "text"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_what_is_loaded_says_and_learns_the_same(encoder: str, reads: str, tmp_path: Path) -> None:
    model, batch = make_model(encoder, "attention", reads), make_batch(encoder, [0, 1, 2], padding=2, fill=0.0)
    save_model(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.settings == model.settings
    for name, values in said(model, batch).items():
        for one, other in zip(values, said(loaded, batch)[name], strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
    losses, again = model(batch), loaded(batch)
    assert losses.keys() == model.tasks().keys()
    for name, loss in losses.items():
        assert isinstance(loss, Tensor)
        assert loss.isfinite()
        assert loss == again[name], name
