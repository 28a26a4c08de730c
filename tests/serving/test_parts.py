"""Decoders, the batcher, and what is said before a server starts."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from sa2sr.cli import main
from sa2sr.errors import AudioError
from sa2sr.inference import Model
from sa2sr.inference.clips import Clip, file_clips
from sa2sr.inference.windows import Windows
from sa2sr.serving.answers import Answer, Options
from sa2sr.serving.batching import Batcher
from sa2sr.serving.decoder import TooLongError
from sa2sr.serving.decoding import Decoders, Job
from sa2sr.serving.monitoring import Monitor
from sa2sr.serving.requests import Upload
from sa2sr.serving.service import Service
from sa2sr.serving.settings import Limits
from tests.serving.conftest import Server, Voice


@pytest.fixture(scope="module")
def speech(voice: Voice, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "a.wav"
    soundfile.write(path, voice(40, 1, 8_000), 8_000)
    return path


def same(one: Clip, other: Clip) -> bool:
    (frames, said), (other_frames, other_said) = (
        (clip.frames, (clip.file, clip.start, clip.end, clip.note)) for clip in (one, other)
    )
    return said == other_said and bool((frames == other_frames).all())


def test_decoders_give_the_clips_of_files_and_survive_what_happens_to_them(
    model: Model, speech: Path, tmp_path: Path
) -> None:
    frontend, shortest = model.settings.frontend, model.shortest
    job = Job(speech, 30.0, Windows(3, 1), 100.0)
    expected = list(file_clips(speech, frontend, longest=30, shortest=shortest, windows=Windows(3, 1)))
    empty = tmp_path / "empty.wav"
    empty.touch()

    async def clips(decoders: Decoders, job: Job) -> list[Clip]:
        return [clip async for chunk in decoders.clips(job) for clip in chunk]

    async def run() -> None:
        decoders = Decoders(1, frontend, shortest=shortest, patience=60)
        await decoders.start()
        for _ in range(2):
            got = await clips(decoders, job)
            assert len(got) == len(expected)
            assert all(map(same, got, expected))
        with pytest.raises(AudioError, match="is empty"):
            await clips(decoders, replace(job, path=empty))
        with pytest.raises(TooLongError, match="longer than 39 s"):
            await clips(decoders, replace(job, seconds=39))
        async with aclosing(decoders.clips(job)) as chunks:  # who does not want all of it
            assert same((await anext(chunks))[0], expected[0])
        assert decoders.restarts == 0
        decoders.patience = 0.0001
        with pytest.raises(AudioError, match="too long to decode"):
            await clips(decoders, job)
        assert decoders.restarts == 1
        decoders.patience = 60
        async with aclosing(decoders.clips(job)) as chunks:
            await anext(chunks)
            (process,) = (decoder._process for decoder in decoders._all)
            assert process is not None
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(AudioError, match="died"):
                await anext(chunks)
        assert len(await clips(decoders, job)) == len(expected)
        # Several files share one decoder, and one that waits long is not forgotten.
        results = await asyncio.gather(*(clips(decoders, job) for _ in range(4)))
        assert [len(each) for each in results] == [len(expected)] * 4
        await decoders.close()

    asyncio.run(run())


def test_a_decoder_that_fails_goes_on_and_the_server_logs_why(
    model: Model, speech: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where stderr is a file, to which a decoder may not write."""

    async def run() -> None:
        decoders = Decoders(1, model.settings.frontend, shortest=model.shortest, patience=60)
        await decoders.start()
        try:
            with pytest.raises(AudioError, match=r"cannot be decoded \(ZeroDivisionError\)"):
                _ = [chunk async for chunk in decoders.clips(Job(speech, 0.0, None, 100.0))]
            assert [chunk async for chunk in decoders.clips(Job(speech, 30.0, None, 100.0))]
            assert decoders.restarts == 0
        finally:
            await decoders.close()

    with (tmp_path / "stderr").open("wb") as file:
        before = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            asyncio.run(run())
        finally:
            os.dup2(before, 2)
            os.close(before)
    assert "Traceback" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_the_batcher_answers_everybody_and_faults_stay_with_who_caused_them(model: Model, speech: Path) -> None:
    frontend = model.settings.frontend
    clips = list(file_clips(speech, frontend, longest=2, shortest=0.1))
    expected = list(model.rows(clips))
    batcher = Batcher(model)
    asked = [clips[begin : begin + size] for begin, size in ((0, 3), (3, 1), (0, 0), (4, 9))]
    futures = [batcher.submit(each, 0.0) for each in asked]
    assert [future.result(30) for future in futures] == [
        expected[begin : begin + size] for begin, size in ((0, 3), (3, 1), (0, 0), (4, 9))
    ]
    broken = replace(clips[0], frames=clips[0].frames[:, :7])
    batcher.submit(clips * 3, 0.0)  # during which the next ones gather
    company = [batcher.submit(each, 0.0) for each in (clips[:2], [broken], clips[2:3])]
    with pytest.raises(Exception, match=r"."):
        company[1].result(30)
    assert [company[0].result(30), company[2].result(30)] == [expected[:2], expected[2:3]]
    last = [batcher.submit([clip]) for clip in clips]
    batcher.close()
    assert [future.result(0) for future in last] == [[row] for row in expected]
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(clips[:1]).result(5)
    batcher.close()  # again, which changes nothing


