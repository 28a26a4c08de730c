"""Submissions to the MSP-Podcast challenges: made of predictions, and measured in place of a model."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import sa2sr
from sa2sr.audio import probe
from sa2sr.cli import main
from sa2sr.config import DIMENSIONS, Scale
from sa2sr.cuts import make_cut, write_cuts
from sa2sr.errors import CorpusError, TableError, UserError
from sa2sr.inference.rows import Row
from sa2sr.inference.table import EmotionTable, Heading
from sa2sr.submission import SCALE, read_submission, write_submission
from sa2sr.training.evaluate import evaluate

RandomModel = Callable[..., Path]
Voice = Callable[..., NDArray[np.float32]]
TENTH = Scale(name="0-10", low=0, high=10)
FILE = "FileName,EmoAct,EmoVal,EmoDom\n"


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory, voice: Voice) -> Path:
    """Thirty files in two folders, and their ratings."""
    folder = tmp_path_factory.mktemp("speech")
    cuts, random = [], np.random.default_rng(0)
    for number in range(30):
        path = folder / "ab"[number % 2] / f"MSP-PODCAST_{number:04d}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, voice(0.5 + 0.02 * number, number), 16_000)
        ratings = dict(zip(DIMENSIONS, random.uniform(1, 7, 3).tolist(), strict=True))
        name, speaker = path.stem, f"s{number % 12}"
        cuts.append(make_cut(name, path, probe(path), speaker=speaker, ratings=ratings, scale=SCALE))
    write_cuts(folder / "test.jsonl.gz", cuts)
    return folder


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["sa2sr", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return int(exit_.value.code or 0)


def test_predictions_as_a_submission_measure_as_their_model(
    random_model: RandomModel, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, table, submission = random_model(gain=4), tmp_path / "emotions.csv", tmp_path / "mine.csv"
    wanted = ("predict", speech / "a", speech / "b", "--model", model, "--out", table)
    assert command(monkeypatch, *wanted, "--submission", submission) == 0
    with submission.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["FileName", "EmoAct", "EmoVal", "EmoDom"]
    predicted = sa2sr.read_table(table)
    assert [row["FileName"] for row in rows] == [Path(row.file).name for row in predicted]
    assert [float(row["EmoVal"]) for row in rows] == [row.valence for row in predicted]

    assert command(monkeypatch, "evaluate", submission, speech / "test.jsonl.gz") == 0
    folder = tmp_path / "evaluation" / f"{speech.name}-test"
    found = json.loads((folder / "metrics.json").read_text())
    expected = evaluate(model, [speech / "test.jsonl.gz"], tmp_path / "expected").metrics
    assert (found["name"], found["utterances"], found["left_out"]) == ("mine", 30, {})
    for dimension in DIMENSIONS:
        for metric in ("ccc", "pearson", "rmse"):
            for end in ("value", "low", "high"):
                one, other = found["overall"][dimension][metric][end], expected["overall"][dimension][metric][end]
                assert one == pytest.approx(other, abs=1e-4)  # of two engines
    assert set(found["by_speaker"]) == set(expected["by_speaker"])
    with (folder / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 30


def test_what_a_submission_does_not_name_is_left_out(speech: Path, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(FILE + "MSP-PODCAST_0003.wav,1,9,3\nMSP-PODCAST_0004,1,-2,3\nother.wav,1,1,1\n")
    evaluation = evaluate(tmp_path / "x.csv", [speech / "test.jsonl.gz"])
    assert evaluation.folder == tmp_path / "evaluation" / f"{speech.name}-test"
    assert (evaluation.metrics["utterances"], evaluation.metrics["left_out"]) == (2, {"without a prediction": 28})
    with (evaluation.folder / "predictions.csv").open() as file:
        assert [row["valence"] for row in csv.DictReader(file)] == ["9.0", "-2.0"]  # as they are
    (tmp_path / "y.csv").write_text((tmp_path / "x.csv").read_text())
    with pytest.raises(UserError, match=r"test: holds the evaluation of .*x.csv; choose another folder with --out"):
        evaluate(tmp_path / "y.csv", [speech / "test.jsonl.gz"])
    (tmp_path / "x.csv").write_text(FILE + "other.wav,1,1,1\n")
    with pytest.raises(CorpusError, match="names none of the utterances"):
        evaluate(tmp_path / "x.csv", [speech / "test.jsonl.gz"])


def test_ratings_on_another_scale(speech: Path, tmp_path: Path) -> None:
    path = next(speech.glob("a/*.wav"))
    cuts = [make_cut(f"u{n}", path, probe(path), ratings={"valence": 2.0 * n}, scale=TENTH) for n in range(4)]
    write_cuts(tmp_path / "tenth.jsonl", cuts)
    lines = (f"u{n}.wav,1,{1 + 6 * n / 5:.9f},1\n" for n in range(4))
    (tmp_path / "x.csv").write_text(FILE + "".join(lines))
    with pytest.raises(CorpusError, match=r"0-10 .*--map-scale"):
        evaluate(tmp_path / "x.csv", [tmp_path / "tenth.jsonl"])
    found = evaluate(tmp_path / "x.csv", [tmp_path / "tenth.jsonl"], map_scale=True).metrics["overall"]
    assert found["valence"]["ccc"]["value"] == pytest.approx(1)
    assert set(found) == {"valence"}
    write_cuts(tmp_path / "none.jsonl", [make_cut("u0", path, probe(path))])
    with pytest.raises(CorpusError, match="no ratings"):
        evaluate(tmp_path / "x.csv", [tmp_path / "none.jsonl"])


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1),
        st.tuples(*[st.floats(-1e6, 1e6)] * 3),
        min_size=1,
    )
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, emotions: dict[str, tuple[float, ...]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.csv"
    write_submission(path, emotions)
    assert read_submission(path) == emotions


def test_a_table_on_another_scale_is_mapped(tmp_path: Path) -> None:
    rows = [Row("calls/a.wav", 0, 1, 0.0, 5.0, 10.0)]
    EmotionTable(rows, Heading(TENTH, "m")).write_submission(tmp_path / "x.csv")
    assert read_submission(tmp_path / "x.csv") == {"a.wav": (1.0, 4.0, 7.0)}
    for second in (Row("calls/a.wav", 1, 2, 1, 1, 1), Row("more/a.wav", 0, 1, 1, 1, 1)):
        with pytest.raises(TableError, match=r"there are several for a.wav"):
            EmotionTable([*rows, second], Heading(TENTH, "m")).write_submission(tmp_path / "y.csv")
    assert not (tmp_path / "y.csv").exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has no column EmoAct, EmoDom, EmoVal, FileName"),
        ("FileName,EmoAct,EmoVal\na.wav,1,2\n", "has no column EmoDom"),
        (FILE, "holds no predictions"),
        (FILE + "a.wav,1,two,3\n", "line 2, EmoVal: 'two' is not a number"),
        (FILE + "a.wav,1,2\n", "line 2, EmoDom: '' is not a number"),
        (FILE + "a.wav,1,inf,3\n", "'inf' is not a number"),
        (FILE + "a.wav,1,2,3\na.wav,1,2,3\n", "line 3: a.wav is there twice"),
        (FILE + ",1,2,3\n", "line 2: names no file"),
        (FILE + '"a.wav,1,2,3\n', "is not CSV"),
        ("\xff\xfe", "is not UTF-8"),
    ],
)
def test_mistakes(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(TableError, match=reason):
        read_submission(tmp_path / "x.csv")


def test_columns_in_any_order_and_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("EmoDom, EmoVal,more,EmoAct,FileName\r\n3,2,x,1,a.wav\r\n", encoding="utf-8-sig")
    assert read_submission(tmp_path / "x.csv") == {"a.wav": (1.0, 2.0, 3.0)}


def test_a_submission_needs_a_table_of_whole_files(
    random_model: RandomModel, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("predict", speech / "a", "--model", random_model(), "--submission", tmp_path / "x.csv")
    assert command(monkeypatch, *common) == 2
    assert command(monkeypatch, *common, "--out", tmp_path / "t.csv", "--window", "1") == 2
    assert command(monkeypatch, *common, "--out", tmp_path / "t.jsonl") == 0
    assert len(read_submission(tmp_path / "x.csv")) == 15
