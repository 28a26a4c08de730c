"""Speaker identification and the conformer, from pre-training to a table of emotions."""

import csv
import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sa2sr
from sa2sr.config import DIMENSIONS, Recipe, load_recipe
from sa2sr.cuts import Cut, write_cuts
from sa2sr.errors import CorpusError, ModelError, RecipeError, UserError
from sa2sr.inference.export import export
from sa2sr.network.model import load_model
from sa2sr.speech.batches import BatchLoader
from sa2sr.training.data import load_stage_data
from sa2sr.training.evaluate import evaluate
from sa2sr.training.optimisation import make_accelerator
from sa2sr.training.trainer import train


@pytest.mark.parametrize("reverse", [False, True])
def test_speakers(
    reverse: bool, make_recipe: Callable[..., Recipe], tone: Callable[..., Cut], voice: Any, tmp_path: Path
) -> None:
    for name, numbers in (("train", range(12)), ("dev", range(12, 18))):
        # Of each part other speakers; the first utterance is of nobody known.
        write_cuts(
            tmp_path / f"{name}.jsonl",
            (tone(n, speaker=f"{name}-{n % 3}") if n else tone(n) for n in numbers),
        )
    recipe = make_recipe(
        {
            "pretraining.train": [str(tmp_path / "train.jsonl")],
            "pretraining.dev": [str(tmp_path / "dev.jsonl")],
            "pretraining.objectives": {"ctc": 1, "speaker": {"weight": 20, "units": 8, "reverse": reverse}},
            "pretraining.max_epochs": 5,
            "finetuning.max_epochs": 1,
        }
    )
    run = train(recipe, "pretraining", tmp_path / "pretrained")
    speaker = load_model(run.path).settings.objectives.speaker
    assert speaker is not None
    assert speaker.speakers == ("train-0", "train-1", "train-2")
    history, sign = run.history(), -1 if reverse else 1
    wanted = [entry["dev"]["cer"] + sign * entry["dev"]["speaker_eer"] for entry in history]
    assert [entry["criterion"] for entry in history] == pytest.approx(wanted)
    assert not any("speaker_loss" in entry["dev"] for entry in history)  # whose speakers the head does not know
    if not reverse:
        assert history[-1]["train"]["speaker_loss"] < 0.95 * history[0]["train"]["speaker_loss"]
    finetuned = train(recipe, "finetuning", tmp_path / "finetuned", start_from=run.path)
    assert [*load_model(finetuned.path).tasks()] == ["ctc", "emotion"]
    assert len(sa2sr.load(finetuned.path).predict(voice(0.5), 16_000).rows) == 1


@pytest.mark.parametrize("inputs", [["frames", "states"], ["frames", "posteriors"], ["frames"]], ids="+".join)
def test_end_to_end_with_a_recogniser(
    inputs: list[str], make_recipe: Callable[..., Recipe], voice: Any, tmp_path: Path
) -> None:
    recipe = make_recipe(
        {
            "pretraining.objectives": {"ctc": 1},
            "pretraining.max_epochs": 1,
            "finetuning.objectives": {"ctc": 0.02, "emotion": {"channels": 8, "heads": 2, "inputs": inputs}},
            "finetuning.max_epochs": 8,
        }
    )
    pretrained = train(recipe, "pretraining", tmp_path / "pretrained")
    run = train(recipe, "finetuning", tmp_path / "run", start_from=pretrained.path)
    history = run.history()
    for loss in ("ctc_loss", "emotion_loss"):
        assert history[-1]["train"][loss] < 0.6 * history[0]["train"][loss]
    network = load_model(run.path)
    assert network.settings.drifted == ()
    assert network.emotion.convolutions[0].convolution.in_channels == sum(  # type: ignore[union-attr]
        {"frames": 36, "states": 16, "posteriors": 29}[each] for each in inputs
    )
    (row,) = sa2sr.load(run.path, engine="onnx").predict(voice(0.5), 16_000).rows
    (again,) = sa2sr.load(run.path, engine="torch").predict(voice(0.5), 16_000).rows
    assert row.valence == pytest.approx(again.valence, abs=1e-3)


