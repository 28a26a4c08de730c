"""The evaluation of a model on manifests.

::

    OUT/metrics.json     the metrics, and what they were computed from
    OUT/predictions.csv  one row an utterance: its labels and what the model says
"""

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa2sr.config import DIMENSIONS, SENTIMENTS, Scale, probability_of
from sa2sr.cuts import custom_fields
from sa2sr.errors import UserError
from sa2sr.files import atomic, read_json, write_json
from sa2sr.intervals import REPORTED_LEVELS, Calibration, coverage
from sa2sr.network.folder import (
    EVALUATION_FOLDER,
    digest_of,
    find_model,
    is_regression,
    is_shared,
    read_calibration,
    run_of,
)
from sa2sr.network.model import load_model
from sa2sr.speech.utterances import Utterance
from sa2sr.submission import SCALE
from sa2sr.training.hearing import Heard, hear
from sa2sr.training.imported import is_submission, read_predictions
from sa2sr.training.measures import Said, judge, several
from sa2sr.training.optimisation import make_accelerator
from sa2sr.training.regressor import load_regressor
from sa2sr.training.run import environment


@dataclass(frozen=True)
class Evaluation:
    """What was measured, as it is in ``metrics.json``, and the folder that it was written to."""

    folder: Path
    metrics: dict[str, Any]


def evaluate(
    model: str | Path,
    manifests: Sequence[str | Path],
    out: str | Path | None = None,
    *,
    resamples: int = 1000,
    map_scale: bool = False,
    read: str | None = None,
) -> Evaluation:
    """Evaluate a model on the utterances of manifests, and write what came out.

    Emotions are clipped to the scale, as they are in every prediction; CCC has 1/N statistics. An utterance without
    one of the labels is predicted, and takes part in no metric of that label.

    Args:
        model: a model folder, a run folder, a name on the hub, ``default``, or predictions that are there already: a
            submission to the MSP-Podcast challenges (.csv), whose numbers are taken as they are
        manifests: of cuts
        out: folder for the results; by default ``evaluation/<manifests>`` in the run folder, in a model folder that is
            in none, beside a submission, or in ``runs/<name>`` for a model of the hub or of the package
        resamples: of the bootstrap
        map_scale: map ratings on another scale linearly onto the model's
        read: ``"reference"`` or ``"recognised"``: the texts that a model reads beside speech; by default as it says

    Raises:
        UserError: if ``read`` is given and the model reads no texts, or the default folder holds an evaluation on
            other manifests or of another submission
        CorpusError: if no label can be compared with what the model says, or the ratings are on another scale
        ModelError: if there is no such model
        TableError: if the predictions are no submission
    """
    accelerator, calibration = make_accelerator(), None
    submitted = is_submission(model)
    source = Path(model) if submitted else find_model(model)
    digest = None if submitted else digest_of(source)
    begun = time.perf_counter()
    scale: Scale | None
    categories: tuple[str, ...] = ()
    left_behind: tuple[str, ...] = ()
    reads_texts = False
    listen: Callable[[], Heard]
    if submitted:
        name, scale = source.stem, SCALE
        listen = partial(read_predictions, source, manifests, map_scale=map_scale)
    elif is_regression(source):
        regressor, calibration = load_regressor(source), read_calibration(source)
        name, scale = regressor.settings.name, regressor.settings.scale
        listen = partial(regressor.hear, manifests, map_scale=map_scale)
    else:
        network, calibration = load_model(source, accelerator.device), read_calibration(source)
        name, scale, left_behind = network.settings.name, network.settings.scale, network.settings.drifted
        categories, reads_texts = network.settings.categories, network.settings.reads_texts
        chosen: dict[str, Any] = {"map_scale": map_scale, "recognised": None if read is None else read == "recognised"}
        listen = partial(hear, network, manifests, accelerator, network.tasks(), **chosen)
    if read is not None and not reads_texts:
        raise UserError(f"--read {read}: the model '{name}' reads no texts beside speech")
    folder = Path(out) if out is not None else _default_folder(source, name, manifests, read)
    heard = listen()
    seconds = time.perf_counter() - begun  # the model loaded, audio decoded
    metrics = {
        "model": str(source.resolve()),
        "digest": digest,
        "name": name,
        "manifests": [str(Path(path).resolve()) for path in manifests],
        "scale": scale.model_dump() if scale is not None else None,
        "map_scale": map_scale,
        "read": read,
        "utterances": len(heard.utterances),
        "hours": sum(u.seconds for u in heard.utterances) / 3600,
        "seconds": round(seconds, 2),
        "left_out": dict(heard.left_out),
        "failures": heard.failures,
        "resamples": resamples,
        "transcribes": "ctc" in heard.said and "ctc" not in left_behind,
        **judge(heard.utterances, heard.said, resamples, categories),
        "intervals": _judge_intervals(calibration, heard, scale),
        "environment": environment(),
    }
    result = Evaluation(folder, metrics)
    if accelerator.is_main_process:
        _write_predictions(result.folder / "predictions.csv", heard.utterances, heard.said, categories)
        write_json(result.folder / "metrics.json", metrics)
    return result


