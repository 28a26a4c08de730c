"""Which audio is meant by what a user names: files, folders, patterns, lists of files, and tables of segments."""

import csv
import glob
import math
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sa2sr import containers
from sa2sr.audio import SUFFIXES
from sa2sr.errors import AudioError
from sa2sr.inference.rows import Failure

# Of a folder these are taken, and reported where they cannot be decoded, rather than passed over in silence.
_AUDIO = frozenset((*SUFFIXES, *containers.SUFFIXES, ".aifc", ".oga"))
_NAMES = ("file", "path", "filename", "audio")  # of the column with files in a table of segments
_LONGEST_NAME = 1 << 16  # characters of a line in a list
_ADDRESS = re.compile("[a-z0-9]{2,}:/", re.IGNORECASE)  # a path has one slash where an address has two


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a file."""

    file: str
    start: float = 0.0  # seconds
    end: float | None = None  # seconds; None: the end of the file


Source = Path | Segment | Failure


def find_audio(named: Iterable[str | Source]) -> Iterator[Source]:
    """What a user names, in this order.

    Files are taken as they are, and segments too. Of folders the audio files in them and below are taken, sorted by
    name: symbolic links are followed, but no folder is entered twice; hidden files and folders are passed over. A
    pattern such as ``calls/**/*.wav`` stands for the files that match it, sorted, and ``@files.txt`` for the files and
    folders that the lines of a text file name. What exists under a name is never taken for a pattern or a list. A
    folder that cannot be read or has no audio, a pattern without a match, a list that cannot be read and the address of
    something on the web become failures.

    Raises:
        TypeError: if something else names audio
    """
    for each in named:
        if isinstance(each, Segment | Failure):
            yield each
            continue
        if not isinstance(each, str | Path):
            raise TypeError(
                f"audio is named by a str, a Path or a Segment, not by a {type(each).__name__}; samples are one array "
                "with their sampling rate, such as predict(numpy.array(samples), 16000)"
            )
        path, text = Path(each), str(each)
        if is_folder(path):
            yield from _audio_below(path)
        elif text.startswith("@") and not _exists(path):
            yield from _listed(Path(text[1:]))
        elif glob.has_magic(text) and not (_exists(path) or _ADDRESS.match(text)):
            yield from _matching(text)
        else:
            yield _file(text)


def are_samples(audio: Any, sampling_rate: float | None) -> bool:
    """Whether audio is an array of samples; without a sampling rate it may be one of names, as in a table."""
    return hasattr(audio, "__array__") and (sampling_rate is not None or np.asarray(audio).dtype.kind not in "OSU")


def is_single(named: str | Path) -> bool:
    """Whether a name stands for one file, rather than for however many there are."""
    path, text = Path(named), str(named)
    several = (text.startswith("@") or glob.has_magic(text)) and not _ADDRESS.match(text)
    return not is_folder(path) and (_exists(path) or not several)


def read_segments(path: str | Path) -> Iterator[Segment | Failure]:
    """The segments that a CSV (or .tsv) table lists: columns ``file`` (or ``path``), ``start`` and ``end`` in seconds.

    An empty start is the beginning of the file, an empty end its end. Other columns are ignored, so that a table of
    emotions lists segments too. Lines that make no sense become failures.

    Raises:
        AudioError: if the table cannot be read, or has no such columns
    """
    path = Path(path)
    try:
        with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as file:
            reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            columns = {name.strip().lower(): name for name in reader.fieldnames or ()}
            name = next((columns[each] for each in _NAMES if each in columns), None)
            if name is None or not {"start", "end"} <= columns.keys():
                raise AudioError(path, f"a table of segments has columns file, start and end, not {', '.join(columns)}")
            for entry in reader:
                yield _segment(entry[name], entry[columns["start"]], entry[columns["end"]], path, reader.line_num)
    except OSError as error:
        raise AudioError(path, f"cannot be read ({error.strerror or error})") from None
    except csv.Error as error:
        raise AudioError(path, f"is not CSV ({error})") from None


def _segment(file: str | None, start: str | None, end: str | None, table: Path, line: int) -> Segment | Failure:
    where = f"line {line} of {table}"
    if not file:
        return Failure(f"{table}, line {line}", "names no file")
    times: list[float] = []
    for name, text, default in (("start", start, 0.0), ("end", end, math.inf)):
        try:
            times.append(float(text) if text and text.strip() else default)
        except ValueError:
            return Failure(file, f"{where}: {name} is {text!r}, not a number of seconds")
    if not 0 <= times[0] < times[1]:
        return Failure(file, f"{where}: a segment cannot go from {times[0]:g} to {times[1]:g} s")
    return Segment(file, times[0], times[1] if math.isfinite(times[1]) else None)


def _file(name: str) -> Source:
    """What a name stands for that is no folder, list or pattern."""
    if _ADDRESS.match(name) and not _exists(Path(name)):
        return Failure(name, "is an address, and only files are read: download it first")
    return Path(name)


def _listed(path: Path) -> Iterator[Source]:
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            while line := file.readline(_LONGEST_NAME):
                if name := line.rstrip("\r\n"):
                    yield from _audio_below(Path(name)) if is_folder(Path(name)) else (_file(name),)
    except (OSError, ValueError) as error:
        yield Failure(f"@{path}", f"is a list that cannot be read ({getattr(error, 'strerror', None) or error})")


def _matching(pattern: str) -> Iterator[Source]:
    """The files that match: those with an ending of their own in the pattern, otherwise the audio files."""
    ending = Path(pattern).suffix
    found = (Path(name) for name in sorted(glob.iglob(pattern, recursive=True)))
    files = [path for path in found if not is_folder(path) and (ending or path.suffix.lower() in _AUDIO)]
    yield from files
    if not files:
        yield Failure(pattern, "is a pattern that no audio file matches")


def _audio_below(root: Path) -> Iterator[Source]:
    unreadable: list[OSError] = []
    entered: set[tuple[int, int]] = set()
    found = False
    for folder, subfolders, files in os.walk(root, onerror=unreadable.append, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in entered:
            subfolders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in _AUDIO:
                found = True
                yield Path(folder, name)
        while unreadable:
            error = unreadable.pop()
            yield Failure(str(error.filename), f"is a folder that cannot be read ({error.strerror})")
    yield from (Failure(str(e.filename), f"is a folder that cannot be read ({e.strerror})") for e in unreadable)
    if not found:
        yield Failure(str(root), f"is a folder without audio files ({', '.join(sorted(_AUDIO))})")


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, whatever the name."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or has a NUL byte
        return False


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False
