"""The engine gives the same samples at every call, takes text as text, and obeys its settings."""

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sa2sr.corpora import espeak
from sa2sr.corpora.espeak import MAX_CHARACTERS, Prosody, languages, speak, variants
from sa2sr.errors import SynthesisError, UserError

TEXT = "the garden was a wonderful surprise"


def digest(voice: str, text: str = TEXT, prosody: Prosody | None = None) -> str:
    return hashlib.sha256(speak(text, voice, prosody)[0].tobytes()).hexdigest()


def fundamental(samples: np.ndarray, sampling_rate: int) -> np.ndarray:
    """F0 in Hz of the voiced frames: the highest peak of the normalised autocorrelation from 60 to 450 Hz."""
    size, found = int(0.04 * sampling_rate), []
    shortest, longest = sampling_rate // 450, sampling_rate // 60
    taper = np.hanning(size)
    bias = np.correlate(taper, taper, "full")[size - 1 :]
    for start in range(0, len(samples) - size, size // 4):
        frame = samples[start : start + size]
        if np.sqrt(np.mean(frame**2)) < 0.5 * np.sqrt(np.mean(samples**2)):
            continue
        frame = (frame - frame.mean()) * taper
        correlation = np.correlate(frame, frame, "full")[size - 1 :]
        correlation = correlation[:longest] / correlation[0] / (bias[:longest] / bias[0])
        lag = shortest + int(np.argmax(correlation[shortest:]))
        if correlation[lag] > 0.7:
            found.append(sampling_rate / lag)
    return np.array(found)


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(samples**2)))


