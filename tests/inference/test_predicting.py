import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import sa2sr
from sa2sr.audio import opened
from sa2sr.config import DIMENSIONS, FrontEnd, Scale
from sa2sr.errors import AudioError, ModelError
from sa2sr.inference import batches as batches_module
from sa2sr.inference.clips import Clip, array_clips
from sa2sr.inference.model import Model, load
from sa2sr.inference.sources import find_audio
from sa2sr.inference.table import EmotionTable, Failure, Row

RandomModel = Callable[..., Path]
Voice = Callable[..., NDArray[np.float32]]

SPAN = 6.0  # of the scale 1-7
CLOSE = 1e-5 * SPAN
SAMPLES = (1, 2, 80, 1_600, 2_879, 2_881, 5_760, 9_000, 16_000, 31_111, 48_000)  # of the clips of the batch tests


@pytest.fixture(scope="module")
def model(random_model: RandomModel) -> Model:
    return load(random_model())


@pytest.fixture(scope="module", params=[(1, 8), (5, 192)], ids=["small", "full"])
def crowd(request: pytest.FixtureRequest, random_model: RandomModel, voice: Voice) -> tuple[Model, list[Clip]]:
    """A model, and clips of many durations."""
    model = load(random_model(*request.param, gain=4), engine="torch")
    waveforms = [voice(count / 16_000, seed) for seed, count in enumerate(SAMPLES)]
    waveforms.append(np.zeros(20_000, np.float32))
    arguments = (model.settings.frontend,)
    return model, [
        clip
        for index, each in enumerate(waveforms)
        for clip in array_clips(each, 16_000, str(index), *arguments, longest=30, shortest=model.shortest)
    ]


def emotions(rows: EmotionTable | list[Row | Failure] | list[Row]) -> NDArray[np.float64]:
    assert all(isinstance(row, Row) for row in rows)
    return np.array([[getattr(row, dimension) for dimension in DIMENSIONS] for row in rows])


