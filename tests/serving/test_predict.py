"""Files over HTTP."""

import csv
import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from sa2sr.inference import Model
from sa2sr.inference.table import Row
from tests.serving.conftest import Server, Voice, serving

Wav = Callable[..., bytes]


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def expected(model: Model, content: bytes, tmp_path: Path, **options: float) -> list[Row]:
    """The rows of offline prediction."""
    path = tmp_path / "offline"
    path.write_bytes(content)
    return list(model.predict(path, **options))


def numbers(rows: list[Row] | list[dict]) -> list[list[float]]:  # type: ignore[type-arg]
    names = ("start", "end", "activation", "valence", "dominance")
    return [[float(row[name] if isinstance(row, dict) else getattr(row, name)) for name in names] for row in rows]


@pytest.mark.parametrize("options", [{}, {"window": 2}, {"window": 1.5, "hop": 0.7}, {"longest": 2}])
@pytest.mark.parametrize(("format_", "rate"), [("WAV", 16_000), ("FLAC", 44_100), ("OGG", 8_000)])
def test_equals_offline_prediction(
    client: httpx.Client, model: Model, wav: Wav, tmp_path: Path, options: dict[str, float], format_: str, rate: int
) -> None:
    content = wav(5.3, 1, rate, format_)
    form = client.post("/v1/predict", params=options, files={"file": ("a b.x", content)})
    body = client.post("/v1/predict", params={**options, "name": "a b.x"}, content=content)
    assert form.status_code == body.status_code == 200
    assert form.json() == body.json()
    answer = form.json()
    offline = expected(model, content, tmp_path, **options)
    assert numbers(answer["rows"]) == numbers(offline)
    assert [row["note"] for row in answer["rows"]] == [row.note for row in offline]
    assert {row["file"] for row in answer["rows"]} == {"a b.x"}
    assert answer["scale"] == model.scale.model_dump()
    assert answer["failures"] == []


def test_a_long_file_comes_in_chunks_and_equals_offline_prediction(
    client: httpx.Client, model: Model, wav: Wav, tmp_path: Path
) -> None:
    content = wav(70, 2, 8_000)
    answer = client.post("/v1/predict", params={"window": 4, "hop": 0.5}, content=content).json()
    offline = expected(model, content, tmp_path, window=4, hop=0.5)
    assert len(offline) > 100
    assert numbers(answer["rows"]) == numbers(offline)


@pytest.mark.parametrize(("suffix", "codec", "rate"), [("m4a", "aac", 44_100), ("webm", "libopus", 48_000)])
def test_containers(
    client: httpx.Client, model: Model, voice: Voice, tmp_path: Path, suffix: str, codec: str, rate: int
) -> None:
    av = pytest.importorskip("av", reason="containers are read by PyAV")
    path = tmp_path / f"a.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(voice(3, 1, rate)[None], format="flt", layout="mono")
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    answer = client.post("/v1/predict", params={"window": 1}, files={"file": ("x", path.read_bytes())}).json()
    assert numbers(answer["rows"]) == numbers(list(model.predict(path, window=1)))
    cut_off = client.post("/v1/predict", content=path.read_bytes()[:200])
    assert cut_off.status_code == 422


def test_formats_and_scales(client: httpx.Client, model: Model, wav: Wav, tmp_path: Path) -> None:
    content = wav(3)

    def get(**options: object) -> httpx.Response:
        return client.post("/v1/predict", params={"window": 1, **options}, content=content)  # type: ignore[arg-type]

    rows = get().json()["rows"]
    table = get(format="csv")
    assert table.headers["content-type"].startswith("text/csv")
    assert table.headers["sa2sr-scale"] == "1-7"
    parsed = list(csv.DictReader(io.StringIO(table.text)))
    assert list(parsed[0]) == list(rows[0])
    assert numbers(parsed) == numbers(rows)
    assert [json.loads(line) for line in get(format="jsonl").text.splitlines()] == rows
    unit = get(scale="0-1").json()
    assert unit["scale"] == {"name": "0-1", "low": 0, "high": 1}
    np.testing.assert_allclose(
        np.array(numbers(unit["rows"]))[:, 2:], (np.array(numbers(rows))[:, 2:] - 1) / 6, atol=1e-6
    )


