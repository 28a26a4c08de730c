"""Spoken EmoBank: the corpus's own splits and ratings, voices that no two splits share, the same bytes every time."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from sa2sr.audio import resample
from sa2sr.cli import app
from sa2sr.corpora import prepare
from sa2sr.corpora.espeak import speak
from sa2sr.corpora.report import Report
from sa2sr.corpora.voices import VOICES
from sa2sr.cuts import Cut, custom_fields, load_waveform
from sa2sr.errors import CorpusError, RecipeError

CutsOf = Callable[[Report], dict[str, dict[str, Cut]]]
Reasons = Callable[[Report], dict[str, list[str]]]
Contents = Callable[[Path], dict[str, str]]
HEADER = "id,split,V,A,D,text"
ROWS = [
    ["L1_0_9", "train", "3.0", "3.1", "3.2", 'Remember what she said in my last letter? "'],
    ["L1_9_20", "test", "2.8", "3.4", "2.6", "If I wasn't working here!"],
    ["L1_20_30", "train", "3.44", "3.0", "3.22", "Goodwill helps people get off of public assistance."],
    ["L2_0_9", "dev", "1.5", "4.2", "2.0", "- the promotion of youth, or not"],
    ["L2_9_20", "test", "4.6", "3.0", "3.0", "---- version"],
    ["L3_0_9", "train", "2.2", "1.8", "2.2", "All was quiet."],
]


def write(path: Path, rows: Sequence[Sequence[str]] = ROWS, header: str = HEADER) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(header + "\n")
        csv.writer(file).writerows(rows)
    return path


def sentences(cuts: dict[str, Cut]) -> set[str]:
    return {custom_fields(cut)["sentence"] for cut in cuts.values()}


def test_ratings_splits_and_voices(tmp_path: Path, cuts_of: CutsOf) -> None:
    report = prepare("emobank", write(tmp_path / "emobank.csv"), tmp_path / "out", test_voicings=2)
    assert report.problems == []
    assert (report.corpus, report.source, report.scales) == ("emobank", tmp_path / "emobank.csv", ("1-5",))
    assert report.options["test_voicings"] == 2
    cuts = cuts_of(report)
    assert {split: len(found) for split, found in cuts.items()} == {"dev": 1, "test": 4, "train": 3}
    of_row = {row[0]: row for row in ROWS}
    for split, group in (("train", "training"), ("dev", "development"), ("test", "test")):
        for name, cut in cuts[split].items():
            fields, spoken = custom_fields(cut), cut.supervisions[0]
            row = of_row[fields["sentence"]]
            assert name == f"{row[0]}-{spoken.speaker}"
            assert spoken.speaker in VOICES[group]  # type: ignore[index]
            assert (row[1], row[5]) == (split, spoken.text)
            # valence, activation (arousal) and dominance, in the order of the file
            assert [fields[name] for name in ("valence", "activation", "dominance")] == [float(v) for v in row[2:5]]
            assert fields["scale"] == {"name": "1-5", "low": 1.0, "high": 5.0}
            assert Path(cut.recording.sources[0].source).parent == tmp_path / "out" / "audio"
    assert {len({cut.supervisions[0].speaker for cut in cuts["test"].values()})} <= {2, 3, 4}
    assert sentences(cuts["test"]) == {"L1_9_20", "L2_9_20"}


def test_words_are_spoken_without_their_punctuation_unless_asked_for(tmp_path: Path, cuts_of: CutsOf) -> None:
    table = write(tmp_path / "emobank.csv", ROWS[1:2])
    (stripped,) = cuts_of(prepare("emobank", table, tmp_path / "a"))["test"].values()
    (rendered,) = cuts_of(prepare("emobank", table, tmp_path / "b", strip_punctuation=False))["test"].values()
    for cut, words in ((stripped, "If I wasn't working here"), (rendered, "If I wasn't working here!")):
        samples, rate = speak(words, custom_fields(cut)["voice"])
        np.testing.assert_allclose(load_waveform(cut, 16_000), resample(samples, rate, 16_000), atol=1 / 32768)
        assert cut.supervisions[0].text == "If I wasn't working here!"
    assert not np.array_equal(load_waveform(stripped, 16_000), load_waveform(rendered, 16_000))


def test_the_same_bytes_in_any_order_and_resumed(tmp_path: Path, contents: Contents) -> None:
    prepare("emobank", write(tmp_path / "emobank.csv"), tmp_path / "one")
    reversed_table = write(tmp_path / "other.csv", ROWS[::-1])
    prepare("emobank", reversed_table, tmp_path / "two", limit=3)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "two" / "audio").iterdir()}
    assert len(kept) == 3
    prepare("emobank", reversed_table, tmp_path / "two")  # goes on with the rest
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one.pop("report.json") != two.pop("report.json")  # they name their source
    assert one == two
    assert len(one) == 6 + 3


def test_another_seed_is_another_cast(tmp_path: Path, cuts_of: CutsOf) -> None:
    table = write(tmp_path / "emobank.csv")
    first, second = (cuts_of(prepare("emobank", table, tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    assert set(first["train"]) != set(second["train"])
    assert sentences(first["train"]) == sentences(second["train"])


def test_a_sentence_is_in_one_split_alone(tmp_path: Path, cuts_of: CutsOf, reasons: Reasons) -> None:
    shared = ["Sincerely,", "sincerely", "SINCERELY!", "Dear  Friend:", "dear friend", "Yes.", "Yes!"]
    splits = ["test", "dev", "train", "train", "dev", "train", "train"]
    rows = [[f"x{n}", split, "3", "3", "3", text] for n, (split, text) in enumerate(zip(splits, shared, strict=True))]
    report = prepare("emobank", write(tmp_path / "emobank.csv", rows), tmp_path / "out")
    assert {split: sentences(cuts) for split, cuts in cuts_of(report).items()} == {
        "test": {"x0"},
        "dev": {"x4"},
        "train": {"x5", "x6"},  # twice in one split is as the corpus has it
    }
    assert reasons(report) == {
        "sentence of test in dev": ["x1"],
        "sentence of test in train": ["x2"],
        "sentence of dev in train": ["x3"],
    }


def test_a_subset_of_short_sentences(tmp_path: Path, cuts_of: CutsOf, reasons: Reasons) -> None:
    table = write(tmp_path / "emobank.csv")
    report = prepare("emobank", table, tmp_path / "out", max_words=5, min_words=3, voices="m1,f4")
    assert {split: sentences(cuts) for split, cuts in cuts_of(report).items()} == {
        "test": {"L1_9_20"},
        "train": {"L3_0_9"},
    }
    assert reasons(report) == {"too many words": ["L1_0_9", "L1_20_30", "L2_0_9"], "too few words": ["L2_9_20"]}
    with pytest.raises(CorpusError, match="development voices 0 are wanted"):
        prepare("emobank", table, tmp_path / "none", voices="m1,f4")


def test_faults_are_reported_and_the_rest_goes_on(tmp_path: Path, cuts_of: CutsOf, reasons: Reasons) -> None:
    rows = [
        *ROWS,
        ["low", "train", "0.9", "3", "3", "too low a rating"],
        ["high", "test", "3", "5.01", "3", "too high a rating"],
        ["word", "train", "3", "high", "3", "a rating in words"],
        ["none", "train", "", "3.5", "", "ratings that are missing"],
        ["part", "holdout", "3", "3", "3", "a split that is unknown"],
        ["../../up", "train", "3", "3", "3", "a name that climbs"],
        ["L3_0_9", "test", "3", "3", "3", "an id that was there before"],
        ["", "train", "3", "3", "3", "no id"],
        ["dots", "train", "3", "3", "3", '.."'],
        ["short", "train", "3", "3"],
        ["wild", "train", "3", "3", "3", "a <b>[[wild]]</b> \x01tale &amp; \0 none"],
        ["long", "train", "3", "3", "3", "endless " * 1_000],
    ]
    report = prepare("emobank", write(tmp_path / "emobank.csv", rows), tmp_path / "out")
    found = reasons(report)
    (broken,) = found.pop("row does not fit the header")
    (nameless,) = found.pop("no id in the row")
    assert (broken, nameless) == (f"{tmp_path / 'emobank.csv'}, line 17", f"{tmp_path / 'emobank.csv'}, line 15")
    assert {reason: [item.rpartition("-")[0] or item for item in items] for reason, items in found.items()} == {
        "rating is outside the scale": ["high", "low"],
        "rating is not a number": ["word"],
        "unknown split": ["part"],
        "id occurs twice": ["L3_0_9"],
        "too few words": ["dots"],
        "text cannot be spoken": ["long"],
    }
    cuts = cuts_of(report)
    train = {custom_fields(cut)["sentence"]: cut for cut in cuts["train"].values()}
    assert set(train) == {"L1_0_9", "L1_20_30", "L3_0_9", "low", "word", "none", "../../up", "wild"}
    assert "scale" not in custom_fields(train["low"])
    assert {"activation": 3.5}.items() <= custom_fields(train["none"]).items()
    assert "valence" not in custom_fields(train["none"])
    assert train["wild"].supervisions[0].text == "a <b>[[wild]]</b> tale &amp; none"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["emobank.csv", "out"]
    assert len(list((tmp_path / "out" / "audio").iterdir())) == sum(map(len, cuts.values()))


def test_wrong_columns_are_refused_by_name(tmp_path: Path) -> None:
    for header, missing in (("id,split,V,A,D,sentence", "text"), ("id,fold,val,A,D,text", "split, V")):
        with pytest.raises(CorpusError, match=f"no column {missing}; it has id"):
            prepare("emobank", write(tmp_path / "emobank.csv", header=header), tmp_path / "out")
    (tmp_path / "emobank.csv").write_text("")
    with pytest.raises(CorpusError, match="without even a header"):
        prepare("emobank", tmp_path / "emobank.csv", tmp_path / "out")
    with pytest.raises(CorpusError, match="cannot be read"):
        prepare("emobank", tmp_path / "nowhere.csv", tmp_path / "out")
    for options in ({"limit": 0}, {"voicings": "many"}, {"max_words": -1}):
        with pytest.raises((CorpusError, RecipeError), match="options of emobank"):
            prepare("emobank", tmp_path / "emobank.csv", tmp_path / "out", **options)


def test_the_command_takes_the_folder_of_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "EmoBank" / "corpus").mkdir(parents=True)
    write(tmp_path / "EmoBank" / "corpus" / "emobank.csv")
    arguments = ["prepare", "emobank", str(tmp_path / "EmoBank"), str(tmp_path / "out"), "--jobs", "1"]
    result = CliRunner().invoke(app, [*arguments, "--limit", "4", "--no-strip-punctuation", "--voices=2"])
    assert result.exit_code == 0, result.output
    assert "Nothing was left out" in result.output
    assert len(list((tmp_path / "out" / "audio").iterdir())) == 4
    with pytest.raises(CorpusError, match=r"holds no emobank\.csv"):
        prepare("emobank", tmp_path / "out", tmp_path / "again")