def test_samples_are_a_clean_waveform() -> None:
    samples, sampling_rate = speak(TEXT)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert 16_000 <= sampling_rate <= 48_000
    assert 1 < len(samples) / sampling_rate < 4
    assert 0.02 < rms(samples) < 0.2
    assert np.abs(samples).max() < 0.99
    assert np.abs(samples[: sampling_rate // 200]).max() < 0.01  # no click at the beginning, nor at the end
    assert np.abs(samples[-sampling_rate // 200 :]).max() < 0.01


@pytest.mark.parametrize("voice", ["en-us", "en-us+f3", "en-gb+whisper", "en-us+croak", "en-us+Reed", "en-us+klatt4"])
def test_the_same_whatever_was_spoken_before(voice: str) -> None:
    first = digest(voice)
    for other in ("en-us+Demonic", voice, "en-gb+f2", "en-us+Alicia", "en-us+klatt"):
        speak("something else entirely, and rather longer than that", other, Prosody(rate_wpm=300, pitch=80))
        assert digest(voice) == first


def test_the_same_a_second_later() -> None:
    # the engine seeds its noise with the time in seconds, unless told otherwise
    voices = ("en-us+whisper", "en-us+klatt4", "en-us+Reed")
    first = [digest(voice) for voice in voices]
    time.sleep(1.1)
    assert [digest(voice) for voice in voices] == first


def test_the_same_in_another_process() -> None:
    voices = ["en-us+f2", "en-us+whisperf", "en-us+RicishayMax2"]
    program = (
        "import hashlib, sys; from sa2sr.corpora.espeak import speak\n"
        "for voice in sys.argv[2:]: print(hashlib.sha256(speak(sys.argv[1], voice)[0].tobytes()).hexdigest())"
    )
    order = voices[::-1]
    result = subprocess.run([sys.executable, "-c", program, TEXT, *order], capture_output=True, text=True, check=True)
    assert dict(zip(order, result.stdout.split(), strict=True)) == {voice: digest(voice) for voice in voices}


def test_the_same_from_many_threads() -> None:
    voices = ["en-us+f1", "en-us+m3", "en-us+whisper", "en-us+Annie"] * 3
    expected = {voice: digest(voice) for voice in set(voices)}
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(digest, voices)) == [expected[voice] for voice in voices]


def test_voices_differ() -> None:
    voices = [f"en-us+{name}" for name in ("f1", "f3", "m1", "m3", "Annie", "Andy", "croak", "whisper")]
    assert len({digest(voice) for voice in voices}) == len(voices)
    assert digest("en-us") != digest("en-gb")


def test_there_are_about_a_hundred_variants_and_they_speak() -> None:
    assert 90 <= len(variants()) <= 300
    assert list(variants()) == sorted(variants())
    assert variants()["f2"].gender == "female"
    assert variants()["m2"].gender == "male"
    assert {variant.gender for variant in variants().values()} <= {"female", "male", None}
    for name in list(variants())[::10]:
        assert rms(speak("hello there", f"en-us+{name}")[0]) > 0.005


def test_languages_are_listed() -> None:
    assert {"en-us", "en-gb"} <= set(languages())
    assert all(name.startswith("en") for name in languages())
    assert "de" in languages("")
    for name in languages():
        assert len(speak("hello", name)[0])


def test_markup_is_text() -> None:
    hello = len(speak("hello")[0])
    # as SSML the tag would be silent, as phonemes the brackets would hold one more hello
    assert len(speak("hello <voice name='de'>")[0]) > 2 * hello
    assert len(speak("hello [[h@l'oU]]")[0]) > 3 * hello
    for markup in ("<b>", "&amp;", "&#60;", "</speak>", "[[", "<!--"):
        assert len(speak(f"{markup} hello")[0]) >= hello


def test_a_leading_dash_and_an_accent_are_only_text() -> None:
    assert len(speak("-v is not an option")[0]) > len(speak("is not an option")[0])
    assert len(speak("café naïve 😀 привет")[0]) > len(speak("café")[0])


def test_control_characters_are_spaces() -> None:
    # \x01 begins espeak-ng's embedded commands: this one would set the pitch
    assert digest("en-us", "good \x0190P morning\x00, you") == digest("en-us", "good  90P morning , you")
    assert digest("en-us", "good\ud800morning") == digest("en-us", "good morning")


def test_rate_changes_duration() -> None:
    durations = [len(speak(TEXT, prosody=Prosody(rate_wpm=rate))[0]) for rate in (80, 120, 160, 220, 300, 450)]
    assert all(slower > 1.1 * faster for slower, faster in pairwise(durations))


@pytest.mark.parametrize("voice", ["en-us", "en-us+f3"])
def test_pitch_changes_f0(voice: str) -> None:
    medians = [np.median(fundamental(*speak(TEXT, voice, Prosody(pitch=pitch)))) for pitch in (10, 30, 50, 70, 90)]
    assert all(higher > 1.08 * lower for lower, higher in pairwise(medians)), medians


def test_pitch_range_changes_the_spread_of_f0() -> None:
    spreads = []
    for pitch_range in (0, 25, 50, 75, 99):
        f0 = fundamental(*speak(TEXT, "en-us+m3", Prosody(pitch_range=pitch_range)))
        low, high = np.percentile(f0, [10, 90])
        spreads.append(np.log2(high / low))
    assert all(wider > narrower for narrower, wider in pairwise(spreads)), spreads
    assert spreads[-1] > 2 * spreads[0]


def test_volume_changes_energy_only() -> None:
    spoken = [speak(TEXT, prosody=Prosody(volume=volume))[0] for volume in (10, 25, 50, 75, 100)]
    levels = [rms(samples) for samples in spoken]
    assert all(louder > 1.2 * softer for softer, louder in pairwise(levels)), levels
    assert len({len(samples) for samples in spoken}) == 1


@pytest.mark.parametrize(
    "wrong", [{"rate_wpm": 79}, {"rate_wpm": 451}, {"pitch": 100}, {"pitch_range": -1}, {"volume": 0}, {"pitch": 1.5}]
)
def test_prosody_out_of_range_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(SynthesisError, match=next(iter(wrong))):
        replace(Prosody(), **wrong)


@pytest.mark.parametrize(
    "voice", ["en-us+nobody", "nowhere", "en-us+", "", "en-us+../!v/f1", "../../etc/passwd", "en-us+f1\n", "en us"]
)
def test_an_unknown_voice_is_refused(voice: str) -> None:
    with pytest.raises(SynthesisError):
        speak(TEXT, voice)
    assert digest("en-us")  # and the engine is left in order


def test_the_nearest_variant_is_named() -> None:
    with pytest.raises(SynthesisError, match="Annie"):
        speak(TEXT, "en-us+annie")


@pytest.mark.parametrize("text", ["", " ", "...", "-", "\x01\x02"])
def test_a_text_without_words_is_refused(text: str) -> None:
    with pytest.raises(SynthesisError, match="nothing that can be spoken"):
        speak(text)


def test_the_length_of_a_text_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SynthesisError, match="5,001"):
        speak("a" * (MAX_CHARACTERS + 1))
    assert len(speak("word " * 40)[0])
    monkeypatch.setattr(espeak, "MAX_SECONDS", 1.0)
    with pytest.raises(SynthesisError, match="more than 1 s"):
        speak("word " * 40)


def test_data_in_a_deep_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, data = espeak._installation()
    expected = digest("en-us+f3")
    deep = tmp_path / ("d" * 90) / ("e" * 90) / "espeak-ng-data"
    deep.parent.mkdir(parents=True)
    os.symlink(data, deep)
    monkeypatch.setattr(espeak, "_installation", lambda: (library, str(deep)))
    assert digest("en-us+f3") == expected
    # without the short link the engine does not find its voices
    monkeypatch.setattr(espeak, "_short_path", lambda path: path)
    with pytest.raises(UserError):
        speak(TEXT, "en-us+f3")


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    espeak._installation.cache_clear()
    try:
        with pytest.raises(UserError, match=r'pip install "sa2sr\[demo\]"'):
            speak(TEXT)
    finally:
        espeak._installation.cache_clear()


def test_another_user_of_the_library_is_noticed() -> None:
    program = (
        "import ctypes, espeakng_loader; from sa2sr.corpora.espeak import speak; from sa2sr.errors import UserError\n"
        "held = ctypes.CDLL(espeakng_loader.get_library_path())\n"
        "try: speak('hello')\n"
        "except UserError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "in use by another package" in result.stdout
