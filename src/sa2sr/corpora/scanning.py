"""Finding and reading the files of a corpus: looping folders, doubtful encodings, audio under other names."""

import os
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from sa2sr.audio import SUFFIXES
from sa2sr.corpora.corpus import Problem
from sa2sr.errors import CorpusError

_LONGEST_LINE = 1 << 20  # bytes


class Folder:
    """All files below a folder, in a fixed order; symbolic links are followed, but no folder is entered twice."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.files: list[Path] = []
        self.problems: list[Problem] = []
        if not self.root.is_dir():
            raise CorpusError(f"{root}: {'is not a folder' if self.root.exists() else 'does not exist'}")
        seen: set[tuple[int, int]] = set()
        waiting = [self.root]
        while waiting:
            folder = waiting.pop()
            try:
                status = folder.stat()
                if (status.st_dev, status.st_ino) in seen:
                    self._report("folder linked twice", folder, f"is {folder.resolve()} again")
                    continue
                seen.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except (OSError, RuntimeError) as error:  # RuntimeError: a loop, before Python 3.13
                self._report("unreadable folder", folder, getattr(error, "strerror", None) or str(error))
                continue
            links = []
            for entry in entries:
                path = Path(entry.path)
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                elif _is_folder(entry):
                    links.append(path)
                else:
                    self.files.append(path)
            # Real folders come first, so that a link to one of them is the second visit.
            waiting[:0] = links
        self.files.sort()

    def _report(self, reason: str, folder: Path, detail: str) -> None:
        self.problems.append(Problem(reason, str(folder), detail, lost="folder"))

    def audio(self) -> Iterator[Path]:
        """The files whose names end like audio."""
        return (path for path in self.files if path.suffix.lower() in SUFFIXES)


class AudioFinder:
    """Finds audio by a name that is spelt otherwise than the file's: ``a.WAV`` is found as ``a.opus``.

    Accented letters are equal whether they are one character, as in most tables, or two, as in names from a Mac.
    """

    def __init__(self) -> None:
        self._listings: dict[Path, dict[str, Path]] = {}

    def find(self, *candidates: Path) -> Path:
        """The first candidate that exists, or else exists with another suffix, or else the first as it is."""
        for path in candidates:
            if _is_file(path):
                return path
        for path in candidates:
            stem = path.stem if path.suffix.lower() in SUFFIXES else path.name
            other = self._listing(path.parent).get(_composed(stem))
            if other is not None:
                return other
        return candidates[0]

    def _listing(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listings:
            try:
                names = sorted(os.listdir(folder))
            except (OSError, ValueError):
                names = []
            paths = [folder / name for name in names if Path(name).suffix.lower() in SUFFIXES]
            paths.sort(key=lambda path: SUFFIXES.index(path.suffix.lower()), reverse=True)
            self._listings[folder] = {_composed(path.stem): path for path in paths}  # of several, the first suffix wins
        return self._listings[folder]


def read_lines(
    path: Path,
    problems: list[Problem],
    encoding: str = "utf-8",
    *,
    relevant: Callable[[str], bool] = lambda line: True,
) -> Iterator[tuple[int, str]]:
    """The lines of a text file with their numbers from 1, without line ends.

    A byte order mark is heeded and removed. A line that is not in ``encoding`` is added to ``problems``, and the
    rest goes on: files that were edited on several systems mix encodings.

    Args:
        path: the file
        problems: are added to
        encoding: of the file
        relevant: from a line to whether it is one of those that are wanted; no others are read or reported

    Raises:
        CorpusError: if the file cannot be opened
    """
    try:
        with path.open("rb") as file:
            mark = file.read(2)
            if mark in (b"\xff\xfe", b"\xfe\xff"):
                lines = enumerate(_utf16_lines(path, problems), start=1)
                yield from ((number, line) for number, line in lines if relevant(line))
                return
            file.seek(0)
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                    raise CorpusError(f"{path}, line {number}: is longer than {_LONGEST_LINE:,} bytes; is it text?")
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")
                fault = None
                try:
                    text = line.decode(encoding)
                except UnicodeDecodeError as error:
                    text, fault = line.decode(encoding, "backslashreplace"), error
                text = text.rstrip("\r\n")
                if not relevant(text):
                    continue
                if fault is None:
                    yield number, text
                else:
                    detail = f"byte {fault.start} of '{text.strip()[:80]}' is not {encoding}"
                    problems.append(Problem("line in another encoding", f"{path}, line {number}", detail, lost="line"))
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read ({error.strerror})") from None


def _utf16_lines(path: Path, problems: list[Problem]) -> Iterator[str]:
    try:
        with path.open(encoding="utf-16") as file:
            while line := file.readline(_LONGEST_LINE):
                yield line.rstrip("\r\n")
    except UnicodeError as error:
        problems.append(Problem("line in another encoding", str(path), str(error), lost="rest of the file"))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, or a folder that may not be entered
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
