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
    (audio / "nemo.json").write_text("\n".join(map(json.dumps, rows)))
    report = prepare("table", audio / "nemo.json", audio / "out")
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
    texts = {name: cut.supervisions[0].text for name, cut in cuts.items()}
    assert texts == {"a.wav": "café", "b.wav": "two\nlines", "sub/d.flac": "swallowed"}
    table = audio / "t.csv"
    assert reasons(report) == {
        "line in another encoding": [f"{table}, line 3"],
        "row does not fit the header": [f"{table}, line 4", f"{table}, line 5"],
        "row is not CSV": [f"{table}, line 9"],
    }
    assert set(report.counts()) == {
        ("line", "line in another encoding"),
        ("row", "row does not fit the header"),
        ("row", "row is not CSV"),
    }


@pytest.mark.parametrize("closing", ["", 'b.wav,"Well, yes."\n'], ids=["nowhere", "at the next one"])
def test_a_quotation_mark_without_its_partner_costs_its_row_alone(tmp_path, closing: str) -> None:
    table = tmp_path / "t.csv"
    lines = [f"{number}.wav,text {number}\n" for number in range(3000)]
    lines[10] = '10.wav,"no partner\n'
    table.write_text("path,text\n" + "".join(lines[:20]) + closing + "".join(lines[20:]))
    problems: list = []
    found = [row["path"] for _, row in read_table(table, problems)]
    assert found == [
        *(f"{number}.wav" for number in range(20) if number != 10),
        *["b.wav"] * bool(closing),
        *(f"{number}.wav" for number in range(20, 3000)),
    ]
    (problem,) = problems
    assert problem.item == f"{table}, line 12"
    assert ("The 10 line(s)" if closing else "The 999 line(s)") in problem.detail


def test_a_header_in_another_encoding(audio, cuts_of) -> None:
    """Without it, the first row would be the header."""
    table = audio / "t.csv"
    table.write_bytes("path;Gefühl\na.wav;froh\nb.wav;trüb\n".encode("windows-1252"))
    with pytest.raises(CorpusError, match=r"t\.csv, line 1: the header is not in utf-8; save .* --encoding"):
        prepare("table", table, audio / "out")
    report = prepare("table", table, audio / "out", encoding="windows-1252", emotion="gefühl")
    assert custom(cuts_of(report)["all"]["b.wav"]) == {"emotion": "trüb"}


def test_a_line_that_names_the_separator(tmp_path) -> None:
    (tmp_path / "t.csv").write_text("sep=;\npath;text,or not\na.wav;Well, yes\n")
    assert [row for _, row in read_table(tmp_path / "t.csv", [])] == [{"path": "a.wav", "text,or not": "Well, yes"}]


def test_signs_within_the_name_of_a_column_separate_none(tmp_path) -> None:
    (tmp_path / "t.csv").write_text('path,"emotion (1: sad; 2: neutral; 3: happy)"\na.wav,1\n')
    rows = [row for _, row in read_table(tmp_path / "t.csv", [])]
    assert rows == [{"path": "a.wav", "emotion (1: sad; 2: neutral; 3: happy)": "1"}]


@pytest.mark.parametrize(("beginning", "kind"), [(b"PK\x03\x04", "a workbook"), (b"\x1f\x8b", "compressed")])
def test_files_that_are_no_text(tmp_path, beginning: bytes, kind: str) -> None:
    (tmp_path / "t.xlsx").write_bytes(beginning + b"...")
    with pytest.raises(CorpusError, match=rf"t\.xlsx: is {kind}.* save it as CSV"):
        prepare("table", tmp_path / "t.xlsx", tmp_path / "out")


def test_nan_in_json_is_no_transcript(audio, cuts_of) -> None:
    (audio / "t.jsonl").write_text('{"path": "a.wav", "text": NaN}\n{"path": "b.wav", "text": "nan"}\n')
    cuts = cuts_of(prepare("table", audio / "t.jsonl", audio / "out"))["all"]
    assert {name: cut.supervisions[0].text for name, cut in cuts.items()} == {"a.wav": None, "b.wav": "nan"}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas(audio, cuts_of, delimiter: str) -> None:
    """As spreadsheets write them where numbers have commas."""
    rows = ["path;start;end;valence;arousal;text", "a.wav;0,25;0,5;3,5;-0,5;3,5 of five", "b.wav;;;4;2.5;Well, yes"]
    (audio / "t.csv").write_text("\n".join(rows).replace(";", delimiter))
    cuts = cuts_of(prepare("table", audio / "t.csv", audio / "out", scale="-5:5"))["all"]
    first = cuts["a.wav:0.25-0.5"]
    assert (first.start, first.duration) == (0.25, 0.25)
    assert (custom(first), first.supervisions[0].text) == ({"valence": 3.5, "activation": -0.5}, "3,5 of five")
    assert custom(cuts["b.wav"]) == {"valence": 4.0, "activation": 2.5}


