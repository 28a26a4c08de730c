import io
import json
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sa2sr.audio import Resampler, opened, resample
from sa2sr.cli import main
from sa2sr.config import DIMENSIONS
from sa2sr.errors import AudioError, ModelError
from sa2sr.inference import load, read_table
from sa2sr.inference.clips import mono
from sa2sr.inference.export import export
from sa2sr.inference.model import Model
from sa2sr.inference.pipe import Pipe
from sa2sr.inference.table import Row
from sa2sr.inference.windows import Cutter, Windows

RandomModel = Callable[..., Path]
Voice = Callable[..., NDArray[np.float32]]
RATE = 16_000


@pytest.fixture(scope="module")
def folder(random_model: RandomModel) -> Path:
    return random_model(gain=4)


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return load(folder, engine="onnx")


def pieces(samples: NDArray, sizes: list[int]) -> Iterator[NDArray]:
    """Cut along the last axis into pieces of these sizes, over and over."""
    begin, turn = 0, 0
    while begin < samples.shape[-1]:
        yield samples[..., begin : begin + sizes[turn % len(sizes)]]
        begin, turn = begin + sizes[turn % len(sizes)], turn + 1


def spans(rows: object) -> list[tuple[float, float]]:
    return [(row.start, row.end) for row in rows]  # type: ignore[attr-defined]


# --- Windows ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 300), st.integers(1, 40), st.integers(1, 40), st.lists(st.integers(0, 70), min_size=1))
def test_windows_cover_all_audio_whatever_the_blocks(samples: int, one: int, other: int, blocks: list[int]) -> None:
    hop, size = sorted((one, other))
    audio = np.arange(1, samples + 1, dtype=np.float32)
    cutter = Cutter(Windows(size / 10, hop / 10), 10)  # ten samples a second
    parts = [part for block in pieces(audio, [*blocks, 1]) for part in cutter.push(block)]
    full = len(parts)
    parts += cutter.flush()
    for index, (start, waveform) in enumerate(parts):
        assert start == index * hop
        np.testing.assert_array_equal(waveform, audio[start : start + size])
        assert len(waveform) == size or index == len(parts) - 1
    assert len(parts) - full <= 1
    assert {int(x) for _, waveform in parts for x in waveform} == set(range(1, samples + 1))
    ends = [start + len(waveform) for start, waveform in parts]
    assert all(end < samples for end in ends[:-1])  # the first that reaches the end is the last
    assert not samples or ends[-1] == samples


def test_a_block_that_completes_no_window_is_all_that_is_copied() -> None:
    cutter = Cutter(Windows(600, 600), RATE)
    cutter.push(np.zeros(500 * RATE, np.float32))
    one = np.zeros(1, np.float32)
    cutter.push(one)
    tracemalloc.start()
    try:
        assert not any(cutter.push(one) for _ in range(100))
        assert tracemalloc.get_traced_memory()[1] < 100_000  # bytes; the window has 38 million
    finally:
        tracemalloc.stop()


def test_blocks_may_be_overwritten(voice: Voice) -> None:
    """As by a microphone that has one buffer."""
    speech, buffer = voice(1.0), np.empty(100, np.float32)
    cutter, parts = Cutter(Windows(0.5, 0.3), RATE), []
    for block in speech.reshape(-1, 100):
        buffer[:] = block
        parts += cutter.push(buffer)
    for start, waveform in (*parts, *cutter.flush()):
        np.testing.assert_array_equal(waveform, speech[start : start + 8_000])


def test_windows_of_a_file(model: Model, voice: Voice, tmp_path: Path) -> None:
    speech = voice(10.3)
    soundfile.write(tmp_path / "a.wav", speech, RATE, subtype="FLOAT")
    table = model.predict(tmp_path / "a.wav", window=6, hop=2)
    assert spans(table) == [(0, 6), (2, 8), (4, 10), (6, 10.3)]
    for row in table:
        (alone,) = model.predict(speech[round(row.start * RATE) : round(row.end * RATE)], RATE)
        assert [getattr(row, d) for d in DIMENSIONS] == [getattr(alone, d) for d in DIMENSIONS]
    assert np.std(table.column("valence")) > 0.01
    assert model.predict(speech, RATE, window=6, hop=2, name=str(tmp_path / "a.wav")) == table
    assert spans(model.predict(speech, RATE, window=4)) == [(0, 4), (4, 8), (8, 10.3)]
    assert spans(model.predict(speech, RATE, window=20, hop=1)) == [(0, 10.3)]
    assert [row.note for row in model.predict(speech, RATE, window=10.2)] == ["", "short"]


