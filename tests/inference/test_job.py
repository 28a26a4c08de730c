"""Jobs: what is named, several processes, and going on after an interruption."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sa2sr.errors import AudioError, TableError
from sa2sr.inference import Segment, job, load, read_segments, read_table
from sa2sr.inference.job import predict_files
from sa2sr.inference.journal import Journal, Position
from sa2sr.inference.model import Model
from sa2sr.inference.options import Options
from sa2sr.inference.rows import UNIT, Failure, Heading, Row
from sa2sr.inference.sources import find_audio
from sa2sr.inference.windows import Windows

Voice = Callable[..., NDArray[np.float32]]


@pytest.fixture(scope="module")
def folder(random_model: Callable[..., Path]) -> Path:
    return random_model(heads=("ctc", "sentiment", "emotion"), gain=4)


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(folder)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, voice: Voice) -> Path:
    """Twelve files, two of them bad."""
    root = tmp_path_factory.mktemp("clips")
    for number in range(10):
        soundfile.write(root / f"{number}.wav", voice(0.3 + number % 4 / 3, number), 16_000)
    (root / "3b.wav").write_text("no audio")
    (root / "7b.wav").touch()
    return root


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "CHUNK_SOURCES", 2)


OPTIONS = Options(windows=Windows(0.5, 0.25), transcript=True, sentiment=True, scale="0-1")


# --- What is named ----------------------------------------------------------------------------------------------------


def test_patterns_and_lists(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clips.parent)
    name = clips.name
    assert list(find_audio([f"{name}/[12].wav"])) == [Path(name, "1.wav"), Path(name, "2.wav")]
    assert len(list(find_audio([f"{name}/**/*.wav"]))) == 12
    assert list(find_audio([f"{name}/*"])) == list(find_audio([name]))
    (failure,) = find_audio([f"{name}/*.flac"])
    assert isinstance(failure, Failure)
    assert "no audio file matches" in failure.reason
    (tmp_path / "files.txt").write_text(f"{name}/2.wav\r\n\n{name}/gone[1].wav\n{name}\n")
    found = list(find_audio([f"@{tmp_path}/files.txt", f"{name}/1.wav"]))
    assert found[:2] == [Path(name, "2.wav"), Path(name, "gone[1].wav")]
    assert found[2:-1] == list(find_audio([name]))
    assert found[-1] == Path(name, "1.wav")
    (tmp_path / "marked.txt").write_text(f"{name}/2.wav\n", encoding="utf-8-sig")  # as some editors write it
    assert list(find_audio([f"@{tmp_path}/marked.txt"])) == [Path(name, "2.wav")]
    (failure,) = find_audio(["@nothing.txt"])
    assert isinstance(failure, Failure)
    assert "is a list that cannot be read (No such file" in failure.reason


def test_what_exists_is_no_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a[1].wav", "@b.wav", "a1.wav"):
        Path(name).touch()
    assert list(find_audio(["a[1].wav", "@b.wav"])) == [Path("a[1].wav"), Path("@b.wav")]


def test_segments(model: Model, voice: Voice, tmp_path: Path) -> None:
    speech = voice(3.0, 5)
    path, table = tmp_path / "a.wav", tmp_path / "segments.csv"
    soundfile.write(path, speech, 16_000, subtype="FLOAT")
    table.write_text(
        f"speaker,Start,END,path\nx,0.5,1.25,{path}\ny,,1,{path}\nz,2.5,,{path}\nx,9,10,{path}\n"
        f"x,2,1,{path}\nx,soon,3,{path}\nx,1,2,\nx,2.75,99,{path}\n"
    )
    found = model.predict(read_segments(table))
    assert [(row.start, row.end) for row in found] == [(0.5, 1.25), (0, 1), (2.5, 3), (2.75, 3)]
    for row in found:
        alone = model.predict(speech[round(row.start * 16_000) : round(row.end * 16_000)], 16_000)[0]
        assert row.valence == pytest.approx(alone.valence, abs=1e-4)
    reasons = [failure.reason for failure in found.failures]
    assert [any(word in reason for reason in reasons) for word in ("begins at 9 s", "2 to 1 s", "'soon'", "no file")]
    assert len(reasons) == 4
    windows = model.predict(Segment(str(path), 0.5, 2.0), window=1.0, hop=0.5)
    assert [(row.start, row.end) for row in windows] == [(0.5, 1.5), (1.0, 2.0)]
    with pytest.raises(AudioError, match="begins at 9 s"):
        model.predict(Segment(str(path), 9))


@pytest.mark.parametrize("window", [None, 1.0])
def test_segments_that_cannot_be(model: Model, voice: Voice, tmp_path: Path, window: float | None) -> None:
    path = str(tmp_path / "a.wav")
    soundfile.write(path, voice(3.0, 5), 16_000)
    spans = [(3.0, 2.0), (2, 2), (math.nan, 2), (0, math.nan), (1e305, None), (1e305, 1e306), (-1e305, 1)]
    found = model.predict([*(Segment(path, *span) for span in spans), Segment(path, 2.5, 1e306)], window=window)
    assert [(row.start, row.end) for row in found] == [(2.5, 3)]
    assert [failure.file for failure in found.failures] == [path] * len(spans)
    (tmp_path / "segments.csv").write_text(f"file,start,end\n{path},1e305,\n")
    with pytest.raises(AudioError, match="begins at 1e\\+305 s"):
        predict_files(model, read_segments(tmp_path / "segments.csv"), tmp_path / "out.csv")


def test_a_table_of_emotions_lists_segments(model: Model, clips: Path, tmp_path: Path) -> None:
    first = model.predict(clips / "3.wav", window=0.5, hop=0.25)
    first.write(tmp_path / "out.csv")
    assert model.predict(read_segments(tmp_path / "out.csv")).rows == first.rows


@pytest.mark.parametrize(
    ("text", "reason"),
    [("file,start\na,1\n", "has columns file, start and end"), ("", "has columns"), (None, "cannot be read")],
)
def test_tables_that_list_no_segments(tmp_path: Path, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "s.csv").write_text(text)
    with pytest.raises(AudioError, match=reason):
        list(read_segments(tmp_path / "s.csv"))


# --- Several processes ------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
def test_processes_give_what_one_gives(model: Model, clips: Path, tmp_path: Path) -> None:
    one = predict_files(model, [clips], tmp_path / "one.csv", OPTIONS, jobs=1)
    two = predict_files(model, [clips], tmp_path / "two.csv", OPTIONS, jobs=2)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    assert one.failures == two.failures
    assert [Path(failure.file).name for failure in one.failures] == ["3b.wav", "7b.wav"]
    assert (one.rows, one.files, one.audio_seconds) == (two.rows, 12, two.audio_seconds)
    expected = model.predict(clips, window=0.5, hop=0.25, transcript=True, sentiment=True, scale="0-1")
    assert read_table(tmp_path / "one.csv").rows == expected.rows
    assert sum(len(soundfile.read(clips / f"{i}.wav")[0]) for i in range(10)) / 16_000 == pytest.approx(
        one.audio_seconds, abs=1e-4
    )


def test_parquet_is_the_same_table(model: Model, clips: Path, tmp_path: Path) -> None:
    for suffix in (".csv", ".jsonl", ".parquet"):
        predict_files(model, [clips], tmp_path / f"out{suffix}", OPTIONS)
    tables = [read_table(tmp_path / f"out{suffix}") for suffix in (".csv", ".jsonl", ".parquet")]
    assert tables[0] == tables[1] == tables[2]
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"out{s}{e}" for s in (".csv", ".jsonl", ".parquet") for e in ("", ".scale.json", ".errors.jsonl")}


# --- Going on ---------------------------------------------------------------------------------------------------------


class Interruption(BaseException):
    """As from the keyboard."""


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_an_interrupted_job_goes_on(
    model: Model, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    expected = predict_files(model, [clips], whole, OPTIONS)
    real, heard = Model.clips, []

    def clips_until(stop: int) -> None:
        def clips(self: Model, sources: object, **options: object) -> object:
            for each in real(self, sources, **options):  # type: ignore[arg-type]
                heard.append(each.file)
                if len({*heard}) == stop:
                    raise Interruption
                yield each

        monkeypatch.setattr(Model, "clips", clips)

    for stop, resume in ((6, False), (4, True), (5, True)):
        heard.clear()
        clips_until(stop)
        with pytest.raises(Interruption):
            predict_files(model, [clips], out, OPTIONS, resume=resume)
        assert not out.exists()
        with Path(f"{out}.partial").open("ab") as file:
            file.write(b'half a "row')  # as a kill in the middle of it leaves
        with Path(f"{out}.journal").open("ab") as file:
            file.write(b'{"sources": 99, "byt')
    monkeypatch.setattr(Model, "clips", real)
    summary = predict_files(model, [clips], out, OPTIONS, resume=True)
    assert read_table(out) == read_table(whole)
    if suffix != ".parquet":
        assert out.read_bytes() == whole.read_bytes()
    assert Path(f"{out}.errors.jsonl").read_bytes() == Path(f"{whole}.errors.jsonl").read_bytes()
    assert (summary.rows, summary.failures) == (expected.rows, expected.failures)
    assert summary.audio_seconds == pytest.approx(expected.audio_seconds)
    assert 0 < summary.heard_before < summary.audio_seconds
    assert not {path.suffix for path in tmp_path.iterdir()} & {".partial", ".journal"}


def test_a_killed_job_goes_on(folder: Path, clips: Path, tmp_path: Path) -> None:
    program = """
