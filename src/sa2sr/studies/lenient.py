"""Files that may be missing or broken: what is wrong joins a list of problems, and reading goes on."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.files import MOST_BYTES, read_json


def number(mapping: Any, *keys: str) -> float | None:
    """A finite number in nested mappings; none where there is no such."""
    for key in keys:
        if not isinstance(mapping, Mapping):
            return None
        mapping = mapping.get(key)
    good = isinstance(mapping, int | float) and not isinstance(mapping, bool) and math.isfinite(mapping)
    return float(mapping) if good else None


def json_object(path: Path, problems: list[str]) -> dict[str, Any]:
    """A JSON object; empty where there is none."""
    try:
        return read_json(path)
    except ValueError as error:
        problems.append(f"{path}: {error}")
        return {}


def json_lines(path: Path, problems: list[str]) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file, one a line."""
    text = _text(path, problems) or ""
    for line_number, line in enumerate(text.splitlines(), start=1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            yield value
        else:
            problems.append(f"{path}, line {line_number}: is not a JSON object; left out")


def csv_rows(path: Path, problems: list[str]) -> list[dict[str, str]]:
    """The rows of a table, by column."""
    text = _text(path, problems)
    if text is None:
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline=""), restval="", restkey="_", strict=True))
    except csv.Error as error:
        problems.append(f"{path}: is not CSV ({error})")
        return []
    if not rows:
        problems.append(f"{path}: holds no predictions")
    return rows


def _text(path: Path, problems: list[str]) -> str | None:
    try:
        if path.stat().st_size > MOST_BYTES:
            problems.append(f"{path}: is larger than {MOST_BYTES:,} bytes; left out")
            return None
        return path.read_text(encoding="utf-8")
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror})")
    except UnicodeDecodeError:
        problems.append(f"{path}: is not UTF-8 text")
    return None


def one_line(error: Exception, path: Path) -> str:
    """An error as part of a message."""
    return " ".join(str(error).split())[:300] or f"{path}: {type(error).__name__}"


def numbers(rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> NDArray[np.float64]:
    """Columns of a table, (rows, columns), NaN where there is no finite number."""
    return np.array([[_csv_number(row, column) for column in columns] for row in rows])


def _csv_number(row: Mapping[str, str], column: str) -> float:
    try:
        value = float(row.get(column) or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
