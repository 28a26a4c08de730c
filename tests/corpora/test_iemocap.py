from pathlib import Path

import pytest

from sa2sr.corpora import prepare
from sa2sr.errors import CorpusError

EVALUATION = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes0{n}F_impro01_F000\tneu\t[2.5000, 2.0000, 3.0000]
C-E2:\tNeutral;\t()
C-E4:\tNeutral;\t()
A-E3:\tval 3; act 2; dom  2;\t()
A-F1:\tval 3; act 2; dom  1;\t()

[10.0100 - 11.3925]\tSes0{n}F_impro01_M001\texc\t[4.5000, 4.0000, 3.5000]
C-E2:\tExcited;\t()

[14.8872 - 18.0175]\tSes0{n}F_impro01_F002\txxx\t[2.5000, 2.5000, 2.0000]
"""
TRANSCRIPTION = """\
Ses0{n}F_impro01_F000 [006.2901-008.2357]: Excuse me.
Ses0{n}F_impro01_M001 [010.0100-011.3925]: Great!
Ses0{n}F_impro01_MXX0 [012.0000-012.3925]: [LAUGHTER]
M: Yeah.
Ses0{n}F_impro01_F002 [014.8872-018.0175]: Is there a problem?
"""


@pytest.fixture
def corpus(tmp_path, write_speech) -> Path:
    root = tmp_path / "IEMOCAP_full_release"
    for n in range(1, 6):
        session, dialog = root / f"Session{n}", f"Ses0{n}F_impro01"
        for folder, text in (("EmoEvaluation", EVALUATION), ("transcriptions", TRANSCRIPTION)):
            (session / "dialog" / folder).mkdir(parents=True)
            (session / "dialog" / folder / f"{dialog}.txt").write_text(text.replace("{n}", str(n)))
            (session / "dialog" / folder / f"._{dialog}.txt").write_bytes(b"\x00\x05\x16\x07")
        (session / "dialog" / "EmoEvaluation" / "Categorical").mkdir()
        (session / "dialog" / "EmoEvaluation" / "Categorical" / f"{dialog}_e2_cat.txt").write_text("x :Neutral; ()\n")
        write_speech(session / "dialog" / "wav" / f"{dialog}.wav", channels=2)
        for turn in ("F000", "M001", "F002"):
            write_speech(session / "sentences" / "wav" / dialog / f"{dialog}_{turn}.wav")
    return root


def test_official_files(corpus, tmp_path, cuts_of, reasons) -> None:
    report = prepare("iemocap", corpus, tmp_path / "out")
    cuts = cuts_of(report)
    assert {split: len(found) for split, found in cuts.items()} == {"dev": 3, "test": 3, "train": 9}
    spoken = cuts["train"]["Ses01F_impro01_F000"].supervisions[0]
    # The file has valence, activation, dominance in this order.
    assert spoken.custom == {
        "session": 1,
        "corpus": "iemocap",
        "emotion": "neutral",
        "activation": 2.0,
        "valence": 2.5,
        "dominance": 3.0,
        "scale": {"name": "1-5", "low": 1.0, "high": 5.0},
    }
    assert (spoken.text, spoken.speaker, spoken.gender) == ("Excuse me.", "Ses01F", "female")
    other = cuts["train"]["Ses01F_impro01_M001"].supervisions[0]
    assert (other.text, other.speaker, other.gender, other.custom["emotion"]) == ("Great!", "Ses01M", "male", "excited")
    assert "emotion" not in cuts["test"]["Ses05F_impro01_F002"].supervisions[0].custom
    assert cuts["test"]["Ses05F_impro01_F002"].supervisions[0].text == "Is there a problem?"
    assert reasons(report) == {"unexpected number of turns": [str(corpus)]}
    assert "15 instead of the 10,039" in report.problems[0].detail


def test_folds_and_merging(corpus, tmp_path, cuts_of) -> None:
    report = prepare("iemocap", corpus.parent, tmp_path / "out", test_sessions="1", dev_sessions="", merge_excited=True)
    cuts = cuts_of(report)
    assert {split: len(found) for split, found in cuts.items()} == {"test": 3, "train": 12}
    assert {cut.supervisions[0].speaker for cut in cuts["test"].values()} == {"Ses01F", "Ses01M"}
    assert cuts["test"]["Ses01F_impro01_M001"].supervisions[0].custom["emotion"] == "happy"


def test_faults(corpus, tmp_path, cuts_of, reasons) -> None:
    evaluation = corpus / "Session2" / "dialog" / "EmoEvaluation" / "Ses02F_impro01.txt"
    with evaluation.open("ab") as file:
        file.write(
            b"[1.0 - 2.0]\tSes02F_impro01_F003\tbored\t[2.5000, 2.5000, 2.0000]\n"
            b"[1.0 - 2.0]\tSes02F_impro01_F004\tneu\t[2.5000, 5.5000, 2.0000]\n"
            b"[1.0 - 2.0]\tSes02F_impro01_F004 half a li\n"
            b"[1.0 - 2.0]\tSes02F_\xe9\tneu\t[2.5000, 2.5000, 2.0000]\n"
        )
    wav = corpus / "Session2" / "sentences" / "wav" / "Ses02F_impro01"
    (wav / "Ses02F_impro01_F003.wav").write_bytes((wav / "Ses02F_impro01_F000.wav").read_bytes())
    (wav / "Ses02F_impro01_F004.wav").write_bytes((wav / "Ses02F_impro01_F000.wav").read_bytes())
    (wav / "Ses02F_impro01_F000.wav").unlink()
    report = prepare("iemocap", corpus, tmp_path / "out")
    assert reasons(report) == {
        "audio does not exist": ["Ses02F_impro01_F000"],
        "line in another encoding": [f"{evaluation}, line 16"],
        "no transcript": ["Ses02F_impro01_F003", "Ses02F_impro01_F004"],
        "not a turn": [f"{evaluation}, line 15"],
        "rating is outside the scale": ["Ses02F_impro01_F004"],
        "unexpected number of turns": [str(corpus)],
        "unknown emotion": ["Ses02F_impro01_F003"],
    }
    assert cuts_of(report)["train"]["Ses02F_impro01_F003"].supervisions[0].custom["valence"] == 2.5


def test_a_comment_in_another_encoding_loses_nothing(corpus, tmp_path, reasons) -> None:
    evaluation = corpus / "Session2" / "dialog" / "EmoEvaluation" / "Ses02F_impro01.txt"
    with evaluation.open("ab") as file:
        file.write(b"C-E4:\tOther;\t(blas\xe9)\n[1.0 - 2.0]\tSes02F_\xe9\tneu\t[2.5, 2.5, 2.0]\n")
    report = prepare("iemocap", corpus, tmp_path / "out")
    assert reasons(report) == {
        "line in another encoding": [f"{evaluation}, line 14"],
        "unexpected number of turns": [str(corpus)],
    }
    assert report.counts()["line", "line in another encoding"] == 1


def test_not_iemocap(tmp_path) -> None:
    with pytest.raises(CorpusError, match="EmoEvaluation"):
        prepare("iemocap", tmp_path, tmp_path / "out")
