"""Fine-tuning on corpora that are rated on different scales, in different dimensions, or only partly labelled."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sa2sr.config import DIMENSIONS, Recipe, Scale
from sa2sr.cuts import Cut, read_cuts, write_cuts
from sa2sr.errors import CorpusError
from sa2sr.inference import load
from sa2sr.metrics import ccc
from sa2sr.network.folder import read_calibration
from sa2sr.training.calibration import calibrate
from sa2sr.training.evaluate import evaluate
from sa2sr.training.run import RunFolder
from sa2sr.training.trainer import Trainer, train

MakeRecipe = Callable[..., Recipe]
FIVE, SEVEN = Scale(name="1-5", low=1, high=5), Scale(name="1-7", low=1, high=7)
TARGET = {"name": "1-7", "low": 1, "high": 7}


@pytest.fixture(scope="module")
def corpora(tone: Callable[..., Cut], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Acted speech with all ratings from 1 to 7, and more sentences with valence from 1 to 5; texts come with the
    latter alone, and sentiment with some of them."""
    folder = tmp_path_factory.mktemp("corpora")

    def acted(number: int) -> Cut:
        return tone(number, text=None, custom={})

    def sentence(number: int) -> Cut:
        valence = 1.0 + 1.8 * (number % 3) + 0.01 * number
        changes: dict[str, Any] = {"ratings": {"valence": min(valence, 5.0)}, "scale": FIVE}
        return tone(number, **changes | ({} if number % 2 else {"custom": {}}))

    for name, make, train_set, dev_set in (
        ("acted", acted, range(8), range(8, 14)),
        ("words", sentence, range(20, 44), range(44, 56)),
    ):
        write_cuts(folder / name / "train.jsonl", map(make, train_set))
        write_cuts(folder / name / "dev.jsonl", map(make, dev_set))
    return folder


def joint(corpora: Path, **changes: Any) -> dict[str, Any]:
    """What ``make_recipe`` is to change."""
    sets = {
        name: [str(corpora / corpus / f"{name}.jsonl") for corpus in ("acted", "words")] for name in ("train", "dev")
    }
    keys = sets | {"scale": TARGET, "features": {"source": "on-the-fly"}, "batches": {"utterances": 8, "balance": 1}}
    return {f"finetuning.{key}": value for key, value in (keys | changes).items()}


def test_a_joint_finetuning_end_to_end(make_recipe: MakeRecipe, corpora: Path, tmp_path: Path) -> None:
    objectives = {"emotion": {"channels": 8, "heads": 2}, "ctc": 0.1, "sentiment": {"weight": 0.5, "units": 8}}
    recipe = make_recipe(joint(corpora, objectives=objectives, max_epochs=4))
    run = train(recipe, "finetuning", tmp_path / "run")
    best = json.loads(run.metrics_file.read_text())
    for task in ("emotion", "ctc", "sentiment"):
        assert 0 < best["train"][f"{task}_loss"] < math.inf

    # The scores of the development set, from what a user is told of each file.
    loaded = load(run.model, engine="torch")
    assert loaded.scale == SEVEN
    assert loaded.calibration is not None
    expected: dict[str, dict[str, float]] = {}
    residuals: dict[str, list[float]] = {name: [] for name in DIMENSIONS}
    for corpus in ("acted", "words"):
        cuts = list(read_cuts(corpora / corpus / "dev.jsonl"))
        table = loaded.predict([cut.recording.sources[0].source for cut in cuts], level=0)
        expected[corpus] = {}
        for name in DIMENSIONS if corpus == "acted" else ("valence",):
            truth = np.array([cut.supervisions[0].custom[name] for cut in cuts])
            truth = truth if corpus == "acted" else 1 + (truth - 1) / 4 * 6
            expected[corpus][name] = ccc(table.column(name), truth)
            residuals[name] += np.abs(table.column(name) - truth).tolist()
    dev = best["dev"]
    for corpus, scores in expected.items():
        assert dev[f"{corpus}_mean_ccc"] == pytest.approx(np.mean([*scores.values()]), abs=0.02)  # those are clipped
        for name, value in scores.items():
            assert dev[f"{corpus}_{name}_ccc"] == pytest.approx(value, abs=0.02)
    assert "words_activation_ccc" not in dev
    assert dev["mean_ccc"] == pytest.approx((dev["acted_mean_ccc"] + dev["words_mean_ccc"]) / 2)
    assert best["criterion"] == pytest.approx(dev["cer"] - dev["auc"] - dev["mean_ccc"])
    for name, sizes in residuals.items():
        assert loaded.calibration.dimensions[name].sizes == pytest.approx(sorted(sizes), abs=1e-4)


