"""Transcripts and sentiment in the table, where the model still has the heads."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from sa2sr.config import ALPHABET, DIMENSIONS, SENTIMENTS
from sa2sr.errors import ModelError
from sa2sr.inference import Row, load
from sa2sr.inference.export import export
from sa2sr.network.model import load_model

RandomModel = Callable[..., Path]
Voice = Callable[..., NDArray[np.float32]]


@pytest.fixture(scope="module")
def folder(random_model: RandomModel) -> Path:
    return random_model(2, 16, heads=("ctc", "sentiment", "emotion"), gain=6)


@pytest.fixture(scope="module")
def speech(voice: Voice) -> NDArray[np.float32]:
    return np.concatenate([voice(2.0, seed) for seed in range(4)])


def test_what_the_heads_say(folder: Path, speech: NDArray[np.float32]) -> None:
    model = load(folder, engine="torch")
    table = model.predict(speech, 16_000, longest=2.0, transcript=True, sentiment=True)
    network = load_model(folder)
    distinct = set()
    for row, clip in zip(table, model.array_clips(speech, 16_000, longest=2.0), strict=True):
        frames = torch.from_numpy(clip.frames)[None]  # type: ignore[union-attr]
        lengths = torch.tensor([frames.shape[1]])
        states = network.states(frames, lengths)
        best = network.tasks()["ctc"].logits(states)[0].argmax(-1).tolist()  # type: ignore[operator]
        spelt = [ALPHABET[each - 1] for each in [key for key, _ in groupby(best)] if each]
        assert row.transcript == "".join(spelt).strip()
        probabilities = network.tasks()["sentiment"].logits(states, lengths).softmax(-1)[0]  # type: ignore[operator]
        heard = [getattr(row, name) for name in SENTIMENTS]
        np.testing.assert_allclose(heard, probabilities.numpy(), atol=1e-4)
        assert sum(heard) == pytest.approx(1, abs=1e-5)
        distinct.add(row.transcript)
    assert len(distinct) > 2  # the test sees different transcripts, not empty ones


def test_every_engine_hears_the_same(folder: Path, speech: NDArray[np.float32], tmp_path: Path) -> None:
    by_torch, by_onnx = (load(folder, engine=engine) for engine in ("torch", "onnx"))
    exported = load(export(folder, tmp_path / "exported"))
    tables = [
        model.predict(speech, 16_000, window=1.5, hop=0.5, transcript=True, sentiment=True)
        for model in (by_torch, by_onnx, exported)
    ]
    assert tables[1] == tables[2]
    for one, another in zip(*tables[:2], strict=True):
        assert one.transcript == another.transcript
        for name in (*DIMENSIONS, *SENTIMENTS):
            assert getattr(one, name) == pytest.approx(getattr(another, name), abs=1e-4)


def test_heads_do_not_change_the_emotions(folder: Path, speech: NDArray[np.float32]) -> None:
    model = load(folder)
    plain, full = model.predict(speech, 16_000), model.predict(speech, 16_000, transcript=True, sentiment=True)
    assert plain.columns != full.columns
    for name in plain.columns:
        assert plain.column(name).tolist() == full.column(name).tolist()
    assert plain[0].transcript is plain[0].negative is None
    alone = model.predict(speech, 16_000, sentiment=True)
    assert "transcript" not in alone.columns
    assert alone[0].transcript is None


def test_a_stream_hears_what_windows_hear(folder: Path, speech: NDArray[np.float32]) -> None:
    model = load(folder)
    options = {"window": 2.0, "hop": 1.0, "transcript": True, "sentiment": True, "scale": "0-1"}
    table = model.predict(speech, 16_000, name="x", **options)  # type: ignore[arg-type]
    stream = model.stream(16_000, name="x", **options)  # type: ignore[arg-type]
    rows = [row for chunk in np.array_split(speech, 23) for row in stream.push(chunk)] + stream.flush()
    assert rows == table.rows
    assert len(rows) > 5
    assert all(isinstance(row, Row) and 0 <= row.valence <= 1 and row.transcript is not None for row in rows)


def test_a_scale_from_0_to_1(folder: Path, speech: NDArray[np.float32]) -> None:
    model = load(folder)
    labels, unit = (model.predict(speech, 16_000, longest=1.0, scale=scale) for scale in ("labels", "0-1"))
    assert (unit.scale.name, unit.scale.low, unit.scale.high) == ("0-1", 0, 1)
    np.testing.assert_allclose(unit.column("valence"), (labels.column("valence") - 1) / 6, atol=2e-6)
    with pytest.raises(ValueError, match=r"'labels' or '0-1', not '1-7'"):
        model.predict(speech, 16_000, scale="1-7")


def test_heads_that_are_not_there(random_model: RandomModel, folder: Path, speech: NDArray[np.float32]) -> None:
    model = load(random_model())
    for options, reason in (
        ({"transcript": True}, "gives no transcript: it has no ctc head"),
        ({"sentiment": True}, "gives no sentiment: it has no sentiment head"),
    ):
        with pytest.raises(ModelError, match=reason):
            model.predict(speech, 16_000, **options)  # type: ignore[arg-type]
        with pytest.raises(ModelError, match=reason):
            model.stream(16_000, **options)  # type: ignore[arg-type]


def test_heads_that_the_encoder_has_left_behind(random_model: RandomModel, speech: NDArray[np.float32]) -> None:
    folder = random_model(heads=("ctc", "sentiment", "emotion"))
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"drifted": ["ctc"]}))
    model = load(folder)
    with pytest.raises(ModelError, match=r"trained further without the ctc head.*finetuning\.objectives\.ctc=0\.1"):
        model.predict(speech, 16_000, transcript=True)
    assert model.predict(speech, 16_000, sentiment=True)[0].positive is not None
