import csv
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa2sr.config import DIMENSIONS, Scale
from sa2sr.errors import TableError
from sa2sr.inference import formats
from sa2sr.inference.table import (
    COLUMNS,
    INTERVALS,
    UNIT,
    EmotionTable,
    Failure,
    Heading,
    Row,
    read_table,
    scale_file,
    table_writer,
)

SCALE = Scale(name="1-5", low=1, high=5)
FORMATS = (".csv", ".jsonl", ".parquet")
TEXT_FORMATS = FORMATS[:2]

numbers = st.floats(-10, 10).map(lambda x: round(x, 6))
unicode_names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
rows = st.lists(
    st.builds(Row, unicode_names, numbers, numbers, numbers, numbers, numbers, st.sampled_from(["", "short; silent"])),
    max_size=5,
)


def table(*names: str) -> EmotionTable:
    return EmotionTable([Row(name, 0.0, 1.5, 2.25, 3.5, 4.125) for name in names], Heading(SCALE, "a model"))


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=50, deadline=None)
@given(rows=rows)
def test_a_table_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[Row]) -> None:
    path = tmp_path_factory.mktemp("table") / f"out{suffix}"
    written = EmotionTable(rows, Heading(SCALE, "a model"))
    written.write(path)
    assert read_table(path) == written


@pytest.mark.parametrize("suffix", FORMATS)
def test_all_columns_come_back(tmp_path: Path, suffix: str) -> None:
    spans = {name: 1.0 + 0.125 * index for index, name in enumerate(INTERVALS)}
    rows = [
        Row("a.wav", 0, 1, 2, 3, 4, "", **spans, negative=0.25, neutral=0.5, positive=0.25, transcript="it's fine"),
        Row("b.wav", 0, 1, 2, 3, 4, "short", **spans | {INTERVALS[0]: None}, negative=0, neutral=1, positive=0,
            transcript=""),
    ]  # fmt: skip
    written = EmotionTable(rows, Heading(SCALE, "m", level=0.8, extras=("sentiment", "transcript")))
    assert written.columns[-5:] == ("negative", "neutral", "positive", "transcript", "note")
    written.write(tmp_path / f"out{suffix}")
    assert read_table(tmp_path / f"out{suffix}") == written
    bare = EmotionTable([replace(row, transcript=None) for row in rows], Heading(SCALE, "m"))
    assert bare.columns == COLUMNS


@pytest.mark.parametrize("dimensions", [DIMENSIONS, ()])
@pytest.mark.parametrize("suffix", FORMATS)
def test_categories_come_back_with_dimensions_and_without(
    tmp_path: Path, suffix: str, dimensions: tuple[str, ...]
) -> None:
    numbers = (2.0, 3.0, 4.0) if dimensions else (math.nan,) * 3
    said = {"a, b": 0.25, "néutral": 0.75}
    rows = [Row("a.wav", 0, 1, *numbers, "", emotion="néutral", probabilities=said)]
    written = EmotionTable(rows, Heading(SCALE, "m", categories=tuple(said), dimensions=dimensions))
    assert written.columns == (
        "file",
        "start",
        "end",
        *dimensions,
        "emotion",
        "emotion_a, b",
        "emotion_néutral",
        "note",
    )
    written.write(tmp_path / f"out{suffix}")
    again = read_table(tmp_path / f"out{suffix}")
    assert (again.heading, again[0].probabilities, again[0].emotion) == (written.heading, said, "néutral")
    assert again.column("emotion_a, b").tolist() == [0.25]
    assert again.column("emotion").tolist() == ["néutral"]
    assert [again[0].activation] == pytest.approx([numbers[0]], nan_ok=True)
    again.print()
    if not dimensions:
        with pytest.raises(TableError, match="a submission has activation, valence, dominance, which 'm' does not"):
            again.write_submission(tmp_path / "submission.csv")


