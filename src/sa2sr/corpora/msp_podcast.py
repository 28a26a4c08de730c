"""MSP-Podcast: natural English speech with ratings of activation, valence and dominance from 1 to 7; needs a licence.

``Labels/labels_consensus.csv`` (``labels_concensus.csv`` in older releases) holds a row an utterance::

    FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
    MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1

Where it is not there, ``labels_consensus.json`` will do, which holds the same values as texts::

    {"MSP-PODCAST_0001_0008.wav": {"EmoClass": "N", "EmoAct": "2.2", "EmoVal": "4.0", ...}, ...}

Releases without ``Split_Set`` have ``Partitions.txt``, which also names utterances whose labels are hidden::

    Train; MSP-PODCAST_0023_0048.wav

Audio is in ``Audios/`` (or ``Audio/``), transcripts are in ``Transcripts/MSP-PODCAST_0001_0008.txt``.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from sa2sr.corpora.corpus import Corpus, Entry, NoOptions, Problem, Utterance
from sa2sr.corpora.scanning import Folder, read_lines
from sa2sr.corpora.tables import as_texts, read_table
from sa2sr.errors import CorpusError
from sa2sr.files import read_json
from sa2sr.submission import COLUMNS, SCALE

EMOTIONS = {
    "A": "angry",
    "S": "sad",
    "H": "happy",
    "U": "surprised",
    "F": "fearful",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
    "O": "other",
    "X": None,  # no agreement
    "": None,  # hidden
}
SPLITS = {
    "train": "train",
    "validation": "dev",
    "development": "dev",
    "test1": "test1",
    "test2": "test2",
    "test3": "test3",
}
_LABELS = tuple(f"labels_{name}.{suffix}" for suffix in ("csv", "json") for name in ("consensus", "concensus"))
_LARGEST_LABELS = 1 << 30  # bytes; a release has hundreds of thousands of utterances
_GENDERS = {"male": "male", "female": "female"}
_PARTITION = re.compile(r"\s*([^;]+?)\s*;\s*(\S+)\s*")


def read(source: Path, options: NoOptions) -> Iterator[Entry]:
    """The utterances of a release: those with labels, then those whose labels are hidden."""
    folder = Folder(source)
    problems = folder.problems
    audio = {path.stem: path for path in folder.audio()}
    transcripts = _Transcripts(folder)
    partitions = _read_partitions(folder, problems)
    labelled: set[str] = set()

    for where, row in _read_labels(_find_labels(folder), problems):
        if missing := {"FileName", *COLUMNS.values()} - row.keys():
            raise CorpusError(f"{where.rpartition(',')[0]}: has no column {', '.join(sorted(missing))}")
        name = Path(row["FileName"]).stem
        labelled.add(name)
        split = row.get("Split_Set") or partitions.get(name, "")
        if split.lower() not in SPLITS:
            yield Problem("unknown split", name, f"'{split}' is not one of {', '.join(SPLITS)}")
            continue
        letter = row.get("EmoClass", "").upper()
        if letter not in EMOTIONS:
            yield Problem("unknown emotion", name, f"'{letter}' is not one of {' '.join(EMOTIONS)}", lost="emotion")
        speaker = row.get("SpkrID", "")
        yield Utterance(
            name,
            SPLITS[split.lower()],
            audio.get(name, source / "Audios" / row["FileName"]),
            text=transcripts.read(name, problems),
            speaker=speaker if speaker and speaker.lower() != "unknown" else None,
            gender=_GENDERS.get(row.get("Gender", "").lower()),
            language="English",
            emotion=EMOTIONS.get(letter),
            ratings={dimension: row[column] for dimension, column in COLUMNS.items()},
            scale=SCALE,
        )

    for name, path in sorted(audio.items()):
        if name in labelled:
            continue
        split = partitions.get(name, "test3" if "_test3_" in name.lower() else "")
        if split.lower() in SPLITS:
            text = transcripts.read(name, problems)
            yield Utterance(name, SPLITS[split.lower()], path, text=text, language="English")
        else:
            yield Problem("audio in no partition", name, str(path))
    for name in sorted(partitions.keys() - labelled - audio.keys()):
        yield Problem("neither labels nor audio", name, f"in the partition {partitions[name]}")
    yield from problems


def _find_labels(folder: Folder) -> Path:
    found = [path for wanted in _LABELS for path in folder.files if path.name.lower() == wanted]
    if not found:
        raise CorpusError(f"{folder.root}: holds no Labels/{_LABELS[0]}, nor any of {', '.join(_LABELS[1:])}")
    return found[0]


def _read_labels(path: Path, problems: list[Problem]) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of the labels, and where each is."""
    if path.suffix.lower() == ".csv":
        yield from read_table(path, problems)
        return
    try:
        labels = read_json(path, _LARGEST_LABELS)
    except ValueError as error:
        raise CorpusError(f"{path}: {error}; {_LABELS[0]} will do as well") from None
    for name, values in labels.items():
        if isinstance(values, dict):
            yield f"{path}, {name}", {"FileName": name, **as_texts(values)}
        else:
            problems.append(Problem("row is not a JSON object", f"{path}, {name}", type(values).__name__, lost="row"))


def _read_partitions(folder: Folder, problems: list[Problem]) -> dict[str, str]:
    """Utterance -> split, as written."""
    partitions = {}
    for path in (path for path in folder.files if path.name.lower() == "partitions.txt"):
        for number, line in read_lines(path, problems):
            if found := _PARTITION.fullmatch(line):
                partitions[Path(found[2]).stem] = found[1]
            elif line.strip():
                problems.append(
                    Problem("not a line of Partitions.txt", f"{path}, line {number}", line[:80], lost="line")
                )
    return partitions


class _Transcripts:
    """The transcripts of a release, if it has them."""

    def __init__(self, folder: Folder) -> None:
        self._paths = {
            path.stem: path
            for path in folder.files
            if path.suffix.lower() == ".txt" and path.parent.name.lower().startswith("transcript")
        }

    def read(self, name: str, problems: list[Problem]) -> str | None:
        """The lines of a transcript as one; "" if it alone is missing, none if the release has no transcripts."""
        if not self._paths:
            return None
        path = self._paths.get(name)
        return "" if path is None else " ".join(line.strip() for _, line in read_lines(path, problems)).strip()


CORPUS = Corpus("msp-podcast", "natural English emotions, rated from 1 to 7: Audios, Labels, Transcripts", read)
