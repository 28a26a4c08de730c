from pathlib import Path

import pytest

from sa2sr.corpora import prepare
from sa2sr.errors import CorpusError


@pytest.fixture
def corpus(tmp_path, write_speech) -> Path:
    """The layout of speechocean762: tables with tabs, wav.scp relative to the parent, another suffix on disk."""
    root = tmp_path / "corpus"
    for split, speaker in (("train", "0001"), ("test", "0003")):
        names = [f"{speaker}{number:05d}" for number in (11, 35)]
        for name in names:
            write_speech(root / "WAVE" / f"SPEAKER{speaker}" / f"{name}.opus")
        (root / split).mkdir()
        tables = {
            "text": [f"{name}\tWE CALL IT BEAR" for name in names],
            "wav.scp": [f"{name}\tWAVE/SPEAKER{speaker}/{name}.WAV" for name in names],
            "utt2spk": [f"{name} {speaker}" for name in names],
            "spk2gender": [f"{speaker}\t{'m' if split == 'train' else 'f'}"],
        }
        for table, lines in tables.items():
            (root / split / table).write_text("\n".join(lines) + "\n")
    return root


def test_several_directories_become_splits(corpus, tmp_path, cuts_of) -> None:
    report = prepare("kaldi", corpus, tmp_path / "out")
    cuts = cuts_of(report)
    assert {split: sorted(found) for split, found in cuts.items()} == {
        "test": ["000300011", "000300035"],
        "train": ["000100011", "000100035"],
    }
    spoken = cuts["train"]["000100011"].supervisions[0]
    assert (spoken.text, spoken.speaker, spoken.gender) == ("WE CALL IT BEAR", "0001", "male")
    assert cuts["test"]["000300011"].supervisions[0].gender == "female"
    assert cuts["test"]["000300011"].recording.sources[0].source.endswith("000300011.opus")
    assert not report.problems


def test_one_directory_is_one_split(corpus, tmp_path) -> None:
    assert {k: v.utterances for k, v in prepare("kaldi", corpus / "train", tmp_path / "out").splits.items()} == {
        "train": 2
    }


def test_commands_are_reported_and_never_run(corpus, tmp_path, reasons) -> None:
    witness = tmp_path / "ran"
    scp, text = corpus / "train" / "wav.scp", corpus / "train" / "text"
    scp.write_text(scp.read_text() + f"evil1 touch {witness} |\nevil2 | touch {witness}\nevil3 -\nevil4\n")
    text.write_text(text.read_text() + "".join(f"evil{n} TEXT\n" for n in range(1, 5)))
    report = prepare("kaldi", corpus, tmp_path / "out")
    assert not witness.exists()
    assert reasons(report)["audio is the output of a command"] == ["evil1", "evil2", "evil3", "evil4"]
    assert report.splits["train"].utterances == 2


def test_segments(corpus, tmp_path, write_speech, cuts_of, reasons) -> None:
    long = write_speech(tmp_path / "long.wav", 2.0)
    train = corpus / "train"
    (train / "wav.scp").write_text(f"talk {long}\n")
    (train / "segments").write_text(
        "a talk 0.25 0.75\nb talk 1.5 -1\nc talk 1.0 2.2\nd talk 1.0 9\ne talk x y\nf other 0 1\ng talk 0.9 0.4\n"
        "h talk nan 1\ni talk 0 nan\n"
    )
    (train / "text").write_text("".join(f"{name} TEXT\n" for name in "abcdefghi") + "z NO AUDIO\n")
    (train / "utt2spk").write_text("".join(f"{name} 0001\n" for name in "abcdefghi"))
    report = prepare("kaldi", train, tmp_path / "out")
    cuts = cuts_of(report)["train"]
    assert {name: (cut.start, pytest.approx(cut.end)) for name, cut in cuts.items()} == {
        "a": (0.25, 0.75),
        "b": (1.5, 2.0),
        "c": (1.0, 2.0),
    }
    assert reasons(report) == {
        "not a segment": ["e"],
        "part of a file that is not there": ["d", "g", "h", "i"],
        "segment of a recording that wav.scp lacks": ["f"],
        "transcript without audio": ["z"],
    }


def test_missing_and_double_lines(corpus, tmp_path, reasons) -> None:
    text = corpus / "train" / "text"
    text.write_text("000100011 FIRST\n000100011 SECOND\n000100035\n")
    report = prepare("kaldi", corpus / "train", tmp_path / "out")
    assert reasons(report) == {
        "key twice in a table": [f"{text}, line 2"],
        "no transcript": ["000100035"],
    }


def test_what_is_not_kaldi(corpus, tmp_path) -> None:
    with pytest.raises(CorpusError, match=r"wav\.scp"):
        prepare("kaldi", corpus / "WAVE", tmp_path / "out")
    (corpus / "train" / "text").unlink()
    with pytest.raises(CorpusError, match="'text'"):
        prepare("kaldi", corpus, tmp_path / "out")
