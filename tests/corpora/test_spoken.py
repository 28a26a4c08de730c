"""A spoken corpus is the same bytes however it came about, and nothing in it is lost silently."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sa2sr.audio import resample
from sa2sr.config import Scale
from sa2sr.corpora import spoken
from sa2sr.corpora.espeak import Prosody, speak
from sa2sr.corpora.spoken import SpokenUtterance, speak_corpus, without_punctuation
from sa2sr.cuts import Cut, custom_fields, read_cuts
from sa2sr.errors import CorpusError

Contents = Callable[[Path], dict[str, str]]
SCALE = Scale(name="1-5", low=1, high=5)


def some(count: int) -> list[SpokenUtterance]:
    return [
        SpokenUtterance(f"u{number:03}", f"this is number {number}", "en-us+f2" if number % 2 else "en-gb+m3")
        for number in range(count)
    ]


def only(cuts: Sequence[Cut] | Path) -> Cut:
    (cut,) = read_cuts(cuts) if isinstance(cuts, Path) else cuts
    return cut


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_files_and_cuts(tmp_path: Path, suffix: str) -> None:
    utterance = SpokenUtterance(
        "A/1",
        "It isn't -- <b>bad</b>!",
        "en-gb+f3",
        Prosody(rate_wpm=150, pitch=60),
        "test",
        emotion="neutral",
        ratings={"valence": 3.5, "activation": 2},
        scale=SCALE,
        custom={"topic": "weather"},
    )
    report = speak_corpus([utterance], tmp_path, suffix=suffix)
    assert report.problems == []
    assert report.manifests == {"test": tmp_path / "test.jsonl.gz"}
    cut = only(report.manifests["test"])
    supervision = cut.supervisions[0]
    assert (cut.id, supervision.text, supervision.speaker, supervision.gender) == (
        "A/1",
        utterance.text,
        "f3",
        "female",
    )
    assert custom_fields(cut) == {
        "emotion": "neutral",
        "activation": 2.0,
        "valence": 3.5,
        "scale": SCALE.model_dump(),
        "corpus": "spoken",
        "topic": "weather",
        "voice": "en-gb+f3",
        "prosody": {"rate_wpm": 150, "pitch": 60, "pitch_range": 50, "volume": 70},
    }
    path = Path(cut.recording.sources[0].source)
    assert path.parent == tmp_path / "audio"
    assert path.suffix == suffix
    written, rate = soundfile.read(path, dtype="float32")
    assert rate == cut.sampling_rate == 16_000
    samples, own_rate = speak(utterance.text, utterance.voice, utterance.prosody)
    np.testing.assert_allclose(written, resample(samples, own_rate, rate), atol=1 / 32768)
    assert cut.num_samples == len(written)


def test_loud_speech_is_clipped_and_does_not_wrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = 1.5 * np.sin(np.arange(22_050) * 0.05).astype(np.float32)
    monkeypatch.setattr(spoken, "speak", lambda *_: (wave, 22_050))
    report = speak_corpus([SpokenUtterance("a", "x")], tmp_path)
    written, _ = soundfile.read(only(report.manifests["train"]).recording.sources[0].source, dtype="float32")
    assert np.abs(np.diff(written)).max() < 0.2
    assert written.max() > 0.99


def test_punctuation_can_be_left_unspoken(tmp_path: Path) -> None:
    utterances = [SpokenUtterance("a", "Really? You won!"), SpokenUtterance("b", "Really You won")]
    report = speak_corpus(utterances, tmp_path, strip_punctuation=True)
    stripped, plain = read_cuts(report.manifests["train"])
    assert stripped.supervisions[0].text == "Really? You won!"
    assert np.array_equal(stripped.load_audio(), plain.load_audio())
    (rendered,) = read_cuts(speak_corpus(utterances[:1], tmp_path / "rendered").manifests["train"])
    assert rendered.num_samples != stripped.num_samples


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Well, it's 'fine' -- isn't it?!", "Well it's fine isn't it"),
        ("the dog\N{RIGHT SINGLE QUOTATION MARK}s_bone (50%)", "the dog's bone 50"),
        ("- caf\u00e9\u2026 \u201cyes\u201d", "caf\u00e9 yes"),
        ("...", ""),
    ],
)
def test_without_punctuation(text: str, words: str) -> None:
    assert without_punctuation(text) == words


def test_order_and_number_of_processes_do_not_matter(
    tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spoken, "_CHUNK", 10)
    utterances = some(40)
    speak_corpus(utterances, tmp_path / "one", jobs=1, allow_speaker_overlap=True)
    speak_corpus(utterances[::-1], tmp_path / "two", jobs=2, allow_speaker_overlap=True)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert len(contents(tmp_path / "one")) == 40 + 2  # a manifest and a report


def test_killed_half_way_and_resumed(tmp_path: Path, contents: Contents) -> None:
    utterances = some(80)
    speak_corpus(utterances, tmp_path / "straight")
    program = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from test_spoken import some; from sa2sr.corpora.spoken import speak_corpus\n"
        "speak_corpus(some(80), sys.argv[1])"
    )
    folder = tmp_path / "resumed"
    process = subprocess.Popen([sys.executable, "-c", program, str(folder), str(Path(__file__).parent)])
    deadline = time.monotonic() + 60
    while len(list(folder.glob("audio/u*.flac"))) < 20 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("audio/u*.flac")}
    assert 20 <= len(before) < 80
    assert not (folder / "train.jsonl.gz").exists()
    speak_corpus(utterances, folder)
    assert contents(folder) == contents(tmp_path / "straight")
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())  # kept, not spoken again


def test_what_changed_is_spoken_again_and_what_is_damaged_too(tmp_path: Path) -> None:
    first, second = some(2)
    before = only(speak_corpus([first], tmp_path).manifests["train"])
    path = Path(before.recording.sources[0].source)
    good = path.read_bytes()
    for changed in (
        replace(first, text="other words"),
        replace(first, voice="en-gb+m1"),
        replace(first, prosody=Prosody(volume=40)),
    ):
        after = only(speak_corpus([changed], tmp_path).manifests["train"])
        assert Path(after.recording.sources[0].source).read_bytes() != good
    assert path.read_bytes() == good
    relabelled = only(speak_corpus([replace(first, split="dev", custom={"a": 1})], tmp_path).manifests["dev"])
    assert relabelled.recording.sources[0].source == str(path)
    path.write_bytes(b"")
    speak_corpus([first, second], tmp_path, allow_speaker_overlap=True)
    assert path.read_bytes() == good


def test_what_cannot_be_spoken_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    utterances = [
        SpokenUtterance("fine", "good morning"),
        SpokenUtterance("empty", ""),
        SpokenUtterance("dots", "..."),
        SpokenUtterance("long", "a" * 6_000),
        SpokenUtterance("nobody", "hello", "en-us+nobody"),
        SpokenUtterance("fine", "good evening"),
        SpokenUtterance("wild", "good night", ratings={"valence": 9}, scale=SCALE),
        SpokenUtterance("../up", "hello there"),
    ]
    report = speak_corpus(utterances, tmp_path / "out")
    assert {(problem.item, problem.reason) for problem in report.problems} == {
        ("empty", "text cannot be spoken"),
        ("dots", "text cannot be spoken"),
        ("long", "text cannot be spoken"),
        ("nobody", "text cannot be spoken"),
        ("fine", "id occurs twice"),
        ("wild", "rating is outside the scale"),
    }
    cuts = {cut.id: cut for cut in read_cuts(report.manifests["train"])}
    assert set(cuts) == {"fine", "wild", "../up"}
    assert "valence" not in custom_fields(cuts["wild"])
    assert Path(cuts["../up"].recording.sources[0].source).parent == tmp_path / "out" / "audio"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_nothing_spoken_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="text cannot be spoken"):
        speak_corpus([SpokenUtterance("a", "")], tmp_path)


def test_voices_in_several_splits_are_refused_unless_asked_for(tmp_path: Path) -> None:
    utterances = [
        SpokenUtterance("a", "hello", "en-us+f1", split="train"),
        SpokenUtterance("b", "goodbye", "en-gb+f1", split="test"),
    ]
    with pytest.raises(CorpusError, match=r"f1 \(test, train\)"):
        speak_corpus(utterances, tmp_path)
    assert set(speak_corpus(utterances, tmp_path, allow_speaker_overlap=True).manifests) == {"train", "test"}
