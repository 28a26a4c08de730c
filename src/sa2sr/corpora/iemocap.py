r"""IEMOCAP: ten actors in five sessions of two, improvised and scripted, rated from 1 to 5; needs a licence.

``SessionN/dialog/EmoEvaluation/<dialog>.txt`` holds a line a turn, the ratings in the order **valence, activation,
dominance**::

    % [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]
    [6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]

``SessionN/dialog/transcriptions/<dialog>.txt`` holds what was said, among lines that are not turns::

    Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.

The audio of a turn is ``SessionN/sentences/wav/<dialog>/<turn>.wav``.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from sa2sr.config import Scale, Settings
from sa2sr.corpora.corpus import Corpus, Entry, Problem, Utterance
from sa2sr.corpora.held_out import HeldOut
from sa2sr.corpora.scanning import Folder, read_lines
from sa2sr.errors import CorpusError

SCALE = Scale(name="1-5", low=1, high=5)
TURNS = 10_039  # of the full release
EMOTIONS = {
    "ang": "angry",
    "hap": "happy",
    "exc": "excited",
    "sad": "sad",
    "neu": "neutral",
    "fru": "frustrated",
    "fea": "fearful",
    "sur": "surprised",
    "dis": "disgust",
    "oth": "other",
    "xxx": None,  # no agreement
}
_GENDERS = {"F": "female", "M": "male"}
_EVALUATION = re.compile(
    r"\[(?P<start>[\d.]+) - (?P<end>[\d.]+)\]\s+(?P<turn>\S+)\s+(?P<emotion>\w+)\s+"
    r"\[(?P<valence>[^,\]]+),\s*(?P<activation>[^,\]]+),\s*(?P<dominance>[^,\]]+)\]\s*"
)
_TRANSCRIPT = re.compile(r"(?P<turn>Ses\d\d[FM]_\w+)\s+\[[\d.]+-[\d.]+\]:?\s*(?P<text>.*)")
_TURN = re.compile(r"(?P<session>Ses(?P<number>\d\d))[FM]_\w+_(?P<gender>[FM])\w*")


class Options(Settings):
    """Which sessions are held out, and whether two categories are one."""

    dev_sessions: str = Field("4", description="sessions of the dev split, such as 4 or 3,4; empty: none")
    test_sessions: str = Field("5", description="sessions of the test split; the others are for training")
    merge_excited: bool = Field(False, description="count excited as happy")


def read(source: Path, options: Options) -> Iterator[Entry]:
    """The turns below the folder of the release or its parent."""
    held_out = HeldOut(options, "sessions")
    folder = Folder(source)
    problems = folder.problems
    audio = {path.stem: path for path in folder.audio() if path.parent.parent.name == "wav"}
    texts = _read_transcripts(folder, problems)
    evaluations = [path for path in folder.files if path.parent.name == "EmoEvaluation" and path.suffix == ".txt"]
    if not evaluations:
        raise CorpusError(f"{source}: holds no Session*/dialog/EmoEvaluation/*.txt")
    turns = 0
    for path in evaluations:
        for number, line in read_lines(path, problems, relevant=_tells_of_a_turn):
            found = _EVALUATION.fullmatch(line)
            parts = _TURN.fullmatch(found["turn"]) if found else None
            if found is None or parts is None:
                yield Problem("not a turn", f"{path}, line {number}", line[:100])
                continue
            turns += 1
            name, code = found["turn"], found["emotion"]
            if code not in EMOTIONS:
                yield Problem("unknown emotion", name, f"'{code}' is not one of {' '.join(EMOTIONS)}", lost="emotion")
            emotion = EMOTIONS.get(code)
            yield Utterance(
                name,
                held_out.split_of(int(parts["number"])),
                audio.get(name, path.parents[2] / "sentences" / "wav" / path.stem / f"{name}.wav"),
                text=texts.get(name, ""),
                speaker=parts["session"] + parts["gender"],
                gender=_GENDERS[parts["gender"]],
                language="English",
                emotion="happy" if emotion == "excited" and options.merge_excited else emotion,
                ratings={dimension: found[dimension] for dimension in ("activation", "valence", "dominance")},
                scale=SCALE,
                custom={"session": int(parts["number"])},
            )
    if turns != TURNS:
        detail = f"{turns:,} instead of the {TURNS:,} of the full release"
        yield Problem("unexpected number of turns", str(source), detail, lost="nothing (a warning)")
    yield from held_out.missing(source)
    yield from problems


def _tells_of_a_turn(line: str) -> bool:
    """Other lines are the header, and the votes and comments of single listeners."""
    return line.startswith("[")


def _read_transcripts(folder: Folder, problems: list[Problem]) -> dict[str, str]:
    """Turn -> what was said."""
    texts: dict[str, str] = {}
    for path in folder.files:
        if path.parent.name == "transcriptions" and path.suffix == ".txt":
            for _, line in read_lines(path, problems):
                if found := _TRANSCRIPT.fullmatch(line.strip()):
                    texts.setdefault(found["turn"], found["text"])
    return texts


CORPUS = Corpus("iemocap", "acted English dialogues, rated from 1 to 5: Session1 to Session5", read, Options)
