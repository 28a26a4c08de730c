"""The feature store: what it gives, when it computes, and what kills, company and damage do to it."""

import os
import pickle
import re
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from sa2sr.audio import change_speed, probe
from sa2sr.config import FrontEnd
from sa2sr.cuts import Cut, load_waveform, make_cut
from sa2sr.errors import AudioError, CorpusError
from sa2sr.speech import store
from sa2sr.speech.features import extract
from sa2sr.speech.store import CUTS_A_SHARD, StoredFrames, build_store

FRONTEND = FrontEnd()
SPEEDS = (0.9, 1.0)

# Processes that are killed here start as copies of one that has imported everything.
CONTEXT: Any = get_context("forkserver")
CONTEXT.set_forkserver_preload(["sa2sr.speech.store"])


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, voice: Callable[..., NDArray[np.float32]]) -> Path:
    """Thirty seconds of speech."""
    path = tmp_path_factory.mktemp("audio") / "long.wav"
    soundfile.write(path, voice(30.0), 16_000)
    return path


@pytest.fixture(scope="module")
def cuts(recording: Path) -> list[Cut]:
    """Three hundred parts of the recording, for three shards."""
    info = probe(recording)
    random = np.random.default_rng(0)
    return [
        make_cut(f"c{number}", recording, info, start=number * 0.09, duration=float(random.uniform(0.05, 0.15)))
        for number in range(300)
    ]


