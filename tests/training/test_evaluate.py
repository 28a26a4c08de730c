import csv
import json
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
import soundfile
import torch
import torchmetrics.functional
from numpy.typing import NDArray

from sa2sr.audio import probe
from sa2sr.cli import main
from sa2sr.config import DIMENSIONS, SENTIMENTS, Scale
from sa2sr.cuts import Cut, make_cut, write_cuts
from sa2sr.errors import CorpusError, UserError
from sa2sr.inference import load
from sa2sr.sharing.pack import pack
from sa2sr.training.evaluate import evaluate

HEADS = ("ctc", "sentiment", "emotion")
SCALE = Scale(name="1-7", low=1, high=7)
WORDS = ("the", "dogs", "are", "sitting", "by", "a", "door", "and", "talk")

MakeCut = Callable[..., Cut]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory, voice: Callable[..., NDArray[np.float32]]) -> MakeCut:
    """``spoken(7)`` is utterance 7: speech, and labels that depend on the number."""
    folder = tmp_path_factory.mktemp("audio")

    def make(number: int, speakers: int = 12, scale: Scale = SCALE, **changes: Any) -> Cut:
        path = folder / f"{number}.wav"
        if not path.exists():
            soundfile.write(path, voice(0.4 + 0.1 * (number % 5), number), 16_000)
        random = np.random.default_rng(number)
        speaker = number % speakers
        labels = {
            "text": " ".join(random.choice(WORDS, 3)),
            "speaker": f"s{speaker:02d}",
            "gender": "female" if speaker % 2 else "male",
            "ratings": dict(zip(DIMENSIONS, random.uniform(1, 7, 3).tolist(), strict=True)),
            "scale": scale,
            "custom": {"sentiment": random.dirichlet((1, 1, 1)).tolist()},
        }
        return make_cut(f"u{number}", path, probe(path), **(labels | changes))

    return make


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, random_model: Callable[..., Path], spoken: MakeCut
) -> tuple[dict[str, Any], list[dict[str, str]], Path, Path]:
    """metrics.json, the rows of predictions.csv, the model and the manifest; some labels are missing."""
    folder = tmp_path_factory.mktemp("evaluated")
    cuts = [spoken(number) for number in range(60)]
    cuts[3] = spoken(3, ratings=None, text=None)
    cuts[4] = spoken(4, ratings={"valence": 6.5}, custom={}, speaker=None, gender=None)
    cuts[5] = spoken(5, text="in 1999")  # not in the alphabet of the recogniser
    write_cuts(folder / "test.jsonl.gz", cuts)
    model = random_model(heads=HEADS, gain=4)
    evaluate(model, [folder / "test.jsonl.gz"], folder / "out", resamples=200)
    metrics = json.loads((folder / "out" / "metrics.json").read_text())
    with (folder / "out" / "predictions.csv").open(encoding="utf-8") as file:
        return metrics, list(csv.DictReader(file)), model, folder / "test.jsonl.gz"


def check(found: dict[str, Any], rows: list[dict[str, str]]) -> None:
    """Compare the metrics of a set with other people's implementations, from its rows of predictions.csv."""
    for dimension in DIMENSIONS:
        known = [row for row in rows if row[f"{dimension}_truth"]]
        predicted = np.array([float(row[dimension]) for row in known])
        truth = np.array([float(row[f"{dimension}_truth"]) for row in known])
        # torchmetrics divides by N - 1; of every utterance a thousand times, that is as good as N.
        pair = (torch.tensor(np.tile(predicted, 1000)), torch.tensor(np.tile(truth, 1000)))
        expected = {
            "ccc": float(torchmetrics.functional.concordance_corrcoef(*pair)),
            "pearson": scipy.stats.pearsonr(predicted, truth).statistic,
            "rmse": sklearn.metrics.root_mean_squared_error(truth, predicted),
        }
        assert found[dimension]["utterances"] == len(known)
        for name, value in expected.items():
            assert found[dimension][name]["value"] == pytest.approx(value, abs=1e-4), (dimension, name)
    known = [row for row in rows if row["text_truth"]]
    texts = [row["text_truth"] for row in known], [row["text"] for row in known]
    assert found["ctc"]["utterances"] == len(known)
    assert found["ctc"]["cer"]["value"] == pytest.approx(jiwer.cer(*texts))
    assert found["ctc"]["wer"]["value"] == pytest.approx(jiwer.wer(*texts))
    known = [row for row in rows if row["sentiment_truth"]]
    probabilities = np.array([[float(row[name]) for name in SENTIMENTS] for row in known])
    classes = np.array([SENTIMENTS.index(row["sentiment_truth"]) for row in known])
    best = probabilities.argmax(1)
    assert found["sentiment"]["utterances"] == len(known)
    if len({*classes}) == len(SENTIMENTS):
        areas = [sklearn.metrics.roc_auc_score(classes == label, probabilities[:, label]) for label in range(3)]
        assert found["sentiment"]["auc"]["value"] == pytest.approx(np.mean(areas))
        unweighted = sklearn.metrics.balanced_accuracy_score(classes, best)
        assert found["sentiment"]["unweighted_recall"]["value"] == pytest.approx(unweighted)
    assert found["sentiment"]["weighted_recall"]["value"] == pytest.approx((classes == best).mean())


