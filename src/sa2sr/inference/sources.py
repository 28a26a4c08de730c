"""Which files are meant by the files and folders that a user names."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sa2sr.audio import SUFFIXES
from sa2sr.inference.table import Failure

# Of a folder these are taken, and reported where they cannot be decoded, rather than passed over in silence.
_AUDIO = frozenset((*SUFFIXES, ".aac", ".aifc", ".amr", ".m4a", ".mp4", ".oga", ".webm", ".wma"))


def find_audio(paths: Iterable[str | Path]) -> Iterator[Path | Failure]:
    """Files as they are, and of folders the audio files in them and below, sorted by name.

    Symbolic links are followed, but no folder is entered twice. Hidden files and folders are passed over. A folder
    that cannot be read, or has no audio, becomes a failure.
    """
    for path in map(Path, paths):
        if is_folder(path):
            yield from _audio_below(path)
        else:
            yield path


def _audio_below(root: Path) -> Iterator[Path | Failure]:
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
