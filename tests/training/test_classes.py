"""Emotion categories, and the sentiment of speech, from cuts to tables: trained, evaluated, predicted, exported."""

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import soundfile
from typer.testing import CliRunner

import sa2sr
from sa2sr.cli import app
from sa2sr.config import DIMENSIONS, SENTIMENTS, Recipe
from sa2sr.cuts import Cut, write_cuts
from sa2sr.errors import CorpusError, ModelError
from sa2sr.inference.export import export
from sa2sr.network.model import load_model
from sa2sr.training.evaluate import evaluate
from sa2sr.training.trainer import train

MakeRecipe = Callable[..., Recipe]
FEELINGS = ("Sad", "neutral", "happy")  # in the pitch, as all is; one is written otherwise
CATEGORY = {"channels": 8, "heads": 2}


@pytest.fixture(scope="module")
def felt(tone: Callable[..., Cut], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Manifests, in which some are of no known category, and some of dev and test of one that train has not."""
    folder = tmp_path_factory.mktemp("felt")
    made = {}
    for name, numbers in (("train", range(24)), ("dev", range(24, 36)), ("test", range(36, 66))):
        cuts = []
        for number in numbers:
            emotion = "bored" if name != "train" and number % 10 == 0 else FEELINGS[number % 3]
            cuts.append(tone(number, emotion=None if number in (3, 11, 22, 44) else emotion, speaker=f"s{number % 7}"))
        write_cuts(folder / f"{name}.jsonl", cuts)
        made[name] = [str(folder / f"{name}.jsonl")]
    return made


def changes(felt: dict[str, list[str]], stage: str = "finetuning", **values: Any) -> dict[str, Any]:
    wanted = {"train": felt["train"], "dev": felt["dev"], "max_epochs": 6} | values
    return {f"{stage}.{key}": value for key, value in wanted.items()}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("with_dimensions", [True, False])
def test_categories(
    with_dimensions: bool,
    felt: dict[str, list[str]],
    make_recipe: MakeRecipe,
    voice: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tasks = {"category": CATEGORY} | ({"emotion": CATEGORY} if with_dimensions else {})
    run = train(make_recipe(changes(felt, objectives=tasks)), "finetuning", tmp_path / "run")
    # What is left out is told.
    assert "1 label bored, which is no class" in " ".join(capsys.readouterr().err.split())
    settings = load_model(run.path).settings
    assert settings.categories == ("happy", "neutral", "sad")
    assert settings.objectives.category is not None
    assert settings.objectives.category.counts == (7, 7, 7)
    history = run.history()
    for entry in history:
        dev = entry["dev"]
        assert entry["criterion"] == pytest.approx(-dev["uar"] - (dev["mean_ccc"] if with_dimensions else 0))
    assert max(entry["dev"]["uar"] for entry in history) > 0.6  # by chance a third
    assert history[-1]["train"]["category_loss"] < history[0]["train"]["category_loss"]
    assert (run.model / "intervals.json").exists() == with_dimensions

    found = evaluate(run.path, felt["test"], tmp_path / "evaluation", resamples=100).metrics
    rows = rows_of(tmp_path / "evaluation" / "predictions.csv")
    known = [row for row in rows if row["emotion_truth"] in settings.categories]
    truth, said = [row["emotion_truth"] for row in known], [row["emotion"] for row in known]
    category, confusion = found["overall"]["category"], found["confusion"]["category"]
    assert category["utterances"] == len(known) == 26
    assert category["uar"]["value"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(truth, said))
    assert category["weighted_accuracy"]["value"] == pytest.approx(sklearn.metrics.accuracy_score(truth, said))
    assert category["macro_f1"]["value"] == pytest.approx(sklearn.metrics.f1_score(truth, said, average="macro"))
    assert category["uar"]["low"] < category["uar"]["value"] <= category["uar"]["high"]
    assert (confusion["classes"], confusion["others"]) == (["happy", "neutral", "sad"], {"bored": 3})
    expected = sklearn.metrics.confusion_matrix(truth, said, labels=confusion["classes"])
    assert confusion["counts"] == expected.tolist()
    for row in rows:
        shares = {name: float(row[f"emotion_{name}"]) for name in settings.categories}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["emotion"] == max(shares, key=lambda name: shares[name])

    predicted_alike(run.path, voice(1.0), tmp_path, DIMENSIONS if with_dimensions else ())
    table = sa2sr.load(run.path).predict(voice(1.0), 16_000, window=0.5, hop=0.25)
    columns = [f"emotion_{name}" for name in settings.categories]
    np.testing.assert_allclose(sum(table.column(name) for name in columns), 1, atol=1e-5)
    assert math.isnan(table[0].valence) == (not with_dimensions)
    assert set(table.column("emotion")) <= {*settings.categories}

    result = CliRunner().invoke(app, ["evaluate", str(run.path), *felt["test"], "-o", str(tmp_path / "again")])
    assert result.exit_code == 0, result.output
    shown = result.output
    assert "UAR" in shown
    assert "Confusion: what is taken for what" in shown
    assert "Left out of it, since the model knows no such class: 3 bored." in shown


def predicted_alike(run: Path, speech: Any, folder: Path, dimensions: tuple[str, ...]) -> None:
    """By every engine, loaded anew, exported, as windows and as a stream."""
    models = [sa2sr.load(run, engine=engine) for engine in ("torch", "torch", "onnx")]
    models.append(sa2sr.load(export(run, folder / "exported")))
    tables = [model.predict(speech, 16_000, name="x", window=0.5, hop=0.25) for model in models]
    assert len(tables[0]) > 2
    values = [[table.heading.values(row) for row in table] for table in tables]  # without the NaN of what is not told
    assert values[0] == values[1]
    assert values[2] == values[3]
    kept = [name for name in tables[0].columns if name not in ("file", "note", "emotion")]
    assert [name for name in DIMENSIONS if name in kept] == [*dimensions]
    for name in kept:
        np.testing.assert_allclose(tables[0].column(name), tables[2].column(name), atol=1e-4)
    stream = models[2].stream(16_000, name="x", window=0.5, hop=0.25)
    streamed = [row for part in np.array_split(speech, 7) for row in stream.push(part)] + stream.flush()
    assert [tables[2].heading.values(row) for row in streamed] == values[2]


def test_the_recipe_may_name_the_classes(felt: dict[str, list[str]], make_recipe: MakeRecipe, tmp_path: Path) -> None:
    tasks = {"category": CATEGORY | {"classes": ["sad", "happy"], "balanced": False}}
    run = train(make_recipe(changes(felt, objectives=tasks, max_epochs=1)), "finetuning", tmp_path / "run")
    assert load_model(run.path).settings.categories == ("sad", "happy")
    wrong = {"category": CATEGORY | {"classes": ["sad", "bored"]}}
    with pytest.raises(CorpusError, match="no training utterance is bored"):
        train(make_recipe(changes(felt, objectives=wrong)), "finetuning", tmp_path / "wrong")
    with pytest.raises(CorpusError, match="none of 12 utterances can be used: 12 x no label for category"):
        train(make_recipe({"finetuning.objectives": {"category": CATEGORY}}), "finetuning", tmp_path / "none")


@pytest.mark.parametrize("frozen", [True, False])
def test_sentiment_of_speech_on_asr_features(
    frozen: bool,
    felt: dict[str, list[str]],
    make_recipe: MakeRecipe,
    voice: Any,
    tmp_path: Path,
) -> None:
    sentiment = {"units": 8, "summariser": "attention", "weight": 1}
    recipe = make_recipe(
        changes(felt, "pretraining", objectives={"ctc": {}}, max_epochs=2)
        | changes(felt, objectives={"sentiment": sentiment}, freeze_encoder=frozen, max_epochs=12)
    )
    asr = train(recipe, "pretraining", tmp_path / "asr")
    run = train(recipe, "finetuning", tmp_path / "run", start_from=asr.path)
    history = run.history()
    assert [entry["criterion"] for entry in history] == pytest.approx([-entry["dev"]["auc"] for entry in history])
    assert min(entry["criterion"] for entry in history) < -0.7

    found = evaluate(run.path, felt["test"], tmp_path / "evaluation", resamples=100).metrics
    rows = rows_of(tmp_path / "evaluation" / "predictions.csv")
    truth = [SENTIMENTS.index(row["sentiment_truth"]) for row in rows]
    said = [int(np.argmax([float(row[name]) for name in SENTIMENTS])) for row in rows]
    assert found["overall"]["sentiment"]["unweighted_recall"]["value"] == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(truth, said)
    )
    assert found["confusion"]["sentiment"]["counts"] == sklearn.metrics.confusion_matrix(truth, said).tolist()

    # The table has the sentiment unasked, and the transcript where its head still fits the encoder.
    predicted_alike(run.path, voice(1.0), tmp_path, ())
    model = sa2sr.load(run.path)
    assert model.predict(voice(1.0), 16_000).columns == ("file", "start", "end", *SENTIMENTS, "note")
    if frozen:
        assert model.predict(voice(1.0), 16_000, transcript=True)[0].transcript is not None
    else:
        with pytest.raises(ModelError, match="trained further without the ctc head"):
            model.predict(voice(1.0), 16_000, transcript=True)
    with pytest.raises(ModelError, match="does not predict activation, valence and dominance: it tells sentiments"):
        _ = model.scale

    out = tmp_path / "table.jsonl"
    soundfile.write(tmp_path / "speech.wav", voice(1.0), 16_000)
    result = CliRunner().invoke(
        app, ["predict", str(tmp_path / "speech.wav"), "--model", str(run.path), "-o", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert set(json.loads(out.read_text())) == {"file", "start", "end", *SENTIMENTS, "note"}
    assert sa2sr.read_table(out).column("negative")[0] > 0
