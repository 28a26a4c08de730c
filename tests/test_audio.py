import contextlib
import math
import os
import pickle
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sa2sr import audio
from sa2sr.audio import AudioInfo, change_speed, opened, probe, read, resample, to_mono, verify
from sa2sr.errors import AudioError

FORMATS: dict[str, dict[str, str]] = {
    "wav": {},
    "flac": {},
    "ogg": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3"},
    "aiff": {},
    "au": {},
    "w64": {},
}


def sine(hz: float, seconds: float, rate: int = 16_000) -> NDArray[np.float32]:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write(path: Path, samples: NDArray[np.float32], rate: int = 16_000) -> Path:
    soundfile.write(path, samples, rate, **FORMATS[path.suffix[1:]])
    return path


def frequency(waveform: NDArray[np.float32], rate: int) -> float:
    """The strongest frequency, to a fraction of a bin by zero padding."""
    size = 1 << 19
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), size))
    return float(np.argmax(spectrum)) * rate / size


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_keeps_duration_and_pitch(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", sine(440, 1.5))
    assert probe(path) == verify(path) == AudioInfo(16_000, 24_000, 1)
    waveform = read(path, 16_000)
    assert waveform.dtype == np.float32
    assert waveform.shape == (24_000,)
    assert frequency(waveform, 16_000) == pytest.approx(440, abs=0.5)


@pytest.mark.parametrize(("source", "target"), [(44_100, 16_000), (8_000, 16_000), (48_000, 16_000), (16_000, 22_050)])
def test_resampling_keeps_the_sine(tmp_path: Path, source: int, target: int) -> None:
    path = write(tmp_path / "a.wav", sine(1_000, 1.0, source), source)
    waveform = read(path, target)
    assert abs(len(waveform) - target) <= 1
    expected = sine(1_000, 1.0, target)
    middle = slice(target // 10, -target // 10)  # the filter's edges aside
    assert np.abs(waveform[: len(expected)][middle] - expected[: len(waveform)][middle]).max() < 1e-3


def test_resampling_removes_what_would_alias() -> None:
    assert np.abs(resample(sine(7_000, 1.0), 16_000, 8_000)[400:-400]).max() < 1e-3


@given(st.integers(1, 200), st.integers(2, 20), st.lists(st.integers(1, 50), min_size=1), st.integers(0, 99))
def test_the_mean_depends_on_the_channels_alone(samples: int, channels: int, at: list[int], seed: int) -> None:
    """Not on how they lie in memory, nor on where the audio is cut; and it is exact to the last bit but one."""
    audio = np.random.default_rng(seed).standard_normal((samples, channels)).astype(np.float32)
    whole = to_mono(audio)
    assert whole.dtype == np.float32
    np.testing.assert_array_max_ulp(whole, audio.astype(np.longdouble).mean(1).astype(np.float32), 1)
    np.testing.assert_array_equal(to_mono(np.asfortranarray(audio)), whole)
    np.testing.assert_array_equal(np.concatenate([to_mono(part) for part in np.split(audio, np.cumsum(at))]), whole)


def test_channels_are_averaged(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    samples = generator.uniform(-1, 1, (2_000, 8)).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    assert np.allclose(read(path, 16_000), samples.mean(1), atol=1e-6)
    assert np.allclose(read(path, 16_000, channels=[5]), samples[:, 5], atol=1e-6)
    assert np.allclose(read(path, 16_000, channels=[1, 6]), samples[:, [1, 6]].mean(1), atol=1e-6)
    for channels in ([8], [-1], []):
        with pytest.raises(AudioError, match="has 8 channel"):
            read(path, 16_000, channels=channels)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_part_equals_the_same_part_of_the_whole(tmp_path: Path, suffix: str) -> None:
    generator = np.random.default_rng(1)
    path = write(tmp_path / f"a.{suffix}", generator.uniform(-0.5, 0.5, 32_000).astype(np.float32))
    whole = read(path, 16_000)
    part = read(path, 16_000, offset=0.75, duration=0.5)
    # A decoder that starts in the middle of a lossy stream may differ by rounding.
    assert np.abs(part - whole[12_000:20_000]).max() < (1e-3 if suffix in ("ogg", "mp3") else 1e-9)
    assert len(read(path, 16_000, offset=1.5)) == 8_000
    assert len(read(path, 16_000, offset=1.5, duration=9.0)) == 8_000
    assert len(read(path, 16_000, offset=1.5, duration=1e305)) == 8_000
    spans = [{"offset": offset} for offset in (2.0, -0.1, math.nan, math.inf, 1e305, -1e305)]
    spans += [{"offset": 1.0, "duration": duration} for duration in (0.0, -1.0, math.nan)]
    for span in spans:
        with pytest.raises(AudioError):
            read(path, 16_000, **span)
        with opened(path) as file, pytest.raises(AudioError):
            list(file.parts(16_000, 30.0, **span))


def test_blocks_join_seamlessly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(2)
    samples = generator.uniform(-0.5, 0.5, (5_000, 3)).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    in_one = read(path, 16_000, offset=0.01)
    monkeypatch.setattr(audio, "_BLOCK_VALUES", 100)
    assert np.array_equal(read(path, 16_000, offset=0.01), in_one)
    assert verify(path) == AudioInfo(16_000, 5_000, 3)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.8])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, kept: float) -> None:
    generator = np.random.default_rng(3)
    path = write(tmp_path / f"a.{suffix}", generator.uniform(-0.5, 0.5, 48_000).astype(np.float32))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    for function in (verify, lambda path: read(path, 16_000)):
        with pytest.raises(AudioError, match=r"a\.\w+: ") as caught:
            function(path)
        assert "Traceback" not in str(caught.value)


