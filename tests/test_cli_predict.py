import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sa2sr.cli import main
from sa2sr.inference import load, read_table

Predict = Callable[..., int]


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch) -> Predict:
    """``predict("a.wav", "--model", folder)`` runs the command line and returns its exit code."""

    def run(*arguments: str | Path) -> int:
        monkeypatch.setattr(sys, "argv", ["sa2sr", "predict", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0)

    return run


@pytest.fixture(scope="module")
def model(random_model: Callable[..., Path]) -> Path:
    return random_model()


@pytest.fixture
def calls(tmp_path: Path, voice: Callable[..., NDArray[np.float32]]) -> Path:
    folder = tmp_path / "calls"
    (folder / "more").mkdir(parents=True)
    soundfile.write(folder / "a.wav", voice(2.0, 1), 16_000)
    soundfile.write(folder / "more" / "b.flac", voice(1.0, 2, 8_000), 8_000)
    soundfile.write(folder / "more" / "c.ogg", voice(0.2, 3), 16_000)
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_folder_becomes_a_table(
    predict: Predict, model: Path, calls: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / f"out{suffix}"
    assert predict(calls, "--model", model, "-o", out) == 0
    table = read_table(out)
    assert table == load(model).predict(calls)
    assert [Path(row.file).name for row in table] == ["a.wav", "b.flac", "c.ogg"]
    assert [row.note for row in table] == ["", "upsampled from 8000 Hz", "short"]
    assert sorted(path.name for path in out.parent.iterdir()) == [out.name, f"{out.name}.scale.json"]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("3 rows of 3 files, 3.2 s of audio in ")
    assert "x real time)" in printed.err


def test_nothing_is_left_at_home_and_nobody_is_told(model: Path, calls: Path, tmp_path: Path) -> None:
    """Onnxruntime keeps its reports to Microsoft below the home folder until they are sent."""
    home = tmp_path / "home"
    home.mkdir()
    kept = ("XDG_", "ORT_")
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
    command = [sys.executable, "-m", "sa2sr", "predict", str(calls), "--model", str(model), "--engine", "onnx"]
    subprocess.run(command, env=surroundings | {"HOME": str(home)}, check=True, capture_output=True, timeout=120)
    assert not [*home.rglob("*")]


def test_without_out_the_table_is_printed(
    predict: Predict, model: Path, calls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(calls / "a.wav", "--model", model) == 0
    (row,) = load(model).predict(calls / "a.wav")
    printed = capsys.readouterr().out
    for expected in ("a.wav", f"{row.activation:.2f}", f"{row.valence:.2f}", f"{row.dominance:.2f}", "1-7"):
        assert expected in printed


def test_bad_files_are_listed_and_the_rest_goes_on(
    predict: Predict, model: Path, calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, errors = tmp_path / "out.csv", tmp_path / "out.csv.errors.jsonl"
    (calls / "bad.wav").write_text("no audio")
    (calls / "empty.mp3").touch()
    assert predict(calls, calls / "gone.wav", "--model", model, "--out", out) == 1
    assert [Path(row.file).name for row in read_table(out)] == ["a.wav", "b.flac", "c.ogg"]
    failures = [json.loads(line) for line in errors.read_text().splitlines()]
    assert [Path(failure["file"]).name for failure in failures] == ["bad.wav", "empty.mp3", "gone.wav"]
    assert [failure["reason"].partition(" (")[0] for failure in failures] == [
        "is not audio that libsndfile can read",
        "is empty",
        "does not exist",
    ]
    printed = capsys.readouterr().err
    assert all(f"{failure['file']}: {failure['reason']}" in printed for failure in failures)
    assert "3 failed" in printed
    # A later job without failures takes the list away.
    assert predict(calls / "a.wav", "--model", model, "--out", out) == 0
    assert not errors.exists()


def test_names_that_are_not_unicode(predict: Predict, model: Path, calls: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    odd = (calls / "a.wav").rename(os.fsdecode(os.fsencode(calls) + b"/\xff.wav"))
    Path(os.fsdecode(os.fsencode(calls) + b"/\xfe.wav")).write_text("no audio")
    arguments = [sys.executable, "-m", "sa2sr", "predict", calls, "--model", model, "--out", out]
    answer = subprocess.run(arguments, stderr=subprocess.PIPE, text=True, timeout=300)
    assert answer.returncode == 1
    assert [Path(row.file).name for row in read_table(out)] == [odd.name, "b.flac", "c.ogg"]
    failed, summary = answer.stderr.splitlines()
    assert failed == f"failed: {calls}/\\udcfe.wav: is not audio that libsndfile can read (Format not recognised.)"
    assert summary.startswith("3 rows of 4 files")
    assert predict(odd, "--model", model) == 0  # printed


def test_nothing_done_leaves_an_earlier_table(
    predict: Predict, model: Path, calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.csv"
    assert predict(calls, "--model", model, "--out", out) == 0
    before = out.read_bytes()
    assert predict(calls / "x.wav", calls / "y.wav", "--model", model, "--out", out) == 2
    assert out.read_bytes() == before
    assert len((tmp_path / "out.csv.errors.jsonl").read_text().splitlines()) == 2
    assert "x.wav: does not exist; 1 more failed" in capsys.readouterr().err


def test_names_that_look_like_options(
    predict: Predict, model: Path, calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(calls)
    (calls / "a.wav").rename(calls / "--model")
    assert predict("--model", model, "-o", tmp_path / "out.csv", "--", "--model", "more/b.flac") == 0
    assert [row.file for row in read_table(tmp_path / "out.csv")] == ["--model", "more/b.flac"]


def test_longest(predict: Predict, model: Path, calls: Path, tmp_path: Path) -> None:
    assert predict(calls / "a.wav", "--model", model, "-o", tmp_path / "out.csv", "--longest", "1") == 0
    assert [(row.start, row.end) for row in read_table(tmp_path / "out.csv")] == [(0.0, 1.0), (1.0, 2.0)]


def test_mistakes_are_one_line_and_exit_with_2(
    predict: Predict,
    model: Path,
    calls: Path,
    random_model: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    pretrained = random_model(heads=("ctc", "sentiment"))
    for arguments, reason in (
        ((calls, "--model", pretrained), "only been pre-trained (ctc, sentiment); fine-tune it with 'sa2sr finetune"),
        ((calls, "--model", tmp_path / "no"), "does not exist"),
        ((calls, "--model", calls), "is not a model folder"),
        ((calls, "--model", model, "-o", "out.txt"), "a table is a .csv, a .jsonl or a .parquet file"),
        ((tmp_path / "empty", "--model", model), "is a folder without audio files"),
        (("https://example.org/a.wav?part=2", "--model", model), "is an address, and only files are read: download it"),
        ((calls, "--model", model, "--longest", "inf"), "--longest: longest must be a duration"),
        ((calls, "-m", model, "-o", tmp_path / "o.csv", "--submission", calls / "../o.csv"), "would replace the table"),
        ((calls, "--model", model, "--device", "abacus"), "device 'abacus' cannot be used"),
    ):
        assert predict(*arguments) == 2
        printed = capsys.readouterr().err
        assert reason in printed
        assert len(printed.splitlines()) == 1
