"""Any text is spoken once, by voices that the test never hears, and nothing that is excluded is among it."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sa2sr.cli import app
from sa2sr.corpora import prepare
from sa2sr.corpora.report import Report
from sa2sr.corpora.voices import VOICES
from sa2sr.cuts import Cut, custom_fields
from sa2sr.errors import CorpusError

CutsOf = Callable[[Report], dict[str, dict[str, Cut]]]
Reasons = Callable[[Report], dict[str, list[str]]]
Contents = Callable[[Path], dict[str, str]]
MELD = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"


def texts(report: Report, cuts_of: CutsOf) -> set[str]:
    return {cut.supervisions[0].text or "" for cuts in cuts_of(report).values() for cut in cuts.values()}


def numbered(path: Path, count: int) -> Path:
    words = ["nought", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    path.write_text("".join(f"this is {' '.join(words[int(d)] for d in str(n))}\n" for n in range(10, 10 + count)))
    return path


def test_lines_become_speech_of_the_training_and_development_voices(tmp_path: Path, cuts_of: CutsOf) -> None:
    report = prepare("text", numbered(tmp_path / "lines.txt", 12), tmp_path / "out", dev_share=0.25)
    assert report.problems == []
    cuts = cuts_of(report)
    assert set(cuts) == {"dev", "train"}
    assert sum(map(len, cuts.values())) == 12
    assert len(cuts["train"]) > len(cuts["dev"])
    for split, group in (("train", "training"), ("dev", "development")):
        for name, cut in cuts[split].items():
            spoken = cut.supervisions[0]
            assert spoken.speaker in VOICES[group]  # type: ignore[index]
            assert name.startswith("lines.txt-")
            assert Path(cut.recording.sources[0].source).parent == tmp_path / "out" / "audio"
            assert "scale" not in custom_fields(cut)
    assert texts(report, cuts_of) == set((tmp_path / "lines.txt").read_text().splitlines())
    undivided = prepare("text", tmp_path / "lines.txt", tmp_path / "all", dev_share=0, limit=2, voices="m1")
    assert {split: len(found) for split, found in cuts_of(undivided).items()} == {"train": 2}


def test_a_file_that_grows_keeps_what_was_spoken(tmp_path: Path, contents: Contents) -> None:
    prepare("text", numbered(tmp_path / "lines.txt", 4), tmp_path / "out", dev_share=0)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "audio").iterdir()}
    grown = numbered(tmp_path / "lines.txt", 6).read_text()
    (tmp_path / "lines.txt").write_text("A new first line.\n" + grown)
    prepare("text", tmp_path / "lines.txt", tmp_path / "out", dev_share=0)
    assert len(before) == 4
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert len(list((tmp_path / "out" / "audio").iterdir())) == 7
    (tmp_path / "lines.txt").write_text("\n".join(reversed(["A new first line.", *grown.splitlines()])))
    prepare("text", tmp_path / "lines.txt", tmp_path / "again", dev_share=0)
    assert contents(tmp_path / "out") == {
        **contents(tmp_path / "again"),
        "report.json": contents(tmp_path / "out")["report.json"],
    }


def test_the_treebank(tmp_path: Path, cuts_of: CutsOf, reasons: Reasons) -> None:
    lines = [
        "1 they presume their audience wo n't sit still , however entertainingly presented .",
        "4 -lrb- it 's -rrb- a stirring re-imagining of comedy\\/drama",
        "2 1968 was a year",
        "no label here",
    ]
    (tmp_path / "stsa.fine.train").write_text("\n".join(lines) + "\n")
    report = prepare("text", tmp_path / "stsa.fine.train", tmp_path / "out", drop_label=True, voices="2")
    assert texts(report, cuts_of) == {
        "they presume their audience won't sit still , however entertainingly presented .",
        "( it's ) a stirring re-imagining of comedy/drama",
        "1968 was a year",
    }
    assert reasons(report) == {"line without a label": [f"{tmp_path / 'stsa.fine.train'}, line 4"]}


@pytest.mark.parametrize(("apostrophe", "encoding"), [("\x92", "utf-8"), ("\u2019", "utf-8"), ("\u2019", "cp1252")])
def test_meld_with_any_apostrophe(tmp_path: Path, cuts_of: CutsOf, apostrophe: str, encoding: str) -> None:
    rows = f'1,"You must{apostrophe}ve had, well.",Ross,neutral,neutral,0,0,8,21,"00:16:16,059","00:16:21,731"\n'
    (tmp_path / "train_sent_emo.csv").write_bytes((MELD + rows).encode(encoding))
    report = prepare("text", tmp_path / "train_sent_emo.csv", tmp_path / "out", encoding=encoding)
    assert texts(report, cuts_of) == {"You must\u2019ve had, well."}
    again = prepare("text", tmp_path / "train_sent_emo.csv", tmp_path / "out", column="speaker", encoding=encoding)
    assert texts(again, cuts_of) == {"Ross"}


def test_lines_in_another_encoding_are_reported(tmp_path: Path, cuts_of: CutsOf, reasons: Reasons) -> None:
    (tmp_path / "a.txt").write_bytes("good day\ncaf\u00e9\n".encode("latin-1"))
    report = prepare("text", tmp_path / "a.txt", tmp_path / "out")
    assert texts(report, cuts_of) == {"good day"}
    assert reasons(report) == {"line in another encoding": [f"{tmp_path / 'a.txt'}, line 2"]}
    with pytest.raises(CorpusError, match="encoding 'klingon'"):
        prepare("text", tmp_path / "a.txt", tmp_path / "out", encoding="klingon")


def test_each_sentence_once(tmp_path: Path, cuts_of: CutsOf, reasons: Reasons) -> None:
    (tmp_path / "a.txt").write_text("Oh, no!\noh no\n\nOh yes\n  \nOH -- NO.\n...\n")
    report = prepare("text", tmp_path / "a.txt", tmp_path / "out")
    assert texts(report, cuts_of) == {"Oh, no!", "Oh yes"}
    assert {reason: len(items) for reason, items in reasons(report).items()} == {
        "sentence occurs twice": 2,
        "too few words": 1,
    }


def test_nothing_excluded_is_spoken(tmp_path: Path, cuts_of: CutsOf, reasons: Reasons) -> None:
    spoken = ["A fine day.", "It won't do!", "He left us, then", "A gob of drivel", "What remains", "Yes: it is"]
    (tmp_path / "a.txt").write_text("\n".join(spoken))
    (tmp_path / "lines").write_text("0 a gob of drivel .\n3 unheard of .\n")
    (tmp_path / "table.tsv").write_text("id\tsaid\n1\tit wo n't do\n")
    (tmp_path / "usual.jsonl").write_text(json.dumps({"Text": "HE LEFT US THEN?"}) + "\n")
    (tmp_path / "b.txt").write_text("a fine day\n")
    manifest = prepare("text", tmp_path / "b.txt", tmp_path / "b").manifests["train"]
    files = [str(manifest), f"{tmp_path / 'table.tsv'}:said", str(tmp_path / "usual.jsonl"), str(tmp_path / "lines")]
    report = prepare("text", tmp_path / "a.txt", tmp_path / "out", exclude=files)
    assert texts(report, cuts_of) == {"What remains", "Yes: it is"}
    assert len(reasons(report)["sentence is excluded"]) == 4
    arguments = [
        "prepare",
        "text",
        str(tmp_path / "a.txt"),
        str(tmp_path / "cli"),
        "--jobs",
        "1",
        "--exclude",
        files[0],
    ]
    result = CliRunner().invoke(app, [*arguments, f"--exclude={files[3]}", "--limit", "2"])
    assert result.exit_code == 0, result.output
    listed = json.loads((tmp_path / "cli" / "report.json").read_text())
    assert listed["options"]["exclude"] == [files[0], files[3]]
    assert listed["left_out"] == [{"lost": "utterance", "reason": "sentence is excluded", "count": 2}]


def test_an_exclusion_that_cannot_be_read_whole_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("good day\n")
    (tmp_path / "latin.txt").write_bytes("caf\u00e9\ngood day\n".encode("latin-1"))
    (tmp_path / "broken.csv").write_text("text\na,b\n")
    (tmp_path / "other.csv").write_text("id,said\n1,good day\n")
    with gzip.open(tmp_path / "bad.jsonl.gz", "wt") as file:
        file.write('{"text": "good day"}\n')
    for name, message in (
        ("nowhere.txt", "cannot be read"),
        ("latin.txt", "line in another encoding"),
        ("broken.csv", "row does not fit the header"),
        ("other.csv", "has no column text"),
        ("other.csv:heard", "has no column heard"),
        ("bad.jsonl.gz", "is not a cut"),
    ):
        with pytest.raises(CorpusError, match=message):
            prepare("text", tmp_path / "a.txt", tmp_path / "out", exclude=[str(tmp_path / name)])
    assert not (tmp_path / "out" / "train.jsonl.gz").exists()


def test_hostile_text_is_text(tmp_path: Path, cuts_of: CutsOf, reasons: Reasons) -> None:
    lines = [
        "-v en-us+f2 --stdout",
        "--help",
        "<speak><break time='900s'/>hello</speak>",
        "[[h@l'oU]] or not",
        "../../etc/passwd $(touch evil) `touch evil`; rm",
        "half a pair \ud800 of surrogates",
        "nul \0 and \x01 5s commands",
        "a" * 6_000,
        "\u202e\u200b\xad",
        "\u4f60\u597d there",
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    report = prepare("text", tmp_path / "t.jsonl", tmp_path / "out", strip_punctuation=False)
    spoken = texts(report, cuts_of)
    assert {"-v en-us+f2 --stdout", "--help", "nul and 5s commands", "half a pair \ud800 of surrogates"} <= spoken
    assert len(spoken) == 8
    found = reasons(report)
    assert (len(found["text cannot be spoken"]), len(found["too few words"])) == (1, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "t.jsonl"]
    by_text = {cut.supervisions[0].text: cut for cuts in cuts_of(report).values() for cut in cuts.values()}
    assert by_text["<speak><break time='900s'/>hello</speak>"].duration < 30
    assert by_text["--help"].duration > 0.2


def test_empty_and_missing_sources(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(CorpusError, match="nothing was found"):
        prepare("text", tmp_path / "empty.txt", tmp_path / "out")
    for source in (tmp_path / "nowhere.txt", tmp_path):
        with pytest.raises(CorpusError, match="cannot be read"):
            prepare("text", source, tmp_path / "out")
    (tmp_path / "t.csv").write_text("id,said\n1,hello\n")
    with pytest.raises(CorpusError, match="has no column text or transcript"):
        prepare("text", tmp_path / "t.csv", tmp_path / "out")
