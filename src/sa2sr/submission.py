"""Submissions to the MSP-Podcast challenges: predictions by file name, on the corpus's scale of 1 to 7.

::

    FileName,EmoAct,EmoVal,EmoDom
    MSP-PODCAST_test3_0001.wav,4.21,3.9,4.5
"""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

from sa2sr.config import DIMENSIONS, Scale
from sa2sr.errors import TableError
from sa2sr.files import atomic

SCALE = Scale(name="1-7", low=1, high=7)
FILE_COLUMN = "FileName"
COLUMNS = {"activation": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}

Emotions = tuple[float, ...]  # activation, valence and dominance


def write_submission(path: str | Path, emotions: Mapping[str, Emotions]) -> None:
    """Write a submission atomically.

    Args:
        path: a .csv file
        emotions: of each file, by its name, on :data:`SCALE`

    Raises:
        TableError: if it cannot be written
    """
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise TableError(f"{path}: a submission is a .csv file")
    try:
        with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow((FILE_COLUMN, *(COLUMNS[dimension] for dimension in DIMENSIONS)))
            writer.writerows((name, *numbers) for name, numbers in emotions.items())
    except (OSError, UnicodeEncodeError) as error:
        raise TableError(f"{path}: cannot be written ({error})") from None


def read_submission(path: str | Path) -> dict[str, Emotions]:
    """The emotions of each file of a submission, by its name; further columns are ignored.

    Raises:
        TableError: naming the file, the line and what is wrong
    """
    path = Path(path)
    found: dict[str, Emotions] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            if missing := {FILE_COLUMN, *COLUMNS.values()} - {*(reader.fieldnames or ())}:
                raise TableError(
                    f"{path}: has no column {', '.join(sorted(missing))}; a submission has {FILE_COLUMN}, "
                    f"{', '.join(COLUMNS.values())}"
                )
            for row in reader:
                where, name = f"{path}, line {reader.line_num}", (row[FILE_COLUMN] or "").strip()
                if not name or name in found:
                    raise TableError(f"{where}: {'names no file' if not name else f'{name} is there twice'}")
                found[name] = tuple(_number(row[COLUMNS[each]], f"{where}, {COLUMNS[each]}") for each in DIMENSIONS)
    except OSError as error:
        raise TableError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: is not UTF-8 text ({error})") from None
    except csv.Error as error:
        raise TableError(f"{path}: is not CSV ({error})") from None
    if not found:
        raise TableError(f"{path}: holds no predictions")
    return found


def _number(text: str | None, where: str) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise TableError(f"{where}: '{(text or '')[:40]}' is not a number")
    return number
