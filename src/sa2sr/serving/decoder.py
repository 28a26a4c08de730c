"""The process that decodes uploads: ``python -m sa2sr.serving.decoder FRONTEND SHORTEST``.

Decoders are large libraries that read what strangers send. Here one may crash, hang or fill its memory, and the server
only starts another. Jobs come as JSON lines; so go the clips, each line followed by the frames that it describes.
After every chunk of clips it waits to be told to go on, so that memory is bounded by a chunk.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from sa2sr.audio import probe
from sa2sr.config import FrontEnd
from sa2sr.errors import AudioError
from sa2sr.inference.clips import Clip, file_clips
from sa2sr.inference.windows import Windows

CHUNK_SECONDS = 30.0  # of audio, overlaps counted again; a single clip may be longer
CHUNK_CLIPS = 32
GO_ON = b"on\n"
_DESCRIPTION = tuple(each.name for each in fields(Clip) if each.name != "frames")
_LONGEST_TRACE = 1 << 14  # characters
_MEMORY = 4 << 30  # bytes of addresses that the process may use


class TooLongError(AudioError):
    """Audio that is longer than the server takes."""


def main() -> None:
    """Decode one job after the other until the server closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _limit_resources()
    frontend, shortest = FrontEnd.model_validate_json(sys.argv[1]), float(sys.argv[2])
    jobs = sys.stdin.buffer
    while job := jobs.readline():
        _answer(json.loads(job), frontend, shortest, jobs, answers)


def _answer(job: dict[str, Any], frontend: FrontEnd, shortest: float, jobs: BinaryIO, answers: BinaryIO) -> None:
    try:
        for clips, last in chunks(_clips(job, frontend, shortest)):
            _send(answers, clips, last)
            if not last and jobs.readline() != GO_ON:
                return
    except AudioError as error:
        code = "too_long" if isinstance(error, TooLongError) else "bad_audio"
        _send_line(answers, {"error": error.reason, "code": code})
    except Exception as error:  # of a library that met what its authors did not think of
        # The server logs the trace: this process may not write to a file, which its stderr may be.
        reason, trace = f"cannot be decoded ({type(error).__name__})", traceback.format_exc()[-_LONGEST_TRACE:]
        _send_line(answers, {"error": reason, "code": "bad_audio", "trace": trace})


def _clips(job: dict[str, Any], frontend: FrontEnd, shortest: float) -> Iterator[Clip]:
    """The clips of a file.

    Raises:
        TooLongError: possibly after some clips, where a header promised less
        AudioError: if it cannot be decoded
    """
    path, most = Path(job["path"]), job["seconds"]
    windows = Windows(*job["windows"]) if job["windows"] else None

    def check(seconds: float) -> None:
        if seconds > most:
            raise TooLongError(path, f"is longer than {most:g} s; cut it, or run 'sa2sr predict' on it")

    check(probe(path).seconds)
    for clip in file_clips(path, frontend, longest=job["longest"], shortest=shortest, windows=windows):
        check(clip.end - 1.0)  # headers may promise a little less than there is
        yield clip


def chunks(clips: Iterable[Clip]) -> Iterator[tuple[list[Clip], bool]]:
    """Some clips at a time, each time with whether they are the last."""
    chunk: list[Clip] = []
    seconds = 0.0
    for clip in clips:
        if chunk and (seconds >= CHUNK_SECONDS or len(chunk) == CHUNK_CLIPS):
            yield chunk, False
            chunk, seconds = [], 0.0
        chunk.append(clip)
        seconds += clip.end - clip.start
    yield chunk, True


def _send(answers: BinaryIO, clips: list[Clip], last: bool) -> None:
    described = [
        {**{name: getattr(clip, name) for name in _DESCRIPTION}, "shape": list(clip.frames.shape)} for clip in clips
    ]
    _send_line(answers, {"clips": described, "last": last}, *(clip.frames for clip in clips))


def _send_line(answers: BinaryIO, line: dict[str, Any], *arrays: np.ndarray[Any, np.dtype[np.float32]]) -> None:
    answers.write(json.dumps(line).encode() + b"\n")
    for array in arrays:
        answers.write(np.ascontiguousarray(array, "<f4").data)
    answers.flush()


def received(described: dict[str, Any], content: memoryview, offset: int) -> Clip:
    """A clip as the server gets it.

    Args:
        described: from the line
        content: the frames of all clips of the line
        offset: where those of this one begin, in bytes
    """
    shape = described.pop("shape")
    frames = np.frombuffer(content, "<f4", shape[0] * shape[1], offset).reshape(shape)
    return Clip(**described, frames=frames)


def _limit_resources() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limits = {resource.RLIMIT_AS: _MEMORY, resource.RLIMIT_CORE: 0, resource.RLIMIT_FSIZE: 0}
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    main()