def test_emotions_are_told_from_what_the_sentiment_head_says_too(
    make_recipe: Callable[..., Recipe], voice: Any, tmp_path: Path
) -> None:
    emotion = {"channels": 8, "heads": 2, "inputs": ["states", "sentiment"], "input_dropout": 0.2}
    recipe = make_recipe({"pretraining.max_epochs": 1, "finetuning.objectives": {"emotion": emotion}})
    pretrained = train(recipe, "pretraining", tmp_path / "pretrained")
    run = train(recipe, "finetuning", tmp_path / "run", start_from=pretrained.path)
    (row,) = sa2sr.load(run.path, engine="onnx").predict(voice(0.5), 16_000).rows
    (again,) = sa2sr.load(run.path, engine="torch").predict(voice(0.5), 16_000).rows
    assert row.valence == pytest.approx(again.valence, abs=1e-3)


@pytest.mark.parametrize("fusion", ["concatenation", "gate", "attention"])
def test_a_transcript_beside_the_voice(
    fusion: str, make_recipe: Callable[..., Recipe], manifests: tuple[Path, Path], voice: Any, tmp_path: Path
) -> None:
    text = {"fusion": fusion, "size": 8, "units": 8, "dropout": 0.0}
    recipe = make_recipe(
        {
            "pretraining": None,
            "finetuning.objectives": {"ctc": 0.02, "emotion": {"channels": 8, "heads": 2, "text": text}},
            "finetuning.max_epochs": 8,
        }
    )
    run = train(recipe, "finetuning", tmp_path / "run")
    found = {
        read: evaluate(run.path, [manifests[1]], resamples=2, read=read) for read in (None, "reference", "recognised")
    }
    concordances = {read: each.metrics["overall"]["valence"]["ccc"]["value"] for read, each in found.items()}
    assert concordances[None] == concordances["reference"] > 0.4
    assert concordances["recognised"] < concordances["reference"]
    assert len({each.folder for each in found.values()}) == 3
    assert found["recognised"].metrics["transcribes"]
    network = load_model(run.path)
    model = sa2sr.load(run.path)
    (row,) = model.predict(voice(0.5), 16_000).rows
    (again,) = sa2sr.load(run.path, engine="torch").predict(voice(0.5), 16_000).rows
    assert row.valence == again.valence
    assert network.settings.reads_texts
    with pytest.raises(ModelError, match="it reads what it recognises"):
        export(run.path, tmp_path / "exported")


