"""Predictions that somebody else made, in a submission to the MSP-Podcast challenges, beside the labels of cuts."""

from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from sa2sr.config import DIMENSIONS
from sa2sr.errors import CorpusError
from sa2sr.speech.utterances import Utterance, read_utterances
from sa2sr.submission import SCALE, read_submission
from sa2sr.training.hearing import Heard, check_scale


def is_submission(model: str | Path) -> bool:
    """Whether a table is meant where a model is asked for."""
    return Path(model).suffix.lower() == ".csv" and not Path(model).is_dir()


def read_predictions(submission: str | Path, manifests: Sequence[str | Path], *, map_scale: bool = False) -> Heard:
    """What a submission says of the utterances of manifests; those that it does not name are left out.

    An utterance is found by its name, or else by the name of its file, both without what follows the last dot. Numbers
    are taken as they are, also beyond the scale.

    Args:
        submission: the table
        manifests: of cuts
        map_scale: map ratings on another scale linearly onto that of submissions

    Raises:
        CorpusError: if it names none, no utterance has ratings, or they are on another scale
        TableError: if it is no submission
    """
    emotions = {Path(name).stem: np.array(each) for name, each in read_submission(submission).items()}
    data, where = read_utterances(manifests, SCALE if map_scale else None), ", ".join(map(str, manifests))
    if data.scale is None:
        raise CorpusError(f"{where}: no ratings of {', '.join(DIMENSIONS)} to compare the predictions with")
    check_scale(data.scale, SCALE, where)
    found = [(u, emotions[name]) for u in data.utterances if (name := _named(u, emotions)) is not None]
    if not found:
        example = next(iter(emotions))
        raise CorpusError(f"{submission}: names none of the utterances of {where}; it names '{example}', for example")
    data.left_out["without a prediction"] += len(data.utterances) - len(found)
    return Heard([u for u, _ in found], {"emotion": [each for _, each in found]}, +data.left_out, [])


def _named(utterance: Utterance, names: Container[str]) -> str | None:
    sources = utterance.cut.recording.sources
    file = sources[0].source if len(sources) == 1 and sources[0].type == "file" else ""
    return next((name for name in (utterance.name, Path(utterance.name).stem, Path(file).stem) if name in names), None)
