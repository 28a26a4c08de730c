"""Reports say what the saved predictions say, stand alone, and survive whatever is in a folder."""

import csv
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score
from typer.testing import CliRunner

from sa2sr.cli import app
from sa2sr.config import DIMENSIONS, SENTIMENTS, Scale, load_recipe, to_yaml
from sa2sr.errors import UserError
from sa2sr.intervals import calibration
from sa2sr.network.folder import write_calibration
from sa2sr.network.model import load_model, save_model
from sa2sr.studies.document import Column, Document, Section, Table
from sa2sr.studies.folders import read_folders
from sa2sr.studies.naming import file_names, short_names
from sa2sr.studies.records import Evaluation
from sa2sr.studies.rendering import html, markdown, table_latex
from sa2sr.studies.report import make_report
from sa2sr.studies.systems import RESAMPLES, System
from sa2sr.training.evaluate import evaluate

COUNT = 240
SPEAKERS = [f"speaker {index % 24}" for index in range(COUNT)]
NASTY = 'a<b> & "c" | $x_1$ `d` *e* [f](g) \N{SNOWMAN}'


def ratings(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(1, 7, (COUNT, 3)).round(2)


def noisy(truth: np.ndarray, noise: float, seed: int) -> np.ndarray:
    return np.clip(truth + np.random.default_rng(seed).normal(0, noise, truth.shape), 1, 7)


def write_evaluation(
    folder: Path, model: str, truth: np.ndarray, predicted: np.ndarray, *, pretrained: bool = True, test: str = "test"
) -> Path:
    """In the documented format of ``sa2sr evaluate``."""
    folder.mkdir(parents=True)
    scale = {"name": "1-7", "low": 1.0, "high": 7.0}
    metrics = {"model": model, "manifests": [f"/data/set/{test}.jsonl.gz"], "scale": scale}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    heads = ["text_truth", "text"] if pretrained else []
    with (folder / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "speaker", *(c for d in DIMENSIONS for c in (f"{d}_truth", d)), *heads])
        for index, (rated, said) in enumerate(zip(truth, predicted, strict=True)):
            cells = [c for pair in zip(rated, said, strict=True) for c in pair]
            known = ["" if math.isnan(c) else repr(float(c)) for c in cells]
            writer.writerow([f"u{index}", SPEAKERS[index], *known, *("" for _ in heads)])
    return folder


