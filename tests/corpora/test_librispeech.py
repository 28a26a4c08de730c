import shutil
from pathlib import Path

import pytest

from sa2sr.corpora import prepare
from sa2sr.errors import CorpusError

SPEAKERS = """\
; Some pipe(|) separated metadata about all LibriVox readers
;ID  |SEX| SUBSET           |MINUTES| NAME
26   | M | train-clean-100  | 25.08 | Denny Sayers
60   | M | train-clean-100  | 20.18 | |CBW|Simon
121  | F | test-clean       | 8.05  | Nikolle Doolin
"""


@pytest.fixture
def corpus(tmp_path, write_speech) -> Path:
    root = tmp_path / "LibriSpeech"
    for split, speaker, chapter, texts in (
        ("train-clean-100", "26", "495", ["AND SO", "IT'S DONE", "MISTER BROWN"]),
        ("train-clean-100", "60", "121082", ["ONE"]),
        ("test-clean", "121", "121726", ["ALSO A POPULAR CONTRIVANCE", "HARANGUE"]),
    ):
        folder = root / split / speaker / chapter
        for number, suffix in zip(range(len(texts)), ("flac", "opus", "mp3"), strict=False):
            write_speech(folder / f"{speaker}-{chapter}-{number:04d}.{suffix}", 0.3)
        lines = [f"{speaker}-{chapter}-{number:04d} {text}\n" for number, text in enumerate(texts)]
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    (root / "SPEAKERS.TXT").write_text(SPEAKERS)
    return root


def test_official_layout(corpus, tmp_path, cuts_of) -> None:
    report = prepare("librispeech", corpus, tmp_path / "out")
    cuts = cuts_of(report)
    assert {split: sorted(found) for split, found in cuts.items()} == {
        "test-clean": ["121-121726-0000", "121-121726-0001"],
        "train-clean-100": ["26-495-0000", "26-495-0001", "26-495-0002", "60-121082-0000"],
    }
    cut = cuts["train-clean-100"]["26-495-0001"]
    assert cut.duration == pytest.approx(0.3)
    assert cut.recording.sources[0].source.endswith("26-495-0001.opus")
    spoken = cut.supervisions[0]
    assert (spoken.text, spoken.speaker, spoken.gender, spoken.language) == ("IT'S DONE", "26", "male", "English")
    # A name with the separator in it does not disturb the table of speakers.
    assert cuts["train-clean-100"]["60-121082-0000"].supervisions[0].gender == "male"
    assert cuts["test-clean"]["121-121726-0000"].supervisions[0].gender == "female"
    assert not report.problems
    assert report.splits["train-clean-100"].speakers == 2


def test_parent_and_split_are_sources_too(corpus, tmp_path, cuts_of) -> None:
    shutil.copytree(corpus, tmp_path / "download" / "LibriSpeech")
    whole = prepare("librispeech", tmp_path / "download", tmp_path / "a")
    assert {name: split.utterances for name, split in whole.splits.items()} == {"test-clean": 2, "train-clean-100": 4}
    one = prepare("librispeech", corpus / "test-clean", tmp_path / "b")
    assert {name: split.utterances for name, split in one.splits.items()} == {"test-clean": 2}
    assert cuts_of(one)["test-clean"]["121-121726-0000"].supervisions[0].gender == "female"  # the table is beside it


def test_faults_are_reported_and_the_rest_goes_on(corpus, tmp_path, write_speech, cuts_of, reasons) -> None:
    chapter = corpus / "test-clean" / "121" / "121726"
    transcripts = chapter / "121-121726.trans.txt"
    with transcripts.open("ab") as file:
        file.write(b"121-121726-0002 \n121-121726-0003 LOST\nnot-an-id TEXT\n121-121726-0004 CAF\xc9\n")
        file.write(b"121-121726-0005 CUT OFF\n121-121726-0006 EMPTY\n121-121726-0007 EIGHT\n\n")
    for number in (2, 4, 5, 8):
        write_speech(chapter / f"121-121726-{number:04d}.flac")
    write_speech(chapter / "121-121726-0007.wav", channels=8)
    (chapter / "121-121726-0006.flac").touch()
    whole = (chapter / "121-121726-0005.flac").read_bytes()
    (chapter / "121-121726-0005.flac").write_bytes(whole[: len(whole) // 2])
    (chapter / "loop").symlink_to(corpus, target_is_directory=True)

    report = prepare("librispeech", corpus, tmp_path / "out")
    cuts = cuts_of(report)["test-clean"]
    assert sorted(cuts) == ["121-121726-0000", "121-121726-0001", "121-121726-0007"]
    assert cuts["121-121726-0007"].num_channels == 8
    assert reasons(report) == {
        "audio cannot be decoded": ["121-121726-0005"],
        "audio does not exist": ["121-121726-0003"],
        "audio is empty": ["121-121726-0006"],
        "audio without a transcript": ["121-121726-0004", "121-121726-0008"],
        "folder linked twice": [str(chapter / "loop")],
        "line in another encoding": [f"{transcripts}, line 6"],
        "no transcript": ["121-121726-0002"],
        "not a transcript line": [f"{transcripts}, line 5"],
    }


def test_not_librispeech(tmp_path) -> None:
    with pytest.raises(CorpusError, match=r"no \*\.trans\.txt"):
        prepare("librispeech", tmp_path, tmp_path / "out")
    with pytest.raises(CorpusError, match="does not exist"):
        prepare("librispeech", tmp_path / "none", tmp_path / "out")