def test_parquet_says_what_its_numbers_are_and_has_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_GROUP", 3)
    many = EmotionTable([Row(f"{i}.wav", 0, 1, 2, 3, 4 + i / 8) for i in range(8)], Heading(SCALE, "m"))
    many.write(tmp_path / "out.parquet")
    with pyarrow.parquet.ParquetFile(tmp_path / "out.parquet") as file:
        assert file.num_row_groups == 3
        described = json.loads(file.schema_arrow.metadata[b"sa2sr"])
        assert (described["low"], described["high"], described["model"]) == (1, 5, "m")
        assert file.read().column("dominance").to_pylist() == [row.dominance for row in many]
    assert read_table(tmp_path / "out.parquet") == many
    (tmp_path / "out.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(TableError, match="is not a Parquet file"):
        read_table(tmp_path / "out.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(TableError, match=r"pip install 'sa2sr\[parquet\]'"):
        many.write(tmp_path / "out.parquet")


@given(st.floats(1, 5), st.floats(1, 5))
def test_a_scale_is_moved_linearly(valence: float, low: float) -> None:
    row = Row("a", 0, 1, 1, valence, 5, valence_low=low, negative=0.5)
    unit = EmotionTable([row], Heading(SCALE, "m")).on(UNIT)
    assert (unit.scale, unit[0].activation, unit[0].dominance) == (UNIT, 0, 1)
    assert unit[0].valence == pytest.approx((valence - 1) / 4, abs=1e-6)
    assert unit[0].valence_low == pytest.approx((low - 1) / 4, abs=1e-6)
    assert (unit[0].valence_high, unit[0].negative, unit[0].end) == (None, 0.5, 1)
    assert unit.on(SCALE)[0].valence == pytest.approx(valence, abs=1e-5)


def test_csv_and_jsonl_name_their_columns_and_their_scale(tmp_path: Path) -> None:
    for suffix in TEXT_FORMATS:
        table("a.wav").write(tmp_path / f"out{suffix}")
        sidecar = json.loads((tmp_path / f"out{suffix}.scale.json").read_text())
        assert sidecar == {
            "name": "1-5",
            "low": 1.0,
            "high": 5.0,
            "model": "a model",
            "level": None,
            "columns": list(COLUMNS),
        }
    with (tmp_path / "out.csv").open() as file:
        (entry,) = csv.DictReader(file)
    assert entry == {
        "file": "a.wav", "start": "0.0", "end": "1.5",
        "activation": "2.25", "valence": "3.5", "dominance": "4.125", "note": "",
    }  # fmt: skip
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {
        "file": "a.wav", "start": 0.0, "end": 1.5, "activation": 2.25, "valence": 3.5, "dominance": 4.125, "note": "",
    }  # fmt: skip


def test_names_that_are_not_unicode(tmp_path: Path) -> None:
    name = b"caf\xe9.wav".decode(errors="surrogateescape")
    table(name).write(tmp_path / "out.jsonl")
    assert read_table(tmp_path / "out.jsonl")[0].file == name
    table(name).write(tmp_path / "out.csv")
    assert read_table(tmp_path / "out.csv")[0].file == r"caf\udce9.wav"


def test_a_failing_block_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    table("old.wav").write(path)

    def half() -> None:
        with table_writer(path, Heading(Scale(), "another")) as add:
            add(Row("new.wav", 0, 1, 2, 3, 4))
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        half()
    assert read_table(path) == table("old.wav")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "out.csv.scale.json"]


def test_rows_reach_the_disk_as_they_come(tmp_path: Path) -> None:
    with table_writer(tmp_path / "out.jsonl", Heading(SCALE, "m")) as add:
        for index in range(2000):
            add(Row(f"{index}.wav", 0, 1, 2, 3, 4))
        (temporary,) = tmp_path.iterdir()
        assert temporary.stat().st_size > 100_000
    assert len(read_table(tmp_path / "out.jsonl")) == 2000


def test_columns() -> None:
    both = EmotionTable([Row("a", 0, 1, 2, 3, 4), Row("b", 1, 2, 5, 6, 7, "short")], Heading(SCALE, "m"))
    np.testing.assert_array_equal(both.column("valence"), [3.0, 6.0])
    assert list(both.column("note")) == ["", "short"]
    assert (len(both), both[1].file, [row.file for row in both]) == (2, "b", ["a", "b"])
    with pytest.raises(KeyError, match="arousal"):
        both.column("arousal")


def test_print_shows_every_number(capsys: pytest.CaptureFixture[str]) -> None:
    EmotionTable([Row("[bold]a.wav", 0, 1.5, 2.25, 3.5, 4.125, "short")], Heading(SCALE, "m")).print()
    printed = capsys.readouterr().out
    for expected in ("[bold]a.wav", "1.50", "2.25", "3.50", "4.12", "short", "1-5", "activation"):
        assert expected in printed


def test_a_notebook_shows_the_first_rows_and_how_much_else_there_is() -> None:
    rows = [Row(f"{number}<b>.wav", 0, 1.5, 2.25, 3.5, 4.125) for number in range(21)]
    long = EmotionTable(rows, Heading(SCALE, "m"), [Failure("x.wav", "is empty"), Failure("y.wav", "is empty")])
    shown = repr(long)
    assert "19<b>.wav" in shown
    assert "20<b>.wav" not in shown
    assert shown.endswith("\n1 more row\n2 failed, such as x.wav")
    assert "\x1b" not in shown
    assert "19&lt;b&gt;.wav" in long._repr_html_()
    assert "more" not in repr(EmotionTable(rows[:20], Heading(SCALE, "m")))


def test_pandas_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(TableError, match="pip install pandas"):
        table("a").to_pandas()


def test_pandas() -> None:
    pytest.importorskip("pandas")
    frame = table("a", "b").to_pandas()
    assert list(frame.columns) == list(COLUMNS)
    assert frame.valence.tolist() == [3.5, 3.5]
    assert frame.attrs["scale"]["high"] == 5


def test_names_that_are_no_table(tmp_path: Path) -> None:
    for name in ("out", "out.txt", "out.wav"):
        with pytest.raises(TableError, match=r"a \.csv, a \.jsonl or a \.parquet"):
            table("a").write(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TableError, match="is a folder"):
        table("a").write(tmp_path / "folder.csv")
    (tmp_path / "file").touch()
    with pytest.raises(TableError, match="cannot be written"):
        table("a").write(tmp_path / "file" / "out.csv")


def test_a_lost_scale_must_be_given(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    table("a").write(path)
    for damaged in ('{"name": "1-5"}', "[" * 100_000):
        scale_file(path).write_text(damaged)
        with pytest.raises(TableError, match="is not the scale"):
            read_table(path)
    scale_file(path).unlink()
    with pytest.raises(TableError, match="is missing"):
        read_table(path)
    assert read_table(path, SCALE).rows == table("a").rows


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "file,start,end,activation,valence\na,0,1,2,3\n", "line 2: has no column 'dominance'"),
        ("a.csv", "file,start,end,activation,valence,dominance\na,0,1,2,3\n", "dominance is None"),
        ("a.csv", "file,start,end,activation,valence,dominance\na,0,1,2,3,much\n", "'much', not a number"),
        ("a.csv", "file,start,end,activation,valence,dominance\na,0,1,2,3,nan\n", "not a finite number"),
        ("a.csv", 'file,start\n"a', "is not CSV"),
        ("a.csv", b"\xff\xfe", "cannot be read|is not UTF-8"),
        ("a.jsonl", "[1]\n", "line 1: is not an object"),
        ("a.jsonl", "{\n", "line 1: is not JSON"),
        ("a.jsonl", "[" * 100_000, "line 1: is not JSON"),
        ("a.jsonl", '{"file": 3, "start": 0, "end": 1, "activation": 1, "valence": 1, "dominance": 1}\n', "file name"),
    ],
)
def test_damaged_tables(tmp_path: Path, name: str, text: str | bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(TableError, match=reason):
        read_table(tmp_path / name, SCALE)