def test_a_wav_written_to_a_pipe_is_not_truncated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sine(440, 1.0))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = struct.pack("<I", 0xFFFFFFFF)  # the length was not known yet
    path.write_bytes(content)
    assert len(read(path, 16_000)) == 16_000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b"not audio at all, but long enough to be something" * 20, "is not audio"),
    ],
)
def test_what_is_not_audio_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    for function in (probe, verify, lambda path: read(path, 16_000)):
        with pytest.raises(AudioError, match=reason):
            function(path)


def test_missing_files_folders_and_odd_names(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "none.wav", "does not exist"),
        (tmp_path, "is not a file"),
        ("a\0b", "does not exist|file name"),
    ):
        with pytest.raises(AudioError, match=reason):
            read(path, 16_000)
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    with pytest.raises(AudioError):
        probe(tmp_path / "loop.wav")


def test_a_name_that_is_not_unicode(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sine(440, 0.5)).rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    assert len(read(path, 16_000)) == 8_000
    path.write_bytes(b"not audio at all")
    with pytest.raises(AudioError, match="is not audio that libsndfile can read"):
        read(path, 16_000)


def test_empty_and_non_finite_audio(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0, np.float32), 16_000)
    with pytest.raises(AudioError, match="no samples"):
        read(tmp_path / "none.wav", 16_000)
    for bad in (np.nan, np.inf):
        samples = sine(440, 0.1)
        samples[7] = bad
        soundfile.write(tmp_path / "bad.wav", samples, 16_000, subtype="FLOAT")
        with pytest.raises(AudioError, match="not finite"):
            read(tmp_path / "bad.wav", 16_000)


def test_absurd_headers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "rate.wav", sine(440, 0.5))
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", 1)  # Hz: half a second would become two hours
    path.write_bytes(content)
    with pytest.raises(AudioError, match="1 Hz"):
        read(path, 16_000)
    soundfile.write(tmp_path / "many.wav", np.zeros((10, 300), np.float32), 16_000)
    with pytest.raises(AudioError, match="300 channel"):
        read(tmp_path / "many.wav", 16_000)


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_give_finite_audio_or_an_audio_error(tmp_path: Path, suffix: str) -> None:
    dice = random.Random(suffix)
    generator = np.random.default_rng(4)
    path = write(tmp_path / f"a.{suffix}", generator.uniform(-0.3, 0.3, (4_000, 2)).astype(np.float32))
    content = path.read_bytes()
    for _ in range(40):
        damaged = bytearray(content)
        for _ in range(dice.choice([1, 4, 40])):
            damaged[dice.randrange(dice.choice([64, len(damaged)]))] = dice.randrange(256)
        path.write_bytes(damaged[: dice.randrange(len(damaged))] if dice.random() < 0.3 else damaged)
        with contextlib.suppress(AudioError):
            assert np.isfinite(read(path, 16_000)).all()


def test_speed_divides_duration_and_multiplies_pitch() -> None:
    for factor in (0.9, 1.1):
        changed = change_speed(sine(500, 1.0), factor)
        assert len(changed) == pytest.approx(16_000 / factor, abs=1)
        assert frequency(changed, 16_000) == pytest.approx(500 * factor, abs=0.5)
    assert np.array_equal(change_speed(sine(500, 1.0), 1.0), sine(500, 1.0))


def test_very_short_audio_survives_resampling() -> None:
    for samples in (1, 2, 3):
        assert resample(np.ones(samples, np.float32), 48_000, 8_000).size >= 1


def test_errors_come_back_from_worker_processes() -> None:
    error = pickle.loads(pickle.dumps(AudioError("a.wav", "is empty")))
    assert (error.path, error.reason, str(error)) == ("a.wav", "is empty", "a.wav: is empty")


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("samples", [1, 2, 5, 1_000, 30_011])
def test_parts_joined_are_the_file(tmp_path: Path, rate: int, samples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_BLOCK_VALUES", 700)
    noise = np.random.default_rng(samples).uniform(-0.5, 0.5, (samples, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, rate, subtype="FLOAT")
    whole = read(tmp_path / "a.wav", 16_000)
    for longest in (0.3, 1.0, 10.0):
        with opened(tmp_path / "a.wav") as file:
            parts = list(file.parts(16_000, longest))
        np.testing.assert_array_equal(np.concatenate(parts), whole)
        assert len(parts) == max(1, math.ceil(samples / rate / longest)) or longest < 1  # half a second of slack
        assert max(map(len, parts)) - min(map(len, parts)) <= max(len(parts), 8_000 if longest < 1 else 0)


def test_parts_of_a_truncated_file_end_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "_BLOCK_VALUES", 16_000)
    path = write(tmp_path / "a.flac", sine(200, 20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with opened(path) as file:
        parts = file.parts(16_000, 2.0)
        assert len(next(parts)) == 2 * 16_000
        with pytest.raises(AudioError, match="truncated"):
            list(parts)