def write_run(folder: Path, recipe: str, stage: str, epochs: Sequence[Mapping[str, Any]]) -> Path:
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(to_yaml(load_recipe(recipe)))
    facts = {"stage": stage, "command": f"sa2sr {stage} {recipe}", "python": "3.11", "packages": {"torch": "2.6"}}
    (folder / "environment.json").write_text(json.dumps(facts))
    (folder / "history.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs))
    (folder / "metrics.json").write_text(json.dumps(epochs[-1]))
    return folder


def pretraining(cers: Sequence[float], best: int) -> list[dict[str, Any]]:
    return [
        {
            "epoch": index,
            "seconds": 90.0 * (index + 1),
            "speech_hours": 2.5,
            "train": {"ctc_loss": 100 * cer},
            "dev": {"cer": cer, "wer": 2 * cer, "ctc_loss": 90 * cer},
            "criterion": cer,
            "best": index <= best,
        }
        for index, cer in enumerate(cers)
    ]


def read_table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {next(iter(row.values())): row for row in csv.DictReader(file)}


@pytest.fixture
def two_systems(tmp_path: Path) -> tuple[Path, np.ndarray, dict[str, np.ndarray]]:
    truth = ratings()
    truth[::7, 1] = np.nan  # some are not rated in valence
    filled = np.nan_to_num(truth, nan=4.0)
    said = {"plain": noisy(filled, 3.0, 1), "better": noisy(filled, 1.0, 2)}
    for name, predicted in said.items():
        model = f"/runs/{name}/model"
        write_evaluation(tmp_path / "in" / name, model, truth, predicted, pretrained=name == "better")
    return tmp_path / "in", truth, said


def independent_ccc(predicted: np.ndarray, truth: np.ndarray) -> float:
    known = np.isfinite(truth)
    p, y = predicted[known], truth[known]
    correlation = np.corrcoef(p, y)[0, 1]
    return float(2 * correlation * p.std() * y.std() / (p.var() + y.var() + (p.mean() - y.mean()) ** 2))


def resampled_speakers(seed: int) -> list[np.ndarray]:
    """Another implementation of the bootstrap over speakers, with other random numbers."""
    generator = np.random.RandomState(seed)
    members = [np.flatnonzero(np.array(SPEAKERS) == name) for name in sorted(set(SPEAKERS))]
    return [
        np.concatenate([members[i] for i in generator.choice(len(members), len(members))]) for _ in range(RESAMPLES)
    ]


def test_tables_equal_an_independent_computation(tmp_path: Path, two_systems: Any) -> None:
    folder, truth, said = two_systems
    make_report([folder], tmp_path / "out")
    table = read_table(tmp_path / "out" / "tables" / "emotion-ccc.csv")
    assert list(table) == ["plain", "better"]  # the system without pre-training is the baseline, and comes first
    draws = resampled_speakers(3)
    for system, row in table.items():
        means = []
        for index, dimension in enumerate(DIMENSIONS):
            expected = independent_ccc(said[system][:, index], truth[:, index])
            means.append(expected)
            assert float(row[dimension]) == pytest.approx(expected, abs=1e-9)
            resampled = [independent_ccc(said[system][draw, index], truth[draw, index]) for draw in draws]
            low, high = np.percentile(resampled, [2.5, 97.5])
            assert float(row[f"{dimension}_low"]) == pytest.approx(low, abs=0.015)
            assert float(row[f"{dimension}_high"]) == pytest.approx(high, abs=0.015)
        assert float(row["mean"]) == pytest.approx(np.mean(means), abs=1e-9)
        assert row["utterances"] == str(COUNT)
        assert row["speakers"] == "24"


def test_differences_are_paired(tmp_path: Path, two_systems: Any) -> None:
    folder, truth, said = two_systems
    make_report([folder], tmp_path / "out", resample="utterances")
    (row,) = read_table(tmp_path / "out" / "tables" / "emotion-differences.csv").values()
    generator = np.random.RandomState(5)
    for index, dimension in enumerate(DIMENSIONS):
        cccs = {name: independent_ccc(said[name][:, index], truth[:, index]) for name in said}
        assert float(row[dimension]) == pytest.approx(cccs["better"] - cccs["plain"], abs=1e-9)
        draws = [generator.choice(COUNT, COUNT) for _ in range(RESAMPLES)]
        found = [
            independent_ccc(said["better"][draw, index], truth[draw, index])
            - independent_ccc(said["plain"][draw, index], truth[draw, index])
            for draw in draws
        ]
        low, high = np.percentile(found, [2.5, 97.5])
        assert float(row[f"{dimension}_low"]) == pytest.approx(low, abs=0.02)
        assert float(row[f"{dimension}_high"]) == pytest.approx(high, abs=0.02)
        assert float(row[f"{dimension}_p"]) < 0.01


def test_differences_are_of_common_utterances(tmp_path: Path) -> None:
    truth = ratings()
    first = write_evaluation(tmp_path / "a", "/runs/a/model", truth, noisy(truth, 1, 1))
    write_evaluation(tmp_path / "b", "/runs/b/model", truth, noisy(truth, 1, 1))
    lines = (first / "predictions.csv").read_text().splitlines(keepends=True)
    (first / "predictions.csv").write_text("".join([lines[0], *reversed(lines[101:])]))  # fewer, in another order
    make_report([tmp_path / "a", tmp_path / "b"], tmp_path / "out", baseline="b")
    (row,) = read_table(tmp_path / "out" / "tables" / "emotion-differences.csv").values()
    assert row["utterances"] == str(COUNT - 100)
    assert [float(row[dimension]) for dimension in DIMENSIONS] == pytest.approx([0, 0, 0], abs=1e-12)


def test_pretraining_table(tmp_path: Path) -> None:
    write_run(tmp_path / "in" / "asr", "asr-small", "pretraining", pretraining([0.9, 0.4, 0.2, 0.3], best=2))
    make_report([tmp_path / "in"], tmp_path / "out")
    row = read_table(tmp_path / "out" / "tables" / "pretraining.csv")["asr"]
    assert float(row["cer"]) == 0.2
    assert float(row["wer"]) == 0.4
    assert (row["best_epoch"], row["epochs"]) == ("3", "4")
    assert float(row["hours_heard"]) == 10.0
    assert float(row["minutes"]) == 6.0
    assert float(row["times_real_time"]) == pytest.approx(100.0)
    assert "auc" not in row  # there is no sentiment task
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "sa2sr pretraining asr-small" in page
    assert "weight_decay" in page  # the resolved recipe


def test_speech_table_equals_an_independent_computation(tmp_path: Path) -> None:
    """Of models that are only pre-trained; jiwer and scikit-learn compute the same."""
    random = np.random.default_rng(4)
    words = ["the", "doctor", "was", "happy", "garden", "an", "awful", "story"]
    references = [" ".join(random.choice(words, 6)) for _ in range(COUNT)]
    hypotheses = [" ".join(word for word in text.split() if random.random() > 0.2) for text in references]
    classes = random.integers(3, size=COUNT)
    probabilities = random.dirichlet([1, 1, 1], COUNT) + 0.4 * np.eye(3)[classes]
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    known = random.random(COUNT) > 0.1  # some have no label
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "metrics.json").write_text(
        json.dumps({"model": "/runs/sa2sr/model", "manifests": ["/data/set/dev.jsonl"]})
    )
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "speaker", "text_truth", "text", "sentiment_truth", *SENTIMENTS])
        for index in range(COUNT):
            truth = SENTIMENTS[classes[index]] if known[index] else ""
            heard = [references[index] if known[index] else "", hypotheses[index]]
            writer.writerow([f"u{index}", SPEAKERS[index], *heard, truth, *map(float, probabilities[index])])
    files = make_report([tmp_path / "in"], tmp_path / "out")
    row = read_table(tmp_path / "out" / "tables" / "speech-scores.csv")["sa2sr"]
    chosen = np.flatnonzero(known)
    pairs = [references[i] for i in chosen], [hypotheses[i] for i in chosen]
    assert float(row["cer"]) == pytest.approx(jiwer.cer(*pairs))
    assert float(row["wer"]) == pytest.approx(jiwer.wer(*pairs))
    y, p = classes[known], probabilities[known]
    assert float(row["auc"]) == pytest.approx(roc_auc_score(y, p, multi_class="ovr", average="macro"))
    assert float(row["weighted_recall"]) == pytest.approx(recall_score(y, p.argmax(1), average="weighted"))
    assert float(row["unweighted_recall"]) == pytest.approx(recall_score(y, p.argmax(1), average="macro"))
    for name in ("cer", "wer", "auc", "weighted_recall", "unweighted_recall"):
        assert float(row[f"{name}_low"]) < float(row[name]) < float(row[f"{name}_high"])
    assert "Transcription and sentiment" in check_page_of(files.html)