def test_a_batch_keeps_the_order_and_goes_on_after_failures(
    client: httpx.Client, model: Model, wav: Wav, tmp_path: Path
) -> None:
    contents = [wav(seconds, seed) for seed, seconds in enumerate((3, 0.2, 1, 2, 0.5))]
    files = [("files", (f"{index}.wav", content)) for index, content in enumerate(contents)]
    files.insert(2, ("files", ("bad.wav", b"no audio")))
    answer = client.post("/v1/batch", files=files).json()
    assert [row["file"] for row in answer["rows"]] == [f"{index}.wav" for index in range(5)]
    assert numbers(answer["rows"]) == numbers([row for each in contents for row in expected(model, each, tmp_path)])
    assert answer["rows"][1]["note"] == "short"
    (failure,) = answer["failures"]
    assert failure["file"] == "bad.wav"
    alone = client.post("/v1/batch", files=[("x", ("bad.wav", b"no audio")), ("x", ("b.wav", b"neither"))])
    assert alone.status_code == 422
    assert "bad.wav" in alone.json()["error"]["message"]
    assert "b.wav" in alone.json()["error"]["message"]


def test_64_clients_at_once_get_what_each_would_get_alone(
    server: Server, model: Model, wav: Wav, tmp_path: Path
) -> None:
    contents = [wav(0.3 + 0.2 * (seed % 8), seed) for seed in range(16)]
    offline = [numbers(expected(model, content, tmp_path)) for content in contents]

    def ask(turn: int) -> tuple[int, object]:
        with server.client() as client:
            response = client.post("/v1/predict", files={"file": ("x.wav", contents[turn % 16])})
        return response.status_code, numbers(response.json()["rows"])

    batches, clips = server.metric("sa2sr_batches"), server.metric("sa2sr_batched_clips")
    with ThreadPoolExecutor(64) as threads:
        results = list(threads.map(ask, range(128)))
    assert results == [(200, offline[turn % 16]) for turn in range(128)]
    assert server.metric("sa2sr_batched_clips") - clips == 128
    assert server.metric("sa2sr_batches") - batches <= 128
    assert server.metric("sa2sr_queue") == 0
    assert server.metric("sa2sr_spooled_bytes") == 0


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_failures_in_a_header_are_bounded(client: httpx.Client, wav: Wav, format_: str) -> None:
    names = [f"{number}{'Ж' * 240}.wav" for number in range(63)]
    files = [("f", (name, b"no audio")) for name in names] + [("f", ("good.wav", wav(0.5)))]
    everything = client.post("/v1/batch", files=files).json()["failures"]
    assert [failure["file"] for failure in everything] == names
    answer = client.post("/v1/batch", params={"format": format_}, files=files)
    assert answer.status_code == 200
    header = answer.headers["sa2sr-failures"]
    first = json.loads(header)
    assert 0 < len(first) < 63
    assert first == everything[: len(first)]
    assert len(header) <= 4096 < len(header) + len(json.dumps(everything[len(first)])) + 2
    assert answer.headers["sa2sr-failure-count"] == "63"
    one = client.post("/v1/batch", params={"format": format_}, files=files[-2:])
    assert json.loads(one.headers["sa2sr-failures"]) == everything[-1:]
    assert one.headers["sa2sr-failure-count"] == "1"


