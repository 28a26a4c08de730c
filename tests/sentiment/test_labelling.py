import gzip
import hashlib
import io
import json
import multiprocessing
import signal
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sa2sr.audio import AudioInfo
from sa2sr.cli import app
from sa2sr.config import SENTIMENTS
from sa2sr.cuts import Cut, make_cut, read_cuts, write_cuts
from sa2sr.errors import CorpusError, ModelError, UserError
from sa2sr.sentiment import label_cuts, teacher_from_name
from sa2sr.sentiment.journal import LabelJournal

INFO = AudioInfo(sampling_rate=16_000, samples=16_000, channels=1)


class HashTeacher:
    """Draws probabilities from a hash of the text; as with a real model, the company of a text shows in the digits."""

    def __init__(self, name: str = "hash-1") -> None:
        self.name = name
        self.seen: list[str] = []

    def probabilities(self, texts: Sequence[str]) -> np.ndarray:
        self.seen.extend(texts)
        company = sum(map(len, texts)) % 97 * 1e-5
        draws = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) for text in texts]
        rows = np.random.default_rng(7).dirichlet([1, 1, 1], size=1000)[[draw % 1000 for draw in draws]] + company
        return (rows / rows.sum(axis=1, keepdims=True)).astype(np.float32)


def cut(number: int, text: str | None, **custom: object) -> Cut:
    return make_cut(f"u{number}", "a.wav", INFO, text=text, speaker="s", custom=custom)


def manifest(path: Path, texts: Sequence[str | None]) -> Path:
    write_cuts(path, (cut(number, text) for number, text in enumerate(texts)))
    return path


def custom(path: Path) -> list[dict]:
    return [cut.supervisions[0].custom or {} for cut in read_cuts(path)]


