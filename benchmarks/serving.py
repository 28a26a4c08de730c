"""A server with many clients beside offline prediction of the same files: what do HTTP, decoders and queues cost?

The same clips (2 to 10 s, 16 kHz, FLAC) are predicted offline, as one batch in one process, and by `sa2sr serve` for
clients that each send one file after the other. Rounds of both take turns, so that other work on the machine disturbs
them alike, and each answer is compared with the offline rows.

One JSON object is printed. `ratio_to_offline` is the audio that the server predicts in a second, work of the clients on
the same machine included, divided by that of offline prediction; ratios can be compared between machines, times
cannot. Memory is that of the server with its decoders, after the first round and at the end.

python benchmarks/serving.py                      # about a minute: a network of the paper's size with random weights
python benchmarks/serving.py --model runs/emotion --requests 10000
"""

import argparse
import http.client
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import soundfile

from sa2sr.inference import Model, load

RATE = 16_000  # Hz


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="model folder; by default one with random weights")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=512, help="in all rounds together")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--files", type=int, default=128, help="different clips")
    parser.add_argument("--int8", action="store_true")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_clips(folder, arguments.files)
        seconds = [soundfile.info(file).duration for file in files]
        contents = [file.read_bytes() for file in files]
        model_folder = arguments.model or random_model(folder / "model")
        model = load(model_folder, engine="onnx", int8=arguments.int8)
        expected = offline_rows(model, files)
        per_round = arguments.requests // arguments.rounds
        offline, served, latencies, memory = [], [], [], []
        failures = 0
        options = ["--int8"] if arguments.int8 else []
        with server(model_folder, options) as (process, port):
            ask_all(port, contents, expected, arguments.clients, 2 * arguments.clients)  # warm
            for _ in range(arguments.rounds):
                began = time.perf_counter()
                offline_rows(model, files)
                offline.append(sum(seconds) / (time.perf_counter() - began))
                began = time.perf_counter()
                answers = ask_all(port, contents, expected, arguments.clients, per_round)
                heard = sum(islice(cycle(seconds), per_round))
                served.append(heard / (time.perf_counter() - began))
                failures += sum(not right for _, right in answers)
                latencies += [1000 * latency for latency, _ in answers]
                memory.append(resident_megabytes(process.pid))
    result = {
        "benchmark": "serving",
        "clients": arguments.clients,
        "requests": len(latencies),
        "errors": failures,
        "ratio_to_offline": round(statistics.median(served) / statistics.median(offline), 3),
        "served_x_real_time": round(statistics.median(served), 1),
        "offline_x_real_time": round(statistics.median(offline), 1),
        "latency_ms": {f"p{share}": round(float(np.percentile(latencies, share)), 1) for share in (50, 95, 99)},
        "memory_mb": {"after_first_round": memory[0], "at_the_end": memory[-1]},
        "int8": arguments.int8,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
    }
    print(json.dumps(result))


def write_clips(folder: Path, count: int) -> list[Path]:
    """Buzzes with a moving pitch, in syllables: they need not be speech to take its time."""
    files = []
    for seed in range(count):
        random = np.random.default_rng(seed)
        moments = np.arange(round(RATE * random.uniform(2, 10))) / RATE
        pitch = random.uniform(80, 250) * (1 + 0.2 * np.sin(2 * np.pi * random.uniform(0.2, 1) * moments))
        buzz = (2 * (np.cumsum(pitch) / RATE % 1) - 1) * np.abs(np.sin(2 * np.pi * 2 * moments))
        files.append(folder / f"{seed:04}.flac")
        soundfile.write(files[-1], 0.3 * buzz + 0.01 * random.standard_normal(len(moments)), RATE)
    return files


def random_model(folder: Path) -> Path:
    """A model of the paper's size with random weights."""
    import torch

    from sa2sr.config import EncoderSettings, ModelSettings, Objectives, Scale
    from sa2sr.network.model import SpeechModel, save_model

    torch.manual_seed(0)
    settings = ModelSettings(
        name="random",
        encoder=EncoderSettings(),
        objectives=Objectives.model_validate({"emotion": 1}),
        scale=Scale(name="1-7", low=1, high=7),
    )
    folder.mkdir()
    save_model(SpeechModel(settings), folder)
    return folder


def offline_rows(model: Model, files: Sequence[Path]) -> list[float]:
    """The valence of each file."""
    return [row.valence for row in model.predict(files).rows]


@contextmanager
def server(model: Path, options: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`sa2sr serve` in a process of its own."""
    command = [sys.executable, "-m", "sa2sr", "serve", "--model", str(model), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            port = int(process.stderr.readline().rpartition(":")[2])
            time.sleep(2)  # until its decoders listen too
            yield process, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def ask_all(
    port: int, contents: Sequence[bytes], expected: Sequence[float], clients: int, requests: int
) -> list[tuple[float, bool]]:
    """Seconds of each request, and whether its answer was right."""

    def client(turns: range) -> list[tuple[float, bool]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        answers = []
        for turn in turns:
            began = time.perf_counter()
            try:
                connection.request("POST", "/v1/predict", contents[turn % len(contents)])
                response = connection.getresponse()
                answer = json.loads(response.read())
                right = response.status == 200 and answer["rows"][0]["valence"] == expected[turn % len(contents)]
            except (OSError, http.client.HTTPException, ValueError):
                connection.close()
                right = False
            answers.append((time.perf_counter() - began, right))
        connection.close()
        return answers

    with ThreadPoolExecutor(clients) as threads:
        results = threads.map(client, (range(first, requests, clients) for first in range(clients)))
        return [answer for answers in results for answer in answers]


def resident_megabytes(pid: int) -> float:
    """Memory of a process and of its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for each in (str(pid), *children):
        status = Path(f"/proc/{each}/status").read_text()
        total += int(status.partition("VmRSS:")[2].split()[0])
    return round(total / 1024, 1)


if __name__ == "__main__":
    main()
