from collections import Counter

import pytest

from sa2sr.corpora import prepare
from sa2sr.corpora.ravdess import EMOTIONS
from sa2sr.errors import CorpusError


@pytest.fixture
def corpus(tmp_path, write_speech):
    for actor in range(1, 25):
        for emotion in range(1, 9):
            name = f"03-01-{emotion:02d}-01-{1 + actor % 2:02d}-02-{actor:02d}.wav"
            write_speech(tmp_path / "RAVDESS" / f"Actor_{actor:02d}" / name, 0.05)
    return tmp_path / "RAVDESS"


def test_official_names(corpus, tmp_path, write_speech, cuts_of) -> None:
    write_speech(corpus / "Actor_12" / "03-01-05-02-02-01-12.opus", channels=2)
    report = prepare("ravdess", corpus, tmp_path / "out")
    cuts = cuts_of(report)
    cut = cuts["train"]["03-01-05-02-02-01-12"]
    spoken = cut.supervisions[0]
    assert (spoken.text, spoken.speaker, spoken.gender) == ("Dogs are sitting by the door", "12", "female")
    assert cut.num_channels == 2
    # Valence, activation and dominance of angry speech are 2.83, 5.34 and 5.29.
    assert spoken.custom == {
        "emotion": "angry",
        "intensity": "strong",
        "corpus": "ravdess",
        "activation": 5.34,
        "valence": 2.83,
        "dominance": 5.29,
        "scale": {"name": "1-7 (proxy)", "low": 1.0, "high": 7.0},
    }
    assert cuts["test"]["03-01-02-01-02-02-21"].supervisions[0].custom == {"emotion": "calm", "intensity": "normal"}
    assert cuts["test"]["03-01-02-01-02-02-21"].supervisions[0].gender == "male"
    assert cuts["dev"]["03-01-02-01-01-02-18"].supervisions[0].text == "Kids are talking by the door"
    assert report.scales == ("1-7 (proxy)",)


def test_splits_are_disjoint_in_actors(corpus, tmp_path, cuts_of) -> None:
    cuts = cuts_of(prepare("ravdess", corpus, tmp_path / "out"))
    actors = {split: {int(cut.supervisions[0].speaker) for cut in found.values()} for split, found in cuts.items()}
    assert actors == {"train": set(range(1, 17)), "dev": set(range(17, 21)), "test": set(range(21, 25))}
    for found in cuts.values():
        emotions = Counter(cut.supervisions[0].custom["emotion"] for cut in found.values())
        assert set(emotions) == set(EMOTIONS)
        rated = {c.supervisions[0].custom["emotion"] for c in found.values() if "valence" in c.supervisions[0].custom}
        assert rated == {"angry", "happy", "neutral", "sad"}


def test_other_actors_are_held_out_on_request(corpus, tmp_path, cuts_of) -> None:
    report = prepare("ravdess", corpus, tmp_path / "out", dev_actors="1,3", test_actors="5-7")
    assert {name: split.speakers for name, split in report.splits.items()} == {"dev": 2, "test": 3, "train": 19}
    with pytest.raises(CorpusError, match="share 4"):
        prepare("ravdess", corpus, tmp_path / "out", dev_actors="1-4", test_actors="4-7")


def test_songs_videos_and_other_names_are_reported(corpus, tmp_path, write_speech, reasons) -> None:
    for name in ("03-02-01-01-01-01-01", "02-01-01-01-01-01-01", "03-01-09-01-01-01-01", "noise"):
        write_speech(corpus / "Actor_01" / f"{name}.wav")
    (corpus / "Actor_01" / "03-01-01-01-01-01-01.wav").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert {k: len(v) for k, v in reasons(prepare("ravdess", corpus, tmp_path / "out")).items()} == {
        "audio is a Git LFS pointer": 1,
        "not a RAVDESS name": 2,
        "not speech (not audio alone)": 1,
        "not speech (song)": 1,
    }


def test_the_same_name_in_two_folders_counts_once(corpus, tmp_path, write_speech, reasons) -> None:
    write_speech(corpus / "copy" / "Actor_01" / "03-01-01-01-02-02-01.wav")
    report = prepare("ravdess", corpus, tmp_path / "out")
    assert reasons(report) == {"id occurs twice": ["03-01-01-01-02-02-01"]}
    assert sum(split.utterances for split in report.splits.values()) == 24 * 8
