import csv
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sa2sr.cli import main
from sa2sr.config import DIMENSIONS
from sa2sr.errors import ModelError, TableError
from sa2sr.inference import Row, load, read_table
from sa2sr.inference.export import export
from sa2sr.inference.rows import columns_of
from sa2sr.inference.table import COLUMNS, INTERVALS
from sa2sr.intervals import calibration
from sa2sr.network.folder import INTERVALS_FILE, read_calibration, write_calibration

Voice = Callable[..., NDArray[np.float32]]
WITH_INTERVALS = (
    *("file", "start", "end", "activation", "activation_low", "activation_high"),
    *("valence", "valence_low", "valence_high", "dominance", "dominance_low", "dominance_high", "note"),
)


@pytest.fixture(scope="module")
def model(random_model: Callable[..., Path]) -> Path:
    """Calibrated on 199 utterances; dominance, on 4, has intervals up to a level of 0.8 only."""
    folder = random_model(gain=3.0, mean=5.5, spread=2.0)
    random = np.random.default_rng(0)
    ratings = np.clip(4 + random.normal(0, [0.5, 1.0, 0.2], (199, 3)), 1, 7)
    ratings[4:, 2] = np.nan
    write_calibration(folder, calibration(np.full((199, 3), 4.0), ratings))
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, voice: Voice) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for number, seconds in enumerate((0.2, 1.0, 3.5)):
        soundfile.write(folder / f"{number}.wav", voice(seconds, number), 16_000)
    return folder


def test_intervals_are_the_half_widths_of_the_calibration_within_the_scale(model: Path, clips: Path) -> None:
    found = read_calibration(model)
    assert found is not None
    clipped = 0
    for level in (0.5, 0.8, 0.9, 0.95):
        table = load(model).predict(clips, window=1.0, level=level)
        assert (table.level, table.columns) == (level, WITH_INTERVALS)
        for name, half in zip(DIMENSIONS, found.half_widths(level), strict=True):
            centre, low, high = (table.column(f"{name}{end}") for end in ("", "_low", "_high"))
            if not math.isfinite(half):
                assert (name, level) in {("dominance", 0.9), ("dominance", 0.95)}
                assert np.isnan([low, high]).all()
                continue
            assert low == pytest.approx(np.maximum(1, centre - half), abs=2e-6)
            assert high == pytest.approx(np.minimum(7, centre + half), abs=2e-6)
            assert ((low <= centre) & (centre <= high)).all()
            clipped += int((centre + half > 7).sum())
    assert clipped, "else clipping is not tested"


def test_the_level_is_90_per_cent_unless_told_otherwise(model: Path, clips: Path) -> None:
    loaded = load(model)
    assert loaded.predict(clips) == loaded.predict(clips, level=0.9)
    without = loaded.predict(clips, level=0)
    assert (without.level, without.columns) == (0, COLUMNS)
    assert [row.valence for row in without] == [row.valence for row in loaded.predict(clips)]
    with pytest.raises(KeyError, match="valence_low"):
        without.column("valence_low")
    for level in (-0.1, 1.0, 90, math.nan):
        with pytest.raises(ValueError, match="a share"):
            loaded.predict(clips, level=level)
    with pytest.raises(ModelError, match=r"level 0\.999: it is calibrated on 199 utterances.* up to 0\.995"):
        loaded.predict(clips, level=0.999)


def test_a_model_that_is_not_calibrated_gives_none(random_model: Callable[..., Path], clips: Path) -> None:
    loaded = load(random_model())
    assert loaded.predict(clips).columns == COLUMNS
    with pytest.raises(ModelError, match="not calibrated; 'sa2sr calibrate'"):
        loaded.predict(clips, level=0.8)
    few = calibration(np.zeros((8, 3)), np.ones((8, 3)))
    write_calibration(folder := random_model(), few)
    assert load(folder).predict(clips).level == 0  # 8 are too few for 0.9
    assert load(folder).predict(clips, level=0.8).column("valence_high").tolist() != []


