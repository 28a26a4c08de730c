"""Predicting many files, or a pipe, into a table on disk or on the terminal."""

import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sa2sr.errors import AudioError, TableError
from sa2sr.files import write_text
from sa2sr.inference.engine import cores
from sa2sr.inference.journal import Journal, Position
from sa2sr.inference.model import Model
from sa2sr.inference.options import Options
from sa2sr.inference.pipe import NAME, Pipe
from sa2sr.inference.rows import Failure, Row
from sa2sr.inference.sources import Source, find_audio
from sa2sr.inference.stream import Stream
from sa2sr.inference.table import EmotionTable, table_writer
from sa2sr.inference.windows import Windows
from sa2sr.inference.workers import Chunk, predict_chunks
from sa2sr.progress import progress

# Sources that are sorted by duration together, and after which the journal notes how far the job has come.
CHUNK_SOURCES = 128
CHUNK_BYTES = 16 << 20
# From which on several processes are worth their start.
MANY_SOURCES, MANY_BYTES = 512, 64 << 20


@dataclass(frozen=True)
class Summary:
    """What became of a job."""

    files: int
    rows: int
    failures: list[Failure]
    audio_seconds: float
    wall_seconds: float
    heard_before: float = 0.0  # seconds of the audio that an earlier job had done

    def __str__(self) -> str:
        """One line for a person."""
        speed = (self.audio_seconds - self.heard_before) / max(self.wall_seconds, 1e-9)
        counted = (
            f"{_count(self.rows, 'row')} of {_count(self.files, 'file')}, {_duration(self.audio_seconds)} of audio"
        )
        before = f" ({_duration(self.heard_before)} of it earlier)" if self.heard_before else ""
        failed = f"; {len(self.failures):,} failed" if self.failures else ""
        return f"{counted}{before} in {self.wall_seconds:.1f} s ({speed:.0f}x real time){failed}"


def predict_files(
    model: Model,
    audio: Iterable[str | Source],
    out: str | Path | None = None,
    options: Options | None = None,
    *,
    jobs: int | None = None,
    resume: bool = False,
) -> Summary:
    """Predict files, folders, patterns, lists and segments into a table.

    Rows are written as they come, in the order of the audio, whatever the number of processes. What cannot be read is
    listed in ``<out>.errors.jsonl``, and the rest goes on.

    Args:
        model: that predicts emotions
        audio: see :func:`sa2sr.inference.sources.find_audio`
        out: a .csv, .jsonl or .parquet file; the table is printed where there is none
        options: of the predictions
        jobs: processes; by default one a processor where there is much to do on a CPU, otherwise none but this one
        resume: continue a job for ``out`` that was interrupted

    Raises:
        AudioError: if nothing at all could be predicted; then no table is written
        ModelError: if the model cannot give what the options ask for
        TableError: if the table cannot be written, or the job that was interrupted was another
    """
    options = options or Options()
    heading, began = options.heading(model), time.monotonic()
    sources = list(find_audio(audio))
    if not sources:
        raise AudioError("(nothing)", "no file or folder was named")
    files = len({_file(each) for each in sources if not isinstance(each, Failure)})
    table = EmotionTable([], heading)
    journal = Journal(out, heading, _identity(model, options), resume=resume) if out is not None else None
    with journal or nullcontext():
        done = journal.position if journal else Position()
        digest = _checked_digest(sources[: done.sources], done.digest, journal)
        before, failures = done.seconds, list(journal.failures) if journal else []
        chunks = list(_chunks(sources[done.sources :]))
        with progress("Files", total=len(sources)) as advance:
            advance(done.sources)
            for chunk, results in zip(chunks, _results(model, chunks, options, jobs), strict=True):
                heard, failed = _Clock(done.seconds), list[Failure]()
                rows = done.rows
                for each in results:
                    if isinstance(each, Failure):
                        failed.append(each)
                        continue
                    rows += 1
                    heard.add(each)
                    (journal.add if journal else table.rows.append)(each)
                    if rows % 100 == 0:
                        advance(0, _speed(heard.seconds - before, began))
                for source in chunk:
                    digest.update(repr(source).encode(errors="backslashreplace") + b"\0")
                done = Position(done.sources + len(chunk), digest.hexdigest(), rows, heard.seconds)
                failures += failed
                if journal:
                    journal.checkpoint(done, failed)
                advance(len(chunk), _speed(done.seconds - before, began))
        if out is not None:
            _write_failures(out, failures)
        if not done.rows:
            if journal:
                journal.discard()
            raise _nothing_done(failures)
        if journal:
            journal.complete()
    if out is None:
        table.print()
    return Summary(files, done.rows, failures, done.seconds, time.monotonic() - began, before)


