"""Containers that libsndfile does not read."""

import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import correlate

from sa2sr.audio import opened, probe, read, verify
from sa2sr.containers import demuxer_of
from sa2sr.errors import AudioError

Voice = Callable[..., NDArray[np.float32]]
RATE = 48_000
KINDS = {  # name: codec, container, whether it is lossless
    "a.m4a": ("aac", "ipod", False),
    "a.mp4": ("aac", "mp4", False),
    "a.aac": ("aac", "adts", False),
    "a.webm": ("libopus", "webm", False),
    "a.mka": ("flac", "matroska", True),
    "a.mov": ("pcm_s16le", "mov", True),
}


def encode(path: Path, samples: NDArray[np.float32], codec: str, form: str, title: str = "", **options: str) -> Path:
    """Samples (channels, samples) at 48 kHz as a file."""
    layout = {1: "mono", 2: "stereo"}[len(samples)]
    with av.open(str(path), "w", format=form, options=options) as container:
        container.metadata["title"] = title
        track = container.add_stream(codec, rate=RATE, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = RATE, 0
        for each in (frame, None):
            container.mux(track.encode(each))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, voice: Voice) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("containers")
    samples = voice(3.0, 1, RATE)[None]
    return {name: encode(folder / name, samples, codec, form) for name, (codec, form, _) in KINDS.items()}


def test_a_title_need_not_be_unicode(tmp_path: Path, voice: Voice) -> None:
    path = encode(tmp_path / "a.m4a", voice(1.0, 1, RATE)[None], "aac", "ipod", title="four")
    expected, content = read(path, RATE), path.read_bytes()
    assert content.count(b"four") == 1
    path.write_bytes(content.replace(b"four", b"\xff\xfe\xe9r"))
    np.testing.assert_array_equal(read(path, RATE), expected)


@pytest.mark.parametrize("name", KINDS)
def test_what_was_encoded_comes_back(files: dict[str, Path], voice: Voice, name: str) -> None:
    info, decoded = probe(files[name]), read(files[name], RATE)
    assert (info.sampling_rate, info.channels) == (RATE, 1)
    assert info.seconds == pytest.approx(3.0, abs=0.1)
    assert len(decoded) / RATE == pytest.approx(3.0, abs=0.05)
    assert verify(files[name]).samples == len(decoded)
    original = voice(3.0, 1, RATE)
    if KINDS[name][2]:
        np.testing.assert_allclose(decoded[: len(original)], original, atol=1e-4)
        return
    # Codecs delay by some milliseconds; the best alignment must be close to the original.
    middle = original[RATE : RATE + 8_192]
    match = np.correlate(decoded[RATE - 4_096 : RATE + 8_192 + 4_096], middle, "valid")
    lag = int(match.argmax()) - 4_096
    assert np.corrcoef(decoded[RATE + lag : RATE + lag + 8_192], middle)[0, 1] > 0.95


