"""Files of emotion tables: CSV, JSON lines and Parquet, each with a file beside it that says what its numbers are."""

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sa2sr.config import DIMENSIONS, SENTIMENTS, Scale, probability_of, validate
from sa2sr.errors import RecipeError, TableError
from sa2sr.files import atomic, read_json, write_json
from sa2sr.inference.rows import COLUMNS, EXTRAS, INTERVALS, TEXTS, Heading, Row

SUFFIXES = (".csv", ".jsonl", ".parquet")
_LONGEST_LINE = 1 << 20  # characters of a JSON line
_LARGEST_HEADING = 1 << 20  # bytes
_GROUP = 8_192  # rows of a Parquet row group


def suffix_of(path: str | Path) -> str:
    """The format of a table, by the end of its name.

    Raises:
        TableError: if it is none, or its library is not installed
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise TableError(f"{path}: a table is a .csv, a .jsonl or a .parquet file, not '{path.suffix or path.name}'")
    if path.is_dir():
        raise TableError(f"{path}: is a folder; name a file, such as {path / 'emotions.csv'}")
    if suffix == ".parquet":
        _pyarrow(path)
    return suffix


def scale_file(path: str | Path) -> Path:
    """Where the scale of a table is saved."""
    return Path(f"{path}.scale.json")


@contextmanager
def table_writer(path: str | Path, heading: Heading) -> Iterator[Callable[[Row], None]]:
    """Yield a function that writes a row to a file, in the format that the end of its name says.

    Rows go to disk as they come. When the block ends well the file gets its name, and the scale is saved beside it;
    when it fails there is no file.

    Raises:
        TableError: if the name ends otherwise, or the file cannot be written
    """
    path = Path(path)
    suffix = suffix_of(path)
    try:
        with atomic(path) as temporary:
            if suffix == ".parquet":
                with _parquet_writer(temporary, heading) as add:
                    yield add
            else:
                with temporary.open("wb", buffering=0) as file:
                    file.write(beginning(suffix, heading))
                    yield lambda row: _write_all(file, encoded(row, suffix, heading))
            write_json(scale_file(path), heading.described())
    except OSError as error:
        raise TableError(f"{path}: cannot be written ({error.strerror or error})") from error


def beginning(suffix: str, heading: Heading) -> bytes:
    """What a text file begins with: of a CSV file the names of its columns."""
    return _csv_line(heading.columns) if suffix == ".csv" else b""


def encoded(row: Row, suffix: str, heading: Heading) -> bytes:
    """The line of a row in a text file, ``.csv`` or ``.jsonl``.

    File names that are not Unicode are written with escapes, which JSON reads back as they were.
    """
    cells = heading.values(row)
    if suffix == ".csv":
        return _csv_line(cells.values())
    return (json.dumps(cells, ensure_ascii=False) + "\n").encode(errors="backslashreplace")


def to_parquet(lines: Path, path: Path, heading: Heading) -> None:
    """Write a Parquet file of a table in JSON lines, some rows at a time."""
    with lines.open(encoding="utf-8") as file, _parquet_writer(path, heading) as add:
        for row in _json_rows(file, lines, heading):
            add(row)


def read_rows(path: Path, heading: Heading) -> Iterator[Row]:
    """The rows of a table.

    Raises:
        TableError: naming the file, the line and what is wrong
    """
    suffix = suffix_of(path)
    try:
        if suffix == ".parquet":
            yield from _parquet_rows(path, heading)
            return
        with path.open(encoding="utf-8", newline="") as file:
            yield from (_csv_rows if suffix == ".csv" else _json_rows)(file, path, heading)
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is not UTF-8 text ({error})") from None


def read_heading(path: Path) -> Heading:
    """What the numbers of a table are, from the file beside it.

    Raises:
        TableError: if it is missing or damaged
    """
    sidecar = scale_file(path)
    if not sidecar.is_file():
        raise TableError(
            f"{sidecar}: is missing, so the scale of {path.name} is not known; give it as scale=Scale(...)"
        )
    try:
        saved = read_json(sidecar, _LARGEST_HEADING)
        scale = validate(Scale, {name: saved[name] for name in Scale.model_fields}, str(sidecar))
        level = float(saved.get("level") or 0)
        if not 0 <= level < 1:
            raise ValueError(f"level is {level}, not a share")
        columns = {str(name) for name in saved.get("columns", ())}
        extras = tuple(extra for extra, names in EXTRAS.items() if columns.issuperset(names))
        categories = tuple(str(name) for name in saved.get("categories", ()))
        dimensions = DIMENSIONS if not columns or columns.issuperset(DIMENSIONS) else ()
        return Heading(scale, str(saved["model"]), level, extras, categories, dimensions)
    except RecipeError as error:
        raise TableError(str(error)) from None
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(f"{sidecar}: is not the scale of a table ({type(error).__name__}: {error})") from None


# --- CSV and JSON lines -----------------------------------------------------------------------------------------------


def _csv_line(cells: Any) -> bytes:
    cells, text = list(cells), io.StringIO()
    # Before Python 3.13 a carriage return is not quoted by itself.
    returns = any(isinstance(cell, str) and "\r" in cell for cell in cells)
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL if returns else csv.QUOTE_MINIMAL).writerow(cells)
    return text.getvalue().encode(errors="backslashreplace")


def _write_all(file: IO[bytes], content: bytes) -> None:
    view = memoryview(content)
    while view:  # a full disk or a signal may take a part only
        view = view[file.write(view) :]


def _csv_rows(file: IO[str], path: Path, heading: Heading) -> Iterator[Row]:
    reader = csv.DictReader(file, strict=True)
    try:
        for entry in reader:
            yield _row(entry, f"{path}, line {reader.line_num}", heading)
    except csv.Error as error:
        raise TableError(f"{path}, line {reader.line_num}: is not CSV ({error})") from None


def _json_rows(file: IO[str], path: Path, heading: Heading) -> Iterator[Row]:
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
        yield _row(entry, where, heading)


def _row(entry: Mapping[str, Any], where: str, heading: Heading) -> Row:
    found: dict[str, Any] = {} if heading.dimensions else dict.fromkeys(DIMENSIONS, math.nan)
    probabilities = {probability_of(category): category for category in heading.categories}
    for name in heading.columns:
        if name in TEXTS:
            continue
        if name in (*INTERVALS, *SENTIMENTS) and entry.get(name, 0) in (None, ""):
            found[name] = None
            continue
        try:
            number = found[name] = float(entry[name])
        except KeyError:
            raise TableError(f"{where}: has no column '{name}'; it has {', '.join(map(str, entry))}") from None
        except (TypeError, ValueError):
            raise TableError(f"{where}: {name} is {entry[name]!r}, not a number") from None
        if not math.isfinite(number):
            raise TableError(f"{where}: {name} is {number}, not a finite number")
    if not isinstance(entry.get("file"), str):
        raise TableError(f"{where}: has no file name")
    if "transcript" in heading.extras:
        found["transcript"] = str(entry.get("transcript") or "")
    if heading.categories:
        found["emotion"] = str(entry.get("emotion") or "") or None
        found["probabilities"] = {category: found.pop(name) for name, category in probabilities.items()}
    return Row(file=entry["file"], note=str(entry.get("note") or ""), **found)


# --- Parquet ----------------------------------------------------------------------------------------------------------


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise TableError(f"{path}: a Parquet file needs pyarrow: pip install 'sa2sr[parquet]'") from None
    return pyarrow


@contextmanager
def _parquet_writer(path: Path, heading: Heading) -> Iterator[Callable[[Row], None]]:
    """Yield a function that adds a row; memory is bounded by a row group."""
    arrow = _pyarrow(path)
    fields = [(name, arrow.string() if name in TEXTS else arrow.float64()) for name in heading.columns]
    schema = arrow.schema(fields, metadata={"sa2sr": json.dumps(heading.described())})
    waiting: list[Row] = []

    def write_group() -> None:
        columns = {name: [_plain(row.cell(name)) for row in waiting] for name in heading.columns}
        writer.write_table(arrow.table(columns, schema=schema))
        waiting.clear()

    def add(row: Row) -> None:
        waiting.append(row)
        if len(waiting) >= _GROUP:
            write_group()

    with arrow.parquet.ParquetWriter(path, schema) as writer:
        yield add
        if waiting:
            write_group()


def _plain(cell: Any) -> Any:
    """A cell whose text is Unicode, with escapes where it was not."""
    return cell.encode(errors="backslashreplace").decode() if isinstance(cell, str) else cell


def _parquet_rows(path: Path, heading: Heading) -> Iterator[Row]:
    arrow = _pyarrow(path)
    number = 0
    try:
        with arrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_GROUP):
                for entry in batch.to_pylist():
                    number += 1
                    yield _row(entry, f"{path}, row {number}", heading)
    except arrow.ArrowException as error:
        raise TableError(f"{path}: is not a Parquet file ({str(error).splitlines()[0]})") from None