class Page(HTMLParser):
    """Collects what must hold of a page that stands alone."""

    VOID = ("meta", "link", "img", "br", "hr", "input", "image", "path", "use", "rect", "source")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags = Counter[str]()
        self.ids = Counter[str]()
        self.references: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        for name, value in attributes:
            if name == "id":
                self.ids[value or ""] += 1
            if name in ("src", "href", "xlink:href", "srcset", "data", "poster", "action"):
                self.references.append(value or "")
            self.references += re.findall(r"url\(([^)]*)\)", value or "")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def check_page(text: str) -> Page:
    page = Page(text)
    assert not page.wrong
    assert not page.open
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == page.tags["base"] == 0
    assert not [name for name, count in page.ids.items() if count > 1]
    for reference in page.references:
        inside = reference.strip("'\"")
        assert inside.startswith("data:") or inside.removeprefix("#") in page.ids, reference
    without_names_of_formats = re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert "http" not in without_names_of_formats
    assert "@import" not in text
    return page


def check_page_of(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    check_page(text)
    return text


def test_the_page_stands_alone(tmp_path: Path, two_systems: Any) -> None:
    folder, _, _ = two_systems
    write_run(tmp_path / "in" / "asr", "asr-small", "pretraining", pretraining([0.9, 0.4], best=1))
    files = make_report([folder], tmp_path / "out", title=NASTY)
    text = files.html.read_text(encoding="utf-8")
    page = check_page(text)
    assert page.tags["svg"] >= 3 + 6 + 3  # intervals, scatter plots, curves
    assert "prefers-color-scheme: dark" in text
    assert "var(--series-1" in text  # the pictures follow the page
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", files.markdown.read_text(encoding="utf-8"))
    assert len(pictures) == page.tags["svg"]
    for picture in pictures:
        assert (files.markdown.parent / picture).read_bytes().startswith(b"\x89PNG")


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    truth = ratings()
    for name in (NASTY.replace("/", ""), "<script>alert(1)</script>".replace("/", "")):
        write_evaluation(tmp_path / "in" / str(len(name)), f"/runs/{name}/model", truth, noisy(truth, 1, 1))
    files = make_report([tmp_path / "in"], tmp_path / "out", title="<script>")
    page = check_page(files.html.read_text(encoding="utf-8"))
    assert page.tags["b"] == 0
    cells = read_table(tmp_path / "out" / "tables" / "emotion-ccc.csv")
    assert NASTY in cells


def test_markdown_cells_stay_in_their_columns() -> None:
    table = Table("t", [Column("a", NASTY), Column("b", "b")], [[NASTY, 1.0], ["x\ny", None]])
    rows = [line for line in markdown(Document("", "", [Section("s", [table])])).splitlines() if line.startswith("|")]
    assert len(rows) == 4
    for row in rows:
        assert len(re.findall(r"(?<!\\)\|", row)) == 3


def test_latex_escapes_and_balances() -> None:
    text = table_latex(Table("t", [Column("a", "50 % & #_{}~^\\$")], [[-0.5], [None]]))
    assert text.count("{") - text.count("\\{") == text.count("}") - text.count("\\}")
    assert r"50 \% \& \#\_\{\}\textasciitilde{}\textasciicircum{}\textbackslash{}\$" in text
    assert "$-$0.500" in text


BREAKS = {
    "empty history": ("asr/history.jsonl", b""),
    "half a line": ("asr/history.jsonl", b'{"epoch": 0, "dev": {"cer": 0.5}, "best": true}\n{"epoch": 1, "de'),
    "not numbers": ("asr/history.jsonl", b'{"dev": {"cer": NaN, "wer": "x"}, "train": [1], "seconds": null}\n'),
    "names of files": ("asr/history.jsonl", b'{"train": {"../../../x_loss": 1, "ctc_loss": 2}, "best": true}\n'),
    "nested": ("asr/history.jsonl", b"[" * 100_000),
    "binary history": ("asr/history.jsonl", bytes(range(256))),
    "strange recipe": ("asr/recipe.yaml", b"name: x\nno_such_key: 1\n"),
    "binary recipe": ("asr/recipe.yaml", bytes(range(256))),
    "list for environment": ("asr/environment.json", b"[1, 2]"),
    "strange environment": ("asr/environment.json", b'{"stage": 5, "packages": 3, "command": {"a": 1}}'),
    "no table": ("sa2sr/predictions.csv", b""),
    "binary table": ("sa2sr/predictions.csv", bytes(range(256))),
    "other columns": ("sa2sr/predictions.csv", b"a,b\n1,2\n"),
    "one row": ("sa2sr/predictions.csv", b"id,activation_truth,activation\nu0,3,4\n"),
    "constant": (
        "sa2sr/predictions.csv",
        b"id,valence_truth,valence\n" + b"".join(b"u%d,4,4\n" % i for i in range(30)),
    ),
    "infinite": ("sa2sr/predictions.csv", b"id,valence_truth,valence\n1,inf,4\n2,1e999,4\n3,2,nan\n4,3,2\n5,2,2\n"),
    "ragged": ("sa2sr/predictions.csv", b"id,valence_truth,valence\n1\n2,3,4,5,6\n3,3,2\n4,1,2\n"),
    "huge field": ("sa2sr/predictions.csv", b"id,valence_truth,valence\n" + b"x" * 200_000 + b",3,4\n"),
    "strange metrics": ("sa2sr/metrics.json", b'{"model": 3, "manifests": "x", "scale": {"low": 9, "high": 1}}'),
    "no metrics": ("sa2sr/metrics.json", None),
    "no environment": ("asr/environment.json", None),
}


ACCEPTED = (  # as far as it goes
    *("not numbers", "names of files", "strange environment", "strange metrics"),
    *("one row", "constant", "infinite", "ragged"),
)


def break_folder(folder: Path, name: str) -> None:
    truth = ratings()
    file, content = BREAKS[name]
    kind = file.partition("/")[0]
    if kind == "asr":
        write_run(folder / kind, "asr-small", "pretraining", pretraining([0.9, 0.4], best=1))
    else:
        write_evaluation(folder / kind, f"/runs/{folder.name}/model", truth, noisy(truth, 1, 1))
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)