@pytest.mark.parametrize(("name", "codec"), [("a.webm", "libopus"), ("a.mkv", "libopus"), ("a.mka", "aac")])
def test_the_first_packet_is_not_lost(tmp_path: Path, name: str, codec: str) -> None:
    """Its time is before zero, where codecs settle; the file is long enough to have an index, which seeks use."""
    noise = np.random.default_rng(0).normal(0, 0.1, 12 * RATE).astype(np.float32)
    path = encode(tmp_path / name, noise[None], codec, "webm" if name.endswith("webm") else "matroska")

    def lag(decoded: NDArray[np.float32], original: NDArray[np.float32]) -> int:
        return int(correlate(decoded, original).argmax()) - (len(original) - 1)

    decoded = read(path, RATE)
    assert lag(decoded, noise) == 0
    assert 0 <= len(decoded) - len(noise) < (1 if codec == "libopus" else 1_024)  # AAC fills its last frame
    assert lag(read(path, RATE, offset=7.5, duration=2.0), noise[15 * RATE // 2 :][: 2 * RATE]) == 0


@pytest.mark.parametrize("form", ["webm", "matroska"])
def test_a_truncated_file_that_knows_its_duration(tmp_path: Path, voice: Voice, form: str) -> None:
    speech = voice(8.0, 1, RATE)[None]
    path = encode(tmp_path / "a", speech, "libopus", form)
    assert len(read(path, RATE)) == 8 * RATE
    content = path.read_bytes()
    for kept in (0.3, 0.9):
        path.write_bytes(content[: int(kept * len(content))])
        for function in (probe, verify, lambda path: read(path, RATE)):
            with pytest.raises(AudioError, match="is truncated"):
                function(path)
    # A browser's recorder cannot go back to write the duration, and may be stopped anywhere.
    content = encode(path, speech, "libopus", form, live="1").read_bytes()
    assert len(read(path, RATE)) == 8 * RATE
    path.write_bytes(content[: len(content) // 2])
    assert len(read(path, RATE)) / RATE == pytest.approx(4.0, abs=1.0)


@pytest.mark.parametrize("name", KINDS)
def test_parts_and_blocks_join_to_the_whole(files: dict[str, Path], name: str) -> None:
    whole = read(files[name], 16_000)
    with opened(files[name]) as audio:
        np.testing.assert_allclose(np.concatenate(list(audio.blocks(16_000))), whole, atol=1e-6)
    with opened(files[name]) as audio:
        parts = list(audio.parts(16_000, 1.1))
    assert len(parts) == 3
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)
    exact = read(files[name], RATE)
    np.testing.assert_allclose(
        read(files[name], RATE, offset=1.25, duration=0.5), exact[60_000:84_000], rtol=0, atol=1e-6
    )


def test_far_into_a_file_decoding_begins_there(tmp_path: Path, voice: Voice) -> None:
    samples = np.tile(voice(7.0, 2, RATE), 6)
    path = encode(tmp_path / "long.m4a", samples[None], "aac", "ipod")
    whole = read(path, RATE)
    part = read(path, RATE, offset=35.5, duration=2.0)
    assert len(part) == 2 * RATE
    difference = np.abs(part - whole[35 * RATE + RATE // 2 :][: len(part)])
    assert np.median(difference) < 1e-5  # AAC replaces noise by other noise, which depends on where decoding began
    assert difference.mean() < 1e-3


def test_channels_are_averaged(tmp_path: Path, voice: Voice) -> None:
    left, right = voice(1.0, 1, RATE), voice(1.0, 2, RATE)
    path = encode(tmp_path / "stereo.mka", np.stack([left, right]), "flac", "matroska")
    assert probe(path).channels == 2
    np.testing.assert_allclose(read(path, RATE)[: len(left)], (left + right) / 2, atol=1e-4)
    np.testing.assert_allclose(read(path, RATE, channels=[1])[: len(left)], right, atol=1e-4)


def test_without_pyav_the_extra_is_named(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"PyAV: pip install 'sa2sr\[av\]'"):
        read(files["a.m4a"], 16_000)


@pytest.mark.parametrize("name", KINDS)
def test_damage_is_an_error_or_less_audio(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    content, random = files[name].read_bytes(), np.random.default_rng(0)
    whole = verify(files[name]).samples
    for seed in range(12):
        damaged = bytearray(content)
        if seed % 2:
            del damaged[int(random.uniform(0.02, 0.9) * len(damaged)) :]
        else:
            damaged[12:] = random.bytes(len(damaged) - 12)
        path = tmp_path / name
        path.write_bytes(damaged)
        assert demuxer_of(bytes(damaged[:16])) is not None
        try:
            assert len(read(path, RATE)) <= 1.01 * whole
        except AudioError as error:
            assert str(path) in str(error)  # noqa: PT017


def test_playlists_are_not_followed(files: dict[str, Path], tmp_path: Path) -> None:
    """FFmpeg would open what they name."""
    for number, text in enumerate(
        (f"#EXTM3U\n#EXTINF:3,\n{files['a.aac']}\n", f"ffconcat version 1.0\nfile {files['a.aac']}\n")
    ):
        path = tmp_path / f"{number}.m4a"
        path.write_text(text)
        with pytest.raises(AudioError, match="is not audio"):
            probe(path)


def test_a_film_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        track = container.add_stream("mpeg4", rate=5)
        track.width = track.height = 32
        for _ in range(3):
            container.mux(track.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(track.encode(None))
    with pytest.raises(AudioError, match="has no audio track"):
        read(path, 16_000)


def test_a_film_that_goes_on_without_sound(tmp_path: Path, voice: Voice) -> None:
    path = tmp_path / "film.mkv"
    with av.open(str(path), "w") as container:
        film, sound = container.add_stream("mpeg4", rate=5), container.add_stream("flac", rate=RATE, layout="mono")
        film.width = film.height = 32
        frame = av.AudioFrame.from_ndarray(voice(1.0, 1, RATE)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        for each in (frame, None):
            container.mux(sound.encode(each))
        for _ in range(15):
            container.mux(film.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(film.encode(None))
    assert len(read(path, RATE)) == RATE
