import csv
import json
import random
from pathlib import Path

import pytest

from sa2sr.corpora import prepare
from sa2sr.corpora.tables import find_column, read_table
from sa2sr.errors import CorpusError


@pytest.fixture
def audio(tmp_path, write_speech) -> Path:
    for name in ("a.wav", "b.wav", "c.wav", "sub/d.flac"):
        write_speech(tmp_path / name, 1.0)
    return tmp_path


def custom(cut) -> dict:
    return {name: value for name, value in (cut.supervisions[0].custom or {}).items() if name != "scale"}


def test_the_columns_of_a_rating_table(audio, cuts_of) -> None:
    (audio / "labels.csv").write_text(
        "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set,Transcript\n"
        'a.wav,N,2.2,4.0,2.6,30,Male,Train,"Well, ""hello"" there"\n'
        "sub/d.flac,H,5,6,7,Unknown,,Development,\n"
    )
    report = prepare("table", audio / "labels.csv", audio / "out")
    cuts = cuts_of(report)
    assert {split: list(found) for split, found in cuts.items()} == {"dev": ["sub/d.flac"], "train": ["a.wav"]}
    cut = cuts["train"]["a.wav"]
    assert custom(cut) == {"activation": 2.2, "valence": 4.0, "dominance": 2.6, "emotion": "N"}
    spoken = cut.supervisions[0]
    assert (spoken.text, spoken.speaker, spoken.gender) == ('Well, "hello" there', "30", "male")
    assert spoken.custom["scale"] == {"name": "1-7", "low": 1.0, "high": 7.0}
    assert cuts["dev"]["sub/d.flac"].supervisions[0].speaker is None


def test_sentiments_of_people(audio, cuts_of, reasons) -> None:
    """As MELD has them."""
    (audio / "meld.csv").write_text(
        "file,Utterance,Emotion,Sentiment\na.wav,Oh.,sadness,negative\nb.wav,Yes!,joy,POS\nc.wav,Hm.,neutral,mixed\n"
        "sub/d.flac,No.,,\n"
    )
    report = prepare("table", audio / "meld.csv", audio / "out")
    found = {name: custom(cut).get("sentiment") for name, cut in cuts_of(report)["all"].items()}
    assert found == {"a.wav": [1, 0, 0], "b.wav": [0, 0, 1], "c.wav": None, "sub/d.flac": None}
    assert reasons(report)["unknown sentiment"] == ["c.wav"]
    named = prepare("table", audio / "meld.csv", audio / "named", sentiment="Sentiment")
    assert custom(cuts_of(named)["all"]["a.wav"])["sentiment"] == [1, 0, 0]
    with pytest.raises(CorpusError, match="--sentiment names another"):
        prepare("table", audio / "meld.csv", audio / "x", sentiment="mood")


@pytest.mark.parametrize("name", ["", "NaN", "NA", "null", "unknown"])
def test_what_is_not_known_costs_nothing_else(audio, cuts_of, name: str) -> None:
    (audio / "labels.csv").write_text(f"path,speaker,activation,valence,split\na.wav,{name},{name},3,val\n")
    report = prepare("table", audio / "labels.csv", audio / "out")
    cut = cuts_of(report)["dev"]["a.wav"]
    assert custom(cut) == {"valence": 3.0}
    assert cut.supervisions[0].speaker is None
    assert not report.problems