def test_broken_folders_are_named_and_the_rest_is_reported(tmp_path: Path) -> None:
    for name in BREAKS:
        break_folder(tmp_path / "in" / name, name)
    write_evaluation(tmp_path / "in" / "good", "/runs/good/model", ratings(), noisy(ratings(), 1, 2))
    files = make_report([tmp_path / "in"], tmp_path / "out")
    check_page(files.html.read_text(encoding="utf-8"))
    systems = set()
    for path in (tmp_path / "out" / "tables").glob("emotion*-ccc.csv"):
        systems |= {*read_table(path)}
    assert {"good", "constant", "infinite", "ragged", "strange metrics/sa2sr"} <= systems
    assert not list(tmp_path.glob("**/x_loss*"))
    problems = files.markdown.read_text(encoding="utf-8").partition("## Left out")[2].replace("\\", "")
    for name, (file, _) in BREAKS.items():
        assert (f"/{name}/{Path(file).parent}" in problems) == (name not in ACCEPTED), name


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_folder_alone(name: str, tmp_path: Path) -> None:
    break_folder(tmp_path / name, name)
    problems: list[str] = []
    runs, evaluations = read_folders([tmp_path / name], problems)
    assert problems or name in ACCEPTED
    assert len(runs) + len(evaluations) <= 1
    json.dumps([run.history for run in runs])
    for evaluation in evaluations:
        assert len(evaluation.names) == len(evaluation.ratings) == len(evaluation.predictions)