def test_what_is_recognised_in_place_of_states(
    make_recipe: Callable[..., Recipe], manifests: tuple[Path, Path], voice: Any, tmp_path: Path
) -> None:
    text = {"unit": "character", "read": "recognised", "size": 8, "units": 8, "dropout": 0.0}
    recipe = make_recipe(
        {
            "pretraining.objectives": {"ctc": 1},
            "pretraining.max_epochs": 30,
            "pretraining.optimiser.rate": 0.03,
            "finetuning.objectives": {"ctc": 0.02, "emotion": {"inputs": [], "text": text}},
            "finetuning.max_epochs": 8,
        }
    )
    pretrained = train(recipe, "pretraining", tmp_path / "pretrained")
    run = train(recipe, "finetuning", tmp_path / "run", start_from=pretrained.path)
    history = run.history()
    assert history[-1]["train"]["emotion_loss"] < 0.6 * history[0]["train"]["emotion_loss"]
    found = evaluate(run.path, [manifests[1]], resamples=2)
    with (found.folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    told = {row["text"]: row["valence"] for row in rows}
    assert len(told) > 1  # it hears different words,
    assert all(float(row["valence"]) == pytest.approx(float(told[row["text"]]), abs=1e-4) for row in rows)
    assert found.metrics["overall"]["valence"]["ccc"]["value"] > 0.4  # and they tell what is felt
    (row,) = sa2sr.load(run.path).predict(voice(0.5), 16_000).rows
    assert 1 <= row.valence <= 7
    with pytest.raises(ModelError, match="it reads what it recognises"):
        export(run.path, tmp_path / "exported")


def test_what_reads_and_does_not(
    make_recipe: Callable[..., Recipe], manifests: tuple[Path, Path], voice: Any, tmp_path: Path
) -> None:
    recipe = make_recipe({"pretraining": None, "finetuning.max_epochs": 1})
    with pytest.raises(UserError, match="--read recognised: the model 'tiny' reads no texts beside speech"):
        evaluate(train(recipe, "finetuning", tmp_path / "deaf").path, [manifests[1]], read="recognised")
    objectives = {"emotion": {"channels": 8, "heads": 2, "text": {"size": 4, "units": 4}}}
    changes = {"pretraining": None, "finetuning.max_epochs": 1, "finetuning.objectives": objectives}
    run = train(make_recipe(changes), "finetuning", tmp_path / "reading")
    evaluate(run.path, [manifests[1]], resamples=2)
    with pytest.raises(ModelError, match="'tiny' does not transcribe; one that is trained on ctc does"):
        sa2sr.load(run.path).predict(voice(0.5), 16_000)
    objectives["emotion"]["text"] = {"read": "recognised"}
    with pytest.raises(ModelError, match="does not transcribe"):
        train(make_recipe(changes), "finetuning", tmp_path / "hearing")


@pytest.mark.parametrize(("inputs", "task"), [("posteriors", "ctc"), ("sentiment", "sentiment")])
def test_what_a_head_says_cannot_be_read_without_it(
    inputs: str, task: str, make_recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = make_recipe({"finetuning.objectives.emotion": {"inputs": [inputs]}, "pretraining": None})
    with pytest.raises(RecipeError, match=f"has {inputs}, and there is no {task} to give them"):
        train(recipe, "finetuning", tmp_path)


def test_without_names_there_is_nobody_to_identify(make_recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = make_recipe({"pretraining.objectives": {"ctc": 1, "speaker": 1}})
    with pytest.raises(CorpusError, match="no label for 'speaker'; names of speakers are needed"):
        train(recipe, "pretraining", tmp_path / "run")


def test_the_loss_of_some_who_are_known(
    make_recipe: Callable[..., Recipe], tone: Callable[..., Cut], tmp_path: Path
) -> None:
    """Of the speakers of the development set three are known, each alone in a batch; the loss is theirs."""
    names = [*"abcabc", "a", *"xxyy", "b", *"xxyy", "c", "z"]
    for name, numbers in (("train", range(6)), ("dev", range(6, len(names)))):
        write_cuts(tmp_path / f"{name}.jsonl", [tone(number, speaker=names[number]) for number in numbers])
    recipe = make_recipe(
        {
            "pretraining.objectives": {"speaker": {"units": 4}},
            "pretraining.train": [str(tmp_path / "train.jsonl")],
            "pretraining.dev": [str(tmp_path / "dev.jsonl")],
            "pretraining.batches": {"utterances": 1},
            "pretraining.max_epochs": 1,
        }
    )
    run = train(recipe, "pretraining", tmp_path / "run")
    network = load_model(run.path)
    task = network.tasks()["speaker"]
    data = load_stage_data(recipe.pretraining, recipe.frontend, 0, make_accelerator())
    batches = data.dev_batches(recipe.pretraining)
    losses = []
    for batch in BatchLoader(data.dev)(batches):
        states = network.states(batch.frames, batch.lengths)
        losses.append(float(task.loss(states, batch.lengths, batch)))
    known = [loss for loss in losses if not math.isnan(loss)]
    assert (len(losses), len(known)) == (12, 3)
    assert run.history()[0]["dev"]["speaker_loss"] == pytest.approx(sum(known) / 3, rel=1e-4)


def test_more_speakers_than_settings_hold_are_refused_at_once(
    make_recipe: Callable[..., Recipe], tone: Callable[..., Cut], tmp_path: Path
) -> None:
    """Not when the features have been built, which may take hours."""
    write_cuts(tmp_path / "train.jsonl", [tone(number, speaker=f"{number}" * 30_000) for number in range(4)])
    write_cuts(tmp_path / "dev.jsonl", [tone(number, speaker=f"{number % 2}") for number in range(4, 8)])
    changes = {
        "pretraining.objectives": {"speaker": {"units": 4}},
        "pretraining.train": [str(tmp_path / "train.jsonl")],
        "pretraining.dev": [str(tmp_path / "dev.jsonl")],
        "pretraining.features": {"store": str(tmp_path / "store")},
    }
    with pytest.raises(RecipeError, match=r"the speakers of the training set:\n  speakers: the names of 4 speakers"):
        train(make_recipe(changes), "pretraining", tmp_path / "run")
    assert not (tmp_path / "store").exists()


def test_a_conformer(make_recipe: Callable[..., Recipe], voice: Any, tmp_path: Path) -> None:
    encoder = {"kind": "conformer", "layers": 2, "units": 16, "heads": 2, "kernel": 5, "dropout": 0.1}
    recipe = make_recipe({"encoder": encoder, "pretraining.max_epochs": 4, "finetuning.max_epochs": 2})
    pretrained = train(recipe, "pretraining", tmp_path / "pretrained")
    history = pretrained.history()
    assert history[-1]["train"]["ctc_loss"] < 0.5 * history[0]["train"]["ctc_loss"]
    finetuned = train(recipe, "finetuning", tmp_path / "finetuned", start_from=pretrained.path)
    (row,) = sa2sr.load(finetuned.path).predict(voice(0.5), 16_000).rows
    (again,) = sa2sr.load(finetuned.path, engine="torch").predict(voice(0.5), 16_000).rows
    for dimension in DIMENSIONS:
        assert 1 <= getattr(row, dimension) == getattr(again, dimension) <= 7
    with pytest.raises(ModelError, match="cannot be exported or run by the onnx engine: its encoder is a conformer"):
        export(finetuned.path, tmp_path / "exported")
    with pytest.raises(ModelError, match="the torch engine predicts with it"):
        sa2sr.load(finetuned.path, engine="onnx").predict(voice(0.5), 16_000)


def test_from_the_package_s_own_encoder(manifests: tuple[Path, Path], tmp_path: Path) -> None:
    sets = {f"finetuning.{name}": [str(path)] for name, path in zip(("train", "dev"), manifests, strict=True)}
    fast = {"augmentation.speeds": [1.0], "max_epochs": 1, "features.store": str(tmp_path / "store")}
    common = sets | {f"finetuning.{key}": value for key, value in fast.items()} | {"finetuning.features.workers": 1}
    changes = [f"{key}={json.dumps(value)}" for key, value in common.items()]
    with pytest.raises(
        ModelError, match=r"was trained with encoder\.layers = 3, .* give the command encoder"
    ) as raised:
        train(load_recipe("sa2sr-small", changes), "finetuning", tmp_path / "no", start_from="default")
    conformer = load_recipe("sa2sr-conformer-small", changes)
    with pytest.raises(ModelError, match=r"encoder\.kind = lstm, .* give the command 'encoder\.kind=\"lstm\"'"):
        train(conformer, "finetuning", tmp_path / "no", start_from="default")
    remedy = shlex.split(str(raised.value).partition("give the command ")[2].partition(", or take")[0])
    recipe = load_recipe("sa2sr-small", [*changes, *remedy])
    run = train(recipe, "finetuning", tmp_path / "run", start_from="default")
    tuned, shipped = load_model(run.path), load_model("default")
    assert tuned.settings.encoder == recipe.encoder
    assert tuned.settings.drifted == ("ctc", "sentiment")
    for name, weights in shipped.encoder.named_parameters():  # an epoch of a dozen utterances takes them nowhere else
        assert (tuned.encoder.get_parameter(name) - weights).abs().max() < 0.05
    train(load_recipe("from-default", changes), "finetuning", tmp_path / "documented", "default")
