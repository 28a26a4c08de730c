"""The emotion table: what every way of predicting gives, in memory, as CSV and as JSON lines.

A row is a stretch of audio. Its numbers are on the scale of the ratings that the model learnt from; the scale is saved
beside the table, as ``<table>.scale.json``.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
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


@dataclass(frozen=True, slots=True)
class Failure:
    """A file, or the rest of one, that gave no row."""

    file: str
    reason: str


COLUMNS = tuple(column.name for column in fields(Row))
_NUMBERS = ("start", "end", *DIMENSIONS)


@dataclass(frozen=True)
class EmotionTable(Sequence[Row]):
    """Rows, their scale, the name of the model that they come from, and what could not be predicted."""

    rows: list[Row]
    scale: Scale
    model: str
    failures: list[Failure] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> list[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | list[Row]:
        return self.rows[index]

    def column(self, name: str) -> NDArray[Any]:
        """A column, (rows,): ``table.column("valence").mean()``."""
        if name not in COLUMNS:
            raise KeyError(f"{name!r} is not a column; there are {', '.join(COLUMNS)}")
        return np.array([getattr(row, name) for row in self.rows], float if name in _NUMBERS else object)

    def write(self, path: str | Path) -> None:
        """Write ``path`` (.csv or .jsonl) and the scale beside it.

        Raises:
            TableError: if the name ends otherwise, or the file cannot be written
        """
        with table_writer(path, self.scale, self.model) as add:
            for row in self.rows:
                add(row)

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``, which keeps the scale in its ``attrs``.

        Raises:
            TableError: if pandas is not installed
        """
        try:
            import pandas  # type: ignore[import-untyped]
        except ImportError:
            raise TableError("to_pandas() needs pandas: pip install pandas") from None
        frame = pandas.DataFrame({name: self.column(name) for name in COLUMNS})
        frame.attrs.update(scale=self.scale.model_dump(), model=self.model)
        return frame

    def print(self) -> None:
        """Print the table on standard output."""
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        # Wide enough that nothing is cut when the output goes to a file.
        console = Console(width=None if Console().is_terminal else 200, highlight=False)
        scale = f"{self.scale.low:g} (low) to {self.scale.high:g} (high)"
        table = Table(title=f"{escape(self.model)}, scale {escape(self.scale.name)}: {scale}", title_justify="left")
        noted = any(row.note for row in self.rows)
        for name in COLUMNS if noted else COLUMNS[:-1]:
            table.add_column(
                name, justify="right" if name in _NUMBERS else "left", overflow="fold", no_wrap=name in _NUMBERS
            )
        for row in self.rows:
            numbers = [f"{getattr(row, name):.2f}" for name in _NUMBERS]
            name = row.file.encode(errors="backslashreplace").decode()  # which need not be Unicode
            table.add_row(escape(name), *numbers, *([escape(row.note)] if noted else []))
        console.print(table)


@contextmanager
def table_writer(path: str | Path, scale: Scale, model: str) -> Iterator[Callable[[Row], None]]:
    """Yield a function that writes a row to a CSV or JSON lines file, by the end of its name.

    Rows go to disk as they come. When the block ends well the file gets its name, and the scale is saved beside it;
    when it fails there is no file.

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
            yield row_writer(file)
            write_json(scale_file(path), {**scale.model_dump(), "model": model, "columns": list(COLUMNS)})
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
    model = ""
    if scale is None:
        scale, model = _read_scale(path)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return EmotionTable(list(rows(file, path)), scale, model)
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is not UTF-8 text ({error})") from None


def scale_file(path: str | Path) -> Path:
    """Where the scale of a table is saved."""
    return Path(f"{path}.scale.json")


def values(row: Row) -> dict[str, Any]:
    """A row by column."""
    return {name: getattr(row, name) for name in COLUMNS}


def _writer_of(path: Path) -> Callable[[IO[str]], Callable[[Row], None]]:
    formats = {".csv": _csv_writer, ".jsonl": _json_writer}
    if path.suffix.lower() not in formats:
        raise TableError(f"{path}: a table is a .csv or a .jsonl file, not '{path.suffix or path.name}'")
    return formats[path.suffix.lower()]


def _csv_writer(file: IO[str]) -> Callable[[Row], None]:
    writer = csv.writer(file, lineterminator="\n")
    quoting_writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)

    def write(row: Row) -> None:
        # Before Python 3.13 a carriage return is not quoted by itself.
        (quoting_writer if "\r" in row.file + row.note else writer).writerow(values(row).values())

    return write


def _json_writer(file: IO[str]) -> Callable[[Row], None]:

    def write(row: Row) -> None:
        file.write(json.dumps(values(row), ensure_ascii=False) + "\n")

    return write


def _csv_rows(file: IO[str], path: Path) -> Iterator[Row]:
    reader = csv.DictReader(file, strict=True)
    try:
        for entry in reader:
            yield _row(entry, f"{path}, line {reader.line_num}")
    except csv.Error as error:
        raise TableError(f"{path}, line {reader.line_num}: is not CSV ({error})") from None


def _json_rows(file: IO[str], path: Path) -> Iterator[Row]:
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
        yield _row(entry, where)


def _row(entry: Mapping[str, Any], where: str) -> Row:
    numbers = {}
    for name in _NUMBERS:
        try:
            numbers[name] = float(entry[name])
        except KeyError:
            raise TableError(f"{where}: has no column '{name}'; it has {', '.join(map(str, entry))}") from None
        except (TypeError, ValueError):
            raise TableError(f"{where}: {name} is {entry[name]!r}, not a number") from None
        if not math.isfinite(numbers[name]):
            raise TableError(f"{where}: {name} is {numbers[name]}, not a finite number")
    if not isinstance(entry.get("file"), str):
        raise TableError(f"{where}: has no file name")
    return Row(file=entry["file"], note=str(entry.get("note") or ""), **numbers)


def _read_scale(path: Path) -> tuple[Scale, str]:
    sidecar = scale_file(path)
    if not sidecar.is_file():
        raise TableError(
            f"{sidecar}: is missing, so the scale of {path.name} is not known; give it as scale=Scale(...)"
        )
    try:
        saved = json.loads(sidecar.read_bytes()[:_LONGEST_LINE])
        scale = validate(Scale, {name: saved[name] for name in Scale.model_fields}, str(sidecar))
        return scale, str(saved["model"])
    except RecipeError as error:
        raise TableError(str(error)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"{sidecar}: is not the scale of a table ({type(error).__name__}: {error})") from None