def test_probabilities_go_into_the_supervisions(tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl.gz"
    write_cuts(source, [cut(0, "good", scale={"name": "1-7"}, valence=5.0), cut(1, "bad"), cut(2, "a table")])
    (report,) = label_cuts([source], tmp_path / "out.jsonl", teacher_from_name("vader"))
    first, second, third = custom(tmp_path / "out.jsonl")
    assert first["valence"] == 5.0
    assert first["sentiment_teacher"].startswith("vader-")
    expected = teacher_from_name("vader").probabilities(["good", "bad", "a table"])
    np.testing.assert_allclose([c["sentiment"] for c in (first, second, third)], expected, atol=5.1e-7)
    assert all(p == round(p, 6) for p in first["sentiment"])
    assert report.counts == {"negative": 1, "neutral": 1, "positive": 1}
    originals, results = list(read_cuts(source)), list(read_cuts(tmp_path / "out.jsonl"))
    for before, after in zip(originals, results, strict=True):
        for key in ("sentiment", "sentiment_teacher"):
            after.supervisions[0].custom.pop(key)
        assert (before.supervisions[0].custom or {}) == after.supervisions[0].custom
        before.supervisions[0].custom = after.supervisions[0].custom
        assert before == after


def test_utterances_without_text_are_kept_and_counted(tmp_path: Path) -> None:
    source = manifest(tmp_path / "in.jsonl", ["fine", None, "", "  \n", "awful"])
    silent = cut(9, "x")
    silent.supervisions = []
    write_cuts(source, [*read_cuts(source), silent])
    (report,) = label_cuts([source], tmp_path / "out.jsonl", HashTeacher())
    results = list(read_cuts(tmp_path / "out.jsonl"))
    assert [c.id for c in results] == ["u0", "u1", "u2", "u3", "u4", "u9"]
    assert ["sentiment" in ((c.supervisions[0].custom or {}) if c.supervisions else {}) for c in results] == [
        True, False, False, False, True, False,
    ]  # fmt: skip
    assert report.unlabelled == 4
    assert sum(report.counts.values()) == 2


def test_every_supervision_of_a_cut_is_labelled(tmp_path: Path) -> None:
    both = cut(0, "good")
    both.supervisions = [both.supervisions[0], cut(1, "bad").supervisions[0]]
    write_cuts(tmp_path / "in.jsonl", [both])
    (report,) = label_cuts([tmp_path / "in.jsonl"], tmp_path / "out.jsonl", teacher_from_name("vader"))
    assert report.counts == {"negative": 1, "neutral": 0, "positive": 1}


def test_identical_texts_are_computed_once(tmp_path: Path) -> None:
    words = [f"text {number}" for number in range(40)]
    first = manifest(tmp_path / "a.jsonl", words * 40)  # repeated within and across windows
    second = manifest(tmp_path / "b.jsonl", [*words, "new"])
    teacher = HashTeacher()
    label_cuts([first, second], tmp_path / "out", teacher)
    assert sorted(teacher.seen) == sorted([*words, "new"])
    values = {tuple(c["sentiment"]) for c in custom(tmp_path / "out" / "a.jsonl")}
    assert len(values) == len({tuple(row) for row in HashTeacher().probabilities(words).round(6)})


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two manifests, what becomes of them (``once``), and the journal as it was just before the end."""
    folder = tmp_path_factory.mktemp("torn")
    sources = [
        manifest(folder / "a.jsonl", [f"text {number % 70}" for number in range(130)]),
        manifest(folder / "b.jsonl", [f"text {number}" for number in range(65, 120)]),
    ]
    (folder / "c.jsonl").write_text("not a cut\n")
    with mock.patch("sa2sr.sentiment.labelling._WINDOW", 16):
        label_cuts(sources, folder / "once", HashTeacher())
        with pytest.raises(CorpusError):
            label_cuts([*sources, folder / "c.jsonl"], folder / "kept", HashTeacher())
    (folder / "kept" / "a.jsonl.journal").rename(folder / "journal")
    return folder


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_goes_on_from_any_torn_journal(interrupted: Path, data: st.DataObject) -> None:
    """A journal cut off at any byte gives the same bytes, and nothing that it holds is computed again."""
    content = (interrupted / "journal").read_bytes()
    torn = content[: data.draw(st.integers(0, len(content)), label="bytes left")]
    done = sum(len(json.loads(line)["texts"]) for line in torn.split(b"\n") if line.endswith(b"}"))
    teacher = HashTeacher()
    with tempfile.TemporaryDirectory() as name, mock.patch("sa2sr.sentiment.labelling._WINDOW", 16):
        out = Path(name)
        (out / "a.jsonl.journal").write_bytes(torn)
        label_cuts([interrupted / "a.jsonl", interrupted / "b.jsonl"], out, teacher)
        assert sorted(path.name for path in out.iterdir()) == ["a.jsonl", "b.jsonl"]
        for path in out.iterdir():
            assert path.read_bytes() == (interrupted / "once" / path.name).read_bytes()
    assert len(set(teacher.seen)) == len(teacher.seen) == 120 - done


def test_another_teachers_journal_is_not_used(tmp_path: Path) -> None:
    source = manifest(tmp_path / "in.jsonl", ["one", "two"])
    journal = LabelJournal(tmp_path / "out.jsonl.journal", "hash-0")
    journal.append([journal.key(text) for text in ("one", "two")], np.tile([1.0, 0.0, 0.0], (2, 1)))
    journal.close(remove=False)
    teacher = HashTeacher("hash-1")
    label_cuts([source], tmp_path / "out.jsonl", teacher)
    assert teacher.seen == ["one", "two"]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{}",
        "7",
        '{"texts": ["KEY"], "probabilities": [[0.5, 0.5]]}',
        '{"texts": ["KEY"], "probabilities": [[NaN, 0.5, 0.5]]}',
        '{"texts": ["KEY"], "probabilities": [[9, 0.5, 0.5]]}',
        '{"texts": [["KEY"]], "probabilities": [[0.1, 0.5, 0.4]]}',
        '{"texts": {"KEY": 1}, "probabilities": [[0.1, 0.5, 0.4]]}',
        '{"texts": ["KEY", "x"], "probabilities": [[0.1, 0.5, 0.4]]}',
        '{"texts": ["KEY"], "probabilities": [[1' + "0" * 400 + ", 0, 0]]}",
        "[" * 100_000,
        "\ufffd\0",
    ],
)
def test_journal_lines_that_are_not_ours_are_passed_over(tmp_path: Path, line: str) -> None:
    source = manifest(tmp_path / "in.jsonl", ["one"])
    path = tmp_path / "out.jsonl.journal"
    journal = LabelJournal(path, "hash-1")
    key = journal.key("one")
    journal.close(remove=True)
    path.write_text(line.replace("KEY", key) + "\n")
    teacher = HashTeacher()
    label_cuts([source], tmp_path / "out.jsonl", teacher)
    assert teacher.seen == ["one"]


def label_slowly(source: Path, out: Path, log: Path) -> None:
    """Label in windows of 16 cuts, each text noted in ``log`` before it is computed."""

    class Slow(HashTeacher):
        def probabilities(self, texts: Sequence[str]) -> np.ndarray:
            with log.open("a") as file:
                file.writelines(f"{text}\n" for text in texts)
            time.sleep(0.02)
            return super().probabilities(texts)

    with mock.patch("sa2sr.sentiment.labelling._WINDOW", 16):
        label_cuts([source], out, Slow())


def test_killed_and_started_again(tmp_path: Path) -> None:
    """A process is killed with SIGKILL again and again, wherever it is, then left to finish."""
    source = manifest(tmp_path / "in.jsonl.gz", [f"text {number % 450}" for number in range(500)])
    out, once, log = tmp_path / "out.jsonl.gz", tmp_path / "once.jsonl.gz", tmp_path / "log"
    journal = tmp_path / "out.jsonl.gz.journal"
    label_slowly(source, once, log)
    computed: list[str] = []
    for lines in (1, 4, 6, 11, None):  # further lines of the journal after which it is killed
        log.write_text("")
        before = journalled_texts(journal)
        process = multiprocessing.get_context("fork").Process(target=label_slowly, args=(source, out, log))
        process.start()
        if lines is not None:
            deadline = time.monotonic() + 30
            while count_lines(journal) < len(before) // 16 + lines and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(lines * 0.003)
            process.kill()
        process.join(30)
        assert process.exitcode == (0 if lines is None else -signal.SIGKILL)
        assert out.exists() == (lines is None)
        seen = log.read_text().splitlines()
        assert not before & {text_key(text) for text in seen}  # nothing is computed again
        assert journalled_texts(journal) > before or lines is None
        computed += seen
    assert out.read_bytes() == once.read_bytes()
    assert not journal.exists()
    assert set(computed) == {f"text {number}" for number in range(450)}
    assert len(computed) <= 450 + 4 * 16  # a kill loses a window at most


def text_key(text: str) -> str:
    return hashlib.sha256(f"{HashTeacher().name}\0{text}".encode()).hexdigest()[:32]


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def journalled_texts(path: Path) -> set[str]:
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return {key for line in lines if line for key in json.loads(line)["texts"]}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.full((2, 2), 0.5), "shape"),
        (np.full((2, 3), np.nan), "no probability"),
        (np.array([[0.2, 0.3, 0.5], [1.5, -0.5, 0]]), "for 'two', which is no probability"),
        (np.full((2, 3), 0.2), "no probability"),
    ],
)
def test_answers_that_are_no_probabilities(tmp_path: Path, answer: np.ndarray, message: str) -> None:
    class Odd(HashTeacher):
        def probabilities(self, texts: Sequence[str]) -> np.ndarray:
            return answer

    source = manifest(tmp_path / "in.jsonl", ["one", "two"])
    with pytest.raises(ModelError, match=message):
        label_cuts([source], tmp_path / "out.jsonl", Odd())
    assert not (tmp_path / "out.jsonl").exists()


def test_outputs_that_would_destroy_something(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    a, b = manifest(tmp_path / "a.jsonl", ["a"]), manifest(tmp_path / "x" / "a.jsonl", ["b"])
    (tmp_path / "file").write_text("kept")
    for inputs, out, message in [
        ([a, b], tmp_path / "out", "would overwrite"),
        ([a, b], tmp_path / "out.jsonl", "name a directory"),
        ([a], a, "--in-place"),
        ([a], tmp_path, "--in-place"),
        ([a], tmp_path / "file", "must be a directory"),
        ([a, a], None, "would overwrite"),
        ([tmp_path / "none.jsonl"], tmp_path / "out", "no such file"),
        ([tmp_path / "file"], tmp_path / "out", r"ends in \.jsonl"),
        ([], tmp_path / "out", "no manifests"),
    ]:
        with pytest.raises(UserError, match=message):
            label_cuts(inputs, out, HashTeacher())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.jsonl", "a.jsonl", "file", "x"]


def test_strange_transcripts(tmp_path: Path) -> None:
    source = manifest(tmp_path / "in.jsonl", ["good 😀", "عربى", "\u2028", "a\0b", "x" * 20_000])
    lines = source.read_text().split("\n")[:-1]
    lines.append(lines[0].replace("good 😀", "\\ud83d lone").replace("u0", "u5"))
    lines.append(lines[0].replace('"good 😀"', "5").replace("u0", "u6"))
    source.write_text("\n".join(lines))
    (report,) = label_cuts([source], tmp_path / "out.jsonl", teacher_from_name("vader"))
    assert sum(report.counts.values()) + report.unlabelled == 7
    results = list(read_cuts(tmp_path / "out.jsonl"))
    assert results[5].supervisions[0].text == "\ud83d lone"
    assert "sentiment" not in (results[6].supervisions[0].custom or {})


def test_a_line_without_an_end_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor where a progress bar counts the lines beforehand."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    with gzip.open(tmp_path / "cuts.jsonl.gz", "wb", 1) as file:
        for _ in range(150):
            file.write(b"a" * 1_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(CorpusError, match="line 1: is too long"):
            label_cuts([tmp_path / "cuts.jsonl.gz"], tmp_path / "out.jsonl.gz", HashTeacher())
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()


def test_command(tmp_path: Path) -> None:
    source = manifest(tmp_path / "in.jsonl.gz", ["good", "GREAT", None, "bad"])
    original = source.read_bytes()
    result = CliRunner().invoke(app, ["label", str(source), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0
    assert "1 negative, 0 neutral, 2 positive; 1 without a transcript" in result.stdout
    assert source.read_bytes() == original
    result = CliRunner().invoke(app, ["label", str(source), "--in-place", "--teacher", "vader"])
    assert result.exit_code == 0
    assert source.read_bytes() == (tmp_path / "out" / "in.jsonl.gz").read_bytes()
    labels = [c.get("sentiment") for c in custom(source)]
    assert [SENTIMENTS[int(np.argmax(p))] if p else None for p in labels] == ["positive", "positive", None, "negative"]
    assert isinstance(CliRunner().invoke(app, ["label", str(source)]).exception, UserError)