def test_metrics_are_those_of_the_predictions(evaluated: Any) -> None:
    metrics, rows, *_ = evaluated
    assert (metrics["utterances"], len(rows), metrics["failures"], metrics["left_out"]) == (60, 60, [], {})
    check(metrics["overall"], rows)
    assert {name: found["valence"]["utterances"] for name, found in metrics["by_gender"].items()} == {
        "female": 29,
        "male": 29,
    }
    for kind in ("gender", "speaker"):
        groups = metrics[f"by_{kind}"]
        assert set(groups) == {row[kind] for row in rows} - {""}
        for name, found in groups.items():
            check(found, [row for row in rows if row[kind] == name])


def test_unknown_labels_are_left_empty(evaluated: Any) -> None:
    by_id = {row["id"]: row for row in evaluated[1]}
    assert [by_id["u3"][f"{dimension}_truth"] for dimension in DIMENSIONS] == ["", "", ""]
    assert [by_id["u4"][f"{dimension}_truth"] for dimension in DIMENSIONS] == ["", "6.5", ""]
    assert (by_id["u3"]["text_truth"], by_id["u5"]["text_truth"], by_id["u4"]["sentiment_truth"]) == ("", "", "")
    assert (by_id["u4"]["speaker"], by_id["u4"]["gender"]) == ("", "")
    assert all(row["activation"] and row["positive"] for row in by_id.values())


def test_intervals_are_over_what_there_is_enough_of(evaluated: Any) -> None:
    metrics, *_ = evaluated
    for output, found in metrics["overall"].items():
        assert found["interval_over"] == "speakers"  # of which there are twelve
        for name in set(found) - {"utterances", "interval_over"}:
            estimate = found[name]
            assert estimate["low"] <= estimate["value"] <= estimate["high"], (output, name)
            assert estimate["high"] - estimate["low"] > 0.001
    for found in metrics["by_gender"].values():
        assert {each["interval_over"] for each in found.values()} == {"utterances"}  # of six speakers
    for found in metrics["by_speaker"].values():
        assert {each["interval_over"] for each in found.values()} == {None}
        assert found["valence"]["ccc"]["low"] is None


def test_an_evaluation_says_what_a_prediction_says(evaluated: Any) -> None:
    _, rows, model, _ = evaluated
    predicted = load(model).predict([row["file"] for row in rows])
    for row, other in zip(rows, predicted, strict=True):
        assert float(row["end"]) - float(row["start"]) == pytest.approx(other.end)
        for dimension in DIMENSIONS:
            assert float(row[dimension]) == pytest.approx(getattr(other, dimension), abs=1e-5 * 6)


def test_the_same_again(evaluated: Any, tmp_path: Path) -> None:
    metrics, _, model, manifest = evaluated
    again = evaluate(model, [manifest], tmp_path, resamples=200).metrics
    for part in ("overall", "by_gender", "by_speaker"):
        assert again[part] == metrics[part]


