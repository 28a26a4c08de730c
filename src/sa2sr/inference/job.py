"""Predicting many files, or a pipe, into a table on disk or on the terminal."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sa2sr.errors import AudioError, TableError
from sa2sr.files import write_text
from sa2sr.inference.model import LONGEST, Model
from sa2sr.inference.pipe import NAME, Pipe
from sa2sr.inference.sources import find_audio
from sa2sr.inference.stream import Stream
from sa2sr.inference.table import EmotionTable, Failure, Heading, Row, table_writer, values
from sa2sr.inference.windows import Windows
from sa2sr.progress import progress


@dataclass(frozen=True)
class Summary:
    """What became of a job."""

    files: int
    rows: int
    failures: list[Failure]
    audio_seconds: float
    wall_seconds: float

    def __str__(self) -> str:
        """One line for a person."""
        speed = self.audio_seconds / max(self.wall_seconds, 1e-9)
        counted = (
            f"{_count(self.rows, 'row')} of {_count(self.files, 'file')}, {_duration(self.audio_seconds)} of audio"
        )
        failed = f"; {len(self.failures):,} failed" if self.failures else ""
        return f"{counted} in {self.wall_seconds:.1f} s ({speed:.0f}x real time){failed}"


def predict_files(
    model: Model,
    audio: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    longest: float = LONGEST,
    windows: Windows | None = None,
    level: float | None = None,
) -> Summary:
    """Predict files and folders into a table.

    Rows are written as they come. What cannot be read is listed in ``<out>.errors.jsonl``, and the rest goes on.

    Args:
        model: that predicts emotions
        audio: files and folders
        out: a .csv or .jsonl file; the table is printed where there is none
        longest: duration of a row at most, in seconds
        windows: a row for each of these instead
        level: of the intervals, as in :meth:`sa2sr.Model.predict`

    Raises:
        AudioError: if nothing at all could be predicted; then no table is written
        ModelError: if the model does not predict emotions, or has no intervals of this level
        TableError: if the table cannot be written
    """
    sources = list(find_audio(audio))
    if not sources:
        raise AudioError("(nothing)", "no file or folder was named")
    files = sum(isinstance(source, Path) for source in sources)
    level = model.interval_level(level)
    table = EmotionTable([], model.scale, model.settings.name, level=level)
    with progress("Files", total=len(sources)) as advance:
        clips = model.clips(_counted(sources, advance), longest=longest, windows=windows)
        summary = _write(model.rows(clips, level), model, level, out, table.rows.append, files)
    if out is None:
        table.print()
    return summary


def predict_pipe(
    model: Model,
    pipe: Pipe,
    out: str | Path | None = None,
    *,
    windows: Windows | None = None,
    level: float | None = None,
) -> Summary:
    """Predict what comes through a pipe, while it comes.

    An interruption from the keyboard ends the audio, and the table is completed. Audio that breaks off with an error
    keeps the rows before it.

    Args:
        model: that predicts emotions
        pipe: the audio
        out: a .csv or .jsonl file; rows are printed as JSON lines where there is none
        windows: of the rows; 6 s every 2 s by default
        level: of the intervals, as in :meth:`sa2sr.Model.predict`

    Raises:
        AudioError: if nothing came that could be predicted
        ModelError: if the model does not predict emotions, or has no intervals of this level
        TableError: if the table cannot be written
    """
    chosen = windows or Windows()
    stream = model.stream(
        pipe.sampling_rate, window=chosen.duration, hop=chosen.hop, channels=pipe.channels, name=NAME, level=level
    )
    show = partial(_print_row, level=stream.level)
    return _write(_rows_while_they_come(stream, pipe), model, stream.level, out, show, files=1)


def _rows_while_they_come(stream: Stream, pipe: Pipe) -> Iterator[Row | Failure]:
    try:
        for samples in pipe:
            yield from stream.push(samples)
    except KeyboardInterrupt:
        pass
    except AudioError as error:
        yield Failure(stream.name, error.reason)
    yield from stream.flush()


def _print_row(row: Row, level: float) -> None:
    print(json.dumps(values(row, level)), flush=True)


def _write(
    items: Iterable[Row | Failure],
    model: Model,
    level: float,
    out: str | Path | None,
    show: Callable[[Row], None],
    files: int,
) -> Summary:
    """Write rows as they come, or show them where there is no ``out``, and list the failures."""
    failures: list[Failure] = []
    rows, audio_seconds, began = 0, 0.0, time.monotonic()
    file, end = "", 0.0
    heading = Heading(model.scale, model.settings.name, level)
    writer = table_writer(out, heading) if out is not None else nullcontext(show)
    with writer as add:
        for each in items:
            if isinstance(each, Failure):
                failures.append(each)
                continue
            add(each)
            heard = end if each.file == file else 0.0  # windows overlap
            rows, audio_seconds = rows + 1, audio_seconds + each.end - max(each.start, heard)
            file, end = each.file, each.end
        if out is not None:
            _write_failures(out, failures)
        if not rows:
            first = failures[0] if failures else Failure(NAME, "holds no samples")
            more = f"; {len(failures) - 1:,} more failed, and none gave a row" if len(failures) > 1 else ""
            raise AudioError(first.file, first.reason + more)
    return Summary(files, rows, failures, audio_seconds, time.monotonic() - began)


def failures_file(out: str | Path) -> Path:
    """Where the failures of a job are listed."""
    return Path(f"{out}.errors.jsonl")


def _counted(sources: Iterable[Path | Failure], advance: Callable[[int], None]) -> Iterator[Path | Failure]:
    for source in sources:
        yield source
        advance(1)


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


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}:{minutes:02d}:{int(rest):02d}"
    return f"{minutes}:{int(rest):02d} min" if minutes else f"{rest:.1f} s"