@pytest.mark.parametrize(
    ("window", "hop"), [(2, 3), (0, None), (-1, -1), (1, 0), (float("nan"), 1), (2, float("nan")), (1e9, 1)]
)
def test_windows_that_cannot_be(model: Model, window: float, hop: float | None) -> None:
    with pytest.raises(ValueError, match="so that every sample is heard"):
        model.predict(np.ones(100), RATE, window=window, hop=hop)
    with pytest.raises(ValueError, match="so that every sample is heard"):
        model.stream(RATE, window=window, hop=hop or 0)
    with pytest.raises(ValueError, match=r"a hop \(1 s\) needs a window"):
        model.predict(np.ones(100), RATE, hop=1)


def test_memory_is_bounded_by_a_window(model: Model, voice: Voice, tmp_path: Path) -> None:
    """Ten minutes would be 38 MB."""
    chunk = voice(10.0)
    stream = model.stream(RATE, window=5, hop=4)
    stream.push(chunk)
    tracemalloc.start()
    rows = [row for _ in range(60) for row in stream.push(chunk)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 150
    assert peak < 15e6
    waiting = stream._cutter._waiting
    assert len(waiting) < 5 * RATE
    assert waiting.base is None  # nor does it hold what it was cut from


# --- Streams are the same as files ------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(
    seconds=st.floats(0.001, 4),
    rate=st.sampled_from([16_000, 8_000, 44_100, 48_000, 11_025]),
    window=st.sampled_from([0.5, 1.0, 2.0]),
    overlap=st.sampled_from([1, 2, 3.3]),
    sizes=st.lists(st.integers(1, 60_000), min_size=1, max_size=5),
    kind=st.sampled_from(["float32", "float64", "int16"]),
    channels=st.sampled_from([1, 2, 3, 8]),
)
@example(0.0001, 44_100, 1.0, 1, [1], "float32", 1)
@example(1.0, 48_000, 0.5, 2, [7, 160, 480], "int16", 2)
@example(1.0, 16_000, 0.5, 2, [1, 7, 160], "float32", 8)
def test_a_stream_equals_the_whole(
    model: Model,
    voice: Voice,
    seconds: float,
    rate: int,
    window: float,
    overlap: float,
    sizes: list[int],
    kind: str,
    channels: int,
) -> None:
    speech: NDArray = np.stack([voice(seconds, seed, rate) for seed in range(channels)])
    samples = np.rint(speech * 32767).astype(np.int16) if kind == "int16" else speech.astype(kind)
    samples = samples[0] if channels == 1 else samples
    options = {"window": window, "hop": window / overlap, "name": "call"}
    expected = model.predict(samples, rate, **options)
    stream = model.stream(rate, channels=channels, **options)
    rows = [row for piece in pieces(samples, sizes) for row in stream.push(piece)]
    assert len(rows) <= len(expected)
    assert [*rows, *stream.flush()] == expected.rows
    assert stream.flush() == []


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 5000),
    st.sampled_from([8_000, 11_025, 16_001, 44_100, 96_000]),
    st.lists(st.integers(1, 900), min_size=1, max_size=5),
)
@example(1, 96_000, [1])
def test_resampling_in_blocks_is_resampling(samples: int, rate: int, sizes: list[int]) -> None:
    audio = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    resampler = Resampler(rate, RATE)
    blocks = [*map(resampler.push, pieces(audio, sizes)), resampler.flush()]
    np.testing.assert_array_equal(np.concatenate(blocks), resample(audio, rate, RATE))


