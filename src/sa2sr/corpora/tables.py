"""CSV, TSV and JSONL files, row by row; a bad row is reported, and the rest goes on."""

import csv
import json
import re
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from pathlib import Path

from sa2sr.corpora.corpus import Problem
from sa2sr.corpora.scanning import read_lines
from sa2sr.errors import CorpusError

COMMA_HINT = "; a decimal comma is understood where semicolons, tabs or bars separate the columns, a point everywhere"
JSON_LINES = (".jsonl", ".ndjson", ".json")  # the last as NeMo calls its manifests
_DELIMITERS = ",\t;|"
_DELIMITER_LINE = re.compile(r'"?sep=(.)"?\s*')  # with which some programs begin a file for Excel
_QUOTED = re.compile(r'"[^"]*"')
_LONGEST_ROW = 1000  # lines; beyond, a quotation mark has no partner
_OTHER_FILES = {b"PK\x03\x04": "a workbook or an archive", b"\x1f\x8b": "compressed"}


def read_table(path: Path, problems: list[Problem], encoding: str = "utf-8") -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a table: where each is (``file, line n``), and its values by column, "" where there is none.

    Files that end in ``.jsonl``, ``.ndjson`` or ``.json`` hold an object a line; others a header, then rows, with
    commas, tabs, semicolons or bars between them: whichever the header has most, or a line ``sep=;`` above it says.

    Raises:
        CorpusError: if the file cannot be read or has no header
    """
    return (_json_rows if _is_json(path) else _csv_rows)(path, problems, encoding)


def has_decimal_commas(path: Path, encoding: str = "utf-8") -> bool:
    """Whether a comma within a number of a table can only be a decimal one, since no commas separate the columns."""
    return not _is_json(path) and _find_header(read_lines(path, [], encoding))[0] != ","


def find_column(columns: list[str], names: tuple[str, ...]) -> str | None:
    """The column with the first of ``names`` that is there; case, spaces, ``_`` and ``-`` do not matter."""
    by_name = {_plain(column): column for column in reversed(columns)}
    return next((by_name[_plain(name)] for name in names if _plain(name) in by_name), None)


def _plain(name: str) -> str:
    return name.strip().casefold().translate({ord(sign): None for sign in " _-"})


def _is_json(path: Path) -> bool:
    return path.suffix.lower() in JSON_LINES


def _find_header(lines: Iterator[tuple[int, str]]) -> tuple[str, str]:
    """What separates the columns, and the line of their names."""
    filled = (line for _, line in lines if line.strip())
    first = next(filled, "")
    if named := _DELIMITER_LINE.fullmatch(first):
        return named[1], next(filled, "")
    return max(_DELIMITERS, key=_QUOTED.sub("", first).count), first


def _csv_rows(path: Path, problems: list[Problem], encoding: str) -> Iterator[tuple[str, dict[str, str]]]:
    _check_beginning(path)
    numbered = read_lines(path, problems, encoding)
    known = len(problems)
    delimiter, header_line = _find_header(numbered)
    if len(problems) > known:
        raise CorpusError(
            f"{problems[known].item}: the header is not in {encoding}; save the table as UTF-8, or name its encoding "
            "with --encoding, such as windows-1252, where there is this option"
        )
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
    lines = _Lines(numbered)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin_row()
        try:
            row = next(rows, None)
        except csv.Error as error:  # a quotation mark without its partner, for instance
            detail = f"{error}; does a quotation mark lack its partner?"
            if swallowed := lines.give_back():
                detail += f" The {swallowed:,} line(s) that it would swallow are read as rows of their own"
            problems.append(Problem("row is not CSV", f"{path}, {lines.span()}", detail, lost="row"))
            continue
        if row is None:
            return
        where = f"{path}, {lines.span()}"
        if len(row) == len(header):
            yield where, {name: value.strip() for name, value in zip(header, row, strict=True)}
        elif any(value.strip() for value in row):
            detail = f"{len(row)} fields under a header of {len(header)}"
            problems.append(Problem("row does not fit the header", where, detail, lost="row"))


def _check_beginning(path: Path) -> None:
    """Refuse files that are no text at all, as Excel's own are."""
    try:
        with path.open("rb") as file:
            beginning = file.read(4)
    except OSError:
        return  # is told when its lines are read
    for mark, kind in _OTHER_FILES.items():
        if beginning.startswith(mark):
            raise CorpusError(f"{path}: is {kind}, not a table of text; save it as CSV (UTF-8), or unpack it")


class _Lines:
    """Feeds a CSV reader, remembers which lines its current row came from, and takes back all but the first."""

    def __init__(self, lines: Iterator[tuple[int, str]]) -> None:
        self._lines = lines
        self._waiting: deque[tuple[int, str]] = deque()
        self._row: list[tuple[int, str]] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if len(self._row) == _LONGEST_ROW:
            raise csv.Error(f"a row of more than {_LONGEST_ROW:,} lines")
        line = self._waiting.popleft() if self._waiting else next(self._lines)
        self._row.append(line)
        return line[1] + "\n"

    def begin_row(self) -> None:
        self._row = []

    def give_back(self) -> int:
        """Let the row be its first line; the others, whose number is returned, are read again."""
        others = self._row[1:]
        self._waiting.extendleft(reversed(others))
        del self._row[1:]
        return len(others)

    def span(self) -> str:
        first, last = self._row[0][0], self._row[-1][0]
        return f"line {last}" if first == last else f"lines {first} to {last}"


def _json_rows(path: Path, problems: list[Problem], encoding: str) -> Iterator[tuple[str, dict[str, str]]]:
    for number, line in read_lines(path, problems, encoding):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line, parse_constant=_constant)
        except (ValueError, RecursionError) as error:
            problems.append(Problem("row is not JSON", where, str(error), lost="row"))
            continue
        if not isinstance(row, dict):
            problems.append(Problem("row is not a JSON object", where, type(row).__name__, lost="row"))
            continue
        yield where, as_texts(row)


def as_texts(row: Mapping[str, object]) -> dict[str, str]:
    """The values of a JSON object as those of a row."""
    return {name: "" if value is None else str(value).strip() for name, value in row.items()}


def _constant(name: str) -> float | None:
    """NaN, which programs write for an empty cell, is none, lest it become the transcript "nan"."""
    return None if name == "NaN" else float(name)