def test_an_evaluation_of_a_model_that_is_no_more_is_left_out(
    random_model: Callable[..., Path], tones: dict[str, Path], tmp_path: Path
) -> None:
    runs = {name: tmp_path / "runs" / name for name in ("same", "moved", "trained")}
    for seed, run in enumerate(runs.values()):
        run.mkdir(parents=True)
        random_model(seed=seed).rename(run / "model")
        evaluate(run, [tones["test"]], resamples=2)
    write_calibration(runs["same"] / "model", calibration(ratings(), ratings().tolist(), SPEAKERS, []))
    save_model(load_model(random_model(seed=9)), runs["trained"] / "model")
    (runs["moved"] / "model").rename(tmp_path / "elsewhere")
    text = make_report([tmp_path / "runs"], tmp_path / "out").markdown.read_text(encoding="utf-8")
    left_out = text.partition("## Left out")[2].replace("\\", "")
    assert left_out.count("is of the model before it was trained again") == 1
    assert str(runs["trained"] / "evaluation") in left_out
    with (tmp_path / "out" / "tables" / "emotion-ccc.csv").open(newline="", encoding="utf-8") as file:
        assert {row["system"] for row in csv.DictReader(file)} == {"same", "moved"}
    evaluate(runs["trained"], [tones["test"]], resamples=2)
    assert "Left out" not in make_report([tmp_path / "runs"], tmp_path / "out").markdown.read_text(encoding="utf-8")


def test_unfinished_runs_are_shown_and_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "in" / "asr", "asr-small", "pretraining", pretraining([0.9, 0.4], best=1))
    (run / "metrics.json").unlink()
    files = make_report([tmp_path / "in", tmp_path / "nowhere"], tmp_path / "out")
    text = files.markdown.read_text(encoding="utf-8")
    assert "has not finished" in text
    assert "nowhere: there is no such folder" in text
    assert read_table(tmp_path / "out" / "tables" / "pretraining.csv")["asr"]["epochs"] == "2"


