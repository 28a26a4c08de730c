"""CSV, TSV and JSONL files, row by row; a bad row is reported, and the rest goes on."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from sa2sr.corpora.corpus import Problem
from sa2sr.corpora.scanning import read_lines
from sa2sr.errors import CorpusError

_DELIMITERS = ",\t;|"


def read_table(path: Path, problems: list[Problem], encoding: str = "utf-8") -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table: where each is (``file, line n``), and its values by column, "" where there is none.

    Files that end in ``.jsonl`` or ``.ndjson`` hold an object a line; others a header, then rows, with commas, tabs,
    semicolons or bars between them, whichever the header has most.

    Raises:
        CorpusError: if the file cannot be read or has no header
    """
    is_json = path.suffix.lower() in (".jsonl", ".ndjson")
    return (_json_rows if is_json else _csv_rows)(path, problems, encoding)


def find_column(columns: list[str], names: tuple[str, ...]) -> str | None:
    """The column with the first of ``names`` that is there; case, spaces, ``_`` and ``-`` do not matter."""
    by_name = {_plain(column): column for column in reversed(columns)}
    return next((by_name[_plain(name)] for name in names if _plain(name) in by_name), None)


def _plain(name: str) -> str:
    return name.strip().casefold().translate({ord(sign): None for sign in " _-"})


def _csv_rows(path: Path, problems: list[Problem], encoding: str) -> Iterator[tuple[str, dict[str, str]]]:
    lines = _Lines(read_lines(path, problems, encoding))
    header_line = next((line for line in lines if line.strip()), "")
    delimiter = max(_DELIMITERS, key=header_line.count)
    try:
        header = [name.strip() for name in next(csv.reader([header_line], delimiter=delimiter), [])]
    except csv.Error as error:  # line ends of old Macintoshes, for instance
        raise CorpusError(
            f"{path}: its header is not CSV ({error}); save it anew, with the line ends of today"
        ) from None
    if not any(header):
        raise CorpusError(f"{path}: is empty, without even a header")
    if twice := [name for name, count in Counter(header).items() if name and count > 1]:
        raise CorpusError(f"{path}: has several columns {', '.join(map(repr, twice))}; which one is meant?")
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_row()
        try:
            row = next(rows, None)
        except csv.Error as error:  # a quotation mark without its partner, for instance
            problems.append(Problem("row is not CSV", f"{path}, {lines.span()}", str(error)))
            continue
        if row is None:
            return
        where = f"{path}, {lines.span()}"
        if len(row) == len(header):
            yield where, {name: value.strip() for name, value in zip(header, row, strict=True)}
        elif any(value.strip() for value in row):
            detail = f"{len(row)} fields under a header of {len(header)}"
            problems.append(Problem("row does not fit the header", where, detail))


class _Lines:
    """Feeds a CSV reader and remembers which lines its current row came from."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines
        self._first = self._last = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self._last, line = next(self._lines)
        self._first = self._first or self._last
        return line + "\n"

    def begin_row(self) -> None:
        self._first = 0

    def span(self) -> str:
        return f"line {self._last}" if self._first in (0, self._last) else f"lines {self._first} to {self._last}"


def _json_rows(path: Path, problems: list[Problem], encoding: str) -> Iterator[tuple[str, dict[str, str]]]:
    for number, line in read_lines(path, problems, encoding):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(Problem("row is not JSON", where, str(error)))
            continue
        if not isinstance(row, dict):
            problems.append(Problem("row is not a JSON object", where, type(row).__name__))
            continue
        yield where, {name: "" if value is None else str(value).strip() for name, value in row.items()}
