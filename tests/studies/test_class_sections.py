"""Categories and sentiments in reports, beside scikit-learn, and from a study."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score

from sa2sr.studies.class_sections import counts_of
from sa2sr.studies.records import read_evaluation
from sa2sr.studies.report import make_report
from sa2sr.studies.study import run_study
from sa2sr.studies.systems import RESAMPLES, System

CLASSES = ("angry", "happy", "sad")
COUNT = 150
RANDOM = np.random.default_rng(0)
TRUTH = RANDOM.choice(3, COUNT, p=[0.5, 0.3, 0.2])
LABELS = [("", "bored")[row % 2] if row < 10 else CLASSES[TRUTH[row]] for row in range(COUNT)]  # the first are unknown
KNOWN = np.arange(10, COUNT)
SPEAKERS = [f"speaker {row % 15}" for row in range(COUNT)]


def probabilities(skill: float, seed: int) -> np.ndarray:
    logits = skill * np.eye(3)[TRUTH] + np.random.default_rng(seed).normal(size=(COUNT, 3))
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def write_evaluation(run: Path, said: np.ndarray, classes: Sequence[str] = CLASSES) -> None:
    """In the documented format of ``sa2sr evaluate``, by a model that tells nothing but categories."""
    folder = run / "evaluation" / "test"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"model": str(run / "model"), "manifests": ["/d/set/test.jsonl"]}))
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "speaker", "emotion_truth", "emotion", *(f"emotion_{name}" for name in classes)])
        for row in range(COUNT):
            best = classes[said[row].argmax()]
            writer.writerow([f"u{row}", SPEAKERS[row], LABELS[row], best, *said[row].tolist()])


def read_table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


def drawn_rows(random: np.random.RandomState) -> np.ndarray:
    members = [KNOWN[[SPEAKERS[row] == name for row in KNOWN]] for name in sorted({*SPEAKERS})]
    return np.concatenate([members[i] for i in random.choice(len(members), len(members))])


def test_tables_equal_scikit_learns(tmp_path: Path) -> None:
    said = {"weak": [probabilities(0.5, 1)], "good": [probabilities(skill, 2 + i) for i, skill in enumerate((1.5, 2))]}
    for name, seeds in said.items():
        for seed, each in enumerate(seeds):
            # The second seed names its classes in another order, which must not matter.
            order = [0, 1, 2] if seed == 0 else [2, 0, 1]
            write_evaluation(tmp_path / "in" / f"{name}-seed{seed}", each[:, order], [CLASSES[i] for i in order])
    files = make_report([tmp_path / "in"], tmp_path / "out", baseline="weak")
    scores = read_table(tmp_path / "out" / "tables" / "category-scores.csv")
    functions = {
        "uar": balanced_accuracy_score,
        "weighted_accuracy": accuracy_score,
        "macro_f1": lambda y, p: f1_score(y, p, average="macro"),
    }
    for name, seeds in said.items():
        row = scores[name]
        assert (row["classes"], row["utterances"], row["other"]) == ("3", "140", "5")
        for metric, function in functions.items():
            values = [function(TRUTH[KNOWN], each[KNOWN].argmax(1)) for each in seeds]
            assert float(row[metric]) == pytest.approx(np.mean(values), abs=1e-9)
            assert float(row[f"{metric}_low"]) < float(row[metric]) < float(row[f"{metric}_high"])
    random = np.random.RandomState(4)
    draws = [drawn_rows(random) for _ in range(RESAMPLES)]
    uars = [balanced_accuracy_score(TRUTH[draw], said["weak"][0][draw].argmax(1)) for draw in draws]
    for end, percent in (("low", 2.5), ("high", 97.5)):
        assert float(scores["weak"][f"uar_{end}"]) == pytest.approx(np.percentile(uars, percent), abs=0.02)
    difference = read_table(tmp_path / "out" / "tables" / "category-differences.csv")["good"]
    assert float(difference["uar"]) == pytest.approx(float(scores["good"]["uar"]) - float(scores["weak"]["uar"]))
    assert float(difference["uar_p"]) < 0.05
    assert float(difference["uar_low"]) > 0
    for name, seeds in said.items():
        folders = [tmp_path / "in" / f"{name}-seed{seed}" / "evaluation" / "test" for seed in range(len(seeds))]
        system = System(name, [found for each in folders if (found := read_evaluation(each, name, []))])
        expected = sum(confusion_matrix(TRUTH[KNOWN], each[KNOWN].argmax(1)) for each in seeds)
        np.testing.assert_array_equal(counts_of(system), expected)
    page = files.markdown.read_text()
    assert "the highest UAR is" in page
    assert "of good." in page
    assert page.count("category-confusion-") == 2
    assert (tmp_path / "out" / "pictures" / "category-confusion-1.png").stat().st_size > 1000


def test_systems_of_different_classes_are_not_compared(tmp_path: Path) -> None:
    write_evaluation(tmp_path / "in" / "three", probabilities(1, 1))
    two = probabilities(1, 2)[:, :2]
    write_evaluation(tmp_path / "in" / "two", two, CLASSES[:2])
    make_report([tmp_path / "in"], tmp_path / "out", baseline="three")
    scores = read_table(tmp_path / "out" / "tables" / "category-scores.csv")
    assert scores["two"]["utterances"] == str(int((TRUTH[KNOWN] < 2).sum()))
    assert read_table(tmp_path / "out" / "tables" / "category-differences.csv")["two"]["uar"] == ""


def test_a_study_of_categories_and_of_the_sentiment_of_speech(study_file: Callable[..., Path], tmp_path: Path) -> None:
    recipe = str(tmp_path / "tiny.yaml")
    category = "finetuning.objectives.category={channels: 8, heads: 2}"
    sentiment = "finetuning.objectives={sentiment: {units: 8, weight: 1}}"
    systems = {
        "both": {"recipe": recipe, "changes": [category]},
        "categories": {"recipe": recipe, "changes": [category, "finetuning.objectives.emotion=null"]},
        "speech-sentiment": {"recipe": recipe, "changes": [sentiment], "frozen": True},
    }
    out = tmp_path / "out"
    assert run_study(study_file(systems=systems), out).failed == {}
    tables = out / "report" / "tables"
    assert list(read_table(tables / "emotion-ccc.csv")) == ["both"]
    categories = read_table(tables / "category-scores.csv")
    assert list(categories) == ["both", "categories"]
    assert {row["utterances"] for row in categories.values()} == {"12"}
    speech = read_table(tables / "speech-scores.csv")
    assert 0 <= float(speech["speech-sentiment"]["auc"]) <= 1
    tuned = read_table(tables / "finetuning.csv")
    assert tuned["speech-sentiment"]["auc"] != ""
    assert tuned["both"]["uar"] != "" != tuned["both"]["mean_ccc"]
    costs = read_table(tables / "costs.csv")
    assert int(costs["both"]["parameters"]) > int(costs["categories"]["parameters"])
    page = (out / "report" / "report.md").read_text()
    for picture in ("category-confusion-1", "speech-confusion-", "finetuning-uar", "finetuning-category_loss"):
        assert picture in page
