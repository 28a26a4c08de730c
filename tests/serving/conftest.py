import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sa2sr.inference import Model, load

RandomModel = Callable[..., Path]
Voice = Callable[..., NDArray[np.float32]]


@dataclass
class Server:
    """A server in a process of its own."""

    url: str
    process: subprocess.Popen[str]

    @property
    def stream_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/v1/stream"

    def client(self, **options: object) -> httpx.Client:
        # verify=False: no certificates to load, since there is no TLS
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, verify=False, **options)  # type: ignore[arg-type]

    def metric(self, name: str) -> float:
        with self.client() as client:
            lines = client.get("/metrics").text.splitlines()
        return float(next((line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")), 0))


@pytest.fixture(scope="session")
def folder(random_model: RandomModel) -> Path:
    return random_model(gain=4)


@pytest.fixture(scope="session")
def model(folder: Path) -> Model:
    return load(folder, engine="onnx")


@contextmanager
def serving(folder: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """``sa2sr serve`` on a port that is free."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sa2sr", "serve", "-m", str(folder), "--port", "0", "--decoders", "1", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "http://" in line:
            break
    try:
        assert lines, "the server did not start"
        assert "http://" in lines[-1], lines
        url = lines[-1].split()[-1]
        transport = httpx.HTTPTransport(retries=20)
        with httpx.Client(transport=transport, trust_env=False, timeout=60) as client:
            assert client.get(f"{url}/healthz").status_code == 200
        yield Server(url, process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            _, rest = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert "Traceback" not in rest, rest


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Server]:
    """One server for all tests that leave its settings as they are."""
    with serving(folder) as running:
        yield running


@pytest.fixture(scope="session")
def wav(voice: Voice) -> Callable[..., bytes]:
    """``wav(seconds, seed=0, rate=16_000)``: a voice as the bytes of a file."""

    def make(seconds: float, seed: int = 0, rate: int = 16_000, format_: str = "WAV") -> bytes:
        content = io.BytesIO()
        soundfile.write(content, voice(seconds, seed, rate), rate, format=format_)
        return content.getvalue()

    return make
