import csv
import json
from pathlib import Path

import pytest

from sa2sr.corpora import prepare
from sa2sr.errors import CorpusError

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
ROWS = """\
MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1
MSP-PODCAST_0001_0019.wav,H,5.0,5.8,5.2,Unknown,Female,Train
MSP-PODCAST_0002_0001.wav,X,4.4,3.2,4.6,41,Female,Development
MSP-PODCAST_0003_0001.wav,U,6.0,4.0,5.0,Unknown,Male,Test2
"""


@pytest.fixture
def corpus(tmp_path, write_speech) -> Path:
    root = tmp_path / "MSP-PODCAST"
    (root / "Labels").mkdir(parents=True)
    (root / "Transcripts").mkdir()
    (root / "Labels" / "labels_consensus.csv").write_text(HEADER + ROWS)
    for line in ROWS.splitlines():
        name = line.split(".")[0]
        write_speech(root / "Audios" / f"{name}.wav")
        (root / "Transcripts" / f"{name}.txt").write_text("And so it goes.\n")
    return root


def test_the_current_layout(corpus, tmp_path, cuts_of) -> None:
    report = prepare("msp-podcast", corpus, tmp_path / "out")
    cuts = cuts_of(report)
    assert {split: list(found) for split, found in cuts.items()} == {
        "dev": ["MSP-PODCAST_0002_0001"],
        "test1": ["MSP-PODCAST_0001_0008"],
        "test2": ["MSP-PODCAST_0003_0001"],
        "train": ["MSP-PODCAST_0001_0019"],
    }
    spoken = cuts["test1"]["MSP-PODCAST_0001_0008"].supervisions[0]
    assert (spoken.text, spoken.speaker, spoken.gender) == ("And so it goes.", "30", "male")
    assert spoken.custom == {
        "corpus": "msp-podcast",
        "emotion": "neutral",
        "activation": 2.2,
        "valence": 4.0,
        "dominance": 2.6,
        "scale": {"name": "1-7", "low": 1.0, "high": 7.0},
    }
    assert cuts["train"]["MSP-PODCAST_0001_0019"].supervisions[0].speaker is None  # Unknown is nobody
    assert "emotion" not in cuts["dev"]["MSP-PODCAST_0002_0001"].supervisions[0].custom  # X: no agreement
    assert not report.problems


def test_older_releases(corpus, tmp_path, cuts_of, write_speech, reasons) -> None:
    (corpus / "Audios").rename(corpus / "Audio")
    (corpus / "Labels" / "labels_consensus.csv").unlink()
    rows = [line.rpartition(",")[0] + "\n" for line in (HEADER + ROWS).splitlines()]
    (corpus / "Labels" / "labels_concensus.csv").write_text("".join(rows))
    (corpus / "Partitions.txt").write_text(
        "Test1; MSP-PODCAST_0001_0008.wav\nTrain; MSP-PODCAST_0001_0019.wav\n\nnonsense\n"
        "Validation; MSP-PODCAST_0002_0001.wav\nTrain; MSP-PODCAST_9999_0001.wav\n"
    )
    report = prepare("msp-podcast", corpus, tmp_path / "out")
    assert {split: len(found) for split, found in cuts_of(report).items()} == {"dev": 1, "test1": 1, "train": 1}
    assert reasons(report) == {
        "not a line of Partitions.txt": [f"{corpus / 'Partitions.txt'}, line 4"],
        "neither labels nor audio": ["MSP-PODCAST_9999_0001"],
        "unknown split": ["MSP-PODCAST_0003_0001"],
    }
    lost = {problem.reason: problem.lost for problem in report.problems}
    assert lost["not a line of Partitions.txt"] == "line"


@pytest.mark.parametrize("name", ["labels_consensus.json", "labels_concensus.json"])
def test_labels_as_json_alone(corpus, tmp_path, contents, name: str) -> None:
    """The same manifests as from CSV."""
    labels = corpus / "Labels" / "labels_consensus.csv"
    prepare("msp-podcast", corpus, tmp_path / "csv")
    rows = list(csv.DictReader(labels.read_text().splitlines()))
    labels.unlink()
    (corpus / "Labels" / name).write_text(json.dumps({row.pop("FileName"): row for row in rows}))
    prepare("msp-podcast", corpus, tmp_path / "json")
    assert contents(tmp_path / "json") == contents(tmp_path / "csv")