import sys
from sa2sr.inference import job, load
from sa2sr.inference.options import Options
job.CHUNK_SOURCES = 1
model = load(sys.argv[1], engine="onnx")
job.predict_files(model, [sys.argv[2]], sys.argv[3], Options(), resume=len(sys.argv) > 4)
"""
    whole, out = tmp_path / "whole.csv", tmp_path / "out.csv"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    many = tmp_path / "many"
    many.mkdir()
    for number in range(300):
        (many / f"{number:03d}.wav").symlink_to(clips / f"{number % 10}.wav")
    subprocess.run([sys.executable, "-c", program, folder, many, whole], check=True, env=environment)
    killed = subprocess.Popen([sys.executable, "-c", program, folder, many, out], env=environment)
    journal = Path(f"{out}.journal")
    while killed.poll() is None and (not journal.exists() or len(journal.read_bytes().splitlines()) < 40):
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not out.exists()
    done = len(journal.read_bytes().splitlines()) - 2
    assert 30 < done < 300
    subprocess.run([sys.executable, "-c", program, folder, many, out, "resume"], check=True, env=environment)
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.usefixtures("small_chunks")
def test_another_job_does_not_go_on(model: Model, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, real = tmp_path / "out.csv", Model.clips

    def clips_and_stop(self: Model, sources: list[Path], **options: object) -> object:
        if any(path.name == "5.wav" for path in sources):
            raise Interruption
        return real(self, sources, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Model, "clips", clips_and_stop)
    with pytest.raises(Interruption):
        predict_files(model, [clips], out)
    monkeypatch.setattr(Model, "clips", real)
    with pytest.raises(TableError, match=r"begun with longest 30\.0, not 7\.0"):
        predict_files(model, [clips], out, Options(longest=7.0), resume=True)
    with pytest.raises(TableError, match="are not the first of those that are named now"):
        predict_files(model, [clips / "9.wav", clips], out, resume=True)
    predict_files(model, [clips], out, resume=True)
    assert read_table(out).rows == model.predict(clips).rows
    predict_files(model, [clips / "1.wav"], out, resume=True)  # nothing is left to go on with, so it begins
    assert len(read_table(out)) == 1


def test_a_journal_ahead_of_its_table(tmp_path: Path) -> None:
    """As a power failure may leave them: the table ends earlier than the journal says."""
    heading = Heading(UNIT, "m")
    out = tmp_path / "out.csv"
    rows = [Row(f"{number}.wav", 0, 1, 0.5, 0.5, 0.5) for number in range(4)]
    with Journal(out, heading, {}, resume=False) as journal:
        for number, row in enumerate(rows, start=1):
            journal.add(row)
            journal.checkpoint(Position(number, "", number), [Failure(row.file, "x")] if number % 2 else [])
    partial = Path(f"{out}.partial")
    os.truncate(partial, partial.stat().st_size - 3)
    with Journal(out, heading, {}, resume=True) as journal:
        assert (journal.position.sources, journal.position.rows) == (3, 3)
        assert [failure.file for failure in journal.failures] == ["0.wav", "2.wav"]
        journal.add(rows[3])
        journal.complete()
    assert read_table(out).rows == rows
    assert json.loads((tmp_path / "out.csv.scale.json").read_text())["name"] == "0-1"


def test_a_table_is_written_by_one_job_at_a_time(tmp_path: Path) -> None:
    heading, out, row = Heading(UNIT, "m"), tmp_path / "out.csv", Row("a.wav", 0, 1, 0.5, 0.5, 0.5)
    for _ in range(2):  # the first job leaves nothing that keeps others away
        with Journal(out, heading, {}, resume=False) as journal:
            journal.add(row)
            for resume in (False, True):
                with pytest.raises(TableError, match=r"out\.csv: another job is writing this table"):
                    Journal(out, heading, {}, resume=resume)
            journal.checkpoint(Position(1, "", 1), [])
            journal.complete()
        assert read_table(out).rows == [row]
        assert {path.name for path in tmp_path.iterdir()} == {"out.csv", "out.csv.scale.json"}
    with Journal(out, heading, {"longest": 1}, resume=False):
        pass  # interrupted
    with pytest.raises(TableError, match="begun with longest 1"):
        Journal(out, heading, {"longest": 2}, resume=True)
    with Journal(out, heading, {"longest": 1}, resume=True) as journal:
        journal.discard()
    assert not Path(f"{out}.lock").exists()


def test_a_journal_that_nests_too_deeply(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    Path(f"{out}.partial").touch()
    Path(f"{out}.journal").write_text("[" * 100_000)
    with Journal(out, Heading(UNIT, "m"), {}, resume=True) as journal:
        assert journal.position == Position()


# --- Notes ------------------------------------------------------------------------------------------------------------


def test_many_channels_and_narrow_bands_are_noted(model: Model, voice: Voice) -> None:
    speech = voice(2.0, 3)
    assert model.predict(np.tile(speech, (8, 1)), 16_000)[0].note == "mixed from 8 channels"
    assert model.predict(np.tile(speech, (2, 1)), 16_000)[0].note == ""
    import soxr

    narrow = soxr.resample(soxr.resample(speech, 16_000, 8_000), 8_000, 16_000)
    assert model.predict(narrow, 16_000)[0].note == "narrowband"
    assert model.predict(soxr.resample(speech, 16_000, 8_000), 8_000)[0].note == "upsampled from 8000 Hz"
    assert model.predict(0.001 * narrow, 16_000)[0].note == "narrowband"
    assert model.predict(0.01 * speech, 16_000)[0].note == ""