def test_small_corpora_are_not_drowned(make_recipe: MakeRecipe, corpora: Path, tmp_path: Path) -> None:
    def heard(balance: float) -> list[int]:
        recipe = make_recipe(joint(corpora, batches={"utterances": 8, "balance": balance}))
        assert recipe.finetuning is not None
        trainer = Trainer(recipe, "finetuning", RunFolder(tmp_path / f"run{balance}"), None)
        with trainer.monitor:
            groups = list(trainer.groups_of_batches(trainer.plan.epoch(0)))
        numbers = np.concatenate([batch.corpora for group in groups for batch in group])
        return np.bincount(numbers).tolist()

    assert heard(0) == [8, 24]
    assert heard(1) == [16, 16]


def test_chosen_ratings_alone_count(make_recipe: MakeRecipe, corpora: Path, tmp_path: Path) -> None:
    chosen = {"acted": ["activation"], "words": ["valence"]}
    run = train(make_recipe(joint(corpora, ratings=chosen, max_epochs=1)), "finetuning", tmp_path / "run")
    scores = {name for name in run.history()[0]["dev"] if name.endswith("ccc")}
    assert scores == {
        *("activation_ccc", "valence_ccc", "mean_ccc"),
        *("acted_activation_ccc", "acted_mean_ccc", "words_valence_ccc", "words_mean_ccc"),
    }
    found = read_calibration(run.model)
    assert found is not None
    assert {name: each.utterances for name, each in found.dimensions.items()} == {"activation": 6, "valence": 12}
    with pytest.raises(CorpusError, match=r"no corpus 'act'; there are acted, words"):
        train(make_recipe(joint(corpora, ratings={"act": ["valence"]})), "finetuning", tmp_path / "other")


def test_scales_are_not_mixed_unless_one_is_named(make_recipe: MakeRecipe, corpora: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"different scales: .*finetuning\.scale"):
        train(make_recipe(joint(corpora, scale=None)), "finetuning", tmp_path / "run")
    one_each = {"train": [str(corpora / "acted" / "train.jsonl")], "dev": [str(corpora / "words" / "dev.jsonl")]}
    with pytest.raises(CorpusError, match=r"the development set .*finetuning\.scale"):
        train(make_recipe(joint(corpora, scale=None, **one_each)), "finetuning", tmp_path / "run")


def test_evaluations_name_corpora_and_map_scales_when_asked(
    random_model: Callable[..., Path], make_recipe: MakeRecipe, corpora: Path, tmp_path: Path
) -> None:
    model, paths = random_model(gain=4.0), [corpora / name / "dev.jsonl" for name in ("acted", "words")]
    with pytest.raises(CorpusError, match="--map-scale"):
        evaluate(model, [paths[1]], tmp_path / "out", resamples=1)
    with pytest.raises(CorpusError, match="--map-scale"):
        calibrate(model, [paths[1]])
    found = calibrate(model, paths, map_scale=True)
    assert {name: each.utterances for name, each in found.dimensions.items()} == {
        "activation": 6,
        "valence": 18,
        "dominance": 6,
    }
    both = evaluate(model, paths, tmp_path / "both", resamples=1, map_scale=True).metrics
    assert both["overall"]["valence"]["utterances"] == 18
    for name, path in (("acted", paths[0]), ("words", paths[1])):
        alone = evaluate(model, [path], tmp_path / name, resamples=1, map_scale=True).metrics
        assert alone["by_corpus"] == alone["intervals"]["by_corpus"] == {}
        assert both["intervals"]["by_corpus"][name].keys() == alone["intervals"]["levels"].keys()
        for level, dimensions in alone["intervals"]["levels"].items():
            assert both["intervals"]["by_corpus"][name][level].keys() == dimensions.keys()
            for dimension, found_alone in dimensions.items():
                assert both["intervals"]["by_corpus"][name][level][dimension] == pytest.approx(found_alone, rel=1e-5)
        for dimension, measures in alone["overall"].items():
            for metric in ("ccc", "rmse"):
                value = both["by_corpus"][name][dimension][metric]["value"]
                assert value == pytest.approx(measures[metric]["value"], abs=1e-5)
