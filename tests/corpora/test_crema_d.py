from pathlib import Path

import pytest

from sa2sr.corpora import prepare
from sa2sr.errors import CorpusError

SUMMARY = """\
"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"
"1","1001_IEO_NEU_XX","N","2.68","N","3.0","N","2.92"
"2","1001_IEO_HAP_LO","N:S","3.1:2.0","H","52.3","H","48"
"3","1070_TAI_ANG_HI","D","3.1","A","52.3","A","48"
"""
DEMOGRAPHICS = """\
ActorID,Age,Sex,Race,Ethnicity
1001,51,Male,Caucasian,Not Hispanic
1070,21,Female,Asian,Not Hispanic
1090,33,Female,African American,Not Hispanic
"""


@pytest.fixture
def corpus(tmp_path, write_speech) -> Path:
    root = tmp_path / "CREMA-D"
    (root / "processedResults").mkdir(parents=True)
    (root / "processedResults" / "summaryTable.csv").write_text(SUMMARY)
    (root / "VideoDemographics.csv").write_text(DEMOGRAPHICS)
    for name in ("1001_IEO_NEU_XX", "1001_IEO_HAP_LO", "1070_TAI_ANG_HI", "1090_WSI_FEA_MD"):
        write_speech(root / "AudioWAV" / f"{name}.wav")
    return root


def test_official_files(corpus, tmp_path, cuts_of) -> None:
    report = prepare("crema-d", corpus, tmp_path / "out")
    cuts = cuts_of(report)
    assert {split: list(found) for split, found in cuts.items()} == {
        "dev": ["1070_TAI_ANG_HI"],
        "test": ["1090_WSI_FEA_MD"],
        "train": ["1001_IEO_HAP_LO", "1001_IEO_NEU_XX"],
    }
    spoken = cuts["dev"]["1070_TAI_ANG_HI"].supervisions[0]
    assert (spoken.text, spoken.speaker, spoken.gender) == ("The airplane is almost full", "1070", "female")
    assert spoken.custom == {
        "intended": "angry",
        "heard": "disgust",
        "level": "high",
        "corpus": "crema-d",
        "emotion": "angry",
        "activation": 5.34,
        "valence": 2.83,
        "dominance": 5.29,
        "scale": {"name": "1-7 (proxy)", "low": 1.0, "high": 7.0},
    }
    assert cuts["train"]["1001_IEO_NEU_XX"].supervisions[0].gender == "male"
    fearful = cuts["test"]["1090_WSI_FEA_MD"].supervisions[0].custom
    assert fearful == {"intended": "fearful", "level": "medium", "emotion": "fearful"}
    assert not report.problems


def test_what_listeners_heard(corpus, tmp_path, cuts_of, reasons) -> None:
    report = prepare("crema-d", corpus, tmp_path / "out", category="heard")
    cuts = cuts_of(report)
    assert cuts["dev"]["1070_TAI_ANG_HI"].supervisions[0].custom["emotion"] == "disgust"
    assert "valence" not in cuts["dev"]["1070_TAI_ANG_HI"].supervisions[0].custom
    assert cuts["train"]["1001_IEO_NEU_XX"].supervisions[0].custom["valence"] == 4.10
    assert reasons(report) == {"tied votes": ["1001_IEO_HAP_LO"], "no vote": ["1090_WSI_FEA_MD"]}
    assert sum(split.utterances for split in report.splits.values()) == 4


def test_a_clone_without_lfs(corpus, tmp_path) -> None:
    for path in (corpus / "AudioWAV").iterdir():
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 76140\n")
    with pytest.raises(CorpusError, match="4 x audio is a Git LFS pointer"):
        prepare("crema-d", corpus, tmp_path / "out")
    assert "git lfs pull" in (tmp_path / "out" / "report.json").read_text()


def test_faults(corpus, tmp_path, write_speech, reasons) -> None:
    write_speech(corpus / "AudioWAV" / "1001_XXX_NEU_XX.wav")
    (corpus / "AudioWAV" / "1001_DFA_SAD_XX.wav").touch()
    (corpus / "VideoDemographics.csv").unlink()
    summary = corpus / "processedResults" / "summaryTable.csv"
    summary.write_text(SUMMARY.replace("VoiceVote", "Vote"))
    assert reasons(prepare("crema-d", corpus, tmp_path / "out")) == {
        "audio is empty": ["1001_DFA_SAD_XX"],
        "column is missing": [f"{summary}, line 2"],
        "not a CREMA-D name": [str(corpus / "AudioWAV" / "1001_XXX_NEU_XX.wav")],
        "table is missing": ["VideoDemographics.csv"],
    }
    with pytest.raises(CorpusError, match="category"):
        prepare("crema-d", corpus, tmp_path / "out", category="seen")


@pytest.mark.parametrize("fetched", ["both", "AudioWAV", "AudioMP3"])
def test_each_clip_is_there_as_wav_and_as_mp3(corpus, tmp_path, cuts_of, write_speech, fetched: str) -> None:
    for wav in sorted((corpus / "AudioWAV").glob("*.wav")):
        mp3 = corpus / "AudioMP3" / f"{wav.stem}.mp3"
        write_speech(mp3)
        for path in (wav, mp3):
            if fetched not in ("both", path.parent.name):
                path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    report = prepare("crema-d", corpus, tmp_path / "out")
    files = {cut.recording.sources[0].source for found in cuts_of(report).values() for cut in found.values()}
    assert len(files) == 4
    assert {Path(file).parent.name for file in files} == {"AudioMP3" if fetched == "AudioMP3" else "AudioWAV"}
    assert not report.problems