def test_json_of_another_kind(corpus, tmp_path, reasons) -> None:
    (corpus / "Labels" / "labels_consensus.csv").unlink()
    labels = corpus / "Labels" / "labels_consensus.json"
    for content in ("[1]", "{", "[" * 100_000):
        labels.write_text(content)
        with pytest.raises(CorpusError, match=r"labels_consensus\.json: .*; labels_consensus\.csv will do"):
            prepare("msp-podcast", corpus, tmp_path / "out")
    labels.write_text('{"MSP-PODCAST_0001_0008.wav": {"EmoClass": "N"}}')
    with pytest.raises(CorpusError, match=r"labels_consensus\.json: has no column EmoAct, EmoDom, EmoVal"):
        prepare("msp-podcast", corpus, tmp_path / "out")
    good = {"EmoAct": 2.2, "EmoVal": "4.0", "EmoDom": "", "Split_Set": "Train"}
    labels.write_text(json.dumps({"MSP-PODCAST_0001_0008.wav": good, "MSP-PODCAST_0001_0019.wav": [good]}))
    report = prepare("msp-podcast", corpus, tmp_path / "out")
    assert report.splits["train"].with_ratings == 1
    assert reasons(report)["row is not a JSON object"] == [f"{labels}, MSP-PODCAST_0001_0019.wav"]


def test_hidden_labels(corpus, tmp_path, write_speech, cuts_of) -> None:
    for name in ("MSP-PODCAST_test3_0001", "MSP-PODCAST_test3_0002", "MSP-PODCAST_0007_0001"):
        write_speech(corpus / "Audios" / f"{name}.wav")
        (corpus / "Transcripts" / f"{name}.txt").write_text("Hidden.")
    (corpus / "Partitions.txt").write_text("Test3; MSP-PODCAST_0007_0001.wav\n")
    with (corpus / "Labels" / "labels_consensus.csv").open("a") as file:
        file.write("MSP-PODCAST_test3_0002.wav,,,,,,,Test3\n")
    report = prepare("msp-podcast", corpus, tmp_path / "out")
    found = cuts_of(report)["test3"]
    assert list(found) == ["MSP-PODCAST_0007_0001", "MSP-PODCAST_test3_0001", "MSP-PODCAST_test3_0002"]
    assert {cut.supervisions[0].text for cut in found.values()} == {"Hidden."}
    assert all(cut.supervisions[0].custom is None for cut in found.values())
    assert report.splits["test3"].with_ratings == 0
    assert not report.problems


def test_faults(corpus, tmp_path, write_speech, cuts_of, reasons) -> None:
    names = [f"MSP-PODCAST_0100_{number:04d}" for number in range(6)]
    for name in names[:4]:
        write_speech(corpus / "Audios" / f"{name}.wav")
    rows = [
        f"{names[0]}.wav,A,nan,4.0,2.6,50,Male,Train",
        f"{names[1]}.wav,A,2.0,7.4,2.6,50,Male,Train",
        f"{names[2]}.wav,Q,2.0,4.0,2.6,50,Male,Train",
        f"{names[3]}.wav,A,2.0,4.0,2.6,50,Male,Holiday",
        f"{names[4]}.wav,A,2.0,4.0,2.6,50,Male,Train",
        f"{names[0]}.wav,S,2.0,4.0,2.6,50,Male,Train",
        f"{names[5]}.wav,A,2.0",
    ]
    with (corpus / "Labels" / "labels_consensus.csv").open("a") as file:
        file.write("\n".join(rows) + "\n")
    (corpus / "Transcripts" / f"{names[1]}.txt").write_text(" \n")
    (corpus / "Transcripts" / f"{names[2]}.txt").write_bytes(b"ok\ncaf\xe9\n")
    report = prepare("msp-podcast", corpus, tmp_path / "out")
    found = reasons(report)
    assert {reason: sorted(items) for reason, items in found.items()} == {
        "audio does not exist": [names[4]],
        "id occurs twice": [names[0]],
        "line in another encoding": [f"{corpus / 'Transcripts' / names[2]}.txt, line 2"],
        "no transcript": [names[0], names[1], names[4]],
        "rating is not a number": [names[0]],
        "rating is outside the scale": [names[1]],
        "row does not fit the header": [f"{corpus / 'Labels' / 'labels_consensus.csv'}, line 12"],
        "unknown emotion": [names[2]],
        "unknown split": [names[3]],
    }
    train = cuts_of(report)["train"]
    assert train[names[0]].supervisions[0].custom == {"emotion": "angry"}
    assert train[names[2]].supervisions[0].custom["valence"] == 4.0


def test_speakers_in_two_splits(corpus, tmp_path) -> None:
    labels = corpus / "Labels" / "labels_consensus.csv"
    labels.write_text(labels.read_text().replace(",41,", ",30,"))
    with pytest.raises(CorpusError, match=r"30 \(dev, test1\)"):
        prepare("msp-podcast", corpus, tmp_path / "out")


def test_wrong_columns(corpus, tmp_path) -> None:
    labels = corpus / "Labels" / "labels_consensus.csv"
    labels.write_text(labels.read_text().replace("EmoVal", "Valence"))
    with pytest.raises(CorpusError, match=r"labels_consensus\.csv: has no column EmoVal"):
        prepare("msp-podcast", corpus, tmp_path / "out")
    labels.unlink()
    with pytest.raises(CorpusError, match=r"labels_consensus\.csv"):
        prepare("msp-podcast", corpus, tmp_path / "out")
