"""What a labelling has done so far, so that it goes on from there when it was interrupted."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import SENTIMENTS

Probabilities = tuple[float, ...]

_LONGEST_LINE = 10_000_000  # characters; ours are a hundredth of that


class LabelJournal:
    """Probabilities by transcript, appended to a JSONL file chunk by chunk.

    A line has the keys of some texts, which are hashes of the text and the teacher's name, and their probabilities:
    a line of another teacher is thus never found, and one that was torn by an interruption is not read.
    """

    def __init__(self, path: Path, teacher: str) -> None:
        self._path = path
        self._teacher = teacher.encode()
        self._done: dict[str, Probabilities] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = path.open("a+", encoding="utf-8", errors="replace")
        self._file.seek(0)
        while line := self._file.readline(_LONGEST_LINE):
            self._done.update(_parse(line))
        self._file.write("\n")  # ends a torn line, if there is one

    def key(self, text: str) -> str:
        """What a text is called here."""
        return hashlib.sha256(self._teacher + b"\0" + text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def get(self, key: str) -> Probabilities | None:
        """The probabilities of a text if an earlier run has computed them."""
        return self._done.get(key)

    def append(self, keys: Sequence[str], probabilities: NDArray[np.float64]) -> None:
        """Keep the probabilities, shape (N, 3), of some texts."""
        line = json.dumps({"texts": list(keys), "probabilities": probabilities.tolist()})
        self._file.write(line + "\n")
        self._file.flush()

    def close(self, *, remove: bool) -> None:
        """Close the file, and remove it once the labelling is complete."""
        self._file.close()
        if remove:
            self._path.unlink(missing_ok=True)


def _parse(line: str) -> dict[str, Probabilities]:
    """The texts of a line; none if it is torn or not ours."""
    try:
        entry: Any = json.loads(line)
        values = np.array(entry["probabilities"], dtype=np.float64)
        keys = entry["texts"]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}
    whole = isinstance(keys, list) and values.shape == (len(keys), len(SENTIMENTS))
    if not whole or not all(isinstance(key, str) for key in keys) or not ((values >= 0) & (values <= 1)).all():
        return {}
    return dict(zip(keys, map(tuple, values.tolist()), strict=True))
