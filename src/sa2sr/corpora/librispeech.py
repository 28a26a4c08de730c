"""LibriSpeech: read English books, about 1,000 hours, CC BY 4.0.

``<split>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt`` holds a line an utterance, beside the audio
``<speaker>-<chapter>-<utterance>.flac`` (or another suffix, when the files were re-encoded)::

    121-121726-0000 ALSO A POPULAR CONTRIVANCE WHEREBY LOVE MAKING MAY BE SUSPENDED BUT NOT STOPPED

``SPEAKERS.TXT`` holds a line a reader, comments behind ``;``::

    14   | F | train-clean-360  | 25.03 | Kristin LeMoine
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from sa2sr.audio import SUFFIXES
from sa2sr.corpora.corpus import Corpus, Entry, NoOptions, Problem, Utterance
from sa2sr.corpora.scanning import Folder, read_lines
from sa2sr.errors import CorpusError

_UTTERANCE = re.compile(r"\d+-\d+-\d+")
_GENDERS = {"F": "female", "M": "male"}


def read(source: Path, options: NoOptions) -> Iterator[Entry]:
    """The utterances below the LibriSpeech folder, its parent, or one of its splits."""
    folder = Folder(source)
    problems = folder.problems
    chapters: dict[Path, dict[str, Path]] = defaultdict(dict)  # of a chapter's folder: utterance -> audio
    transcripts: dict[Path, list[Path]] = defaultdict(list)
    for path in folder.files:
        if path.name.endswith(".trans.txt"):
            transcripts[path.parent].append(path)
    for path in sorted(folder.audio(), key=lambda path: SUFFIXES.index(path.suffix.lower())):
        if _UTTERANCE.fullmatch(path.stem):
            chapters[path.parent].setdefault(path.stem, path)
    if not transcripts:
        raise CorpusError(f"{source}: holds no *.trans.txt; name the LibriSpeech folder, with splits such as dev-clean")
    genders = _read_genders(folder, problems)

    for chapter in sorted(chapters.keys() | transcripts.keys()):
        split = chapter.absolute().parents[1].name
        audio = chapters[chapter]
        for path in transcripts[chapter]:
            for number, line in read_lines(path, problems):
                name, _, text = line.strip().partition(" ")
                if not name:
                    continue
                if not _UTTERANCE.fullmatch(name):
                    yield Problem("not a transcript line", f"{path}, line {number}", line[:80])
                    continue
                speaker = name.split("-")[0]
                yield Utterance(
                    name,
                    split,
                    audio.pop(name, path.parent / f"{name}.flac"),
                    text=text,
                    speaker=speaker,
                    gender=genders.get(speaker),
                    language="English",
                )
        for name, path in sorted(audio.items()):
            yield Problem("audio without a transcript", name, str(path))
    yield from problems


def _read_genders(folder: Folder, problems: list[Problem]) -> dict[str, str]:
    """Speaker -> gender, from SPEAKERS.TXT in the folder or beside it."""
    tables = [path for path in folder.files if path.name == "SPEAKERS.TXT"]
    beside = folder.root.absolute().parent / "SPEAKERS.TXT"
    genders = {}
    for path in tables or ([beside] if beside.is_file() else []):
        for _, line in read_lines(path, problems, relevant=_is_no_comment):
            fields = [field.strip() for field in line.split("|", 4)]  # a name may contain the separator
            if len(fields) == 5 and fields[1] in _GENDERS:
                genders[fields[0]] = _GENDERS[fields[1]]
    return genders


def _is_no_comment(line: str) -> bool:
    return not line.startswith(";")


CORPUS = Corpus("librispeech", "read English books: <split>/<speaker>/<chapter>/*.trans.txt", read, needs_text=True)