def test_durations_of_segments(audio, cuts_of, reasons) -> None:
    """As NeMo's manifests have them; by itself a duration is that of the whole file, which need not be exact."""
    rows = [
        {"audio_filepath": "a.wav", "offset": 0.5, "duration": 0.25, "text": "one"},
        {"audio_filepath": "b.wav", "duration": 1.0004, "text": "two"},
        {"audio_filepath": "c.wav", "offset": 0.2, "duration": "long"},
    ]
    (audio / "nemo.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = prepare("table", audio / "nemo.jsonl", audio / "out")
    found = {name: (cut.start, cut.duration) for name, cut in cuts_of(report)["all"].items()}
    assert found == {"a.wav:0.5-0.75": (0.5, 0.25), "b.wav": (0.0, 1.0)}
    assert list(reasons(report)) == ["start or end is not a time"]
    (audio / "first.csv").write_text("path,length\na.wav,0.5\n")
    report = prepare("table", audio / "first.csv", audio / "out", duration="length")
    assert cuts_of(report)["all"]["a.wav:0-0.5"].duration == 0.5


def test_a_path_column_is_enough(audio, cuts_of) -> None:
    (audio / "list.txt").write_text("path\na.wav\nsub/d.wav\n")
    report = prepare("table", audio / "list.txt", audio / "out")
    assert list(cuts_of(report)["all"]) == ["a.wav", "sub/d.wav"]
    assert not report.problems


def test_jsonl_with_segments(audio, cuts_of, reasons) -> None:
    rows = [
        {"file": str(audio / "a.wav"), "start": 0.25, "end": 0.5, "arousal": 0.5, "id": "x", "extra": {"deep": [1]}},
        {"file": "a.wav", "start": "0 days 00:00:00.5", "end": "NaT", "arousal": -1},
        {"file": "b.wav", "arousal": None},
        {"file": "c.wav", "arousal": True},
        {"file": "c.wav", "start": "soon", "end": 1},
        {"file": None},
        {"file": "c.wav", "start": 2, "end": 3},
    ]
    lines = [json.dumps(row) for row in rows] + ["[1]", "{", ""]
    (audio / "t.jsonl").write_text("\n".join(lines))
    report = prepare("table", audio / "t.jsonl", audio / "out", scale="-1-1")
    cuts = cuts_of(report)["all"]
    assert {name: (cut.start, cut.duration, custom(cut)) for name, cut in cuts.items()} == {
        "x": (0.25, 0.25, {"activation": 0.5}),
        "a.wav:0.5-": (0.5, 0.5, {"activation": -1.0}),
        "b.wav": (0.0, 1.0, {}),
        "c.wav": (0.0, 1.0, {}),
    }
    assert {reason: len(items) for reason, items in reasons(report).items()} == {
        "no audio file in the row": 1,
        "part of a file that is not there": 1,
        "rating is not a number": 1,
        "row is not JSON": 1,
        "row is not a JSON object": 1,
        "start or end is not a time": 1,
    }


def test_neighbouring_segments_have_names_of_their_own(tmp_path, write_speech) -> None:
    write_speech(tmp_path / "long.flac", 2.0)
    rows = [f"long.flac,{start},{start + 0.5}" for start in (1.0000625, 1.000125, 1.0001875)]
    (tmp_path / "t.csv").write_text("\n".join(["path,start,end", *rows]))
    report = prepare("table", tmp_path / "t.csv", tmp_path / "out")
    assert report.splits["all"].utterances == 3
    assert not report.problems


def test_columns_and_folders_can_be_named(audio, cuts_of) -> None:
    (audio / "lists").mkdir()
    (audio / "lists" / "t.tsv").write_text("clip\tsaid\twho\tA1\tpath\nsub\\d.flac\thi\tp\t3\tnonsense\n")
    report = prepare(
        "table",
        audio / "lists" / "t.tsv",
        audio / "out",
        audio_root=str(audio),
        path="Clip",
        text="said",
        speaker="who",
        activation="A1",
        scale="1:5",
        language="English",
    )
    cut = cuts_of(report)["all"]["sub\\d.flac"]
    assert (cut.supervisions[0].text, cut.supervisions[0].speaker) == ("hi", "p")
    assert cut.supervisions[0].language == "English"
    assert custom(cut) == {"activation": 3.0}
    assert report.scales == ("1:5",)


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,b\n1,2\n", {}, "no column of audio files .* it has a, b; --path"),
        ("path,b\na.wav,2\n", {"text": "words"}, "no column 'words'"),
        ("path,valence,valence\na.wav,2,3\n", {}, "several columns 'valence'"),
        ("path,valence\ra.wav,2\r", {}, "line ends of today"),
        ("", {}, "is empty"),
        ("path\na.wav\n", {"scale": "7-1"}, "scale '7-1'"),
        ("path\na.wav\n", {"encoding": "klingon"}, "encoding 'klingon'"),
        ("path\na.wav\n", {"colour": "red"}, "colour"),
    ],
)
def test_wrong_tables_and_options(audio, content: str, options: dict[str, str], message: str) -> None:
    (audio / "t.csv").write_text(content)
    with pytest.raises(CorpusError, match=message):
        prepare("table", audio / "t.csv", audio / "out", **options)


