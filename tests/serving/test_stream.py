"""Live audio over a WebSocket."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import create_connection
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from sa2sr.inference import Model
from tests.serving.conftest import Server, Voice, serving
from tests.serving.test_predict import Wav, numbers

TOKEN = "not-a-secret-0123456789"


def opened(server: Server, **options: Any) -> ClientConnection:
    return connect(server.stream_url, proxy=None, compression=None, **options)


def receive(socket: ClientConnection, timeout: float = 30) -> dict[str, Any]:
    message = json.loads(socket.recv(timeout=timeout))
    assert isinstance(message, dict)
    return message


def streamed(server: Server, start: dict[str, Any], chunks: Iterator[bytes]) -> list[dict[str, Any]]:
    """All that the server says about a stream."""
    with opened(server) as socket:
        socket.send(json.dumps(start))
        messages = [receive(socket)]
        assert messages[0]["type"] == "ready", messages
        for chunk in chunks:
            socket.send(chunk)
        socket.send('{"end": true}')
        while messages[-1]["type"] != "end":
            messages.append(receive(socket))
    return messages


def pieces(content: bytes, seed: int) -> Iterator[bytes]:
    """Pieces of any size, which need not end between samples."""
    random = np.random.default_rng(seed)
    begin = 0
    while begin < len(content):
        size = int(random.choice([0, 1, 3, 640, 5001, 40_000]))
        yield content[begin : begin + size]
        begin += size


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("encoding", "rate", "channels"), [("pcm16", 16_000, 1), ("float32", 48_000, 2)])
def test_estimates_equal_offline_windows(
    server: Server, model: Model, voice: Voice, encoding: str, rate: int, channels: int, seed: int
) -> None:
    samples = np.stack([voice(5.3, seed + channel, rate) for channel in range(channels)])
    if encoding == "pcm16":
        samples = np.rint(samples * 32767).astype("<i2")  # type: ignore[assignment]
    start = {"rate": rate, "encoding": encoding, "channels": channels, "window": 2, "hop": 0.75, "name": "me"}
    messages = streamed(server, start, pieces(samples.T.tobytes(), seed))
    offline = list(model.predict(samples, rate, window=2, hop=0.75))
    assert [each["type"] for each in messages] == ["ready", *["estimate"] * len(offline), "end"]
    assert numbers(messages[1:-1]) == numbers(offline)
    assert {each["file"] for each in messages[1:-1]} == {"me"}
    assert messages[0]["scale"] == model.scale.model_dump()
    assert messages[-1]["rows"] == len(offline)


def test_an_estimate_comes_while_the_stream_goes_on(server: Server, voice: Voice) -> None:
    second = np.rint(voice(1) * 32767).astype("<i2").tobytes()
    with opened(server) as socket:
        socket.send(json.dumps({"rate": 16_000, "window": 1, "hop": 1}))
        assert receive(socket)["type"] == "ready"
        for turn in range(3):
            socket.send(second)
            estimate = receive(socket)
            assert (estimate["start"], estimate["end"]) == (turn, turn + 1)


def test_many_streams_at_once(server: Server, model: Model, voice: Voice) -> None:
    recordings = [np.rint(voice(3, seed) * 32767).astype("<i2") for seed in range(4)]
    offline = [numbers(list(model.predict(each, 16_000, window=1, hop=0.5))) for each in recordings]

    def one(turn: int) -> list[list[float]]:
        content = recordings[turn % 4].tobytes()
        start = {"rate": 16_000, "window": 1, "hop": 0.5}
        return numbers(streamed(server, start, pieces(content, turn))[1:-1])

    with ThreadPoolExecutor(16) as threads:
        assert list(threads.map(one, range(32))) == [offline[turn % 4] for turn in range(32)]
    assert server.metric("sa2sr_streams") == 0


@pytest.mark.parametrize(
    ("start", "says"),
    [
        ("no json", "JSON"),
        (b"\0\0", "JSON"),
        ("[]", "dictionary"),
        ("{}", "rate"),
        ('{"rate": 3}', "3 Hz"),
        ('{"rate": 1e99}', "rate"),
        ('{"rate": 16000, "encoding": "mp3"}', "encoding"),
        ('{"rate": 16000, "hop": 7}', "hop"),
        ('{"rate": 16000, "window": 1, "hop": 0.001}', "windows begin"),
        ('{"rate": 16000, "channels": 0}', "channels"),
        ('{"rate": 16000, "more": 1}', "more"),
        ("[" * 100_000, "JSON"),
    ],
)
def test_a_bad_start_is_told_what_is_wrong(server: Server, start: str | bytes, says: str) -> None:
    with opened(server) as socket:
        socket.send(start)
        message = receive(socket)
        assert message["type"] == "error"
        assert says in message["message"]
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)


def test_what_is_not_audio_ends_a_stream(server: Server, folder: Path) -> None:
    for message, says in (
        (np.array([np.nan], np.float32).tobytes(), "not finite"),
        ("{}", "end"),
        ("?", "JSON"),
    ):
        with opened(server) as socket:
            socket.send(json.dumps({"rate": 16_000, "encoding": "float32"}))
            assert receive(socket)["type"] == "ready"
            socket.send(message)
            error = receive(socket)
            assert error["type"] == "error"
            assert says in error["message"]
    with opened(server) as socket:
        socket.send(json.dumps({"rate": 16_000}))
        receive(socket)
        # Its first bytes say how long it will be. More than these could still be on their way when the server closes,
        # which would reset the connection, and its answer with it.
        socket.socket.sendall(bytes([0x82, 0x80 | 127]) + (2_000_000).to_bytes(8, "big") + bytes(4))
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    deadline = time.monotonic() + 10
    while server.metric("sa2sr_streams"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_limits_and_a_token(folder: Path, voice: Voice) -> None:
    arguments = ("--idle", "1", "--max-streams", "1", "--allow-origin", "https://friend.example")
    with serving(folder, *arguments, SA2SR_TOKEN=TOKEN) as server:
        header = {"Authorization": f"Bearer {TOKEN}"}
        with server.client() as client:
            for path in ("/v1/model", "/metrics"):
                assert client.get(path).status_code == 401
                assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
                assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
            refused = client.post("/v1/predict", content=b"x")
            assert refused.status_code == 401
            assert refused.json()["error"]["code"] == "unauthorised"
            assert client.get("/").status_code == 200  # the page, which asks for the token
            friendly = client.get("/v1/model", headers={**header, "Origin": "https://friend.example"})
            assert friendly.headers["access-control-allow-origin"] == "https://friend.example"
        for start, status in (({}, "error"), ({"token": "wrong"}, "error"), ({"token": TOKEN}, "ready")):
            with opened(server) as socket:
                socket.send(json.dumps({"rate": 16_000, **start}))
                assert receive(socket)["type"] == status
        with opened(server, additional_headers=header) as socket:
            socket.send(json.dumps({"rate": 16_000}))
            assert receive(socket)["type"] == "ready"
            with opened(server, additional_headers=header) as second:
                second.send(json.dumps({"rate": 16_000}))
                assert receive(second)["code"] == "busy"
            assert receive(socket)["code"] == "too_slow"  # nothing came for a second
        with opened(server) as socket:
            assert receive(socket)["code"] == "too_slow"  # not even a beginning
        with opened(server, origin="https://friend.example"):
            pass
        for stranger in ("https://evil.example", "null"):
            with pytest.raises(InvalidStatus) as refusal:
                opened(server, origin=stranger)
            assert refusal.value.response.status_code == 403


def test_origins_and_names_are_closed_by_default(server: Server) -> None:
    with server.client() as client:
        foreign = client.get("/v1/model", headers={"Origin": "https://evil.example"})
        assert foreign.status_code == 403
        assert "access-control-allow-origin" not in foreign.headers
        assert client.get("/v1/model", headers={"Origin": server.url}).status_code == 200
        for malformed in ("http://[::1", "http://[x]/", "null", ""):
            assert client.get("/v1/model", headers={"Origin": malformed}).status_code == 403
        # A name of somebody else that points to this machine.
        rebound = client.get("/v1/model", headers={"Host": "evil.example", "Origin": "http://evil.example"})
        assert rebound.status_code == 421
    for stranger in ("https://evil.example", "http://[::1"):
        with pytest.raises(InvalidStatus) as refusal:
            opened(server, origin=stranger)
        assert refusal.value.response.status_code == 403


def test_shutdown_finishes_what_was_accepted(folder: Path, model: Model, voice: Voice, wav: Wav) -> None:
    content, speech = wav(30, 1, 8_000), np.rint(voice(2.5) * 32767).astype("<i2")
    with serving(folder) as server, ThreadPoolExecutor(8) as threads:

        def ask(_: int) -> int:
            with server.client() as own:
                response = own.post("/v1/predict", params={"window": 2, "hop": 0.2}, content=content)
            return len(response.json()["rows"])

        with opened(server) as socket:
            socket.send(json.dumps({"rate": 16_000, "window": 1, "hop": 1}))
            assert receive(socket)["type"] == "ready"
            answers = [threads.submit(ask, turn) for turn in range(4)]
            while server.metric("sa2sr_queue") < 4:
                time.sleep(0.02)
            socket.send(speech.tobytes())
            server.process.send_signal(signal.SIGTERM)
            messages = [receive(socket)]
            while messages[-1]["type"] != "end":
                messages.append(receive(socket))
        assert numbers(messages[:-1]) == numbers(list(model.predict(speech, 16_000, window=1, hop=1)))
        rows = len(model.predict(voice(30, 1, 8_000), 8_000, window=2, hop=0.2))
        assert [each.result() for each in answers] == [rows] * 4
        assert server.process.wait(60) == 0
        with pytest.raises(OSError, match="refused"):
            opened(server)


def test_shutdown_has_one_deadline(folder: Path) -> None:
    with serving(folder, "--grace", "8") as server, opened(server) as stream:
        # A stream with minutes of work, and a request that never ends.
        stream.send(json.dumps({"rate": 1_000, "window": 6, "hop": 0.1}))
        assert receive(stream)["type"] == "ready"
        stream.send(bytes(1_000_000))
        assert receive(stream)["type"] == "estimate"
        host, _, port = server.url.removeprefix("http://").partition(":")
        with create_connection((host, int(port))) as request:
            request.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc")
            time.sleep(0.5)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 0
        assert 7 < time.monotonic() - began < 15
        assert server.process.stderr is not None
        assert "graceful shutdown exceeded" in server.process.stderr.read()  # which may go on with a trace of uvicorn's


def test_a_socket_that_says_nothing_of_itself(server: Server) -> None:
    with opened(server) as socket:
        socket.close()
    with opened(server) as socket:
        socket.send(json.dumps({"rate": 16_000, "name": "\ud800"}))
        assert receive(socket)["type"] in ("ready", "error")