def test_rows_come_as_soon_as_their_window_is_complete(model: Model, voice: Voice) -> None:
    speech = voice(5.0)
    stream = model.stream(RATE, window=2, hop=1)
    when = [
        (begin + 100, row) for begin in range(0, len(speech), 100) for row in stream.push(speech[begin : begin + 100])
    ]
    assert [(heard / RATE, row.end) for heard, row in when] == [(2, 2), (3, 3), (4, 4), (5, 5)]
    assert stream.flush() == []
    # Resampling looks ahead a little.
    stream, speech = model.stream(48_000, window=2, hop=1), voice(5.0, rate=48_000)
    when = [
        (begin + 480, row) for begin in range(0, len(speech), 480) for row in stream.push(speech[begin : begin + 480])
    ]
    assert all(row.end <= heard / 48_000 < row.end + 0.1 for heard, row in when)


def test_the_torch_engine_streams_too(folder: Path, voice: Voice) -> None:
    model = load(folder, engine="torch")
    expected = model.predict(voice(3.0), RATE, window=1, hop=0.5, name="stream")
    stream = model.stream(RATE, window=1, hop=0.5)
    rows = [row for piece in pieces(voice(3.0), [4000]) for row in stream.push(piece)] + stream.flush()
    assert spans(rows) == spans(expected)
    for dimension in DIMENSIONS:
        numbers = [getattr(row, dimension) for row in rows]
        np.testing.assert_allclose(numbers, expected.column(dimension), rtol=0, atol=6e-5)


def test_a_front_end_is_the_same_in_streams_files_and_exports(
    random_model: RandomModel, voice: Voice, tmp_path: Path
) -> None:
    folder = random_model(gain=4, floor_db=40, normalised="together", filters=24)
    samples = np.concatenate([voice(2.0), np.zeros(8_000, np.float32), 0.01 * voice(2.0, 1)])
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    model = load(folder, engine="torch")
    expected = model.predict(samples, RATE, window=1.5, hop=0.5)
    exported = load(export(folder, tmp_path / "exported"))
    stream = exported.stream(RATE, window=1.5, hop=0.5)
    rows = [row for piece in pieces(samples, [1_234]) for row in stream.push(piece)] + stream.flush()
    of_file = model.predict(tmp_path / "a.wav", window=1.5, hop=0.5)
    for dimension in DIMENSIONS:
        numbers = expected.column(dimension)
        assert np.ptp(numbers) > 0.01
        np.testing.assert_allclose([getattr(row, dimension) for row in rows], numbers, rtol=0, atol=6e-5)
        np.testing.assert_allclose(of_file.column(dimension), numbers, rtol=0, atol=6e-5)


def test_chunks_that_are_not_audio(model: Model, random_model: RandomModel, voice: Voice) -> None:
    speech = voice(3.0)
    stream = model.stream(RATE, window=1, hop=1)
    stream.push(speech[:5000])
    for bad, reason in (
        (np.full(10, np.nan), "not finite"),
        (np.zeros((2, 10)), r"must be \(samples,\), not \(2, 10\)"),
        (np.zeros((1, 2, 10)), "must be"),
        (np.array(["a"]), "must be numbers"),
    ):
        with pytest.raises(AudioError, match=reason):
            stream.push(bad)
    assert stream.push(speech[:0]) == []
    rows = stream.push(speech[5000:]) + stream.flush()
    assert rows == model.predict(speech, RATE, window=1, name="stream").rows
    with pytest.raises(ValueError, match="is over"):
        stream.push(speech)
    assert model.stream(RATE).flush() == []
    with pytest.raises(AudioError, match="10 Hz"):
        model.stream(10)
    with pytest.raises(AudioError, match="0 channels"):
        model.stream(RATE, channels=0)
    with pytest.raises(AudioError, match=r"must be \(2, samples\), not \(10, 2\)"):
        model.stream(RATE, channels=2).push(np.zeros((10, 2)))
    with pytest.raises(ModelError, match="only been pre-trained"):
        load(random_model(heads=("ctc",))).stream(RATE)


# --- Pipes ------------------------------------------------------------------------------------------------------------


