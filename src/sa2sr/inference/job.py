"""Predicting many files into a table on disk or on the terminal."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from sa2sr.errors import AudioError, TableError
from sa2sr.files import write_text
from sa2sr.inference.model import LONGEST, Model
from sa2sr.inference.sources import find_audio
from sa2sr.inference.table import EmotionTable, Failure, table_writer
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
    model: Model, audio: Sequence[str | Path], out: str | Path | None = None, *, longest: float = LONGEST
) -> Summary:
    """Predict files and folders into a table.

    Rows are written as they come. What cannot be read is listed in ``<out>.errors.jsonl``, and the rest goes on.

    Args:
        model: that predicts emotions
        audio: files and folders
        out: a .csv or .jsonl file; the table is printed where there is none
        longest: duration of a row at most, in seconds

    Raises:
        AudioError: if nothing at all could be predicted; then no table is written
        ModelError: if the model does not predict emotions
        TableError: if the table cannot be written
    """
    sources = list(find_audio(audio))
    if not sources:
        raise AudioError("(nothing)", "no file or folder was named")
    files = sum(isinstance(source, Path) for source in sources)
    table = EmotionTable([], model.scale, model.settings.name)
    rows, audio_seconds, began = 0, 0.0, time.monotonic()
    writer = table_writer(out, table.scale, table.model) if out is not None else nullcontext(table.rows.append)
    with writer as add, progress("Files", total=len(sources)) as advance:
        for each in model.rows(model.clips(_counted(sources, advance), longest=longest)):
            if isinstance(each, Failure):
                table.failures.append(each)
                continue
            add(each)
            rows, audio_seconds = rows + 1, audio_seconds + each.end - each.start
        if out is not None:
            _write_failures(out, table.failures)
        if not rows:
            first = table.failures[0]
            more = f"; {len(table.failures) - 1:,} more failed, and none gave a row" if len(table.failures) > 1 else ""
            raise AudioError(first.file, first.reason + more)
    if out is None:
        table.print()
    return Summary(files, rows, table.failures, audio_seconds, time.monotonic() - began)


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