def write(path: Path, samples: NDArray[np.float32], rate: int = 16_000, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def network_of(model: Model) -> torch.nn.Module:
    return model.engine.network  # type: ignore[attr-defined]


# --- The company of a clip does not matter ----------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, len(SAMPLES)), min_size=1, max_size=12))
def test_alone_or_in_any_company(crowd: tuple[Model, list[Clip]], chosen: list[int]) -> None:
    model, clips = crowd
    together = model.engine.emotions([clips[index].frames for index in chosen])
    alone = np.concatenate([model.engine.emotions([clips[index].frames]) for index in chosen])
    assert np.isfinite(alone).all()
    np.testing.assert_allclose(together, alone, rtol=0, atol=CLOSE)


def test_what_fills_a_batch_does_not_matter(crowd: tuple[Model, list[Clip]]) -> None:
    model, clips = crowd
    network = network_of(model)
    random = torch.Generator().manual_seed(0)
    for clip in clips:
        frames = torch.from_numpy(clip.frames)[None]
        length = torch.tensor([frames.shape[1]])
        filled = torch.cat([frames, 100 * torch.randn(1, 50, frames.shape[2], generator=random)], 1)
        alone = network.emotion(network.states(frames, length), length)
        beside = network.emotion(network.states(filled, length), length)
        torch.testing.assert_close(beside, alone, rtol=0, atol=CLOSE)


def test_different_speech_gives_different_numbers(crowd: tuple[Model, list[Clip]]) -> None:
    """Otherwise the tests of equality would test nothing."""
    model, clips = crowd
    spread = model.engine.emotions([clip.frames for clip in clips if len(clip.frames) > 15]).std(0)
    assert (spread > 100 * CLOSE).all()


def test_rows_come_in_the_order_of_the_audio(
    model: Model, voice: Voice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = (3.0, 0.2, 1.0, 2.5, 0.05, 4.0, 0.7, 1.5)
    paths = [write(tmp_path / f"{i}.wav", voice(s, i)) for i, s in enumerate(seconds)]
    paths.insert(3, tmp_path / "missing.wav")
    expected = model.predict([path for path in paths if path.exists()])
    assert [row.file for row in expected] == [str(path) for path in paths if path.exists()]
    for clips, batch_seconds in ((2, 240.0), (3, 1.0), (512, 0.1)):
        monkeypatch.setattr(batches_module, "LOOK_AHEAD_CLIPS", clips)
        monkeypatch.setattr(FrontEnd, "batch_seconds", batch_seconds)
        table = model.predict(paths)
        assert [row.file for row in table] == [row.file for row in expected]
        np.testing.assert_allclose(emotions(table), emotions(expected), rtol=0, atol=CLOSE)
        assert table.failures == [Failure(str(tmp_path / "missing.wav"), "does not exist")]
    everything = list(model.rows(model.clips(find_audio(paths))))
    assert [each.file for each in everything] == [str(path) for path in paths]  # failures in their places


# --- Audio ------------------------------------------------------------------------------------------------------------


def test_a_file_and_its_array_are_the_same(model: Model, voice: Voice, tmp_path: Path) -> None:
    for rate in (16_000, 44_100, 8_000):
        stereo = np.stack([voice(1.3, 1, rate), voice(1.3, 2, rate)])
        from_file = model.predict(write(tmp_path / "a.wav", stereo.T, rate))
        from_array = model.predict(stereo, rate, name="b")
        np.testing.assert_allclose(emotions(from_array), emotions(from_file), rtol=0, atol=CLOSE)
        assert (from_array[0].file, from_array[0].end) == ("b", from_file[0].end)
        assert from_array[0].note == from_file[0].note == ("upsampled from 8000 Hz" if rate == 8_000 else "")
        mixed = model.predict(stereo.mean(0).astype(np.float64), rate)
        np.testing.assert_allclose(emotions(mixed), emotions(from_file), rtol=0, atol=CLOSE)


def test_integers_have_the_full_scale_of_their_type(model: Model, voice: Voice) -> None:
    speech = voice(1.0)
    expected = emotions(model.predict(speech, 16_000))
    for kind in (np.int16, np.int32):
        integers = (speech * np.iinfo(kind).max).astype(kind)
        table = model.predict(integers, 16_000)
        np.testing.assert_allclose(emotions(table), expected, rtol=0, atol=1e-3 * SPAN)
        assert table[0].note == ""
    unsigned = (speech * 127 + 128).astype(np.uint8)
    assert np.abs(emotions(model.predict(unsigned, 16_000)) - expected).max() < 0.1 * SPAN


@pytest.mark.parametrize("count", [1, 2, 79, 80, 400, 1_599, 5_759])
def test_very_short_audio(model: Model, voice: Voice, tmp_path: Path, count: int) -> None:
    path = write(tmp_path / "short.wav", voice(1.0)[8_000 : 8_000 + count])
    (row,) = model.predict(path)
    assert row.note == "short"
    assert (row.start, row.end) == (0.0, pytest.approx(count / 16_000, abs=1e-6))
    assert np.isfinite(emotions([row])).all()


def test_what_is_short_follows_from_the_network(random_model: RandomModel, voice: Voice) -> None:
    """The convolutions hear 6 + 2 * 3 stacked frames of 30 ms."""
    model = load(random_model(), engine="torch")
    assert model.shortest == pytest.approx(0.36)
    assert model.predict(voice(0.36), 16_000)[0].note == ""
    (clip,) = model.array_clips(voice(0.36), 16_000)
    assert isinstance(clip, Clip)
    network = network_of(model)
    outputs = torch.from_numpy(clip.frames)[None]
    lengths = torch.tensor([outputs.shape[1]])
    outputs = network.states(outputs, lengths)
    for convolution in network.emotion.convolutions:
        assert outputs.shape[1] >= convolution.convolution.kernel_size[0]
        outputs, lengths = convolution(outputs, lengths)
    assert lengths.tolist() == [1]


def test_silence_and_clipping_are_noted(model: Model, voice: Voice) -> None:
    for silence in (np.zeros(16_000), np.full(16_000, 5e-5)):
        (row,) = model.predict(silence, 16_000)
        assert row.note == "silent"
        assert np.isfinite(emotions([row])).all()
    assert model.predict(np.zeros(100), 8_000)[0].note == "short; silent; upsampled from 8000 Hz"
    speech = voice(2.0)
    peak = np.abs(speech).max()
    assert model.predict(speech * 0.98 / peak, 16_000)[0].note == ""
    assert model.predict(np.clip(4 * speech / peak, -1, 1), 16_000)[0].note == "clipped"
    assert model.predict(speech * 1000, 16_000)[0].note == ""  # a float array in the range of integers


def test_long_audio_becomes_consecutive_rows(model: Model, voice: Voice, tmp_path: Path) -> None:
    speech = voice(10.3)
    path = write(tmp_path / "long.wav", speech)
    table = model.predict(path, longest=2.0)
    assert len(table) == 6
    assert [row.start for row in table] == [0.0] + [row.end for row in table[:-1]]
    assert table[-1].end == 10.3
    assert all(row.end - row.start <= 2.0 for row in table)
    parts = [speech[round(row.start * 16_000) : round(row.end * 16_000)] for row in table]
    alone = [row for part in parts for row in model.predict(part, 16_000)]
    np.testing.assert_allclose(emotions(table), emotions(alone), rtol=0, atol=CLOSE)
    np.testing.assert_allclose(
        emotions(model.predict(speech, 16_000, longest=2.0)), emotions(table), rtol=0, atol=CLOSE
    )
    assert len(model.predict(path, longest=10.3)) == 1
    for nonsense in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="longest"):
            model.predict(path, longest=nonsense)


def test_memory_is_bounded_by_a_part(tmp_path: Path, voice: Voice) -> None:
    path = write(tmp_path / "long.wav", np.tile(voice(10.0, rate=8_000), 60), 8_000, "PCM_16")
    tracemalloc.start()
    with opened(path) as audio:
        seconds = sum(len(part) for part in audio.parts(16_000, 10.0)) / 16_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds == pytest.approx(600)
    assert peak < 15e6 < 4 * 16_000 * seconds  # some blocks of a megabyte; the file would be 38


def test_damage_half_way_keeps_the_rows_before_it(model: Model, voice: Voice, tmp_path: Path) -> None:
    path = write(tmp_path / "long.flac", np.tile(voice(10.0), 20), subtype="PCM_16")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    table = model.predict([path], longest=10.0)
    assert 5 < len(table) <= 15
    assert len(table.failures) == 1
    assert "truncated" in table.failures[0].reason


def test_numbers_stay_on_the_scale(random_model: RandomModel, voice: Voice) -> None:
    narrow = Scale(name="narrow", low=3.9, high=4.0)
    model = load(random_model(scale=narrow, spread=50.0))
    numbers = emotions([row for seed in range(5) for row in model.predict(voice(1.0, seed), 16_000)])
    assert set(numbers.flatten()) == {3.9, 4.0}
    assert model.predict(voice(1.0), 16_000).scale == narrow


def test_a_model_that_overflows_gives_failures(random_model: RandomModel, voice: Voice) -> None:
    model = load(random_model(spread=3e38, mean=3e38), engine="torch")
    network_of(model).emotion.output.bias.copy_(torch.ones(3) * 3)
    with pytest.raises(AudioError, match="no finite numbers"):
        model.predict(voice(1.0), 16_000)


@pytest.mark.parametrize(
    ("samples", "rate", "reason"),
    [
        (np.zeros(100), None, "needs its sampling rate"),
        (np.zeros(100), 10, "10 Hz is not"),
        (np.zeros(0), 16_000, "must be"),
        (np.zeros((2, 3, 4)), 16_000, "must be"),
        (np.zeros((16_000, 2)), 16_000, r"is it \(samples, channels\)"),
        (np.full(100, np.nan), 16_000, "not finite"),
        (np.full(100, 1e300), 16_000, "not finite"),
        (np.array(["a", "b"]), 16_000, "must be numbers"),
        (np.zeros(100, bool), 16_000, "must be numbers"),
        (np.zeros(100, complex), 16_000, "must be numbers"),
    ],
)
def test_arrays_that_are_not_audio(model: Model, samples: NDArray, rate: int | None, reason: str) -> None:
    with pytest.raises(AudioError, match=reason):
        model.predict(samples, rate)


@pytest.mark.parametrize("name", ["https://example.org/a.wav", "s3://calls/*.wav?version=2"])
def test_an_address_is_no_file(model: Model, name: str, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"is an address, .* download it first"):
        model.predict(name)
    assert [each.file for each in model.predict([name]).failures] == [name]
    (tmp_path / "list.txt").write_text(f"{name}\n")
    (failure,) = model.predict(f"@{tmp_path / 'list.txt'}").failures
    assert (failure.file, "download it first" in failure.reason) == (name, True)


@pytest.mark.parametrize("audio", [None, 3, [0.1, 0.2], (np.zeros(9), 16_000), [np.zeros(9)], ["a.wav", None]])
def test_what_is_no_audio_is_said(model: Model, audio: object) -> None:
    with pytest.raises(TypeError, match=r"named by a str, a Path or a Segment, not by a \w+; samples are one array"):
        model.predict(audio)


def test_an_array_of_names_and_rates_of_other_types(model: Model, voice: Voice, tmp_path: Path) -> None:
    samples = voice(0.5)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    (expected,) = model.predict([tmp_path / "a.wav"]).rows
    for names in (np.array([str(tmp_path / "a.wav")]), np.array([tmp_path / "a.wav"], object)):
        assert model.predict(names).rows == [expected]
    row = model.predict(samples, np.float64(8000))[0]
    assert row.note == "upsampled from 8000 Hz"
    with pytest.raises(ValueError, match="files have their own"):
        model.predict(tmp_path / "a.wav", 16_000)


def test_one_bad_file_raises_and_one_of_several_does_not(model: Model, voice: Voice, tmp_path: Path) -> None:
    bad = tmp_path / "bad.wav"
    bad.write_text("no audio")
    good = write(tmp_path / "good.wav", voice(1.0))
    for missing in (bad, str(tmp_path / "missing.wav"), "nul\0.wav", tmp_path / ("x" * 300)):
        with pytest.raises(AudioError):
            model.predict(missing)
    table = model.predict(tmp_path)
    assert [row.file for row in table] == [str(good)]
    assert [failure.file for failure in table.failures] == [str(bad)]
    assert "is not audio" in table.failures[0].reason
    assert len(model.predict([])) == 0


# --- Folders ----------------------------------------------------------------------------------------------------------


def test_folders_are_searched_once(tmp_path: Path) -> None:
    root = tmp_path / "calls"
    for name in ("b.wav", "a.FLAC", "sub/c.opus", "sub/.hidden.wav", ".git/d.wav", "notes.txt", "video.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "sub" / "loop").symlink_to(root)
    (root / "link.wav").symlink_to(root / "b.wav")
    (root / "empty").mkdir()
    names = ("a.FLAC", "b.wav", "link.wav", "video.mp4", "sub/c.opus")
    assert list(find_audio([root])) == [root / name for name in names]
    (root / "sub" / "loop").unlink()
    assert list(find_audio([root / "notes.txt", root / "sub"])) == [root / "notes.txt", root / "sub" / "c.opus"]
    (failure,) = find_audio([root / "empty"])
    assert isinstance(failure, Failure)
    assert "without audio" in failure.reason


# --- Models -----------------------------------------------------------------------------------------------------------


def test_a_run_folder_stands_for_its_model(random_model: RandomModel, voice: Voice, tmp_path: Path) -> None:
    folder = random_model()
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").touch()
    with pytest.raises(ModelError, match="no model yet"):
        sa2sr.load(run)
    os.rename(folder, run / "model")
    model = sa2sr.load(run)
    assert (model.settings.name, model.scale) == ("random", Scale())
    assert model.predict(voice(1.0), 16_000) == sa2sr.load(run / "model").predict(voice(1.0), 16_000)


def test_models_that_cannot_predict(random_model: RandomModel, voice: Voice, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        load(tmp_path / "nothing")
    with pytest.raises(ModelError, match="is not a model folder"):
        load(tmp_path)
    with pytest.raises(ModelError, match=r"only been pre-trained \(ctc, sentiment\).*finetune"):
        load(random_model(heads=("ctc", "sentiment"))).predict(voice(1.0), 16_000)
    with pytest.raises(ModelError, match="has no scale"):
        load(random_model(scale=None)).predict(voice(1.0), 16_000)
    with pytest.raises(ModelError, match="device 'abacus' cannot be used"):
        load(random_model(), device="abacus")


def test_other_heads_do_not_matter(random_model: RandomModel, voice: Voice) -> None:
    assert len(load(random_model(heads=("ctc", "sentiment", "emotion"))).predict(voice(1.0), 16_000)) == 1


def test_predicting_needs_nothing_that_trains(random_model: RandomModel, voice: Voice, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", voice(1.0))
    program = f"""
import sys
import sa2sr
assert "numpy" not in sys.modules
import sa2sr.inference
assert "torch" not in sys.modules
assert len(sa2sr.load({str(random_model())!r}).predict({str(path)!r})) == 1
heavy = ("lhotse", "accelerate", "transformers", "matplotlib", "scipy.stats", "pandas", "sa2sr.cuts")
print([name for name in sys.modules if name in heavy or name.startswith(("sa2sr.training", "sa2sr.corpora"))])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_front_end_of_the_model_counts(random_model: RandomModel) -> None:
    """A clip has one stacked frame every 30 ms."""
    frontend = FrontEnd()
    (clip,) = array_clips(np.ones(16_000), 16_000, "x", frontend, longest=30, shortest=0)
    assert clip.frames.shape == (34, frontend.dimension)
