"""Regressions from fixed vectors, from cuts to an evaluation."""

import csv
import json
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

import sa2sr
from sa2sr.cli.app import app
from sa2sr.config import DIMENSIONS, Recipe
from sa2sr.cuts import Cut, write_cuts
from sa2sr.errors import CorpusError, ModelError, RecipeError, UserError
from sa2sr.metrics import ccc, error_rate
from sa2sr.network.folder import digest_of, read_calibration
from sa2sr.training.evaluate import evaluate
from sa2sr.training.regression import regress
from sa2sr.training.regressor import load_regressor, save_regressor
from sa2sr.training.run import RunFolder
from sa2sr.training.trainer import train
from sa2sr.vectors.material import gather

MOODS = ("This is bad", "It is so", "All is good")  # negative, neutral and positive, to VADER too
MakeRecipe = Callable[..., Recipe]


@pytest.fixture(scope="session")
def spoken(tone: Callable[..., Cut], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Tones that say and feel what is in their pitch, and speakers who say them."""
    folder = tmp_path_factory.mktemp("spoken")
    for name, numbers in {"train": range(24), "dev": range(24, 36), "test": range(36, 54)}.items():
        write_cuts(folder / f"{name}.jsonl", (tone(n, text=MOODS[n % 3], speaker=f"s{n % 2}") for n in numbers))
    return {name: folder / f"{name}.jsonl" for name in ("train", "dev", "test")}


@pytest.fixture(scope="session")
def recipe_of(spoken: dict[str, Path], make_recipe: MakeRecipe) -> MakeRecipe:
    """``recipe_of({"tfidf": {}}, regressor="svr")``"""

    def make(features: dict[str, Any], **changes: Any) -> Recipe:
        sets = {"train": str(spoken["train"]), "dev": str(spoken["dev"])}
        return make_recipe(
            {"pretraining": None, "finetuning": None, "regression": {**sets, "features": features, **changes}}
        )

    return make


@pytest.fixture(scope="session")
def pretrained(spoken: dict[str, Path], make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that transcribes, after a fashion, and knows speakers."""
    changes: dict[str, Any] = {
        "pretraining.objectives": {"ctc": 1, "speaker": {"weight": 5, "units": 4}},
        "pretraining.train": [str(spoken["train"])],
        "pretraining.dev": [str(spoken["dev"])],
        "pretraining.max_epochs": 12,
        "pretraining.optimiser": {"rate": 0.03},
    }
    return train(make_recipe(changes), "pretraining", tmp_path_factory.mktemp("pretrained")).path


def predictions(folder: Path) -> list[dict[str, str]]:
    with (folder / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def valence(folder: Path) -> float:
    return float(json.loads((folder / "metrics.json").read_text())["overall"]["valence"]["ccc"]["value"])


@pytest.mark.parametrize("regressor", ["ridge", "svr"])
@pytest.mark.parametrize(
    "features", [{"sentiment": {}}, {"tfidf": {}}, {"functionals": {}}], ids=lambda f: next(iter(f))
)
def test_what_is_in_the_features_is_learnt(
    features: dict[str, Any], regressor: str, recipe_of: MakeRecipe, spoken: dict[str, Path], tmp_path: Path
) -> None:
    run = regress(recipe_of(features, regressor=regressor), tmp_path / "run")
    result = evaluate(run.path, [spoken["test"]], tmp_path / "evaluation", resamples=20)
    assert valence(result.folder) > 0.85
    rows = predictions(result.folder)
    said, true = ([float(row[name]) for row in rows] for name in ("valence", "valence_truth"))
    assert result.metrics["overall"]["valence"]["ccc"]["value"] == pytest.approx(ccc(said, true))
    assert all(1 <= float(row[dimension]) <= 7 for row in rows for dimension in DIMENSIONS)
    assert "text" not in rows[0]  # nothing was recognised
    assert read_calibration(run.path) is not None
    (entry,) = run.history()
    assert entry["best"] is True
    assert entry["dev"]["valence_ccc"] > 0.85
    again = regress(recipe_of(features, regressor=regressor), tmp_path / "again")
    assert (again.model / "model.safetensors").read_bytes() == (run.model / "model.safetensors").read_bytes()


def test_ridge_is_the_closed_form(recipe_of: MakeRecipe, spoken: dict[str, Path], tmp_path: Path) -> None:
    penalty = 3.0
    recipe = recipe_of({"sentiment": {}}, penalties=[penalty], stretch=False)
    model = load_regressor(regress(recipe, tmp_path).path)
    assert model.settings.scale is not None
    from sa2sr.speech.utterances import read_utterances

    utterances = read_utterances([spoken["train"]]).utterances
    x = model.space.of(gather(model.settings.regression, utterances, recipe.frontend, None))
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-5)
    for dimension in range(3):
        y = np.array([u.ratings[dimension] for u in utterances])
        expected = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - y.mean()))
        np.testing.assert_allclose(model.weights[dimension], expected, atol=1e-4)
        assert model.intercepts[dimension] == pytest.approx(y.mean(), abs=1e-4)


