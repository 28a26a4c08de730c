"""The tiny demo, from nothing to a model that predicts, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sa2sr
from sa2sr.config import DIMENSIONS
from sa2sr.corpora.demo import SIZES, SPLITS
from sa2sr.errors import UserError
from sa2sr.network.model import load_model
from sa2sr.studies.demo import SYSTEMS, TESTS, DemoFolder, demo_recipe, run_demo
from sa2sr.studies.records import read_evaluation


def command(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    run = [sys.executable, "-m", "sa2sr", *arguments]
    return subprocess.run(run, cwd=cwd, env=environment, capture_output=True, text=True, timeout=500)


def test_tiny_demo(tmp_path: Path) -> None:
    done = command("demo", "--size", "tiny", "--out", "demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = DemoFolder(tmp_path / "demo")

    # what is printed is what the evaluations hold
    evaluations = {(s, t): read_evaluation(out.evaluated(s, t), s, []) for s in SYSTEMS for t in TESTS}
    for (_, test), evaluation in evaluations.items():
        assert evaluation is not None
        assert len(evaluation.names) == SIZES["tiny"].utterances[test]
    assert done.stdout.count("none") >= 2
    table = (out.path / "tables" / "emotion-demo-test-new-words-ccc.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table[1:]] == ["none", "asr", "sa2sr"]
    for line in table[1:]:
        printed = next(row for row in done.stdout.splitlines() if f" {line.split(',')[0]} " in row)
        for number in line.split(",")[1:10]:
            assert f"{float(number):.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}") in printed

    # the report shows every system and every stage
    page, text = (out.path / "report.html").read_text(), (out.path / "report.md").read_text()
    for expected in (*SYSTEMS, *TESTS, "Pre-training", "Fine-tuning", "Listen", "demo --size tiny"):
        assert expected in page
        assert expected in text
    assert "Left out" not in page  # nothing was missing or broken
    assert page.count("data:audio/flac;base64,") == 6

    # pre-training went into the encoder, and the model is that of the fine-tuning
    tasks = {system: {*load_model(out.finetuned(system) / "model").tasks()} for system in SYSTEMS}
    assert tasks == {"none": {"emotion"}, "asr": {"ctc", "emotion"}, "sa2sr": {"ctc", "sentiment", "emotion"}}
    assert (out.model / "model.safetensors").read_bytes() == (
        out.finetuned("sa2sr") / "model" / "model.safetensors"
    ).read_bytes()

    # the model predicts, in Python and on the command line
    clips = sorted((out.path / "corpus" / "audio").glob("demo-test-new-words-*.flac"))[:3]
    table_of_clips = sa2sr.load(out.model).predict(clips)
    assert len(table_of_clips) == 3
    assert table_of_clips.scale.name == "1-7"
    predicted = command("predict", *map(str, clips), "--model", "demo/model", "--out", "e.csv", cwd=tmp_path)
    assert predicted.returncode == 0, predicted.stderr
    header, *rows = (tmp_path / "e.csv").read_text().splitlines()
    assert len(rows) == 3
    for row, expected_row in zip(rows, table_of_clips, strict=True):
        cells = dict(zip(header.split(","), row.split(","), strict=True))
        for dimension in DIMENSIONS:
            assert float(cells[dimension]) == pytest.approx(getattr(expected_row, dimension), abs=1e-4)

    # run again it only says so
    before = {path: path.stat().st_mtime_ns for path in out.path.rglob("*") if path.is_file()}
    again = command("demo", "--size", "tiny", "--out", "demo", cwd=tmp_path)
    assert again.stdout == done.stdout
    assert "training" not in again.stderr
    after = {path: path.stat().st_mtime_ns for path in out.path.rglob("*") if path.is_file()}
    assert {path for path in after if after[path] != before.get(path)} <= {out.path / "demo.json", out.path / ".lock"}

    with pytest.raises(UserError, match="'size': 'tiny'"):
        run_demo(out.path, "small")


@pytest.mark.parametrize("size", list(SIZES))
def test_systems_differ_by_their_pretraining_alone(size: str, tmp_path: Path) -> None:
    recipes = {s: demo_recipe(DemoFolder(tmp_path), s, size, 3).model_dump(mode="json") for s in SYSTEMS}  # type: ignore[arg-type]
    for recipe in recipes.values():
        for key in ("max_epochs", "patience"):  # a random encoder has rates of its own, and takes longer
            recipe["finetuning"].pop(key)
        recipe["finetuning"]["optimiser"] |= {"rate": None, "encoder_rate": None}
    for recipe in recipes.values():
        assert recipe["seed"] == 3
        for part in ("frontend", "encoder", "finetuning"):
            assert recipe[part] == recipes["sa2sr"][part]
    assert recipes["none"]["pretraining"] is None
    assert recipes["sa2sr"]["pretraining"]["objectives"].pop("sentiment")["weight"] > 0
    assert recipes["asr"]["pretraining"]["objectives"].pop("sentiment") is None
    assert recipes["asr"]["pretraining"] == recipes["sa2sr"]["pretraining"]


def test_sizes_and_splits() -> None:
    for size in SIZES.values():
        assert set(size.utterances) == set(SPLITS)
    assert set(TESTS) < set(SPLITS)


def test_an_unknown_size(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="full, small, tiny"):
        run_demo(tmp_path, "huge")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
