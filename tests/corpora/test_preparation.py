"""What all corpora have in common, on a corpus that is a list of utterances."""

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sa2sr.config import Scale
from sa2sr.corpora.corpus import Corpus, Entry, NoOptions, Utterance
from sa2sr.corpora.preparation import write_manifests
from sa2sr.corpora.report import Report
from sa2sr.errors import CorpusError

SCALE = Scale(name="1-5", low=1, high=5)


@pytest.fixture
def audio(tmp_path, write_speech) -> Path:
    """A folder with the sound files a.wav to f.wav."""
    for name in "abcdef":
        write_speech(tmp_path / "audio" / f"{name}.wav", 0.5)
    return tmp_path / "audio"


def prepare(entries: Iterable[Entry], out: Path, needs_text: bool = False, **arguments: Any) -> Report:
    def read(source: Path, options: NoOptions) -> Iterator[Entry]:
        yield from entries

    return write_manifests(
        Corpus("listed", "", read, needs_text=needs_text), Path("source"), out, NoOptions(), **arguments
    )


def rated(audio: Path, name: str, **ratings: str | float) -> Utterance:
    return Utterance(name, "train", audio / f"{name}.wav", ratings=ratings, scale=SCALE)


def test_wrong_ratings_are_dropped_and_the_cut_is_kept(audio, tmp_path, cuts_of, reasons) -> None:
    report = prepare(
        [
            rated(audio, "a", activation="1", valence="5.0", dominance=3),
            rated(audio, "b", activation="2", valence="nan"),
            rated(audio, "c", activation="2", valence="5.01"),
            rated(audio, "d", activation="often", valence="2"),
            rated(audio, "e", activation="", valence=" 2.5 "),
            rated(audio, "f", activation=math.inf, valence=0.99),
        ],
        tmp_path / "out",
    )
    found = {name: cut.supervisions[0].custom for name, cut in cuts_of(report)["train"].items()}
    scale = SCALE.model_dump()
    assert found == {
        "a": {"activation": 1.0, "valence": 5.0, "dominance": 3.0, "scale": scale, "corpus": "listed"},
        "b": None,
        "c": None,
        "d": None,
        "e": {"valence": 2.5, "scale": scale, "corpus": "listed"},
        "f": None,
    }
    assert reasons(report) == {"rating is not a number": ["b", "d", "f"], "rating is outside the scale": ["c"]}
    assert {problem.lost for problem in report.problems} == {"ratings"}
    assert report.splits["train"].with_ratings == 2
    assert report.scales == ("1-5",)


def test_speakers_in_two_splits_are_an_error_that_names_them(audio, tmp_path) -> None:
    entries = [
        Utterance("a", "train", audio / "a.wav", speaker="anna"),
        Utterance("b", "test", audio / "b.wav", speaker="anna"),
        Utterance("c", "train", audio / "c.wav", speaker="bert"),
        Utterance("d", "train", audio / "d.wav", speaker=None),
        Utterance("e", "test", audio / "e.wav", speaker=None),
    ]
    with pytest.raises(CorpusError, match=r"anna \(test, train\)") as caught:
        prepare(entries, tmp_path / "out")
    assert "bert" not in str(caught.value)
    assert "--allow-speaker-overlap" in str(caught.value)
    assert not list((tmp_path / "out").iterdir())
    report = prepare(entries, tmp_path / "out", allow_speaker_overlap=True)
    assert {name: split.utterances for name, split in report.splits.items()} == {"test": 2, "train": 3}
    prepare(entries[1:], tmp_path / "disjoint")


def test_the_same_audio_in_two_splits_is_an_error(audio, tmp_path, write_speech) -> None:
    (audio / "link.wav").symlink_to(audio / "a.wav")
    entries = [Utterance("a", "train", audio / "a.wav"), Utterance("b", "test", audio / "link.wav")]
    with pytest.raises(CorpusError, match=r"a\.wav at 0 s \(test, train\)"):
        prepare(entries, tmp_path / "out")
    # Two parts of a recording may be in two splits; the same name may not.
    prepare([entries[0], replace(entries[1], start=0.25)], tmp_path / "out")
    with pytest.raises(CorpusError, match="two splits"):
        prepare([entries[0], replace(entries[0], split="test")], tmp_path / "out")


def test_the_first_of_a_double_id_is_kept(audio, tmp_path, cuts_of, reasons) -> None:
    entries = [Utterance("x", "train", audio / f"{name}.wav", text=name) for name in "abc"]
    report = prepare(entries, tmp_path / "out")
    assert cuts_of(report)["train"]["x"].supervisions[0].text == "a"
    assert reasons(report) == {"id occurs twice": ["x", "x"]}


def test_empty_transcripts(audio, tmp_path, cuts_of) -> None:
    entries = [
        Utterance(name, "train", audio / f"{name}.wav", text=text)
        for name, text in zip("abc", (" spoken \n", " \t", None), strict=True)
    ]
    kept = prepare(entries, tmp_path / "kept")
    texts = {name: cut.supervisions[0].text for name, cut in cuts_of(kept)["train"].items()}
    assert texts == {"a": "spoken", "b": None, "c": None}
    assert [(problem.item, problem.lost) for problem in kept.problems] == [("b", "transcript")]
    assert kept.splits["train"].with_text == 1
    needed = prepare(entries, tmp_path / "needed", needs_text=True)
    assert list(cuts_of(needed)["train"]) == ["a"]
    assert [(problem.item, problem.lost) for problem in needed.problems] == [("b", "utterance"), ("c", "utterance")]