def predict_pipe(model: Model, pipe: Pipe, out: str | Path | None = None, options: Options | None = None) -> Summary:
    """Predict what comes through a pipe, while it comes.

    An interruption from the keyboard ends the audio, and the table is completed. Audio that breaks off with an error
    keeps the rows before it.

    Args:
        model: that predicts emotions
        pipe: the audio
        out: a .csv, .jsonl or .parquet file; rows are printed as JSON lines where there is none
        options: of the predictions; windows are 6 s every 2 s by default

    Raises:
        AudioError: if nothing came that could be predicted
        ModelError: if the model cannot give what the options ask for
        TableError: if the table cannot be written
    """
    options = options or Options()
    heading, windows, began = options.heading(model), options.windows or Windows(), time.monotonic()
    stream = Stream(model, pipe.sampling_rate, windows, heading, channels=pipe.channels, name=NAME)

    def show(row: Row) -> None:
        print(json.dumps(heading.values(row)), flush=True)

    heard, rows, failures = _Clock(0.0), 0, list[Failure]()
    with table_writer(out, heading) if out is not None else nullcontext(show) as add:
        for each in _rows_while_they_come(stream, pipe):
            if isinstance(each, Failure):
                failures.append(each)
            else:
                rows += 1
                heard.add(each)
                add(each)
        if out is not None:
            _write_failures(out, failures)
        if not rows:
            raise _nothing_done(failures or [Failure(NAME, "holds no samples")])
    return Summary(1, rows, failures, heard.seconds, time.monotonic() - began)


def failures_file(out: str | Path) -> Path:
    """Where the failures of a job are listed."""
    return Path(f"{out}.errors.jsonl")


class _Clock:
    """Seconds of audio in consecutive rows, where overlaps of windows count once."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._file, self._end = "", 0.0

    def add(self, row: Row) -> None:
        heard = self._end if row.file == self._file and row.start <= self._end else 0.0
        self.seconds += max(0.0, row.end - max(row.start, heard))
        self._file, self._end = row.file, row.end


def _rows_while_they_come(stream: Stream, pipe: Pipe) -> Iterator[Row | Failure]:
    failures: list[Failure] = []
    try:
        for samples in pipe:
            yield from stream.push(samples)
    except KeyboardInterrupt:
        pass
    except AudioError as error:
        failures.append(Failure(stream.name, error.reason))
    yield from stream.flush()
    yield from failures


def _results(
    model: Model, chunks: Sequence[Chunk], options: Options, jobs: int | None
) -> Iterator[Iterable[Row | Failure]]:
    """Of each chunk, here or in several processes."""
    jobs = min(_jobs(model, chunks) if jobs is None else jobs, len(chunks))
    if jobs > 1 and model.origin is not None:
        yield from predict_chunks(model.origin, chunks, options, jobs)
    else:
        yield from (options.rows(model, chunk) for chunk in chunks)


def _jobs(model: Model, chunks: Sequence[Chunk]) -> int:
    """How many processes are worth their start."""
    if model.origin is None or model.origin.device != "cpu":
        return 1
    many = sum(map(len, chunks)) >= MANY_SOURCES or sum(_size(each) for chunk in chunks for each in chunk) >= MANY_BYTES
    return cores() if many else 1


def _chunks(sources: Sequence[Source]) -> Iterator[Chunk]:
    """Consecutive sources. Where a chunk ends depends on nothing but the sources since the last one ended."""
    chunk: list[Source] = []
    size = 0
    for source in sources:
        bytes_ = _size(source)
        if chunk and (len(chunk) == CHUNK_SOURCES or size + bytes_ > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(source)
        size += bytes_
    if chunk:
        yield chunk


def _size(source: Source) -> int:
    """Bytes of a file; of a segment, which is a part of one, none are known."""
    try:
        return os.stat(source).st_size if isinstance(source, Path) else 0
    except (OSError, ValueError):
        return 0


def _file(source: Source) -> str:
    return str(source) if isinstance(source, Path) else source.file


def _identity(model: Model, options: Options) -> dict[str, Any]:
    """What decides about the rows of a job, beside its sources."""
    origin = model.origin
    weights = {"weights": origin.digest(), "engine": origin.engine, "int8": origin.int8} if origin else {}
    return {**options.described(), **weights}


def _checked_digest(sources: Sequence[Source], digest: str, journal: Journal | None) -> Any:
    """The digest of the sources that an earlier job has done, to be continued.

    Raises:
        TableError: if they are others now
    """
    found = blake2b(digest_size=16)
    for source in sources:
        found.update(repr(source).encode(errors="backslashreplace") + b"\0")
    if digest and digest != found.hexdigest() and journal:
        raise TableError(
            f"{journal.journal}: the files that have been predicted are not the first of those that are named now; "
            "name the same, or begin anew without --resume"
        )
    return found


def _nothing_done(failures: Sequence[Failure]) -> AudioError:
    more = f"; {len(failures) - 1:,} more failed, and none gave a row" if len(failures) > 1 else ""
    return AudioError(failures[0].file, failures[0].reason + more)


def _write_failures(out: str | Path, failures: Sequence[Failure]) -> None:
    """List the failures, or remove the list of an earlier job."""
    path = failures_file(out)
    lines = [json.dumps({"file": each.file, "reason": each.reason}) + "\n" for each in failures]
    try:
        if lines:
            write_text(path, "".join(lines))
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise TableError(f"{path}: cannot be written ({error.strerror})") from None


def _speed(seconds: float, began: float) -> str:
    return f"{seconds / max(time.monotonic() - began, 1e-9):.0f}x real time"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}:{minutes:02d}:{int(rest):02d}"
    return f"{minutes}:{int(rest):02d} min" if minutes else f"{rest:.1f} s"
