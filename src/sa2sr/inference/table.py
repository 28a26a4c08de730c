"""The emotion table: what every way of predicting gives, in memory, as CSV and as JSON lines.

A row is a stretch of audio. Its numbers are on the scale of the ratings that the model learnt from, and so are the
intervals around them, where there are any; the scale and the level of the intervals are saved beside the table, as
``<table>.scale.json``.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, Scale, validate
from sa2sr.errors import RecipeError, TableError
from sa2sr.files import atomic, write_json

_LONGEST_LINE = 1 << 20  # characters of a JSON line


@dataclass(frozen=True, slots=True)
class Row:
    """A stretch of audio and the emotions in it."""

    file: str
    start: float  # seconds
    end: float  # seconds
    activation: float  # on the scale of the table, as the next two
    valence: float
    dominance: float
    note: str = ""  # why the numbers should be read with care
    activation_low: float | None = None  # the ends of the intervals; None where there is none
    activation_high: float | None = None
    valence_low: float | None = None
    valence_high: float | None = None
    dominance_low: float | None = None
    dominance_high: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A file, or the rest of one, that gave no row."""

    file: str
    reason: str


COLUMNS = ("file", "start", "end", *DIMENSIONS, "note")  # of a table without intervals
INTERVALS = tuple(f"{dimension}_{end}" for dimension in DIMENSIONS for end in ("low", "high"))
_NUMBERS = ("start", "end", *DIMENSIONS)


def columns_of(level: float) -> tuple[str, ...]:
    """The columns of a table by the level of its intervals: those of a dimension follow it; at 0 there are none."""
    if not level:
        return COLUMNS
    around = {name: (name, f"{name}_low", f"{name}_high") for name in DIMENSIONS}
    return tuple(column for name in COLUMNS for column in around.get(name, (name,)))


@dataclass(frozen=True)
class EmotionTable(Sequence[Row]):
    """Rows, their scale, the name of the model that they come from, and what could not be predicted."""

    rows: list[Row]
    scale: Scale
    model: str
    failures: list[Failure] = field(default_factory=list)
    level: float = 0.0  # of the intervals; at 0 there are none

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return columns_of(self.level)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self.rows[index]

    def column(self, name: str) -> NDArray[Any]:
        """A column, (rows,): ``table.column("valence").mean()``. Where there is no interval its ends are NaN."""
        if name not in self.columns:
            raise KeyError(f"{name!r} is not a column; there are {', '.join(self.columns)}")
        return np.array([getattr(row, name) for row in self.rows], object if name in ("file", "note") else float)

    def write(self, path: str | Path) -> None:
        """Write ``path`` (.csv or .jsonl) and the scale beside it.

        Raises:
            TableError: if the name ends otherwise, or the file cannot be written
        """
        with table_writer(path, self.scale, self.model, self.level) as add:
            for row in self.rows:
                add(row)

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``, which keeps the scale and the level of the intervals in its ``attrs``.

        Raises:
            TableError: if pandas is not installed
        """
        try:
            import pandas  # type: ignore[import-untyped]
        except ImportError:
            raise TableError("to_pandas() needs pandas: pip install pandas") from None
        frame = pandas.DataFrame({name: self.column(name) for name in self.columns})
        frame.attrs.update(scale=self.scale.model_dump(), model=self.model, level=self.level or None)
        return frame

    def print(self) -> None:
        """Print the table on standard output, a number and its interval in one cell."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        # Wide enough that nothing is cut when the output goes to a file.
        console = Console(width=None if Console().is_terminal else 200, highlight=False)
        scale = f"{self.scale.low:g} (low) to {self.scale.high:g} (high)"
        level = f"; in brackets {100 * self.level:g} % intervals" if self.level else ""
        title = f"{escape(self.model)}, scale {escape(self.scale.name)}: {scale}{level}"
        table = Table(title=title, title_justify="left")
        noted = any(row.note for row in self.rows)
        for name in COLUMNS if noted else COLUMNS[:-1]:
            table.add_column(
                name, justify="right" if name in _NUMBERS else "left", overflow="fold", no_wrap=name in _NUMBERS
            )
        for row in self.rows:
            numbers = [_shown(row, name) for name in _NUMBERS]
            name = row.file.encode(errors="backslashreplace").decode()  # which need not be Unicode
            table.add_row(escape(name), *numbers, *([escape(row.note)] if noted else []))
        console.print(table)


def _shown(row: Row, name: str) -> str:
    low, high = (getattr(row, f"{name}_{end}", None) for end in ("low", "high"))
    interval = "" if low is None or high is None else f" \\[{low:.2f}, {high:.2f}]"
    return f"{getattr(row, name):.2f}{interval}"


