"""Uploads become clips, in processes that may hang or die without harm to the server."""

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sa2sr.config import FrontEnd
from sa2sr.errors import AudioError
from sa2sr.inference.clips import Clip
from sa2sr.inference.windows import Windows
from sa2sr.serving.decoder import GO_ON, TooLongError, received

logger = logging.getLogger("uvicorn.error")

_LONGEST_LINE = 1 << 20  # bytes that describe a chunk of clips
_LARGEST_CHUNK = 1 << 28  # bytes of its frames


@dataclass(frozen=True)
class Job:
    """What is to be decoded, and how."""

    path: Path
    longest: float  # seconds of a clip
    windows: Windows | None  # instead
    seconds: float  # of audio at most

    def line(self) -> bytes:
        """For the process."""
        windows = [self.windows.duration, self.windows.hop] if self.windows else None
        job = {"path": str(self.path), "longest": self.longest, "windows": windows, "seconds": self.seconds}
        return json.dumps(job).encode() + b"\n"


class Decoders:
    """Some processes, each with one file at a time; files wait for a free one.

    Attributes:
        restarts: how often a process had to be replaced
    """

    def __init__(self, count: int, frontend: FrontEnd, *, shortest: float, patience: float) -> None:
        """Describe them; :meth:`start` starts them.

        Args:
            count: processes
            frontend: of the model
            shortest: shorter clips are noted, in seconds
            patience: how long a file may take, in seconds
        """
        self.patience = patience
        self.restarts = 0
        self._all = [_Decoder(frontend, shortest) for _ in range(count)]
        self._free: asyncio.LifoQueue[_Decoder] = asyncio.LifoQueue()

    async def start(self) -> None:
        """Start the processes."""
        for decoder in self._all:
            await decoder.start()
            self._free.put_nowait(decoder)

    async def close(self) -> None:
        """End them."""
        for decoder in self._all:
            await decoder.kill()

    async def clips(self, job: Job) -> AsyncGenerator[list[Clip], None]:
        """The clips of a file, some at a time.

        A caller that does not want them all must close the iterator.

        Raises:
            TooLongError: if there is more audio than ``job.seconds``, possibly after some clips
            AudioError: if it cannot be decoded, likewise
        """
        decoder = await self._free.get()
        question, going_on, left = job.line(), True, self.patience
        loop = asyncio.get_running_loop()
        try:
            while going_on:
                began = loop.time()
                chunk, going_on = await decoder.ask(question, job.path, left)
                question, left = GO_ON, left - (loop.time() - began)
                if going_on:
                    yield chunk
        finally:
            self.restarts += await asyncio.shield(decoder.settle())
            self._free.put_nowait(decoder)
        yield chunk  # the last one: the next file need not wait until it is predicted


class _Decoder:
    """A process, which is started again when it has died."""

    def __init__(self, frontend: FrontEnd, shortest: float) -> None:
        self._arguments = (frontend.model_dump_json(), repr(shortest))
        self._process: asyncio.subprocess.Process | None = None
        self._state = "idle"  # or "busy" with an answer, or "waiting" to be told whether to go on

    async def start(self) -> None:
        alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "sa2sr.serving.decoder", *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=os.environ | alone,
            limit=_LONGEST_LINE,
            start_new_session=True,  # Ctrl-C is for the server, which finishes its work first
        )

    async def ask(self, question: bytes, path: Path, patience: float) -> tuple[list[Clip], bool]:
        """Clips, and whether more follow.

        Raises:
            AudioError: if there are none, also because the process hangs or dies
        """
        self._state = "busy"
        try:
            async with asyncio.timeout(patience):
                answer, content = await self._exchange(question)
        except TimeoutError:
            raise AudioError(path, "takes too long to decode") from None
        except (EOFError, OSError, ValueError):
            raise AudioError(path, "cannot be decoded: the decoder died of it") from None
        going_on = not answer.get("last", True)
        self._state = "waiting" if going_on else "idle"
        if "trace" in answer:
            logger.error("a decoder failed: %s", answer["trace"])
        if "error" in answer:
            raise (TooLongError if answer["code"] == "too_long" else AudioError)(path, answer["error"])
        return _clips(answer, content), going_on

    async def _exchange(self, question: bytes) -> tuple[dict[str, Any], memoryview]:
        """Send a line, and get the answering line and the bytes that it announces."""
        if self._process is None or self._process.returncode is not None:
            await self.start()
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(question)
        await self._process.stdin.drain()
        answer: dict[str, Any] = json.loads(await self._process.stdout.readline())
        size = sum(4 * clip["shape"][0] * clip["shape"][1] for clip in answer.get("clips", ()))
        if size > _LARGEST_CHUNK:
            raise ValueError(f"a chunk of {size} bytes")
        content = await self._process.stdout.readexactly(size)
        return answer, memoryview(bytearray(content))  # which torch may write to

    async def settle(self) -> bool:
        """Make it ready for another file, and say whether it had to be killed for that."""
        state, self._state = self._state, "idle"
        if state == "waiting" and self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(b"enough\n")
        if state == "busy":
            await self.kill()
        return state == "busy"

    async def kill(self) -> None:
        """End the process at once."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _clips(answer: dict[str, Any], content: memoryview) -> list[Clip]:
    clips, offset = [], 0
    for described in answer["clips"]:
        size = 4 * described["shape"][0] * described["shape"][1]
        clips.append(received(described, content, offset))
        offset += size
    return clips