def test_emotions_are_clipped_to_the_scale(random_model: Callable[..., Path], spoken: MakeCut, tmp_path: Path) -> None:
    write_cuts(tmp_path / "test.jsonl", [spoken(number) for number in range(8)])
    evaluate(random_model(spread=1e4), [tmp_path / "test.jsonl"], tmp_path / "out")
    with (tmp_path / "out" / "predictions.csv").open() as file:
        values = {float(row[dimension]) for row in csv.DictReader(file) for dimension in DIMENSIONS}
    assert values == {1.0, 7.0}


def test_correlation_of_a_constant_is_null(random_model: Callable[..., Path], spoken: MakeCut, tmp_path: Path) -> None:
    write_cuts(tmp_path / "test.jsonl", [spoken(number) for number in range(25)])
    found = evaluate(random_model(spread=0.0), [tmp_path / "test.jsonl"], tmp_path / "out").metrics
    assert found["overall"]["valence"]["pearson"] == {"value": None, "low": None, "high": None}
    assert found["overall"]["valence"]["ccc"]["value"] == 0
    assert "NaN" not in (tmp_path / "out" / "metrics.json").read_text()


def test_what_cannot_be_read_is_named_and_not_scored(
    random_model: Callable[..., Path], spoken: MakeCut, tmp_path: Path
) -> None:
    cuts = [spoken(number) for number in range(6)]
    bad = tmp_path / "bad.wav"
    os.link(cuts[2].recording.sources[0].source, bad)
    info = probe(bad)
    bad.unlink()
    bad.write_bytes(b"no audio")
    cuts[2] = make_cut("bad", bad, info, ratings=dict.fromkeys(DIMENSIONS, 7.0), scale=SCALE)
    long = make_cut("long", bad, info, duration=121.0, ratings={"valence": 1.0}, scale=SCALE)
    write_cuts(tmp_path / "test.jsonl", [*cuts, long])
    model = random_model(heads=HEADS)
    found = evaluate(model, [tmp_path / "test.jsonl"], tmp_path / "out").metrics
    assert (found["utterances"], found["left_out"]) == (5, {"longer than 120 s": 1})
    assert found["overall"]["valence"]["utterances"] == 5
    assert len(found["failures"]) == 1
    assert found["failures"][0].startswith(f"{bad}: is not audio")
    write_cuts(tmp_path / "test.jsonl", [cuts[2]])
    with pytest.raises(CorpusError, match="no audio can be read"):
        evaluate(model, [tmp_path / "test.jsonl"], tmp_path / "out")