def test_commas_that_may_group_thousands_are_refused_with_the_remedy(audio, reasons) -> None:
    (audio / "t.csv").write_text('path,start,valence\na.wav,,"3,500"\nb.wav,"1,234",3\nc.wav,,1\n')
    (audio / "t.tsv").write_text("path\tvalence\na.wav\t1.234,5\n")
    report = prepare("table", audio / "t.csv", audio / "out")
    assert list(reasons(report)) == ["rating is not a number", "start or end is not a time"]
    for problem in (*report.problems, *prepare("table", audio / "t.tsv", audio / "out").problems):
        assert "decimal comma is understood where semicolons" in problem.detail


def test_times_of_subtitles(audio, cuts_of) -> None:
    """As MELD has them."""
    (audio / "t.csv").write_text('path,StartTime,EndTime\na.wav,"00:00:00,250","00:00:00,750"\n')
    assert cuts_of(prepare("table", audio / "t.csv", audio / "out"))["all"]["a.wav:0.25-0.75"].duration == 0.5


def test_ratings_of_several_people(audio, cuts_of) -> None:
    table = audio / "t.csv"
    table.write_text("path,rater,valence\na.wav,anna,2\na.wav,bert,4\nb.wav,anna,3\n")
    report = prepare("table", table, audio / "out")
    assert custom(cuts_of(report)["all"]["a.wav"]) == {"valence": 2.0}
    (problem,) = report.problems
    assert (problem.reason, problem.item) == ("several rows of one file and span", f"{table}, line 3")
    assert (problem.lost, f"'a.wav' as in {table}, line 2; the first is kept." in problem.detail) == ("utterance", True)
    assert "--average" in problem.detail
    assert "--id" in problem.detail


def test_ratings_of_several_people_are_averaged_on_request(audio, cuts_of, reasons) -> None:
    table = audio / "t.csv"
    table.write_text(
        "id,path,start,end,rater,valence,arousal,emotion,sentiment,text\n"
        "1,a.wav,0,.5,anna,2,1,sad,negative,\n2,b.wav,,,anna,7,7,happy,,Hi\n3,a.wav,0,0.5,bert,4,,sad,neutral,Oh\n"
        "4,a.wav,0.5,,bert,5,5,happy,,\n5,a.wav,0,.50,carl,4.5,2,happy,negative,Oh\n6,b.wav,,,bert,2,7,sad,,Hi\n"
        "7,c.wav,,,anna,4,4,,,\n8,c.wav,,,bert,40,4,,,\n"
    )
    report = prepare("table", table, audio / "out", average=True)
    found = cuts_of(report)["all"]
    assert list(found) == ["1", "2", "4", "7"]
    assert custom(found["1"]) == {
        "valence": 3.5,
        "activation": 1.5,
        "emotion": "sad",
        "sentiment": [pytest.approx(2 / 3), pytest.approx(1 / 3), 0],
    }
    assert found["1"].supervisions[0].text == "Oh"
    assert custom(found["2"]) == {"valence": 4.5, "activation": 7}  # as many say happy as sad
    assert custom(found["4"])["valence"] == 5
    assert reasons(report)["rating is outside the scale"] == ["7"]


def test_rows_with_ids_of_their_own_are_kept_with_a_warning(audio) -> None:
    (audio / "t.csv").write_text("id,path,start,valence\n1,a.wav,0,2\n2,a.wav,,4\n3,a.wav,0.5,4\n")
    report = prepare("table", audio / "t.csv", audio / "out")
    assert report.splits["all"].utterances == 3
    assert report.counts() == {("nothing (a warning)", "several rows of one file and span"): 1}


def test_one_file_in_two_splits(audio) -> None:
    (audio / "t.csv").write_text("path,split\na.wav,train\na.wav,test\n")
    with pytest.raises(CorpusError, match=r"a\.wav is in two splits, train and test"):
        prepare("table", audio / "t.csv", audio / "out")


def test_other_columns_and_scales_are_the_remedy(audio) -> None:
    (audio / "t.csv").write_text("name,path,valence\nanna,a.wav,2\nanna,b.wav,3\nbert,c.wav,55\n")
    details = {problem.reason: problem.detail for problem in prepare("table", audio / "t.csv", audio / "out").problems}
    assert details["id occurs twice"].endswith("a.wav, is kept; --id names another")
    assert details["rating is outside the scale"] == "valence 55, scale 1 to 7; --scale names another"


def test_a_path_that_is_too_long_is_one_utterance(audio) -> None:
    (audio / "t.csv").write_text(f"path\na.wav\n{'x' * 300}.wav\n")
    assert prepare("table", audio / "t.csv", audio / "out").splits["all"].utterances == 1


def test_latin_1_on_request(audio, cuts_of) -> None:
    (audio / "t.csv").write_bytes(b"path,text\na.wav,caf\xe9\n")
    report = prepare("table", audio / "t.csv", audio / "out", encoding="latin-1")
    assert cuts_of(report)["all"]["a.wav"].supervisions[0].text == "café"


def test_a_row_twice_and_a_row_without_split(audio, reasons) -> None:
    (audio / "t.csv").write_text("path,split\na.wav,train\na.wav,train\nb.wav,\nc.wav,a/b\nsub/d.flac,TRAIN\n")
    report = prepare("table", audio / "t.csv", audio / "out")
    assert {reason: len(items) for reason, items in reasons(report).items()} == {
        "several rows of one file and span": 1,
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