@pytest.mark.parametrize(
    ("options", "enough"),
    [(Options(), True), (Options(window=2), True), (Options(window=2, hop=1), False), (Options(window=0.5), False)],
)
def test_a_request_may_not_ask_for_endless_work(model: Model, speech: Path, options: Options, enough: bool) -> None:
    async def present() -> bool:
        return False

    async def run() -> Answer:
        service = Service(model, Limits(work=50), Monitor(), decoders=1)  # windows of 50 s, over 40 s of audio
        await service.start()
        try:
            return await service.predict([Upload("a.wav", speech)], options, options.heading(model), present)
        finally:
            await service.close()

    answer = asyncio.run(run())
    if enough:
        assert answer.failures == []
        assert answer.rows[-1]["end"] == 40
    else:
        assert ["longer hop" in failure.reason for failure in answer.failures] == [True]
        assert answer.rows == []


def test_the_api_is_described_with_examples(server: Server) -> None:
    with server.client() as client:
        described = client.get("/openapi.json").json()
    for path in ("/v1/predict", "/v1/batch"):
        operation = described["paths"][path]["post"]
        assert "example" in operation["responses"]["200"]["content"]["application/json"]
        assert "multipart/form-data" in operation["requestBody"]["content"]
        assert {"window", "hop", "scale", "format"} <= {each["name"] for each in operation["parameters"]}
    assert {"/v1/model", "/healthz", "/metrics"} <= set(described["paths"])


def test_a_server_of_an_exported_model_needs_no_torch(folder: Path, tmp_path: Path) -> None:
    program = f"""
import sys
for name in ("torch", "lhotse", "accelerate"):
    sys.modules[name] = None
from sa2sr.inference import load
from sa2sr.serving.app import create_app
import sa2sr.serving.server
model = load({str(tmp_path / "onnx")!r})
app = create_app(model)
app.state.service.batcher.close()
app.state.service.spool.close()
print(len(app.openapi()["paths"]))
"""
    from sa2sr.inference.export import export

    export(folder, tmp_path / "onnx", int8=False)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5


def serve(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["sa2sr", "serve", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code


def test_what_cannot_be_served_is_said_at_once(
    folder: Path,
    random_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def says(*arguments: str) -> str:
        assert serve(monkeypatch, *arguments) == 2
        return capsys.readouterr().err

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert "choose another" in says("-m", str(folder), "--port", str(taken.getsockname()[1]))
    assert "does not predict activation, valence and dominance" in says("-m", str(random_model(heads=("ctc",))))
    assert "no.such.host" in says("-m", str(folder), "--host", "no.such.host.invalid")
    token = tmp_path / "token"
    assert "cannot be read" in says("-m", str(folder), "--token-file", str(token))
    token.write_text("short")
    assert "16 or more" in says("-m", str(folder), "--token-file", str(token))
    monkeypatch.setattr("sa2sr.cli.serving.find_spec", lambda name: None if name == "fastapi" else True)
    assert "pip install 'sa2sr[serve]'" in says("-m", str(folder))
    assert json.dumps(sorted(path.name for path in tmp_path.iterdir())) == '["token"]'