@pytest.fixture(scope="module")
def complete(cuts: list[Cut], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The shards of a store whose building nothing disturbed."""
    folder = tmp_path_factory.mktemp("complete")
    build_store(folder, cuts, FRONTEND, SPEEDS, workers=1)
    return shards(folder)


def shards(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors") if not path.name.startswith(".")}


def on_the_fly(cut: Cut, speed: float) -> NDArray[np.float32]:
    return extract(change_speed(load_waveform(cut, 16_000), speed), FRONTEND)


def short_cuts(folder: Path, count: int = 3) -> list[Cut]:
    """A file a cut."""
    made = []
    for number in range(count):
        path = folder / f"{number}.wav"
        samples = np.random.default_rng(number).uniform(-0.3, 0.3, 2_000 + 300 * number)
        soundfile.write(path, samples, 16_000)
        made.append(make_cut(f"c{number}", path, probe(path)))
    return made


# --- What it gives ----------------------------------------------------------------------------------------------------


def test_stored_frames_are_those_on_the_fly_in_fp16(cuts: list[Cut], tmp_path: Path) -> None:
    frames = build_store(tmp_path, cuts, FRONTEND, SPEEDS, workers=1)
    assert frames.errors == {}
    for position in (0, 1, 127, 128, 255, 256, 299):
        for speed in SPEEDS:
            expected = on_the_fly(cuts[position], speed)
            found = frames(position, speed)
            assert found.dtype == np.float16
            np.testing.assert_array_equal(found, expected.astype(np.float16))
            np.testing.assert_allclose(found, expected, rtol=2**-11, atol=1e-6)


def test_frames_do_not_depend_on_the_order_of_asking(cuts: list[Cut], tmp_path: Path) -> None:
    frames = build_store(tmp_path, cuts, FRONTEND, (1.0,), workers=1)
    forwards = [frames(position, 1.0).copy() for position in range(300)]
    again = build_store(tmp_path, cuts, FRONTEND, (1.0,), workers=1)
    for position in np.random.default_rng(0).permutation(300):
        np.testing.assert_array_equal(again(int(position), 1.0), forwards[position])


def test_audio_that_cannot_be_read_is_reported_and_the_rest_stored(cuts: list[Cut], tmp_path: Path) -> None:
    broken = short_cuts(tmp_path)
    (tmp_path / "1.wav").write_bytes(b"not audio")
    (tmp_path / "2.wav").unlink()
    mixed = [*cuts[:130], *broken]
    frames = build_store(tmp_path / "store", mixed, FRONTEND, (1.0,), workers=1)
    assert sorted(frames.errors) == [131, 132]
    assert "1.wav" in frames.errors[131]
    assert "does not exist" in frames.errors[132]
    for position in (0, 127, 128, 129, 130):
        np.testing.assert_array_equal(frames(position, 1.0), on_the_fly(mixed[position], 1.0).astype(np.float16))
    for position, reason in frames.errors.items():
        with pytest.raises(AudioError, match=f"^{re.escape(reason)}$"):
            frames(position, 1.0)
    # The file comes back, and so do its frames.
    (tmp_path / "2.wav").write_bytes((tmp_path / "0.wav").read_bytes())
    short_cuts(tmp_path)
    assert build_store(tmp_path / "store", mixed, FRONTEND, (1.0,), workers=1).errors == {}


# --- When it computes -------------------------------------------------------------------------------------------------


def test_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    made, folder = short_cuts(tmp_path), tmp_path / "store"
    build_store(folder, made, FRONTEND, SPEEDS, workers=1)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    assert len(before) == 2
    build_store(folder, made, FRONTEND, (1.0,), workers=1)
    build_store(folder, made, FRONTEND, SPEEDS, workers=1)
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")} == before


def test_labels_and_names_do_not_matter(tmp_path: Path) -> None:
    made, folder = short_cuts(tmp_path), tmp_path / "store"
    build_store(folder, made, FRONTEND, (1.0,), workers=1)
    for cut in made:
        cut.id += "x"
        cut.supervisions[0].text = "other"
    build_store(folder, made, FRONTEND, (1.0,), workers=1)
    assert len(shards(folder)) == 1


def test_whatever_frames_depend_on_makes_a_new_shard(tmp_path: Path) -> None:
    made, folder = short_cuts(tmp_path), tmp_path / "store"

    def added(cuts: Sequence[Cut], frontend: FrontEnd = FRONTEND, speed: float = 1.0) -> int:
        before = len(shards(folder)) if folder.exists() else 0
        frames = build_store(folder, cuts, frontend, (speed,), workers=1)
        waveform = load_waveform(cuts[0], frontend.sampling_rate)
        expected = extract(change_speed(waveform, speed), frontend).astype(np.float16)
        np.testing.assert_array_equal(frames(0, speed), expected)
        return len(shards(folder)) - before

    assert added(made) == 1
    assert added(made) == 0
    assert added(made, speed=1.1) == 1
    for frontend in (
        FrontEnd(filters=23),
        FrontEnd(step_ms=12.5),
        FrontEnd(window_ms=20),
        FrontEnd(sampling_rate=8_000),
    ):
        assert added(made, frontend) == 1
    assert added(made[::-1]) == 1
    assert added(made[:2]) == 1
    path = tmp_path / "0.wav"
    later = make_cut("c0", path, probe(path), start=0.02, duration=0.05)
    assert added([later, *made[1:]]) == 1
    assert added([make_cut("c0", path, probe(path), start=0.02, duration=0.06), *made[1:]]) == 1
    # Other samples in the same number of bytes, as a denoiser would leave behind.
    size, time_before = path.stat().st_size, path.stat().st_mtime_ns
    soundfile.write(path, np.random.default_rng(99).uniform(-0.3, 0.3, 2_000), 16_000)
    os.utime(path, ns=(time_before + 1_000_000, time_before + 1_000_000))
    assert path.stat().st_size == size
    assert added(made) == 1


# --- Several processes, and their deaths ------------------------------------------------------------------------------


def build(folder: Path, cuts: list[Cut]) -> None:
    build_store(folder, cuts, FRONTEND, SPEEDS, workers=1)


def build_and_die(folder: Path, cuts: list[Cut], moment: str) -> None:
    """Build the store and be killed at the third of six shards."""
    count = 0
    extract_frames, write_bytes = store.extract, Path.write_bytes

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def dying_extract(waveform: NDArray[np.float32], frontend: FrontEnd) -> NDArray[np.float32]:
        nonlocal count
        count += 1
        if count == 2 * CUTS_A_SHARD + 10:
            die()
        return extract_frames(waveform, frontend)

    def dying_write(path: Path, content: bytes) -> int:
        nonlocal count
        count += 1
        half = count == 3 and moment == "half written"
        written = write_bytes(path, content[: len(content) // 2] if half else content)
        if count == 3:
            die()
        return written

    if moment == "computing":
        store.extract = dying_extract
    else:
        Path.write_bytes = dying_write  # type: ignore[assignment,method-assign]
    build(folder, cuts)


def run(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    process: BaseProcess = CONTEXT.Process(target=target, args=arguments)
    process.start()
    return process


def join(process: BaseProcess) -> int | None:
    process.join(120)
    return process.exitcode


def send_frames(frames: StoredFrames, results: "SimpleQueue[NDArray[np.float16]]") -> None:
    results.put(frames(1, 0.9))


def test_a_store_travels_to_other_processes(tmp_path: Path) -> None:
    frames = build_store(tmp_path / "store", short_cuts(tmp_path), FRONTEND, SPEEDS, workers=1)
    expected = frames(1, 0.9)  # by now it holds an open map
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(frames))(1, 0.9), expected)
    results = CONTEXT.SimpleQueue()
    assert join(run(send_frames, frames, results)) == 0
    np.testing.assert_array_equal(results.get(), expected)


@pytest.mark.parametrize("moment", ["computing", "half written", "not yet renamed"])
def test_a_killed_build_goes_on_where_it_stopped(
    cuts: list[Cut], complete: dict[str, bytes], tmp_path: Path, moment: str
) -> None:
    assert join(run(build_and_die, tmp_path, cuts, moment)) == -signal.SIGKILL
    left = shards(tmp_path)
    assert len(left) == 2
    assert left.items() <= complete.items()
    before = {name: (tmp_path / name).stat().st_ino for name in left}
    build(tmp_path, cuts)
    assert shards(tmp_path) == complete
    assert {name: (tmp_path / name).stat().st_ino for name in left} == before
    assert {path.suffix for path in tmp_path.iterdir()} <= {".safetensors", ".lock"}
    assert not list(tmp_path.glob(".*"))


def test_kills_at_any_moment_leave_no_trace(cuts: list[Cut], complete: dict[str, bytes], tmp_path: Path) -> None:
    for delay in np.random.default_rng(0).uniform(0.02, 0.3, 6):
        process = run(build, tmp_path, cuts)
        time.sleep(delay)
        os.kill(process.pid or 0, signal.SIGKILL)
        assert join(process) in (-signal.SIGKILL, 0)
        assert shards(tmp_path).items() <= complete.items()
    build(tmp_path, cuts)
    assert shards(tmp_path) == complete
    assert not list(tmp_path.glob(".*"))


def build_and_count(folder: Path, cuts: list[Cut], barrier: Barrier, counts: "SimpleQueue[int]") -> None:
    count = 0
    extract_frames = store.extract

    def counting(waveform: NDArray[np.float32], frontend: FrontEnd) -> NDArray[np.float32]:
        nonlocal count
        count += 1
        return extract_frames(waveform, frontend)

    store.extract = counting
    barrier.wait(60)
    build(folder, cuts)
    counts.put(count)


def test_two_processes_build_one_store(cuts: list[Cut], complete: dict[str, bytes], tmp_path: Path) -> None:
    barrier, counts = CONTEXT.Barrier(2), CONTEXT.SimpleQueue()
    processes = [run(build_and_count, tmp_path, cuts, barrier, counts) for _ in range(2)]
    assert [join(process) for process in processes] == [0, 0]
    assert counts.get() + counts.get() == len(cuts) * len(SPEEDS)  # nothing was computed twice
    assert shards(tmp_path) == complete


def test_worker_processes_build_the_same(cuts: list[Cut], complete: dict[str, bytes], tmp_path: Path) -> None:
    build_store(tmp_path, cuts, FRONTEND, SPEEDS, workers=2)
    assert shards(tmp_path) == complete


# --- Damage -----------------------------------------------------------------------------------------------------------


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    if kind in ("too few frames", "other metadata", "not json", "negative"):
        lengths = {"too few frames": "[100, 100]", "negative": "[99999, -99900]"}.get(kind, "[1]")
        text = "[" if kind == "not json" else f'{{"lengths": {lengths}, "errors": {{}}}}'
        save_file(load_file(path), path, {"other" if kind == "other metadata" else "cuts": text})
    elif kind == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "truncated": data[:-10], "short": data[:20], "noise": os.urandom(500)}[kind])


@pytest.mark.parametrize(
    "kind",
    ["empty", "truncated", "short", "noise", "too few frames", "other metadata", "not json", "negative", "a folder"],
)
def test_a_damaged_shard_is_named_and_can_be_removed(tmp_path: Path, kind: str) -> None:
    made, folder = short_cuts(tmp_path), tmp_path / "store"
    expected = build_store(folder, made, FRONTEND, (1.0,), workers=1)(0, 1.0)
    (path,) = folder.glob("*.safetensors")
    damage(path, kind)
    with pytest.raises(CorpusError, match=rf"{path.name}: is a damaged part .* remove it"):
        build_store(folder, made, FRONTEND, (1.0,), workers=1)
    if path.is_dir():
        path.rmdir()
    else:
        path.unlink()
    np.testing.assert_array_equal(build_store(folder, made, FRONTEND, (1.0,), workers=1)(0, 1.0), expected)


def test_a_store_that_disappears_is_an_error_in_words(tmp_path: Path) -> None:
    frames = build_store(tmp_path / "store", short_cuts(tmp_path), FRONTEND, (1.0,), workers=1)
    shutil.rmtree(tmp_path / "store")
    with pytest.raises(CorpusError, match="feature store"):
        frames(0, 1.0)
