"""How fast predictions are, beside what they consist of and beside other ways to get emotions from speech.

Parts, which are measured one after the other in one run, and of which any may be chosen with --parts:

- files: whole files, wav and opus, decoding included, on one core with int8; opus from 16 kHz, as corpora have it, and
  from 48 kHz, as browsers record it. `real_time` is seconds of audio a second;
  `ratio_to_bare` the time that decoding and onnxruntime alone take, on frames computed beforehand, divided by ours;
  `bare_real_time` and `decoding_real_time` how fast these two, and decoding alone, are: with this decoder and
  this network nothing can be faster
- engines: the same by each engine
- wav2vec2: `ratio` is the time of a regressor with twelve layers of wav2vec2-large, with random weights, in torch on
  one core, divided by ours, each for a second of audio
- opensmile: the same for the functionals of eGeMAPS
- processes: `ratio` is the time of one process divided by that of two, start included; the job is long, since at the
  end of a job a process waits for up to a chunk of 128 files of the other
- cold: `sa2sr predict clip.wav` from the shell
- stream: how long it takes from the last sample of a window to its row

One JSON object is printed. Ratios can be compared between machines, seconds cannot. Work on one core is measured in
time of the processor, so that other work on the machine disturbs less; processes, cold and stream in time on the clock.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from sa2sr.audio import probe, read
from sa2sr.config import ModelSettings, Objectives, Scale
from sa2sr.inference import load
from sa2sr.inference.job import predict_files
from sa2sr.inference.model import Model
from sa2sr.inference.options import Options

RATE = 16_000  # Hz
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # which numpy and torch read when they are loaded
KINDS = {"wav": ("wav", RATE), "opus": ("opus", RATE), "opus48": ("opus", 48_000)}
PARTS = ("files", "engines", "wav2vec2", "opensmile", "processes", "cold", "stream")


def main() -> None:
    if ONE_THREAD.items() - os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--model", type=Path, help="a model folder; by default the paper's size with random weights")
    parser.add_argument("--files", type=int, default=40, help="of 2 to 15 seconds, of each format")
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model or random_model(folder / "model")
        files = write_speech(folder / "audio", arguments.files)
        measured: dict[str, Any] = {
            "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            "seconds_of_audio": round(sum(probe(path).seconds for path in files), 1),
        }
        for part in arguments.parts:
            measured[part] = MEASURES[part](model, files, arguments.repetitions)
    print(json.dumps(measured))


# --- The parts --------------------------------------------------------------------------------------------------------


def measure_files(folder: Path, files: list[Path], repetitions: int) -> dict[str, Any]:
    model = load(folder, engine="onnx", int8=True)
    found: dict[str, Any] = {}
    for kind in KINDS:
        chosen = [path for path in files if path.match(f"*-{kind}.*")]
        frames = [clip.frames for clip in model.clips(chosen)]  # type: ignore[union-attr]
        ours, bare, decoding = alternating(
            repetitions,
            lambda chosen=chosen: predict(model, chosen),
            lambda c=chosen, f=frames: decode_and_run(model, c, f),
            lambda chosen=chosen: decode(chosen),
        )
        seconds = duration(chosen)
        found[kind] = {
            "real_time": round(seconds / ours, 1),
            "ratio_to_bare": round(bare / ours, 3),
            "bare_real_time": round(seconds / bare, 1),
            "decoding_real_time": round(seconds / decoding, 1),
            "decoding_share": round(decoding / ours, 3),
        }
    return found


def measure_engines(folder: Path, files: list[Path], repetitions: int) -> dict[str, Any]:
    chosen = [path for path in files if path.suffix == ".wav"]
    found = {}
    for name, options in (("torch", {"engine": "torch"}), ("onnx", {"engine": "onnx"}), ("int8", {"int8": True})):
        model = load(folder, **options)  # type: ignore[arg-type]
        (seconds,) = alternating(repetitions, lambda model=model: predict(model, chosen))
        found[name] = {"real_time": round(duration(chosen) / seconds, 1)}
    return found


def measure_wav2vec2(folder: Path, files: list[Path], repetitions: int) -> dict[str, Any]:
    if find_spec("transformers") is None:
        return {"skipped": "transformers is not installed"}
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.set_num_threads(1)
    large = {"hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096, "num_hidden_layers": 12}
    shape = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
    network = Wav2Vec2Model(Wav2Vec2Config(**large, **shape)).eval()
    head = torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.Tanh(), torch.nn.Linear(1024, 3)).eval()
    chosen = [path for path in files if path.suffix == ".wav"]
    few = chosen[:2]

    def regress() -> None:
        with torch.inference_mode():
            for path in few:
                head(network(torch.from_numpy(read(path, RATE))[None]).last_hidden_state.mean(1))

    model = load(folder, engine="onnx", int8=True)
    ours, theirs = alternating(min(repetitions, 3), lambda: predict(model, chosen), regress)
    ours, theirs = ours / duration(chosen), theirs / duration(few)
    return {"ratio": round(theirs / ours, 1), "real_time": round(1 / theirs, 2)}


def measure_opensmile(folder: Path, files: list[Path], repetitions: int) -> dict[str, Any]:
    if find_spec("opensmile") is None:
        return {"skipped": "opensmile is not installed"}
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    chosen = [path for path in files if path.suffix == ".wav"]
    model = load(folder, engine="onnx", int8=True)

    def functionals() -> None:
        for path in chosen:
            smile.process_signal(read(path, RATE), RATE)

    ours, theirs = alternating(repetitions, lambda: predict(model, chosen), functionals)
    return {"ratio": round(theirs / ours, 2), "real_time": round(duration(chosen) / theirs, 1)}


def measure_processes(folder: Path, files: list[Path], repetitions: int) -> dict[str, Any]:
    model = load(folder, engine="onnx", int8=True)
    # By default eight hours: some thirty chunks, so that neither the start nor the last chunk counts for much.
    many = files * max(1, round(5760 * repetitions / duration(files)))
    seconds = {}
    with tempfile.TemporaryDirectory() as name:
        for jobs in (1, 2):
            began = time.perf_counter()
            predict_files(model, many, Path(name, f"{jobs}.csv"), jobs=jobs)
            seconds[jobs] = time.perf_counter() - began
        same = Path(name, "1.csv").read_bytes() == Path(name, "2.csv").read_bytes()
    return {
        "ratio": round(seconds[1] / seconds[2], 2),
        "same_table": same,
        "real_time": {jobs: round(duration(many) / each, 1) for jobs, each in seconds.items()},
    }


def measure_cold(folder: Path, files: list[Path], repetitions: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "sa2sr", "predict", str(files[0]), "--model", str(folder), "--engine", "onnx"]
    taken = []
    for _ in range(repetitions):
        began = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        taken.append(time.perf_counter() - began)
    return {"seconds": round(statistics.median(taken), 3), "fastest": round(min(taken), 3)}


def measure_stream(folder: Path, files: list[Path], repetitions: int) -> dict[str, Any]:
    samples = np.concatenate([read(path, RATE) for path in files if path.suffix == ".wav"])
    chunk = RATE // 50  # 20 ms, as from a microphone
    found = {}
    for name, int8 in (("fp32", False), ("int8", True)):
        stream = load(folder, engine="onnx", int8=int8).stream(RATE, window=6.0, hop=2.0)
        taken = []
        for start in range(0, len(samples), chunk):
            began = time.perf_counter()
            rows = stream.push(samples[start : start + chunk])
            if rows:
                taken.append(1000 * (time.perf_counter() - began) / len(rows))
        p50, p99 = np.percentile(taken, [50, 99])
        found[name] = {"rows": len(taken), "p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}
    return found


MEASURES: dict[str, Callable[[Path, list[Path], int], dict[str, Any]]] = {
    "files": measure_files,
    "engines": measure_engines,
    "wav2vec2": measure_wav2vec2,
    "opensmile": measure_opensmile,
    "processes": measure_processes,
    "cold": measure_cold,
    "stream": measure_stream,
}


# --- What they take ---------------------------------------------------------------------------------------------------


def predict(model: Model, files: list[Path]) -> None:
    for _ in Options().rows(model, files):
        pass


def decode(files: list[Path]) -> None:
    for path in files:
        read(path, RATE)


def decode_and_run(model: Model, files: list[Path], frames: list[Any]) -> None:
    """What nobody can do without: decoding, and onnxruntime on frames that are there already."""
    session, filters = model.engine.session(), model.settings.frontend.filters  # type: ignore[attr-defined]
    decode(files)
    for each in frames:
        given = each.reshape(1, -1, filters)
        session.run(["activation", "valence", "dominance"], {"frames": given, "lengths": np.array([given.shape[1]])})


def alternating(repetitions: int, *functions: Callable[[], None]) -> list[float]:
    """The median processor time of each, which take turns after one turn that does not count."""
    for each in functions:
        each()
    turns = [[timed(each) for each in functions] for _ in range(repetitions)]
    return [statistics.median(turn) for turn in zip(*turns, strict=True)]


def timed(function: Callable[[], None]) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def duration(files: list[Path]) -> float:
    return sum(probe(path).seconds for path in files)


def random_model(folder: Path) -> Path:
    import torch

    from sa2sr.network.model import SpeechModel, save_model

    torch.manual_seed(0)
    objectives = Objectives.model_validate({"ctc": 1, "sentiment": 1, "emotion": 1})
    model = SpeechModel(ModelSettings(objectives=objectives, scale=Scale()))
    model.emotion.rating_mean.fill_(4.0)
    model.emotion.rating_spread.fill_(1.0)
    save_model(model, folder)
    return folder


def write_speech(folder: Path, count: int) -> list[Path]:
    """Noise in syllables."""
    folder.mkdir()
    random = np.random.default_rng(0)
    files = []
    for number in range(count):
        seconds = random.uniform(2, 15)
        for kind, (suffix, rate) in KINDS.items():
            instants = np.arange(round(seconds * rate)) / rate
            noise = random.standard_normal(len(instants)) * np.sin(2 * np.pi * 3 * instants) ** 2
            path = folder / f"{number:04d}-{kind}.{suffix}"
            options = {"format": "OGG", "subtype": "OPUS"} if suffix == "opus" else {"subtype": "PCM_16"}
            soundfile.write(path, 0.1 * noise, rate, **options)
            files.append(path)
    return files


if __name__ == "__main__":
    main()
