import csv
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from sa2sr.cli import main
from sa2sr.config import DIMENSIONS, Recipe, Scale
from sa2sr.cuts import Cut, read_cuts, write_cuts
from sa2sr.errors import CorpusError, ModelError
from sa2sr.inference import load
from sa2sr.intervals import pooled
from sa2sr.network.folder import INTERVALS_FILE, read_calibration
from sa2sr.training.calibration import calibrate
from sa2sr.training.evaluate import evaluate
from sa2sr.training.evaluation_tables import print_evaluation
from sa2sr.training.run import RunFolder
from sa2sr.training.trainer import train

MakeRecipe = Callable[..., Recipe]
MakeCut = Callable[..., Cut]


@pytest.fixture(scope="module")
def trained(make_recipe: MakeRecipe, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A fine-tuning in bf16 that hears its training set at another speed: neither concerns the calibration."""
    changes = {"precision": "bf16", "augmentation": {"speeds": [1.1]}, "features": {"source": "on-the-fly"}}
    recipe = make_recipe({f"finetuning.{key}": value for key, value in changes.items()})
    return train(recipe, "finetuning", tmp_path_factory.mktemp("run") / "run")


def residuals(model: Path, cuts: list[Cut]) -> dict[str, list[float]]:
    """Of what a user is told of each file."""
    files = [cut.recording.sources[0].source for cut in cuts]
    table = load(model, engine="torch").predict(files, level=0)
    truth = {name: [cut.supervisions[0].custom[name] for cut in cuts] for name in DIMENSIONS}
    return {name: sorted(np.abs(table.column(name) - truth[name])) for name in DIMENSIONS}


def test_a_finetuning_keeps_the_residuals_of_its_development_set(
    trained: RunFolder, manifests: tuple[Path, Path]
) -> None:
    found = read_calibration(trained.path)
    assert found is not None
    assert found.cuts == (f"{manifests[1].parent.name}/dev.jsonl",)
    expected = residuals(trained.model, [*read_cuts(manifests[1])])
    for name in DIMENSIONS:
        assert found.dimensions[name].sizes == pytest.approx(expected[name], abs=2e-5)


def test_the_calibration_is_of_the_best_model_and_made_anew_with_it(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    short, long = (make_recipe({"finetuning.max_epochs": epochs, "finetuning.patience": 50}) for epochs in (1, 4))
    run, other = train(short, "finetuning", tmp_path / "run"), train(long, "finetuning", tmp_path / "other")
    before = (run.model / INTERVALS_FILE).read_bytes()
    train(long, "finetuning", run.path)
    assert any(entry["best"] for entry in run.history()[1:]), "else this test tests nothing"
    assert (run.model / INTERVALS_FILE).read_bytes() == (other.model / INTERVALS_FILE).read_bytes() != before
    # One of an earlier version of this program has none, and gets one.
    (run.model / INTERVALS_FILE).unlink()
    train(long, "finetuning", run.path)
    assert (run.model / INTERVALS_FILE).read_bytes() == (other.model / INTERVALS_FILE).read_bytes()
    # One that a user has made on other cuts is kept.
    (run.model / INTERVALS_FILE).write_text("{}")
    train(long, "finetuning", run.path)
    assert (run.model / INTERVALS_FILE).read_text() == "{}"


def test_a_pretraining_has_nothing_to_calibrate(make_recipe: MakeRecipe, tmp_path: Path) -> None:
    run = train(make_recipe({"pretraining.max_epochs": 1}), "pretraining", tmp_path / "run")
    assert not (run.model / INTERVALS_FILE).exists()
    with pytest.raises(ModelError, match="does not predict activation, valence and dominance"):
        calibrate(run.path, [])


def shift_predictions(folder: Path, shift: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["objectives.emotion.rating_mean"] += shift
    save_file(weights, folder / "model.safetensors")


@pytest.fixture
def rated(random_model: Callable[..., Path], tone: MakeCut, tmp_path: Path) -> tuple[Path, dict[str, Path]]:
    """A random model, and two halves of cuts with random ratings: exchangeable."""
    random, cuts = np.random.default_rng(3), []
    for number in range(400):
        ratings = dict(zip(DIMENSIONS, random.normal(4, 0.5, 3).clip(1, 7).tolist(), strict=True))
        if number % 5 == 0:
            del ratings["dominance"]
        cuts.append(tone(number % 60, ratings=ratings).with_id(f"c{number}"))
    paths = {}
    for name, half in (("calls", cuts[:200]), ("test", cuts[200:])):
        paths[name] = tmp_path / "own" / f"{name}.jsonl"
        write_cuts(paths[name], half)
    return random_model(spread=0.3), paths


def by_hand(rows: list[dict[str, str]], halves: dict[str, float]) -> dict[str, tuple[int, float, float]]:
    """Utterances, coverage and mean width from predictions.csv."""
    found = {}
    for name in DIMENSIONS:
        known = [(float(row[name]), float(row[f"{name}_truth"])) for row in rows if row[f"{name}_truth"]]
        ends = [(max(1.0, p - halves[name]), min(7.0, p + halves[name])) for p, _ in known]
        inside = [low <= truth <= high for (low, high), (_, truth) in zip(ends, known, strict=True)]
        found[name] = (len(known), sum(inside) / len(known), sum(high - low for low, high in ends) / len(known))
    return found


def test_the_command_calibrates_and_an_evaluation_reports_coverage(
    rated: tuple[Path, dict[str, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, paths = rated

    def command(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["sa2sr", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        assert not exit_.value.code
        return capsys.readouterr().out

    assert evaluate(model, [paths["test"]], tmp_path / "none", resamples=1).metrics["intervals"] is None
    printed = command("calibrate", model, paths["calls"])
    assert "200 utterances: +-" in printed
    assert "160 utterances: +-" in printed
    found = read_calibration(model)
    assert found is not None
    printed = command("evaluate", model, paths["test"], "--out", tmp_path / "out", "--resamples", "1")
    intervals = json.loads((tmp_path / "out" / "metrics.json").read_text())["intervals"]
    assert intervals["calibrated_on"]["cuts"] == ["own/calls.jsonl"]
    assert intervals["calibrated_on"]["dominance"] == {"utterances": 160, "speakers": 0}
    with (tmp_path / "out" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert intervals["levels"].keys() == {"0.8", "0.9", "0.95"}
    for level, dimensions in intervals["levels"].items():
        halves = dict(zip(DIMENSIONS, found.half_widths(float(level)).tolist(), strict=True))
        for name, (count, share, width) in by_hand(rows, halves).items():
            assert dimensions[name]["utterances"] == count
            assert dimensions[name]["half_width"] == halves[name]
            assert dimensions[name]["coverage"] == pytest.approx(share)
            assert dimensions[name]["mean_width"] == pytest.approx(width)
            # Of 200 calibrated and 200 tested the coverage varies with a standard deviation of 4 points at most.
            assert abs(share - float(level)) < 0.12
            assert f"{100 * share:.1f} % ({width:.2f})" in printed
    # A model that has changed since is not as good as its calibration says, and that shows.
    shift_predictions(model, 0.8)
    broken = evaluate(model, [paths["test"]], tmp_path / "broken", resamples=1).metrics["intervals"]
    assert all(each["coverage"] < 0.75 for each in broken["levels"]["0.9"].values())


def test_an_evaluation_says_that_there_were_too_few_utterances_to_calibrate_on(
    rated: tuple[Path, dict[str, Path]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, paths = rated
    (tmp_path / "few.jsonl").write_text("".join(paths["calls"].read_text().splitlines(keepends=True)[:3]))
    calibrate(model, [tmp_path / "few.jsonl"])
    print_evaluation(evaluate(model, [paths["test"]], tmp_path / "out", resamples=1))
    printed = capsys.readouterr().out
    assert "No intervals: there are too few rated utterances in " in printed
    assert "few.jsonl to calibrate on." in printed
    assert "Coverage" not in printed


def test_residuals_of_several_trainings_are_pooled(
    random_model: Callable[..., Path], rated: tuple[Path, dict[str, Path]]
) -> None:
    model, paths = rated
    others = [random_model(spread=0.2, seed=seed) for seed in (1, 2)]
    parts = [calibrate(other, [path]) for other, path in zip(others, paths.values(), strict=True)]
    assert calibrate(model, pool=others) == read_calibration(model) == pooled(parts)
    own = calibrate(model, [paths["test"]])
    assert calibrate(model, [paths["test"]], pool=others) == pooled([own, *parts])


def test_what_cannot_be_pooled_is_named(random_model: Callable[..., Path], rated: tuple[Path, dict[str, Path]]) -> None:
    model, paths = rated
    other = random_model(spread=0.2, seed=1)
    with pytest.raises(ModelError, match="no residuals to pool"):
        calibrate(model, pool=[other])
    before = calibrate(model, [paths["calls"]])
    with pytest.raises(ModelError, match="is the model to calibrate"):
        calibrate(model, pool=[model])
    calibrate(other, [paths["test"]])
    settings = other / "config.yaml"
    settings.write_text(settings.read_text().replace("high: 7", "high: 9"))
    with pytest.raises(ModelError, match="on another scale"):
        calibrate(model, pool=[other])
    assert read_calibration(model) == before


def test_too_few_utterances_give_no_interval(
    random_model: Callable[..., Path], tone: MakeCut, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = random_model()
    write_cuts(tmp_path / "few.jsonl", [tone(number) for number in range(8)])
    found = calibrate(model, [tmp_path / "few.jsonl"])
    assert [math.isfinite(half) for half in found.half_widths(0.9)] == [False] * 3
    metrics = evaluate(model, [tmp_path / "few.jsonl"], tmp_path / "out", resamples=1).metrics
    assert set(metrics["intervals"]["levels"]["0.8"]) == set(DIMENSIONS)
    assert metrics["intervals"]["levels"]["0.9"] == {}


def test_ratings_are_needed_on_the_scale_of_the_model(
    random_model: Callable[..., Path], tone: MakeCut, tmp_path: Path
) -> None:
    model = random_model(heads=("ctc", "emotion"))
    write_cuts(tmp_path / "unrated.jsonl", [tone(0, ratings=None)])
    with pytest.raises(CorpusError, match=r"unrated.jsonl: no label .* ratings of activation"):
        calibrate(model, [tmp_path / "unrated.jsonl"])
    write_cuts(tmp_path / "other.jsonl", [tone(0, ratings={"valence": 3.0}, scale=Scale(name="1-5", low=1, high=5))])
    with pytest.raises(CorpusError, match="on the scale 1-5"):
        calibrate(model, [tmp_path / "other.jsonl"])
    assert read_calibration(model) is None