def _judge_intervals(calibration: Calibration | None, heard: Heard, scale: Scale | None) -> dict[str, Any] | None:
    """Coverage and mean width of the intervals of each dimension, at some levels; None without intervals.

    Returns:
        ``{"calibrated_on": {"cuts": [...], "valence": {"utterances": 500, "speakers": 12}, ...},
        "levels": {"0.9": {"valence": {"utterances": 93, "half_width": 1.2, "coverage": 0.91, "mean_width": 2.3}}},
        "by_corpus": {"msp": {"0.9": {...}}}}``, the last only where there are several
    """
    if calibration is None or scale is None or "emotion" not in heard.said:
        return None
    emotions, ratings = np.stack(heard.said["emotion"]), np.array([u.ratings for u in heard.utterances])
    corpora = np.array([u.corpus.name for u in heard.utterances], object)

    def over(group: NDArray[np.bool_]) -> dict[str, dict[str, Any]]:
        levels = {}
        for level in REPORTED_LEVELS:
            found = coverage(emotions[group], ratings[group], calibration.half_widths(level), scale)
            levels[f"{level:g}"] = {name: each for name, each in zip(DIMENSIONS, found, strict=True) if each}
        return levels

    basis = {n: {"utterances": r.utterances, "speakers": r.speakers} for n, r in calibration.dimensions.items()}
    return {
        "calibrated_on": {"cuts": list(calibration.cuts), **basis},
        "levels": over(np.ones(len(corpora), bool)),
        "by_corpus": {name: over(corpora == name) for name in several(corpora)},
    }


def _default_folder(source: Path, name: str, manifests: Sequence[str | Path], read: str | None) -> Path:
    """``evaluation/ravdess-test`` of a run, a model or a folder of submissions, for ``ravdess/test.jsonl.gz``.

    Raises:
        UserError: if the evaluation on other manifests, of folders of the same name, is there, or that of another
            submission
    """
    if is_submission(source):
        place = source.resolve().parent
    else:
        place = Path("runs") / name if is_shared(source) else run_of(source)
    paths = [Path(path).resolve() for path in manifests]
    names = [f"{path.parent.name}-{path.name.removesuffix('.gz').removesuffix('.jsonl')}" for path in paths]
    folder = place / EVALUATION_FOLDER / ("+".join(names)[:150] + (f"-{read}" if read is not None else ""))
    try:
        there = read_json(folder / "metrics.json")
    except ValueError:  # none that says what it is on
        return folder
    if isinstance(on := there.get("manifests"), list) and on != [*map(str, paths)]:
        held = f"on {', '.join(map(str, on))}"
    elif is_submission(source) and there.get("model") not in (None, str(source.resolve())):
        held = f"of {there['model']}"
    else:
        return folder
    raise UserError(f"{folder}: holds the evaluation {held}; choose another folder with --out, or remove it")


def _write_predictions(path: Path, utterances: Sequence[Utterance], said: Said, categories: Sequence[str]) -> None:
    # Half a surrogate pair, which a manifest may have in an id, is no UTF-8; it is written as its JSON escape.
    how: dict[str, Any] = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    with atomic(path) as temporary, temporary.open("w", **how) as file:
        rows = [_row(u, {name: each[i] for name, each in said.items()}, categories) for i, u in enumerate(utterances)]
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _row(utterance: Utterance, said: dict[str, Any], categories: Sequence[str]) -> dict[str, Any]:
    """An utterance in ``predictions.csv``; what is not known is empty."""
    sources = utterance.cut.recording.sources
    row: dict[str, Any] = {
        "id": utterance.name,
        "file": sources[0].source if len(sources) == 1 and sources[0].type == "file" else None,
        "start": utterance.cut.start,
        "end": utterance.cut.start + utterance.seconds,
        "speaker": utterance.speaker,
        "gender": utterance.gender,
        "sentence": custom_fields(utterance.cut).get("sentence"),  # where several voices say the same
    }
    if "emotion" in said:
        for dimension, rating, emotion in zip(DIMENSIONS, utterance.ratings, said["emotion"], strict=True):
            row |= {f"{dimension}_truth": rating if np.isfinite(rating) else None, dimension: float(emotion)}
    if "ctc" in said:
        row |= {"text_truth": utterance.text, "text": said["ctc"]}
    if "sentiment" in said:
        truth = SENTIMENTS[int(np.argmax(utterance.sentiment))] if utterance.sentiment is not None else None
        row |= {"sentiment_truth": truth, **dict(zip(SENTIMENTS, map(float, said["sentiment"]), strict=True))}
    if "category" in said:
        row |= {"emotion_truth": utterance.category, "emotion": categories[int(np.argmax(said["category"]))]}
        row |= {probability_of(name): float(p) for name, p in zip(categories, said["category"], strict=True)}
    return row