def test_bad_rows_are_reported_with_their_lines(audio, cuts_of, reasons) -> None:
    (audio / "t.csv").write_bytes(
        b"\xef\xbb\xbfpath;text;split\r\n"
        b"a.wav;caf\xc3\xa9;train\r\n"
        b"b.wav;caf\xe9;train\r\n"
        b"c.wav;too;many;fields\r\n"
        b"c.wav\r\n"
        b"\r\n"
        b'b.wav;"two\r\nlines";train\r\n'
        b'c.wav;"no partner;train\r\n'
        b"sub/d.flac;swallowed;train\r\n"
    )
    report = prepare("table", audio / "t.csv", audio / "out")
    cuts = cuts_of(report)["train"]
    assert {name: cut.supervisions[0].text for name, cut in cuts.items()} == {"a.wav": "café", "b.wav": "two\nlines"}
    table = audio / "t.csv"
    assert reasons(report) == {
        "line in another encoding": [f"{table}, line 3"],
        "row does not fit the header": [f"{table}, line 4", f"{table}, line 5"],
        "row is not CSV": [f"{table}, lines 9 to 10"],
    }


def test_latin_1_on_request(audio, cuts_of) -> None:
    (audio / "t.csv").write_bytes(b"path,text\na.wav,caf\xe9\n")
    report = prepare("table", audio / "t.csv", audio / "out", encoding="latin-1")
    assert cuts_of(report)["all"]["a.wav"].supervisions[0].text == "café"


def test_a_row_twice_and_a_row_without_split(audio, reasons) -> None:
    (audio / "t.csv").write_text("path,split\na.wav,train\na.wav,train\nb.wav,\nc.wav,a/b\nsub/d.flac,TRAIN\n")
    report = prepare("table", audio / "t.csv", audio / "out")
    assert {reason: len(items) for reason, items in reasons(report).items()} == {
        "id occurs twice": 1,
        "no split in the row": 1,
        "unusable name of a split": 1,
    }
    assert report.splits["train"].utterances == 2


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
def test_rows_come_back_as_a_csv_writer_wrote_them(tmp_path, delimiter: str) -> None:
    dice = random.Random(delimiter)
    columns = ["path", "text", "n"]
    rows = [
        {name: "".join(dice.choices('ab,;|"\t\n é', k=dice.randrange(12))).strip() for name in columns}
        for _ in range(200)
    ]
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(rows)
    problems: list = []
    assert [row for _, row in read_table(tmp_path / "t.csv", problems)] == rows
    assert not problems


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_random_bytes_never_crash(tmp_path, suffix: str) -> None:
    dice = random.Random(suffix)
    path = tmp_path / f"t.{suffix}"
    good = b'path,text\na.wav,"x"\n' if suffix == "csv" else b'{"path": "a.wav", "text": "x"}\n'
    for _ in range(300):
        content = bytearray(good * 4)
        for _ in range(dice.randrange(1, 12)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        path.write_bytes(content)
        problems: list = []
        try:
            rows = list(read_table(path, problems))
        except CorpusError:
            continue
        assert all(isinstance(value, str) for _, row in rows for value in row.values())


def test_find_column() -> None:
    assert find_column(["Emo Act", "x"], ("activation", "emo_act")) == "Emo Act"
    assert find_column(["text", "Transcript"], ("transcript", "text")) == "Transcript"
    assert find_column(["x"], ("y",)) is None