class Trickle(io.BytesIO):
    """A pipe gives what is there: here a few bytes at a time, which need not be whole samples."""

    def read1(self, size: int, /) -> bytes:
        return self.read(min(size, 1 + self.tell() % 7777))


def wav(samples: NDArray, rate: int, subtype: str, form: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples.T, rate, subtype=subtype, format=form)
    return file.getvalue()


def endless(content: bytes, size: int) -> bytes:
    """The same, from a program that did not know how long it would be."""
    at = content.index(b"data") + 4
    return content[:4] + size.to_bytes(4, "little") + content[8:at] + size.to_bytes(4, "little") + content[at + 4 :]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize(("channels", "form"), [(1, "WAV"), (2, "WAV"), (1, "WAVEX"), (3, "WAVEX")])
def test_wav_through_a_pipe(voice: Voice, subtype: str, channels: int, form: str, tmp_path: Path) -> None:
    samples = np.stack([voice(0.5, seed) for seed in range(channels)])
    content = wav(samples, 22_050, subtype, form)
    (tmp_path / "a.wav").write_bytes(content)
    with opened(tmp_path / "a.wav") as audio:
        expected = np.concatenate(list(audio.blocks(22_050)))
    for variant in (content, endless(content, 0), endless(content, 0xFFFFFFFF), endless(content, 0x7FFFFFFF)):
        pipe = Pipe(Trickle(variant + b"\1" * (variant is content)))  # what follows the audio is none
        assert (pipe.sampling_rate, pipe.channels) == (22_050, channels)
        chunks = list(pipe)
        assert all(chunk.shape[-1] for chunk in chunks)
        joined = np.concatenate(chunks, -1)
        assert joined.shape == ((len(expected),) if channels == 1 else (channels, len(expected)))
        np.testing.assert_allclose(mono(joined, "x"), expected, rtol=0, atol=2e-7)