def test_the_stretch_is_the_best_for_the_development_set(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    scores = {}
    for stretch in (False, True):
        recipe = recipe_of({"tfidf": {}}, penalties=[100.0], stretch=stretch)
        scores[stretch] = regress(recipe, tmp_path / str(stretch)).history()[0]["dev"]
    for name in (f"{dimension}_ccc" for dimension in DIMENSIONS):
        assert scores[True][name] > scores[False][name] + 0.1


def test_a_loaded_model_predicts_the_same(
    recipe_of: MakeRecipe, spoken: dict[str, Path], pretrained: Path, tmp_path: Path
) -> None:
    features: dict[str, Any] = {"sentiment": {}, "tfidf": {"unit": "character"}, "speaker": {}, "functionals": {}}
    run = regress(recipe_of(features), tmp_path / "run", start_from=pretrained)
    model = load_regressor(run.path)
    save_regressor(model, tmp_path / "copy")
    assert digest_of(tmp_path / "copy") == digest_of(run.model)
    first, second = (
        predictions(evaluate(folder, [spoken["test"]], tmp_path / name, resamples=5).folder)
        for name, folder in (("of-run", run.path), ("of-copy", tmp_path / "copy"))
    )
    assert first == second
    assert len({row["valence"] for row in first}) > 3
    assert model.weights.shape[1] > 8 * 12  # functionals of 12 filters alone


@pytest.mark.parametrize("part", ["regression.yaml", "model.safetensors", "vocabulary.json", "encoder/config.yaml"])
def test_each_part_of_a_regression_is_in_its_digest(
    part: str, recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path
) -> None:
    model = regress(recipe_of({"tfidf": {}, "speaker": {}}), tmp_path / "run", start_from=pretrained).model
    before = digest_of(model)
    (model / "intervals.json").write_text("{}")
    assert digest_of(model) == before
    (model / part).write_bytes((model / part).read_bytes() + b" ")
    assert digest_of(model) != before


def test_a_run_folder_is_for_one_recipe(
    recipe_of: MakeRecipe, make_recipe: MakeRecipe, pretrained: Path, tmp_path: Path
) -> None:
    """A finished regression has no checkpoint, and a finished training may have lost its own."""
    run = regress(recipe_of({"tfidf": {}}), tmp_path / "run")
    (tmp_path / "tuned").mkdir()
    tuned = train(make_recipe({"finetuning.max_epochs": 1}), "finetuning", tmp_path / "tuned")
    tuned.checkpoint.unlink()
    before = contents(run.path) | contents(tuned.path)
    for recipe, message in (
        (recipe_of({"functionals": {}}), "regression.features"),
        (recipe_of({"tfidf": {}}).model_copy(update={"name": "other"}), "name: tiny there, other now"),
    ):
        with pytest.raises(RecipeError, match=rf"run: holds a run of another recipe \({message}.*another --out"):
            regress(recipe, run.path)
    with pytest.raises(RecipeError, match=r"holds a run of another recipe \(--encoder: None there"):
        regress(recipe_of({"tfidf": {}}), run.path, start_from=pretrained)
    for recipe, stage, folder in (
        (make_recipe({}), "pretraining", run),
        (make_recipe({}), "finetuning", run),
        (make_recipe({"encoder.units": 4}), "finetuning", tuned),
        (make_recipe({}), "pretraining", tuned),
    ):
        with pytest.raises(RecipeError, match="holds a run of another recipe"):
            train(recipe, stage, folder.path)
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        regress(recipe_of({"tfidf": {}}), tuned.path)
    assert contents(run.path) | contents(tuned.path) == before
    regress(recipe_of({"tfidf": {}}), run.path)  # the same again
    assert (run.model / "model.safetensors").read_bytes() == before[run.model / "model.safetensors"]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_recognised_words_and_their_errors(
    recipe_of: MakeRecipe, spoken: dict[str, Path], pretrained: Path, tmp_path: Path
) -> None:
    texts = {}
    for beam in (1, 10) if find_spec("flashlight") else (1,):  # which is an extra, for Python up to 3.12
        run = regress(
            recipe_of({"tfidf": {"fewest": 1}}, text={"source": "ctc", "beam": beam}), tmp_path / f"{beam}", pretrained
        )
        result = evaluate(run.path, [spoken["test"]], resamples=5)
        rows = predictions(result.folder)
        texts[beam] = [row["text"] for row in rows]
        wer = error_rate(texts[beam], [row["text_truth"] for row in rows], unit="word")
        assert result.metrics["overall"]["ctc"]["wer"]["value"] == pytest.approx(wer)
        assert "wer" in run.history()[0]["dev"]
    of_model = predictions(evaluate(pretrained, [spoken["test"]], tmp_path / "of-model", resamples=5).folder)
    assert texts[1] == [row["text"] for row in of_model]

    # The same from the file that the evaluation of the recogniser wrote.
    files = [str(tmp_path / "of-model" / "predictions.csv")]
    for name in ("train", "dev"):
        evaluate(pretrained, [spoken[name]], tmp_path / name, resamples=5)
        files.append(str(tmp_path / name / "predictions.csv"))
    run = regress(recipe_of({"tfidf": {"fewest": 1}}, text={"source": "file", "files": files}), tmp_path / "file")
    from_file = predictions(evaluate(run.path, [spoken["test"]], resamples=5).folder)
    first = predictions(tmp_path / "1" / "evaluation" / f"{spoken['test'].parent.name}-test")
    assert [row["valence"] for row in from_file] == [row["valence"] for row in first]
    with pytest.raises(CorpusError, match="no hypothesis for 12 utterances, such as u24"):
        regress(recipe_of({"tfidf": {}}, text={"source": "file", "files": files[:2]}), tmp_path / "short")


def test_learning_from_references_and_predicting_from_what_is_heard(
    recipe_of: MakeRecipe, spoken: dict[str, Path], pretrained: Path, tmp_path: Path
) -> None:
    text = {"source": "ctc", "learn_from": "reference"}
    mixed = load_regressor(regress(recipe_of({"tfidf": {}}, text=text), tmp_path / "mixed", pretrained).path)
    plain = load_regressor(regress(recipe_of({"tfidf": {}}), tmp_path / "plain").path)
    assert mixed.space.vocabulary is not None
    assert plain.space.vocabulary is not None
    assert mixed.space.vocabulary.ngrams == plain.space.vocabulary.ngrams
    heard = mixed.hear([spoken["test"]]).said["ctc"]
    assert heard == load_regressor(tmp_path / "mixed").hear([spoken["test"]]).said["ctc"]


def test_a_text_encoder(recipe_of: MakeRecipe, spoken: dict[str, Path], tmp_path: Path) -> None:
    make_text_encoder(tmp_path / "bert")
    from sa2sr.vectors.encoding import encode_texts

    texts = ["all is good", "bad", "it is so so so so"]
    together = encode_texts(texts, str(tmp_path / "bert"))
    assert together.shape == (3, 8)
    assert np.ptp(together, axis=0).max() > 0.1
    for text, row in zip(texts, together, strict=True):  # padding does not count
        np.testing.assert_allclose(encode_texts([text], str(tmp_path / "bert"))[0], row, atol=1e-5)
    run = regress(recipe_of({"encoder": {"model": str(tmp_path / "bert")}}), tmp_path / "run")
    assert valence(evaluate(run.path, [spoken["test"]], resamples=5).folder) > 0.8


def make_text_encoder(folder: Path) -> None:
    """A tiny BERT with random weights, and words as tokens."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", *sorted({word for mood in MOODS for word in mood.lower().split()})]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=len(words), max_position_embeddings=16, initializer_range=1.0, **sizes)
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)


def test_what_cannot_be_done_is_explained(
    recipe_of: MakeRecipe, spoken: dict[str, Path], pretrained: Path, tmp_path: Path, voice: Any
) -> None:
    heard = recipe_of({"tfidf": {}}, text={"source": "ctc"})
    with pytest.raises(ModelError, match="needs a pre-trained model: name one with --encoder"):
        regress(heard, tmp_path / "run")
    run = regress(recipe_of({"tfidf": {}}), tmp_path / "run")
    with pytest.raises(ModelError, match="is a regression, which 'sa2sr evaluate' runs on cuts"):
        sa2sr.load(run.path).predict(voice(0.5), 16_000)
    recipe = recipe_of({"tfidf": {}})
    assert recipe.regression is not None
    with pytest.raises(CorpusError, match="no dev manifest is given; use --dev FILE"):
        regress(
            recipe.model_copy(update={"regression": recipe.regression.model_copy(update={"dev": ()})}), tmp_path / "x"
        )
    with pytest.raises(UserError, match="has no regression"):
        regress(recipe.model_copy(update={"regression": None}), tmp_path / "x")


@pytest.mark.parametrize(
    ("module", "extra"),
    [("opensmile", "egemaps"), ("sklearn.linear_model", "baselines"), ("flashlight.lib.text", "beam")],
)
def test_a_missing_extra_is_named(
    module: str, extra: str, recipe_of: MakeRecipe, pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    features: dict[str, Any] = {"egemaps": {}} if extra == "egemaps" else {"tfidf": {}}
    text = {"source": "ctc", "beam": 5} if extra == "beam" else {}
    with pytest.raises(UserError, match=rf"sa2sr\[{extra}\]"):
        regress(recipe_of(features, text=text), tmp_path / "run", pretrained)


def test_a_damaged_folder_is_refused(recipe_of: MakeRecipe, tmp_path: Path) -> None:
    folder = regress(recipe_of({"tfidf": {}}), tmp_path / "run").model
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary | {"ngrams": vocabulary["ngrams"][:-1]}))
    with pytest.raises(ModelError, match="do not fit each other or the vocabulary"):
        load_regressor(folder)
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary | {"ngrams": [1]}))
    with pytest.raises(ModelError, match="is not a vocabulary"):
        load_regressor(folder)
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    tensors = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in tensors.items() if "intercepts" not in n}, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"regression\.intercepts is missing"):
        load_regressor(folder)


def test_audio_that_cannot_be_read(
    tone: Callable[..., Cut], recipe_of: MakeRecipe, spoken: dict[str, Path], tmp_path: Path
) -> None:
    cuts = [tone(n, text=MOODS[n % 3]) for n in range(36, 42)]
    cuts[0].recording.sources[0].source = str(tmp_path / "gone.wav")
    write_cuts(tmp_path / "test.jsonl", cuts)
    of_sound = evaluate(
        regress(recipe_of({"functionals": {}}), tmp_path / "a").path, [tmp_path / "test.jsonl"], resamples=5
    )
    assert len(of_sound.metrics["failures"]) == 1
    assert of_sound.metrics["utterances"] == 5
    of_words = evaluate(regress(recipe_of({"tfidf": {}}), tmp_path / "b").path, [tmp_path / "test.jsonl"], resamples=5)
    assert of_words.metrics["utterances"] == 6  # whose audio nobody asked for


def test_the_command(recipe_of: MakeRecipe, spoken: dict[str, Path], tmp_path: Path) -> None:
    sets = ["--train", str(spoken["train"]), "--dev", str(spoken["dev"])]
    result = CliRunner().invoke(app, ["regress", "text-sentiment", *sets, "--out", str(tmp_path), "seed=1"])
    assert result.exit_code == 0, result.output
    assert "valence_ccc" in result.output
    assert json.loads(RunFolder(tmp_path).environment_file.read_text())["stage"] == "regression"
