import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sa2sr.corpora.report import Report
from sa2sr.cuts import Cut, read_cuts

WriteSpeech = Callable[..., Path]


@pytest.fixture
def write_speech() -> WriteSpeech:
    """``write_speech(path, seconds=0.2, channels=1, rate=16_000)`` writes noise in the format of the suffix."""

    def write(path: Path, seconds: float = 0.2, channels: int = 1, rate: int = 16_000) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(0).uniform(-0.3, 0.3, (round(seconds * rate), channels)).astype(np.float32)
        kind = {".opus": {"format": "OGG", "subtype": "OPUS"}, ".mp3": {"format": "MP3"}}.get(path.suffix.lower(), {})
        soundfile.write(path, samples, rate, **kind)
        return path

    return write


@pytest.fixture
def cuts_of() -> Callable[[Report], dict[str, dict[str, Cut]]]:
    """The cuts that a report says were written: split -> name -> cut."""

    def read(report: Report) -> dict[str, dict[str, Cut]]:
        return {split: {cut.id: cut for cut in read_cuts(path)} for split, path in report.manifests.items()}

    return read


@pytest.fixture
def reasons() -> Callable[[Report], dict[str, list[str]]]:
    """Why items were left out: reason -> the items."""

    def sort(report: Report) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for problem in report.problems:
            found.setdefault(problem.reason, []).append(problem.item)
        return found

    return sort


@pytest.fixture
def contents() -> Callable[[Path], dict[str, str]]:
    """Digests of all files of a folder but temporary ones; the absolute paths in manifests are made relative."""

    def digest(folder: Path) -> dict[str, str]:
        found = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                data = path.read_bytes()
                if path.name.endswith(".jsonl.gz"):
                    data = json.dumps([cut.to_dict() for cut in read_cuts(path)]).encode()
                data = data.replace(str(folder).encode(), b"OUT")
                found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
        return found

    return digest