def test_errors(tmp_path: Path, two_systems: Any) -> None:
    folder, _, _ = two_systems
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no run"):
        make_report([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(UserError, match="'none'; there are better, plain"):
        make_report([folder], tmp_path / "out", baseline="none")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        make_report([folder], tmp_path / "file" / "out")


def test_a_model_is_read_once_however_many_evaluations_it_has(
    random_model: Callable[..., Path], tones: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    weights = random_model().rename(tmp_path / "run" / "model") / "model.safetensors"
    for part in ("test", "dev", "train"):
        evaluate(tmp_path / "run", [tones[part]], resamples=2)
    opened: list[str] = []
    counting = [True]

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if counting and event == "open" and str(arguments[0]) == str(weights):
            opened.append(event)

    sys.addaudithook(note)  # for ever, which is why it can be told to stop
    _, evaluations = read_folders([tmp_path / "run"], [])
    counting.clear()
    assert (len(evaluations), len(opened)) == (3, 1)


def test_systems_on_other_scales_are_compared_on_the_first_ones(tmp_path: Path) -> None:
    """As after ``evaluate --map-scale``, where the same ratings are on the scale of each model."""
    truth = ratings()
    said = {"good": noisy(truth, 0.5, 1), "bad": noisy(truth, 1.5, 2)}
    for name, predicted in said.items():
        write_evaluation(tmp_path / "same" / name, f"/runs/{name}/model", truth, predicted)
    write_evaluation(tmp_path / "mixed" / "good", "/runs/good/model", truth, said["good"])
    other = write_evaluation(tmp_path / "mixed" / "bad", "/runs/bad/model", (truth - 1) / 6, (said["bad"] - 1) / 6)
    metrics = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps(metrics | {"scale": {"name": "0-1", "low": 0, "high": 1}}))
    for name in ("same", "mixed"):
        make_report([tmp_path / name], tmp_path / f"{name}-report", baseline="good")
    for table in ("emotion-ccc", "emotion-differences", "emotion-other", "emotion-speakers"):
        one, another = (
            read_table(tmp_path / f"{name}-report" / "tables" / f"{table}.csv") for name in ("same", "mixed")
        )
        assert one.keys() == another.keys()
        for system, row in one.items():
            for key, cell in row.items():
                if re.fullmatch(r"-?[0-9.e-]+", cell):
                    assert float(another[system][key]) == pytest.approx(float(cell), abs=1e-6), (table, system, key)


def test_file_names_are_different() -> None:
    assert file_names(["a", "A", "?", "a"]) == ["a", "a-2", "3", "a-4"]
    assert len({*file_names(["a-3", "a", "a", "a-3", "a"])}) == 5


def test_systems_have_different_short_names() -> None:
    assert short_names([Path("/a/x"), Path("/b/y")]) == ["x", "y"]
    assert short_names([Path("/a/x"), Path("/b/x"), Path("/b/y")]) == ["a/x", "b/x", "y"]
    assert short_names([Path("/x")]) == ["x"]


def test_the_command(tmp_path: Path, two_systems: Any) -> None:
    folder, _, _ = two_systems
    result = CliRunner().invoke(app, ["report", str(folder), "-o", str(tmp_path / "out"), "--baseline", "better"])
    assert result.exit_code == 0, result.output
    assert str(tmp_path / "out" / "report.html") in result.stdout.replace("\n", "")
    assert list(read_table(tmp_path / "out" / "tables" / "emotion-differences.csv")) == ["plain"]
    assert "compared with better" in (tmp_path / "out" / "report.md").read_text()


def test_an_empty_document_is_a_page() -> None:
    check_page(html(Document("t", "s")))


def test_only_rated_utterances_count(tmp_path: Path) -> None:
    ratings = np.array([[1.0, 2, 3], [np.nan, np.nan, np.nan], [np.nan, 4, np.nan]])
    predictions = np.array([[1.0, 2, 3], [1, 2, 3], [1, 2, np.nan]])
    nobody: list[str | None] = [None] * 3
    evaluation = Evaluation(
        system="x",
        path=tmp_path,
        test_set="test",
        scale=Scale(),
        names=["a", "b", "c"],
        speakers=nobody,
        genders=nobody,
        sentences=nobody,
        ratings=ratings,
        predictions=predictions,
        references=[""] * 3,
        hypotheses=None,
        sentiments=np.full(3, -1),
        probabilities=None,
    )
    assert System("x", [evaluation]).counted == [0, 2]
