"""Live audio over a WebSocket: chunks in, estimates out.

The client begins with ``{"rate": 48000, "encoding": "pcm16"}`` and is told that the server is ready. Then it sends
samples as binary messages of any size, and gets an estimate whenever a window is complete. ``{"end": true}`` gives
what is left and ends the stream. Every message of the server has a ``type``: ready, estimate, end or error.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from sa2sr.audio import MAX_CHANNELS
from sa2sr.errors import AudioError, UserError
from sa2sr.inference.stream import Stream
from sa2sr.inference.table import Failure, Row
from sa2sr.serving.answers import Answer, Form
from sa2sr.serving.guard import authorised
from sa2sr.serving.refusals import RefusalError
from sa2sr.serving.service import Service
from sa2sr.serving.settings import Access

_TYPES = {"pcm16": "<i2", "float32": "<f4"}
_CLOSE_CODES = {401: 1008, 408: 1008, 413: 1009, 422: 1007, 503: 1013}  # of WebSockets, for the statuses of HTTP
_PIECE = 1.0  # seconds that are predicted at a time, however much comes at once


class Start(Form):
    """The first message of a stream."""

    rate: int = Field(description="Sampling rate in Hz.")
    encoding: Literal["pcm16", "float32"] = "pcm16"
    channels: int = Field(1, ge=1, le=MAX_CHANNELS, description="Interleaved.")
    window: float = Field(6.0, gt=0, description="Seconds of an estimate.")
    hop: float = Field(2.0, gt=0, description="Seconds from an estimate to the next.")
    name: str = Field("stream", max_length=255, description="In the column file.")
    token: str | None = Field(None, description="Where there is no header to put it in, as in a browser.")


class Samples:
    """Bytes become samples, wherever messages cut them."""

    def __init__(self, start: Start) -> None:
        self.type, self.channels = np.dtype(_TYPES[start.encoding]), start.channels
        self.piece = max(1, round(_PIECE * start.rate))
        self._rest = b""

    def __call__(self, content: bytes) -> Iterator[NDArray[Any]]:
        """Pieces (samples,) or (channels, samples) of a message and of what was left of the one before."""
        content = self._rest + content
        frame = self.type.itemsize * self.channels
        whole = len(content) // frame * frame
        self._rest = content[whole:]
        samples = np.frombuffer(content[:whole], self.type).reshape(-1, self.channels)
        for begin in range(0, len(samples), self.piece):
            piece = samples[begin : begin + self.piece]
            yield piece[:, 0] if self.channels == 1 else piece.T


class Session:
    """A stream of one client."""

    def __init__(self, socket: WebSocket, service: Service, access: Access, threads: ThreadPoolExecutor) -> None:
        self.socket, self.service, self.access, self.threads = socket, service, access, threads
        self.rows = 0

    async def run(self) -> None:
        """Serve the client until it ends the stream, is gone, or the server shuts down."""
        await self.socket.accept()
        try:
            await self._run()
            await self.socket.close(1000)
        except WebSocketDisconnect:
            pass
        except RefusalError as refusal:
            if self.socket.application_state is WebSocketState.CONNECTED:
                await self._send({"type": "error", **refusal.body()["error"]})
                await self.socket.close(_CLOSE_CODES.get(refusal.status, 1011))

    async def _run(self) -> None:
        self.service.check_open()
        start = await self._start()
        heading = start.heading(self.service.model)
        with self.service.streams.held():
            try:
                stream = self.service.model.stream(
                    start.rate,
                    window=start.window,
                    hop=start.hop,
                    channels=start.channels,
                    name=start.name,
                    level=start.level,
                    scale=start.scale,
                    transcript=start.transcript,
                    sentiment=start.sentiment,
                )
            except (UserError, ValueError) as error:
                raise RefusalError(422, "bad_request", str(error)) from None
            answer = Answer(heading)
            await self._send({"type": "ready", **answer.described(), "columns": heading.columns})
            samples = Samples(start)
            while (content := await self._next()) is not None:
                arrived = time.perf_counter()
                for piece in samples(content):
                    await self._estimate(stream, answer, piece, arrived)
            await self._estimate(stream, answer, None, time.perf_counter())
            await self._send({"type": "end", "rows": self.rows})

    async def _start(self) -> Start:
        """The first message.

        Raises:
            RefusalError: if it is not one, or a token is missing
        """
        message = await self._receive()
        try:
            start = Start.model_validate(_parsed(message))
        except ValidationError as error:
            raise RefusalError(422, "bad_request", described(error)) from None
        if not authorised(self.socket.headers, self.access) and not (
            start.token is not None and authorised(self.socket.headers, self.access, start.token)
        ):
            raise RefusalError(401, "unauthorised", "the token is missing or wrong")
        self.service.check_windows(start.window, start.hop)
        return start

    async def _next(self) -> bytes | None:
        """The bytes of the next message; None at the end, which may be that of the server."""
        receiving = asyncio.ensure_future(self._receive())
        draining = asyncio.ensure_future(self.service.draining.wait())
        try:
            await asyncio.wait((receiving, draining), return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                return None
            message = receiving.result()
        finally:
            receiving.cancel()
            draining.cancel()
        if message.get("bytes") is not None:
            return bytes(message["bytes"])
        if _parsed(message) != {"end": True}:
            raise RefusalError(422, "bad_request", 'a message is samples, as bytes, or {"end": true}')
        return None

    async def _receive(self) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self.service.limits.idle):
                message = await self.socket.receive()
        except TimeoutError:
            raise RefusalError(408, "too_slow", f"nothing came for {self.service.limits.idle:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        return dict(message)

    async def _estimate(self, stream: Stream, answer: Answer, piece: NDArray[Any] | None, arrived: float) -> None:
        """Send the estimates that a piece completes, or those that the end does."""
        loop = asyncio.get_running_loop()
        try:
            if piece is None:
                results = await loop.run_in_executor(self.threads, stream.flush)
            else:
                results = await loop.run_in_executor(self.threads, stream.push, piece)
        except AudioError as error:
            raise RefusalError(422, "bad_audio", error.reason) from None
        for each in results:
            await self._send(_message(each, answer))
        if results:
            self.rows += len(results)
            self.service.monitor.estimates.observe(time.perf_counter() - arrived)
            self.service.monitor.rows.inc(len(results))

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self.service.limits.idle):
                await self.socket.send_text(json.dumps(message))
        except TimeoutError:
            raise WebSocketDisconnect(1006) from None  # who does not read is as good as gone


def described(error: ValidationError) -> str:
    """What is wrong with an object, in a line."""
    return "; ".join(
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}" if each["loc"] else each["msg"] for each in error.errors()
    )


def _parsed(message: dict[str, Any]) -> Any:
    try:
        return json.loads(message.get("text") or "")
    except (ValueError, RecursionError):
        raise RefusalError(422, "bad_request", "a message that is not samples must be JSON") from None


def _message(result: Row | Failure, answer: Answer) -> dict[str, Any]:
    if isinstance(result, Failure):
        return {"type": "failure", "reason": result.reason}
    return {"type": "estimate", **answer.row(result)}