def test_every_engine_and_an_exported_model_give_the_same(model: Path, clips: Path, tmp_path: Path) -> None:
    exported = export(model, tmp_path / "exported", int8=False)
    expected = load(model, engine="torch").predict(clips, level=0.8)
    for loaded in (load(model, engine="onnx"), load(exported)):
        table = loaded.predict(clips, level=0.8)
        assert table.columns == expected.columns == WITH_INTERVALS
        for name in (*DIMENSIONS, *INTERVALS):
            assert table.column(name) == pytest.approx(expected.column(name), abs=1e-4)
    labels = json.loads((exported / "labels.json").read_text())
    found = read_calibration(exported)
    assert found is not None
    for level, halves in labels["half_widths"].items():
        assert halves == [h if math.isfinite(h) else None for h in found.half_widths(float(level)).tolist()]
    # Exported again without a calibration, the folder does not keep the old one.
    (exported / INTERVALS_FILE).write_bytes((model / INTERVALS_FILE).read_bytes())
    (model / INTERVALS_FILE).rename(tmp_path / "aside")
    try:
        assert read_calibration(export(model, exported, int8=False)) is None
    finally:
        (tmp_path / "aside").rename(model / INTERVALS_FILE)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 30_000), min_size=1, max_size=8), st.sampled_from([0.0, 0.5, 0.9]))
def test_a_stream_gives_the_windows_of_a_file(model: Path, voice: Voice, sizes: list[int], level: float) -> None:
    loaded, speech = load(model, engine="onnx"), voice(2.5)
    expected = loaded.predict(speech, 16_000, window=1, hop=0.5, level=level)
    stream = loaded.stream(16_000, window=1, hop=0.5, name="array", level=level)
    rows, start = [], 0
    for size in sizes:
        rows += stream.push(speech[start : start + size])
        start += size
    rows += stream.push(speech[start:]) + stream.flush()
    assert rows == expected.rows
    assert (rows[0].valence_low is None) == (level == 0)  # type: ignore[union-attr]


def test_tables_come_back_from_disk(model: Path, clips: Path, tmp_path: Path) -> None:
    for level in (0, 0.8, 0.95):
        table = load(model).predict(clips, level=level)
        for suffix in ("csv", "jsonl"):
            path = tmp_path / f"a.{suffix}"
            table.write(path)
            assert read_table(path) == table
            sidecar = json.loads((tmp_path / f"a.{suffix}.scale.json").read_text())
            assert (sidecar["level"], sidecar["columns"]) == (level or None, list(table.columns))
        assert next(csv.reader((tmp_path / "a.csv").open())) == list(columns_of(level))
    for wrong in (1.5, -1, "much"):
        (tmp_path / "a.csv.scale.json").write_text(json.dumps(sidecar | {"level": wrong}))
        with pytest.raises(TableError, match=r"a\.csv\.scale\.json"):
            read_table(tmp_path / "a.csv")


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str | Path, content: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sa2sr", "predict", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0), *capsys.readouterr()

    return run


def test_the_command(
    predict: Callable[..., tuple[int, str, str]], model: Path, clips: Path, tmp_path: Path, voice: Voice
) -> None:
    loaded, out = load(model), tmp_path / "out.csv"
    for arguments, level in ((), 0.9), (("--level", "0.8"), 0.8), (("--level", "0"), 0):
        assert predict(clips, "-m", model, "-o", out, *arguments)[0] == 0
        assert read_table(out) == loaded.predict(clips, level=level)
    code, printed, _ = predict(clips / "2.wav", "-m", model, "--level", "0.8")
    (row,) = loaded.predict(clips / "2.wav", level=0.8)
    assert code == 0
    assert "80 % intervals" in printed
    assert f"{row.valence:.2f} [{row.valence_low:.2f}, {row.valence_high:.2f}]" in printed
    speech = np.rint(voice(2.0) * 32767).astype("<i2")
    code, printed, _ = predict(
        "-", "-m", model, "--raw", "16000", "--window", "1", "--level", "0.8", content=speech.tobytes()
    )
    expected = loaded.predict(speech, 16_000, window=1, name="-", level=0.8)
    assert [Row(**json.loads(line)) for line in printed.splitlines()] == expected.rows
    for wrong, reason in (("1", "a share"), ("0.999", "calibrated on 199 utterances"), ("95", "a share")):
        code, _, err = predict(clips, "-m", model, "--level", wrong)
        assert code == 2
        assert reason in " ".join(err.split())


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", "{", '{"valence": {"utterances": 3}}', "[" * 100_000, '{"format": 2}', " " * 2_000_000, "\xff"],
)
def test_a_damaged_calibration_is_named(random_model: Callable[..., Path], content: str) -> None:
    folder = random_model()
    (folder / INTERVALS_FILE).write_text(content, encoding="latin-1")
    with pytest.raises(ModelError, match=r"intervals\.json(.|\n)*sa2sr calibrate"):
        load(folder)