def test_scales_must_agree(random_model: Callable[..., Path], spoken: MakeCut, tmp_path: Path) -> None:
    model = random_model()
    write_cuts(tmp_path / "a.jsonl", [spoken(1, scale=Scale(name="0-10", low=0, high=10))])
    with pytest.raises(CorpusError, match=r"0-10 \(0 to 10\), but the model predicts on 1-7 \(1 to 7\)"):
        evaluate(model, [tmp_path / "a.jsonl"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_cuts(tmp_path / "a.jsonl", [spoken(1, scale=Scale(name="another name", low=1, high=7))])
    assert evaluate(model, [tmp_path / "a.jsonl"], tmp_path / "out").metrics["scale"]["name"] == "1-7"


def test_labels_are_needed(random_model: Callable[..., Path], spoken: MakeCut, tmp_path: Path) -> None:
    write_cuts(tmp_path / "a.jsonl", [spoken(1, ratings=None, custom={})])
    with pytest.raises(CorpusError, match="emotion: ratings of activation"):
        evaluate(random_model(), [tmp_path / "a.jsonl"], tmp_path / "out")
    with pytest.raises(CorpusError, match="sentiment: run 'sa2sr label'"):
        evaluate(random_model(heads=("sentiment",)), [tmp_path / "a.jsonl"], tmp_path / "out")
    # A transcript is a label for one of these heads.
    found = evaluate(random_model(heads=("ctc", "sentiment")), [tmp_path / "a.jsonl"], tmp_path / "out").metrics
    assert list(found["overall"]) == ["ctc"]


def test_an_evaluation_on_other_manifests_of_the_same_name_is_kept(
    random_model: Callable[..., Path], spoken: MakeCut, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    random_model().rename(tmp_path / "run" / "model")
    paths = [tmp_path / version / "msp" / "test1.jsonl" for version in ("v1", "v2")]
    for path, numbers in zip(paths, (range(5), range(5, 12)), strict=True):
        write_cuts(path, map(spoken, numbers))
    first = evaluate(tmp_path / "run", [paths[0]], resamples=2)
    before = (first.folder / "metrics.json").read_bytes()
    with pytest.raises(UserError, match=r"msp-test1: holds the evaluation on .*v1/msp/test1.jsonl; .* --out"):
        evaluate(tmp_path / "run", [paths[1]], resamples=2)
    assert (first.folder / "metrics.json").read_bytes() == before
    assert evaluate(tmp_path / "run", [paths[0]], resamples=2).folder == first.folder  # the same again
    evaluate(tmp_path / "run", [paths[1]], first.folder, resamples=2)  # as asked for
    assert json.loads((first.folder / "metrics.json").read_text())["utterances"] == 7


def test_ids_that_are_half_of_a_pair(random_model: Callable[..., Path], spoken: MakeCut, tmp_path: Path) -> None:
    """JSON can write half a surrogate pair, UTF-8 cannot."""
    cuts = [spoken(number, speaker=f"s\ud800{number % 2}") for number in range(4)]
    cuts[0].id = "\udc80"
    cuts[1].id = "u\ud83d"
    write_cuts(tmp_path / "test.jsonl", cuts)
    result = evaluate(random_model(), [tmp_path / "test.jsonl"], tmp_path / "out", resamples=2)
    with (tmp_path / "out" / "predictions.csv").open(encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [r"\udc80", r"u\ud83d", "u2", "u3"]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8")) == result.metrics
    assert "s\ud8000" in result.metrics["by_speaker"]


def test_models_side_by_side_keep_their_evaluations(
    random_model: Callable[..., Path], spoken: MakeCut, tmp_path: Path
) -> None:
    """A model that is in no run folder has them in its own, where a copy of it looks for its figures."""
    write_cuts(tmp_path / "corpus" / "test.jsonl", map(spoken, range(5)))
    for seed, name in enumerate("ab"):
        random_model(seed=seed).rename(tmp_path / name)
        found = evaluate(tmp_path / name, [tmp_path / "corpus" / "test.jsonl"], resamples=2)
        assert found.folder == tmp_path / name / "evaluation" / "corpus-test"
    pack(tmp_path / "a", tmp_path / "copy")
    value = json.loads((tmp_path / "a/evaluation/corpus-test/metrics.json").read_text())["overall"]["valence"]["ccc"]
    assert f"{value['value']:.3f}" in (tmp_path / "copy" / "README.md").read_text()
    pack(tmp_path / "b", tmp_path / "a")  # a folder with an evaluation may be replaced


def test_the_command_prints_and_saves_beside_the_model(
    random_model: Callable[..., Path],
    spoken: MakeCut,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    random_model(heads=HEADS, gain=4).rename(run / "model")
    for name, numbers in (("test", range(15)), ("dev", range(15, 25))):
        write_cuts(tmp_path / "corpus" / f"{name}.jsonl.gz", [spoken(number, speakers=2) for number in numbers])
    manifests = [str(tmp_path / "corpus" / f"{name}.jsonl.gz") for name in ("test", "dev")]
    monkeypatch.setattr(sys, "argv", ["sa2sr", "evaluate", str(run), *manifests, "--resamples", "50"])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    printed = capsys.readouterr().out
    metrics = json.loads((run / "evaluation" / "corpus-test+corpus-dev" / "metrics.json").read_text())
    assert metrics["utterances"] == 25
    for output, metric in (("activation", "ccc"), ("dominance", "rmse"), ("ctc", "cer"), ("sentiment", "auc")):
        estimate = metrics["overall"][output][metric]
        assert f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]" in printed
    for expected in ("By gender", "By speaker", "s01", "female", "bootstrap intervals over utterances", "1 to 7"):
        assert expected in printed
    assert math.isfinite(metrics["hours"])