def test_split_names_cannot_leave_the_folder(audio, tmp_path, reasons) -> None:
    names = ["../evil", "/tmp/evil", ".hidden", "", "a b", "x" * 200, "ok"]
    entries = [Utterance(str(n), split, audio / "a.wav", start=0.01 * n) for n, split in enumerate(names)]
    report = prepare(entries, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["ok.jsonl.gz", "report.json"]
    assert len(reasons(report)["unusable name of a split"]) == 6
    assert not (tmp_path / "evil.jsonl.gz").exists()


def test_broken_audio_is_reported_by_kind(audio, tmp_path, reasons) -> None:
    (audio / "b.wav").write_bytes(b"")
    (audio / "c.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (audio / "d.wav").write_text("no audio")
    (audio / "e.wav").write_bytes((audio / "e.wav").read_bytes()[:6_000])
    (audio / "f.wav").unlink()
    report = prepare([Utterance(name, "train", audio / f"{name}.wav") for name in "abcdef"], tmp_path / "out")
    assert reasons(report) == {
        "audio is empty": ["b"],
        "audio is a Git LFS pointer": ["c"],
        "audio is not audio that libsndfile can read": ["d"],
        "audio is truncated": ["e"],
        "audio does not exist": ["f"],
    }
    assert report.splits["train"].utterances == 1


def test_nothing_usable_is_an_error_with_the_reasons(audio, tmp_path) -> None:
    with pytest.raises(CorpusError, match="1 x audio does not exist"):
        prepare([Utterance("x", "train", audio / "none.wav")], tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["problems"][0]["item"] == "x"
    with pytest.raises(CorpusError, match="nothing was found"):
        prepare([], tmp_path / "out")


def test_durations_are_of_what_is_decoded(tmp_path, write_speech, cuts_of) -> None:
    path = write_speech(tmp_path / "a.mp3", 1.0)
    path.write_bytes(path.read_bytes()[:-40])  # the last of the frames that the header counts
    entries = [Utterance("a", "train", path)]
    trusted = prepare(entries, tmp_path / "trusted", decode=False)
    decoded = prepare(entries, tmp_path / "decoded")
    header, exact = (cuts_of(report)["train"]["a"].recording.num_samples for report in (trusted, decoded))
    assert header == 16_000
    assert 15_000 < exact < header
    assert not trusted.verified
    assert decoded.verified


def test_manifests_of_splits_that_are_no_more_are_removed(audio, tmp_path) -> None:
    """Or the utterances that are now in another one would be in two."""
    out = tmp_path / "out"
    prepare([Utterance(n, f"fold{i}", audio / f"{n}.wav") for i, n in enumerate("abc")], out)
    (out / "own.jsonl.gz").write_bytes(b"somebody else's")
    with pytest.raises(CorpusError, match="holds no utterance"):
        prepare([Utterance("x", "train", audio / "none.wav")], out)
    assert {path.name for path in out.glob("fold*")} == {"fold0.jsonl.gz", "fold1.jsonl.gz", "fold2.jsonl.gz"}
    prepare([Utterance(n, "fold1" if n == "b" else "train", audio / f"{n}.wav") for n in "abc"], out)
    kept = {"fold1.jsonl.gz", "own.jsonl.gz", "report.json", "train.jsonl.gz"}
    assert {path.name for path in out.iterdir()} == kept


def test_a_report_removes_nothing_elsewhere(audio, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "precious.jsonl.gz").write_bytes(b"")
    for splits in ('{"../precious": {}}', '["../precious", 3]', "3"):
        (out / "report.json").write_text(f'{{"splits": {splits}}}')
        prepare([Utterance("a", "train", audio / "a.wav")], out)
    assert (tmp_path / "precious.jsonl.gz").exists()


def test_a_path_that_no_file_can_have_is_a_problem(audio, tmp_path, reasons, cuts_of) -> None:
    entries = [Utterance("a", "train", audio / "a.wav"), Utterance("b", "train", Path(f"{audio}/b\0.wav"))]
    report = prepare(entries, tmp_path / "out")
    assert reasons(report) == {"unusable path of audio": ["b"]}
    assert list(cuts_of(report)["train"]) == ["a"]


def test_order_of_the_corpus_does_not_change_the_bytes(audio, tmp_path) -> None:
    entries = [Utterance(name, "train", audio / f"{name}.wav", text=name) for name in "abcdef"]
    prepare(entries, tmp_path / "one")
    prepare(entries[::-1], tmp_path / "two", jobs=1)
    for name in ("train.jsonl.gz", "report.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_report_counts(audio, tmp_path, capsys) -> None:
    entries = [
        Utterance("a", "train", audio / "a.wav", text="one", speaker="s", emotion="happy"),
        Utterance("b", "train", audio / "b.wav", speaker="s", start=0.25),
        Utterance("[red]", "train", audio / "none.wav"),
    ]
    report = prepare(entries, tmp_path / "out")
    counts = report.splits["train"]
    assert (counts.utterances, counts.speakers, counts.with_text, counts.with_emotion) == (2, 1, 1, 1)
    assert counts.hours == pytest.approx(0.75 / 3600)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["splits"]["train"]["utterances"] == 2
    report.print()
    printed = capsys.readouterr().out
    for word in ("train", "utterances", "audio does not exist", "[red]", "none.wav"):
        assert word in printed


def test_an_output_that_is_a_file_is_refused(audio, tmp_path) -> None:
    with pytest.raises(CorpusError, match="cannot be made a folder"):
        prepare([Utterance("a", "train", audio / "a.wav")], audio / "a.wav")
