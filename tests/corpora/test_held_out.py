from pathlib import Path

import pytest

from sa2sr.corpora import prepare
from sa2sr.corpora.held_out import HeldOut, parse_numbers
from sa2sr.corpora.ravdess import Options
from sa2sr.errors import CorpusError


def test_numbers() -> None:
    assert parse_numbers(" 17-20, 3,7 ,", "x") == {3, 7, 17, 18, 19, 20}
    assert parse_numbers("", "x") == set()
    for text in ("a", "1-", "-3", "1-2-3", "99999", "20-17"):
        with pytest.raises(CorpusError, match="x is"):
            parse_numbers(text, "x")


def test_each_number_has_a_split() -> None:
    held_out = HeldOut(Options(dev_actors="1-2", test_actors="3"), "actors")
    assert [held_out.split_of(number) for number in (1, 2, 3, 4)] == ["dev", "dev", "test", "train"]
    with pytest.raises(CorpusError, match="dev_actors and test_actors share 3-4, 6"):
        HeldOut(Options(dev_actors="1-4,6", test_actors="3-7"), "actors")


@pytest.fixture
def corpus(tmp_path, write_speech) -> Path:
    """Three actors of RAVDESS."""
    for actor in (1, 2, 5):
        write_speech(tmp_path / "RAVDESS" / f"Actor_{actor:02d}" / f"03-01-03-01-01-01-{actor:02d}.wav", 0.05)
    return tmp_path / "RAVDESS"


@pytest.mark.parametrize("wanted", ["21-24", "3"])
def test_wanted_numbers_that_the_corpus_lacks(corpus, tmp_path, wanted: str) -> None:
    with pytest.raises(CorpusError, match=rf"--test-actors is '{wanted}', but the actors of .*RAVDESS are 1-2, 5; "):
        prepare("ravdess", corpus, tmp_path / "out", dev_actors="", test_actors=wanted)
    assert not list((tmp_path / "out").glob("*.jsonl.gz"))


def test_some_of_the_wanted_numbers_are_there(corpus, tmp_path) -> None:
    report = prepare("ravdess", corpus, tmp_path / "out", dev_actors="", test_actors="4-6")
    assert {name: split.utterances for name, split in report.splits.items()} == {"test": 1, "train": 2}
    (problem,) = report.problems
    assert (problem.reason, problem.lost) == ("held out, but not in the corpus", "nothing (a warning)")
    assert (problem.item, problem.detail) == ("--test-actors", "4, 6; actors are 1-2, 5")


def test_a_part_of_a_corpus_without_those_that_are_held_out_by_default(corpus, tmp_path, write_speech) -> None:
    report = prepare("ravdess", corpus, tmp_path / "out")
    assert report.splits["train"].utterances == 3
    assert [problem.item for problem in report.problems] == ["--dev-actors", "--test-actors"]
    assert report.problems[0].detail == "17-20 by default; actors are 1-2, 5"
    for actor in (18, 21):
        write_speech(corpus / f"Actor_{actor}" / f"03-01-03-01-01-01-{actor}.wav", 0.05)
    assert not prepare("ravdess", corpus, tmp_path / "out").problems


def test_sessions_that_are_not_there(tmp_path, write_speech) -> None:
    folder = tmp_path / "IEMOCAP" / "Session1"
    (folder / "dialog" / "EmoEvaluation").mkdir(parents=True)
    (folder / "dialog" / "EmoEvaluation" / "Ses01F_impro01.txt").write_text(
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.0000, 3.0000]\n"
    )
    write_speech(folder / "sentences" / "wav" / "Ses01F_impro01" / "Ses01F_impro01_F000.wav")
    with pytest.raises(CorpusError, match=r"--test-sessions is '6', but the sessions of .* are 1; "):
        prepare("iemocap", tmp_path / "IEMOCAP", tmp_path / "out", test_sessions="6")


def test_actors_of_another_numbering(tmp_path, write_speech) -> None:
    for actor in (1001, 1002):
        write_speech(tmp_path / "AudioWAV" / f"{actor}_IEO_NEU_XX.wav")
    with pytest.raises(CorpusError, match=r"--dev-actors is '1-2', but the actors of .* are 1001-1002; "):
        prepare("crema-d", tmp_path, tmp_path / "out", dev_actors="1-2")


def test_an_empty_folder_is_no_matter_of_numbers(tmp_path) -> None:
    with pytest.raises(CorpusError, match="nothing was found"):
        prepare("ravdess", tmp_path, tmp_path / "out", test_actors="3")