@contextmanager
def table_writer(path: str | Path, scale: Scale, model: str, level: float = 0.0) -> Iterator[Callable[[Row], None]]:
    """Yield a function that writes a row to a CSV or JSON lines file, by the end of its name.

    Rows go to disk as they come. When the block ends well the file gets its name, and the scale is saved beside it;
    when it fails there is no file.

    Args:
        path: .csv or .jsonl
        scale: of the numbers
        model: its name
        level: of the intervals that the rows have; at 0 they have none

    Raises:
        TableError: if the name ends otherwise, or the file cannot be written
    """
    path = Path(path)
    row_writer = _writer_of(path)
    if path.is_dir():
        raise TableError(f"{path}: is a folder; name a file, such as {path / 'emotions.csv'}")
    try:
        # File names that are not Unicode are written with escapes, which JSON reads back as they were.
        with (
            atomic(path) as temporary,
            temporary.open("w", buffering=1, encoding="utf-8", errors="backslashreplace", newline="") as file,
        ):
            columns = columns_of(level)
            yield row_writer(file, columns)
            described = {"model": model, "level": level or None, "columns": list(columns)}
            write_json(scale_file(path), scale.model_dump() | described)
    except OSError as error:
        raise TableError(f"{path}: cannot be written ({error.strerror or error})") from error


def read_table(path: str | Path, scale: Scale | None = None) -> EmotionTable:
    """Read a table back.

    Args:
        path: a CSV or JSON lines file that :func:`table_writer` wrote; further columns are ignored
        scale: of its numbers, where the file of the scale has been lost

    Raises:
        TableError: naming the file, the line and what is wrong
    """
    path = Path(path)
    rows = _csv_rows if _writer_of(path) is _csv_writer else _json_rows
    model, level = "", 0.0
    if scale is None:
        scale, model, level = _read_scale(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return EmotionTable(list(rows(file, path, level)), scale, model, level=level)
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is not UTF-8 text ({error})") from None


def scale_file(path: str | Path) -> Path:
    """Where the scale of a table is saved."""
    return Path(f"{path}.scale.json")


def values(row: Row, level: float = 0.0) -> dict[str, Any]:
    """A row by column; with its intervals, where they have a level."""
    return {name: getattr(row, name) for name in columns_of(level)}


def _writer_of(path: Path) -> Callable[[IO[str], Sequence[str]], Callable[[Row], None]]:
    formats = {".csv": _csv_writer, ".jsonl": _json_writer}
    if path.suffix.lower() not in formats:
        raise TableError(f"{path}: a table is a .csv or a .jsonl file, not '{path.suffix or path.name}'")
    return formats[path.suffix.lower()]


def _csv_writer(file: IO[str], columns: Sequence[str]) -> Callable[[Row], None]:
    writer = csv.writer(file, lineterminator="\n")
    quoting_writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(columns)

    def write(row: Row) -> None:
        # Before Python 3.13 a carriage return is not quoted by itself.
        (quoting_writer if "\r" in row.file + row.note else writer).writerow([getattr(row, name) for name in columns])

    return write


def _json_writer(file: IO[str], columns: Sequence[str]) -> Callable[[Row], None]:

    def write(row: Row) -> None:
        file.write(json.dumps({name: getattr(row, name) for name in columns}, ensure_ascii=False) + "\n")

    return write


def _csv_rows(file: IO[str], path: Path, level: float) -> Iterator[Row]:
    reader = csv.DictReader(file, strict=True)
    try:
        for entry in reader:
            yield _row(entry, f"{path}, line {reader.line_num}", level)
    except csv.Error as error:
        raise TableError(f"{path}, line {reader.line_num}: is not CSV ({error})") from None


def _json_rows(file: IO[str], path: Path, level: float) -> Iterator[Row]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        where = f"{path}, line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TableError(f"{where}: is not JSON ({error})") from None
        if not isinstance(entry, dict):
            raise TableError(f"{where}: is not an object with the columns {', '.join(COLUMNS)}")
        yield _row(entry, where, level)


def _row(entry: Mapping[str, Any], where: str, level: float) -> Row:
    numbers: dict[str, float | None] = {}
    for name in (*_NUMBERS, *(INTERVALS if level else ())):
        if name in INTERVALS and entry.get(name, 0) in (None, ""):
            numbers[name] = None
            continue
        try:
            number = numbers[name] = float(entry[name])
        except KeyError:
            raise TableError(f"{where}: has no column '{name}'; it has {', '.join(map(str, entry))}") from None
        except (TypeError, ValueError):
            raise TableError(f"{where}: {name} is {entry[name]!r}, not a number") from None
        if not math.isfinite(number):
            raise TableError(f"{where}: {name} is {number}, not a finite number")
    if not isinstance(entry.get("file"), str):
        raise TableError(f"{where}: has no file name")
    return Row(file=entry["file"], note=str(entry.get("note") or ""), **numbers)  # type: ignore[arg-type]


def _read_scale(path: Path) -> tuple[Scale, str, float]:
    sidecar = scale_file(path)
    if not sidecar.is_file():
        raise TableError(
            f"{sidecar}: is missing, so the scale of {path.name} is not known; give it as scale=Scale(...)"
        )
    try:
        saved = json.loads(sidecar.read_bytes()[:_LONGEST_LINE])
        scale = validate(Scale, {name: saved[name] for name in Scale.model_fields}, str(sidecar))
        level = float(saved.get("level") or 0)
        if not 0 <= level < 1:
            raise ValueError(f"level is {level}, not a share")
        return scale, str(saved["model"]), level
    except RecipeError as error:
        raise TableError(str(error)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"{sidecar}: is not the scale of a table ({type(error).__name__}: {error})") from None