def test_raw_samples_through_a_pipe() -> None:
    samples = np.array([0, 1, -1, 32767, -32768], "<i2")
    pipe = Pipe(Trickle(samples.tobytes() + b"\0"), 8_000)
    assert (pipe.sampling_rate, pipe.channels) == (8_000, 1)
    np.testing.assert_array_equal(np.concatenate(list(pipe)), samples)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "nothing came"),
        (b"fLaC" + bytes(100), "is not WAV"),
        (b"RIFF\0\0\0\0AVI " + bytes(100), "is not WAV"),
        (b"RIFF\0\0\0\0WAVE", "ends before its audio"),
        (b"RIFF\0\0\0\0WAVEdata\xff\xff\xff\xff", "without a description"),
        (b"RIFF\0\0\0\0WAVEfmt \2\0\0\0\1\0data\0\0\0\0", "damaged description"),
        (b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\x7f", "a chunk b'LIST' of 2,147,483,647 bytes"),
    ],
)
def test_pipes_without_audio(content: bytes, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        Pipe(io.BytesIO(content))


def test_formats_that_are_not_read(voice: Voice) -> None:
    content = wav(voice(0.1)[None], RATE, "ULAW")
    with pytest.raises(AudioError, match="format 7 with 8 bits"):
        Pipe(io.BytesIO(content))
    content = wav(voice(0.1)[None], RATE, "PCM_16")
    at = content.index(b"fmt ") + 8
    for offset, number in ((2, 0), (2, 2), (2, 60_000), (14, 0), (12, 0)):
        damaged = content[: at + offset] + number.to_bytes(2, "little") + content[at + offset + 2 :]
        with pytest.raises(AudioError, match="is WAV"):
            Pipe(io.BytesIO(damaged))


@given(st.binary(max_size=200), st.integers(0, 60))
def test_any_bytes_are_audio_or_an_error(content: bytes, kept: int) -> None:
    whole = wav(np.zeros((2, 8), np.float32), RATE, "PCM_16")
    try:
        pipe = Pipe(io.BytesIO(whole[:kept] + content))
        assert all(chunk.shape[-1] for chunk in pipe)
    except AudioError:
        pass


@pytest.fixture
def predict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(content: bytes, *arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sa2sr", "predict", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        with pytest.raises(SystemExit) as exit_:
            main()
        return int(exit_.value.code or 0), *capsys.readouterr()

    return run


def test_the_command_reads_a_pipe(
    predict: Callable[..., tuple[int, str, str]], folder: Path, voice: Voice, tmp_path: Path
) -> None:
    model = load(folder)
    speech = np.rint(voice(9.0, rate=8_000) * 32767).astype("<i2")
    content = wav(speech[None], 8_000, "PCM_16")
    expected = model.predict(speech, 8_000, window=6, hop=2, name="-")
    code, printed, summary = predict(content, "-", "--model", folder)
    assert code == 0
    assert [Row(**json.loads(line)) for line in printed.splitlines()] == expected.rows
    assert summary.startswith("3 rows of 1 file, 9.0 s of audio")
    assert expected[0].note == "upsampled from 8000 Hz"
    code, printed, _ = predict(
        speech.tobytes(), "-", "--raw", "8000", "-m", folder, "-o", tmp_path / "a.csv", "--window", "3"
    )
    assert (code, printed) == (0, "")
    assert read_table(tmp_path / "a.csv") == model.predict(speech, 8_000, window=3, name="-")
    # Half way there is an infinite sample: the rows before it stay.
    floats = voice(5.0)
    floats[-1] = np.inf
    code, printed, err = predict(wav(floats[None], RATE, "FLOAT"), "-", "--model", folder, "--window", "1")
    assert code == 1
    assert "not finite" in err
    assert 4 <= len(printed.splitlines()) <= 5
    # It breaks off, or ends within what programs round.
    code, printed, _ = predict(content[:-1_000], "-", "--model", folder)
    assert (code, [json.loads(line)["end"] for line in printed.splitlines()]) == (0, [6, 8, pytest.approx(9, abs=0.1)])
    code, printed, err = predict(content[: len(content) // 2], "-", "--model", folder, "--window", "2")
    assert code == 1
    assert "failed: -: is truncated: 71978 of 144000 bytes of audio came" in err
    assert [json.loads(line)["end"] for line in printed.splitlines()] == [2, 4, pytest.approx(4.5, abs=0.01)]
    for content, arguments, reason in (
        (b"", ("-", "--model", folder), "nothing came"),
        (wav(np.zeros((1, 0)), RATE, "PCM_16"), ("-", "--model", folder), "holds no samples"),
        (b"", ("-", "a.wav", "--model", folder), "must be alone"),
        (b"", ("a.wav", "--model", folder, "--raw", "16000"), "--raw describes a pipe"),
        (b"\0" * 9, ("-", "--model", folder, "--raw", "3"), "3 Hz is not"),
        (b"", ("a.wav", "--model", folder, "--hop", "1"), "--window, --hop: a hop"),
    ):
        code, _, err = predict(content, *arguments)
        assert (code, reason in err) == (2, True), err


def test_rows_leave_while_the_pipe_is_open_and_an_interruption_keeps_them(
    folder: Path, voice: Voice, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    arguments = [sys.executable, "-m", "sa2sr", "predict", "-", "--raw", "16000", "--window", "1", "-m", str(folder)]
    chunk = np.rint(voice(1.0) * 32767).astype("<i2").tobytes()
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for second in range(3):
            process.stdin.write(chunk)
            process.stdin.flush()
            row = json.loads(process.stdout.readline())  # comes before the next chunk goes
            assert (row["start"], row["end"]) == (second, second + 1)
        process.stdin.close()
        assert process.wait(60) == 0
    with subprocess.Popen([*arguments, "-o", str(out)], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(2 * chunk + chunk[:8000])
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while sum(path.read_text().count("\n") for path in tmp_path.iterdir()) < 3:  # the header and two rows
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        summary = process.stderr.read().decode()
        assert process.wait(60) == 0
    assert "3 rows of 1 file, 2.2 s of audio" in summary
    assert spans(read_table(out)) == [(0, 1), (1, 2), (2, 2.25)]