BAD_REQUESTS: list[tuple[dict[str, object], dict[str, object], int, str]] = [
    ({}, {"content": b""}, 400, "no_file"),
    ({}, {"files": {"a": ("a.wav", b"")}}, 422, "empty"),
    ({}, {"data": {"a": "no file"}}, 422, "bad_audio"),
    ({}, {"content": b"--", "headers": {"content-type": "multipart/form-data"}}, 400, "boundary"),
    ({}, {"content": b"\0" * 99, "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "bad_request"),
    ({}, {"files": [("a", ("a.wav", b"x")), ("b", ("b.wav", b"x"))]}, 400, "Too many files"),
    ({"window": -1}, {"content": b"x"}, 422, "window"),
    ({"window": "nan"}, {"content": b"x"}, 422, "window"),
    ({"window": 0.01}, {"content": b"x"}, 422, "windows begin every"),
    ({"hop": 1}, {"content": b"x"}, 422, "needs a window"),
    ({"window": 600, "hop": 0.5}, {"content": b"x"}, 422, "overlap"),
    ({"window": 1, "hop": 2}, {"content": b"x"}, 422, "hop"),
    ({"format": "xml"}, {"content": b"x"}, 422, "format"),
    ({"scale": "1-9"}, {"content": b"x"}, 422, "scale"),
    ({"level": 0.9}, {"content": b"x"}, 422, "calibrat"),
    ({"windows": 2}, {"content": b"x"}, 422, "windows"),
]


@pytest.mark.parametrize(("options", "request_", "status", "says"), BAD_REQUESTS)
def test_bad_requests_are_told_what_is_wrong(
    client: httpx.Client, options: dict[str, str], request_: dict[str, object], status: int, says: str
) -> None:
    response = client.post("/v1/predict", params=options, **request_)  # type: ignore[arg-type]
    assert response.status_code == status, response.text
    assert says in response.text
    assert set(response.json()) == {"error"}


def test_random_bytes_are_4xx_and_harm_nothing(client: httpx.Client, wav: Wav) -> None:
    random = np.random.default_rng(0)
    heads = {name: wav(0.5, 0, 16_000, name) for name in ("WAV", "FLAC", "OGG", "AIFF", "MP3")}
    for turn in range(60):
        content = bytearray(random.bytes(int(random.integers(1, 3000))))
        if turn % 2:
            head = list(heads.values())[turn % 5]
            content = bytearray(head[: int(random.integers(1, len(head)))])
            for _ in range(20):
                content[int(random.integers(len(content)))] = int(random.integers(256))
        response = client.post("/v1/predict", files={"f": ("a.wav", bytes(content))})
        assert response.status_code in (200, 413, 422), response.text
        multipart = {"content-type": "multipart/form-data; boundary=b"}
        broken = b'--b\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n' + bytes(content)
        assert 400 <= client.post("/v1/predict", content=broken, headers=multipart).status_code < 500
    assert client.post("/v1/predict", content=heads["WAV"]).status_code == 200


@pytest.mark.parametrize(
    ("name", "label", "in_form"),  # forms escape some characters, which not all programs undo
    [
        ("../../../etc/passwd", "passwd", "passwd"),
        ("/etc/cron.d/x.wav", "x.wav", "x.wav"),
        ("..\\..\\x.flac", "x.flac", "x.flac"),
        ("..", "..", ".."),
        ("x\0y.wav", "xy.wav", "x%00y.wav"),
        ("\x1b[31m", "[31m", "[31m"),
        ("é\N{SPEAKER}.wav", "é\N{SPEAKER}.wav", "é\N{SPEAKER}.wav"),
        ("x" * 900 + ".wav", "x" * 251 + ".wav", "x" * 251 + ".wav"),
        ("$(touch /tmp/x);.wav", "x);.wav", "x);.wav"),
    ],
)
def test_names_are_only_labels(client: httpx.Client, wav: Wav, name: str, label: str, in_form: str) -> None:
    content = wav(0.5)
    for response, expected in (
        (client.post("/v1/predict", params={"name": name}, content=content), label),
        (client.post("/v1/predict", files={"file": (name, content)}), in_form),
    ):
        assert response.status_code == 200
        (row,) = response.json()["rows"]
        assert row["file"] == expected


def test_an_error_does_not_tell_where_the_file_was(client: httpx.Client) -> None:
    response = client.post("/v1/predict", files={"f": ("secret.wav", b"RIFF1234WAVE")})
    assert response.status_code == 422
    assert "secret.wav" in response.text
    assert not re.search(r"/tmp|sa2sr-", response.text)


def raw(server: Server, *parts: bytes, pause: float = 0) -> bytes:
    """Send parts over a connection of its own and read the answer until the server ends it."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        try:
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        except OSError:
            pass  # the server need not hear it all
        answer = b""
        try:
            while content := connection.recv(1 << 16):
                answer += content
        except ConnectionResetError:
            pass
        return answer


HEAD = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def strict(folder: Path) -> Iterator[Server]:
    """A server that allows little."""
    arguments = ("--max-body", "0.2", "--max-seconds", "5", "--idle", "1", "--max-queue", "2", "--decoding", "30")
    with serving(folder, *arguments) as running:
        yield running


def test_a_body_that_is_too_large_is_cut_off(strict: Server, wav: Wav) -> None:
    announced = raw(strict, HEAD + b"Content-Length: 2000000000\r\n\r\n")
    assert announced.startswith(b"HTTP/1.1 413")
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        yield CHUNKED
        while sent < 50_000_000:
            sent += 10_000
            yield b"2710\r\n" + bytes(10_000) + b"\r\n"

    answer = raw(strict, *endless())  # also of a body that does not say how long it is
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"too_large" in answer
    with strict.client() as client:
        for path in ("/v1/predict", "/v1/batch"):
            form = client.post(path, files={"file": ("a.wav", bytes(300_000))})
            assert form.status_code == 413
        assert client.post("/v1/predict", content=wav(1)).status_code == 200
    assert strict.metric("sa2sr_spooled_bytes") == 0


def test_audio_that_is_too_long(strict: Server, wav: Wav) -> None:
    with strict.client() as client:
        assert client.post("/v1/predict", content=wav(5, 0, 8_000)).status_code == 200
        response = client.post("/v1/predict", content=wav(9, 0, 8_000))
    assert response.status_code == 413
    assert "longer than 5 s" in response.text


def test_slow_clients_are_ended_and_others_do_not_wait(strict: Server, wav: Wav) -> None:
    answers: list[bytes] = []
    slow = [
        threading.Thread(target=lambda: answers.append(raw(strict, HEAD + b"Content-Length: 1000\r\n\r\nabc")))
        for _ in range(20)
    ]
    silent = threading.Thread(target=lambda: answers.append(raw(strict, b"POST /v1/pre")))
    for each in (*slow, silent):
        each.start()
    with strict.client() as client:
        assert client.post("/v1/predict", content=wav(1)).status_code == 200  # of two places in the queue
    for each in (*slow, silent):
        each.join(20)
    assert sorted(answer[:12] for answer in answers) == [b"", *[b"HTTP/1.1 408"] * 20]


def test_killed_clients_leave_nothing_behind(server: Server, wav: Wav) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    content = wav(3)
    head = HEAD + f"Content-Length: {len(content)}\r\n\r\n".encode()
    for size in (0, 10, len(head) + 100, len(head) + len(content) - 1, len(head) + len(content)):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall((head + content)[:size])
    deadline = time.monotonic() + 20
    while server.metric("sa2sr_spooled_bytes") or server.metric("sa2sr_queue"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    with server.client() as client:
        assert client.post("/v1/predict", content=content).status_code == 200


def test_nobody_computes_for_a_client_that_is_gone(server: Server, wav: Wav) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    content = wav(120, 0, 8_000)
    head = HEAD.replace(b"predict", b"predict?window=5&hop=0.1") + f"Content-Length: {len(content)}\r\n\r\n".encode()
    unheard = 'sa2sr_requests_total{route="/v1/predict",status="499"}'
    clips, before = server.metric("sa2sr_batched_clips"), server.metric(unheard)
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(head + content)
    deadline = time.monotonic() + 30
    while server.metric(unheard) == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert server.metric("sa2sr_batched_clips") - clips < 600  # of more than 1100
    assert server.metric("sa2sr_queue") == 0


def test_a_full_queue_answers_503(strict: Server, wav: Wav) -> None:
    contents = [wav(5, seed, 8_000) for seed in range(4)]

    def ask(turn: int) -> httpx.Response:
        with strict.client() as client:
            return client.post("/v1/predict", params={"window": 1, "hop": 0.1}, content=contents[turn % 4])

    with ThreadPoolExecutor(16) as threads:
        responses = list(threads.map(ask, range(48)))
    statuses = {response.status_code for response in responses}
    assert statuses == {200, 503}
    for response in responses:
        if response.status_code == 503:
            assert int(response.headers["retry-after"]) >= 1
            assert response.json()["error"]["code"] == "busy"
    with strict.client() as client:  # a batch for which there will never be room
        files = [("f", (str(turn), contents[0][:1000])) for turn in range(3)]
        assert client.post("/v1/batch", files=files).status_code == 503
    assert strict.metric("sa2sr_queue") == 0
